"""Several fields at once: each is cleaned as a scalar map, T, E or B; Q and U are there at both ends only."""

from collections.abc import Iterable, Mapping

import numpy as np

from cmb_lightning.cleaning.preparation import InHarmonics, harmonics, to_maps, to_scalars
from cmb_lightning.data.datasets import Preparation
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import observe


def scalar_extremes(
    simulations: Iterable[Mapping[str, np.ndarray]], layout: Layout
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Smallest and largest values [uK_CMB] of I, E and B in simulations, given by their parts.

    Returns:
        Those of the observed `inputs`, shape (channel,), and of the `target`, shape (field,).
    """
    maps: dict[str, list[np.ndarray]] = {"inputs": [], "target": []}
    for parts in simulations:
        maps["inputs"].append(to_maps(harmonics(observe(parts), layout), layout))
        maps["target"].append(to_scalars(parts["target"], layout))
    return {name: (np.min(rows, axis=(0, 2)), np.max(rows, axis=(0, 2))) for name, rows in maps.items()}


class FieldPreparation(InHarmonics):
    """What the methods of several fields see, each entry's rows in the order of channels or fields.

    Args:
        layout: The maps' layout.
        parts: The preparation of each field.
    """

    def __init__(self, layout: Layout, parts: Mapping[str, Preparation]) -> None:
        super().__init__(layout)
        self.parts = dict(parts)

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """The entries of the parts: those with a row per channel in the channels' order, others one after the other."""
        return self._joined({field: part.finish(self._own(field, prepared)) for field, part in self.parts.items()})

    def finish_half(self, prepared: np.ndarray, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The same for one half of the data."""
        pairs = {field: (self._own(field, prepared), self._own(field, whole)) for field in self.parts}
        return self._joined({field: part.finish_half(*pairs[field]) for field, part in self.parts.items()})

    def _own(self, field: str, prepared: np.ndarray) -> np.ndarray:
        """What the part of a field takes."""
        own = prepared[self.layout.rows(field)]
        return own if isinstance(self.parts[field], InHarmonics) else to_maps(own, self.layout)

    def _joined(self, made: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
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
