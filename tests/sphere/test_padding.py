"""The rim around every face, against healpy's neighbours."""

import healpy as hp
import numpy as np
import pytest
import torch

from cmb_lightning.sphere import Faces, HealpixPad

# healpy's order SW, W, NW, N, NE, E, SE, S as steps (x, y) on a face.
STEPS = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]


def expected_rim(nside: int, values: np.ndarray) -> dict[tuple[int, int, int, int], float]:
    """Value one step beyond each edge pixel: (face, y, x) of the padded image and the pixel it was reached from."""
    pixels = np.arange(12 * nside**2)
    x, y, face = hp.pix2xyf(nside, pixels, nest=True)
    neighbours = hp.get_all_neighbours(nside, pixels, nest=True)
    rim = {}
    for direction, (dx, dy) in enumerate(STEPS):
        found = neighbours[direction]
        beside = (values[neighbours[(direction - 1) % 8]] + values[neighbours[(direction + 1) % 8]]) / 2
        value = np.where(found >= 0, values[found], beside)
        outside = ((x + dx) % nside != x + dx) | ((y + dy) % nside != y + dy)
        for p in np.flatnonzero(outside):
            rim[face[p], y[p] + dy + 1, x[p] + dx + 1, p] = value[p]
    return rim


@pytest.mark.parametrize("nside", [2, 8])
def test_every_pixel_of_every_edge_sees_healpys_neighbours(nside):
    values = np.random.default_rng(0).normal(size=12 * nside**2)
    padded = HealpixPad(nside)(Faces(nside).fold(torch.from_numpy(values)[None, None]))[:, 0].numpy()
    rim = expected_rim(nside, values)
    places = {place[:3] for place in rim}
    assert len(places) == 12 * (4 * nside + 4)  # each place, many of them reached from three pixels
    for (face, y, x, _), value in rim.items():
        assert padded[face, y, x] == pytest.approx(value, abs=1e-12)


def test_exactly_24_corners_are_means():
    pad = HealpixPad(8)
    corners = len(pad.second)
    pixels = np.arange(12 * 8**2)
    missing = (hp.get_all_neighbours(8, pixels, nest=True) < 0).sum()
    assert corners == missing == 24
    assert (pad.first[-corners:] != pad.second).all()


def test_the_inside_is_untouched_and_skies_of_a_batch_stay_apart():
    images = torch.randn(24, 3, 4, 4)
    padded = HealpixPad(4)(images)
    assert torch.equal(padded[:, :, 1:-1, 1:-1], images)
    assert torch.equal(padded[12:], HealpixPad(4)(images[12:]))


@pytest.mark.parametrize("width", [1, 2])
def test_a_rim_is_renewed_in_place(width):
    pad, images = HealpixPad(4, width), torch.randn(24, 3, 4, 4)
    padded = pad(torch.zeros(24, 3, 4, 4))
    padded[..., width:-width, width:-width] = images
    assert pad.around(padded) is padded
    assert torch.equal(padded, pad(images))


@pytest.mark.parametrize("width", [1, 2])
def test_gradients_reach_the_pixels_the_rim_came_from(width):
    pad = HealpixPad(2, width).double()
    images = torch.randn(24, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pad, (images,))


def test_a_rim_wider_than_the_face_is_refused():
    with pytest.raises(ValueError, match="width=3"):
        HealpixPad(2, 3)
