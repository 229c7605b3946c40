"""The microwave sky: instruments, spectra, foregrounds, noise, and the simulator that joins them."""

from .instrument import Channel, Instrument
from .laws import Law, LogNormal, ModifiedBlackbody, PowerLaw, TwoTemperatureBlackbody
from .simulator import Simulator, Sky
from .spectra import CambSpectrum, FileSpectrum, PolynomialSpectrum, Spectrum
from .templates import TemplateComponent, Templates

__all__ = [
    "CambSpectrum",
    "Channel",
    "FileSpectrum",
    "Instrument",
    "Law",
    "LogNormal",
    "ModifiedBlackbody",
    "PolynomialSpectrum",
    "PowerLaw",
    "Simulator",
    "Sky",
    "Spectrum",
    "TemplateComponent",
    "Templates",
    "TwoTemperatureBlackbody",
]
