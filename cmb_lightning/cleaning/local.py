"""Covariances in windows on the sphere, and how much of the CMB weights taken from them absorb."""

from dataclasses import dataclass

import numpy as np

from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.transforms import almxfl, analysis, nest_to_ring, ring_to_nest, synthesis

WINDOWS = (120.0, 90.0, 60.0, 45.0, 30.0, 20.0, 15.0, 10.0, 7.0, 5.0, 3.0, 2.0)
"""FWHM [degrees] of the Gaussian windows that are tried, widest first; before them comes the whole sphere."""


def window_beam(fwhm: float | None, lmax: int) -> np.ndarray:
    """Transfer function of a Gaussian window [degrees], shape (lmax + 1,); None: the whole sphere."""
    return (np.arange(lmax + 1) == 0).astype(float) if fwhm is None else gaussian_beam(60 * fwhm, lmax)


@dataclass(frozen=True)
class Products:
    """Products of a scale's maps, pair by pair, from which a covariance in any window follows.

    Attributes:
        alm: Coefficients of the products, pairs in the order of `np.triu_indices`, shape (pair, nalm).
        nside: Resolution of the maps.
        lmax: Highest multipole of `alm`, beyond which the narrowest window leaves nothing.
    """

    alm: np.ndarray
    nside: int
    lmax: int

    @classmethod
    def of(cls, maps: np.ndarray, pixels: np.ndarray | None = None) -> "Products":
        """The products of maps, shape (channel, npix), RING, where each pixel counts as much as `pixels` says."""
        nside = int(round((maps.shape[-1] / 12) ** 0.5))
        first, second = np.triu_indices(len(maps))
        # Double precision: Galactic bands are alike to one part in a million, and what they differ in counts.
        weighted = maps.astype(np.float64) if pixels is None else maps * np.sqrt(pixels)
        lmax = min(2 * nside, 400)
        alm = np.stack([analysis(weighted[i] * weighted[k], lmax, 0) for i, k in zip(first, second, strict=True)])
        return cls(alm, nside, lmax)

    def covariance(self, fwhm: float | None) -> np.ndarray:
        """Covariances about zero in Gaussian windows [degrees], on pixels a sixteenth as wide or finer.

        Returns:
            Shape (channel, channel, npix), RING, or (channel, channel, 1) for the whole sphere, when None.
        """
        count = int(round(((8 * len(self.alm) + 1) ** 0.5 - 1) / 2))
        rows = self.alm[:, :1].real / np.sqrt(4 * np.pi)
        if fwhm is not None:
            nside = min(self.nside, 2 ** int(np.ceil(np.log2(16 * 58.6 / fwhm))))
            # Far from all that counts in a mask a window holds nothing: there the whole sphere decides.
            rows = synthesis(almxfl(self.alm, window_beam(fwhm, self.lmax)), nside, self.lmax) + 1e-4 * rows
        matrix = np.empty((count, count, rows.shape[-1]))
        first, second = np.triu_indices(count)
        matrix[first, second] = matrix[second, first] = rows
        return matrix


def between(covariance: np.ndarray) -> np.ndarray:
    """Covariances of the differences of all channels but the first from it, (channel - 1, channel - 1, ...)."""
    return covariance[1:, 1:] - covariance[1:, :1] - covariance[:1, 1:] + covariance[:1, :1]


def absorbed(
    alm: np.ndarray,
    covariance: np.ndarray,
    fwhm: float | None,
    cmb: np.ndarray,
    pixels: np.ndarray | None = None,
) -> float:
    """Which part of the CMB an ILC's own weights take away, expected over CMBs and averaged over the sphere.

    The ILC is a regression of one band on its differences d from the others, which hold no CMB, with weights from a
    window w around each pixel. It takes from a CMB s its regression on them, so that with xi the CMB's correlation
    function a fraction a(p) = d(p)' D(p)^-1 sum_q w(p, q) d(q) xi(p, q) / xi(0), with D = sum_q w d d', is lost.

    Args:
        alm: Coefficients of the bands in this scale, at one beam, shape (channel, nalm).
        covariance: Covariances of their maps in the window, as `Products` gives them.
        fwhm: The window's FWHM [degrees]; None: the whole sphere.
        cmb: The CMB's spectrum in this scale, at that beam, in any unit, shape (lmax + 1,).
        pixels: How much each pixel counted in the covariances, and counts in the average, RING.
    """
    lmax = len(cmb) - 1
    degrees = (2 * np.arange(lmax + 1) + 1) / (4 * np.pi)
    x, quadrature = np.polynomial.legendre.leggauss(2 * lmax + 2)
    legendre = np.polynomial.legendre.legvander(x, lmax)
    correlation = legendre @ (degrees * cmb) / (degrees * cmb).sum()
    kernel = 2 * np.pi * (quadrature * correlation * (legendre @ (degrees * window_beam(fwhm, lmax)))) @ legendre
    differences = counted = alm[1:] - alm[:1]
    if pixels is not None:
        nside = int(round((pixels.size / 12) ** 0.5))
        counted = analysis(pixels * synthesis(differences, nside, lmax), lmax, 1)
    matrix = between(covariance)
    if fwhm is None:  # the mean over the sphere is a sum over multipoles
        weight = np.full(alm.shape[-1], 2.0)
        weight[: lmax + 1] = 1.0
        mean = (counted.conj() @ (almxfl(counted, kernel) * weight).T).real / (4 * np.pi)
        return float(np.trace(np.linalg.solve(matrix[..., 0], mean)) / (1 if pixels is None else pixels.mean()))
    nside = int(round((covariance.shape[-1] / 12) ** 0.5))
    here, around = synthesis(differences, nside, lmax), synthesis(almxfl(counted, kernel), nside, lmax)
    solved = np.linalg.solve(np.moveaxis(matrix, -1, 0), around.T[..., None])[..., 0]
    weight = None if pixels is None else nest_to_ring(ring_to_nest(pixels).reshape(12 * nside**2, -1).mean(axis=1))
    return float(np.average(np.einsum("pc,cp->p", solved, here), weights=weight))
