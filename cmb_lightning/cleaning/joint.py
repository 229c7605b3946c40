"""One network for several fields: it sees the inputs of all of them and corrects each one's own estimate."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cmb_lightning.cleaning.estimates import FieldEstimates
from cmb_lightning.cleaning.fields import FieldPreparation
from cmb_lightning.cleaning.fitted import Known
from cmb_lightning.cleaning.methods import Method
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.layout import Layout


class TrainedFields(nn.ModuleDict):
    """The trained linear estimates of several fields, by field.

    Args:
        layout: The maps' layout.
        regions: How many regions of brightness.
    """

    def __init__(self, layout: Layout, regions: int = 8) -> None:
        super().__init__({field: TrainedLinear(layout.only(field), regions) for field in layout.fields})
        self.layout, self.regions = layout, regions

    def fit(self, known: Known, pixels: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Weights of every field that fit known errors, as arrays to keep and to `store`."""
        fitted = {}
        for field, linear in self.items():
            own = linear.fit(known.of(self.layout.rows(field)), pixels)
            fitted |= {f"{field}.{name}": values for name, values in own.items()}
        return fitted

    def store(self, weights: dict[str, np.ndarray]) -> None:
        """Fill the buffers of every field."""
        for field, linear in self.items():
            own = {name.removeprefix(f"{field}."): values for name, values in weights.items() if name[0] == field}
            linear.store(own)

    def estimate(self) -> FieldEstimates:
        """The estimates, for data sets and workers.

        Raises:
            RuntimeError: If the weights are not there.
        """
        return FieldEstimates(self.layout, {field: linear.estimate() for field, linear in self.items()})


class Joint(Method):
    """A method for several fields, each of which is cleaned by its own T, E or B, with one network for all.

    Scalar convolutions would see Q and U turn from face to face; E and B have no direction. What holds for the method
    of one field holds for each: what the network sees of any field has no CMB where theirs has none.

    Args:
        layout: The maps' layout.
        method: Makes the method of one field.
    """

    def __init__(self, layout: Layout, method: Callable[[Layout], Method]) -> None:
        super().__init__(layout)
        self.parts = nn.ModuleDict({field: method(layout.only(field)) for field in layout.fields})

    @property
    def network_channels(self) -> tuple[int, int]:
        inside, outside = zip(*(part.network_channels for part in self.parts.values()), strict=True)
        return sum(inside), sum(outside)

    def preparation(self, linear: TrainedFields | None) -> FieldPreparation:
        made = {field: part.preparation(linear and linear[field]) for field, part in self.parts.items()}
        return FieldPreparation(self.layout, made, {field: part.input_rows for field, part in self.parts.items()})

    def learn_scales(self, extremes: Mapping[str, tuple[np.ndarray, np.ndarray]], linear: TrainedFields | None) -> None:
        """See `Method.learn_scales`; the extremes are those of I, E and B."""
        for row, (field, part) in enumerate(self.parts.items()):
            rows = {"inputs": self.layout.rows(field), "target": [row]}
            own = {name: tuple(values[rows[name]] for values in pair) for name, pair in extremes.items()}
            part.learn_scales(own, linear and linear[field])

    def learn_pixels(self, skies: Callable[[], Iterable[dict[str, Tensor]]]) -> None:
        """See `Method.learn_pixels`; the targets are I, E and B."""
        for field, part in self.parts.items():
            part.learn_pixels(partial(self._skies_of, field, skies))

    @property
    def input_rows(self) -> int:
        return sum(part.input_rows for part in self.parts.values())

    @property
    def unit(self) -> Tensor:
        return torch.stack([part.unit.reshape(1) for part in self.parts.values()])

    def inputs(self, batch: dict[str, Tensor]) -> Tensor:
        own = self._split(batch)
        return torch.cat([part.inputs(own[field]) for field, part in self.parts.items()], dim=1)

    def cleaned(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        own = self._split(batch)
        said = outputs.split([part.network_channels[1] for part in self.parts.values()], dim=1)
        pairs = zip(self.parts.items(), said, strict=True)
        return torch.cat([part.cleaned(one, own[field]) for (field, part), one in pairs], dim=1)

    def brightness(self, batch: dict[str, Tensor]) -> Tensor:
        own = self._split(batch)
        return torch.cat([part.brightness(own[field]) for field, part in self.parts.items()], dim=1)

    def _skies_of(self, field: str, skies: Callable[[], Iterable[dict[str, Tensor]]]) -> Iterator[dict[str, Tensor]]:
        row = self.layout.fields.index(field)
        return (self._split(sky)[field] | {"target": sky["target"][:, row : row + 1]} for sky in skies())

    def _split(self, batch: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The entries of each field, from those that `FieldPreparation` joined."""
        split: dict[str, dict[str, Tensor]] = {field: {} for field in self.parts}
        inside = [part.input_rows for part in self.parts.values()]
        rows = {"inputs": inside, "templates": inside, "local": [1] * len(inside)}
        for name in rows.keys() & batch.keys():
            for own, maps in zip(split.values(), batch[name].split(rows[name], dim=1), strict=True):
                own[name] = maps
        if "key" in batch:
            for own in split.values():
                own["key"] = batch["key"]
        return split
