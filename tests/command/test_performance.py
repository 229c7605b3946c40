"""What makes training fast, from the configuration alone, trains, and changes no more than it says."""

import json

import pytest
import torch

from cmb_lightning.networks import HealpixUNet
from cmb_lightning.profiling import PARTS
from tests.command.application import Application

FOUR = {"data": {"init_args": {"samples_per_epoch": 4}}, "trainer": {"max_epochs": 1}}


@pytest.fixture
def four(tmp_path):
    """An application that trains for four batches of one sample."""
    return Application(tmp_path, **FOUR)


def test_bfloat16_trains_float32_weights(four):
    assert four("fit", "--trainer.precision", "bf16-mixed").status == 0
    floats = [tensor for name, tensor in four.weights().items() if name.startswith("network.")]
    assert floats and all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in floats)


@pytest.mark.parametrize("fast", [True, False])
def test_a_processor_that_is_slow_in_bfloat16_trains_in_float32_and_says_so(fast, four, monkeypatch):
    seen = []
    monkeypatch.setattr("cmb_lightning.precision.computes_bf16", lambda: fast)
    monkeypatch.setattr(HealpixUNet, "forward", _note_precision(HealpixUNet.forward, seen))
    ended = four("fit", "--trainer.precision", "bf16-mixed")
    assert ended.status == 0 and ("slow in bf16-mixed" in ended.out) == (not fast)
    assert set(seen) == {fast}
    again = four("fit", "--trainer.precision", "bf16-mixed", "--trainer.max_epochs", 2)
    assert again.status == 0 and "Going on" in again.out  # what is recorded is what was asked for


def _note_precision(forward, seen):
    def noted(*arguments):
        seen.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16)
        return forward(*arguments)

    return noted


def test_gradients_of_two_batches_of_one_are_those_of_a_batch_of_two(tmp_path):
    weights = []
    for name, options in (("two", {"batch_size": 2}), ("one", {})):
        (tmp_path / name).mkdir()
        application = Application(tmp_path / name, data={"init_args": {"samples_per_epoch": 4, **options}})
        arguments = ["--trainer.max_epochs", 1] + ([] if options else ["--trainer.accumulate_grad_batches", 2])
        assert application("fit", *arguments).status == 0
        assert application.checkpoint()["global_step"] == 2
        weights.append(application.weights())
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-5), name


def test_a_compiled_network_is_the_same_in_a_checkpoint(four, monkeypatch):
    compiled = []

    def compile(function, *arguments, **options):
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    assert four("fit", "--model.compile", "true").status == 0 and len(compiled) == 1
    fast = four.weights()
    assert four("predict").status == 0 and len(compiled) == 1  # nor need it be compiled there
    assert not any("orig_mod" in name for name in fast)


def test_where_the_time_of_a_step_goes(four):
    profiler = ["--trainer.profiler", "cmb_lightning.profiling.StepTimes", "--trainer.limit_val_batches", 0]
    ended = four("fit", *profiler)
    assert ended.status == 0, ended.err
    times = json.loads((four.folder / "run/times.json").read_text())
    assert times["steps"] == 2 and times["memory"] is None and times["batch"] == 1
    for clock in ("clock", "processor"):
        assert tuple(times[clock]) == PARTS
        parts = [times[clock][part] for part in ("forward", "backward", "optimizer", "scaling")]
        assert all(seconds > 0 for seconds in parts)
        assert times["floor"][clock] > 0
