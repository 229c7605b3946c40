"""Spectra of the CMB from CAMB, with fixed or drawn parameters."""

from functools import lru_cache

import numpy as np

from ..errors import ConfigError
from .rng import Draws
from .spectra import Spectrum, validated

PLANCK_2018_ERRORS = {
    "H0": 0.54,
    "ombh2": 0.00015,
    "omch2": 0.0012,
    "ns": 0.0042,
    "tau": 0.0073,
    "As": 0.030e-9,
}
"""Standard deviations of TT,TE,EE+lowE+lensing (Planck 2018 results VI, table 2)."""


class CambSpectrum(Spectrum):
    """Lensed spectra of a flat universe, from CAMB. The defaults are Planck 2018 (TT,TE,EE+lowE+lensing)."""

    quick = False

    def __init__(
        self,
        H0: float = 67.36,
        ombh2: float = 0.02237,
        omch2: float = 0.12,
        ns: float = 0.9649,
        tau: float = 0.0544,
        mnu: float = 0.06,
        As: float = 2.1e-9,
        r: float = 0.0,
    ) -> None:
        """Describe the universe.

        Args:
            H0: Hubble constant [km/s/Mpc].
            ombh2: density of baryons.
            omch2: density of cold dark matter.
            ns: index of the scalar fluctuations.
            tau: optical depth of reionisation.
            mnu: sum of the neutrinos' masses [eV].
            As: amplitude of the scalar fluctuations at 0.05 / Mpc.
            r: tensor-to-scalar ratio.
        """
        self.parameters = {
            key: float(value)
            for key, value in dict(H0=H0, ombh2=ombh2, omch2=omch2, ns=ns, tau=tau, mnu=mnu, As=As, r=r).items()
        }
        for key in ("H0", "ombh2", "omch2", "As"):
            if not self.parameters[key] > 0:
                raise ConfigError(f"{key}: {self.parameters[key]} must be above 0")
        for key in ("tau", "mnu", "r"):
            if not self.parameters[key] >= 0:
                raise ConfigError(f"{key}: {self.parameters[key]} must be 0 or more")

    def cl(self, lmax: int) -> np.ndarray:
        """See `Spectrum.cl`."""
        return validated(_camb(lmax, **self.parameters), f"CAMB with {self.parameters}")

    def recipe(self) -> dict:
        """See `Spectrum.recipe`."""
        return {"class": type(self).__name__, **self.parameters}


class CambPrior(Spectrum):
    """Lensed spectra of another universe in every simulation, its parameters from independent normal distributions."""

    fixed = False
    quick = False

    def __init__(
        self, mean: CambSpectrum | None = None, std: dict[str, float] | None = None, width: float = 3.0
    ) -> None:
        """Describe the prior.

        Args:
            mean: its centre; None for Planck 2018.
            std: standard deviations by name of the parameter; None for Planck's errors, for six parameters.
            width: multiplies the standard deviations.
        """
        self.mean = mean or CambSpectrum()
        self.std = {key: width * value for key, value in (PLANCK_2018_ERRORS if std is None else std).items()}
        if unknown := set(self.std) - set(self.mean.parameters):
            known = ", ".join(self.mean.parameters)
            raise ConfigError(f"std: no parameter {', '.join(sorted(unknown))}; there are {known}")
        for key, value in self.std.items():
            if not 0 <= value:
                raise ConfigError(f"std: that of {key}, {value}, must be 0 or more")
            if key != "ns" and self.mean.parameters[key] <= 0 < value:
                raise ConfigError(f"std: {key} has mean 0 and cannot scatter; give it a mean above 0")

    def cl(self, lmax: int) -> np.ndarray:
        """Return the spectra at the centre of the prior; see `Spectrum.cl`."""
        return self.mean.cl(lmax)

    def draw(self, lmax: int, draws: Draws) -> tuple[np.ndarray, dict[str, float]]:
        """See `Spectrum.draw`; a parameter that must be positive is drawn again until it is."""
        drawn = dict(self.mean.parameters)
        for key, std in self.std.items():
            rng = draws(f"cmb/{key}")
            value = drawn[key] + std * rng.standard_normal()
            while key != "ns" and value <= 0:
                value = drawn[key] + std * rng.standard_normal()
            drawn[key] = float(value)
        return CambSpectrum(**drawn).cl(lmax), drawn

    def recipe(self) -> dict:
        """See `Spectrum.recipe`."""
        return {"class": type(self).__name__, "mean": self.mean.parameters, "std": self.std}


@lru_cache(maxsize=8)
def _camb(lmax: int, r: float, As: float, ns: float, **cosmology: float) -> np.ndarray:
    """Run CAMB with a margin in l that lensing needs; (4, lmax + 1) [uK_CMB^2]."""
    import camb

    camb.config.ThreadNum = 1  # else the last digits depend on the number of threads
    parameters = camb.CAMBparams()
    parameters.set_cosmology(**cosmology)
    parameters.InitPower.set_params(As=As, ns=ns, r=r, pivot_scalar=0.05, pivot_tensor=0.05)
    parameters.WantTensors = r > 0
    parameters.set_for_lmax(max(lmax, 1500) + 500, lens_potential_accuracy=1)  # lensed B needs these
    spectra = camb.get_results(parameters).get_cmb_power_spectra(parameters, CMB_unit="muK", raw_cl=True)
    return np.maximum(spectra["total"][: lmax + 1].T, [[0], [0], [0], [-np.inf]])
