import os
from pathlib import Path

import pytest

from cmb_lightning.data import verify as verify_module
from cmb_lightning.data.determinism import NotDeterministic
from cmb_lightning.data.generation import make_split
from cmb_lightning.data.verify import repair, verify
from tests.data.fakes import Toy, contents, toy_cache

N = 5


@pytest.fixture
def cache(tmp_path):
    cache = toy_cache(tmp_path / "cache", Toy())
    make_split(cache, Toy(), N)
    return cache


def flip(path: Path, place: int = -5) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_whole_split_has_no_faults(cache):
    assert verify(cache, N) == verify(cache, N, full=True) == []
    assert repair(cache, Toy(), N) == []


@pytest.mark.parametrize("n_workers", [1, 2])
def test_every_bad_file_is_named_with_the_reason(cache, n_workers):
    cache.path(0).unlink()
    os.truncate(cache.path(2), 5000)
    flip(cache.path(4))
    quick, full = (verify(cache, N, full, n_workers) for full in (False, True))
    assert [fault.index for fault in quick] == [0, 2]  # a flipped byte passes by design
    assert [fault.index for fault in full] == [0, 2, 4]
    assert [fault.reason.split(",")[0] for fault in full] == [
        "it is missing",
        "it has 5000 bytes",
        "the checksum of 'target' is wrong",
    ]
    assert str(full[2]).startswith(f"train simulation 4 ({cache.path(4)}): ")


def test_repair_makes_it_again_and_keeps_what_was_bad(cache):
    golden = contents(cache, N)
    flip(cache.path(1))
    os.truncate(cache.path(3), 5000)
    faults = repair(cache, Toy(), N, full=True)
    assert [fault.index for fault in faults] == [1, 3]
    assert contents(cache, N) == golden
    assert len(list(cache.folder.glob(".bad-*"))) == 2


def test_what_is_made_again_must_be_what_was_sealed(cache, monkeypatch, caplog):
    cache.path(3).unlink()
    other = Toy(trouble="random")
    with pytest.raises(NotDeterministic, match="train simulation 3, made again, is not what had been sealed"):
        repair(cache, other, N)
    cache.path(3).unlink()
    monkeypatch.setattr(verify_module, "versions", lambda: {"numpy": "0"})
    assert [fault.index for fault in repair(cache, other, N)] == [3]
    assert "by other versions" in caplog.text
