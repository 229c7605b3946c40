"""A foreground that is one of several in each simulation."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .channel import Channel
from .foregrounds import Foreground
from .rng import Draws


class OneOf(Foreground):
    """One of several foregrounds, drawn anew in each simulation, each as likely as another.

    A model that is trained on several descriptions of the Galaxy leans less on any of them.
    """

    def __init__(self, foregrounds: list[Foreground], name: str = "one_of") -> None:
        """Describe the choice.

        Args:
            foregrounds: at least two, each with a name of its own.
            name: names the random stream of the choice.
        """
        names = [foreground.name for foreground in foregrounds]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ConfigError(f"foregrounds: {', '.join(names) or 'none'}; give at least two, each with its own name")
        self.foregrounds, self.name, self.fixed = list(foregrounds), name, False

    def at(self, folder: Path | None) -> "OneOf":
        """See `Foreground.at`."""
        other = copy(self)
        other.foregrounds = [foreground.at(folder) for foreground in self.foregrounds]
        return other

    def check(self, channels: Sequence[Channel], nside: int) -> None:
        """Check all of them; see `Foreground.check`."""
        for foreground in self.foregrounds:
            foreground.check(channels, nside)

    def alm(self, channels: Sequence[Channel], nside: int, lmax: int, draws: Draws) -> np.ndarray:
        """See `Foreground.alm`."""
        drawn = self.foregrounds[int(draws(self.name).integers(len(self.foregrounds)))]
        return drawn.alm(channels, nside, lmax, draws)

    def recipe(self) -> dict:
        """See `Foreground.recipe`."""
        recipes = [foreground.recipe() for foreground in self.foregrounds]
        return {"class": type(self).__name__, "name": self.name, "foregrounds": recipes}
