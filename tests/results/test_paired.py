import numpy as np
import pytest

from cmb_lightning.results.calibration import SIGMA_EDGES, Z_LEVELS, Calibration, gaussian_coverage
from cmb_lightning.results.paired import paired_difference


def test_interval_of_a_normal_mean():
    """For many normal differences the bootstrap interval is mean ± 1.96 standard errors."""
    rng = np.random.default_rng(0)
    hard = rng.normal(10, 5, size=400)  # what makes a sky hard is common to both
    difference = rng.normal(0.3, 1, size=400)
    found = paired_difference(hard + difference, hard)
    error = difference.std(ddof=1) / 20
    assert found.mean == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.1 * error)
    assert found.certain and found.sims == 400 and found.smaller == pytest.approx(np.mean(difference < 0))


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        found = paired_difference(rng.normal(1, 1, size=40), np.zeros(40), resamples=1000)
        covered += found.low < 1 < found.high
    assert 0.90 < covered / 300 < 0.98


def test_same_input_same_interval_and_few_skies():
    values = np.random.default_rng(2).normal(size=6)
    assert paired_difference(values, -values) == paired_difference(values, -values)
    one = paired_difference(values[:1], values[:1] - 1)
    assert one.mean == 1 and np.isnan(one.low) and not one.certain


@pytest.mark.parametrize(("scale", "chi2"), [(1.0, 1.0), (0.5, 4.0)])
def test_calibration_of_gaussian_errors(scale, chi2):
    rng = np.random.default_rng(0)
    made = rng.uniform(1, 20, size=200_000)
    error = rng.normal(size=made.size) * made
    halves = [Calibration.of(error[k::2], scale * made[k::2]) for k in range(2)]
    found = halves[0] + halves[1]
    assert found.pixels == made.size and found.reduced_chi2() == pytest.approx(chi2, rel=0.02)
    expected = np.interp(Z_LEVELS * scale, Z_LEVELS, gaussian_coverage())
    np.testing.assert_allclose(found.coverage(), expected, atol=0.005)
    stated, rms = found.reliability()
    np.testing.assert_allclose(rms, stated / scale, rtol=0.1)
    assert found.count.sum() == made.size and len(found.count) == len(SIGMA_EDGES) - 1
    whole = Calibration.of(error, scale * made)
    np.testing.assert_array_equal(whole.within, found.within)
