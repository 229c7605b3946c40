"""From a spectrum to maps, to their extremes, to scaled maps and a model: the tutorial of CMB-ML."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.datasets import Preparation, Unprepared
from cmb_lightning.data.generation import Report
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import stream
from cmb_lightning.data.paths import PathTemplate, refuse_collisions
from cmb_lightning.data.shard import Shard
from cmb_lightning.data.simulated import SimulatedDataModule
from cmb_lightning.data.spectrum_maps import SpectrumMaps
from cmb_lightning.data.splits import Split, SplitData, check_cap, check_splits
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.spectra import FileSpectrum, Spectrum, save_spectrum
from cmb_lightning.sky.transforms import check_lmax, check_nside
from cmb_lightning.sky.units import parse

log = logging.getLogger(__name__)


@dataclass
class SpectrumSplit(Split):
    """A split of maps of one spectrum.

    Args:
        n_sims: Simulations to make.
        n_sims_cap: How many of them, the first ones, are used for inference; all when None.
        spectrum: Its own spectrum; that of the data set when None.
    """

    spectrum: Spectrum | None = None


class SpectrumDataModule(SimulatedDataModule):
    """Maps drawn from a spectrum, with white noise added for a model to take away.

    Args:
        splits: Splits by name; fit needs `train` and `valid`.
        spectrum: Spectrum of the maps.
        nside: HEALPix resolution, a power of two.
        lmax: Highest multipole; 2 nside when None.
        noise: White noise added to each pixel of the inputs, drawn anew in each epoch of training.
        seed: Seed of all random numbers.
        dataset: Name of the data set, a folder in the cache.
        root: Folder of the cache.
        run_inference_on: Splits for test and predict.
        n_sims_cap: How many simulations of each split are used for inference; all when None.
        batch_size: Maps in a batch.
        num_workers: Processes that load data; 0 for a thread of the training's own.
        n_workers: Processes that simulate; the cores given to the job when None.
        spectra: Where the spectrum of each split is saved.
        extremes: Where `simulate` writes the extremes of the maps, over all splits that have `train` and `valid` maps.

    Raises:
        ConfigError: A value cannot work.
    """

    def __init__(
        self,
        splits: dict[str, SpectrumSplit],
        spectrum: Spectrum,
        nside: int = 256,
        lmax: int | None = None,
        noise: str = "50 uK_CMB",
        seed: int = 0,
        dataset: str = "spectrum",
        root: Path = Path("cache"),
        run_inference_on: list[str] | None = None,
        n_sims_cap: int | None = None,
        batch_size: int = 4,
        num_workers: int = 0,
        n_workers: int | None = None,
        spectra: str = "{root}/{dataset}/spectrum_{split}.txt",
        extremes: str = "{root}/{dataset}/extremes.yaml",
    ) -> None:
        checked = check_splits(splits)
        check_cap(n_sims_cap)
        check_nside(nside)
        lmax = check_lmax(2 * nside if lmax is None else lmax, nside)
        sigma = float(parse(noise, "uK_CMB", "noise").value)
        if not sigma >= 0:
            raise ConfigError(f"noise: {noise} must be 0 or more.")
        if seed < 0:
            raise ConfigError(f"seed: {seed} must be 0 or more.")
        self._spectra_path = PathTemplate(spectra, "spectra", ("split",), ("root", "dataset"))
        extremes_path = PathTemplate(extremes, "extremes", optional=("root", "dataset"))
        refuse_collisions({"spectra": self._spectra_path, "extremes": extremes_path})
        layout = Layout(nside, lmax, channels=("cmb_I",), fwhm=(0.0,), fields=("I",), target_fwhm=0.0)
        data = {}
        for name, split in checked.items():
            generator = SpectrumMaps(split.spectrum or spectrum, nside, lmax, seed)
            cache = SplitCache(root, dataset, name, generator.recipe(name), layout, tensors=("target",))
            data[name] = SplitData(cache, generator, split, n_sims_cap)
        super().__init__(
            layout,
            data,
            scaled_by=tuple(name for name in ("train", "valid") if name in data) or (next(iter(data)),),
            seed=seed,
            batch_size=batch_size,
            num_workers=num_workers,
            n_workers=n_workers,
            run_inference_on=run_inference_on or ["valid" if "valid" in data else next(iter(data))],
            extremes_path=extremes_path,
        )
        self._noise = sigma

    def _make(self, names: list[str], shard: Shard | None = None, cluster: str | None = None) -> list[Report]:
        reports = super()._make(names, shard, cluster)
        for name in names:
            path = self._spectra_path(root=self.root, dataset=self.dataset, split=name)
            cl = self.splits[name].generator.cl
            if not (path.is_file() and np.array_equal(FileSpectrum(str(path)).cl(self.layout.lmax), cl)):
                save_spectrum(path, cl)
        return reports

    def training_dataset(self) -> "NoisyMaps":
        """Maps with noise that depends on the epoch."""
        return NoisyMaps(self.splits["train"], self.n_sims("train"), self._noise, self.seed, self._preparation(False))

    def evaluation_dataset(self, split: str) -> "NoisyMaps":
        """Maps with noise that is always the same."""
        preparation = self._preparation(self._stage != "predict")
        return NoisyMaps(self.splits[split], self.n_used(split), self._noise, self.seed, preparation)

    def scaled_dataloader(self, split: str) -> DataLoader:
        """Loads the maps of a split scaled to 0 ... 1 by the extremes, shape (batch, 1, pixel); after `setup`."""
        low, high = self.scaling()["target"]
        return DataLoader(ScaledMaps(self.splits[split], float(low[0]), float(high[0])), batch_size=self.batch_size)

    def _preparation(self, scored: bool) -> Preparation:
        return Unprepared() if self.trainer is None else self.trainer.lightning_module.preparation(scored=scored)


class ScaledMaps(Dataset):
    """Maps of a split between 0 and 1.

    Args:
        data: The split.
        low: Value that becomes 0 [uK_CMB].
        high: Value that becomes 1 [uK_CMB].
    """

    def __init__(self, data: SplitData, low: float, high: float) -> None:
        self._data, self._low, self._width = data, np.float32(low), np.float32(high - low or 1.0)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> np.ndarray:
        return (self._data[index]["target"] - self._low) / self._width


class NoisyMaps(Dataset):
    """Maps of a split with white noise, and without it as the target.

    The noise depends on (seed, split, index), in training also on the epoch: the key there is (epoch, index).

    Args:
        data: The split, complete.
        n_sims: How many of its maps, from the first.
        noise: Standard deviation of the noise [uK_CMB per pixel].
        seed: Seed of the noise.
        preparation: What the method does with the maps.
    """

    def __init__(self, data: SplitData, n_sims: int, noise: float, seed: int, preparation: Preparation) -> None:
        self._data, self._n_sims, self._noise, self._seed = data, n_sims, np.float32(noise), seed
        self._preparation = preparation

    def __len__(self) -> int:
        return self._n_sims

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        training = isinstance(key, tuple)
        index = key[1] if training else key
        rng = stream(f"noise/{self._data.name}", self._seed, *(key if training else (key,)))
        target = self._data[index]["target"]
        observed = target + self._noise * rng.standard_normal(target.shape, dtype=np.float32)
        sample: dict[str, Any] = self._preparation.finish(self._preparation.prepare(observed))
        sample |= {"target": target, "index": np.int64(index)}
        return sample if training else {**sample, "observed": observed, "split": self._data.name}
