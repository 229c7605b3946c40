"""What data a training learns from, as its checkpoints keep it."""

import json
from collections.abc import Mapping
from typing import Any

from cmb_lightning.data import recipe
from cmb_lightning.data.splits import SplitData


def trained_on(splits: Mapping[str, SplitData]) -> dict[str, Any]:
    """How many simulations of `train` and `valid` there are, and their recipes."""
    return {
        name: {"n_sims": splits[name].n_sims, "recipe": json.loads(recipe.canonical(splits[name].cache.recipe))}
        for name in ("train", "valid")
        if name in splits
    }


def differences(splits: Mapping[str, SplitData], there: Mapping[str, Any]) -> list[str]:
    """How the data of a checkpoint differ from these splits: `train.recipe.seed: 1 here, 0 there`.

    Args:
        splits: Those that are here.
        there: What `trained_on` gave to the checkpoint; what it does not say differs in nothing.
    """
    here = {name: found for name, found in trained_on(splits).items() if name in there}
    return recipe.differences(here, {name: found for name, found in there.items() if name in here})
