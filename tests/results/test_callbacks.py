import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from cmb_lightning.cleaning.regions import sky_regions
from cmb_lightning.cleaning.scores import METRICS, gather_scores, score_regions
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.results import callbacks
from cmb_lightning.results.callbacks import FigureLogger
from cmb_lightning.results.report_figures import report_figures
from cmb_lightning.results.spectra import Bins, pair_spectra

NSIDE = 8
NPIX = 12 * NSIDE**2


class Learner(L.LightningModule):
    """As much of a task as the callback sees."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.layout = Layout(NSIDE, 16, ("100_I",), (600.0,), ("I",), 600.0)
        self.regions, self.latitude_cut = sky_regions(NSIDE), 20.0
        self.last_example = {}

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        rng = np.random.default_rng(batch_idx)
        truth = (70 * rng.standard_normal((2, 1, NPIX))).astype(np.float32)
        maps = {"network": truth + rng.standard_normal(truth.shape).astype(np.float32), "linear": 0.9 * truth}
        every = {"truth": truth, **maps, "sigma": np.ones_like(truth)}
        self.last_example = {name: torch.from_numpy(values) for name, values in every.items()}
        self.last_example["index"] = torch.arange(2)
        per_sim = {
            name: {k: score_regions(m[k % 2], truth[k % 2], self.regions) for k in range(5)} for name, m in maps.items()
        }
        self.scores = {("valid", name): gather_scores(found, ("I",), self.regions) for name, found in per_sim.items()}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(torch.zeros(2, 1))

    val_dataloader = train_dataloader


def images(folder, every, epochs, **options):
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
        **options,
    )
    trainer.fit(Learner())
    events = EventAccumulator(str(folder / "tb"), size_guidance={"images": 0}).Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_figures_at_the_first_validation_and_every_n_epochs(tmp_path, monkeypatch):
    def one(comparison, title):
        yield "a figure", Figure(figsize=(1, 1))

    monkeypatch.setattr(callbacks, "report_figures", one)
    found = images(tmp_path / "each", 2, 4)
    assert [image.step for image in found["a figure"]] == [1, 5]
    found = images(tmp_path / "late", 2, 5, check_val_every_n_epoch=3)  # no validation falls on the epochs asked for
    assert [image.step for image in found["a figure"]] == [5]


def test_the_figures_are_the_report_s(monkeypatch):
    """Every kind of figure, with what was validated in it."""
    learner = Learner()
    learner.validation_step(None, 0)
    found = callbacks.validated(learner)
    figures = dict(report_figures(found, "Epoch 0"))
    metrics = [f"{metric}/I" for metric in METRICS]
    spectra = ["spectra, full sky/TT", "spectra, masked/TT"]
    assert set(figures) == {"maps/I", "patches/I", "residual pixels/I", "error bars", *metrics, *spectra}
    truth, maps = (learner.last_example[name].numpy().astype(float) for name in ("truth", "network"))
    bins = Bins.up_to(2 * NSIDE)
    expected = np.mean(
        [pair_spectra(m, t)["TT"].binned(bins).residual for m, t in zip(maps, truth, strict=True)], axis=0
    )
    lines = {line.get_label(): line.get_ydata() for line in figures["spectra, full sky/TT"].axes[0].lines}
    np.testing.assert_allclose(lines["network"], expected, rtol=1e-5)
    points = {line.get_label(): line.get_ydata() for line in figures["RMSE/I"].axes[0].lines}
    np.testing.assert_array_equal(points["network"], learner.scores["valid", "network"].of("RMSE", "b20"))
    assert found.calibration["valid", "network"].reduced_chi2() == pytest.approx(1, abs=0.15)
    assert ("valid", "linear") not in found.calibration


def test_never_and_wrong_number(tmp_path):
    assert images(tmp_path, 0, 1) == {}
    with pytest.raises(ConfigError, match="0 .never. or more"):
        FigureLogger(-1)


def test_pixels_are_an_image():
    from cmb_lightning.results.figures import figure_pixels, sky_figure

    pixels = figure_pixels(sky_figure(np.ones(NPIX), {"network": np.ones(NPIX)}))
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels[0, 0].tolist() == [255, 255, 255]
