"""Errors that a user can mend, told apart from errors of the program."""


class ConfigError(ValueError):
    """A configuration value that cannot work; the message names the key, the value and what would be right."""
