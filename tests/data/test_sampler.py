import numpy as np
import pytest

from cmb_lightning.data.sampler import EvaluationSampler, TrainingSampler


def order(n, epoch=0, **options):
    sampler = TrainingSampler(n, seed=1, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_sample_once_in_an_order_of_the_epoch():
    assert sorted(order(10)) == [(0, index) for index in range(10)]
    assert order(10) == order(10)
    assert [i for _, i in order(10, 1)] != [i for _, i in order(10)]
    assert {epoch for epoch, _ in order(10, 7)} == {7}


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_an_epoch_without_repeating(world_size):
    shares = [order(10, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {10 // world_size}
    together = [key for share in shares for key in share]
    assert len(set(together)) == len(together)
    # The order does not depend on the number of processes.
    whole = order(10)
    assert [key for keys in zip(*shares, strict=True) for key in keys] == whole[: len(together)]


def test_it_goes_on_in_the_middle_of_an_epoch_and_only_there():
    sampler = TrainingSampler(10, seed=1, epoch=3, start=4)
    assert list(sampler) == order(10, 3)[4:]
    assert len(sampler) == 10
    sampler.set_epoch(4)
    assert list(sampler) == order(10, 4)


@pytest.mark.parametrize(("world_size", "at_once"), [(1, 1), (1, 4), (1, 3), (2, 3), (2, 9), (3, 2)])
def test_skies_come_again_as_late_as_they_can_and_each_sample_once(world_size, at_once):
    shares = [order(24, 5, rank=rank, world_size=world_size, repeats=3, at_once=at_once) for rank in range(world_size)]
    mine = 8 // world_size
    for share in shares:
        assert len(share) == 3 * mine and {epoch for epoch, _ in share} == {5}
        skies = [index // 3 for _, index in share]
        places = {sky: [at for at, other in enumerate(skies) if other == sky] for sky in skies}
        steps = [tuple(np.diff(found)) for found in places.values()]
        last = mine % at_once
        assert sorted(steps) == sorted([(mine - last,) * 2] * (mine - last) + [(last,) * 2] * last)
        assert all([index % 3 for _, index in share if index // 3 == sky] == [0, 1, 2] for sky in places)
    together = [index for share in shares for _, index in share]
    assert len(set(together)) == len(together)


def test_it_goes_on_among_samples_of_the_same_skies():
    sampler = TrainingSampler(12, seed=1, epoch=3, start=5, repeats=2, at_once=3)
    assert list(sampler) == order(12, 3, repeats=2, at_once=3)[5:]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_takes_each_simulation_exactly_once(world_size):
    shares = [EvaluationSampler(5, rank, world_size) for rank in range(world_size)]
    assert sorted(index for share in shares for index in share) == list(range(5))
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]
    assert all(isinstance(index, int) for share in shares for index in share)


def test_the_order_does_not_touch_the_global_state():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    order(10)
    assert np.array_equal(np.random.get_state()[1], before)
