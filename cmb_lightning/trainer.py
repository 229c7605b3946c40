"""The Lightning Trainer, with the commands it lacks."""

from pathlib import Path

import lightning as L


class Trainer(L.Trainer):
    """Lightning's Trainer, which can also simulate only and predict for several epochs."""

    def simulate(self, model: L.LightningModule | None = None, datamodule: L.LightningDataModule | None = None) -> None:
        """Make and verify the simulations, write their extremes, and stop.

        Args:
            model: Not used; commands share one signature.
            datamodule: The data to make.
        """
        datamodule.prepare_data()
        datamodule.setup("fit")
        datamodule.write_extremes()

    def predict(
        self,
        model: L.LightningModule | None = None,
        datamodule: L.LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        epochs: list[int] | None = None,
    ) -> None:
        """Write cleaned maps of the splits in data.run_inference_on.

        Args:
            model: The model.
            datamodule: The data.
            ckpt_path: Checkpoint to use; by default the run's last one.
            epochs: Use the run's checkpoints of these epochs, one after the other, in place of one checkpoint.
        """
        folder = Path(self.default_root_dir) / "checkpoints"
        paths = [ckpt_path] if epochs is None else [folder / f"epoch{epoch:04d}.ckpt" for epoch in epochs]
        if missing := [str(path) for path in paths if path is not None and not Path(path).is_file()]:
            kept = ", ".join(sorted(path.stem for path in folder.glob("epoch*.ckpt"))) or "none"
            raise FileNotFoundError(f"No checkpoint {', '.join(missing)}: kept are {kept} (checkpoint.save_top_k).")
        for path in paths:
            super().predict(model, datamodule=datamodule, ckpt_path=path, return_predictions=False)
