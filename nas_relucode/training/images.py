"""Image files: those of a folder by class, and one as an array at its own depth."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from nas_relucode.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
EIGHT_BITS = ("1", "L", "P", "LA", "PA", "La", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")


def image_files(path: Path) -> dict[str, list[Path]]:
    """The image files below each folder of ``path``, in the order of their names; hidden names are skipped."""
    try:
        classes = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Lay it out as CLASS/image.png.") from error
    files = {name: _files_below(path / name) for name in classes}
    empty = [name for name, class_files in files.items() if not class_files]
    if empty or not files:
        what = f"no images in {', '.join(empty)}" if files else "no folders"
        raise InputError(
            f"{path} is not a folder of images: it has {what}. Lay it out as CLASS/image.png, of the types "
            f"{', '.join(SUFFIXES)}."
        )
    return files


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__"))  # .ipynb_checkpoints, ._0.png, __MACOSX


def _files_below(folder: Path) -> list[Path]:
    files = []
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        files += [Path(where, name) for name in sorted(names) if name.lower().endswith(SUFFIXES)]
    return [file for file in files if not file.name.startswith(".")]


def read_image(file: Path) -> np.ndarray:
    """The image, (height, width, 3): uint8, or float32 in [0, 1] where it has 16 bits.

    Raises InputError, naming the file, if it cannot be read, is too large, or has a depth that has no known range.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", "Palette images with Transparency")
            with Image.open(file) as image:
                rawmodes = {
                    str(tile[3][0] if isinstance(tile[3], tuple) else tile[3]) for tile in image.tile if tile[3]
                }
                if image.mode in EIGHT_BITS and not any("16" in rawmode for rawmode in rawmodes):
                    return np.array(image.convert("RGB"))
                if image.mode.startswith("I;16"):
                    grey = np.asarray(image).astype(np.float32) / 65535
                    return np.repeat(grey[:, :, None], 3, axis=2)
                mode = image.mode if image.mode not in EIGHT_BITS else ", ".join(sorted(rawmodes))
    except Exception as error:  # Pillow raises almost anything for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} cannot be read as an image ({reason}). Repair it or take it away.") from error
    raise InputError(
        f"{file} has the mode {mode}, whose range is not known. Save it with 8 bits, or as grey of 16 bits."
    )
