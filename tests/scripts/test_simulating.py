"""The script that simulates on a cluster."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.command.application import Application

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_the_jobs_of_an_array_share_the_simulations(tmp_path):
    Application(tmp_path)  # which writes the configuration
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    array = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_SUBMIT_DIR": str(tmp_path)}
    environment = {**os.environ, **array, "PATH": path, "PYTHONPATH": str(SCRIPTS.parent)}
    jobs = [
        subprocess.Popen(
            ["bash", SCRIPTS / "simulate.slurm", "--config", "tiny.yaml"],
            env={**environment, "SLURM_ARRAY_TASK_ID": number},
        )
        for number in "12"
    ]
    assert [job.wait(300) for job in jobs] == [0, 0]
    logs = [(tmp_path / f"runs/simulate_{number}/simulate/log.txt").read_text() for number in "12"]
    made = [sum(map(int, re.findall(r"(\d+) simulations made", log))) for log in logs]
    assert sum(made) == len(list(tmp_path.rglob("sim*.safetensors"))) == 9, made
    assert all("--shard auto" in log for log in logs)
