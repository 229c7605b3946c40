"""The command in a process of its own, forked from a server that has imported the program once."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["cmb_lightning.cli"])

SCRIPT = Path(__file__).with_name("command.py")
"""What Lightning starts for every further process, with the arguments of the first."""


class Command:
    """`cmb-lightning arguments`, started in a folder, in a session of its own, perhaps with a fault of `command.py`."""

    def __init__(self, folder: Path, *arguments: Any, fault: str = "") -> None:
        self.folder = folder
        words = [str(argument) for argument in arguments]
        self.process = context.Process(target=_run, args=(str(folder), words, fault))
        self.process.start()

    def kill(self) -> None:
        """End it and all its processes at once."""
        while self.process.is_alive() and os.getpgid(self.process.pid) != self.process.pid:
            time.sleep(0.001)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.join()

    def wait(self, seconds: float = 300) -> tuple[int, str]:
        """Its exit status and what it wrote to stderr."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill()
            raise TimeoutError(f"still running after {seconds} s: {self.errors}")
        return self.process.exitcode, self.errors

    def others(self) -> list[int]:
        """The processes beside the first one that train with it."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
                mine = session == self.process.pid != int(folder.name)
                if mine and str(SCRIPT).encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return found

    @property
    def errors(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _run(folder: str, arguments: list[str], fault: str) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    for name, number in (("stdout.txt", 1), ("stderr.txt", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    import torch

    torch.set_num_threads(1)
    os.fsync = lambda _: None  # guards against a loss of power, which is not tested
    os.environ["FAULT"] = fault
    if Path("/dev/shm").is_dir():
        os.environ["TMPDIR"] = "/dev/shm"  # another file system, from which nothing can be renamed into the run
    os.environ["PYTHONPATH"] = str(SCRIPT.parents[2])  # for further processes
    from tests.command.command import run

    sys.argv = [str(SCRIPT), *arguments]
    run(arguments)
