import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from cmb_lightning.cleaning.regions import sky_regions
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.callbacks import FigureLogger

NSIDE = 8
NPIX = 12 * NSIDE**2


class Learner(L.LightningModule):
    """As much of a task as the callback sees."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.layout = Layout(NSIDE, 16, ("100_I",), (600.0,), ("I",), 600.0)
        self.regions = sky_regions(NSIDE)
        self.last_example = {}

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        truth = torch.randn(1, NPIX) * 70
        self.last_example = {"truth": truth, "prediction": truth + torch.randn(1, NPIX), "linear": truth + 1}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(torch.zeros(2, 1))

    val_dataloader = train_dataloader


def images(folder, every, epochs):
    trainer = L.Trainer(
        logger=TensorBoardLogger(folder, name="", version="tb"),
        callbacks=[FigureLogger(every)],
        max_epochs=epochs,
        num_sanity_val_steps=1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(Learner())
    events = EventAccumulator(str(folder / "tb"), size_guidance={"images": 0}).Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_figures_at_the_first_epoch_and_every_n(tmp_path):
    found = images(tmp_path, 2, 4)
    assert set(found) == {"sky/I", "spectra/TT"}
    assert [image.step for image in found["sky/I"]] == [2, 4, 8]
    assert found["sky/I"][0].width > 800 and found["spectra/TT"][0].height > 500


def test_never_and_wrong_number(tmp_path):
    assert images(tmp_path, 0, 1) == {}
    with pytest.raises(ConfigError, match="0 .never. or more"):
        FigureLogger(-1)


def test_pixels_are_an_image():
    from cmb_lightning.results.figures import figure_pixels, sky_figure

    pixels = figure_pixels(sky_figure(np.ones(NPIX), {"network": np.ones(NPIX)}))
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels[0, 0].tolist() == [255, 255, 255]
