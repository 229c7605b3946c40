"""Maps drawn from a spectrum: apart from the data module, so that workers need not import torch."""

from typing import Any

import numpy as np

from cmb_lightning.sky.rng import Draws
from cmb_lightning.sky.spectra import Spectrum
from cmb_lightning.sky.transforms import almxfl, draw_unit_alm, ring_to_nest, synthesis


class SpectrumMaps:
    """Draws temperature maps from a spectrum.

    Args:
        spectrum: C_l [uK_CMB^2].
        nside: HEALPix resolution.
        lmax: Highest multipole.
        seed: Seed of all random numbers.
    """

    def __init__(self, spectrum: Spectrum, nside: int, lmax: int, seed: int) -> None:
        self.cl = spectrum.cl(lmax)
        self._recipe = {"spectrum": spectrum.recipe(), "nside": nside, "lmax": lmax, "seed": seed, "generator": 1}
        self._nside, self._lmax, self._seed = nside, lmax, seed

    def simulate(self, split: str, index: int) -> dict[str, np.ndarray]:
        """One map: `target`, shape (1, pixel), NESTED, float32 [uK_CMB]."""
        alm = draw_unit_alm(Draws(self._seed, split, index)("cmb/T"), self._lmax)
        cmb = synthesis(almxfl(alm, np.sqrt(self.cl[0])).astype(np.complex64), self._nside, self._lmax)
        return {"target": ring_to_nest(cmb)[None].astype(np.float32, copy=False)}

    def recipe(self, split: str) -> dict[str, Any]:
        """All that the maps of a split depend on."""
        return {**self._recipe, "split": split}
