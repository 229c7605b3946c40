"""A data module of toy simulations, a model that only notes what it was given, and runs of the two."""

import json
import os
import sys
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from cmb_lightning.data.datasets import FixedDataset, MixedDataset, Unprepared
from cmb_lightning.data.paths import PathTemplate
from cmb_lightning.data.simulated import SimulatedDataModule
from cmb_lightning.data.splits import Split, SplitData
from tests.data.fakes import LAYOUT, Toy, toy_cache

SPLITS = {"train": 7, "valid": 3, "test": 5}


class ToyModule(SimulatedDataModule):
    def __init__(
        self, root: Path, toy: Toy | None = None, num_workers: int = 0, batch_size: int = 2, repeats: int = 1
    ) -> None:
        toy = toy or Toy()
        data = {name: SplitData(toy_cache(root, toy, name), toy, Split(n)) for name, n in SPLITS.items()}
        path = PathTemplate("{root}/extremes.yaml", "extremes", optional=("root", "dataset"))
        super().__init__(LAYOUT, data, ("train",), 1, batch_size, num_workers, None, ["test"], path)
        self.repeats = repeats

    def training_dataset(self) -> MixedDataset:
        n_samples = 7 if self.repeats == 1 else 8
        arguments = self.splits["train"], 7, n_samples, self.seed, np.zeros(2), Unprepared()
        return MixedDataset(*arguments, repeats=self.repeats)

    def evaluation_dataset(self, split: str) -> FixedDataset:
        return FixedDataset(self.splits[split], self.n_used(split), Unprepared())


class Notebook(L.LightningModule):
    """Notes every batch: (epoch, indices, a number that depends on every pixel)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.notes: list[tuple] = []

    def training_step(self, batch, batch_idx):
        self.notes.append((self.current_epoch, batch["index"].tolist(), float(batch["inputs"].double().sum())))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        self.notes.append(("test", batch["index"].tolist(), batch["split"]))

    def predict_step(self, batch, batch_idx):
        self.notes.append(("predict", batch["index"].tolist(), batch["split"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Interrupt(L.Callback):
    """Ends the training after a step, as if it were killed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def trainer(folder: Path, epochs: int = 3, callbacks: tuple = (), **options) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(
        default_root_dir=folder, max_epochs=epochs, callbacks=list(callbacks), num_sanity_val_steps=0, **quiet | options
    )


def checkpoints(folder: Path, **when) -> ModelCheckpoint:
    return ModelCheckpoint(folder, "{step}", save_top_k=-1, save_last=True, **when)


def main(root: str, trouble: str) -> None:
    """One of two processes: each leaves its notes in a file."""
    toy = Toy(seed=1 + int(os.environ.get("LOCAL_RANK", 0))) if trouble == "other data" else Toy(trouble=trouble)
    model, data = Notebook(), ToyModule(Path(root), toy)
    runner = trainer(Path(root), epochs=2, devices=2, strategy="ddp", enable_checkpointing=False)
    runner.fit(model, data)
    runner.test(model, data, verbose=False)
    runner.predict(model, data, return_predictions=False)
    Path(root, f"notes{runner.global_rank}.json").write_text(json.dumps(model.notes))
    torch.distributed.destroy_process_group()  # as the command does


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
