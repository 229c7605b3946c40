"""Training on patches by the command: resumed to the bit, any batch size, whole skies scored and predicted."""

import shutil

import numpy as np
import pytest

from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.results.fits import read_map
from tests.command.application import Application, equal

PATCH_UNET = {"class_path": "PatchUNet", "init_args": {"patch_side": 4, "halo": 2, "width": 4, "depth": 1}}
MIXER = """
from torch import nn


class Mixer(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.mix = nn.Conv2d(in_channels, out_channels, 5, padding=2)

    def forward(self, images):
        return self.mix(images)
"""


def application(folder, method="Direct", network=PATCH_UNET, **data):
    data = {"patches": True, "samples_per_epoch": 8, "batch_size": 3, **data}
    return Application(folder, model={"network": network, "method": method}, data={"init_args": data})


@pytest.mark.parametrize("method", ["Direct", "Residual"])
def test_a_stopped_training_on_patches_goes_on_to_the_same_weights(tmp_path, monkeypatch, method):
    (tmp_path / "whole").mkdir()
    app = application(tmp_path / "whole", method)
    assert app("fit").status == 0
    stopped = app.copy(tmp_path / "stopped")
    shutil.rmtree(stopped.folder / "run")
    original, done = CleaningTask.training_step, []

    def training_step(self, batch, batch_idx):
        if self.global_step == 4 and not done:
            done.append(batch["inputs"].shape)
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    monkeypatch.setattr(CleaningTask, "training_step", training_step)
    arguments = ["--checkpoint.every_n_train_steps", 1]
    assert stopped("fit", *arguments).status == 130 and done[0][2] == 64
    assert stopped("fit", *arguments).status == 0
    assert equal(stopped.weights(), app.weights())
    assert app("test").status == 0 and app("predict").status == 0
    (path,) = app.folder.glob("run/predictions/tiny/test/sim0000/*.fits")
    cleaned = read_map(path, "I").values
    assert cleaned.size == 768 and np.isfinite(cleaned).all() and cleaned.std() > 0


def test_every_batch_size_sees_the_same_patches(tmp_path, monkeypatch):
    seen = {}

    def training_step(self, batch, batch_idx):
        key = (self.trainer.datamodule.batch_size, self.current_epoch)
        maps = zip(batch["index"].tolist(), batch["inputs"].numpy(), strict=True)
        seen.setdefault(key, {}).update(maps)

    monkeypatch.setattr(CleaningTask, "training_step", training_step)
    app = application(tmp_path)
    for size in (1, 3, 8):
        ended = app("fit", "--data.init_args.batch_size", size, "--run", f"run{size}")
        assert ended.status == 0, ended.err
    for epoch in (0, 1):
        assert sorted(seen[1, epoch]) == list(range(8))
        for size in (3, 8):
            assert all(np.array_equal(maps, seen[1, epoch][index]) for index, maps in seen[size, epoch].items())
    assert not any(np.array_equal(maps, seen[1, 1][index]) for index, maps in seen[1, 0].items())


def test_a_network_of_ones_own_on_images_is_trained_on_patches(tmp_path, monkeypatch):
    (tmp_path / "mixer.py").write_text(MIXER)
    monkeypatch.syspath_prepend(str(tmp_path))
    network = {
        "class_path": "PatchNetwork",
        "init_args": {"network": {"class_path": "mixer.Mixer"}, "patch_side": 4, "halo": 2},
    }
    app = application(tmp_path, network=network)
    ended = app("fit", "--trust", "mixer")
    assert (ended.status, ended.err) == (0, "")
    assert app("test", "--trust", "mixer").status == 0
    assert any("mix.weight" in name for name in app.weights())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model.network", "HealpixUNet"], ("patches", "whole skies", "PatchUNet")),
        (["--model.mask", "20 deg"], ("patches", "model.mask")),
        (["--data.init_args.symmetries", "true"], ("symmetries", "patches")),
    ],
)
def test_what_does_not_go_with_patches_is_said_in_a_sentence(tmp_path, arguments, said):
    app = application(tmp_path)
    ended = app("fit", *arguments)
    assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1
    assert all(word in ended.err for word in said)
