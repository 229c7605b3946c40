"""Weights that training fixes: what they are fitted on, and the file that carries them to other processes."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from cmb_lightning.cleaning.preparation import harmonics
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.publish import replace

FIT_SIMS = 60  # more simulations change the linear weights by less than their effect on any score


def known_errors(
    simulations: Iterable[Mapping[str, np.ndarray]], layout: Layout, hedge: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Observed coefficients of simulations, and those less the CMB, each (channel, nalm) at the bands' own beams.

    Args:
        simulations: Their parts, as they are stored.
        layout: The maps' layout.
        hedge: Which fraction of their calibration errors they are given.
    """
    for parts in simulations:
        sky = (1 + hedge * parts["gain"][:, None]) * (parts["cmb"] + parts["foregrounds"]) + parts["noise"]
        observed, cmb = harmonics(sky, layout), harmonics(parts["cmb"], layout)
        yield observed, observed - cmb


def save_weights(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write the weights; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, save({name: np.ascontiguousarray(value) for name, value in weights.items()}))


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """Read the weights."""
    return load_file(path)
