"""What data modules of simulations have in common: making what a stage needs, checking it, and loaders."""

import logging
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset

from cmb_lightning.data.agreement import check_agreement
from cmb_lightning.data.generation import Report, make_split, refuse_large
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.loaders import AheadLoader, make_loader
from cmb_lightning.data.paths import PathTemplate
from cmb_lightning.data.sampler import EvaluationSampler, TrainingSampler, training_position
from cmb_lightning.data.scaling import Extremes, joined_extremes, write_extremes
from cmb_lightning.data.shard import Shard
from cmb_lightning.data.splits import SplitData, choose_splits
from cmb_lightning.data.trained_on import differences, trained_on
from cmb_lightning.data.verify import Fault, repair, verify
from cmb_lightning.errors import ConfigError

log = logging.getLogger(__name__)


class SimulatedDataModule(L.LightningDataModule):
    """Makes the simulations that a stage needs, takes their extremes from headers, and loads them.

    Args:
        layout: What the maps look like.
        splits: The splits, by name in lower case.
        scaled_by: Splits whose extremes scale the maps.
        seed: Seed of the order of training.
        batch_size: Maps in a batch.
        num_workers: Processes that load data; 0 for a thread of the training's own.
        n_workers: Processes that simulate; the cores given to the job when None.
        run_inference_on: Splits for test and predict.
        extremes_path: Where the extremes are written beside the data.

    Attributes:
        layout: What the maps look like; known from the start.
        extremes: After `setup` for fit: extremes of the `inputs` and of the `target`.
        repeats: How many of an epoch's training samples are of the same sky.
    """

    repeats = 1

    def __init__(
        self,
        layout: Layout,
        splits: dict[str, SplitData],
        scaled_by: tuple[str, ...],
        seed: int,
        batch_size: int,
        num_workers: int,
        n_workers: int | None,
        run_inference_on: list[str],
        extremes_path: PathTemplate,
    ) -> None:
        super().__init__()
        self.prepare_data_per_node = False
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer maps than processes is no error
        if batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} must be at least 1.")
        if num_workers < 0:
            raise ConfigError(f"num_workers: {num_workers} must be 0 or more.")
        if n_workers is not None and n_workers < 1:
            raise ConfigError(f"n_workers: {n_workers} must be at least 1; leave it out to use the job's cores.")
        self.layout = layout
        self.splits = splits
        self.run_inference_on = choose_splits(run_inference_on, list(splits), "run_inference_on")
        self.extremes: dict[str, Extremes] | None = None
        self.seed, self.batch_size, self.num_workers, self.n_workers = seed, batch_size, num_workers, n_workers
        self._scaled_by, self._extremes_path = scaled_by, extremes_path
        self._position = (0, 0)  # epoch and batches of it that a resumed training has behind it

    # Which simulations a stage needs

    @property
    def inference_splits(self) -> list[str]:
        """Names of the splits behind the evaluation loaders, in the order of `dataloader_idx`."""
        return self.run_inference_on if self._stage in ("test", "predict") else ["valid"]

    @property
    def root(self) -> Path:
        """Folder of the cache."""
        return next(iter(self.splits.values())).cache.root

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return next(iter(self.splits.values())).cache.dataset

    @property
    def identity(self) -> dict[str, str]:
        """Name of each split's recipe: what its maps depend on."""
        return {name: data.cache.id for name, data in self.splits.items()}

    def n_sims(self, split: str) -> int:
        """How many simulations of a split are made: one of each in a `fast_dev_run`."""
        return 1 if self._fast_dev_run else self.splits[split].n_sims

    def n_used(self, split: str) -> int:
        """How many simulations of a split are used for inference."""
        return 1 if self._fast_dev_run else self.splits[split].n_used

    def training_parts(self, n_sims: int) -> Iterator[dict[str, np.ndarray]]:
        """The parts of the first training simulations, as they are stored."""
        return islice(self.splits["train"], min(n_sims, self.n_sims("train")))

    def scaling(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Smallest and largest values [uK_CMB] of the training's `inputs` (channel,) and `target` (field,).

        Raises:
            RuntimeError: There was no `setup` for fit.
        """
        if self.extremes is None:
            raise RuntimeError("The extremes are known after setup('fit') only.")
        return {name: extremes.arrays() for name, extremes in self.extremes.items()}

    # Making and checking everything

    def make(self, shard: Shard | None = None, cluster: str | None = None) -> list[Report]:
        """Makes what is missing of all splits, alone, as one of several jobs, or on a Dask cluster at an address."""
        return self._make(list(self.splits), shard, cluster)

    def verify(self, full: bool = False) -> list[Fault]:
        """What is wrong with the simulations of all splits; see `verify.verify`."""
        found = [verify(data.cache, data.n_sims, full, self.n_workers) for data in self.splits.values()]
        return [fault for faults in found for fault in faults]

    def repair(self, full: bool = False) -> list[Fault]:
        """Makes again what is wrong in any split, and returns what was; see `verify.repair`."""
        splits = self.splits.values()
        found = [repair(data.cache, data.generator, data.n_sims, full, self.n_workers) for data in splits]
        return [fault for faults in found for fault in faults]

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Makes the simulations that this stage needs and the cache lacks, on one process only."""
        self.prepare_splits(self._needed(self._stage))

    def prepare_splits(self, needed: list[str]) -> None:
        """Makes what the cache lacks of these splits, on one process while others may wait for it."""
        if self._world_size == 1:
            self._make(needed)
            return
        refuse_large([(self.splits[name].cache, self.n_sims(name)) for name in needed])
        try:
            self._make(needed)
        except Exception as error:
            # The other processes now fail in setup, and this one is ended before it can say why.
            print(f"cmb-lightning: {error}", file=sys.stderr, flush=True)
            raise

    def setup(self, stage: str | None = None) -> None:
        """Checks that what the stage needs is there, the same for all processes, and takes the extremes for fit.

        Only headers are read, and nothing is written into the cache.
        """
        needed = self._needed(stage)
        summaries = {name: self.splits[name].summary(self.n_sims(name)) for name in needed}
        seen = {name: (self.identity[name], self.n_sims(name), repr(found)) for name, found in summaries.items()}
        check_agreement(self.trainer, seen)
        if stage not in ("fit", None):
            return
        self.extremes = joined_extremes([summaries[name] for name in self._scaled_by], self.layout)
        for group, extremes in self.extremes.items():
            if constant := extremes.constant():
                log.warning("The %s %s are constant: they carry nothing.", group, ", ".join(constant))
        if self.trainer is not None and self.trainer.is_global_zero and not self._fast_dev_run:
            self.write_extremes(Path(self.trainer.default_root_dir) / "extremes.yaml")

    def write_extremes(self, path: Path | None = None) -> Path:
        """Writes the extremes as YAML with units, beside the data unless a path is given, and returns where."""
        path = path or self._extremes_path(root=self.root, dataset=self.dataset)
        write_extremes(path, self.extremes, {name: self.identity[name] for name in self._scaled_by})
        return path

    def state_dict(self) -> dict[str, Any]:
        """Where the training stands and what it learns from, for a checkpoint."""
        epoch, batches = training_position(self.trainer)
        return {"epoch": epoch, "batches": batches, "data": trained_on(self.splits)}

    def differences(self, state_dict: dict[str, Any] | None) -> list[str]:
        """How the data that a checkpoint was trained on differ from these; see `trained_on.differences`."""
        return differences(self.splits, (state_dict or {}).get("data", {}))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there; Lightning makes loaders before it restores its own count."""
        self._position = state_dict["epoch"], state_dict["batches"]

    def train_dataloader(self) -> DataLoader:
        """Loads training samples, from where the training stands."""
        epoch, batches = self._position
        dataset = self.training_dataset()
        start, at_once = batches * self.batch_size, max(1, self.num_workers) * self.batch_size
        sampler = TrainingSampler(
            len(dataset), self.seed, self._rank, self._world_size, epoch, start, self.repeats, at_once
        )
        if not len(sampler):
            skies = f"{len(dataset)} samples of {len(dataset) // self.repeats} skies"
            raise ConfigError(f"samples_per_epoch: {skies} are too few for {self._world_size} processes.")
        # The sampler goes on in the middle of an epoch; Lightning looks for that in the loader.
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
        return self._loader(dataset, sampler, AheadLoader)

    def val_dataloader(self) -> DataLoader:
        """Loads the validation split."""
        return self._evaluation_loader("valid")

    def test_dataloader(self) -> list[DataLoader]:
        """Loads the splits named by `run_inference_on`, one loader for each."""
        return [self._evaluation_loader(name) for name in self.run_inference_on]

    def predict_dataloader(self) -> list[DataLoader]:
        """Loads the splits named by `run_inference_on`, one loader for each."""
        return self.test_dataloader()

    # What a kind of data has of its own

    def training_dataset(self) -> Dataset:
        """The training samples, by (epoch, index)."""
        raise NotImplementedError

    def evaluation_dataset(self, split: str) -> Dataset:
        """The simulations of a split, by index."""
        raise NotImplementedError

    # Details

    @property
    def _stage(self) -> str | None:
        return None if self.trainer is None or self.trainer.state.fn is None else str(self.trainer.state.fn.value)

    @property
    def _fast_dev_run(self) -> bool:
        return self.trainer is not None and bool(self.trainer.fast_dev_run)

    @property
    def _rank(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size

    @property
    def _device_type(self) -> str:
        return "cpu" if self.trainer is None else self.trainer.strategy.root_device.type

    def _needed(self, stage: str | None) -> list[str]:
        if stage is None:
            return list(self.splits)
        names = {"fit": ["train", "valid"], "validate": ["valid"]}.get(stage, self.run_inference_on)
        return choose_splits(names, list(self.splits), "splits")

    def _make(self, names: list[str], shard: Shard | None = None, cluster: str | None = None) -> list[Report]:
        splits = {name: self.splits[name] for name in names}
        return [
            make_split(data.cache, data.generator, self.n_sims(name), self.n_workers, shard, cluster)
            for name, data in splits.items()
        ]

    def _evaluation_loader(self, split: str) -> DataLoader:
        dataset = self.evaluation_dataset(split)
        return self._loader(dataset, EvaluationSampler(len(dataset), self._rank, self._world_size))

    def _loader(
        self, dataset: Dataset, sampler: TrainingSampler | EvaluationSampler, kind: type[DataLoader] = DataLoader
    ) -> DataLoader:
        pinned = self._device_type == "cuda"  # from pinned memory a GPU takes a batch while it computes
        return make_loader(dataset, sampler, self.batch_size, self.num_workers, pinned, kind)
