"""The microwave sky: instruments, spectra, foregrounds, noise, and the simulator that joins them."""

from .channel import Channel
from .foregrounds import Foreground
from .instrument import Instrument
from .laws import Law, LogNormal, ModifiedBlackbody, PowerLaw, TwoTemperatureBlackbody
from .presets import Presets
from .simulator import Simulator, Sky
from .spectra import CambSpectrum, FileSpectrum, PolynomialSpectrum, Spectrum
from .statistical import Emission, RandomField, StatisticalGalaxy
from .templates import TemplateComponent, Templates

__all__ = [
    "CambSpectrum",
    "Channel",
    "Emission",
    "FileSpectrum",
    "Foreground",
    "Instrument",
    "Law",
    "LogNormal",
    "ModifiedBlackbody",
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
