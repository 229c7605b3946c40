"""The Gaussian toy: what it calls best is best, and the short form of its training runs."""

import numpy as np
import pytest

from tests.scripts.test_benchmarks import load, run, tables


@pytest.fixture(scope="module")
def script():
    return load("benchmark_toy")


@pytest.mark.parametrize("keep_cmb", [True, False], ids=["ilc", "wiener"])
def test_the_best_weights_leave_what_they_promise_and_no_others_leave_less(script, keep_cmb):
    toy = script.Toy(4)
    weights, expected = toy.best(keep_cmb)
    best = script.filtered(toy, weights, 200)
    assert best == pytest.approx(expected, rel=0.03)
    if keep_cmb:
        np.testing.assert_allclose(weights[:, 1:].sum(0), 1)
    rng = np.random.default_rng(0)
    for _ in range(5):
        change = 0.1 * rng.standard_normal(weights.shape)
        change -= change.mean(0) if keep_cmb else 0  # of those that keep the CMB
        assert script.filtered(toy, weights + change, 200) > best


def test_a_short_training_is_scored_against_the_best():
    (rows,) = tables(run("benchmark_toy", "--nside", 4, "--steps", 3, "--batch", 4, "--tests", 4, "--width", 4))
    assert [row[:2] for row in rows] == [["residual", "harmonic ILC"], ["direct", "Wiener filter"]]
    linear, network = (float(value) for value in rows[0][4:6])
    assert 0.9 < linear < 1.5 and 0.9 < network < 1.5
