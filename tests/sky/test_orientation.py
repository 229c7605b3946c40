import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import Instrument, PolynomialSpectrum, Simulator, Sky
from cmb_lightning.sky.statistical import StatisticalGalaxy
from cmb_lightning.sky.transforms import euler_rotation, nest_to_ring

NSIDE = 16


def foregrounds(orientation, index=0):
    sky = Sky(cmb=PolynomialSpectrum([100.0]), foregrounds=[StatisticalGalaxy()], orientation=orientation)
    instrument = Instrument.load("real_sky_64", NSIDE, ["100", "353"])
    return nest_to_ring(Simulator(instrument, NSIDE, None, None, sky, 1).simulate("train", index)["foregrounds"])


def test_a_quarter_turn_about_the_pole_moves_the_equator_by_a_quarter():
    equator = slice(6 * NSIDE**2 - 2 * NSIDE, 6 * NSIDE**2 + 2 * NSIDE)  # the ring of 4 nside pixels
    straight, turned = foregrounds(None), foregrounds([90.0, 0.0, 0.0])
    expected = np.roll(straight[:, equator], NSIDE, axis=1)
    np.testing.assert_allclose(turned[:, equator], expected, atol=1e-4 * np.abs(expected).max())


def test_a_turn_keeps_the_power_and_moves_the_plane():
    straight, turned = foregrounds(None), foregrounds([0.0, 90.0, 0.0])
    np.testing.assert_allclose(turned.std(axis=1), straight.std(axis=1), rtol=0.02)
    equator = slice(6 * NSIDE**2 - 2 * NSIDE, 6 * NSIDE**2 + 2 * NSIDE)
    assert turned[1, equator].mean() < 0.5 * straight[1, equator].mean()


def test_random_turns_differ_between_simulations_and_repeat():
    one = foregrounds("random")
    assert not np.allclose(one, foregrounds(None), rtol=1e-2)
    np.testing.assert_array_equal(one, foregrounds("random"))


def test_euler_angles_make_a_rotation():
    matrix = euler_rotation(10.0, 20.0, 30.0)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(euler_rotation(0, 90, 0) @ [0, 0, 1], [1, 0, 0], atol=1e-12)


def test_angles_are_three():
    with pytest.raises(ConfigError, match=r"orientation: \[1.0\] must be"):
        Sky(orientation=[1.0])
