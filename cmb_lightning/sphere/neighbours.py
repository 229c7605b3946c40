"""Which pixel lies beyond a face's edge, by integer arithmetic on the faces' own geometry.

In the plane of HEALPix's projection the faces are unit squares on a grid with axes along x (north-east) and y
(north-west): equatorial face 4+k at (k, -k), northern face k at (k+1, -k), southern face 8+k at (k, -k-1), repeating
after a turn around the sky, (4, -4). Across an edge that two squares share on this grid the axes continue. The four
faces around a pole also meet along edges at which the plane is torn: there the axes turn by 90 degrees, and by 180
straight across the pole. At 8 corners of the grid only three faces meet, and nothing lies diagonally beyond.
"""

import numpy as np
from numpy.typing import ArrayLike

NOTHING = -1


def beyond(nside: int, face: ArrayLike, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels at face coordinates that may lie up to nside outside their face.

    Args:
        nside: Resolution.
        face: Face numbers, 0 to 11.
        x: Coordinates along the faces' x axes, -nside to 2 nside - 1.
        y: The same along the y axes.

    Returns:
        (face, x, y) of each pixel in the face that holds it; the face is NOTHING diagonally beyond a corner where three
        faces meet.
    """
    face, x, y = np.broadcast_arrays(np.asarray(face), np.asarray(x), np.asarray(y))
    ring, k = face // 4, face % 4
    step_x, step_y = x // nside, y // nside  # -1, 0 or 1 squares away
    x, y = x % nside, y % nside
    level = 1 - ring + step_x + step_y  # row of the square: 1 north, 0 equator, -1 south, further out beyond the tear
    column = k + (ring == 0) + step_x

    torn_x = (ring != 1) & (abs(level) == 2) & (step_x != 0)
    torn_y = (ring != 1) & (abs(level) == 2) & (step_y != 0)
    over_pole = abs(level) == 3
    nothing = np.where(ring == 1, abs(level) == 2, step_x * step_y == -1)

    around_pole = 4 * ring + np.where(over_pole, k + 2, k + step_x - step_y) % 4
    on_grid = 4 * (1 - level) + (column - (level == 1)) % 4
    new_face = np.where(nothing, NOTHING, np.where(torn_x | torn_y | over_pole, around_pole, on_grid))
    mirrored_x, mirrored_y = nside - 1 - x, nside - 1 - y
    new_x = np.select([torn_x, torn_y, over_pole], [y, mirrored_y, mirrored_x], x)
    new_y = np.select([torn_x, torn_y, over_pole], [mirrored_x, x, mirrored_y], y)
    return new_face, new_x, new_y
