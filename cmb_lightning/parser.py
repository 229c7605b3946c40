"""The parser of the command line, whose complaints are one line that names the key and the value."""

import argparse
import os
import re
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from cmb_lightning.trust import refusal

UNION = "Does not validate against any of the Union subtypes"


class Parser(LightningArgumentParser):
    """LightningArgumentParser that says what is wrong in one line, without its usage or the types it tried.

    Attributes:
        without_model: Configurations whose key `model` is left out: it is of another task than the one that is chosen.
    """

    without_model: frozenset[str] = frozenset()

    def parse_path(self, path: str | os.PathLike, *arguments: Any, **options: Any) -> Namespace:
        """See `jsonargparse.ArgumentParser.parse_path`."""
        self._drops_model = str(path) in self.without_model
        return super().parse_path(path, *arguments, **options)

    def parse_string(self, content: str, *arguments: Any, **options: Any) -> Namespace:
        """See `jsonargparse.ArgumentParser.parse_string`."""
        if getattr(self, "_drops_model", False):
            content = yaml.safe_dump({key: value for key, value in yaml.safe_load(content).items() if key != "model"})
        return super().parse_string(content, *arguments, **options)

    def error(self, message: str, ex: Exception | None = None) -> None:
        """End with status 2; raise instead where jsonargparse tries a value and goes on."""
        if not self.exit_on_error:
            super().error(message, ex)
        command = getattr(ex, "subcommand_parser", self).prog.replace(" [options]", "")
        of_class = re.search(r'Parser key "(\w+)":[^"]*?given class_path \'(?:[\w.]*\.)?(\w+)\'', message)
        option = "--{}.help {}".format(*of_class.groups()) if of_class else "--help"
        self.exit(2, f"cmb-lightning: {condense(message)} (`{command} {option}` lists what there is)\n")


class WordParser(argparse.ArgumentParser):
    """The parser of a command that takes words and options in place of a configuration."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        self.exit(2, f"cmb-lightning: {self.prog.split()[-1]}: {message} (`{self.prog} --help` lists what there is)\n")


def reason(error: Exception) -> str:
    """What an error says, in one line; for a class in a configuration what its constructor said."""
    while str(error).startswith(UNION) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return condense(str(error))


def condense(message: str) -> str:
    """One line of jsonargparse's nested report on a value: its key, what was expected there, and the value.

    Args:
        message: The report; another text only becomes one line, the last one where a process that loads data sends its
            traceback.
    """
    if message.startswith("Caught ") and "Original Traceback" in message:
        message = message.strip().rpartition("\n")[2]
    keys: list[str] = []
    found: list[str] = []
    value, nested = None, False
    for line in message.splitlines():
        line = re.sub(r"Type .* expects a function or a callable class: ", "", line.strip().removeprefix("- "))
        line = re.sub(r"\. Got value: (?=Namespace\().*", "", line)
        if match := re.fullmatch(r'Parser key "(.*?)":(.*)', line):
            keys += [match[1]] if not found else []
            line, nested = match[2].strip(), True
        if line.startswith("Given value: "):
            value = value or line.removeprefix("Given value: ")
        elif line and not re.match(r"Problem with given class_path|Subtypes:|Errors:|Given value type:|" + UNION, line):
            found.append(line)
    # None is never what was meant, and a path was not meant where there is another reading.
    telling = [line for line in found if "NoneType" not in line and not line.startswith("Expected a path")] or found
    text = (" or " if nested else " ").join(map(_plain, telling))
    if denied := re.search(r"Importing '(.*?)' is not allowed", message):
        text = refusal(denied[1])
    if value and "got " not in text and text.startswith("expected"):
        text += f", got {value}"
    return f"{'.'.join(keys)}: {text}" if keys else text


def _plain(line: str) -> str:
    line = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", line).replace("typing.", "")
    line = re.sub(r"Expected an? dot import path string: (.*)", r"there is no class '\1'; give its import path", line)
    line = re.sub(r"\.+ Got value: ", ", got ", line)
    return re.sub(r"^Expected an? ", "expected ", line)
