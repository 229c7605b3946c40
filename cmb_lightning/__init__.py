"""Learn to take the CMB out of the microwave sky.

The parts, for notebooks and scripts, are loaded when they are first used:

    from cmb_lightning import Instrument, Simulator, Sky, SkyDataModule, CleaningTask, HealpixUNet, SkyMetrics
"""

import importlib
from typing import Any

from cmb_lightning.version import __version__

_PARTS = {
    "Instrument": "sky",
    "Simulator": "sky",
    "Sky": "sky",
    "Templates": "sky",
    "TemplateComponent": "sky",
    "PowerLaw": "sky",
    "ModifiedBlackbody": "sky",
    "TwoTemperatureBlackbody": "sky",
    "LogNormal": "sky",
    "StatisticalGalaxy": "sky",
    "Presets": "sky",
    "PolynomialSpectrum": "sky",
    "FileSpectrum": "sky",
    "CambSpectrum": "sky",
    "CambPrior": "sky",
    "Layout": "data.layout",
    "SkyDataModule": "data.sky_module",
    "SkySplit": "data.sky_module",
    "SpectrumDataModule": "data.spectrum_module",
    "SpectrumSplit": "data.spectrum_module",
    "ObservationsDataModule": "data.observations",
    "ReferenceDataModule": "data.reference_module",
    "over_simulations": "data.work",
    "HealpixUNet": "networks",
    "IsotropicUNet": "networks",
    "UNet5": "networks",
    "UNet8": "networks",
    "PatchUNet": "networks",
    "DeepSphereUNet": "networks",
    "MonteCarloDropout": "networks",
    "CleaningTask": "cleaning.task",
    "MuonAdamW": "cleaning.optimizers",
    "Residual": "cleaning.methods",
    "Direct": "cleaning.methods",
    "LinearEstimate": "cleaning.linear",
    "ClassicalTask": "cleaning.classical_task",
    "SingleChannel": "cleaning.classical",
    "PixelILC": "cleaning.classical",
    "HarmonicILC": "cleaning.classical",
    "NeedletILC": "cleaning.needlet_ilc",
    "SkyMetrics": "cleaning.metrics",
    "score_maps": "cleaning.scores",
    "score_regions": "cleaning.scores",
    "sky_regions": "cleaning.regions",
    "Trainer": "trainer",
    "read_map": "results.fits",
    "write_map": "results.fits",
    "pair_spectra": "results.spectra",
    "Bins": "results.spectra",
    "MaskCoupling": "results.coupling",
    "sky_figure": "results.figures",
    "spectra_figure": "results.figures",
    "print_scores": "results.tables",
    "HeldMaps": "results.held",
    "find_predictions": "results.find",
    "Settings": "results.comparable",
    "compare": "results.compare",
    "write_comparison": "results.comparison_files",
    "write_report": "results.report",
}

__all__ = ["__version__", *_PARTS]


def __getattr__(name: str) -> Any:
    if name not in _PARTS:
        raise AttributeError(f"module 'cmb_lightning' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cmb_lightning.{_PARTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
