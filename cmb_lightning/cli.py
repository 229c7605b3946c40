"""The command `cmb-lightning`: fit, validate, test, predict and simulate from one configuration."""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import cmb_lightning.networks  # noqa: F401  makes class names known without their module
from cmb_lightning.callbacks import ScaledAverages, check_callbacks
from cmb_lightning.checkpointing import (
    BestCheckpoint,
    EndCheckpoint,
    EpochCheckpoint,
    WholeCheckpointIO,
    read_checkpoint,
)
from cmb_lightning.cleaning.classical_task import ClassicalTask
from cmb_lightning.cleaning.scored import ScoredTask
from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.data.observations import ObservationsDataModule  # noqa: F401
from cmb_lightning.data.reference_module import ReferenceDataModule  # noqa: F401
from cmb_lightning.data.simulated import SimulatedDataModule
from cmb_lightning.data.sky_module import SkyDataModule  # noqa: F401
from cmb_lightning.data.spectrum_module import SpectrumDataModule  # noqa: F401
from cmb_lightning.data.tensorfile import BadFile
from cmb_lightning.data.work import SimulationError
from cmb_lightning.errors import ConfigError
from cmb_lightning.memory import keep_freed_memory
from cmb_lightning.parser import Parser, condense, reason
from cmb_lightning.results.callbacks import FigureLogger
from cmb_lightning.results.tables import print_scores, region_text, write_parts, write_scores
from cmb_lightning.results.writer import PredictionWriter
from cmb_lightning.run import RunFolder, hold_log
from cmb_lightning.stopping import StopWhenTold, end_others, leave
from cmb_lightning.trainer import Trainer
from cmb_lightning.trust import Trust, limit_imports

log = logging.getLogger(__name__)


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
        if config["trainer"]["fast_dev_run"] or self.subcommand == "simulate":
            pass
        elif self.subcommand == "fit":
            self.run_folder.check_config(text, defaults)
        else:
            self.run_folder.check_config(text, defaults, keys="model.")

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
            callbacks.append(RichProgressBar(leave=True))
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
        return super().instantiate_trainer(**kwargs)

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
            kwargs["ckpt_path"], step = self._checkpoint(kwargs.get("ckpt_path"))
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
            kwargs["ckpt_path"] = self._wanted_checkpoint(kwargs.get("ckpt_path"))
        self.trainer.predict(**kwargs)
        writers = [callback for callback in self.trainer.callbacks if isinstance(callback, PredictionWriter)]
        tell(f"Cleaned maps: {writers[0].summary()}")

    def _score(self, run: Any, kwargs: dict[str, Any]) -> None:
        kwargs["ckpt_path"] = self._wanted_checkpoint(kwargs.get("ckpt_path"))
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

    def _wanted_checkpoint(self, given: str | None) -> str | None:
        """The checkpoint to use, None for a model that needs none."""
        if self.model.trains:
            return self._checkpoint(given)[0]
        if given is not None:
            raise ConfigError(f"ckpt_path: {type(self.model).__name__} has no checkpoints; leave it out.")
        return None

    def _check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, and to train on from one on other data; say so in other commands."""
        self.model.check_checkpoint(checkpoint)
        state = checkpoint.get(type(self.datamodule).__qualname__)
        if isinstance(self.datamodule, SimulatedDataModule) and (differ := self.datamodule.differences(state)):
            listed = "; ".join(differ[:8]) + (f" and {len(differ) - 8} more" if len(differ) > 8 else "")
            if self.subcommand == "fit":
                raise ConfigError(f"ckpt_path: the checkpoint was trained on other data: {listed}; give another --run.")
            tell(f"The model was trained on other data than this configuration's: {listed}.")

    def _checkpoint(self, given: str | None) -> tuple[str, int]:
        """The checkpoint to use, whole and of this model: the one given, else the newest of the run that is whole.

        Returns:
            Its path, and the step of the training that it is of.
        """
        named = self.run_folder.checkpoints / "best.ckpt" if given == "best" else Path(given or "")
        paths = self.run_folder.saved() if given in (None, "last") else [named]
        if not paths:
            raise ConfigError(
                f"ckpt_path: {self.run_folder.path} holds no trained model; run fit first or name a checkpoint."
            )
        for path in paths:
            if not path.is_file():
                raise ConfigError(f"ckpt_path: there is no file {path}.")
            try:
                checkpoint = read_checkpoint(path)
            except ConfigError as error:
                if path == paths[-1]:
                    raise
                tell(f"{error} Trying the one before.")
            else:
                self._check_checkpoint(checkpoint)
                return str(path), checkpoint["global_step"]


def tell(message: str) -> None:
    """Say something to the user and the log, once over all processes."""
    if rank_zero_only.rank == 0:
        print(message)
        log.info(message)


def quiet() -> None:
    """Keep adverts and warnings that ask for nothing off the console."""
    hold_log()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*isinstance.treespec.*",
        ".*smaller than the logging interval.*",
        "Checkpoint directory .* exists and is not empty.*",
        # Those of a training, which other commands do not need.
        ".*callbacks used to create the checkpoint need to be provided.*",
        "You're using the WeightAveraging callback, but loading a checkpoint outside.*",
    ):
        warnings.filterwarnings("ignore", pattern)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


def chosen_task(words: list[str]) -> type[ScoredTask]:
    """The class of the model that the key `task` names, on the command line or in a configuration; the last one counts.

    It is looked for before all else is parsed, since what keys `model` has depends on it.

    Raises:
        ConfigError: There is no such class.
    """
    name = CleaningTask.__name__
    for word, following in zip(words, [*words[1:], ""], strict=False):
        key, given, value = word.partition("=")
        value = value if given else following
        if key == "--task":
            name = value
        elif key in ("--config", "-c"):
            try:
                tree = yaml.safe_load(Path(value).read_text())
            except (OSError, ValueError, yaml.YAMLError):
                continue  # the parser says what is wrong
            if isinstance(tree, dict):
                name = str(tree.get("task", name))
    known: dict[str, type[ScoredTask]] = {task.__name__: task for task in (CleaningTask, ClassicalTask)}
    if name not in known:
        raise ConfigError(f"task: there is no {name!r}; give {' or '.join(known)}.")
    return known[name]


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what a user can mend ends in one sentence and exit status 2.

    Args:
        arguments: Command line without the program's name; by default the process's own.
    """
    quiet()
    keep_freed_memory()
    signal.signal(signal.SIGTERM, leave)
    words = sys.argv[1:] if arguments is None else arguments
    try:
        limit_imports(words)
        if words[:1] == ["compare"]:  # it takes runs, not a trainer and a model
            from cmb_lightning.compare_command import main as compare

            return compare(words[1:])
        if words[:1] == ["noise"]:
            from cmb_lightning.noise_command import main as noise

            return noise(words[1:])
        CleaningCLI(
            chosen_task(words),
            L.LightningDataModule,
            subclass_mode_data=True,
            trainer_class=Trainer,
            parser_class=Parser,
            trainer_defaults={
                "enable_model_summary": False,
                "log_every_n_steps": 10,
                "callbacks": StopWhenTold(),  # after those of the configuration
            },
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=arguments,
            parser_kwargs={
                "prog": "cmb-lightning",
                "description": "Learn to take the CMB out of the microwave sky. "
                "Two further commands have a --help of their own: compare sets runs and other maps side by side, noise "
                "learns a noise spectrum from maps.",
            },
        )
    except (ConfigError, BadFile, SimulationError, MisconfigurationException, OSError, FloatingPointError) as error:
        log.error("%s", error, exc_info=error.__cause__)
        if isinstance(error, SimulationError) and not isinstance(error.__cause__, ValueError | OSError | None):
            raise  # a mistake in the program that simulates
        print(f"cmb-lightning: {condense(str(error))}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if "gloo" in str(error) or isinstance(error, torch.distributed.DistError):
            why = "another process of this command has ended; it says why"
        elif str(error).startswith("DataLoader worker"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or torch raises it anew, here, as the other ones end
            why = "a process that loads data was killed, perhaps for its memory: lower data.init_args.num_workers"
        else:
            raise
        log.error("%s", error, exc_info=error)
        print(f"cmb-lightning: {why}.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as leaving:
        sys.exit(130 if isinstance(leaving.__context__, KeyboardInterrupt) else leaving.code)  # Lightning says 1
