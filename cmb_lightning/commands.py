"""The commands fit, validate, test, predict and simulate: Lightning's, in the folder of a run."""

import sys
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import cmb_lightning.networks  # noqa: F401  makes class names known without their module
from cmb_lightning.callbacks import ScaledAverages, check_callbacks
from cmb_lightning.checkpointing import BestCheckpoint, EndCheckpoint, EpochCheckpoint, WholeCheckpointIO
from cmb_lightning.chosen_checkpoint import checkpoint_and_step, wanted_checkpoint
from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.console import ProgressBar, tell
from cmb_lightning.data.observations import ObservationsDataModule  # noqa: F401
from cmb_lightning.data.reference_module import ReferenceDataModule  # noqa: F401
from cmb_lightning.data.sky_module import SkyDataModule  # noqa: F401
from cmb_lightning.data.spectrum_module import SpectrumDataModule  # noqa: F401
from cmb_lightning.errors import ConfigError
from cmb_lightning.parser import reason
from cmb_lightning.precision import avoid_slow_bf16
from cmb_lightning.results.callbacks import FigureLogger
from cmb_lightning.results.tables import print_scores, region_text, write_parts, write_scores
from cmb_lightning.results.writer import PredictionWriter
from cmb_lightning.run import RunFolder
from cmb_lightning.stopping import end_others
from cmb_lightning.trust import Trust


class CleaningCLI(LightningCLI):
    """LightningCLI with run folders: resume, refusal of a changed configuration, records and the final table."""

    run_folder: RunFolder
    resolved: str

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands, and `simulate`."""
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"},
            "validate": {"model", "dataloaders", "datamodule"},
            "test": {"model", "dataloaders", "datamodule"},
            "predict": {"model", "datamodule"},
            "simulate": {"model", "datamodule"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's folder and the callbacks, and tell the model what the maps look like."""
        parser.usage = "%(prog)s --config CONFIG [--KEY VALUE ...]"  # and not every key, which are explained below it
        parser.add_argument("--run", type=str, default="runs/default", help="Folder of this run, all it leaves behind.")
        parser.add_argument("--trust", action=Trust)
        parser.add_argument(
            "--task",
            type=str,
            default=CleaningTask.__name__,
            help="Class of the model: CleaningTask for networks, ClassicalTask for methods without one.",
        )
        parser.add_lightning_class_args(EpochCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.filename": "epoch{epoch:04d}",
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.save_last": True,
                "checkpoint.save_on_train_epoch_end": True,  # also after epochs without validation
                "checkpoint.enable_version_counter": False,
            }
        )
        parser.add_lightning_class_args(FigureLogger, "figures")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.link_arguments("data.layout", "model.layout", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Check the configuration against the run's folder."""
        config = self.config[self.subcommand]
        if "trust" in config:
            raise ConfigError("trust: a configuration cannot say this; give --trust on the command line.")
        self.run_folder = RunFolder(config["run"])
        if config["checkpoint"]["dirpath"] is None:
            config["checkpoint"]["dirpath"] = str(self.run_folder.checkpoints)
        if config["trainer"]["fast_dev_run"]:
            config["checkpoint"]["save_last"] = False  # Lightning would, over that of the run
        parser = self._parser(self.subcommand)
        text = self.resolved = parser.dump(config, skip_validation=True)
        defaults = parser.dump(parser.get_defaults(skip_validation=True), skip_validation=True)
        if not config["trainer"]["fast_dev_run"] and self.subcommand != "simulate":
            self.run_folder.check_config(text, defaults, training=self.subcommand == "fit")

    def instantiate_classes(self) -> None:
        """Make data, model and trainer, then the record of this command: what cannot work leaves nothing behind."""
        try:
            super().instantiate_classes()
            if self.subcommand == "fit":
                check_callbacks(self.trainer, self.model.logged())
        except (ValueError, FileNotFoundError, MisconfigurationException) as error:
            raise ConfigError(reason(error)) from error
        if rank_zero_only.rank == 0:
            fast = self.config[self.subcommand]["trainer"]["fast_dev_run"]  # is no part of the run that it tries
            self.run_folder.begin("fast_dev_run" if fast else self.subcommand, self.resolved)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command, in all its processes or in none."""
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            end_others(self.trainer)
            raise

    def _parse_ckpt_path(self) -> None:
        """Take nothing from a checkpoint into the configuration."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer, with all its output in the run's folder."""
        config = self.config_init[self.subcommand]["trainer"]
        root = str(self.run_folder.path)
        kwargs["default_root_dir"] = root
        if self.subcommand != "fit":
            kwargs["logger"] = False  # scores of other commands are no points on the curves of the training
        elif config["logger"] in (None, True):
            kwargs["logger"] = self._board()
        callbacks = list(config["callbacks"] or [])
        if config["enable_progress_bar"] is not False and sys.stderr.isatty():
            callbacks.append(ProgressBar(leave=True))
        elif config["enable_progress_bar"] is None:
            kwargs["enable_progress_bar"] = False
        if kwargs.get("logger") and not config["fast_dev_run"]:
            callbacks.append(LearningRateMonitor("step"))
        if self.subcommand == "fit":
            callbacks = [EndCheckpoint(), ScaledAverages(), *callbacks]
            if self.config_init["fit"]["checkpoint"].monitor is None:
                callbacks.append(BestCheckpoint())
        kwargs["callbacks"] = callbacks
        kwargs["plugins"] = [*(config["plugins"] or []), WholeCheckpointIO()]
        if self.subcommand == "simulate":
            kwargs |= {"accelerator": "cpu", "devices": 1, "strategy": "auto", "num_nodes": 1, "logger": False}
        trainer = super().instantiate_trainer(**kwargs)
        if self.model.trains and self.subcommand != "simulate" and avoid_slow_bf16(trainer):
            tell("trainer.precision: this processor is slow in bf16-mixed; the network computes in float32.")
        return trainer

    def _board(self, purge_step: int | None = None) -> TensorBoardLogger:
        """The run's TensorBoard; what it has from a step on is no longer shown, as a resumed training does it again."""
        return TensorBoardLogger(
            self.run_folder.path, name="", version="tensorboard", default_hp_metric=False, purge_step=purge_step
        )

    def fit(self, **kwargs: Any) -> None:
        """Train, from the run's last checkpoint where there is one."""
        if not self.model.trains:
            raise ConfigError(f"model: {type(self.model).__name__} has nothing to train; use test or predict.")
        saved = not self.trainer.fast_dev_run and self.run_folder.saved()
        wanted = self.trainer.max_epochs
        done = self.run_folder.finished_epochs()
        if saved and wanted is not None and 0 <= wanted <= done:
            tell(f"{self.run_folder.path} is finished after {done} epochs; raise trainer.max_epochs to train on.")
            return
        if saved or kwargs.get("ckpt_path") is not None:
            kwargs["ckpt_path"], step = checkpoint_and_step(
                kwargs.get("ckpt_path"), self.run_folder, self.model, self.datamodule, training=True
            )
            tell(f"Going on from {kwargs['ckpt_path']}, step {step}.")
            if saved and self.config_init[self.subcommand]["trainer"]["logger"] in (None, True):
                self.trainer.loggers = [self._board(step)]
        self.trainer.fit(**kwargs)
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run and not self.trainer.interrupted:
            epochs = self.trainer.current_epoch
            self.run_folder.finish_fit(epochs)
            tell(f"Trained {epochs} epochs. TensorBoard: tensorboard --logdir {self.run_folder.path}")

    def validate(self, **kwargs: Any) -> None:
        """Score the validation split."""
        self._score(self.trainer.validate, kwargs)

    def test(self, **kwargs: Any) -> None:
        """Score the splits in data.run_inference_on and print the table."""
        self._score(self.trainer.test, kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Write cleaned maps of the splits in data.run_inference_on."""
        if kwargs.get("epochs") is None:
            kwargs["ckpt_path"] = wanted_checkpoint(
                kwargs.get("ckpt_path"), self.run_folder, self.model, self.datamodule
            )
        self.trainer.predict(**kwargs)
        writers = [callback for callback in self.trainer.callbacks if isinstance(callback, PredictionWriter)]
        tell(f"Cleaned maps: {writers[0].summary()}")

    def _score(self, run: Any, kwargs: dict[str, Any]) -> None:
        kwargs["ckpt_path"] = wanted_checkpoint(kwargs.get("ckpt_path"), self.run_folder, self.model, self.datamodule)
        run(**kwargs | {"verbose": False})
        if self.trainer.is_global_zero:
            print_scores(self.model.scores, self.model.calibration)
            paths = write_scores(self.model.scores, self.run_folder.path / self.subcommand, self.model.calibration)
            if self.model.parts:
                paths.append(write_parts(self.model.parts, self.run_folder.path / self.subcommand))
            self._tell_floor()
            tell("Scores: " + ", ".join(map(str, paths)))

    def _tell_floor(self) -> None:
        """Say how far above the noise alone each split's RMSE is, over the full sky and above the latitude cut."""
        for (split, method), scores in self.model.scores.items():
            if method != self.model.method_name:
                continue
            for field in self.model.layout.scalars:
                if (floor := self.model.noise_floor(split, field=field)) is None:
                    continue
                ratios = (
                    f"{scores.of('RMSE', region, field).mean() / floor:.3f} ({region_text(region)})"
                    for region in scores.regions
                )
                place = split if field == "I" else f"{split}, {field}"
                tell(
                    f"{place}: noise alone, best combined, leaves {floor:.4g} µK; {method} / floor {', '.join(ratios)}"
                )
