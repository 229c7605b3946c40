"""Names that become folders."""

import re

from cmb_lightning.errors import ConfigError


def check_name(name: str, key: str) -> str:
    """The name in lower case, if it is one that can be a folder on every system.

    Raises:
        ConfigError: It has other characters than letters, digits, `_` and `-`, or is longer than 64.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ConfigError(f"{key}: {name!r} must be 1 to 64 letters, digits, '_' or '-'.")
    return name.lower()
