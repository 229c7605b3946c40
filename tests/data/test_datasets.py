import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader

from cmb_lightning.data.batches import collate
from cmb_lightning.data.datasets import (
    FixedDataset,
    MixedDataset,
    Preparation,
    PreparedParts,
    Unprepared,
    WithHalves,
)
from cmb_lightning.data.generation import make_split
from cmb_lightning.data.mixing import draw_mix, observe
from cmb_lightning.data.sampler import TrainingSampler
from cmb_lightning.data.splits import Split, SplitData
from cmb_lightning.data.symmetries import draw_symmetry
from tests.data.fakes import Toy, toy_cache

SCATTER = np.array([0.01, 0.02])


class Doubled(Preparation):
    """A linear step to another shape and type, and a finish that is not linear."""

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        return (2 * maps[:, ::2] + 2j * maps[:, 1::2]).astype(np.complex64)

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        return {"inputs": np.abs(prepared), "mean": prepared.real.mean(axis=0, keepdims=True)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cache = toy_cache(tmp_path_factory.mktemp("cache"), Toy())
    make_split(cache, Toy(), 5)
    return SplitData(cache, Toy(), Split(5))


def mixed(data, preparation=None, prepared=False):
    preparation = preparation or Unprepared()
    parts = PreparedParts(data, 5, preparation, n_threads=2) if prepared else None
    return MixedDataset(data, 5, 10, 7, SCATTER, preparation, parts)


def test_a_training_sample_is_the_mix_of_its_key(data):
    sims = [data[index] for index in range(5)]
    for key in [(0, 0), (3, 8)]:
        sample = mixed(data)[key]
        mix = draw_mix(7, *key, 5, np.array([1, 0]), SCATTER)
        assert mix.cmb == key[1] % 5
        pairs = [[sims[index]["noise"][c] for index in mix.noise[c]] for c in range(2)]
        noise = np.stack([weights @ pair for weights, pair in zip(mix.weights, pairs, strict=True)])
        expected = (1 + mix.gain[:, None]) * (sims[mix.cmb]["cmb"] + sims[mix.foregrounds]["foregrounds"]) + noise
        assert np.allclose(sample["inputs"], expected, atol=1e-6)
        assert np.array_equal(sample["target"], sims[mix.cmb]["target"])
        assert sample["index"] == key[1]


def test_samples_repeat_to_the_bit_and_differ_between_epochs(data):
    dataset = mixed(data)
    assert np.array_equal(dataset[0, 3]["inputs"], mixed(data)[0, 3]["inputs"])
    assert not np.array_equal(dataset[0, 3]["inputs"], dataset[1, 3]["inputs"])
    assert len(dataset) == 10


def test_preparing_before_or_after_mixing_is_the_same(data):
    kept, anew = mixed(data, Doubled(), prepared=True), mixed(data, Doubled())
    for key in [(0, 1), (2, 9)]:
        for name in ("inputs", "mean", "target"):
            assert np.allclose(kept[key][name], anew[key][name], atol=1e-5)
    assert kept[0, 1]["inputs"].dtype == np.float32
    assert PreparedParts.size(data, 5, Doubled()) == 3 * 5 * 2 * 384 * 8


@pytest.mark.parametrize(("n_workers", "prepared"), [(1, False), (2, True)])
def test_loader_workers_give_the_same_samples(data, n_workers, prepared):
    dataset = mixed(data, Doubled(), prepared)

    def batches(workers):
        options = {"multiprocessing_context": "spawn"} if workers else {}
        loader = DataLoader(dataset, 4, sampler=TrainingSampler(10, 1, epoch=2), num_workers=workers, **options)
        return list(loader)

    here, there = batches(0), batches(n_workers)
    assert [b["index"].tolist() for b in there] == [b["index"].tolist() for b in here]
    assert all((a[name] == b[name]).all() for a, b in zip(here, there, strict=True) for name in a)


def test_evaluation_samples_are_the_simulations(data):
    dataset = FixedDataset(data, 4, Doubled(), keep_bytes=2**30)
    assert len(dataset) == 4
    sample = dataset[2]
    observed = observe(data[2])
    assert np.array_equal(sample["observed"], observed)
    assert np.array_equal(sample["inputs"], np.abs(Doubled().prepare(observed)))
    assert np.array_equal(sample["target"], data[2]["target"])
    assert (sample["index"], sample["split"]) == (2, "train")
    assert dataset[2] is sample  # kept
    assert FixedDataset(data, 4, Doubled())[2] is not FixedDataset(data, 4, Doubled())[2]


@pytest.mark.parametrize("keep_bytes", [0, 2**30])
def test_batches_are_their_samples_and_stay_apart(data, keep_bytes):
    for dataset, keys in (
        (FixedDataset(data, 4, Unprepared(), keep_bytes), [2, 0, 1]),
        (mixed(data), [(0, 1), (2, 9)]),
        (mixed(data, prepared=True), [(0, 1), (2, 9)]),
    ):
        batch = collate(dataset.__getitems__(keys))
        batch["inputs"] += 1  # whatever a network does to its input
        for row, key in enumerate(keys):
            assert np.array_equal(batch["inputs"][row].numpy(), dataset[key]["inputs"] + 1)
            if "observed" in batch:
                assert np.array_equal(batch["observed"][row].numpy(), observe(data[key]))


def test_a_split_gives_its_simulations(data):
    sims = list(data)
    assert [sim["index"] for sim in sims] == list(range(5)) and len(data) == 5
    assert np.array_equal(sims[-1]["cmb"], data[-1]["cmb"])
    with pytest.raises(IndexError):
        data[5]


def test_datasets_are_small_when_pickled(data):
    assert len(pickle.dumps(mixed(data, Doubled()))) < 20_000


def test_symmetries_move_all_maps_of_a_sample_alike(data):
    plain, moved = mixed(data), MixedDataset(data, 5, 10, 7, SCATTER, Unprepared(), symmetries=True)
    for key in [(0, 0), (3, 8), (1, 2)]:
        symmetry = draw_symmetry(7, *key)
        for name in ("inputs", "target"):
            assert np.array_equal(moved[key][name], symmetry(plain[key][name])), name
        assert moved[key]["index"] == key[1]


def repeated(data, preparation=None, repeats=3, **options):
    return MixedDataset(data, 5, 12, 7, SCATTER, preparation or Unprepared(), repeats=repeats, **options)


def test_samples_of_a_sky_are_alike_and_one_of_the_next_is_not(data):
    dataset = repeated(data)
    first, again, other = dataset[1, 3], dataset[1, 5], dataset[1, 6]
    assert np.array_equal(first["inputs"], again["inputs"]) and np.array_equal(first["target"], again["target"])
    assert not np.array_equal(first["inputs"], other["inputs"])
    assert (first["index"], again["index"]) == (3, 5)
    assert np.array_equal(first["inputs"], MixedDataset(data, 5, 4, 7, SCATTER, Unprepared())[1, 1]["inputs"])


@pytest.mark.parametrize("preparation", [Unprepared(), Doubled()])
def test_a_sky_is_made_once_whatever_is_done_to_batches_of_it(data, monkeypatch, preparation):
    made = []
    finish = type(preparation).finish
    monkeypatch.setattr(type(preparation), "finish", lambda self, maps: made.append(0) or finish(self, maps))
    dataset, alone = repeated(data, preparation), repeated(data, preparation)
    sampler = TrainingSampler(12, 1, repeats=3, at_once=2)
    for batch in DataLoader(dataset, 2, sampler=sampler, collate_fn=collate):
        count = len(made)
        for row, index in enumerate(batch["index"].tolist()):
            expected = alone[0, index]
            assert all(np.array_equal(batch[name][row], expected[name]) for name in expected)
        del made[count:]
        for name in ("inputs", "target"):
            batch[name] *= 0
    assert len(made) == 4 and not dataset._kept
    dataset[0, 0], dataset[1, 0]
    assert list(dataset._kept) == [(1, 0)]  # what an epoch has left over goes with it


def test_a_sky_shown_again_is_turned_another_way(data):
    dataset, plain = repeated(data, symmetries=True), repeated(data)
    for index in range(3):
        shown, symmetry = dataset[0, index], draw_symmetry(7, 0, index)
        assert np.array_equal(shown["inputs"], symmetry(plain[0, index]["inputs"]))
    assert len({draw_symmetry(7, 0, index) for index in range(3)}) > 1


class InHalves(Toy):
    """Also says how the noise of two halves of the data differs from that of all."""

    def simulate(self, split: str, index: int) -> dict[str, np.ndarray]:
        maps = super().simulate(split, index)
        rng = np.random.default_rng(index)
        return maps | {"difference": rng.standard_normal(maps["noise"].shape).astype(np.float32)}


def test_halves_average_to_the_whole_and_have_noise_of_their_own(tmp_path):
    cache = toy_cache(tmp_path, InHalves())
    make_split(cache, InHalves(), 2)
    split = SplitData(cache, InHalves(), Split(2))
    assert split.has_halves
    found = WithHalves(split, 2, Unprepared())
    places = [(int(sample["index"]), int(sample["half"])) for sample in map(found.__getitem__, range(len(found)))]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    whole, *halves = (found[k]["inputs"] for k in (3, 4, 5))
    np.testing.assert_array_equal(whole, FixedDataset(split, 2, Unprepared())[1]["inputs"])
    np.testing.assert_allclose((halves[0] + halves[1]) / 2, whole, atol=1e-5)
    noises = [half - whole + split[1]["noise"] for half in halves]
    assert [noise.std() for noise in noises] == pytest.approx([np.sqrt(2)] * 2, rel=0.05)
    assert abs(np.mean(noises[0] * noises[1])) < 0.15  # 5 sigma
