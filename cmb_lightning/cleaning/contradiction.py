"""Where the sky at hand contradicts what training holds of its foregrounds: they stay behind in the estimate."""

from collections.abc import Callable

import numpy as np

from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import alm2cl, almxfl

SURE = 2.0  # standard deviations that a foreground must have in the estimate for any of it to be taken off
PASSES = 2  # the first with the spectrum of what is cleaned, the second with that of what is left
FIRST = 12  # the first multipole that is looked at: below, the sky has too few modes to spare any
WIDTH = 0.15  # the spectrum at a multipole is the mean of those that are nearer to it than this part of it


def follows_sky(layout: Layout) -> bool:
    """Whether the sky at hand has a say: in E and B, where the CMB is so faint that foregrounds stand out above it."""
    return layout.fields != ("I",)


def borne_out(estimate: np.ndarray, correction: np.ndarray) -> float:
    """How much of a correction, learned in training, the sky at hand bears out: one, unless it surely says otherwise.

    A correction that is right leaves nothing of itself in what it corrects; one that is not does, since it is no part
    of the CMB. So what is left of it is found in the corrected estimate, as far as it is sure; see `left_behind`.

    Args:
        estimate: Coefficients of what is corrected, shape (nalm,).
        correction: What is to be subtracted from it, shape (nalm,).

    Returns:
        By how much to multiply the correction: less than one where less should be subtracted.
    """
    return 1 + float(left_behind(estimate - correction, correction[None])[0])


def left_behind(estimate: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """How much of each template an estimate still holds, as far as its own spectrum does not explain it by chance.

    All templates are fitted at once, each mode weighted by the inverse of the estimate's spectrum, which is the best
    that can be done for a Gaussian sky; combinations of them that go with nothing but each other are then shrunk
    towards zero, the further the less sure they are, and are zero below two standard deviations (the positive part of
    James and Stein 1961, for each of them). So the CMB loses next to nothing to templates that go with it by chance,
    where a fit alone would take a mode of it for each.

    Args:
        estimate: Coefficients, shape (nalm,).
        templates: What foregrounds look like, shape (template, nalm).

    Returns:
        Shape (template,), float64.
    """
    found = np.zeros(len(templates))
    for _ in range(PASSES):
        whiten = _whitening(estimate - found @ templates)
        rows, data = (whiten(alm) for alm in (templates, estimate))
        # In units of their errors, each by itself; a template that is zero tells nothing.
        size = np.linalg.norm(rows, axis=1)
        rows /= np.where(size > 0, size, 1)[:, None]
        variance, directions = np.linalg.eigh(rows @ rows.T)
        known = variance > 1e-6
        error = np.sqrt(np.where(known, variance, 1))
        sizes = directions.T @ (rows @ data) / error
        sizes *= known * np.maximum(0, 1 - (SURE / np.maximum(np.abs(sizes), 1e-30)) ** 2)
        found = directions @ (sizes / error) / np.where(size > 0, size, 1)
    return found


def _whitening(alm: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What makes of coefficients (..., nalm) real numbers (..., 2 nalm): of those given, all of variance one.

    The spectrum is that of multipoles and their neighbours together. Below `FIRST`, and where there is none, all is 0.
    """
    cl = alm2cl(alm)
    ell = np.arange(len(cl))
    reach = np.maximum(2, WIDTH * ell).astype(int)
    low, high = np.maximum(ell - reach, FIRST), np.minimum(ell + reach + 1, len(cl))
    modes, power = (np.concatenate([[0], np.cumsum(one)]) for one in (2 * ell + 1, (2 * ell + 1) * cl))
    mean = (power[high] - power[low]) / np.maximum(modes[high] - modes[low], 1)
    scale = np.where((ell >= FIRST) & (mean > 0), 1 / np.sqrt(np.where(mean > 0, mean, 1)), 0)
    each = np.full(alm.shape[-1], 2**0.5)
    each[: len(cl)] = 1  # m = 0 is real; every other m stands for -m too
    return lambda some: (almxfl(some.astype(np.complex128), scale) * each).view(np.float64)
