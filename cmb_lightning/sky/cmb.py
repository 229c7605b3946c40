"""Realisations of the CMB."""

import numpy as np

from .rng import Draws
from .transforms import almxfl, draw_unit_alm


def draw_teb(cl: np.ndarray, draws: Draws, polarised: bool) -> list[np.ndarray]:
    """Draw Gaussian T, E and B with their correlation.

    Args:
        cl: TT, EE, BB, TE [uK_CMB^2], (4, lmax + 1).
        draws: streams of the simulation.
        polarised: whether E and B are wanted; T is the same without them.

    Returns:
        T, or T, E and B: each (nalm,), complex128.
    """
    tt, ee, bb, te = cl
    lmax = len(tt) - 1
    unit_t = draw_unit_alm(draws("cmb/T"), lmax)
    t = almxfl(unit_t, np.sqrt(tt))
    if not polarised:
        return [t]
    slope = np.divide(te, np.sqrt(tt), out=np.zeros_like(te), where=tt > 0)
    own = np.sqrt(np.maximum(ee - slope**2, 0))
    e = almxfl(unit_t, slope) + almxfl(draw_unit_alm(draws("cmb/E"), lmax), own)
    return [t, e, almxfl(draw_unit_alm(draws("cmb/B"), lmax), np.sqrt(bb))]
