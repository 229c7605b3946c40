"""Pictures of the validation in TensorBoard while a model trains."""

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.figures import figure_pixels, sky_figure, spectra_figure
from cmb_lightning.results.spectra import Bins, pair_spectra
from cmb_lightning.results.tables import label


class FigureLogger(L.Callback):
    """Draws the first validation simulation for TensorBoard: maps, residuals and spectra.

    Args:
        every_n_epochs: Draw after the first epoch and then every so many; 0 for never.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        if every_n_epochs < 0:
            raise ConfigError(f"figures.every_n_epochs: {every_n_epochs} must be 0 (never) or more.")
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the module's `last_example`: `truth`, `prediction` and perhaps `linear`, each (field, npix)."""
        epoch = trainer.current_epoch
        due = self.every_n_epochs and (epoch == 0 or (epoch + 1) % self.every_n_epochs == 0)
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not (training and due and boards and trainer.is_global_zero and pl_module.last_example):
            return
        example = {name: maps.detach().cpu().numpy() for name, maps in pl_module.last_example.items()}
        truth = example.pop("truth")
        predictions = {"network": example.pop("prediction")} | {label(name): maps for name, maps in example.items()}
        layout = pl_module.layout
        title = f"Epoch {epoch}, first simulation of the validation"
        figures = {}
        for f, field in enumerate(layout.fields):
            maps = {name: prediction[f] for name, prediction in predictions.items()}
            figures[f"sky/{field}"] = sky_figure(truth[f], maps, title, pl_module.regions)
        lmax = min(layout.lmax, 2 * layout.nside)
        threads = torch.get_num_threads()
        spectra = {
            name: pair_spectra(maps.astype(np.float64), truth, layout.fields, lmax, nthreads=threads)
            for name, maps in predictions.items()
        }
        bins = Bins.up_to(lmax)
        for kind in spectra["network"]:
            pairs = {name: pair[kind].binned(bins) for name, pair in spectra.items()}
            figures[f"spectra/{kind}"] = spectra_figure(pairs, bins, title, name=kind)
        for tag, figure in figures.items():
            pixels = figure_pixels(figure)
            for board in boards:
                board.add_image(tag, pixels, trainer.global_step, dataformats="HWC")
