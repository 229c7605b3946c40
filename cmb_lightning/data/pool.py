"""Ways of getting tasks done: one after the other here, in threads, or in a pool of processes."""

import errno
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cmb_lightning.memory import keep_freed_memory

log = logging.getLogger(__name__)

RESTARTS = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # what stops one simulation would stop them all


class SimulationError(RuntimeError):
    """Work on one or more simulations failed; the message names them."""


@dataclass(frozen=True)
class Failure:
    """The outcome of a task that failed."""

    error: Exception


def serial(function: Callable, tasks: Sequence[Any], todo: deque[int], patience: float) -> Iterator[tuple[int, Any]]:
    """Does tasks here until some seconds have passed; gives the number of each and its outcome."""
    start = time.monotonic()
    while todo and time.monotonic() - start < patience:
        index = todo.popleft()
        try:
            outcome = function(tasks[index])
        except Exception as error:
            _stop_if_hopeless(tasks[index], error)
            outcome = Failure(error)
        yield index, outcome


def crew(function: Callable, tasks: Sequence[Any], todo: deque[int], workers: int) -> Iterator[tuple[int, Any]]:
    """Does tasks in threads, in any order; gives the number of each and its outcome."""
    executor = ThreadPoolExecutor(workers)
    try:
        running = {executor.submit(function, tasks[index]): index for index in todo}
        todo.clear()
        for future in as_completed(running):
            try:
                outcome = future.result()
            except Exception as error:
                _stop_if_hopeless(tasks[running[future]], error)
                outcome = Failure(error)
            yield running[future], outcome
    finally:
        executor.shutdown(cancel_futures=True)


def pool(function: Callable, tasks: Sequence[Any], todo: deque[int], workers: int) -> Iterator[tuple[int, Any]]:
    """Does tasks in processes, in any order; gives the number of each and its outcome."""
    if not todo:
        return
    workers = min(workers, len(todo))
    for attempt in range(RESTARTS + 1):
        running: dict[Future, int] = {}
        try:
            with _executor(function, workers) as executor:
                while todo or running:
                    # Few tasks in flight: those are the suspects when a worker is killed.
                    while todo and len(running) < 2 * workers:
                        index = todo.popleft()
                        running[executor.submit(_call, tasks[index])] = index
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        try:
                            outcome = future.result()
                        except BrokenProcessPool:
                            raise
                        except Exception as error:
                            _stop_if_hopeless(tasks[running[future]], error)
                            outcome = Failure(error)
                        yield running.pop(future), outcome
                return
        except BrokenProcessPool:
            suspects = ", ".join(str(tasks[index]) for index in sorted(running.values()))
            if attempt == RESTARTS:
                raise SimulationError(
                    f"Worker processes were killed {RESTARTS + 1} times, the last time during {suspects}: "
                    "there may be too little memory for so many workers (n_workers)."
                ) from None
            log.warning("A worker process was killed during %s; starting new ones.", suspects)
            todo.extendleft(sorted(running.values(), reverse=True))


@contextmanager
def _executor(function: Callable[[Any], Any], workers: int) -> Iterator[ProcessPoolExecutor]:
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by the libraries when a worker starts
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(function,)
    )
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    keep_freed_memory()
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """Ends this worker when the main process is gone: a killed pool would leave it waiting for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _call(task: Any) -> Any:
    return _function(task)


def _stop_if_hopeless(task: Any, error: Exception) -> None:
    if isinstance(error, OSError) and error.errno in _HOPELESS:
        raise SimulationError(f"{task}: {describe(error)}") from error


def describe(error: Exception) -> str:
    """An error in few words: without its class where the message stands for itself."""
    return f"{error}" if isinstance(error, ValueError | OSError) and str(error) else f"{type(error).__name__}: {error}"
