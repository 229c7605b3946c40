"""What the tensors of a simulation must be, and what its header says of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cmb_lightning.data.layout import Layout

UNSEEN_BELOW = -1e30  # healpy marks missing pixels with -1.6375e30


@dataclass(frozen=True)
class Statistics:
    """Extremes of one group of maps, an entry for each channel or field.

    Attributes:
        minimum: Smallest good value, NaN where there is none.
        maximum: Largest good value, NaN where there is none.
        bad: Number of pixels that are NaN, infinite or UNSEEN.
    """

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    bad: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("minimum", "maximum", "bad"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def of(cls, maps: Iterable[np.ndarray]) -> "Statistics":
        """The statistics of maps of shape (channel, pixel), which may come one by one."""
        return cls(*zip(*map(_statistics, maps), strict=True))

    def joined(self, *others: "Statistics") -> "Statistics":
        """The statistics of all these sets of maps together."""
        every = (self, *others)
        return Statistics(
            np.fmin.reduce([one.minimum for one in every]).tolist(),
            np.fmax.reduce([one.maximum for one in every]).tolist(),
            np.add.reduce([one.bad for one in every]).tolist(),
        )


def _statistics(row: np.ndarray) -> tuple[float, float, int]:
    low, high, bad = row.min(), row.max(), 0
    if not (np.isfinite(low) and np.isfinite(high) and low > UNSEEN_BELOW):
        good = np.isfinite(row) & (row > UNSEEN_BELOW)
        low, high = (row[good].min(), row[good].max()) if good.any() else (np.nan, np.nan)
        bad = int(np.count_nonzero(~good))
    return float(low), float(high), bad


def shapes(layout: Layout, names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a simulation is made of."""
    maps = (len(layout.channels), layout.npix)
    known = {"cmb": maps, "foregrounds": maps, "noise": maps, "gain": maps[:1]}
    known["target"] = (len(layout.fields), layout.npix)
    return {name: known[name] for name in names}


def check_tensors(tensors: Mapping[str, np.ndarray], names: tuple[str, ...], layout: Layout) -> None:
    """Refuses what should not be stored.

    Raises:
        ValueError: A tensor is missing, has another shape or another type than float32, or has values that are NaN,
            infinite or UNSEEN; the message names the tensor, the channel and how many.
    """
    for name, shape in shapes(layout, names).items():
        if name not in tensors:
            raise ValueError(f"the simulator returned no '{name}'.")
        if tensors[name].shape != shape:
            raise ValueError(f"'{name}' has shape {tensors[name].shape}, where {shape} is expected.")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise ValueError(f"'{name}' is of type {tensor.dtype}: convert it to float32 before it is stored.")
        rows = tensor.reshape(len(tensor), -1) if tensor.ndim > 1 else tensor.reshape(1, -1)
        labels = layout.fields if name == "target" else layout.channels
        for row, count in enumerate(Statistics.of(rows).bad):
            if count:
                where = f" of {labels[row]}" if name in shapes(layout, names) and tensor.ndim > 1 else ""
                raise ValueError(f"'{name}'{where} has {count} values that are NaN, infinite or UNSEEN.")
