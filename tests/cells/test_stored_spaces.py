"""Saved code spaces are read back unchanged, or refused."""

import itertools

import numpy as np
import pytest
import torch

from nas_relucode import CodeSpace, InputError, build_network, code_space
from nas_relucode.cells import load_code_space, save_code_space
from nas_relucode.cells.code_spaces import VERSION
from nas_relucode.codes import pack


@pytest.fixture
def space():
    network = build_network("12-6", (1, 8, 8), 10, backbone="small_conv", seed=1)
    images = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return code_space(network, (images, torch.arange(50) % 10))


def test_a_code_space_is_read_back_unchanged(space, tmp_path):
    loaded = load_code_space(save_code_space(space, tmp_path / "space.npz"))
    assert loaded.codes.layers == space.codes.layers
    assert loaded.settings == dict(space.settings)
    for name in ("words", "sizes", "first", "cell_of", "class_counts", "correct_counts"):
        before, after = (
            getattr(s, name) if hasattr(s, name) else getattr(s.codes if name == "words" else s.cells, name)
            for s in (space, loaded)
        )
        assert np.array_equal(before, after)
        assert before.dtype == after.dtype
    assert [file.name for file in tmp_path.iterdir()] == ["space.npz"]


def test_a_code_space_without_labels_is_read_back_without(tmp_path):
    loaded = load_code_space(save_code_space(CodeSpace.of(pack([[0, 1], [1, 1]])), tmp_path / "space.npz"))
    assert loaded.class_counts is None
    assert loaded.correct_counts is None


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused(space, tmp_path, keep):
    path = save_code_space(space, tmp_path / "space.npz")
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError, match=r"(?s)space.npz .*not a code space, or was cut short"):
        load_code_space(path)


def test_a_file_whose_content_was_altered_is_refused(space, tmp_path):
    path = save_code_space(space, tmp_path / "space.npz")
    with np.load(path) as file:
        arrays = dict(file)
    for name in ("words", "sizes", "cell_of", "class_counts"):
        altered = {key: array.copy() for key, array in arrays.items()}
        altered[name].flat[3] += 1
        np.savez(path, **altered)
        with pytest.raises(InputError, match="was altered"):
            load_code_space(path)


def test_any_flipped_byte_is_noticed(space, tmp_path):
    path = save_code_space(space, tmp_path / "space.npz")
    content = path.read_bytes()
    whole = load_code_space(path)
    directory = content.rindex(b"PK\x01\x02")  # where a flipped bit asks for other versions or a password
    places = [*np.random.default_rng(0).integers(0, len(content), 60), *range(directory, len(content))]
    for place, flip in itertools.product(places, (1, 0x80)):
        path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
        try:
            loaded = load_code_space(path)
        except InputError:
            continue  # but for a byte that means nothing, as a date in the archive's directory
        assert np.array_equal(loaded.codes.words, whole.codes.words)
        assert np.array_equal(loaded.cells.cell_of, whole.cells.cell_of)
        assert loaded.settings == whole.settings


def test_another_version_pickles_and_other_files_are_refused(space, tmp_path):
    path = save_code_space(space, tmp_path / "space.npz")
    with np.load(path) as file:
        arrays = dict(file)
    header = arrays["header"].tobytes().replace(f'"version": {VERSION}'.encode(), b'"version": 99')
    np.savez(path, **arrays | {"header": np.frombuffer(header, np.uint8)})
    with pytest.raises(InputError, match=r"of version 99, but this package reads version"):
        load_code_space(path)
    np.savez(path, **arrays | {"words": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(InputError, match="not a code space"):
        load_code_space(path)
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(InputError, match="not a code space"):
        load_code_space(path)
    with pytest.raises(InputError, match="there is no"):
        load_code_space(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match=r"does not end in \.npz"):
        save_code_space(space, tmp_path / "space.pt")
