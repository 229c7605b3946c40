"""Training on patches: what a sample holds, what is read for it, and that it depends on its key alone."""

import numpy as np
import pytest

from cmb_lightning.data.datasets import MixedDataset, Preparation, PreparedParts, Unprepared
from cmb_lightning.data.generation import make_split
from cmb_lightning.data.patches import GAP, PatchDataset, places_in, ranges_of
from cmb_lightning.data.splits import Split, SplitData
from cmb_lightning.data.tensorfile import TensorFile
from cmb_lightning.sphere.patches import PatchGrid
from tests.data.fakes import Toy, toy_cache

SCATTER = np.array([0.01, 0.02])
GRID = PatchGrid(8, 4, 2)


class Sorted(Preparation):
    """A preparation that needs the whole sky, with an entry that is no map."""

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        return maps

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        return {"inputs": np.sort(prepared), "colours": prepared.mean(1)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cache = toy_cache(tmp_path_factory.mktemp("cache"), Toy())
    make_split(cache, Toy(), 5)
    return SplitData(cache, Toy(), Split(5))


def arguments(data, preparation=None, prepared=False):
    preparation = preparation or Unprepared()
    parts = PreparedParts(data, 5, preparation, n_threads=1) if prepared else None
    return data, 5, 40, 7, SCATTER, preparation, parts


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("preparation", [Unprepared(), Sorted()])
def test_a_sample_is_a_patch_of_the_whole_one(data, preparation, prepared):
    given = arguments(data, preparation, prepared)
    patches, whole = PatchDataset(GRID, *given), MixedDataset(*given)
    for key in [(0, 0), (1, 3), (5, 17), (2, 39)]:
        number = patches.patch(key)
        first, second = GRID.pixels(number)
        sample, sky = patches[key], whole[key]
        expected = (sky["inputs"][:, first.ravel()] + sky["inputs"][:, second.ravel()]) / 2
        assert np.allclose(sample["inputs"], expected, atol=1e-6)
        assert np.array_equal(sample["target"], sky["target"][:, GRID.inner(number).ravel()])
        assert sample["index"] == key[1]
        if "colours" in sky:
            assert np.array_equal(sample["colours"], sky["colours"])


def test_patches_are_chosen_anew_in_each_epoch_and_evenly_and_repeat_to_the_bit(data):
    dataset, again = PatchDataset(GRID, *arguments(data)), PatchDataset(GRID, *arguments(data))
    epochs = [[dataset.patch((epoch, index)) for index in range(40)] for epoch in range(100)]
    assert epochs == [[again.patch((epoch, index)) for index in range(40)] for epoch in range(100)]
    assert epochs[0] != epochs[1]
    counts = np.bincount(np.ravel(epochs), minlength=len(GRID))
    assert len(counts) == 48 and np.abs(counts - 4000 / 48).max() < 5 * np.sqrt(4000 / 48)
    for name, value in dataset[3, 8].items():
        assert np.array_equal(value, again[3, 8][name])


@pytest.mark.parametrize("preparation", [Unprepared(), Sorted()])
def test_patches_of_one_sky_are_cut_where_each_is_drawn(data, preparation):
    given = arguments(data, preparation)
    patches, whole = PatchDataset(GRID, *given, repeats=4), MixedDataset(*given, repeats=4)
    keys = [(2, index) for index in range(8, 12)]
    for key, sample in zip(keys, [patches.__getitems__([key])[0] for key in keys], strict=True):
        expected = whole[2, 8]["inputs"][:, GRID.inner(patches.patch(key)).ravel()]
        reach = sample["inputs"].reshape(2, GRID.reach, GRID.reach)
        assert np.array_equal(reach[:, 2:-2, 2:-2].reshape(2, -1), expected)
    assert len({patches.patch(key) for key in keys}) > 1


def test_the_samples_of_a_batch_are_those_of_their_keys(data):
    dataset = PatchDataset(GRID, *arguments(data))
    keys = [(0, 3), (0, 1), (0, 2)]
    for sample, key in zip(dataset.__getitems__(keys), keys, strict=True):
        assert np.array_equal(sample["inputs"], dataset[key]["inputs"])


def test_no_more_is_read_than_the_pages_of_a_patch(data, monkeypatch):
    """At nside 512 on the grid alone, and on files of nside 8 whose every page is counted."""
    grid = PatchGrid(512, 128, 16)
    for number in (0, 77, 191):
        pixels = np.unique(np.concatenate([part.ravel() for part in grid.pixels(number)]))
        read = sum(end - first for first, end in ranges_of(pixels))
        assert pixels.size <= read < 3 * pixels.size < 0.03 * 12 * 512**2
    monkeypatch.setattr("cmb_lightning.data.patches.GAP", 1)
    read = []
    pixels = TensorFile.pixels

    def counted(file, name):
        return lambda out, *where: read.append(out.size) or pixels(file, name)(out, *where)

    monkeypatch.setattr(TensorFile, "pixels", counted)
    dataset = PatchDataset(PatchGrid(8, 4, 0), *arguments(data))
    dataset[0, 0]
    assert sum(read) == 16 * 2 * 4  # pixels of a patch, of two channels of CMB, foregrounds and two noises


def test_ranges_hold_their_pixels_and_no_wide_gap():
    rng = np.random.default_rng(0)
    pixels = rng.permutation(np.concatenate([np.arange(100, 300), [299 + GAP], np.arange(5000, 5010), [9000, 9000]]))
    ranges = ranges_of(pixels)
    assert ranges == [(100, 300 + GAP), (5000, 5010), (9000, 9001)]
    held = np.concatenate([np.arange(first, end) for first, end in ranges])
    assert np.array_equal(held[places_in(ranges, pixels)], pixels)
