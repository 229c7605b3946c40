"""What an estimate still holds of foregrounds whose shape is known."""

import numpy as np
import pytest

from cmb_lightning.cleaning.contradiction import FIRST, borne_out, left_behind
from cmb_lightning.sky.transforms import alm2cl, alm_degrees, draw_alm

LMAX = 64
ELL = np.arange(LMAX + 1)
RED = 1 / (ELL + 1.0) ** 2
STEEP = 1 / (ELL + 1.0) ** 3


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A CMB, and templates that know nothing of it."""
    rng = np.random.default_rng(seed)
    return draw_alm(RED, rng, LMAX), np.stack([draw_alm(STEEP, rng, LMAX) for _ in range(count)])


def test_what_stands_out_is_found_as_a_weighted_fit_finds_it():
    """Generalised least squares with the true spectrum, mode by mode."""
    cmb, templates = drawn(0, 3)
    estimate = cmb + np.array([3.0, -2.0, 4.0]) @ templates
    ell, m = alm_degrees(LMAX), np.repeat(ELL, LMAX + 1 - ELL)
    weight = np.where(m > 0, 2, 1) * np.where(ell >= FIRST, 1 / RED[ell], 0)
    gram = (templates.conj() * weight @ templates.T).real
    expected = np.linalg.solve(gram, (templates.conj() * weight @ estimate).real)
    error = np.sqrt(np.diagonal(np.linalg.inv(gram)))
    found = left_behind(estimate, templates)
    assert (np.abs(expected) > 8 * error).all()
    assert (np.abs(found - expected) < error).all() and (np.abs(found) < np.abs(expected)).all()


def test_next_to_nothing_is_taken_off_a_sky_without_foregrounds():
    """Chance alone, of which a fit would take a part of one in the number of modes for each template."""
    lost, of_a_fit = [], []
    for seed in range(20):
        cmb, templates = drawn(seed, 12)
        taken = left_behind(cmb, templates) @ templates
        high = slice(FIRST, None)
        lost.append((alm2cl(cmb, taken)[high] / alm2cl(cmb)[high]).mean())
        of_a_fit.append(12 / ((LMAX + 1) ** 2 - FIRST**2))
    assert 0 <= np.mean(lost) < 0.3 * np.mean(of_a_fit)


def test_the_largest_angles_have_no_say():
    cmb, templates = drawn(1, 2)
    below = alm_degrees(LMAX) < FIRST
    estimate = cmb + 5 * templates[0]
    np.testing.assert_allclose(
        left_behind(np.where(below, 0, estimate), templates), left_behind(estimate, templates), rtol=1e-10
    )


def test_templates_may_be_nothing_or_the_same():
    cmb, templates = drawn(2, 2)
    estimate = cmb + 5 * templates[0]
    expected = left_behind(estimate, templates)
    more = np.stack([templates[0], 0 * templates[0], templates[1], templates[0]])
    found = left_behind(estimate, more)
    assert np.isfinite(found).all() and abs(found[1]) < 1e-10
    np.testing.assert_allclose(found[0] + found[3], expected[0], rtol=1e-2)
    assert (left_behind(0 * cmb, templates) == 0).all()


@pytest.mark.parametrize("there", [1.0, 0.5, 0.0, -1.0])
def test_as_much_of_a_correction_is_borne_out_as_there_is_of_it(there):
    cmb, (foreground,) = drawn(3, 1)
    foreground = 5 * foreground
    assert borne_out(cmb + there * foreground, foreground) == pytest.approx(there, abs=0.05)


def test_a_correction_far_below_the_cmb_is_not_judged_by_chance():
    """Nor would it matter: less than a mode of the CMB is lost."""
    changes, factors = [], []
    for seed in range(20):
        cmb, (small,) = drawn(seed, 1)
        small = 0.01 * small
        factors.append(borne_out(cmb + small, small))
        high = alm2cl((factors[-1] - 1) * small)[FIRST:] / alm2cl(cmb)[FIRST:]
        changes.append((2 * ELL + 1)[FIRST:] @ high)
    assert np.median(factors) == 1 and np.mean(changes) < 0.5
