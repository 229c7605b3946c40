"""The command `cmb-lightning`: which of its commands runs, and how failures are told."""

import logging
import signal
import sys
from pathlib import Path
from typing import NoReturn

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from cmb_lightning.cleaning.classical_task import ClassicalTask
from cmb_lightning.cleaning.scored import ScoredTask
from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.commands import CleaningCLI
from cmb_lightning.console import quiet
from cmb_lightning.data.tensorfile import BadFile
from cmb_lightning.data.work import SimulationError
from cmb_lightning.errors import ConfigError
from cmb_lightning.memory import keep_freed_memory
from cmb_lightning.parser import Parser, condense
from cmb_lightning.stopping import StopWhenTold, leave
from cmb_lightning.trainer import Trainer
from cmb_lightning.trust import limit_imports

log = logging.getLogger(__name__)
_LOADER = "a process that loads data was killed, perhaps for its memory: lower data.init_args.num_workers"


def chosen_task(words: list[str]) -> tuple[type[ScoredTask], frozenset[str]]:
    """The class of the model that the key `task` names, on the command line or in a configuration; the last one counts.

    It is looked for before all else is parsed, since what keys `model` has depends on it.

    Returns:
        The class, and the configurations before the one that names it: their `model` is of another class.

    Raises:
        ConfigError: There is no such class.
    """
    name, read, before = CleaningTask.__name__, [], frozenset()
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
            if not isinstance(tree, dict):
                continue
            if str(tree.get("task", name)) != name:
                name, before = str(tree["task"]), frozenset(read)
            read.append(value)
    known: dict[str, type[ScoredTask]] = {task.__name__: task for task in (CleaningTask, ClassicalTask)}
    if name not in known:
        raise ConfigError(f"task: there is no {name!r}; give {' or '.join(known)}.")
    return known[name], before


def _end_without(lost: str, error: Exception) -> NoReturn:
    """End this process, which cannot go on without another one that it has lost."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or torch raises an error here as further ones end
    log.error("%s", error, exc_info=error)
    print(f"cmb-lightning: {lost}.", file=sys.stderr)
    sys.exit(1)


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
        task, before = chosen_task(words)
        CleaningCLI(
            task,
            L.LightningDataModule,
            subclass_mode_data=True,
            trainer_class=Trainer,
            parser_class=type("TaskParser", (Parser,), {"without_model": before}),
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
    except (ConnectionResetError, EOFError) as error:  # as it is killed while it hands over a batch
        _end_without(_LOADER, error)
    except (ConfigError, BadFile, SimulationError, MisconfigurationException, OSError, FloatingPointError) as error:
        log.error("%s", error, exc_info=error.__cause__)
        if isinstance(error, SimulationError) and not isinstance(error.__cause__, ValueError | OSError | None):
            raise  # a mistake in the program that simulates
        print(f"cmb-lightning: {condense(str(error))}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if isinstance(error.__context__, SystemExit):  # told to end before there was anything to tear down
            sys.exit(error.__context__.code)
        if "gloo" in str(error) or isinstance(error, torch.distributed.DistError):
            _end_without("another process of this command has ended; it says why", error)
        elif str(error).startswith("DataLoader worker"):
            _end_without(_LOADER, error)
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as leaving:
        sys.exit(130 if isinstance(leaving.__context__, KeyboardInterrupt) else leaving.code)  # Lightning says 1
    else:
        # Gloo's threads, left alone, now and then abort a process as it ends.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
