"""Weights that training fixes: what they are fitted on, and the file that carries them to other processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from cmb_lightning.cleaning.preparation import harmonics
from cmb_lightning.data import publish
from cmb_lightning.data.layout import Layout

NOISE_SIMS = 12  # they tell the noise's covariance in a scale to a percent
FIT_SIMS = 60  # more simulations change the linear weights by less than their effect on any score


def known_errors(
    simulations: Iterable[Mapping[str, np.ndarray]], layout: Layout, hedge: float, doubt: float = 0.0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Observed coefficients of simulations, and those less the CMB, each (channel, nalm) at the bands' own beams.

    Args:
        simulations: Their parts, as they are stored.
        layout: The maps' layout.
        hedge: Which fraction of their calibration errors they are given.
        doubt: Standard deviation of further relative errors, of each band's foregrounds alone.
    """
    names, bands = np.unique([name.rpartition("_")[0] for name in layout.channels], return_inverse=True)
    for index, parts in enumerate(simulations):
        errors = doubt * np.random.default_rng(index).standard_normal(len(names))[bands]
        foregrounds = (1 + errors[:, None]).astype(np.float32) * parts["foregrounds"]
        sky = (1 + hedge * parts["gain"][:, None]) * (parts["cmb"] + foregrounds) + parts["noise"]
        observed, cmb = harmonics(sky, layout), harmonics(parts["cmb"], layout)
        yield observed, observed - cmb


@dataclass(frozen=True)
class Known:
    """Training skies of which all parts are known.

    Attributes:
        simulations: Gives their parts, as they are stored, each time anew.
        layout: The maps' layout.
        hedge: Which fraction of their calibration errors linear weights are fitted with.
        channels: The channels wanted; all when None.
    """

    simulations: Callable[[], Iterable[Mapping[str, np.ndarray]]]
    layout: Layout
    hedge: float
    channels: slice | list[int] = field(default_factory=lambda: slice(None))

    def of(self, rows: list[int]) -> "Known":
        """The same of some of the channels."""
        return replace(self, channels=rows)

    def errors(self, doubt: float = 0.0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `known_errors` gives."""
        for pair in known_errors(self.simulations(), self.layout, self.hedge, doubt):
            yield tuple(alm[self.channels] for alm in pair)

    def miscalibrated(self, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of each sky several times, with calibration errors from none to those of training."""
        gains = [parts["gain"] for parts in self.simulations()]
        rng = np.random.default_rng(len(gains))
        for parts in self.simulations():
            cmb, foregrounds, noise = (
                harmonics(parts[name], self.layout)[self.channels] for name in ("cmb", "foregrounds", "noise")
            )
            for _ in range(draws):
                gain = rng.uniform() * gains[rng.integers(len(gains))][self.channels][:, None]
                error = foregrounds + gain * (cmb + foregrounds) + noise
                yield cmb + error, error

    def noise(self) -> Iterator[np.ndarray]:
        """The noise's coefficients in some of them, (channel, nalm)."""
        for parts in islice(self.simulations(), NOISE_SIMS):
            yield harmonics(parts["noise"], self.layout)[self.channels]


def save_weights(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write the weights; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    publish.replace(path, save({name: np.ascontiguousarray(value) for name, value in weights.items()}))


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """Read the weights."""
    return load_file(path)
