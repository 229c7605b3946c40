import os
import shutil

import numpy as np
import pytest

from cmb_lightning.data import manifest as manifest_module
from cmb_lightning.data.generation import make_split
from cmb_lightning.data.manifest import Manifest, seal, take_stock
from cmb_lightning.data.splits import Split, SplitData
from cmb_lightning.errors import ConfigError
from tests.data.fakes import Toy, toy_cache

N = 4


@pytest.fixture
def cache(tmp_path):
    cache = toy_cache(tmp_path / "cache", Toy())
    make_split(cache, Toy(), N)
    return cache


def path(cache):
    return cache.folder / "manifest.safetensors"


def test_it_says_what_the_headers_say(cache):
    manifest = Manifest.of(cache)
    assert len(manifest) == N
    for index in range(N):
        header = cache.header(index)
        assert manifest.statistics([index]) == header["statistics"]
        assert manifest.checksums(cache, index) == header["sha256"]
    assert manifest.checksums(cache, N) is None
    assert take_stock(cache, N, sealed=True) == take_stock(cache, N)


def test_a_complete_split_is_checked_without_its_headers(cache, monkeypatch):
    headers = take_stock(cache, 3)
    monkeypatch.setattr(type(cache), "header", None)
    assert take_stock(cache, 3, sealed=True) == headers
    assert SplitData(cache, Toy(), Split(N)).summary(3) == headers.statistics


def test_a_run_killed_before_sealing_is_sealed_by_the_next(cache):
    path(cache).unlink()
    assert make_split(cache, Toy(), N).made == 0
    assert len(Manifest.of(cache)) == N


def test_it_grows_with_the_split_and_is_not_written_again(cache):
    assert make_split(cache, Toy(), N + 2).made == 2
    assert len(Manifest.of(cache)) == N + 2
    inode = path(cache).stat().st_ino
    make_split(cache, Toy(), N)
    assert not seal(cache, N)
    assert (path(cache).stat().st_ino, len(Manifest.of(cache))) == (inode, N + 2)


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_one_is_not_used_and_made_again(cache, caplog, how):
    data, headers = path(cache).read_bytes(), take_stock(cache, N)
    if how == "foreign":
        other = toy_cache(cache.root, Toy(seed=2))
        make_split(other, Toy(seed=2), N)
        shutil.copy(path(other), path(cache))
    else:
        flipped = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
        path(cache).write_bytes({"truncated": data[:-1], "flipped": flipped, "empty": b""}[how])
    assert take_stock(cache, N, sealed=True) == headers
    assert "manifest.safetensors is not used" in caplog.text
    assert make_split(cache, Toy(), N).made == 0
    assert path(cache).read_bytes() == data


@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_files_are_believed_over_it(cache, how):
    if how == "deleted":
        cache.path(2).unlink()
    else:
        os.truncate(cache.path(2), 5000)
    assert list(take_stock(cache, N, sealed=True).faults) == [2]
    with pytest.raises(ConfigError, match="1 of 4 simulations cannot be used .*simulation 2: it"):
        SplitData(cache, Toy(), Split(N)).summary(N)


def test_a_folder_that_cannot_be_written_goes_without(cache, monkeypatch):
    path(cache).unlink()

    def replace(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(manifest_module.publish, "replace", replace)
    assert make_split(cache, Toy(), N).made == 0
    assert not path(cache).exists()


def test_extremes_keep_every_bit(cache):
    statistics = Manifest.of(cache).statistics([0])["observed"]
    assert all(value == np.float32(value) for value in statistics.minimum + statistics.maximum)
