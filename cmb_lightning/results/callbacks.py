"""Pictures of the validation in TensorBoard while a model trains."""

from dataclasses import replace

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.comparable import Settings
from cmb_lightning.results.compare import Comparison, compare
from cmb_lightning.results.figures import figure_pixels
from cmb_lightning.results.held import HeldMaps
from cmb_lightning.results.report_figures import report_figures

SHOWN = 4  # simulations of the first batch: enough to see scatter, few enough that drawing costs no training


class FigureLogger(L.Callback):
    """Draws the report's figures of the validation for TensorBoard.

    The first batch gives maps, residuals, spectra, histograms and, where a model states error bars, their calibration;
    the box plots show every simulation that was scored. Only the first process draws, at a validation.

    Args:
        every_n_epochs: Draw at the first validation, and then at the first one at least so many epochs later; 0 for
            never.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        if every_n_epochs < 0:
            raise ConfigError(f"figures.every_n_epochs: {every_n_epochs} must be 0 (never) or more.")
        self.every_n_epochs = every_n_epochs
        self._drawn: int | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw what the module keeps of its validation; see `validated`."""
        epoch = trainer.current_epoch
        due = self.every_n_epochs and (self._drawn is None or epoch - self._drawn >= self.every_n_epochs)
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not (training and due and boards and trainer.is_global_zero and pl_module.last_example):
            return
        if not all(values.isfinite().all() for values in pl_module.last_example.values()):
            return  # whether to go on is for the loss to say, not for a picture
        self._drawn = epoch
        for tag, figure in report_figures(validated(pl_module), f"Epoch {epoch}, first simulation of the validation"):
            pixels = figure_pixels(figure)
            for board in boards:
                # The step of the validation's scores: of the last batch, counted from 0.
                board.add_image(tag, pixels, trainer.global_step - 1, dataformats="HWC")

    def state_dict(self) -> dict[str, int | None]:
        """When a picture was drawn last, for a checkpoint."""
        return {"drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, int | None]) -> None:
        """Go on from there."""
        self._drawn = state_dict["drawn"]


def validated(module: L.LightningModule) -> Comparison:
    """The comparison of a module's methods on the first batch it validated, with its scores of all simulations.

    Args:
        module: It has a `layout`, a `latitude_cut` [degrees], `scores` by (split, method), its own method first, and a
            `last_example`: `index` (batch,), `truth`, each method's maps and perhaps `sigma`, the errors of its own;
            (batch, field, npix).
    """
    example = {name: values.detach().float().cpu().numpy() for name, values in module.last_example.items()}
    sims = example.pop("index").astype(int).tolist()[:SHOWN]
    split, own = next(iter(module.scores))
    held = {name: HeldMaps(dict(zip(sims, maps, strict=False)), module.layout) for name, maps in example.items()}
    sigma = held.pop("sigma", None)
    if sigma is not None:
        held[own] = replace(held[own], sigma=sigma.maps)
    truth = held.pop("truth")
    lmax = min(module.layout.lmax, 2 * module.layout.nside)
    settings = Settings(latitude_cuts=(module.latitude_cut,), lmax=lmax)
    found = compare({split: truth}, {split: held}, module.layout.fields, settings, n_workers=1, progress=False)
    scores = {key: values for key, values in module.scores.items() if key[0] == split}
    return replace(found, scores={found.beams[0]: scores}, regions=next(iter(scores.values())).regions)
