"""Several fields at once: each is cleaned as a scalar map, T, E or B; Q and U are there at both ends only."""

from collections.abc import Iterable, Mapping, Sequence

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
    """What the methods of several fields see, joined: in each entry the rows of one field follow those of another.

    Args:
        layout: The maps' layout.
        parts: The preparation of each field.
        rows: How many rows its inputs, and templates, have.
    """

    def __init__(self, layout: Layout, parts: Mapping[str, Preparation], rows: Mapping[str, int]) -> None:
        super().__init__(layout)
        self.parts, self.rows = dict(parts), dict(rows)

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """The entries of the parts, one after the other."""
        return _joined([part.finish(self._own(field, prepared)) for field, part in self.parts.items()])

    def finish_half(self, prepared: np.ndarray, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The same for one half of the data."""
        return _joined(
            [
                part.finish_half(self._own(field, prepared), self._own(field, whole))
                for field, part in self.parts.items()
            ]
        )

    def _own(self, field: str, prepared: np.ndarray) -> np.ndarray:
        """What the part of a field takes."""
        own = prepared[self.layout.rows(field)]
        return own if isinstance(self.parts[field], InHarmonics) else to_maps(own, self.layout)

    def target(self, maps: np.ndarray) -> np.ndarray:
        """I, E and B of the truth."""
        return to_scalars(maps, self.layout)

    def fields(self, layout: Layout, rows: int) -> list[str]:
        """See `Preparation.fields`."""
        if rows == len(self.rows):
            return list(self.rows)
        return [field for field, count in self.rows.items() for _ in range(count)]


def _joined(samples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
