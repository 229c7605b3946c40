"""The recipe of a split: everything its maps depend on, as canonical JSON, and the name that follows from it."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DIGITS = 12


def canonical(recipe: Mapping[str, Any]) -> str:
    """The recipe as JSON that is the same text for equal recipes: keys sorted, 1.0 written as 1.

    Numbers have twelve digits: what is computed, such as a unit's factor in a band, differs in the last of sixteen from
    one processor or library to the next, and data made on one machine shall be known on another.

    Raises:
        TypeError: A value is neither text, number, truth value, None, list nor dict.
        ValueError: A number is not finite.
    """
    return json.dumps(_plain(recipe, "recipe"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def recipe_id(recipe: Mapping[str, Any]) -> str:
    """The name of a recipe: 16 hexadecimal digits of the SHA-256 of its canonical form."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, by which a recipe refers to an input file whatever it is called."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differing_keys(recipe: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Dotted keys whose values differ between two recipes, such as `sky.foregrounds.0.amplitude`."""
    mine, theirs = _flat(_plain(recipe, "recipe")), _flat(_plain(other, "recipe"))
    return sorted(key for key in mine.keys() | theirs.keys() if mine.get(key, _ABSENT) != theirs.get(key, _ABSENT))


def differences(recipe: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between two recipes, a sentence fragment for each key: `seed: 1 here, 0 there`."""
    here, there = _flat(_plain(recipe, "recipe")), _flat(_plain(other, "recipe"))
    return [f"{key}: {here.get(key)!r} here, {there.get(key)!r} there" for key in differing_keys(recipe, other)]


def nearest(recipe: Mapping[str, Any], stored: Iterable[Path]) -> tuple[Path, list[str]] | None:
    """The stored recipe that differs in the fewest keys.

    Args:
        recipe: The recipe asked for.
        stored: `recipe.json` files; those that cannot be read are passed over.

    Returns:
        The file and the keys that differ, or None when there is none to compare with.
    """
    candidates = []
    for path in stored:
        try:
            keys = differing_keys(recipe, json.loads(path.read_text()))
        except (OSError, ValueError, AttributeError):
            continue
        candidates.append((len(keys), str(path), path, keys))
    return min(candidates)[2:] if candidates else None


_ABSENT = object()


def _plain(value: Any, key: str) -> Any:
    """Plain JSON values, with floats rounded, and whole ones turned to integers so that 1 and 1.0 are one recipe."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(v, f"{key}.{name}") for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{key}.{i}") for i, v in enumerate(value)]
    if hasattr(value, "tolist") and not isinstance(value, int | float):  # NumPy arrays and scalars
        return _plain(value.tolist(), key)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key}: {value} is not a finite number.")
        rounded = float(f"{value:.{DIGITS}g}")
        return int(rounded) if rounded.is_integer() else rounded
    raise TypeError(f"{key}: a recipe cannot hold a {type(value).__name__}.")


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and value:
        parts = enumerate(value)
    else:
        return {key: value}
    return {k: v for name, part in parts for k, v in _flat(part, f"{key}.{name}" if key else str(name)).items()}
