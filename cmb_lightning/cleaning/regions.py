"""Parts of the sky on which maps are scored."""

from pathlib import Path

import ducc0
import numpy as np

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import read_map
from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.transforms import almxfl, analysis, nest_to_ring, ring_to_nest, synthesis


def galactic_mask(nside: int, cut_degrees: float) -> np.ndarray:
    """The pixels away from the Galactic plane.

    Args:
        nside: HEALPix resolution.
        cut_degrees: Latitude `|b|` [degrees] that a pixel's centre must exceed; 0 keeps the whole sky but the equator.

    Returns:
        True where `|b|` > cut, bool, shape (npix,), NESTED.

    Raises:
        ValueError: If the cut is outside 0 to 90 degrees.
    """
    if not 0 <= cut_degrees < 90:
        raise ValueError(f"cut_degrees is {cut_degrees}: a cut in Galactic latitude lies between 0 and 90 degrees.")
    colatitude = ducc0.healpix.Healpix_Base(nside, "NEST").pix2ang(np.arange(12 * nside**2))[:, 0]
    return np.abs(np.pi / 2 - colatitude) > np.radians(cut_degrees)


def read_mask(path: Path, nside: int) -> np.ndarray:
    """The pixels that a mask keeps.

    Args:
        path: A FITS map in Galactic coordinates that is 1 where the sky is kept.
        nside: HEALPix resolution wanted; a finer mask keeps what it keeps nine tenths of.

    Returns:
        bool, shape (npix,), NESTED.

    Raises:
        ConfigError: If it is coarser, or in other coordinates.
    """
    found = read_map(path, unit="1", nside=nside, finer=True).nested()
    if found.coordinates not in ("G", None):
        raise ConfigError(f"mask: {path} is in coordinates {found.coordinates}; turn it to Galactic.")
    return np.where(found.bad, 0, found.values).reshape(12 * nside**2, -1).mean(axis=1) > 0.9


def sky_regions(nside: int, cuts: tuple[float, ...] = (20.0,)) -> dict[str, np.ndarray]:
    """The regions of the tables: the full sky, then the sky above each cut in Galactic latitude.

    Returns:
        Region name (`full`, `b20`, ...) to mask, bool, shape (npix,), NESTED.
    """
    regions = {"full": np.ones(12 * nside**2, dtype=bool)}
    return regions | {f"b{cut:g}": galactic_mask(nside, cut) for cut in cuts}


def latitude_bands(
    nside: int, kept: np.ndarray | None = None, edges: tuple[float, ...] = (0.0, 10.0, 20.0, 40.0, 90.0)
) -> dict[str, np.ndarray]:
    """The sky, and bands of Galactic latitude, north and south alike, that it falls into.

    Args:
        nside: HEALPix resolution.
        kept: The part of the sky that counts, bool, shape (npix,), NESTED; all when None.
        edges: Where bands end [degrees], rising from 0 to 90.

    Returns:
        Region name (`full`, or `mask` for a part; `b0-10`, ...) to mask, bool, shape (npix,), NESTED; none is empty.
    """
    sky = np.ones(12 * nside**2, dtype=bool) if kept is None else kept
    above = [sky, *(sky & galactic_mask(nside, edge) for edge in edges[1:-1]), np.zeros_like(sky)]
    bands = {
        f"b{low:g}-{high:g}": wide & ~narrow
        for low, high, wide, narrow in zip(edges, edges[1:], above, above[1:], strict=False)
    }
    return {"full" if kept is None else "mask": sky} | {name: band for name, band in bands.items() if band.any()}


def apodise(mask: np.ndarray, width_degrees: float) -> np.ndarray:
    """A weight that falls smoothly to zero at a mask's edges, inside it: sharp edges couple distant multipoles.

    Args:
        mask: bool, shape (npix,), NESTED.
        width_degrees: About the distance from the edge [degrees] over which the weight rises; 0 for none.

    Returns:
        Weight between 0 and 1, zero outside the mask, float64, shape (npix,), NESTED.
    """
    if width_degrees <= 0 or mask.all():
        return mask.astype(np.float64)
    nside = int(round((mask.size / 12) ** 0.5))
    lmax = 3 * nside - 1
    alm = analysis(nest_to_ring(mask.astype(np.float64)), lmax)
    smooth = synthesis(almxfl(alm, gaussian_beam(60 * width_degrees, lmax)), nside, lmax)
    # A straight edge is smoothed to one half: from there the weight rises.
    rise = np.clip(2 * ring_to_nest(smooth) - 1, 0, 1)
    return np.sin(np.pi / 2 * rise) ** 2 * mask


def brightness_regions(foreground: np.ndarray, quantiles: tuple[float, ...] = (0.5, 0.8)) -> dict[str, np.ndarray]:
    """The sky cut into zones of rising foreground brightness.

    Args:
        foreground: A map of the foregrounds' amplitude, shape (npix,); not finite where there are no data.
        quantiles: Rising fractions of the sky at which one zone ends and the next, brighter one begins.

    Returns:
        Zone name (`faintest50%`, `50-80%`, `brightest20%`) to mask, bool, shape (npix,), ordered as `foreground` is.

    Raises:
        ValueError: If the quantiles do not rise between 0 and 1.
    """
    edges = (0.0, *quantiles, 1.0)
    if any(high <= low for low, high in zip(edges, edges[1:], strict=False)):
        raise ValueError(f"quantiles are {quantiles}: they must rise strictly between 0 and 1.")
    good = np.isfinite(foreground)
    rank = np.full(foreground.shape, np.nan)
    rank[good] = np.argsort(np.argsort(np.abs(foreground[good]), kind="stable")) / good.sum()
    zones = {}
    for low, high in zip(edges, edges[1:], strict=False):
        if low == 0:
            name = f"faintest{100 * high:g}%"
        elif high == 1:
            name = f"brightest{100 * (1 - low):g}%"
        else:
            name = f"{100 * low:g}-{100 * high:g}%"
        zones[name] = (rank >= low) & (rank < high)
    return zones
