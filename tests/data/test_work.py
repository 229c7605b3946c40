import errno
import os
import signal
from pathlib import Path

import pytest

from cmb_lightning.data import pool, work
from cmb_lightning.data.work import SimulationError, Task, default_workers, over_simulations


def process(task: Task) -> tuple[int, int]:
    return task.index, os.getpid()


def double(task: Task) -> int:
    return 2 * task.index


def joined(first: str, second: str) -> str:
    return f"({first}{second})"


def name(task: Task) -> str:
    return str(task.index)


def threads(task: Task) -> str:
    return os.environ.get("OMP_NUM_THREADS", "")


def fails(task: Task) -> int:
    if task.index in (0, 2, 4) and task.split == f"at{task.index}" or task.split == "often" and task.index:
        raise ValueError(f"bad luck {task.index}")
    return task.index


def no_space(task: Task) -> None:
    if task.index == 1:
        raise OSError(errno.ENOSPC, "No space left on device")
    Path(task.path, str(task.index)).touch()


class Killed:
    """Dies at simulation 2, the first time or always."""

    def __init__(self, flag: Path | None) -> None:
        self.flag = flag

    def __call__(self, task: Task) -> int:
        if task.index == 2 and (self.flag is None or not self.flag.exists()):
            if self.flag is not None:
                self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task.index


def tasks(n: int, split: str = "train") -> list[Task]:
    return [Task(split, index) for index in range(n)]


def test_the_first_runs_here_and_the_rest_in_other_processes():
    results = over_simulations(process, tasks(5), n_workers=2)
    assert [index for index, _ in results] == [0, 1, 2, 3, 4]
    assert results[0][1] == os.getpid()
    assert all(pid != os.getpid() for _, pid in results[1:])


def test_threads_stay_in_this_process_and_tell_of_failures(tmp_path):
    assert {pid for _, pid in over_simulations(process, tasks(5), n_workers=2, threads=True)} == {os.getpid()}
    in_order = over_simulations(name, tasks(5), n_workers=2, threads=True, reduce=joined)
    assert in_order == "((((01)2)3)4)"
    with pytest.raises(SimulationError, match="bad luck 2"):
        over_simulations(fails, tasks(5, "at2"), n_workers=2, threads=True)
    with pytest.raises(SimulationError, match="No space left"):
        over_simulations(no_space, [Task("train", i, str(tmp_path)) for i in range(9)], n_workers=1, threads=True)


def test_one_worker_and_little_work_stay_in_this_process():
    assert {pid for _, pid in over_simulations(process, tasks(4), n_workers=1)} == {os.getpid()}
    assert {pid for _, pid in over_simulations(process, tasks(4))} == {os.getpid()}


def test_long_work_moves_to_other_processes_by_itself(monkeypatch):
    monkeypatch.setattr(work, "PATIENCE", 0.0)
    monkeypatch.setattr(work, "default_workers", lambda: 2)
    results = over_simulations(process, tasks(3))
    assert results[0][1] == os.getpid() not in {pid for _, pid in results[1:]}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_results_are_reduced_in_the_order_of_the_tasks(n_workers):
    assert over_simulations(name, tasks(4), n_workers=n_workers, reduce=joined) == "(((01)2)3)"


def test_no_tasks_and_one_task():
    assert over_simulations(double, []) == []
    assert over_simulations(double, [], reduce=joined) is None
    assert over_simulations(double, tasks(1), n_workers=2) == [0]


def test_workers_use_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert over_simulations(threads, tasks(2), n_workers=2) == ["7", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_an_error_in_the_first_shows_at_once():
    with pytest.raises(SimulationError, match="^at0 simulation 0: bad luck 0$") as caught:
        over_simulations(fails, tasks(3, "at0"), n_workers=2)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_names_its_simulation_and_the_others_are_finished(n_workers, tmp_path):
    with pytest.raises(SimulationError, match="^at2 simulation 2: bad luck 2$"):
        over_simulations(fails, tasks(5, "at2"), n_workers=n_workers)


def test_many_errors_are_counted():
    with pytest.raises(SimulationError, match=r"often simulation 1: .*; and 2 more$"):
        over_simulations(fails, tasks(8, "often"), n_workers=1)


def test_a_full_disk_stops_the_work(tmp_path):
    with pytest.raises(SimulationError, match="train simulation 1: .*No space left"):
        over_simulations(no_space, [Task("train", index, str(tmp_path)) for index in range(4)], n_workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0"]


def test_a_killed_worker_is_replaced(tmp_path, caplog):
    assert over_simulations(Killed(tmp_path / "flag"), tasks(5), n_workers=2) == [0, 1, 2, 3, 4]
    assert "killed during" in caplog.text and "train simulation 2" in caplog.text


def test_a_worker_killed_again_and_again_is_an_error(monkeypatch):
    monkeypatch.setattr(pool, "RESTARTS", 1)
    with pytest.raises(SimulationError, match="killed 2 times, the last time during .*train simulation 2"):
        over_simulations(Killed(None), tasks(3), n_workers=2)


def test_wrong_number_of_workers():
    with pytest.raises(ValueError, match="n_workers: 0"):
        over_simulations(double, tasks(2), n_workers=0)


def test_the_default_follows_the_job(monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert default_workers() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert default_workers() == 3


def test_a_task_reads():
    assert Task("train", 1, "path", str.upper).read() == "PATH"
    with pytest.raises(ValueError, match="train simulation 1: reading needs"):
        Task("train", 1).read()
