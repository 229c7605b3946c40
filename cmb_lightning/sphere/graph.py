"""HEALPix as a graph, whose Laplacian takes the place of an oriented kernel."""

from functools import lru_cache

import numpy as np

from .faces import N_FACES, nested_of_face
from .neighbours import NOTHING, beyond


def neighbour_table(nside: int) -> np.ndarray:
    """NESTED indices of the neighbours of each pixel.

    Args:
        nside: Resolution, a power of two.

    Returns:
        Shape (npix, 8), counter-clockwise from the south-west; -1 where there is none.
    """
    nested = nested_of_face(nside)
    face = np.repeat(np.arange(N_FACES), nside**2)
    y, x = (np.tile(c.ravel(), N_FACES) for c in np.indices((nside, nside)))
    table = np.empty((N_FACES * nside**2, 8), np.int64)
    pixel = face * nside**2 + nested[y, x]
    steps = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    for direction, (step_x, step_y) in enumerate(steps):
        there, its_x, its_y = beyond(nside, face, x + step_x, y + step_y)
        table[pixel, direction] = np.where(there == NOTHING, NOTHING, there * nside**2 + nested[its_y, its_x])
    return table


@lru_cache(maxsize=16)
def laplacian(nside: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The graph Laplacian of the sphere, its spectrum shifted to lie within -1 to 1 as Chebyshev polynomials need.

    Weights fall with distance as exp(-d^2 / (2 mean d^2)); the Laplacian is normalised, 1 - D^-1/2 W D^-1/2, so its
    spectrum lies between 0 and 2, and one is taken off (Perraudin et al. 2019, arXiv:1810.12186).

    Args:
        nside: Resolution, a power of two above 1.

    Returns:
        A symmetric sparse matrix in CSR form: (first entry of each row, columns, values float32).
    """
    import healpy as hp

    table = neighbour_table(nside)
    present = table != NOTHING
    centres = np.stack(hp.pix2vec(nside, np.arange(len(table)), nest=True), axis=-1)
    squared = ((centres[:, None] - centres[table]) ** 2).sum(-1)
    weights = np.where(present, np.exp(-squared / (2 * squared[present].mean())), 0)
    scale = weights.sum(1) ** -0.5
    values = -weights * scale[:, None] * scale[table]
    count = present.sum(1)
    return np.cumsum(count) - count, table[present], values[present].astype(np.float32)
