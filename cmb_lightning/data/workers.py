"""Processes that load data."""

import signal


def outlive_signals(_: int) -> None:
    """Let the training end first when all processes are told to: it saves what it has, and then ends these.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to all of them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A second one is the training's own, which has done.
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
