"""Foregrounds of the Python Sky Model, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np

from ..errors import ConfigError
from .channel import Channel
from .foregrounds import Foreground, analyse
from .rng import Draws
from .shared import Shared


class Presets(Foreground):
    """Presets of PySM3 such as `d1` and `s5`, the same in every simulation. PySM downloads their maps on first use."""

    fixed = True

    def __init__(self, presets: list[str], name: str = "presets") -> None:
        """Name the presets.

        Args:
            presets: names, such as `[d9, s4, f1, a1]`, or of extragalactic emission `[cib1, ksz1, tsz1, rg1]`.
            name: names the random streams.
        """
        if not presets or len(set(presets)) != len(presets):
            raise ConfigError(f"presets: {', '.join(presets) or 'none'}; name at least one, each once")
        self.presets = list(presets)
        self.name = name
        self._key: tuple | None = None  # of what is kept
        self._kept: Shared | None = None  # coefficients, (channel, nalm)

    def check(self, channels: Sequence[Channel], nside: int) -> None:
        """Check the names; see `Foreground.check`."""
        import pysm3.sky

        for preset in self.presets:
            if preset not in pysm3.sky.PRESET_MODELS:
                known = ", ".join(pysm3.sky.PRESET_MODELS)
                raise ConfigError(f"presets: PySM {version('pysm3')} has no {preset!r}; it has {known}")

    def alm(self, channels: Sequence[Channel], nside: int, lmax: int, draws: Draws) -> np.ndarray:
        """See `Foreground.alm`; it does not depend on `draws`."""
        key = (tuple(channels), nside, lmax)
        if self._kept is None or self._key != key:
            made = analyse(channels, self.emission(channels, nside), lmax).astype(np.complex64)
            self._key, self._kept = key, Shared(made)
        return self._kept.array.copy()

    def emission(self, channels: Sequence[Channel], nside: int) -> np.ndarray:
        """Return the sum of the presets, (channel, npix), RING, unsmoothed, uK_CMB.

        Raises:
            ConfigError: PySM could not make them, as when there is no network on first use.
        """
        import pysm3
        import pysm3.units as u

        with _own_global_random_state():
            try:
                sky = pysm3.Sky(nside=nside, preset_strings=self.presets, output_unit="uK_RJ")
            except Exception as error:  # whatever PySM, astropy or the network raises
                raise ConfigError(
                    f"presets: PySM could not make {', '.join(self.presets)} ({type(error).__name__}: {error}); their "
                    "maps are downloaded on first use: connect once, set PYSM_LOCAL_DATA, or take other foregrounds"
                ) from error
            maps = np.zeros((len(channels), 12 * nside**2))
            seen: dict[float, np.ndarray] = {}
            for row, channel in zip(maps, channels, strict=True):
                for frequency, weight in zip(channel.frequencies, channel.weights, strict=True):
                    if frequency not in seen:
                        # beside the frequency, as PySM leaves Q and U unscaled at exactly the reference of I
                        seen[frequency] = sky.get_emission(frequency * (1 + 1e-9) * u.GHz).value
                    if (field := "IQU".index(channel.field)) < len(seen[frequency]):
                        row += weight * seen[frequency][field]
        return maps

    def recipe(self) -> dict:
        """See `Foreground.recipe`."""
        return {"class": type(self).__name__, "presets": sorted(self.presets), "pysm3": version("pysm3")}


@contextmanager
def _own_global_random_state() -> Iterator[None]:
    """Give PySM, which uses and resets NumPy's global random state, one that is always the same, and put it back."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)
