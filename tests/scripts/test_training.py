"""The scripts that start trainings on clusters."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.command.application import Application, invoke

SCRIPTS = Path(__file__).parents[2] / "scripts"
SHELL = [path for path in sorted(SCRIPTS.iterdir()) if re.match(rb"#!.*\b(ba)?sh\b", path.read_bytes())]
COMMANDS = {
    "srun": 'shift\nexec "$@"\n',
    "scontrol": 'echo "$@" > scontrol.txt\n',
    "cmb-lightning": 'trap "echo saved > saved.txt; exit 143" TERM\nprintf "%s\\n" "$@" > arguments.txt\n'
    "for ((i = 0; i < 600; i++)); do [ -e finish ] && exit 3; sleep 0.05; done\n",  # bash 5.2 loses a trap in a $(...)
}
JOB = {"SLURM_JOB_ID": "77", "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NUM_NODES": "2"}


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_the_shell_can_read_it(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False).stderr == ""


@pytest.fixture
def job(tmp_path):
    """`train.slurm`, started, with commands in the place of SLURM's and of the training."""
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(stat.S_IRWXU)
    environment = {**os.environ, **JOB, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    command = ["bash", SCRIPTS / "train.slurm", "--config", "tiny.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "arguments.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def test_before_its_time_is_over_the_training_saves_and_the_job_is_queued_again(job, tmp_path):
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0
    assert (tmp_path / "saved.txt").exists() and (tmp_path / "scontrol.txt").read_text() == "requeue 77\n"


def test_told_to_end_it_saves_and_says_so(job, tmp_path):
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 143
    assert (tmp_path / "saved.txt").exists() and not (tmp_path / "scontrol.txt").exists()


def test_it_ends_as_the_training_does_and_its_command_is_one(job, tmp_path):
    (tmp_path / "finish").touch()
    assert job.wait(60) == 3
    Application(tmp_path)  # which writes the configuration
    printed = invoke(tmp_path, [*(tmp_path / "arguments.txt").read_text().split(), "--print_config"])
    assert printed.status == 0, printed.err
    trainer = yaml.safe_load(printed.out)["trainer"]
    wanted = {"accelerator": "gpu", "devices": "4", "num_nodes": "2", "strategy": "ddp"}
    assert {key: str(trainer[key]) for key in wanted} == wanted


def test_torchrun_starts_two_processes(tmp_path):
    application = Application(tmp_path, trainer={"max_epochs": 1})
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PROCESSES": "2", "PYTHONPATH": str(SCRIPTS.parent)}
    command = [SCRIPTS / "train.torchrun", "--config", "tiny.yaml", "--trainer.accelerator", "cpu"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert application.checkpoint()["global_step"] == 1  # three samples over two processes
    assert "Trained 1 epochs" in ended.stdout and ended.stdout.count("Trained") == 1
