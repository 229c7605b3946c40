import healpy
import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import transforms as tr

NSIDE, LMAX = 16, 32


@pytest.fixture
def alm():
    rng = np.random.default_rng(1)
    return tr.draw_alm(1 / (1.0 + np.arange(LMAX + 1)) ** 2, rng, LMAX)


def test_synthesis_is_healpys(alm):
    assert np.allclose(tr.synthesis(alm, NSIDE, LMAX), healpy.alm2map(alm, NSIDE, LMAX), atol=1e-12)


def test_spin_2_synthesis_is_healpys(alm):
    alm[LMAX + 1 :] *= 1j  # E and B that differ
    _, q, u = healpy.alm2map([0 * alm, alm, alm[::-1].copy() * 0 + 2 * alm], NSIDE, LMAX)
    mine = tr.synthesis_qu(alm, 2 * alm, NSIDE, LMAX)
    assert np.allclose(mine, [q, u], atol=1e-12)


def test_analysis_is_healpys_and_inverts(alm):
    maps = tr.synthesis(alm, NSIDE, LMAX)
    assert np.allclose(tr.analysis(maps, LMAX), healpy.map2alm(maps, LMAX, iter=3), atol=1e-12)
    assert np.abs(tr.analysis(maps, LMAX) - alm).max() < 1e-5 * np.abs(alm).max()


def test_spin_2_analysis_inverts(alm):
    alm = tr.almxfl(alm, np.arange(LMAX + 1) > 1)
    e, b = tr.analysis_qu(*tr.synthesis_qu(alm, 0.3 * alm, NSIDE, LMAX), LMAX, iterations=5)
    assert np.abs(e - alm).max() < 1e-5 * np.abs(alm).max()
    assert np.abs(b - 0.3 * alm).max() < 1e-5 * np.abs(alm).max()


def test_batches_and_precision(alm):
    batch = np.stack([alm, 2 * alm]).reshape(2, 1, -1).astype(np.complex64)
    maps = tr.synthesis(batch, NSIDE, LMAX)
    assert maps.shape == (2, 1, 12 * NSIDE**2) and maps.dtype == np.float32
    assert np.allclose(maps[1, 0], 2 * tr.synthesis(alm, NSIDE, LMAX), atol=1e-5)
    back = tr.analysis(maps, LMAX)
    assert back.shape == batch.shape and back.dtype == np.complex64
    q, u = tr.synthesis_qu(batch, batch, NSIDE, LMAX)
    assert q.shape == u.shape == maps.shape and q.dtype == np.float32


def test_single_precision_keeps_1e_5_of_a_sky_of_five_orders(alm):
    maps = np.exp(3 * tr.synthesis(alm, NSIDE, LMAX) / tr.synthesis(alm, NSIDE, LMAX).std())
    double = tr.synthesis(tr.analysis(maps, LMAX), NSIDE, LMAX)
    single = tr.synthesis(tr.analysis(maps.astype(np.float32), LMAX), NSIDE, LMAX)
    assert np.abs(single - double).max() < 1e-5 * double.std()


def test_almxfl_and_alm2cl_are_healpys(alm):
    fl = np.linspace(1, 2, LMAX + 1)
    assert np.allclose(tr.almxfl(alm, fl), healpy.almxfl(alm, fl))
    assert tr.almxfl(alm.astype(np.complex64), fl).dtype == np.complex64
    assert np.allclose(tr.almxfl(np.stack([alm, alm]), np.stack([fl, 2 * fl]))[1], healpy.almxfl(alm, 2 * fl))
    other = tr.almxfl(alm, fl) * 1j
    assert np.allclose(tr.alm2cl(alm, alm + other), healpy.alm2cl(alm, alm + other))
    assert tr.alm2cl(np.stack([alm, alm])).shape == (2, LMAX + 1)


def test_drawn_coefficients_have_the_spectrum():
    rng, cl = np.random.default_rng(2), 1 / (1.0 + np.arange(LMAX + 1))
    mean = np.mean([tr.alm2cl(tr.draw_alm(cl, rng, LMAX)) for _ in range(400)], axis=0)
    sigma = cl * np.sqrt(2 / (2 * np.arange(LMAX + 1) + 1) / 400)
    assert np.all(np.abs(mean - cl) < 4.5 * sigma)
    assert np.all(tr.draw_alm(cl, rng, LMAX)[: LMAX + 1].imag == 0)


def test_reordering_is_healpys():
    maps = np.arange(2 * 12 * NSIDE**2).reshape(2, -1)
    assert np.array_equal(tr.ring_to_nest(maps), healpy.reorder(maps, r2n=True))
    assert np.array_equal(tr.nest_to_ring(tr.ring_to_nest(maps)), maps)


@pytest.mark.parametrize("seed", range(3))
def test_rotation_moves_a_source_by_the_matrix(seed):
    matrix = tr.random_rotation(np.random.default_rng(seed))
    assert np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) == pytest.approx(1)
    check_rotation(matrix)


@pytest.mark.parametrize("matrix", [np.eye(3), np.diag([-1, 1, -1]), np.diag([-1, -1, 1]), np.diag([1, -1, -1])])
def test_rotation_about_an_axis(matrix):
    check_rotation(matrix.astype(float))


def check_rotation(matrix):
    pixel = 1000
    source = np.array(healpy.pix2vec(NSIDE, pixel))
    spot = np.exp(-np.sum((np.array(healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2))).T - source) ** 2, axis=1) * 20)
    turned = tr.synthesis(tr.rotate_alm(tr.analysis(spot, LMAX), LMAX, matrix), NSIDE, LMAX)
    peak = np.array(healpy.pix2vec(NSIDE, int(np.argmax(turned))))
    assert peak @ (matrix @ source) > np.cos(healpy.nside2resol(NSIDE))


def test_random_rotations_are_uniform():
    rng = np.random.default_rng(0)
    mean = np.mean([tr.random_rotation(rng) for _ in range(3000)], axis=0)
    assert np.abs(mean).max() < 4.5 / np.sqrt(3 * 3000)


@pytest.mark.parametrize("nside", [0, 3, 100, 2.0])
def test_nside_must_be_a_power_of_two(nside):
    with pytest.raises(ConfigError, match=f"nside: {nside} is not a power of two"):
        tr.check_nside(nside)


@pytest.mark.parametrize("lmax", [1, 48, 1000])
def test_lmax_must_fit_the_pixels(lmax):
    with pytest.raises(ConfigError, match=f"lmax: {lmax} must lie between 2 and 3 nside - 1 = 47"):
        tr.check_lmax(lmax, NSIDE)
