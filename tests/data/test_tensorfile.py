import io
import json
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from cmb_lightning.data.tensorfile import MAX_HEADER, BadFile, TensorFile, digest, dump


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {
        "maps": rng.standard_normal((3, 48)).astype(np.float32),
        "gain": rng.standard_normal(3).astype(np.float32),
        "count": np.arange(4),
    }


@pytest.fixture
def path(tmp_path, tensors):
    with open(tmp_path / "a.safetensors", "wb") as file:
        dump(file, tensors, {"b": "1", "a": "2"})
    return tmp_path / "a.safetensors"


def test_the_safetensors_package_reads_it(path, tensors):
    read = load_file(path)
    assert read.keys() == tensors.keys()
    assert all(np.array_equal(read[name], tensors[name]) for name in tensors)


def test_it_reads_files_of_the_safetensors_package(tmp_path, tensors):
    (tmp_path / "b").write_bytes(save(tensors, {"a": "2"}))
    with TensorFile(tmp_path / "b") as file:
        assert all(np.array_equal(file.read(name), tensors[name]) for name in tensors)
        assert file.metadata == {"a": "2"}


def test_the_same_content_gives_the_same_bytes(path, tensors):
    other = io.BytesIO()
    dump(other, dict(reversed(tensors.items())), {"a": "2", "b": "1"})
    assert other.getvalue() == path.read_bytes()


def test_parts_are_read_without_the_rest(path, tensors):
    with TensorFile(path) as file:
        assert np.array_equal(file.read("maps", row=1), tensors["maps"][1])
        assert np.array_equal(file.read("maps", pixels=slice(16, 32)), tensors["maps"][:, 16:32])
        assert np.array_equal(file.read("maps", row=-1, pixels=slice(4, 5)), tensors["maps"][-1, 4:5])
        with pytest.raises(ValueError, match="not a contiguous slice"):
            file.read("maps", pixels=slice(0, 8, 2))
        with pytest.raises(BadFile, match="holds no 'other'"):
            file.read("other")


def test_other_byte_orders_are_stored_alike(tensors):
    assert digest(tensors["maps"].astype(">f4")) == digest(tensors["maps"])
    with pytest.raises(TypeError, match="float16"):
        digest(tensors["maps"].astype(np.float16))


def damaged(data: bytes, how: str) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    if how == "huge shape":
        header["maps"]["shape"] = [2**40, 2**20]
    if how == "gap":
        header["maps"]["data_offsets"] = [position + 64 for position in header["maps"]["data_offsets"]]
    if how == "unknown type":
        header["maps"]["dtype"] = "X9"
    text = json.dumps(header).encode()
    return {
        "empty": b"",
        "truncated": data[:-1],
        "appended": data + b"\0",
        "header only": data[: 8 + length],
        "no header": data[:5],
        "huge header": struct.pack("<Q", 2**60) + data[8:],
        "large header": struct.pack("<Q", MAX_HEADER + 1) + b" " * (MAX_HEADER + 1),
        "no json": struct.pack("<Q", length) + b"x" * length + data[8 + length :],
    }.get(how, struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    "how",
    ["empty", "truncated", "appended", "header only", "no header", "huge header", "large header", "no json"]
    + ["huge shape", "gap", "unknown type"],
)
def test_damage_is_found_before_anything_is_allocated(path, how):
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(BadFile):
        TensorFile(path)


def test_a_file_truncated_while_it_is_open_is_an_error(path):
    with TensorFile(path) as file:
        with open(path, "r+b") as other:
            other.truncate(file.size - 4)
        with pytest.raises(BadFile, match="ends at byte"):
            file.read("maps")


def test_a_symbolic_link_is_refused(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(BadFile, match="symbolic link"):
        TensorFile(tmp_path / "link")
