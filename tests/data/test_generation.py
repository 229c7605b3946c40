import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cmb_lightning.data.generation import make_split
from cmb_lightning.data.splits import Split, SplitData
from cmb_lightning.data.tensorfile import TensorFile
from cmb_lightning.data.work import SimulationError
from cmb_lightning.errors import ConfigError
from tests.data.fakes import Toy, contents, toy_cache

N = 8


@pytest.fixture
def golden(tmp_path):
    cache = toy_cache(tmp_path / "golden", Toy())
    make_split(cache, Toy(), N, n_workers=1)
    return contents(cache, N)


def names(cache):
    return sorted(path.name for path in cache.folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_bytes_do_not_depend_on_workers_or_on_interruption(tmp_path, golden, n_workers):
    cache = toy_cache(tmp_path / "cache", Toy())
    first = make_split(cache, Toy(), 3, n_workers=n_workers)
    before = [cache.path(index).stat() for index in range(3)]
    report = make_split(cache, Toy(), N, n_workers=n_workers)
    assert (first.made, first.found, report.made, report.found) == (3, 0, N - 3, 3)
    assert report.bytes == sum(len(content) for content in golden[3:])
    assert contents(cache, N) == golden
    after = [cache.path(index).stat() for index in range(3)]
    assert [(s.st_ino, s.st_mtime_ns) for s in after] == [(s.st_ino, s.st_mtime_ns) for s in before]


PROGRAM = """
import sys
from pathlib import Path
from cmb_lightning.data.generation import make_split
from tests.data.fakes import Toy, toy_cache

if __name__ == "__main__":
    toy = Toy(delay=float(sys.argv[2]))
    make_split(toy_cache(Path(sys.argv[1]), toy), toy, 8, n_workers=int(sys.argv[3]))
"""


@pytest.fixture
def program(tmp_path):
    """Starts the program that makes the split, in a process group of its own."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    running = []

    def start(delay: float, n_workers: int, largest_file: int | None = None, **options) -> subprocess.Popen:
        def before():
            # A background job of a shell, as these tests may be, starts with SIGINT ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [sys.executable, str(script), str(tmp_path / "cache"), str(delay), str(n_workers)]
        options |= {"env": environment, "start_new_session": True, "preexec_fn": before}
        running.append(subprocess.Popen(command, **options))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("n_workers", [1, 2])
def test_killed_at_any_moment_the_data_end_the_same(tmp_path, golden, program, n_workers):
    cache = toy_cache(tmp_path / "cache", Toy())
    rng = np.random.default_rng(n_workers)
    for rounds in range(5):
        process = program(0.03, n_workers)
        wait_until(lambda: len(list(cache.folder.glob("sim*"))) > rounds)  # noqa: B023
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)  # the workers notice and leave
        process.wait()
        for path in cache.folder.glob("sim*"):
            with TensorFile(path) as file:  # whole at every moment
                assert file.size == len(golden[0])
    assert program(0, n_workers).wait(20) == 0
    assert contents(cache, N) == golden
    assert cache.missing(N) == []
    make_split(cache, Toy(), N + 1)  # sweeps, since there is something to make
    assert names(cache) == []


def test_workers_of_a_killed_process_end_themselves(tmp_path, program):
    process = program(0.5, 2)
    cache = toy_cache(tmp_path / "cache", Toy())
    wait_until(lambda: len(children(process.pid)) >= 2)
    workers = children(process.pid)
    assert workers and not cache.path(N - 1).exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in workers))


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def test_two_processes_fill_one_split(tmp_path, golden, program):
    both = [program(0.02, 1), program(0.02, 1)]
    assert [process.wait(20) for process in both] == [0, 0]
    cache = toy_cache(tmp_path / "cache", Toy())
    assert contents(cache, N) == golden
    assert names(cache) == []


def test_of_four_processes_two_killed_the_others_finish(tmp_path, golden, program):
    cache = toy_cache(tmp_path / "cache", Toy())
    all_four = [program(0.05, 1) for _ in range(4)]
    wait_until(lambda: list(cache.folder.glob("sim*")))
    for process in all_four[:2]:
        process.kill()
    assert [process.wait(60) for process in all_four[2:]] == [0, 0]
    assert contents(cache, N) == golden


@pytest.mark.parametrize("signal_sent", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_leaves_whole_simulations_and_no_process(tmp_path, golden, program, signal_sent):
    cache = toy_cache(tmp_path / "cache", Toy())
    process = program(0.2, 2, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(cache.folder.glob("sim*"))) > 1)
    workers = children(process.pid)
    os.killpg(process.pid, signal_sent)  # as a terminal or a batch system does
    assert process.wait(60) != 0
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in workers))
    there = N - len(cache.missing(N))
    assert there == len(list(cache.folder.glob("sim*"))) < N
    make_split(cache, Toy(), N)
    assert contents(cache, N) == golden


def test_a_full_disk_is_an_error_and_leaves_nothing_broken(tmp_path, golden, program):
    cache = toy_cache(tmp_path / "cache", Toy())
    make_split(cache, Toy(), 2)
    process = program(0, 1, len(golden[0]) // 2, stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "train simulation 2" in errors and "File too large" in errors
    assert names(cache) == []
    assert contents(cache, 2) == golden[:2]
    make_split(cache, Toy(), N)
    assert contents(cache, N) == golden


def test_a_killed_worker_is_named_and_what_it_did_is_made_again(tmp_path, golden, caplog):
    toy = Toy(trouble="killed", flag=tmp_path / "flag")
    cache = toy_cache(tmp_path / "cache", toy)
    make_split(cache, toy, N, n_workers=2)
    assert "train simulation 3" in caplog.text
    assert contents(cache, N) == golden


@pytest.mark.parametrize("n_workers", [1, 2])
def test_when_one_fails_the_others_are_finished(tmp_path, golden, n_workers):
    toy = Toy(trouble="raises")
    cache = toy_cache(tmp_path / "cache", toy)
    with pytest.raises(SimulationError, match="^train simulation 3: the sky fell$"):
        make_split(cache, toy, N, n_workers=n_workers)
    assert cache.missing(N) == [3]
    make_split(cache, Toy(), N)
    assert contents(cache, N) == golden


def test_what_is_no_map_is_not_stored_and_the_error_names_the_simulation(tmp_path):
    toy = Toy(trouble="nan")
    cache = toy_cache(tmp_path / "cache", toy)
    with pytest.raises(SimulationError, match="train simulation 3: 'foregrounds' of 100_I has 2 values"):
        make_split(cache, toy, 5, n_workers=1)
    assert cache.missing(5) == [3]


def test_an_incomplete_cache_says_how_many_and_what_to_do(tmp_path):
    cache = toy_cache(tmp_path / "cache", Toy())
    make_split(cache, Toy(), 2)
    data = SplitData(cache, Toy(), Split(5))
    with pytest.raises(ConfigError, match="3 of 5 simulations cannot be used .*simulation 2: it is missing.*simulate"):
        data.summary(5)
