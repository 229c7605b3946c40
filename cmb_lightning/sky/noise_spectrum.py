"""Noise spectra: from a file, or learned from noise maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..results.fits import read_map
from . import units
from .transforms import alm2cl, analysis, analysis_qu, check_lmax

_ANY = 143.0  # GHz: CMB temperatures are the same at all frequencies


@dataclass(frozen=True)
class NoiseSpectrum:
    """Power of the noise at every degree, and how much it differs between realisations."""

    cl: np.ndarray
    """N_l [uK_CMB^2] from l = 0 on; beyond the last l it stays."""
    scatter: float = 0.0
    """Standard deviation of ln(N_l), all degrees together, beyond what a Gaussian realisation has."""

    def level(self, lmax: int) -> np.ndarray:
        """Return N_l, (lmax + 1,)."""
        return self.cl[np.minimum(np.arange(lmax + 1), len(self.cl) - 1)]

    @classmethod
    def read(cls, path: Path) -> NoiseSpectrum:
        """Read a spectrum.

        Args:
            path: text with columns l and N_l, every l from 0 on, and comments `unit: uK_CMB2` and, if there is any,
                `scatter: 0.05`.

        Raises:
            FileNotFoundError: no such file.
            ConfigError: not such a file.
        """
        if not path.is_file():
            raise FileNotFoundError(f"noise spectrum: there is no file {path}; check the instrument's table")
        comments = [line.lstrip("# ").partition(":") for line in path.read_text().splitlines() if line.startswith("#")]
        stated = {key.strip().lower(): value.strip() for key, _, value in comments}
        try:
            degree, cl = np.loadtxt(path, ndmin=2).T
            scatter = float(stated.get("scatter", 0))
        except ValueError as error:
            raise ConfigError(f"{path}: must have two columns, l and N_l ({error})") from error
        if not np.array_equal(degree, np.arange(len(degree))):
            raise ConfigError(f"{path}: l must be 0, 1, 2, ... in the first column")
        if not np.isfinite(cl).all() or cl.min() < 0 or not scatter >= 0:
            raise ConfigError(f"{path}: N_l must be finite and 0 or more, and so must the scatter")
        factor = units.parse(f"1 {stated.get('unit', '')}", "uK_CMB2", f"{path}: comment `unit:`").value
        return cls(cl * factor, scatter)

    def save(self, path: Path) -> None:
        """Write the spectrum as `read` reads it."""
        lines = ["# unit: uK_CMB2", f"# scatter: {self.scatter:.17g}", "# l N_l"]
        lines += [f"{degree} {value:.17g}" for degree, value in enumerate(self.cl)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    @classmethod
    def learned(
        cls,
        paths: Sequence[Path],
        field: str,
        frequency: float | None = None,
        lmax: int | None = None,
        unit: str | None = None,
        each: Callable[[Callable[[Path], np.ndarray], Iterable[Path]], Iterable[np.ndarray]] = map,
    ) -> NoiseSpectrum:
        """Learn a spectrum from full-sky noise maps: the mean of ln(N_l), and its scatter.

        Args:
            paths: FITS files, one realisation each, at least two.
            field: `I`, or `P` for the mean of E and B of the columns Q and U.
            frequency: of the band [GHz], for maps that are not in CMB temperature.
            lmax: last degree; None for 2 nside.
            unit: of the maps, where they do not say it.
            each: applies a function to every path, in order: `map`, or the `map` of an executor.
        """
        if len(paths) < 2 or field not in ("I", "P"):
            raise ConfigError(f"noise maps: {len(paths)} of field {field!r}; give at least two, of field I or P")
        powers = list(each(partial(_spectrum, field=field, frequency=frequency, lmax=lmax, unit=unit), paths))
        if len({len(power) for power in powers}) > 1:
            raise ConfigError("noise maps: they differ in nside; give maps of one, or state lmax")
        logs = np.log(powers)
        # Of a Gaussian field with n modes, ln of the measured power is on average 1/n + 1/3n^2 too low, with variance
        # 2/n + 2/n^2 (digamma and trigamma of n/2 to second order).
        modes = (2 * np.arange(2, logs.shape[1] + 2) + 1) * (1 if field == "I" else 2)
        mean = logs.mean(axis=0) + 1 / modes + 1 / (3 * modes**2)
        beyond = np.var(logs, axis=0, ddof=1) - 2 / modes - 2 / modes**2
        cl = np.exp(mean)
        return cls(np.concatenate([[0, cl[0]], cl]), float(np.sqrt(max(np.average(beyond, weights=modes), 0))))


def _spectrum(path: Path, field: str, frequency: float | None, lmax: int | None, unit: str | None) -> np.ndarray:
    """Return the power of one noise map from l = 2 on [uK_CMB^2]."""
    maps = [read_map(path, name, unit=unit).ordered("RING") for name in ("I" if field == "I" else "QU")]
    if any(m.bad.any() for m in maps):
        raise ConfigError(f"{path}: has pixels without data; give full-sky noise maps")
    if frequency is None and not all(m.unit.endswith("K_CMB") for m in maps):
        raise ConfigError(f"{path}: {maps[0].unit} is no CMB temperature; state the frequency of the band")
    values = [m.values.astype(float) * units.to_uK_CMB(frequency or _ANY, m.unit, str(path)) for m in maps]
    lmax = check_lmax(2 * maps[0].nside if lmax is None else lmax, maps[0].nside)
    if field == "I":
        return alm2cl(analysis(values[0], lmax))[2:]
    return np.mean([alm2cl(alm)[2:] for alm in analysis_qu(*values, lmax)], axis=0)
