"""A metric for Lightning that keeps what every simulation scored."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from cmb_lightning.cleaning.scores import CALIBRATION, METRICS, Scores, gather_scores, score_regions


class SkyMetrics(Metric):
    """MAE, RMSE, NRMSE, PSNR, R2 and Pearson r, per simulation, field and region.

    Each simulation counts once, however often and in however many processes it was seen.

    Args:
        regions: Name to mask, bool, shape (npix,), NESTED; the table's order is theirs.
        fields: Names of the fields, in the order of the maps' field axis.

    Raises:
        ValueError: If a region is empty or the masks differ in length.
    """

    is_differentiable = False
    full_state_update = False
    names = METRICS
    rows: list[Tensor]

    def __init__(self, regions: Mapping[str, np.ndarray | Tensor], fields: Sequence[str] = ("I",)) -> None:
        super().__init__()
        self.regions = {name: np.asarray(mask, dtype=bool) for name, mask in regions.items()}
        self.fields = tuple(fields)
        sizes = {name: mask.shape for name, mask in self.regions.items()}
        if not sizes or len(set(sizes.values())) != 1:
            raise ValueError(f"regions have shapes {sizes}: give at least one, all with a value for every pixel.")
        if empty := [name for name, mask in self.regions.items() if not mask.any()]:
            raise ValueError(f"region {', '.join(empty)} has no pixels: lower the cut or leave it out.")
        self.set_dtype(torch.float64)  # a process without simulations sends an empty tensor of this type
        # One flat row per simulation, its number first: what processes exchange must have one shape and one type.
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor, index: Tensor) -> None:
        """Score a batch.

        Args:
            prediction: Cleaned maps [uK_CMB], shape (batch, field, npix), NESTED.
            target: True maps [uK_CMB], same shape.
            index: Numbers of the simulations, int, shape (batch,).

        Raises:
            ValueError: If the shapes differ from each other or from the regions'.
        """
        self._keep(index, prediction, target)

    def _keep(self, index: Tensor, *maps: Tensor) -> None:
        npix = next(iter(self.regions.values())).size
        expected = (len(index), len(self.fields), npix)
        if any(tuple(values.shape) != expected for values in maps):
            shapes = ", ".join(str(tuple(values.shape)) for values in maps)
            raise ValueError(f"Maps to score have shapes {shapes}; all must be {expected}: (batch, field, npix).")
        # MPS has no float64
        device = "cpu" if self.device.type == "mps" else self.device
        arrays = [values.detach().double().cpu().numpy() for values in maps]
        for sim, prediction, target, *sigma in zip(index.tolist(), *arrays, strict=True):
            row = np.concatenate([[sim], score_regions(prediction, target, self.regions, *sigma).ravel()])
            self.rows.append(torch.from_numpy(row).to(device))

    def compute(self) -> Scores:
        """The scores of all simulations seen, in the order of their numbers, each once."""
        rows = torch.cat(self.rows) if isinstance(self.rows, list) and self.rows else self.rows
        flat = torch.as_tensor(rows, dtype=torch.float64, device="cpu").numpy()
        shape = (len(self.fields), len(self.regions), len(self.names))
        table = flat.reshape(-1, 1 + int(np.prod(shape)))
        per_sim = {int(row[0]): row[1:].reshape(shape) for row in table[::-1]}  # of repeats the first one stays
        return gather_scores(per_sim, self.fields, tuple(self.regions), self.names)


class SkyCalibration(SkyMetrics):
    """Coverage at 68, 95 and 99.7 %, mean and spread of the z-score, per simulation, field and region.

    Args:
        regions: As for `SkyMetrics`.
        fields: As for `SkyMetrics`.
    """

    names = CALIBRATION

    def update(self, prediction: Tensor, target: Tensor, index: Tensor, sigma: Tensor) -> None:
        """Score the stated errors [uK_CMB] of a batch, all as for `SkyMetrics`."""
        self._keep(index, prediction, target, sigma)
