"""Spectral laws: how brightness temperature changes with frequency."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from astropy.constants import h, k_B

from ..errors import ConfigError
from . import units

H_OVER_K = float((h / k_B).to_value("K s")) * 1e9
"""h/k [K/GHz]."""


def _power(ratio: float, index: np.ndarray | float) -> np.ndarray | float:
    """ratio ** index, several times faster for maps, whose precision it keeps."""
    return np.exp(math.log(ratio) * index) if isinstance(index, np.ndarray) else math.pow(ratio, index)


def _log(x: np.ndarray | float) -> np.ndarray | float:
    return np.log(x) if isinstance(x, np.ndarray) else math.log(x)


def _expm1(x: np.ndarray | float) -> np.ndarray | float:
    return np.expm1(x) if isinstance(x, np.ndarray) else math.expm1(x)


class Parameter:
    """A number, a quantity, or a column of the template with an optional offset.

    Args:
        value: `1.54`, `20 K`, `BETA` or `BETA-0.1`.
        unit: unit of the number; empty where there is none.
        key: name for errors.
    """

    def __init__(self, value: float | str, unit: str, key: str) -> None:
        self.unit = unit
        self.column: str | None = None
        match = re.fullmatch(r"([A-Za-z]\w*)\s*([+-]\s*[\d.]+)?", str(value).strip())
        if match:
            self.column = match[1]
            self.offset = float((match[2] or "0").replace(" ", ""))
        elif unit:
            self.offset = float(units.parse(value, unit, key).value)
        else:
            try:
                self.offset = float(value)
            except ValueError as error:
                raise ConfigError(f"{key}: {value!r} is neither a number nor a column such as BETA-0.1") from error

    def __call__(self, maps: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """Return the number, or the map (npix,)."""
        return self.offset if self.column is None else maps[self.column] + self.offset

    def recipe(self) -> str:
        """Describe the value."""
        return f"{self.column or ''}{self.offset:+.17g} {self.unit}".strip()


class Law(ABC):
    """Brightness temperature T_RJ as a function of frequency, relative to that at a reference frequency."""

    parameters: dict[str, Parameter]
    """By name of the argument."""

    @abstractmethod
    def ratio(self, frequency: float, reference: float, maps: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """Return T_RJ(frequency) / T_RJ(reference).

        Args:
            frequency: [GHz].
            reference: [GHz].
            maps: (npix,) of every column that the law names, in the law's units.
        """

    def shift(self, frequency: float, reference: float, index: float) -> float:
        """Return the factor on `ratio` when the spectral index rises by `index`."""
        return _power(frequency / reference, index)

    def columns(self) -> dict[str, str]:
        """Names of the template's columns that the law needs, and the unit each is to be in."""
        return {p.column: p.unit for p in self.parameters.values() if p.column is not None}

    def recipe(self) -> dict:
        """Describe the law for the identity of data."""
        return {"law": type(self).__name__} | {name: p.recipe() for name, p in self.parameters.items()}


def _planck_ratio(frequency: float, reference: float, temperature: np.ndarray | float) -> np.ndarray | float:
    """Return B(frequency) / B(reference) of a black body, in brightness temperature."""
    x, x0 = H_OVER_K * frequency / temperature, H_OVER_K * reference / temperature
    return _expm1(x0) / _expm1(x) * (frequency / reference)


class ModifiedBlackbody(Law):
    """Thermal dust of one temperature: T_RJ ~ nu^(beta - 2) B_nu(T).

    Args:
        beta: emissivity index; a number or a column.
        temperature: such as `20 K`, or a column.
    """

    def __init__(self, beta: float | str = 1.54, temperature: str = "20 K") -> None:
        self.parameters = {
            "beta": Parameter(beta, "", "beta"),
            "temperature": Parameter(temperature, "K", "temperature"),
        }

    def ratio(self, frequency: float, reference: float, maps: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """See `Law.ratio`."""
        beta, temperature = (p(maps) for p in self.parameters.values())
        return _power(frequency / reference, beta) * _planck_ratio(frequency, reference, temperature)


class TwoTemperatureBlackbody(Law):
    """Thermal dust of a cold and a hot population (Finkbeiner, Davis and Schlegel 1999, ApJ 524, 867).

    I_nu ~ f q (nu/3 THz)^beta_cold B_nu(T_cold) + (1 - f) (nu/3 THz)^beta_hot B_nu(T_hot). The defaults are the
    full-sky fit of Meisner and Finkbeiner 2015 (ApJ 798, 88).

    Args:
        beta_cold: emissivity index of the cold dust; a number or a column.
        temperature_cold: such as `9.75 K`, or a column.
        beta_hot: emissivity index of the hot dust; a number or a column.
        temperature_hot: such as `15.7 K`, or a column.
        cold_fraction: f, the cold dust's share of the power absorbed.
        emissivity_ratio: q, of the emissivities q_cold / q_hot.
    """

    def __init__(
        self,
        beta_cold: float | str = 1.63,
        temperature_cold: str = "9.75 K",
        beta_hot: float | str = 2.82,
        temperature_hot: str = "15.7 K",
        cold_fraction: float = 0.0485,
        emissivity_ratio: float = 8.22,
    ) -> None:
        if not 0 <= cold_fraction <= 1 or not emissivity_ratio > 0:
            raise ConfigError(
                f"cold_fraction {cold_fraction} must lie in 0 to 1, emissivity_ratio {emissivity_ratio} above 0"
            )
        self.parameters = {
            "beta_cold": Parameter(beta_cold, "", "beta_cold"),
            "temperature_cold": Parameter(temperature_cold, "K", "temperature_cold"),
            "beta_hot": Parameter(beta_hot, "", "beta_hot"),
            "temperature_hot": Parameter(temperature_hot, "K", "temperature_hot"),
            "cold_fraction": Parameter(cold_fraction, "", "cold_fraction"),
            "emissivity_ratio": Parameter(emissivity_ratio, "", "emissivity_ratio"),
        }

    def ratio(self, frequency: float, reference: float, maps: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """See `Law.ratio`."""
        return self._emission(frequency, maps) / self._emission(reference, maps)

    def _emission(self, frequency: float, maps: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """Brightness temperature up to a constant."""
        beta_cold, cold, beta_hot, hot, fraction, emissivity = (p(maps) for p in self.parameters.values())
        pivot = 3000.0
        cold_dust = _power(frequency / pivot, beta_cold) / _expm1(H_OVER_K * frequency / cold)
        hot_dust = _power(frequency / pivot, beta_hot) / _expm1(H_OVER_K * frequency / hot)
        return frequency * (fraction * emissivity * cold_dust + (1 - fraction) * hot_dust)


class PowerLaw(Law):
    """T_RJ ~ nu^(beta + curvature ln(nu/pivot)): synchrotron, and free-free with -2.14.

    Args:
        beta: index in brightness temperature; a number or a column.
        curvature: change of the index per e-fold of frequency; a number or a column.
        pivot: frequency at which the index is beta, such as `23 GHz`.
    """

    def __init__(self, beta: float | str = -3.0, curvature: float | str = 0.0, pivot: str = "23 GHz") -> None:
        self.parameters = {
            "beta": Parameter(beta, "", "beta"),
            "curvature": Parameter(curvature, "", "curvature"),
            "pivot": Parameter(pivot, "GHz", "pivot"),
        }

    def ratio(self, frequency: float, reference: float, maps: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """See `Law.ratio`."""
        beta, curvature, pivot = (p(maps) for p in self.parameters.values())
        return _power(frequency / reference, beta + curvature * _log(frequency / pivot))


class LogNormal(Law):
    """Spinning dust (AME): flux density log-normal in frequency (Stevenson 2014, ApJ 781, 113).

    Args:
        peak: frequency of the peak of the flux density, such as `20 GHz`, or a column.
        width: of the peak in ln(nu); a number or a column.
    """

    def __init__(self, peak: str = "20 GHz", width: float | str = 0.5) -> None:
        self.parameters = {"peak": Parameter(peak, "GHz", "peak"), "width": Parameter(width, "", "width")}

    def ratio(self, frequency: float, reference: float, maps: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """See `Law.ratio`."""
        peak, width = (p(maps) for p in self.parameters.values())
        # exp((ln^2(reference / peak) - ln^2(frequency / peak)) / 2 width^2) (reference / frequency)^2 is this power:
        return _power(reference / frequency, 2 + _log(reference * frequency / peak**2) / (2 * width**2))

    def shift(self, frequency: float, reference: float, index: float) -> float:
        """Return the factor on `ratio` when ln(peak) rises by `index`; see `Law.shift`."""
        width = self.parameters["width"]
        if width.column is not None:
            raise ConfigError("index_scatter: a log-normal law whose width is a column cannot scatter; set it to 0")
        return _power(frequency / reference, index / width.offset**2)
