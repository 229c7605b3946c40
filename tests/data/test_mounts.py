"""Disks that are full or read-only. Only root can mount them; elsewhere these tests are skipped."""

import subprocess
from pathlib import Path

import pytest

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.generation import make_split
from cmb_lightning.data.work import SimulationError
from cmb_lightning.errors import ConfigError
from tests.data.fakes import Toy, contents, toy_cache
from tests.data.toy_training import Notebook, ToyModule, trainer

N = 12


class Disk:
    """A small file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, str(self.folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    try:
        disk.mount("-t", "tmpfs", "-o", "size=200k", "tmpfs")
    except FileNotFoundError:
        pytest.skip("there is no mount")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)


def test_a_disk_that_is_too_small_is_said_before_anything_is_made(disk):
    cache = toy_cache(disk.folder, Toy())
    with pytest.raises(OSError, match=rf"{N} simulations need \d+ bytes in .*, where \d+ are free"):
        make_split(cache, Toy(), N)
    assert cache.missing(N) == list(range(N))


def test_a_disk_that_fills_up_keeps_what_is_whole_and_goes_on_when_there_is_room(disk, tmp_path, monkeypatch):
    golden = toy_cache(tmp_path / "golden", Toy())
    make_split(golden, Toy(), N)
    cache = toy_cache(disk.folder, Toy())
    with monkeypatch.context() as patch:
        patch.setattr(SplitCache, "check_space", lambda self, n_sims: None)  # another job takes the room meanwhile
        with pytest.raises(SimulationError, match="No space left"):
            make_split(cache, Toy(), N, n_workers=1)
    there = sorted(set(range(N)) - set(cache.missing(N)))
    assert 0 < len(there) < N and len(list(cache.folder.glob("sim*"))) == len(there)
    assert not list(cache.folder.glob(".*"))
    disk.mount("-o", "remount,size=2m")
    assert make_split(cache, Toy(), N).found == len(there)
    assert contents(cache, N) == contents(golden, N)


def test_a_complete_cache_that_cannot_be_written_is_enough_to_train(disk, tmp_path):
    disk.mount("-o", "remount,size=2m")
    ToyModule(disk.folder).make()
    disk.mount("-o", "remount,ro")
    model, run = Notebook(), trainer(tmp_path / "run", epochs=1, enable_checkpointing=False)
    run.fit(model, ToyModule(disk.folder))
    run.test(model, ToyModule(disk.folder), verbose=False)
    assert sum(note[0] == 0 for note in model.notes) == 4
    assert (tmp_path / "run" / "extremes.yaml").is_file()


def test_an_incomplete_cache_that_cannot_be_written_says_what_is_missing_and_what_to_do(disk):
    cache = toy_cache(disk.folder, Toy())
    make_split(cache, Toy(), 2)
    disk.mount("-o", "remount,ro")
    with pytest.raises(ConfigError, match="root: 3 of 5 simulations of train are missing .*cmb-lightning simulate"):
        make_split(cache, Toy(), 5)
    with pytest.raises(ConfigError, match="root: the cache folder .* cannot be made: Read-only file system"):
        make_split(toy_cache(disk.folder, Toy(seed=2)), Toy(seed=2), 5)
