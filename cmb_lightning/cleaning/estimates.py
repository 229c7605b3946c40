"""Linear estimates of several fields, each from its own channels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cmb_lightning.cleaning.linear import LinearEstimate, LinearWeights
from cmb_lightning.data.layout import Layout


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


def stored_estimate(arrays: Mapping[str, np.ndarray], layout: Layout) -> LinearEstimate | FieldEstimates:
    """The estimate whose weights training has left in a file: those of several fields have the field before a dot."""
    if layout.fields == ("I",):
        weights = LinearWeights.of(dict(arrays))
        return LinearEstimate(layout, weights, regions=len(weights.levels))
    made = {}
    for field in layout.fields:
        own = {name.removeprefix(f"{field}."): values for name, values in arrays.items() if name[0] == field}
        weights = LinearWeights.of(own)
        made[field] = LinearEstimate(layout.only(field), weights, regions=len(weights.levels))
    return FieldEstimates(layout, made)
