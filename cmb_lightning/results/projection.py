"""HEALPix maps as flat images."""

from functools import lru_cache

import ducc0
import numpy as np

PATCHES = ((60.0, 55.0), (10.0, 12.0))
"""Longitude and latitude [degrees] of the patches: a quiet part of the sky, and one beside the Galactic plane."""


@lru_cache(maxsize=8)
def mollweide_pixels(nside: int, width: int) -> np.ndarray:
    """The pixel that each point of a Mollweide image shows.

    Longitude 0 is in the middle and grows to the left, as the sky is seen from inside.

    Args:
        nside: HEALPix resolution.
        width: Width of the image [points]; it is half as high.

    Returns:
        NESTED pixel numbers, -1 outside the ellipse, int64, shape (width / 2, width), top row first.
    """
    x = -(np.arange(width) + 0.5) / width * 4 + 2
    y = 1 - (np.arange(width // 2) + 0.5) / (width // 2) * 2
    x, y = np.meshgrid(x, y)
    theta = np.arcsin(y)
    latitude = np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        longitude = np.pi * x / (2 * np.cos(theta))
    inside = np.abs(longitude) <= np.pi
    return _pixels(nside, np.pi / 2 - latitude, longitude, inside)


@lru_cache(maxsize=8)
def patch_pixels(nside: int, longitude: float, latitude: float, size: float, width: int) -> np.ndarray:
    """The pixel that each point of a square gnomonic image shows.

    Args:
        nside: HEALPix resolution.
        longitude: Of the centre [degrees]; it grows to the left.
        latitude: Of the centre [degrees]; it grows upwards.
        size: Side of the square [degrees].
        width: Width of the image [points].

    Returns:
        NESTED pixel numbers, int64, shape (width, width), top row first.
    """
    offset = np.tan(np.radians((np.arange(width) + 0.5) / width * size - size / 2))
    east, north = np.meshgrid(-offset, -offset)
    lon, lat = np.radians(longitude), np.radians(latitude)
    centre = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    towards_east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    towards_north = np.cross(centre, towards_east)
    vectors = centre + east[..., None] * towards_east + north[..., None] * towards_north
    colatitude = np.arccos(vectors[..., 2] / np.linalg.norm(vectors, axis=-1))
    return _pixels(nside, colatitude, np.arctan2(vectors[..., 1], vectors[..., 0]), np.ones(east.shape, dtype=bool))


def patch_size(nside: int) -> float:
    """Side of a patch [degrees]: 64 pixels, between 10 and 50 degrees."""
    return float(np.clip(64 * np.degrees(np.sqrt(np.pi / 3)) / nside, 10, 50))


def _pixels(nside: int, colatitude: np.ndarray, longitude: np.ndarray, inside: np.ndarray) -> np.ndarray:
    angles = np.stack([np.clip(colatitude[inside], 0, np.pi), longitude[inside] % (2 * np.pi)], axis=-1)
    pixels = np.full(inside.shape, -1, dtype=np.int64)
    pixels[inside] = ducc0.healpix.Healpix_Base(nside, "NEST").ang2pix(angles)
    return pixels


def image_of(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The image of a NESTED map, shape of `pixels`; NaN outside the sphere."""
    return np.where(pixels >= 0, np.asarray(values)[pixels], np.nan)
