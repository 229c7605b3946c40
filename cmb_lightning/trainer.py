"""The Lightning Trainer, with the commands it lacks."""

from pathlib import Path

import lightning as L

from cmb_lightning.data.mixing_module import MixingDataModule
from cmb_lightning.data.shard import Shard
from cmb_lightning.data.simulated import SimulatedDataModule
from cmb_lightning.errors import ConfigError


class Trainer(L.Trainer):
    """Lightning's Trainer, which can also simulate only and predict for several epochs."""

    def simulate(
        self,
        model: L.LightningModule | None = None,
        datamodule: L.LightningDataModule | None = None,
        shard: str | None = None,
        dask: str | None = None,
        verify: bool = False,
        full: bool = False,
        repair: bool = False,
        export: str | None = None,
    ) -> None:
        """Make the simulations of all splits, write their extremes, and stop; or check those that are there.

        Args:
            model: Not used; commands share one signature.
            datamodule: The data to make.
            shard: Which of several jobs this is that make the data together, such as 2/8 for the second of eight; auto
                takes it from the variables of a SLURM array, or of tasks started by SLURM, MPI or torchrun.
            dask: Address of a Dask scheduler, such as tcp://host:8786, whose workers simulate.
            verify: Make nothing, but name every simulation that cannot be used, and why.
            full: Verify or repair by the checksum of every map, in place of header and length only.
            repair: Verify, make again what is damaged, and compare it with what was sealed.
            export: Folder in which the simulations are then written as FITS files, named as CMB-ML names them.

        Raises:
            ConfigError: There is nothing to simulate, or `verify` found something wrong.
        """
        if not isinstance(datamodule, SimulatedDataModule):
            raise ConfigError(f"data: {type(datamodule).__name__} is not simulated; `simulate` has nothing to do.")
        if full and not repair:
            verify = True
        if verify or repair:
            faults = datamodule.repair(full) if repair else datamodule.verify(full)
            for fault in faults:
                print(f"{fault}{'; made again' if repair else ''}")
            if faults and not repair:
                raise ConfigError(
                    f"{len(faults)} simulations cannot be used; `simulate --repair true` makes them again."
                )
            return
        if export is not None and not isinstance(datamodule, MixingDataModule):
            raise ConfigError(f"export: the maps of {type(datamodule).__name__} are no skies; leave it out.")
        datamodule.make(Shard.parse(shard), dask)
        datamodule.setup("fit")
        datamodule.write_extremes()
        if export is not None:
            datamodule.export(Path(export))

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
