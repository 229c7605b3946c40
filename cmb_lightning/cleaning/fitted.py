"""The file that carries fitted linear weights from the process that fits them to the others."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from cmb_lightning.cleaning.linear import LinearWeights
from cmb_lightning.data.publish import replace


def save_weights(path: Path, weights: LinearWeights) -> None:
    """Write the weights; the file is there whole or not at all."""
    arrays = {name: np.asarray(value) for name, value in vars(weights).items()}
    replace(path, save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))


def load_weights(path: Path) -> LinearWeights:
    """Read the weights."""
    arrays = load_file(path)
    return LinearWeights(
        weights=arrays["weights"],
        levels=arrays["levels"],
        pair=(int(arrays["pair"][0]), int(arrays["pair"][1])),
        scale=arrays["scale"],
        needlet_scale=arrays["needlet_scale"],
        error=arrays["error"].item(),
        colours=arrays["colours"],
        colour_scatter=arrays["colour_scatter"],
    )
