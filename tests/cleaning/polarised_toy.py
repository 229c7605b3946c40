"""A small polarised sky made with healpy: Gaussian T, E and B, a bright smooth Galaxy with a power law, white noise."""

from functools import cache

import healpy
import numpy as np

from cmb_lightning.data.layout import Layout

NSIDE, LMAX = 16, 32
FWHM = (700.0, 600.0, 500.0, 480.0)
LAW = (3.0, 1.0, 1.5, 12.0)
NOISE = (0.8, 0.4, 0.4, 2.0)


def layout(fields: str) -> Layout:
    """The layout of four bands, whose last one has no Q and U where there is I."""
    channels = [(name, fwhm, field) for name, fwhm in zip("abcd", FWHM, strict=True) for field in fields]
    if "I" in fields:
        channels = [one for one in channels if one[0] != "d" or one[2] == "I"]
    names, widths = [f"{name}_{field}" for name, _, field in channels], [fwhm for _, fwhm, _ in channels]
    return Layout(NSIDE, LMAX, tuple(names), tuple(widths), tuple(fields), FWHM[-1])


@cache
def sky(seed: int, fields: str) -> dict[str, np.ndarray]:
    """`cmb`, `foregrounds` and `noise` [uK_CMB], (channel, npix), and `target`, (field, npix), NESTED, float32."""
    rng = np.random.default_rng(seed)
    ell = np.arange(LMAX + 1)
    cmb = [_gaussian(rng, power / (ell + 1.0) ** 2) for power in (5000.0, 50.0, 5.0)]
    plane = np.exp(-((healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2))[0] - np.pi / 2) ** 2) / 0.25**2)
    galaxy = [30 * scale * plane * np.exp(0.3 * rng.standard_normal(plane.size)) for scale in (10, 2, 1)]
    galaxy = healpy.map2alm(galaxy, lmax=LMAX, iter=3)
    parts = {"cmb": [], "foregrounds": [], "noise": []}
    for name, fwhm, law, noise in zip("abcd", FWHM, LAW, NOISE, strict=True):
        spread = 1 + 0.003 * rng.standard_normal(3)
        drawn = rng.standard_normal((3, plane.size)) * noise
        seen = {"cmb": _maps(cmb, fwhm), "foregrounds": spread[:, None] * law * _maps(galaxy, fwhm), "noise": drawn}
        wanted = ["IQU".index(field) for field in fields if f"{name}_{field}" in layout(fields).channels]
        for part, rows in seen.items():
            parts[part].append(rows[wanted])
    made = {part: np.concatenate(rows) for part, rows in parts.items()}
    made["target"] = _maps(cmb, FWHM[-1])[["IQU".index(field) for field in fields]]
    return {part: healpy.reorder(rows, r2n=True).astype(np.float32) for part, rows in made.items()}


def observed(seed: int, fields: str) -> np.ndarray:
    """The observed sky, (channel, npix)."""
    parts = sky(seed, fields)
    return parts["cmb"] + parts["foregrounds"] + parts["noise"]


def _gaussian(rng: np.random.Generator, cl: np.ndarray) -> np.ndarray:
    degree = healpy.Alm.getlm(LMAX)[0]
    alm = (rng.standard_normal(degree.size) + 1j * rng.standard_normal(degree.size)) / np.sqrt(2)
    alm[: LMAX + 1] = np.sqrt(2) * alm[: LMAX + 1].real
    return np.where(degree < 2, 0, alm * np.sqrt(cl)[degree])


def _maps(teb: list[np.ndarray], fwhm: float) -> np.ndarray:
    """I, Q and U, (3, npix), RING, at a beam, without monopole."""
    beams = healpy.gauss_beam(np.radians(fwhm / 60), LMAX, pol=True)
    alm = [healpy.almxfl(one, beams[:, column]) for column, one in enumerate(teb)]
    alm[0][0] = 0
    return np.stack(healpy.alm2map(alm, NSIDE, lmax=LMAX, pol=True))
