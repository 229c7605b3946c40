"""Classical methods for several fields: each is cleaned alone, T, E and B with weights of their own."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cmb_lightning.cleaning.classical import ClassicalMethod
from cmb_lightning.cleaning.combination import Combination
from cmb_lightning.cleaning.estimates import by_field
from cmb_lightning.cleaning.linear import Samples
from cmb_lightning.data.layout import Layout


def each_field(make: Callable[[Layout], ClassicalMethod], layout: Layout) -> "ClassicalMethod | EachField":
    """The method for a layout, made by a class or function that makes it for one field."""
    return make(layout) if len(layout.fields) == 1 else EachField(layout, make)


class EachField:
    """A classical method for several fields, in the place of one for one field.

    Args:
        layout: The maps' layout.
        make: Makes the method of one field.
    """

    def __init__(self, layout: Layout, make: Callable[[Layout], ClassicalMethod]) -> None:
        self.layout = layout
        self.methods = {field: make(layout.only(field)) for field in layout.fields}
        self.name = next(iter(self.methods.values())).name

    @property
    def weights(self) -> dict[str, np.ndarray] | None:
        """What training fixed, by field before a dot; each map's own weights are used when None."""
        own = {field: method.weights for field, method in self.methods.items()}
        if None in own.values():
            return None
        return {f"{field}.{name}": values for field, weights in own.items() for name, values in weights.items()}

    @weights.setter
    def weights(self, weights: dict[str, np.ndarray] | None) -> None:
        for field, method in self.methods.items():
            own = {name.removeprefix(f"{field}."): v for name, v in (weights or {}).items() if name[0] == field}
            method.weights = own or None

    def __call__(self, observed: np.ndarray) -> np.ndarray:
        """The estimates, shape (field, nalm), from the bands at their own beams, shape (channel, nalm)."""
        return self.combination(observed)(observed)

    def combination(self, observed: np.ndarray) -> Combination:
        """The linear combinations that clean this sky, with their weights held fixed."""
        own = {field: method.combination(observed[self.layout.rows(field)]) for field, method in self.methods.items()}
        return lambda alm: by_field(lambda one, layout: own[layout.fields[0]](one), alm, self.layout)

    def settings(self) -> list[Any]:
        """What trained weights depend on besides data and layout, for JSON."""
        return [method.settings() for method in self.methods.values()]

    def fit(self, samples: Samples) -> dict[str, np.ndarray]:
        """Weights of least error on known errors, as arrays to keep."""
        samples, fitted = list(samples), {}
        for field, method in self.methods.items():
            rows = self.layout.rows(field)
            own = method.fit([(observed[rows], error[rows]) for observed, error in samples])
            fitted |= {f"{field}.{name}": values for name, values in own.items()}
        return fitted
