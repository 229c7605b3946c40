"""Random streams that depend on nothing but (seed, split, index, component)."""

import hashlib
from dataclasses import dataclass

import numpy as np


def _hash64(text: str) -> int:
    """Return the first 64 bits of the SHA-256 of a text: the same in every process, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def stream(seed: int, split: str, index: int, component: str) -> np.random.Generator:
    """Make the generator of one component of one simulation.

    Args:
        seed: seed of the data set, not negative.
        split: name of the split; case does not matter.
        index: number of the simulation in its split, not negative.
        component: what is drawn, such as `cmb` or `noise/30_I`.

    Returns:
        A Philox generator, independent of that of any other argument.
    """
    key = (_hash64(split.lower()), index, _hash64(component))
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass(frozen=True)
class Draws:
    """The streams of one simulation, by name of the component: `draws("cmb")`."""

    seed: int
    split: str
    index: int

    def __call__(self, component: str) -> np.random.Generator:
        """Return a fresh generator for the component; the same name gives the same numbers again."""
        return stream(self.seed, self.split, self.index, component)
