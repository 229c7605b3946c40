"""Several fields at once: each is cleaned as a scalar map, T, E or B; Q and U are there at both ends only."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cmb_lightning.cleaning.linear import LinearEstimate, LinearWeights
from cmb_lightning.cleaning.preparation import Differences, field_harmonics, harmonics, to_maps
from cmb_lightning.data.datasets import Preparation
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import ring_to_nest, synthesis, synthesis_qu


def by_field(method: Callable[[np.ndarray, Layout], np.ndarray], alm: np.ndarray, layout: Layout) -> np.ndarray:
    """What a method for one field makes of each.

    Args:
        method: Takes coefficients of one field's channels, shape (..., channel, nalm), and their layout.
        alm: Coefficients of all channels, shape (..., channel, nalm).
        layout: The maps' layout.

    Returns:
        The results, shape (field, ...).
    """
    return np.stack([method(alm[..., layout.rows(field), :], layout.only(field)) for field in layout.fields])


def to_scalars(maps: np.ndarray, layout: Layout) -> np.ndarray:
    """I, E and B, without monopoles, from maps of the target's fields, float32, shape (field, npix), NESTED."""
    return maps if layout.fields == ("I",) else to_maps(field_harmonics(maps, layout.fields, layout.lmax), layout)


def to_fields(maps: np.ndarray, layout: Layout) -> np.ndarray:
    """The target's fields from I, E and B, float32, shape (field, npix), NESTED: the way back from `to_scalars`."""
    if layout.fields == ("I",):
        return maps
    alm = dict(zip(layout.scalars, field_harmonics(maps, ("I",) * len(maps), layout.lmax), strict=True))
    made = {"I": synthesis(alm["I"], layout.nside, layout.lmax)} if "I" in alm else {}
    if "E" in alm:
        made["Q"], made["U"] = synthesis_qu(alm["E"], alm["B"], layout.nside, layout.lmax)
    return ring_to_nest(np.stack([made[field] for field in layout.fields]))


@dataclass(frozen=True)
class FieldEstimates:
    """The trained linear estimates of several fields, as one.

    Attributes:
        layout: The maps' layout.
        estimates: By field, of its own channels.
    """

    layout: Layout
    estimates: Mapping[str, LinearEstimate]

    def __call__(self, alm: np.ndarray) -> np.ndarray:
        """The CMB at the target beam, shape (field, nalm), from the bands at their own, shape (channel, nalm)."""
        return by_field(lambda one, layout: self.estimates[layout.fields[0]](one), alm, self.layout)

    @staticmethod
    def fit(
        layout: Layout,
        samples: Iterable[tuple[np.ndarray, np.ndarray]],
        pixels: np.ndarray | None = None,
        regions: int = 8,
    ) -> dict[str, LinearWeights]:
        """The weights of every field; see `LinearEstimate.fit`."""
        samples, fitted = list(samples), {}
        for field in layout.fields:
            rows = layout.rows(field)
            own = [(observed[rows], error[rows]) for observed, error in samples]
            fitted[field] = LinearEstimate(layout.only(field), regions=regions).fit(own, pixels).weights
        return fitted


class FieldPreparation(Preparation):
    """What the methods of several fields see, each entry's rows in the order of channels or fields.

    Args:
        layout: The maps' layout.
        parts: The preparation of each field.
    """

    def __init__(self, layout: Layout, parts: Mapping[str, Preparation]) -> None:
        self.layout, self.parts = layout, dict(parts)

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        """T, E and B at each band's own beam, complex64, shape (channel, nalm), in the rows of I, Q and U."""
        return harmonics(maps, self.layout)

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """The entries of the parts: those with a row per channel in the channels' order, others one after the other."""
        made = {}
        for field, part in self.parts.items():
            own = prepared[self.layout.rows(field)]
            made[field] = part.finish(own if isinstance(part, Differences) else to_maps(own, self.layout))
        joined = {}
        for name in next(iter(made.values())):
            values = [sample[name] for sample in made.values()]
            joined[name] = np.concatenate(values)
            if name in ("inputs", "templates"):
                rows = [row for field in made for row in self.layout.rows(field)]
                joined[name] = joined[name][np.argsort(rows)]
        return joined

    def target(self, maps: np.ndarray) -> np.ndarray:
        """I, E and B of the truth."""
        return to_scalars(maps, self.layout)
