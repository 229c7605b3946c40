"""The symmetries against the directions of pixels, and against what they do to harmonic coefficients."""

from dataclasses import replace
from functools import partial

import healpy
import numpy as np
import pytest

from cmb_lightning.cleaning.fields import FieldPreparation
from cmb_lightning.cleaning.preparation import Bands, Differences, to_maps
from cmb_lightning.data.datasets import Unprepared
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.symmetries import SYMMETRIES, Symmetry, draw_symmetry, transform
from cmb_lightning.sky.transforms import (
    alm_degrees,
    analysis,
    analysis_qu,
    draw_unit_alm,
    nest_to_ring,
    ring_to_nest,
    synthesis,
    synthesis_qu,
)
from tests.cleaning.toy import LAYOUT, sky, trained

NSIDE, LMAX = 8, 16
POLARISED = Layout(NSIDE, LMAX, ("30_I", "30_Q", "30_U"), (700.0,) * 3, ("I", "Q", "U"))
MIXED = replace(POLARISED, channels=("9_I", *POLARISED.channels, "44_I", "44_Q", "44_U"), fwhm=(700.0,) * 7)
FIELDS = partial(Unprepared().fields, POLARISED)


@pytest.mark.parametrize("nside", [1, 2, 16])
def test_every_pixel_goes_where_its_direction_goes(nside):
    pixels = np.arange(12 * nside**2)
    longitude, latitude = healpy.pix2ang(nside, pixels, nest=True, lonlat=True)
    seen = set()
    for symmetry in SYMMETRIES:
        moved = (-longitude if symmetry.east_west else longitude) + 90 * symmetry.turns
        there = healpy.ang2pix(nside, moved, -latitude if symmetry.north_south else latitude, nest=True, lonlat=True)
        expected = np.empty(12 * nside**2)
        expected[there] = pixels
        assert np.array_equal(symmetry(pixels), expected), symmetry
        seen.add(tuple(there))
    assert len(seen) == 16
    assert SYMMETRIES[0] == Symmetry()


def of_alm(alm: np.ndarray, symmetry: Symmetry, odd: bool = False) -> np.ndarray:
    """What a symmetry does to coefficients; `odd` ones, B, change sign in a mirror."""
    degree = alm_degrees(LMAX)
    order = np.concatenate([np.full(LMAX + 1 - m, m) for m in range(LMAX + 1)])
    if symmetry.east_west:
        alm = alm.conj()
    if symmetry.north_south:
        alm = (-1.0) ** (degree + order) * alm
    return (-1.0 if odd and symmetry.mirrors else 1.0) * np.exp(-0.5j * np.pi * order * symmetry.turns) * alm


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_t_e_and_b_are_those_of_the_transformed_sky(symmetry):
    rng = np.random.default_rng(0)
    t, e, b = (draw_unit_alm(rng, LMAX) for _ in range(3))
    e[:2] = b[:2] = e[LMAX + 1] = b[LMAX + 1] = 0  # no polarisation below l = 2
    maps = ring_to_nest(np.stack([synthesis(t, NSIDE, LMAX), *synthesis_qu(e, b, NSIDE, LMAX)]))
    made = transform({"inputs": maps}, symmetry, FIELDS)["inputs"]
    t_made = analysis(nest_to_ring(made[0]), LMAX, iterations=6)
    e_made, b_made = analysis_qu(*nest_to_ring(made[1:]), LMAX, iterations=6)
    for found, alm, odd in ((t_made, t, False), (e_made, e, False), (b_made, b, True)):
        assert np.allclose(found, of_alm(alm, symmetry, odd), atol=1e-6)


def test_a_turn_is_healpys():
    rng = np.random.default_rng(1)
    alm = draw_unit_alm(rng, LMAX)
    turned = alm.copy()
    healpy.rotate_alm(turned, np.pi / 2, 0.0, 0.0)
    moved = Symmetry(turns=1)(ring_to_nest(synthesis(alm, NSIDE, LMAX)))
    assert np.allclose(nest_to_ring(moved), healpy.alm2map(turned, NSIDE, LMAX), atol=1e-10)


@pytest.mark.parametrize("symmetry", SYMMETRIES[1::4])
def test_a_finished_sample_is_that_of_the_transformed_sky(symmetry):
    preparation = Differences(trained().local())
    maps = to_maps(sky(11)["observed"], LAYOUT)
    expected = preparation.finish(preparation.prepare(symmetry(maps)))
    made = transform(preparation.finish(preparation.prepare(maps)), symmetry, partial(preparation.fields, LAYOUT))
    assert made.keys() == expected.keys()
    for name in expected:
        assert np.allclose(made[name], expected[name], atol=2e-4 * np.abs(expected[name]).max()), name


def test_only_mirrors_change_the_sign_of_u_and_nothing_that_is_no_map_is_touched():
    sample = {"inputs": np.ones((3, POLARISED.npix), np.float32), "colours": np.arange(2.0), "index": np.int64(3)}
    for symmetry in SYMMETRIES:
        made = transform(sample, symmetry, FIELDS)
        assert made["inputs"].dtype == np.float32 and made["inputs"].flags.c_contiguous
        assert made["inputs"][:, 0].tolist() == [1, 1, -1 if symmetry.mirrors else 1]
        assert made["colours"] is sample["colours"] and made["index"] == 3
    assert sum(symmetry.mirrors for symmetry in SYMMETRIES) == 8
    assert (sample["inputs"] == 1).all()


def test_rows_of_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="5 rows are neither the 3 channels"):
        transform({"extra": np.zeros((5, POLARISED.npix))}, Symmetry(True), FIELDS)


def test_fields_that_are_joined_keep_their_signs():
    """Four rows of I, and two of E and B each."""
    preparation = FieldPreparation(MIXED, {field: Bands() for field in "IQU"}, {"I": 4, "Q": 2, "U": 2})
    mirrored = Symmetry(east_west=True)
    sample = {"inputs": np.ones((8, MIXED.npix)), "local": np.ones((3, MIXED.npix))}
    made = transform(sample, mirrored, partial(preparation.fields, MIXED))
    assert made["inputs"][:, 0].tolist() == [1, 1, 1, 1, 1, 1, -1, -1] and made["local"][:, 0].tolist() == [1, 1, -1]


def test_all_are_drawn_alike_by_seed_epoch_and_index():
    drawn = [draw_symmetry(1, epoch, index) for epoch in range(4) for index in range(400)]
    counts = np.array([drawn.count(symmetry) for symmetry in SYMMETRIES])
    assert np.abs(counts - 100).max() < 4.5 * 10
    assert drawn[401] == draw_symmetry(1, 1, 1)
    others = [draw_symmetry(2, 0, index) for index in range(400)]
    assert others != drawn[:400] != drawn[400:800]
