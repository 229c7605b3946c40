"""A small split in a cache and predictions of it, for the tests of comparisons."""

from pathlib import Path

import numpy as np

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.layout import Layout
from cmb_lightning.results.fits import write_map
from cmb_lightning.results.sources import CachedTruth

NSIDE, SIMS, FWHM = 16, 6, 600.0
NPIX = 12 * NSIDE**2
LAYOUT = Layout(NSIDE, 2 * NSIDE, ("30_I", "100_I"), (900.0, FWHM), ("I",), FWHM)


def smooth(rng: np.random.Generator, rms: float, count: int = 1) -> np.ndarray:
    """Random maps at the beam, without monopole, float32, shape (count, npix), NESTED."""
    import healpy  # not in the workers

    state = np.random.get_state()
    np.random.seed(int(rng.integers(2**31)))
    ell = np.arange(2 * NSIDE + 1)
    cl = np.where(ell > 1, 1 / np.maximum(ell, 1) ** 2.0, 0)
    maps = [healpy.synfast(cl, NSIDE, lmax=2 * NSIDE, fwhm=np.radians(FWHM / 60)) for _ in range(count)]
    np.random.set_state(state)
    maps = np.array([healpy.reorder(m, r2n=True) for m in maps])
    return (rms * maps / maps.std(axis=1, keepdims=True)).astype(np.float32)


def truth(root: Path, split: str = "test", seed: int = 0) -> CachedTruth:
    """A split of six simulations."""
    cache = SplitCache(root, "toy", split, {"seed": seed}, LAYOUT)
    cache.make_folder()
    rng = np.random.default_rng(seed)
    for sim in range(SIMS):
        target = smooth(rng, 70)
        maps = np.repeat(target, 2, axis=0)
        bright = np.abs(smooth(rng, 1, 2)) * np.array([[3], [30]], dtype=np.float32)
        tensors = {"cmb": maps, "foregrounds": bright, "noise": smooth(rng, 2, 2), "target": target}
        cache.publish(sim, tensors | {"gain": np.zeros(2, dtype=np.float32)})
    return CachedTruth(cache, SIMS)


def predictions(folder: Path, of: CachedTruth, rms: float, seed: int, unit="uK_CMB", sigma=None, **header) -> Path:
    """Predictions that miss the truth by a smooth error of the given size."""
    rng = np.random.default_rng(seed)
    cards = {"DATAID": of.cache.id, "SPLIT": of.cache.split, "FWHM": FWHM, "CREATOR": "cmb_lightning test"} | header
    for sim in range(SIMS):
        maps = of.read(sim)["maps"] + smooth(rng, rms)
        names = ["I"]
        if sigma is not None:
            maps, names = np.concatenate([maps, np.full_like(maps, sigma)]), ["I", "I_SIGMA"]
        keep = {key: value for key, value in (cards | {"SIM": sim}).items() if value is not None}
        path = folder / of.cache.split / f"sim{sim:04d}" / "map.fits"
        write_map(path, maps * {"uK_CMB": 1, "mK_CMB": 1e-3}[unit], names, unit, keep)
    return folder


def first_half(observed: np.ndarray) -> np.ndarray:
    """A method that is run on the spot: the finest band as it is."""
    return observed[1:]
