"""Angular power spectra of the CMB."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import numpy as np

from ..data.recipe import file_digest
from ..errors import ConfigError
from . import units
from .rng import Draws

SPECTRA = ("TT", "EE", "BB", "TE")


class Spectrum(ABC):
    """Angular power spectra TT, EE, BB and TE."""

    fixed = True
    """Whether it is the same in every simulation."""
    quick = True
    """Whether `cl` takes no time, so that it is checked before any work."""

    @abstractmethod
    def cl(self, lmax: int) -> np.ndarray:
        """Return C_l [uK_CMB^2], shape (4, lmax + 1), in the order TT, EE, BB, TE, without monopole.

        Raises:
            ConfigError: the spectrum ends before lmax, or is negative or not finite somewhere.
        """

    def draw(self, lmax: int, draws: Draws) -> tuple[np.ndarray, dict[str, float]]:
        """Return the C_l of one simulation, as `cl` does, and the parameters drawn for it by name."""
        return self.cl(lmax), {}

    @abstractmethod
    def recipe(self) -> dict:
        """Describe it in plain values, with the SHA-256 of every input file."""


def validated(cl: np.ndarray, key: str) -> np.ndarray:
    """Return spectra (4, lmax + 1) without monopole, or raise ConfigError where they cannot be spectra of a sky."""
    cl = np.array(cl, dtype=np.float64)
    for name, values in zip(SPECTRA, cl, strict=True):
        bad = ~np.isfinite(values) | (values < 0 if name != "TE" else False)
        if bad.any():
            degree = int(np.argmax(bad))
            raise ConfigError(f"{key}: C_l of {name} is {values[degree]:g} at l = {degree}; it must be 0 or more")
    bound = np.sqrt(cl[0] * cl[1])
    if (wrong := np.abs(cl[3]) > bound * (1 + 1e-6)).any():
        degree = int(np.argmax(wrong))
        raise ConfigError(f"{key}: TE is {cl[3, degree]:g} at l = {degree}, beyond sqrt(TT EE) = {bound[degree]:g}")
    cl[:, 0] = 0
    return cl


class PolynomialSpectrum(Spectrum):
    """C_l of temperature is a polynomial in l."""

    def __init__(self, coefficients: list[float]) -> None:
        """Describe the polynomial.

        Args:
            coefficients: [uK_CMB^2], highest power of l first, as in `numpy.poly1d`.
        """
        if not coefficients or not np.isfinite(coefficients).all():
            raise ConfigError(f"coefficients: {coefficients} must be finite numbers, at least one")
        self.coefficients = [float(value) for value in coefficients]

    def cl(self, lmax: int) -> np.ndarray:
        """See `Spectrum.cl`."""
        cl = np.zeros((4, lmax + 1))
        cl[0] = np.polyval(self.coefficients, np.arange(lmax + 1))
        return validated(cl, f"coefficients {self.coefficients}")

    def recipe(self) -> dict:
        """See `Spectrum.recipe`."""
        return {"class": type(self).__name__, "coefficients": self.coefficients}


class FileSpectrum(Spectrum):
    """Spectra from a text or FITS file."""

    def __init__(
        self, path: str, unit: str | None = None, columns: list[str] | None = None, kind: Literal["C_l", "D_l"] = "C_l"
    ) -> None:
        """Describe the file.

        Args:
            path: text with one row per l, or a FITS table with one row per l from 0 (as `healpy.write_cl` makes).
            unit: such as `uK_CMB2`; None takes it from the file (text: a comment `unit: uK_CMB2`; FITS: TUNIT).
            columns: of a text file, from `l`, `TT`, `EE`, `BB`, `TE` and `-` for one to skip; None takes them from
                the last comment line before the numbers, or else `l TT`.
            kind: `C_l`, or `D_l` = l(l + 1) C_l / 2 pi.
        """
        self.path, self.unit, self.columns, self.kind = Path(path), unit, columns, kind
        if not self.path.is_file():
            raise FileNotFoundError(f"path: there is no spectrum {self.path}; check the path")
        self._table, unit_found = _read_fits(self.path) if _is_fits(self.path) else _read_text(self.path, columns)
        if not (unit or unit_found):
            raise ConfigError(f"{self.path}: no unit in the file; state `unit: uK_CMB2`")
        import pysm3.units as u

        parsed = units.unit(unit or unit_found, f"{self.path}: unit")
        if not parsed.is_equivalent(u.uK_CMB**2) and not parsed.is_equivalent(u.uK**2):
            raise ConfigError(f"{self.path}: {parsed} is not the unit of a spectrum; state `unit: uK_CMB2`")
        self._factor = (1 * parsed).to_value(u.uK_CMB**2 if parsed.is_equivalent(u.uK_CMB**2) else u.uK**2)

    def cl(self, lmax: int) -> np.ndarray:
        """See `Spectrum.cl`."""
        degree = self._table["l"].astype(int)
        inside = degree <= lmax
        if degree.max() < lmax:
            raise ConfigError(f"{self.path}: ends at l = {degree.max()}, the maps need {lmax}; lower lmax or extend it")
        if degree.min() > 2 or not np.array_equal(np.sort(degree[inside]), np.arange(degree.min(), lmax + 1)):
            raise ConfigError(f"{self.path}: must have every l from at most 2 to {lmax}, each once")
        cl = np.zeros((4, lmax + 1))
        for row, name in zip(cl, SPECTRA, strict=True):
            if name in self._table:
                row[degree[inside]] = self._table[name][inside] * self._factor
        if self.kind == "D_l":
            every = np.arange(lmax + 1)
            cl *= np.where(every > 0, 2 * np.pi / np.maximum(every * (every + 1), 1), 0)
        return validated(cl, str(self.path))

    def recipe(self) -> dict:
        """See `Spectrum.recipe`."""
        return {
            "class": type(self).__name__,
            "sha256": file_digest(self.path),
            "unit": self.unit,
            "columns": self.columns,
            "kind": self.kind,
        }


def save_spectrum(path: str | Path, cl: np.ndarray) -> None:
    """Write spectra as text that `FileSpectrum` reads back exactly.

    Args:
        path: of the file; its folder is made.
        cl: [uK_CMB^2], (4, lmax + 1) in the order TT, EE, BB, TE.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# C_l", "# unit: uK_CMB2", "# l TT EE BB TE"]
    lines += [f"{degree} " + " ".join(f"{value:.17g}" for value in row) for degree, row in enumerate(cl.T)]
    path.write_text("\n".join(lines) + "\n")


def _is_fits(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"SIMPLE"


def _read_fits(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Return columns by name, and the unit."""
    from astropy.io import fits

    names = {"TEMPERATURE": "TT", "GRADIENT": "EE", "CURL": "BB", "G-T": "TE"} | {name: name for name in SPECTRA}
    try:
        table, columns = fits.getdata(path, 1), fits.open(path)[1].columns
    except (OSError, IndexError) as error:
        raise ConfigError(f"{path}: cannot be read as a FITS table ({error})") from error
    found = {names[c.name.upper()]: np.ravel(table[c.name]).astype(float) for c in columns if c.name.upper() in names}
    if "TT" not in found:
        raise ConfigError(f"{path}: no column TT or TEMPERATURE; it has {', '.join(columns.names)}")
    return found | {"l": np.arange(len(found["TT"]))}, columns[0].unit


def _read_text(path: Path, names: list[str] | None) -> tuple[dict[str, np.ndarray], str | None]:
    """Return columns by name, and the unit."""
    try:
        lines = path.read_text().splitlines()
        comments = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
        numbers = np.loadtxt(path, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no table of numbers ({error})") from error
    unit = next((line.partition(":")[2].strip() for line in comments if line.lower().startswith("unit:")), None)
    if names is None:
        header = comments[-1].split() if comments else []
        names = header if "TT" in header else ["l", "TT"]
    if len(names) != numbers.shape[1] or not {"l", "TT"} <= set(names) or set(names) - {"l", "-", *SPECTRA}:
        raise ConfigError(f"{path}: {numbers.shape[1]} columns are not {names}; state `columns`, such as [l, TT, EE]")
    return dict(zip(names, numbers.T, strict=True)), unit
