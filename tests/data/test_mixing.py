import numpy as np
import pytest

from cmb_lightning.data.mixing import draw_mix, observe
from cmb_lightning.sky.rng import stream

BANDS = np.array([0, 1, 1, 1])
SCATTER = np.array([0.01, 0.02, 0.02, 0.02])


def mixes(count: int, n_sims: int = 10, seed: int = 1):
    return [draw_mix(seed, epoch, 3, n_sims, BANDS, SCATTER) for epoch in range(count)]


def test_a_mix_depends_on_seed_epoch_and_index_alone():
    first = draw_mix(1, 2, 3, 10, BANDS, SCATTER)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    again = draw_mix(1, 2, 3, 10, BANDS, SCATTER)
    assert all(np.array_equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert np.array_equal(np.random.get_state()[1], state)
    for other in (draw_mix(2, 2, 3, 10, BANDS, SCATTER), draw_mix(1, 3, 3, 10, BANDS, SCATTER)):
        assert not np.array_equal(other.weights, first.weights)


def test_every_cmb_comes_once_in_a_round():
    assert sorted(draw_mix(1, 0, index, 10, BANDS, SCATTER).cmb for index in range(10)) == list(range(10))


@pytest.mark.parametrize("in_epoch", [2, 4, 5])
def test_short_epochs_go_on_where_the_last_one_ended(in_epoch):
    keys = [(epoch, index) for epoch in range(20 // in_epoch) for index in range(in_epoch)]
    drawn = [draw_mix(1, *key, 10, BANDS, SCATTER, in_epoch=in_epoch).cmb for key in keys]
    assert drawn == 2 * list(range(10))


def test_foregrounds_and_noise_are_drawn_evenly_and_two_different_noises_are_added():
    drawn = mixes(2000)
    assert np.bincount([mix.foregrounds for mix in drawn], minlength=10).std() < 3 * np.sqrt(200)
    noise = np.stack([mix.noise for mix in drawn])
    assert (noise[..., 0] != noise[..., 1]).all()
    for side in (0, 1):
        counts = np.bincount(noise[..., side].ravel(), minlength=10)
        assert np.abs(counts - 800).max() < 5 * np.sqrt(800)


def test_mixed_noise_has_the_variance_of_one_and_is_independent_between_channels():
    weights = np.stack([mix.weights for mix in mixes(4000)])
    assert np.allclose((weights**2).sum(axis=2), 1, atol=1e-6)
    assert np.abs(weights.mean(axis=0)).max() < 5 * np.sqrt(0.5 / 4000)
    assert np.abs(np.corrcoef(weights[:, :, 0].T) - np.eye(4)).max() < 5 / np.sqrt(4000)


def test_one_simulation_gives_its_own_noise_with_a_sign():
    mix = draw_mix(1, 0, 0, 1, BANDS, SCATTER)
    assert (mix.noise == 0).all()
    assert np.array_equal(np.abs(mix.weights), np.tile([1, 0], (4, 1)))


def test_gains_go_up_to_the_scatter_asked_for_and_are_shared_in_a_band():
    gain = np.stack([mix.gain for mix in mixes(4000)])
    assert gain.std(axis=0) == pytest.approx(SCATTER / np.sqrt(3), rel=0.06)  # <u^2> = 1/3 for u in 0 ... 1
    assert np.array_equal(gain[:, 1], gain[:, 2]) and np.array_equal(gain[:, 1], gain[:, 3])
    assert abs(np.corrcoef(gain[:, 0], gain[:, 1])[0, 1]) < 5 / np.sqrt(4000)


def test_the_observed_sky():
    parts = {
        name: np.full((2, 12), value, np.float32) for name, value in [("cmb", 1), ("foregrounds", 3), ("noise", 5)]
    }
    sky = observe({**parts, "gain": np.array([0, 0.5], np.float32)})
    assert np.array_equal(sky, np.repeat([[9], [11]], 12, axis=1))
    assert sky.dtype == np.float32
    assert np.array_equal(observe({"cmb": parts["cmb"]}), parts["cmb"])
    assert (parts["cmb"] == 1).all()  # the parts themselves stay


def test_streams_of_splits_and_components_share_nothing():
    states = {
        tuple(stream(1, split, index, component).bit_generator.state["state"]["key"])
        for split in ("train", "valid", "test", "test1")
        for index in range(200)
        for component in ("cmb", "noise/30_I", "dust")
    }
    assert len(states) == 4 * 200 * 3
