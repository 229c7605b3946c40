"""Processes that load data outlive the signals that end a training, which saves and then ends them."""

import os
import signal

import pytest

from cmb_lightning.data.workers import outlive_signals


@pytest.mark.parametrize(
    ("numbers", "ends"),
    [
        ((signal.SIGINT, signal.SIGINT, signal.SIGTERM), 7),
        ((signal.SIGTERM, signal.SIGTERM), -signal.SIGTERM),  # the second one is the training's own
    ],
)
def test_it_outlives_what_all_processes_are_told(numbers, ends):
    child = os.fork()
    if not child:
        outlive_signals(0)
        for number in numbers:
            os.kill(os.getpid(), number)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ends
