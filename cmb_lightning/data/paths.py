"""Templates of paths in the configuration, such as `{root}/{dataset}/{split}/sim{sim:04d}.fits`."""

from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from cmb_lightning.errors import ConfigError

_EXAMPLES = {"sim": 1, "epoch": 1}  # numbers; all else is text


class PathTemplate:
    """A path with placeholders, checked before any work.

    Args:
        text: The template. Placeholders may have a format: `{sim:04d}`.
        key: Its name in the configuration, for errors.
        required: Placeholders without which two outputs would have one path.
        optional: Placeholders that it may have beside.

    Raises:
        ConfigError: A placeholder is missing or unknown, or its format does not fit.
    """

    def __init__(self, text: str, key: str, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> None:
        self.text, self.key = str(text), key
        known = (*required, *optional)
        try:
            found = {name for _, name, _, _ in Formatter().parse(self.text) if name is not None}
        except ValueError as error:
            raise ConfigError(f"{key}: '{text}' is not a template: {error}.") from None
        if unknown := sorted(found - set(known)):
            raise ConfigError(
                f"{key}: '{text}' has an unknown placeholder {{{unknown[0]}}}; known are {_braces(known)}."
            )
        if missing := [name for name in required if name not in found]:
            raise ConfigError(f"{key}: '{text}' lacks the placeholder {_braces(missing)}.")
        try:
            self.example = self(**{name: _EXAMPLES.get(name, name) for name in known})
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{key}: '{text}' has a placeholder whose format does not fit: {error}.") from None

    def __call__(self, **values: str | int | Path) -> Path:
        """The path for these values of the placeholders; values that the template does not use are passed over."""
        return Path(self.text.format(**values))


def refuse_collisions(templates: Mapping[str, PathTemplate]) -> None:
    """Refuses outputs that would be written to one path.

    Raises:
        ConfigError: Two templates give the same path.
    """
    seen: dict[Path, str] = {}
    for key, template in templates.items():
        if template.example in seen:
            raise ConfigError(f"{key}: '{template.text}' would write to the same path as {seen[template.example]}.")
        seen[template.example] = key


def _braces(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names) or "none"
