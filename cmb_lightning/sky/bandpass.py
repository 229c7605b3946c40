"""Bandpasses: what a band sees of a spectrum, as a sum over a few frequencies."""

from pathlib import Path

import numpy as np

from ..errors import ConfigError
from . import units

NODES = 6
"""Frequencies that stand for a bandpass: enough for 1e-6 of the sky's smooth spectra in bands of 40 percent."""


def delta(frequency: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the frequency [GHz] and weight of an infinitely narrow band; see `sampled`."""
    return (frequency,), (units.to_uK_CMB(frequency, "uK_RJ"),)


def top_hat(centre: float, width: float, key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return frequencies [GHz] and weights of a flat band; see `sampled`.

    Args:
        centre: [GHz].
        width: from edge to edge [GHz].
        key: for errors.
    """
    if not 0 < width < 2 * centre:
        raise ConfigError(f"{key}: {width} GHz must lie between 0 and twice the centre, {centre} GHz")
    nodes, weights = np.polynomial.legendre.leggauss(20)
    return sampled(centre + nodes * width / 2, weights)


def tabulated(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return frequencies [GHz] and weights of a band in a text file; see `sampled`.

    Args:
        path: two columns, frequency [GHz] in rising order and transmission: the response to intensity (in Jy/sr), in
            any unit.
    """
    if not path.is_file():
        raise FileNotFoundError(f"bandpass: there is no file {path}; check the instrument's table")
    try:
        frequency, transmission = np.loadtxt(path, ndmin=2).T
    except ValueError as error:
        raise ConfigError(f"{path}: must have two columns, frequency in GHz and transmission ({error})") from error
    if len(frequency) < 2 or not np.all(np.diff(frequency) > 0) or not frequency[0] > 0:
        raise ConfigError(f"{path}: frequencies must be at least two, above 0 GHz and rising")
    if not np.isfinite(transmission).all() or transmission.min() < 0 or not transmission.any():
        raise ConfigError(f"{path}: transmission must be finite, nowhere below 0 and somewhere above it")
    steps = np.zeros_like(frequency)  # the trapezoidal rule
    steps[:-1] += np.diff(frequency) / 2
    steps[1:] += np.diff(frequency) / 2
    inside = transmission > 0
    return sampled(frequency[inside], (transmission * steps)[inside])


def moved(
    frequencies: tuple[float, ...], weights: tuple[float, ...], factor: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return frequencies and weights of a band as calibrated on the CMB, all its frequencies multiplied by a factor."""
    to_intensity = [units.to_uK_CMB(nu, "Jy/sr") / units.to_uK_CMB(nu, "uK_RJ") for nu in frequencies]
    return sampled(np.array(frequencies) * factor, np.array(weights) * to_intensity)


def sampled(frequency: np.ndarray, response: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Reduce a bandpass to a few frequencies, with weights for signals in brightness temperature.

    The signal of a band that is calibrated on the CMB is sum(response * I) / sum(response * dB/dT). For smooth spectra
    a Gauss quadrature with the bandpass as its weight needs few terms (Golub and Welsch 1969).

    Args:
        frequency: of the terms [GHz].
        response: to intensity, times the width of the term.

    Returns:
        Frequencies [GHz], and weights such that sum(weight * T_RJ(frequency)) is the signal [uK_CMB].
    """
    from_intensity = np.array([units.to_uK_CMB(nu, "Jy/sr") for nu in frequency])
    from_rj = np.array([units.to_uK_CMB(nu, "uK_RJ") for nu in frequency])
    weights = response * from_rj / from_intensity / np.sum(response / from_intensity)
    if len(frequency) > NODES:
        frequency, weights = _gauss_quadrature(frequency, weights)
    return tuple(float(nu) for nu in frequency), tuple(float(w) for w in weights)


def _gauss_quadrature(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace a sum over many points by one over NODES that is exact for polynomials up to degree 2 NODES - 1."""
    vectors = [np.sqrt(weights / weights.sum())]
    diagonal, beside = [], []
    for _ in range(NODES):  # Lanczos, with full orthogonalisation
        product = x * vectors[-1]
        diagonal.append(product @ vectors[-1])
        for _ in range(2):
            product -= np.array(vectors).T @ (np.array(vectors) @ product)
        beside.append(np.linalg.norm(product))
        vectors.append(product / beside[-1])
    nodes, basis = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    return nodes, weights.sum() * basis[0] ** 2
