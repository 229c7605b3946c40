"""How the local estimate is trained: least squares on skies whose errors are known."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from cmb_lightning.cleaning.brightness import coarser, members
from cmb_lightning.cleaning.combination import unit_weights
from cmb_lightning.cleaning.linear import LinearEstimate, Samples
from cmb_lightning.cleaning.local_estimate import LocalEstimate, LocalWeights, brightness, look, scale_maps, windows
from cmb_lightning.cleaning.local_filter import apply_by_place, wiener

QUANTILES = (0.06, 0.17, 0.28, 0.39, 0.51, 0.62, 0.73, 0.84, 0.92, 0.95, 0.97, 0.985, 0.993, 0.997)
"""Of the sky's brightness: six of the fourteen regions share the brightest tenth, the Galactic plane."""

DIRECTIONS = 30  # in which skies may look different
RIDGE = 3.0  # shrinks fractions that are of use only together, which other foregrounds would not bear
FAITHFUL = 0.01  # bright foregrounds are left by about this part of what the channels bring in of them


def shapes(scales: int, channels: int) -> dict[str, tuple[int, ...]]:
    """The shapes of `LocalWeights`, by name."""
    looks = scales * channels * (channels + 1) // 2
    directions, regions = min(DIRECTIONS, looks), len(QUANTILES)
    return {
        "quietest": (scales, channels),
        "contrast": (scales, channels - 1, channels),
        "slopes": (scales, regions, channels - 1),
        "levels": (regions,),
        "looks": (looks,),
        "directions": (looks, directions),
        "response": (1 + directions, channels),
    }


def fit_local(
    linear: LinearEstimate, samples: Samples, noise: Iterable[np.ndarray], pixels: np.ndarray | None = None
) -> LocalEstimate:
    """The local estimate with the slopes that leave the least variance, which takes the calibration for good.

    Args:
        linear: The trained linear estimate.
        samples: Training skies.
        noise: The noise's coefficients of some simulations, shape (channel, nalm).
        pixels: How much each pixel counts, from 0 to 1, shape (npix,), NESTED; all alike when None.
    """
    pixels = np.ones(12 * linear.layout.nside**2) if pixels is None else pixels
    samples = list(samples)
    logs = [brightness(observed, linear) for observed, _ in samples]
    empty = {name: np.zeros(one) for name, one in shapes(len(linear.needlets), len(linear.layout.channels)).items()}
    levels = np.quantile(np.concatenate([log[pixels > 0] for log in logs]), QUANTILES)
    quietest, contrast = _against_noise(linear, noise, (error for _, error in samples))
    shape = empty["slopes"].shape
    gram, cross = np.zeros((*shape, shape[-1])), np.zeros(shape)
    for (_, error), log in zip(samples, logs, strict=True):
        for j, (nside, places) in enumerate(zip(linear.needlets.nsides, windows(linear), strict=True)):
            maps = scale_maps(error, j, linear)
            contrasts, left = contrast[j] @ maps, quietest[j] @ maps
            seen = apply_by_place(wiener(contrasts, places), contrasts)
            belonging = members(coarser(log, nside), levels) * coarser(pixels, nside)
            for region, belongs in enumerate(belonging):
                inside = belongs > 0
                weighed = seen[:, inside] * belongs[inside]
                gram[j, region] += weighed @ seen[:, inside].T
                cross[j, region] += weighed @ left[inside]
    # A region that nothing fell into has slopes zero.
    ridge = (1e-9 * np.trace(gram, axis1=-2, axis2=-1) + 1e-30)[..., None, None] * np.eye(shape[-1])
    slopes = np.linalg.solve(gram + ridge, cross[..., None])[..., 0]
    found = {"quietest": quietest, "contrast": contrast, "slopes": slopes, "levels": levels}
    return LocalEstimate(linear, LocalWeights(**empty | found))


def calibrated(
    estimate: LocalEstimate, samples: Samples, draws: int = 1, pixels: np.ndarray | None = None
) -> LocalEstimate:
    """The same estimate, that also calibrates the channels on each other.

    Args:
        estimate: What `fit_local` gave.
        samples: Training skies with calibration errors as they are expected.
        draws: How many of them are the same sky with other errors.
        pixels: As there.
    """
    looks, grams, crosses = [], [], []
    channels, linear = len(estimate.layout.channels), estimate.linear
    pixels = np.ones(12 * linear.layout.nside**2) if pixels is None else pixels
    for observed, error in samples:
        maps, weights, _ = estimate.uncalibrated(observed)
        found, gram, cross = [], np.zeros((channels, channels)), np.zeros(channels)
        for j, (rows, differences) in enumerate(zip(weights, estimate.differences(maps, weights), strict=True)):
            found.append(look(differences))
            templates = rows * differences
            left = np.einsum("cp,cp->p", rows, scale_maps(error, j, linear))
            variance = linear.weights.error**2 + FAITHFUL**2 * (templates**2).sum(axis=0)
            weighed = templates * (coarser(pixels, linear.needlets.nsides[j]) / variance / left.size)
            gram += weighed @ templates.T
            cross += weighed @ left
        looks.append(np.concatenate(found))
        grams.append(gram)
        crosses.append(cross)
    weights = dataclasses.replace(
        estimate.weights, **_directions(np.array(looks), draws, estimate.weights.directions.shape)
    )
    seen = np.stack([weights.seen(one) for one in looks])
    normal = np.einsum("sa,sb,sij->aibj", seen, seen, np.array(grams), optimize=True)
    normal = normal.reshape(seen.shape[1] * channels, -1)
    normal += RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    response = np.linalg.solve(normal, np.einsum("sa,si->ai", seen, np.array(crosses)).ravel())
    return LocalEstimate(linear, dataclasses.replace(weights, response=response.reshape(-1, channels)))


def _directions(looks: np.ndarray, draws: int, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The mean of looks (sky, look), and their principal directions, no more than one for every two skies."""
    mean, scatter = looks.mean(axis=0), np.maximum(looks.std(axis=0), 1e-6)
    _, size, rows = np.linalg.svd((looks - mean) / scatter, full_matrices=False)
    count = min(shape[1], int((size > 1e-3 * size[0]).sum()), len(looks) // draws // 2)
    directions = np.zeros(shape)
    directions[:, :count] = rows[:count].T / scatter[:, None] / size[:count] * len(looks) ** 0.5
    return {"looks": mean, "directions": directions}


def _against_noise(
    linear: LinearEstimate, noise: Iterable[np.ndarray], errors: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """`quietest` and `contrast` of `LocalWeights`, from covariances of the noise and of all errors in each scale."""
    scales, channels = len(linear.needlets), len(linear.layout.channels)
    everything = _covariance(linear, errors)
    # Data without noise have some for the sake of the inverse: a ten thousandth of all that is not CMB.
    covariance = 1e-8 * everything * np.eye(channels) + _covariance(linear, noise)
    quietest, contrast = np.zeros((scales, channels)), np.zeros((scales, channels - 1, channels))
    for j, top in enumerate(linear.needlets.top):
        use = np.nonzero(linear.ratio[:, top] > 0)[0]
        own = covariance[j][np.ix_(use, use)]
        quietest[j, use] = unit_weights(own)
        less = np.eye(len(use)) - quietest[j, use]  # each channel less the quietest sum
        # The noise of these differences has one direction less than there are channels.
        size = np.sqrt(np.diagonal(own))
        left, singular, _ = np.linalg.svd((less @ np.linalg.cholesky(own)) / size[:, None])
        white = (left[:, :-1] / singular[:-1] / size[:, None]).T @ less
        _, modes = np.linalg.eigh(white @ everything[j][np.ix_(use, use)] @ white.T)
        contrast[j, : len(use) - 1, use] = (modes[:, ::-1].T @ white).T  # NumPy puts the channels first here
    return quietest, contrast


def _covariance(linear: LinearEstimate, skies: Iterable[np.ndarray]) -> np.ndarray:
    """Covariance of the channels at the target beam in each scale, shape (scale, channel, channel)."""
    found = []
    for alm in skies:
        maps = (scale_maps(alm, j, linear).astype(np.float64) for j in range(len(linear.needlets)))
        found.append([own @ own.T / own.shape[-1] for own in maps])
    return np.mean(found, axis=0)
