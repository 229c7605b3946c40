import re
import types
from pathlib import Path

import healpy
import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import read_map
from cmb_lightning.results.writer import PredictionWriter, from_uK_CMB

NSIDE = 8
NPIX = 12 * NSIDE**2


class Skies(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        sample = {"inputs": np.full((1, NPIX), index, np.float32), "index": np.int64(index)}
        sample["inputs"][0] += np.arange(NPIX)
        sample["bad"] = np.arange(NPIX) == index
        return sample


class Data(L.LightningDataModule):
    dataset = "toy"
    identity = {"test": "0123456789abcdef"}

    def predict_dataloader(self):
        return [DataLoader(Skies(), batch_size=2)]

    def train_dataloader(self):
        return DataLoader(Skies(), batch_size=5)


class Task(L.LightningModule):
    def __init__(self, sigma=False):
        super().__init__()
        self.layout = Layout(NSIDE, 16, ("100_I",), (600.0,), ("I",), 660.0)
        self.sigma = sigma
        self.scale = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        return self.scale * 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        result = {"prediction": batch["inputs"], "index": batch["index"], "split": "test"}
        return result | ({"sigma": batch["inputs"] * 0 + 3} if self.sigma else {})


def trainer(folder, *callbacks, epochs=1):
    return L.Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trained = trainer(folder, PredictionWriter(), epochs=2)
    trained.fit(Task(), Data())
    trained.save_checkpoint(folder / "a.ckpt")
    return folder / "a.ckpt"


def predict(folder, checkpoint, writer=None, sigma=False):
    writer = writer or PredictionWriter()
    trainer(folder, writer).predict(Task(sigma), Data(), ckpt_path=checkpoint, return_predictions=False)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_file_per_simulation(tmp_path, checkpoint):
    import hashlib

    files = predict(tmp_path, checkpoint, sigma=True)
    folder = tmp_path / "predictions" / "toy" / "test"
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    assert files == [folder / f"sim{k:04d}" / f"cmb_map_pred_{epoch}.fits" for k in range(5)]
    sky = read_map(files[3], "I")
    expected = np.arange(NPIX, dtype=np.float32) + 3
    expected[3] = np.nan
    np.testing.assert_array_equal(sky.nested().values, expected)
    assert (sky.ordering, sky.unit, sky.coordinates, sky.nside) == ("RING", "uK_CMB", "G", NSIDE)
    assert sky.header["CHECKPT"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (sky.header["FWHM"], sky.header["SIM"], sky.header["SPLIT"]) == (660.0, 3, "test")
    assert (sky.header["DATASET"], sky.header["DATAID"], sky.header["EPOCH"]) == ("toy", "0123456789abcdef", epoch)
    sigma = read_map(files[3], "I_SIGMA")
    assert np.nanmin(sigma.values) == np.nanmax(sigma.values) == 3
    assert healpy.read_map(files[0])[healpy.nest2ring(NSIDE, 0)] == healpy.UNSEEN


def test_what_it_wrote_is_said_as_paths_that_exist(tmp_path, checkpoint):
    writer = PredictionWriter()
    assert writer.summary() == "no simulations to clean."
    files = predict(tmp_path, checkpoint, writer)
    count, folder, example = re.fullmatch(r"(\d+) files in (\S+), such as (\S+)", writer.summary()).groups()
    assert int(count) == len(files) == 5 and Path(folder) == tmp_path / "predictions/toy/test"
    assert Path(folder) / example == files[0]


def test_again_gives_the_same_bytes(tmp_path, checkpoint):
    first = {path: path.read_bytes() for path in predict(tmp_path, checkpoint)}
    assert {path: path.read_bytes() for path in predict(tmp_path, checkpoint)} == first


def test_another_unit(tmp_path, checkpoint):
    writer = PredictionWriter("{root}/{split}_{sim}_{epoch}.fits", unit="mK_CMB")
    sky = read_map(predict(tmp_path, checkpoint, writer)[0])
    assert sky.unit == "mK_CMB" and sky.nested().values[5] == pytest.approx(0.005)


def test_units_of_cleaned_maps():
    assert from_uK_CMB("K_CMB", "unit") == pytest.approx(1e-6)
    for wrong in ("MJy/sr", "K_RJ"):
        with pytest.raises(ConfigError, match="depends on a frequency"):
            from_uK_CMB(wrong, "predictions.unit")
    with pytest.raises(ConfigError, match="predictions.unit"):
        PredictionWriter(unit="parsnip")


def test_foreign_files_are_left_alone(tmp_path, checkpoint):
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    path = tmp_path / f"test_0_{epoch}.fits"
    for content in (b"my observations", b""):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is no cleaned map of this program"):
            predict(tmp_path, checkpoint, PredictionWriter("{root}/{split}_{sim}_{epoch}.fits"))
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{root}/{sim}.fits", "lacks the placeholder {split}, {epoch}"),
        ("{split}{sim}{epoch}{run}.fits", "unknown placeholder {run}"),
    ],
)
def test_templates_are_checked_at_once(path, message):
    with pytest.raises(ConfigError, match=message):
        PredictionWriter(path)


def test_processes_write_their_own(tmp_path):
    """Two writers with a part of the simulations each, as under several processes, leave every file once."""
    layout = Layout(NSIDE, 16, ("100_I",), (600.0,), ("I",), 660.0)
    fake = types.SimpleNamespace(default_root_dir=str(tmp_path), datamodule=Data(), ckpt_path=None)
    module = types.SimpleNamespace(layout=layout)
    for part in (torch.tensor([0, 2, 4]), torch.tensor([1, 3])):
        writer = PredictionWriter()
        writer.on_predict_start(fake, module)
        maps = part[:, None, None] * torch.ones(1, 1, NPIX)
        prediction = {"prediction": maps, "index": part, "split": "test"}
        writer.write_on_batch_end(fake, module, prediction, None, {}, 0, 0)
    files = sorted(tmp_path.rglob("*.fits"))
    assert len(files) == 5 and [read_map(path).values[0] for path in files] == [0, 1, 2, 3, 4]


def test_maps_say_what_part_of_the_sky_their_model_was_trained_for(tmp_path, checkpoint):
    task = Task()
    task.mask = types.SimpleNamespace(identity="fedcba9876543210")
    trainer(tmp_path, PredictionWriter()).predict(task, Data(), ckpt_path=checkpoint, return_predictions=False)
    path = next(tmp_path.rglob("*.fits"))
    assert read_map(path).header["MASK"] == "fedcba9876543210"
