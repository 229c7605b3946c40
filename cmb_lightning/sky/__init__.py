"""The microwave sky: instruments, spectra, foregrounds, noise, and the simulator that joins them."""

from .channel import Channel
from .cosmology import CambPrior, CambSpectrum
from .foregrounds import Foreground
from .instrument import Instrument
from .laws import Law, LogNormal, ModifiedBlackbody, PowerLaw, TwoTemperatureBlackbody
from .model import Sky
from .one_of import OneOf
from .presets import Presets
from .simulator import Simulator
from .spectra import FileSpectrum, PolynomialSpectrum, Spectrum
from .statistical import Emission, RandomField, StatisticalGalaxy
from .templates import TemplateComponent, Templates

__all__ = [
    "CambPrior",
    "CambSpectrum",
    "Channel",
    "Emission",
    "FileSpectrum",
    "Foreground",
    "Instrument",
    "Law",
    "LogNormal",
    "ModifiedBlackbody",
    "OneOf",
    "PolynomialSpectrum",
    "PowerLaw",
    "Presets",
    "RandomField",
    "Simulator",
    "Sky",
    "Spectrum",
    "StatisticalGalaxy",
    "TemplateComponent",
    "Templates",
    "TwoTemperatureBlackbody",
]
