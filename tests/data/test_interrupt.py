"""The real command, told to stop while it simulates."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CONFIG = """
data:
  class_path: SkyDataModule
  init_args:
    instrument: real_sky_64
    nside: 16
    bands: ["100", "143"]
    sky: {{cmb: {{class_path: PolynomialSpectrum, init_args: {{coefficients: [1.0]}}}}}}
    splits: {{train: {{n_sims: 5000}}}}
    root: {root}
run: {root}/run
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_leaves_whole_simulations_and_says_by_its_status_what_stopped_it(tmp_path, number, code):
    (tmp_path / "config.yaml").write_text(CONFIG.format(root=tmp_path))
    command = [sys.executable, "-m", "cmb_lightning", "simulate", "--config", str(tmp_path / "config.yaml")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear_interrupts
    ) as process:
        try:
            wait_for_simulations(tmp_path, process)
            os.killpg(process.pid, number)  # as a terminal or a batch system does
            errors = process.communicate(timeout=60)[1]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    assert "Traceback" not in errors
    files = sorted(tmp_path.rglob("sim*.safetensors"))
    assert files and len({file.stat().st_size for file in files}) == 1


def hear_interrupts() -> None:
    """A background job of a shell, as these tests may be, starts with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_simulations(root: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while len(list(root.rglob("sim*.safetensors"))) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
