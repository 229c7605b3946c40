"""`--help` says what there is, and loads little."""

import pytest

from tests.command.processes import context

HEAVY = ("healpy", "pysm3", "camb", "numba")  # torchmetrics loads matplotlib
TELLING = {
    "": ("simulate", "predict", "microwave"),
    "fit": ("--run", "--model.latitude_cut", "--checkpoint.save_top_k", "--data"),
    "validate": ("--ckpt_path",),
    "test": ("--ckpt_path",),
    "predict": ("--epochs",),
    "simulate": ("--data",),
}


def ask(pipe):
    """Ask for all help, and tell what it says and what was imported for it."""
    import contextlib
    import io
    import sys

    from cmb_lightning.cli import main

    said = {}
    for command in TELLING:
        out = io.StringIO()
        sys.argv = ["cmb-lightning", *([command] if command else []), "--help"]
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main()
        said[command] = out.getvalue()
    pipe.send((said, [name for name in HEAVY if name in sys.modules]))


@pytest.fixture(scope="module")
def helped():
    """Asked in a process that has imported nothing but the command."""
    mine, its = context.Pipe()
    process = context.Process(target=ask, args=(its,))
    process.start()
    assert mine.poll(120)
    answer = mine.recv()
    process.join()
    return answer


def test_help_imports_nothing_heavy(helped):
    assert helped[1] == []


@pytest.mark.parametrize("command", TELLING)
def test_help_says_what_there_is(helped, command):
    text = helped[0][command]
    assert text.startswith(f"usage: cmb-lightning{' [options] ' + command if command else ''}")
    assert text.index("options:") < 400
    for word in TELLING[command]:
        assert word in text
