"""Every way in which an .npz file can be damaged or foreign is an InputError that names it."""

import contextlib
import io
import os
import zipfile

import numpy as np
import pytest

from nas_relucode import InputError
from nas_relucode.npz_files import read_arrays


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(6).reshape(2, 3), y=np.float64(2))
    return tmp_path / "a.npz"


def test_arrays_are_those_of_numpy(path):
    arrays = read_arrays(path, "")
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["y"] == 2
    assert list(read_arrays(path, "", ["y", "z"])) == ["y"]
    np.savez_compressed(path, x=np.zeros((3, 0)))
    assert read_arrays(path, "")["x"].shape == (3, 0)


def in_directory(offset, value):
    """Changes a byte of the first member's entry in the directory."""

    def damage(content):
        content[content.find(b"PK\x01\x02") + offset] = value
        return content

    return damage


def renamed(content):
    content[content.rfind(b"y.npy")] ^= 1
    return content


DAMAGES = {
    "encrypted": in_directory(8, 1),
    "another compression": in_directory(10, 99),
    "another version of zip": in_directory(6, 200),
    "another size": in_directory(24, 1),
    "a name that only the directory has": renamed,
    "cut short": lambda content: content[:-30],
    "empty": lambda content: b"",
    "an array alone": lambda content: npy(np.zeros(3)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_with_what_is_needed(path, damage):
    path.write_bytes(damage(bytearray(path.read_bytes())))
    with pytest.raises(InputError, match=rf"{path} cannot be read.*Give x"):
        read_arrays(path, "Give x.", ["x"])


def test_any_damaged_byte_is_read_right_or_refused(path):
    content, expected = path.read_bytes(), read_arrays(path, "")
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            arrays = read_arrays(path, "")
            assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


@pytest.mark.parametrize("member", [b"x", npy(np.array([{}], object))[:-1], b"\x93NUMPY\x01\x00\xff\xff"])
def test_a_member_that_is_no_plain_array_is_refused(path, member):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(InputError, match="cannot be read"):
        read_arrays(path, "")


def test_a_size_is_compared_before_memory_is_taken(path):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**11,)}
    np.lib.format.write_array_header_1_0(stream, header)
    huge = stream.getvalue() + bytes(8)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", huge)
    with pytest.raises(InputError, match="cannot be read"):
        read_arrays(path, "")


@pytest.mark.skipif(os.name != "posix", reason="devices are files on POSIX")
def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match=f"{path}.*not a file"):
            read_arrays(path, "")
    with pytest.raises(InputError, match="there is no"):
        read_arrays(tmp_path / "none", "")
