"""Checkpoints that would run code or ask for memory are refused before either."""

import pickle
import struct
import zipfile

import pytest
import torch

from cmb_lightning.checkpointing import WholeCheckpointIO, read_checkpoint
from cmb_lightning.errors import ConfigError

FLOATS = b"ctorch\nFloatStorage\n"
NUMBER = {"small": b"K\x04", "huge": b"\x8a\x06" + (10**13).to_bytes(6, "little")}


def tensor(claimed: bytes, shape: bytes, stride: bytes = b"K\x01\x85") -> bytes:
    """A structure as `torch.save` writes it, {"a": a tensor}, over the four numbers that the file holds."""
    pid = b"(X\x07\x00\x00\x00storage" + FLOATS + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + claimed + b"tQ"
    rest = b"K\x00" + shape + stride + b"\x89ccollections\nOrderedDict\n)Rt"
    return b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + pid + rest + b"Rs."


def archive(path, structure: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x/data.pkl", structure)
        file.writestr("x/byteorder", "little")
        file.writestr("x/data/0", torch.arange(4.0).numpy().tobytes())
        file.writestr("x/version", "3\n")


HOSTILE = {
    "more numbers than bytes": (tensor(NUMBER["huge"], b"K\x04\x85"), "numbers, in 16 bytes"),
    "a larger shape": (tensor(NUMBER["small"], NUMBER["huge"] + b"\x85"), "in 4 numbers"),
    "one number many times": (tensor(NUMBER["small"], NUMBER["huge"] + b"\x85", b"K\x00\x85"), "in 4 numbers"),
    "bytes": (b"\x80\x02cbuiltins\nbytearray\n" + NUMBER["huge"] + b"\x85R.", "holds builtins.bytearray"),
    "bytes of a later protocol": (b"\x80\x05\x96" + struct.pack("<Q", 10**13) + b".", "cannot be read"),
    "a long memory of its own": (b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".", "counts more"),
    "code": (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "holds posix.system"),
    "a class": (pickle.dumps(ConfigError("x"), 2), "holds cmb_lightning.errors.ConfigError"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_claims_more_than_it_holds_is_not_loaded(tmp_path, monkeypatch, case):
    structure, telling = HOSTILE[case]
    archive(tmp_path / "hostile.ckpt", structure)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ConfigError, match="hostile.ckpt was not read") as refused:
        read_checkpoint(tmp_path / "hostile.ckpt")
    assert telling in str(refused.value) and len(str(refused.value)) < 400


def test_what_swells_is_not_loaded(tmp_path):
    archive(tmp_path / "hostile.ckpt", tensor(NUMBER["small"], b"K\x04\x85"), zipfile.ZIP_DEFLATED)
    with pytest.raises(ConfigError, match="was not read: it is compressed"):
        read_checkpoint(tmp_path / "hostile.ckpt")


def test_the_same_without_malice_is_loaded(tmp_path):
    archive(tmp_path / "good.ckpt", tensor(NUMBER["small"], b"K\x04\x85"))
    assert torch.equal(read_checkpoint(tmp_path / "good.ckpt")["a"], torch.arange(4.0))


def test_all_that_training_keeps_is_plain(tmp_path):
    values = {
        "types": {
            str(kind): torch.ones(3, dtype=kind) for kind in (torch.float64, torch.bfloat16, torch.int64, torch.bool)
        },
        "views": [torch.arange(12.0).reshape(3, 4).T, torch.empty(0, 5), torch.tensor(3.0), torch.arange(9)[2:5]],
        "numbers": [1, 2**40, -1, 1.5, True, None, "text"],
    }
    WholeCheckpointIO().save_checkpoint(values, tmp_path / "plain.ckpt")
    found = read_checkpoint(tmp_path / "plain.ckpt")
    assert found["numbers"] == values["numbers"]
    for kept, back in zip(flat(values), flat(found), strict=True):
        assert kept.dtype == back.dtype and torch.equal(kept, back)


def flat(values):
    return [*values["types"].values(), *values["views"]]
