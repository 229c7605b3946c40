"""A small sky that needs no simulator: Gaussian CMB, a bright smooth Galaxy with a power law, white noise."""

from collections.abc import Iterator

import numpy as np

from cmb_lightning.cleaning.fitted import Known
from cmb_lightning.cleaning.preparation import to_maps
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.transforms import almxfl, analysis

NSIDE, LMAX = 16, 32
LAYOUT = Layout(NSIDE, LMAX, ("a_I", "b_I", "c_I", "d_I"), (700.0, 600.0, 500.0, 480.0), ("I",), 480.0)
BEAMS = np.stack([gaussian_beam(fwhm, LMAX) for fwhm in LAYOUT.fwhm])
NOISE = np.array([8.0, 4.0, 4.0, 20.0])
LAW = np.array([3.0, 1.0, 1.5, 12.0])


def degrees() -> np.ndarray:
    return np.concatenate([np.arange(m, LMAX + 1) for m in range(LMAX + 1)])


def gaussian(rng: np.random.Generator, cl: np.ndarray) -> np.ndarray:
    ell = degrees()
    alm = (rng.standard_normal(ell.size) + 1j * rng.standard_normal(ell.size)) / np.sqrt(2)
    alm[: LMAX + 1] = np.sqrt(2) * alm[: LMAX + 1].real
    alm[0] = 0
    return alm * np.sqrt(cl)[ell]


def sky(seed: int, gain_scatter: float = 0.0, beams: np.ndarray = BEAMS) -> dict[str, np.ndarray]:
    """Coefficients of the parts at the bands' own beams, each (channel, nalm), and `truth` at the target beam."""
    rng = np.random.default_rng(seed)
    ell = np.arange(LMAX + 1)
    cmb = gaussian(rng, 5000.0 / (ell + 1.0) ** 2)
    latitude = np.pi / 2 - _colatitude()
    galaxy = analysis(300 * np.exp(-((latitude / 0.25) ** 2)) * np.exp(0.3 * rng.standard_normal(latitude.size)), LMAX)
    galaxy[0] = 0
    spread = 1 + 0.05 * rng.standard_normal(len(LAW))
    noise = analysis(rng.standard_normal((len(LAW), latitude.size)) * NOISE[:, None], LMAX)
    noise[:, 0] = 0
    parts = {
        "cmb": almxfl(np.broadcast_to(cmb, (len(LAW), cmb.size)), beams),
        "foregrounds": almxfl((LAW * spread)[:, None] * galaxy, BEAMS),
        "noise": noise,
        "truth": almxfl(cmb, BEAMS[-1]),
    }
    gain = gain_scatter * rng.standard_normal(len(LAW))
    parts["observed"] = (1 + gain)[:, None] * (parts["cmb"] + parts["foregrounds"]) + parts["noise"]
    return {name: alm.astype(np.complex64) for name, alm in parts.items()}


def known(count: int = 32, layout: Layout = LAYOUT) -> Known:
    """Training skies, well calibrated, as maps."""

    def simulations() -> Iterator[dict[str, np.ndarray]]:
        for seed in range(count):
            parts = sky(seed)
            maps = {name: to_maps(parts[name], LAYOUT) for name in ("cmb", "foregrounds", "noise")}
            yield maps | {"gain": np.zeros(len(LAW), np.float32)}

    return Known(simulations, layout, hedge=0.1)


def trained() -> TrainedLinear:
    """The estimates that were trained on them."""
    module = TrainedLinear(LAYOUT, regions=4)
    module.store(module.fit(known()))
    return module


def _colatitude() -> np.ndarray:
    import healpy

    return healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2))[0]
