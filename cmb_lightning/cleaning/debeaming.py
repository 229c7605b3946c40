"""From each band's beam to the target's, as far as a band's noise allows."""

import numpy as np

from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import alm2cl

# Beyond this ratio of target to band beam a band is all noise: it is left out there.
MAX_DEBEAMING = 10.0


def debeaming(layout: Layout) -> np.ndarray:
    """Target beam over band beam, zero from where it first exceeds `MAX_DEBEAMING`, shape (channel, lmax + 1)."""
    return capped_ratio(layout.target_beams(), layout.beams())


def capped_ratio(wanted: np.ndarray, beams: np.ndarray) -> np.ndarray:
    """Wanted windows over beams (channel, lmax + 1), zero from where that first exceeds `MAX_DEBEAMING`.

    A window may oscillate where it is small: a band that is left out stays so up to lmax.
    """
    use = np.logical_and.accumulate(wanted <= MAX_DEBEAMING * beams, axis=-1)
    return np.divide(wanted, beams, out=np.zeros_like(beams), where=use & (beams > 0))


def noise_floor(noise: np.ndarray, layout: Layout) -> float:
    """RMSE at the target beam that noise alone leaves in its best combination, were there no foregrounds at all.

    At each multipole the bands are weighted by their inverse noise power at the target beam.

    Args:
        noise: Noise coefficients of some simulations, shape (simulation, channel, nalm).
        layout: The maps' layout.

    Returns:
        The floor [uK_CMB], over the full sky.
    """
    ell = np.arange(layout.lmax + 1)
    ratio = debeaming(layout)
    power = alm2cl(noise, lmax=layout.lmax).mean(axis=0)
    with np.errstate(divide="ignore"):
        inverse = np.where((ratio > 0) & (power > 0), 1 / (ratio**2 * power), 0.0).sum(axis=0)
    # The monopole is removed from maps and target alike; E and B have no dipole either.
    variance = np.divide(2 * ell + 1, 4 * np.pi * inverse, out=np.zeros(len(ell)), where=inverse > 0)
    return float(np.sqrt(variance[1:].sum()))
