"""A random Galaxy, made on the spot: every simulation has its own, and nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import ducc0
import numpy as np

from ..errors import ConfigError
from . import units
from .channel import Channel
from .foregrounds import Foreground, analyse
from .laws import Law, LogNormal, ModifiedBlackbody, PowerLaw
from .rng import Draws
from .transforms import alm_degrees, draw_unit_alm, synthesis, synthesis_qu


@dataclass
class RandomField:
    """A Gaussian field on the sphere with a power-law spectrum.

    Args:
        mean: over the sky, on average over simulations.
        std: over the sky, of the scales that the maps carry.
        slope: C_l ~ l^slope, negative.
        scatter: standard deviation of the mean, over simulations.
    """

    mean: float
    std: float
    slope: float = -2.4
    scatter: float = 0.0


@dataclass
class Emission:
    """One kind of emission of the random Galaxy.

    At Galactic latitude b and longitude l its median is amplitude (sin^2 b + width^2)^(-steepness/2), near the plane
    times exp(centre cos l); around it the emission is log-normal.

    Args:
        name: such as `dust`; names its random streams.
        law: spectral law, in columns that `indices` makes.
        reference: frequency of the amplitude, such as `353 GHz`.
        amplitude: median at the Galactic poles [uK_RJ].
        steepness: of the fall with latitude.
        width: of the plane, sin(b).
        centre: logarithm of how much brighter the plane is towards the Galactic centre.
        contrast: standard deviation of the logarithm about the profile.
        slope: C_l ~ l^slope of the logarithm, negative.
        correlation: of the logarithm with the field that all emissions share, 0 to 1.
        indices: the fields of the law's columns, in the law's units.
        polarisation: largest fraction of polarised light, 0 to 1.
    """

    name: str
    law: Law
    reference: str
    amplitude: float
    steepness: float
    width: float
    centre: float
    contrast: float
    slope: float = -2.6
    correlation: float = 0.5
    indices: dict[str, RandomField] = field(default_factory=dict)
    polarisation: float = 0.0

    def __post_init__(self) -> None:
        self.frequency = float(units.parse(self.reference, "GHz", f"reference of {self.name}").value)
        for key in ("amplitude", "width", "contrast"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{key} of {self.name}: {getattr(self, key)} must be above 0")
        for key in ("correlation", "polarisation"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"{key} of {self.name}: {getattr(self, key)} must lie between 0 and 1")
        if missing := set(self.law.columns()) - set(self.indices):
            raise ConfigError(f"indices of {self.name}: the law names {', '.join(sorted(missing))}, which is not there")


def milky_way() -> list[Emission]:
    """Return emissions like those of the Milky Way.

    Amplitudes, profiles, contrasts, slopes and correlations were fitted by eye to the nside-64 templates of PySM 2
    (models d1, s1, f1, a1; Thorne et al. 2017, MNRAS 469, 2821).
    """
    return [
        Emission(
            name="dust",
            law=ModifiedBlackbody("BETA", "TEMP"),
            reference="353 GHz",
            amplitude=15.0,
            steepness=1.5,
            width=0.035,
            centre=1.2,
            contrast=0.72,
            slope=-2.5,
            correlation=0.9,
            indices={"BETA": RandomField(1.55, 0.045, -2.2, 0.03), "TEMP": RandomField(19.8, 1.2, -2.2, 0.4)},
            polarisation=0.2,
        ),
        Emission(
            name="synchrotron",
            law=PowerLaw("BETA", "CURVATURE"),
            reference="30 GHz",
            amplitude=26.0,
            steepness=0.65,
            width=0.025,
            centre=1.0,
            contrast=0.45,
            slope=-2.8,
            correlation=0.55,
            indices={"BETA": RandomField(-3.0, 0.06, -2.6, 0.05), "CURVATURE": RandomField(0.0, 0.0, -2.6, 0.05)},
            polarisation=0.5,
        ),
        Emission(
            name="freefree",
            law=PowerLaw("BETA"),
            reference="30 GHz",
            amplitude=4.0,
            steepness=1.7,
            width=0.025,
            centre=1.6,
            contrast=1.3,
            slope=-2.2,
            correlation=0.5,
            indices={"BETA": RandomField(-2.14, 0.01, -2.4, 0.01)},
        ),
        Emission(
            name="ame",
            law=LogNormal("PEAK", 0.5),
            reference="30 GHz",
            amplitude=11.0,
            steepness=1.3,
            width=0.035,
            centre=1.3,
            contrast=0.8,
            slope=-2.3,
            correlation=0.9,
            indices={"PEAK": RandomField(20.5, 1.5, -2.2, 1.0)},
        ),
    ]


class StatisticalGalaxy(Foreground):
    """A random Galaxy: dust, synchrotron, free-free and AME, another one in every simulation.

    Profiles are along Galactic latitude with the centre at longitude 0, contrasts log-normal with steep power-law
    spectra, spectral indices vary over the sky.
    """

    fixed = False

    def __init__(
        self,
        emissions: list[Emission] | None = None,
        amplitude: float = 1.0,
        variety: float = 1.0,
        name: str = "galaxy",
    ) -> None:
        """Describe the Galaxy.

        Args:
            emissions: each with a name of its own; None for those of the Milky Way.
            amplitude: multiplies all emission.
            variety: multiplies how much amplitudes, profiles, contrasts and mean indices differ between simulations;
                with 0 only the pattern differs.
            name: names the random streams.
        """
        self.emissions = milky_way() if emissions is None else list(emissions)
        names = [emission.name for emission in self.emissions]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"emissions: {', '.join(names) or 'none'}; give at least one, each with its own name")
        for key, value in (("amplitude", amplitude), ("variety", variety)):
            if not value >= 0:
                raise ConfigError(f"{key}: {value} is negative; give 0 or more")
        self.amplitude = float(amplitude)
        self.variety = float(variety)
        self.name = name

    def check(self, channels: Sequence[Channel], nside: int) -> None:
        """Do nothing: there is no input to check."""

    def alm(self, channels: Sequence[Channel], nside: int, lmax: int, draws: Draws) -> np.ndarray:
        """See `Foreground.alm`. One iteration of the analysis will do, as the coefficients themselves are the sky."""
        return analyse(channels, self.emission(channels, nside, lmax, draws), lmax, iterations=1)

    def emission(self, channels: Sequence[Channel], nside: int, lmax: int, draws: Draws) -> np.ndarray:
        """Return one realisation with patterns up to lmax, (channel, npix), RING, unsmoothed, uK_CMB, float32."""
        maps = np.zeros((len(channels), 12 * nside**2), dtype=np.float32)
        for emission in self.emissions:
            self._add(maps, emission, channels, nside, lmax, draws)
        return maps

    def recipe(self) -> dict:
        """See `Foreground.recipe`."""
        emissions = []
        for emission in self.emissions:
            described = {key: value for key, value in vars(emission).items() if key != "reference"}
            described["law"] = emission.law.recipe()
            described["indices"] = {key: dict(vars(index)) for key, index in emission.indices.items()}
            emissions.append(described)
        return {
            "class": type(self).__name__,
            "name": self.name,
            "amplitude": self.amplitude,
            "variety": self.variety,
            "emissions": emissions,
        }

    def _add(
        self, maps: np.ndarray, emission: Emission, channels: Sequence[Channel], nside: int, lmax: int, draws: Draws
    ) -> None:
        """Draw one emission and add it to the maps (channel, npix), RING, unsmoothed."""

        def stream(what: str) -> np.random.Generator:
            return draws(f"{self.name}/{emission.name}/{what}")

        intensity = self._intensity(emission, nside, lmax, draws, stream)
        columns = {}
        for column, index in emission.indices.items():
            rng = stream(column)
            mean = index.mean + self.variety * index.scatter * float(rng.standard_normal())
            columns[column] = np.float32(mean) * np.ones_like(intensity)
            if index.std:
                columns[column] += synthesis(_coloured(draw_unit_alm(rng, lmax), index.std, index.slope), nside, lmax)
        polarised = emission.polarisation > 0 and any(channel.spin for channel in channels)
        fields = {"I": np.float32(1)}
        if polarised:
            fields["Q"], fields["U"] = self._polarisation(emission, nside, lmax, stream)
        spectrum, of = None, None
        for row, channel in zip(maps, channels, strict=True):
            if channel.field not in fields:
                continue
            if of != (channel.frequencies, channel.weights):  # the fields of a band follow one another
                of = channel.frequencies, channel.weights
                spectrum = intensity * sum(
                    weight * emission.law.ratio(frequency, emission.frequency, columns)
                    for frequency, weight in zip(*of, strict=True)
                )
            row += spectrum * fields[channel.field]

    def _intensity(
        self, emission: Emission, nside: int, lmax: int, draws: Draws, stream: Callable[[str], np.random.Generator]
    ) -> np.ndarray:
        """Draw the map at the reference frequency, (npix,) float32 [uK_RJ]."""
        normal = self.variety * stream("profile").standard_normal(5)
        contrast = emission.contrast * np.exp(0.15 * normal[0])
        shared = draw_unit_alm(draws(f"{self.name}/shared"), lmax)
        own = draw_unit_alm(stream("pattern"), lmax)
        mixed = emission.correlation * shared + np.sqrt(1 - emission.correlation**2) * own
        logarithm = synthesis(_coloured(mixed, contrast, emission.slope + 0.1 * normal[1]), nside, lmax)
        sin2_b, cos_l = _directions(nside)
        width2 = float((emission.width * np.exp(0.2 * normal[2])) ** 2)
        steepness = float(emission.steepness * np.exp(0.05 * normal[3]))
        amplitude = self.amplitude * emission.amplitude * np.exp(0.2 * normal[4])
        distance = sin2_b + np.float32(width2)
        logarithm += np.log(distance) * np.float32(-steepness / 2)
        logarithm += cos_l * np.float32(emission.centre * width2) / distance
        return np.exp(logarithm) * np.float32(amplitude)

    def _polarisation(
        self, emission: Emission, nside: int, lmax: int, stream: Callable[[str], np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw Q/I and U/I, each (npix,) float32: a turbulent field about one parallel to the plane."""
        alm = draw_unit_alm(stream("polarisation"), lmax, 2)
        q, u = synthesis_qu(_coloured(alm[0], 0.7, -2.4), _coloured(alm[1], 0.5, -2.4), nside, lmax)
        q += np.float32(0.4)  # light across the plane, where the magnetic field lies in it
        fraction = np.float32(emission.polarisation) / np.sqrt(1 + q * q + u * u)
        return q * fraction, u * fraction


def _coloured(unit_alm: np.ndarray, std: float, slope: float) -> np.ndarray:
    """Give unit coefficients (nalm,) the spectrum l^slope and a standard deviation over the sky; complex64."""
    degrees = alm_degrees(int(round((2 * unit_alm.size + 0.25) ** 0.5 - 1.5)))
    degree = np.arange(1, degrees[-1] + 1, dtype=float)
    root = np.concatenate([[0], degree ** (slope / 2)])
    root *= std / np.sqrt(np.sum((2 * degree + 1) * root[1:] ** 2) / (4 * np.pi))
    return (unit_alm * root[degrees]).astype(np.complex64)


@lru_cache(maxsize=2)
def _directions(nside: int) -> tuple[np.ndarray, np.ndarray]:
    """sin^2 of the latitude and cos of the longitude of every RING pixel, float32."""
    vectors = ducc0.healpix.Healpix_Base(nside, "RING").pix2vec(np.arange(12 * nside**2))
    flat = np.hypot(vectors[:, 0], vectors[:, 1])
    return (vectors[:, 2] ** 2).astype(np.float32), (vectors[:, 0] / flat).astype(np.float32)
