"""Networks from maps to maps, one file each; they know nothing of files, units or Lightning.

Each takes `in_channels`, `out_channels`, `nside` and sizes of its own, and turns NESTED maps of shape
(batch, in_channels, pixel) into (batch, out_channels, pixel).
"""

from .bayesian import ConcreteDropout, MonteCarloDropout
from .cmbnncs import UNet5, UNet8
from .deepsphere import DeepSphereUNet
from .isotropic import IsotropicUNet
from .patch import PatchNetwork, PatchUNet
from .start import start_at_zero
from .unet import HealpixUNet

__all__ = [
    "ConcreteDropout",
    "DeepSphereUNet",
    "HealpixUNet",
    "IsotropicUNet",
    "MonteCarloDropout",
    "PatchNetwork",
    "PatchUNet",
    "UNet5",
    "UNet8",
    "start_at_zero",
]
