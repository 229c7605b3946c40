"""Simulations as samples: mixed anew for training, as they are for evaluation."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import Mix, draw_mix
from cmb_lightning.data.reading import Read, add_up
from cmb_lightning.data.splits import SplitData
from cmb_lightning.data.symmetries import draw_symmetry, transform

COMPONENTS = ("cmb", "foregrounds", "noise")


class Preparation(Protocol):
    """What a method does with maps before its network sees them; picklable.

    Attributes:
        pixel_by_pixel: Whether each pixel is taken by itself, so that a patch of the sky needs no more than the patch.
    """

    pixel_by_pixel: bool = False

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        """A linear step, channel by channel, of maps [uK_CMB] of shape (channel, pixel), NESTED."""
        ...

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """The entries of a sample, from a mix of what `prepare` returned."""
        ...

    def finish_half(self, prepared: np.ndarray, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The same for one half of the data, beside what `prepare` made of all: by itself, unless it says so."""
        return self.finish(prepared)

    def target(self, maps: np.ndarray) -> np.ndarray:
        """The truth, shape (field, pixel), NESTED, as the method makes it: unchanged, unless it says otherwise."""
        return maps

    def fields(self, layout: Layout, rows: int) -> list[str]:
        """The field of each row of an entry that has so many, where E and B are in the places of Q and U.

        Raises:
            ValueError: The rows are neither the channels nor the fields.
        """
        if len(layout.fields) == 1:
            return list(layout.fields) * rows
        if rows == len(layout.fields):
            return list(layout.fields)
        if rows == len(layout.channels):
            return [channel.rpartition("_")[2] for channel in layout.channels]
        raise ValueError(f"{rows} rows are neither the {len(layout.channels)} channels nor the fields.")


class Unprepared(Preparation):
    """The maps as they are."""

    pixel_by_pixel = True

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        """The maps, unchanged."""
        return maps

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """`inputs`, the maps."""
        return {"inputs": prepared}


class PreparedParts:
    """The prepared components of a split's simulations, in memory that the workers of a DataLoader share.

    Args:
        data: The split.
        n_sims: How many simulations, from the first.
        preparation: Prepares them.
        n_threads: Threads that do so.
    """

    def __init__(self, data: SplitData, n_sims: int, preparation: Preparation, n_threads: int) -> None:
        self._parts: dict[str, torch.Tensor] = {}
        one = preparation.prepare(data.cache.read(0, ("cmb",))["cmb"])
        like = torch.from_numpy(one)
        for name in COMPONENTS:
            self._parts[name] = torch.empty((n_sims, *one.shape), dtype=like.dtype).share_memory_()

        def fill(index: int) -> None:
            for name, maps in data.cache.read(index, COMPONENTS).items():
                self._parts[name][index] = torch.from_numpy(preparation.prepare(maps))

        with ThreadPoolExecutor(n_threads) as executor:
            list(executor.map(fill, range(n_sims)))

    def empty(self, count: int) -> np.ndarray:
        """An array for so many prepared skies."""
        one = self._parts["cmb"][0].numpy()
        return np.empty((count, *one.shape), dtype=one.dtype)

    def mixed(self, mix: Mix, sky: np.ndarray, ranges: Sequence[tuple[int, int]] | None = None) -> np.ndarray:
        """The prepared sky of a mix, or ranges (first, end) of it, put into an array of shape (channel, ...)."""
        parts = {name: part.numpy() for name, part in self._parts.items()}

        def part(name: str, sim: int) -> Read:
            maps = parts[name][sim]
            return lambda out, channel, first: maps[channel, first : first + out.size]

        return add_up(sky, part, mix.cmb, mix.foregrounds, mix.noises(), mix.gain, ranges)

    @staticmethod
    def size(data: SplitData, n_sims: int, preparation: Preparation) -> int:
        """Bytes that the components of so many simulations take."""
        return len(COMPONENTS) * n_sims * preparation.prepare(data.cache.read(0, ("cmb",))["cmb"]).nbytes


class MixedDataset(Dataset):
    """Training samples: CMB i, foregrounds j, a sum of two noises for each channel and a new calibration error.

    A sample depends on (seed, epoch, index) alone, which is its key, and its sky on (seed, epoch, index // repeats).
    Its entries are those of the preparation, and `target` (field, pixel) and `index`. A sky is kept until the last of
    its samples or the next epoch, so that it is made once where they come in their order.

    Args:
        data: The split, complete.
        n_sims: How many of its simulations are mixed.
        n_samples: Samples in an epoch.
        seed: Seed of the mixing.
        gain_scatter: Standard deviation of the relative calibration error, shape (channel,).
        preparation: What the method does with the maps. It is linear and so may come before or after the mixing: before
            when `parts` are prepared.
        parts: The components; as on disk when None.
        symmetries: Turn and mirror each sample, as drawn by its key, after all else.
        repeats: Samples of each sky.
    """

    def __init__(
        self,
        data: SplitData,
        n_sims: int,
        n_samples: int,
        seed: int,
        gain_scatter: np.ndarray,
        preparation: Preparation,
        parts: PreparedParts | None = None,
        symmetries: bool = False,
        repeats: int = 1,
    ) -> None:
        self._data, self._n_sims, self._n_samples, self._seed = data, n_sims, n_samples, seed
        self._symmetries, self._repeats = symmetries, repeats
        self._kept: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self._scatter, self._preparation = gain_scatter, preparation
        self._parts = parts
        names = [channel.rpartition("_")[0] for channel in data.cache.layout.channels]
        self._bands = np.unique(names, return_inverse=True)[1]
        # Q and U may become E and B together before they are mixed.
        rows = {channel: row for row, channel in enumerate(data.cache.layout.channels)}
        q_of = [channel[:-1] + "Q" if channel.endswith("_U") else channel for channel in rows]
        self._noise_of = np.array([rows[channel] for channel in q_of])

    def __len__(self) -> int:
        return self._n_samples

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict[str, Any]]:
        """Make all samples of a batch, as a DataLoader asks for them; their skies are the rows of one array."""
        epochs = {epoch for epoch, _ in keys}
        self._kept = {drawn: maps for drawn, maps in self._kept.items() if drawn[0] in epochs}
        return [self._sample(key, sky) for key, sky in zip(keys, self._empty(len(keys)), strict=True)]

    def _empty(self, count: int) -> np.ndarray:
        return (self._parts or self._data.cache).empty(count)

    def _sample(self, key: tuple[int, int], sky: np.ndarray) -> dict[str, Any]:
        """Make one sample, with an array for its sky."""
        maps = self._maps(key, sky)
        if self._symmetries:
            symmetry = draw_symmetry(self._seed, *key)
            maps = transform(maps, symmetry, partial(self._preparation.fields, self._data.cache.layout))
        return {**maps, "index": np.int64(key[1])}

    def _maps(self, key: tuple[int, int], sky: np.ndarray) -> dict[str, np.ndarray]:
        """The entries and the target of the sample's sky, new or kept."""
        drawn = self._drawn(key)
        maps = self._kept.pop(drawn, None)
        if maps is None:
            mix = self._mix(key)
            maps = self._entries(mix, sky)
            maps["target"] = self._preparation.target(self._data.cache.read(mix.cmb, ("target",))["target"])
        if (key[1] + 1) % self._repeats:  # copies: a batch can be of the arrays themselves, and may be changed
            self._kept[drawn] = {name: value.copy() for name, value in maps.items()}
        return maps

    def _drawn(self, key: tuple[int, int]) -> tuple[int, int]:
        """What the sample's sky is drawn by."""
        return key[0], key[1] // self._repeats

    def _mix(self, key: tuple[int, int]) -> Mix:
        fixed = self._n_sims, self._bands, self._scatter, self._noise_of
        return draw_mix(self._seed, *self._drawn(key), *fixed, in_epoch=self._n_samples // self._repeats)

    def _entries(self, mix: Mix, sky: np.ndarray, ranges: Sequence[tuple[int, int]] | None = None) -> dict[str, Any]:
        """What the method makes of a mix, or of ranges (first, end) of its pixels, with an array for the sky."""
        if self._parts is None:
            prepared = self._preparation.prepare(self._data.cache.mixed(mix, sky, ranges))
        else:
            prepared = self._parts.mixed(mix, sky, ranges)
        return self._preparation.finish(prepared)


class FixedDataset(Dataset):
    """The simulations of a split as they are.

    Entries are those of the preparation, `observed` (channel, pixel), `target` (field, pixel), `index` and `split`.

    Args:
        data: The split, complete.
        n_sims: How many of its simulations, from the first.
        preparation: What the method does with the maps.
        keep_bytes: Memory for keeping samples once they are made.
    """

    def __init__(self, data: SplitData, n_sims: int, preparation: Preparation, keep_bytes: int = 0) -> None:
        self._data, self._n_sims, self._preparation = data, n_sims, preparation
        self._keep_bytes = keep_bytes
        self._kept: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return self._n_sims

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self._kept:
            return self._kept[index]
        sample = self._sample(index, self._data.cache.empty(1)[0])
        size = sum(value.nbytes for value in sample.values() if isinstance(value, np.ndarray))
        if size * self._n_sims <= self._keep_bytes:
            self._kept[index] = sample
        return sample

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Make all samples of a batch, as a DataLoader asks for them; skies that are not kept are rows of one array."""
        if self._keep_bytes:
            return [self[index] for index in indices]
        skies = self._data.cache.empty(len(indices))
        return [self._sample(index, sky) for index, sky in zip(indices, skies, strict=True)]

    def _sample(self, index: int, sky: np.ndarray) -> dict[str, Any]:
        """Make one sample, with an array for its sky."""
        observed, target = self._data.cache.observed(index, sky)
        sample: dict[str, Any] = self._preparation.finish(self._preparation.prepare(observed))
        target = self._preparation.target(target)
        return sample | {"target": target, "observed": observed, "index": np.int64(index), "split": self._data.name}


class WithHalves(FixedDataset):
    """Each simulation three times in a row: as it is, then as two halves of the data, whose noise is independent.

    A further entry, `half`, is 0, 1 or 2. The halves' noise is the simulation's plus and minus its `difference`.
    """

    def __len__(self) -> int:
        return 3 * self._n_sims

    def _sample(self, index: int, sky: np.ndarray) -> dict[str, Any]:
        sim, half = divmod(index, 3)
        cache = self._data.cache
        observed, _ = cache.observed(sim, sky)
        prepared = self._preparation.prepare(observed)
        if half:
            difference = (1, -1)[half - 1] * cache.read(sim, ("difference",))["difference"]
            observed, whole = observed + difference, prepared
            sample: dict[str, Any] = self._preparation.finish_half(self._preparation.prepare(observed), whole)
        else:
            sample = self._preparation.finish(prepared)
        place = {"index": np.int64(sim), "half": np.int64(half), "split": self._data.name}
        return sample | {"observed": observed} | place
