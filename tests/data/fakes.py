"""A generator that is quick, and goes wrong on request."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.rng import stream

LAYOUT = Layout(nside=8, lmax=16, channels=("30_I", "100_I"), fwhm=(700.0, 600.0), target_fwhm=600.0)


class Toy:
    """White noise in every component.

    `trouble` names what happens at simulation 3; trouble that leaves a `flag` file happens once.
    """

    def __init__(self, seed: int = 1, trouble: str = "", flag: Path | None = None, delay: float = 0.0) -> None:
        self.seed, self.trouble, self.flag, self.delay = seed, trouble, flag, delay

    def recipe(self, split: str) -> dict:
        return {"generator": "toy", "seed": self.seed, "split": split}

    def simulate(self, split: str, index: int) -> dict[str, np.ndarray]:
        time.sleep(self.delay)
        shapes = {name: (2, LAYOUT.npix) for name in ("cmb", "foregrounds", "noise")}
        shapes |= {"target": (1, LAYOUT.npix), "gain": (2,)}
        maps = {
            name: stream(self.seed, split, index, name).standard_normal(shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        if index == 3:
            self._trouble(maps)
        return maps

    def _trouble(self, maps: dict[str, np.ndarray]) -> None:
        if self.flag is not None:
            if self.flag.exists():
                return
            self.flag.touch()
        if self.trouble == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "raises":
            raise ValueError("the sky fell")
        if self.trouble in ("nan", "inf", "unseen"):
            maps["foregrounds"][1, 5:7] = {"nan": np.nan, "inf": np.inf, "unseen": -1.6375e30}[self.trouble]
        if self.trouble == "shape":
            maps["noise"] = maps["noise"][:1]
        if self.trouble == "dtype":
            maps["noise"] = maps["noise"].astype(np.float64)
        if self.trouble == "random":
            maps["cmb"] += np.float32(np.random.default_rng().standard_normal())


def toy_cache(root: Path, toy: Toy, split: str = "train") -> SplitCache:
    return SplitCache(root, "toy", split, toy.recipe(split), LAYOUT)


def contents(cache: SplitCache, n_sims: int) -> list[bytes]:
    return [cache.path(index).read_bytes() for index in range(n_sims)]
