"""Which code a configuration may name: to name a class is to import its module, and that runs it."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import set_parsing_settings

from cmb_lightning.errors import ConfigError

TRUSTED = ("cmb_lightning", "torch", "torchmetrics", "lightning")
# Parts of these that load or start other code.
_DENIED = (
    "lightning.pytorch.cli",
    "torch.classes",
    "torch.distributed.elastic",
    "torch.distributed.launch",
    "torch.distributed.run",
    "torch.hub",
    "torch.jit",
    "torch.load",
    "torch.multiprocessing",
    "torch.ops",
    "torch.package",
    "torch.serialization",
    "torch.testing",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
)
_ANYTHING = (*sys.stdlib_module_names, "jsonargparse")
HELP = (
    "Package or module of your own, such as my_file, whose classes may be named. It runs when it is imported, so only "
    "the command line can say this, and no configuration. May be repeated."
)


class Trust(argparse.Action):
    """The option `--trust`, for parsers to know and to explain; `limit_imports` has heard it before they parse."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        options |= {"default": argparse.SUPPRESS, "metavar": "MODULE", "help": HELP}
        super().__init__(option_strings, dest, **options)

    def __call__(self, *_: Any) -> None:
        pass


def refusal(path: str) -> str:
    """Why a class path was not imported, and what to do about it."""
    package = path.partition(".")[0]
    remedy = f"; if it is your own, add --trust {package}" if package not in (*TRUSTED, *_ANYTHING) else ""
    return f"{path} is not imported: only {', '.join(TRUSTED)} may be named{remedy}"


def limit_imports(words: Sequence[str]) -> None:
    """Lets values name what is in trusted packages and in those after `--trust`, and nothing else, for this process.

    Args:
        words: The command line.

    Raises:
        ConfigError: If it trusts what is no name of a module, or a module of Python's own.
    """
    given = [word for before, word in zip(words, words[1:], strict=False) if before == "--trust"]
    given += [word.removeprefix("--trust=") for word in words if word.startswith("--trust=")]
    for name in given:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"trust: {name!r} is no name of a module; give one as in `import my_file`.")
        if name.partition(".")[0] in _ANYTHING:
            raise ConfigError(f"trust: {name!r} could run anything; name a module of your own that uses it.")
    set_parsing_settings(
        import_path_denylist=["*", *_DENIED],
        import_path_allowlist=[*TRUSTED, *given],
        instantiate_subclass_spec_in_any=False,
    )
