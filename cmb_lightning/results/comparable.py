"""How maps are compared, and whether they can be."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.sources import Identity

TRUTH = "truth"


@dataclass(frozen=True)
class Settings:
    """How maps are compared.

    Attributes:
        beams: Common beams [arcmin]; empty to compare at the truth's own.
        latitude_cuts: Galactic latitudes [degrees] above which maps are also scored.
        quantiles: Fractions of the sky, rising in foreground brightness, at which zones end; empty for no zones.
        mask: Pixels that may be used, bool, shape (npix,), NESTED; all when None. Decoupled spectra are taken on it;
            without it, above the first latitude cut.
        apodisation: Distance from the mask's edge [degrees] over which decoupled spectra give pixels less weight.
        lmax: Highest multipole of spectra and smoothing, at most 2 nside, which it is when None.
        bins: How many bins the spectra have.
        reference: What the truth is called, where another map stands in for it.
    """

    beams: tuple[float, ...] = ()
    latitude_cuts: tuple[float, ...] = (20.0,)
    quantiles: tuple[float, ...] = (0.5, 0.8)
    mask: np.ndarray | None = None
    apodisation: float = 10.0
    lmax: int | None = None
    bins: int = 30
    reference: str = TRUTH


def check_comparable(split: str, identities: Mapping[str, Identity], settings: Settings) -> None:
    """Refuse methods that were not run on the same data, or whose maps cannot be brought to one beam.

    Args:
        split: Name of the split.
        identities: Of each method; that of the truth under an empty name.
        settings: How they will be compared.

    Raises:
        ConfigError: It names the method and what differs.
    """
    truth = identities[""]
    stated = [(method.data, name or "the truth") for name, method in identities.items() if method.data is not None]
    known, whose = stated[0] if stated else (None, "")
    masks = {name: method.mask for name, method in identities.items() if method.mask is not None}
    if settings.mask is None and len(set(masks.values())) > 1:
        texts = (f"{name} for {f'the mask {mask}' if mask else 'the whole sky'}" for name, mask in masks.items())
        raise ConfigError(
            f"split {split}: methods were trained for different parts of the sky, {', '.join(texts)}; give a `mask` on "
            "which they are compared."
        )
    for name, method in identities.items():
        where = f"{name or settings.reference} cannot be compared on split {split}: "
        if method.data not in (None, known):
            raise ConfigError(f"{where}its test data are {method.data}, {whose}'s {known}; predict on these.")
        if method.nside != truth.nside:
            raise ConfigError(
                f"{where}its nside is {method.nside}, the truth's {truth.nside}; give maps of {truth.nside}."
            )
        if missing := sorted(set(truth.sims) - set(method.sims)):
            raise ConfigError(
                f"{where}it lacks {len(missing)} of {len(truth.sims)} simulations, {missing[0]} first; predict them,"
                " or cap the number that is compared."
            )
        if method.fwhm is None:
            raise ConfigError(f"{where}its beam is not known; state its FWHM by `fwhm`, such as '5 arcmin'.")
        if not settings.beams and not np.isclose(method.fwhm, truth.fwhm, rtol=1e-4):
            raise ConfigError(
                f"{where}its beam is {method.fwhm:g} arcmin, the truth's {truth.fwhm:g}; give a common beam of"
                f" {max(method.fwhm, truth.fwhm):g} arcmin or more."
            )
        if settings.beams and min(settings.beams) < max(method.fwhm, truth.fwhm) * (1 - 1e-4):
            raise ConfigError(
                f"{where}a common beam of {min(settings.beams):g} arcmin is finer than its own or the truth's"
                f" ({method.fwhm:g}, {truth.fwhm:g}); give one that is not."
            )
