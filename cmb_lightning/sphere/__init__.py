"""HEALPix for torch: NESTED maps as face images, padded with true neighbours and convolved without seams."""

from .convolution import HealpixConv2d
from .faces import Faces
from .isotropic import IsotropicConv2d, ReachingConv2d
from .padding import HealpixPad
from .patches import Patches

__all__ = ["Faces", "HealpixConv2d", "HealpixPad", "IsotropicConv2d", "Patches", "ReachingConv2d"]
