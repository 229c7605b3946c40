"""The part of the sky that a model is made for."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cmb_lightning.cleaning.regions import apodise, galactic_mask, read_mask
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.units import parse


@dataclass(frozen=True)
class Mask:
    """Which pixels count, and how much.

    Attributes:
        kept: Where scores are taken, bool, shape (npix,), NESTED.
        weight: How much a pixel counts in training, from 0 to 1, and 0 where it is not kept, float64, same shape.
    """

    kept: np.ndarray
    weight: np.ndarray

    @classmethod
    def load(cls, given: str, nside: int, apodisation: str) -> "Mask":
        """The mask that a configuration names.

        Args:
            given: Path of a FITS map in Galactic coordinates that is 1 where the sky is kept, or the Galactic latitude
                above which it is, such as `20 deg`.
            nside: HEALPix resolution of the maps; a finer mask is averaged.
            apodisation: Distance from the edge over which the weight rises, such as `5 deg`.

        Raises:
            ConfigError: It is neither, does not fit the maps or keeps nothing.
        """
        width = float(parse(apodisation, "deg", "model.apodisation").value)
        if not 0 <= width < 90:
            raise ConfigError(f"model.apodisation: {apodisation} must lie between 0 and 90 deg.")
        try:
            cut = float(parse(given, "deg", "model.mask").value)
        except ConfigError:
            if not Path(given).is_file():
                raise ConfigError(
                    f"model.mask: {given!r} is neither a file nor a latitude; write one as `20 deg`."
                ) from None
            kept = read_mask(Path(given), nside)
        else:
            if not 0 <= cut < 90:
                raise ConfigError(f"model.mask: a latitude of {given} must lie between 0 and 90 deg.")
            kept = galactic_mask(nside, cut)
        weight = apodise(kept, width)
        if not weight.any():
            raise ConfigError(f"model.mask: {given} with model.apodisation {apodisation} keeps no pixel.")
        return cls(kept, weight)

    @property
    def identity(self) -> str:
        """A name for the pixels that are kept, whatever the file that said so is called."""
        return hashlib.sha256(np.packbits(self.kept).tobytes()).hexdigest()[:16]


class MaskedLoss(nn.Module):
    """A loss on the pixels of a mask, near its edge on maps that fade to zero.

    Args:
        loss: Taken on (prediction, target) and, where it is a likelihood, the stated errors.
        mask: The mask.
    """

    pixels: Tensor
    weight: Tensor

    def __init__(self, loss: nn.Module, mask: Mask) -> None:
        super().__init__()
        self.loss = loss
        pixels = np.flatnonzero(mask.weight)
        self.register_buffer("pixels", torch.from_numpy(pixels), persistent=False)
        self.register_buffer("weight", torch.from_numpy(mask.weight[pixels]).float(), persistent=False)

    def forward(self, *maps: Tensor) -> Tensor:
        """The loss of prediction, target and perhaps stated errors, each (batch, field, npix), NESTED."""
        faded = [values[..., self.pixels] * self.weight for values in maps]
        if getattr(self.loss, "whole_sky", False):
            faded = [
                torch.zeros_like(whole).index_copy(-1, self.pixels, part)
                for whole, part in zip(maps, faded, strict=True)
            ]
        return self.loss(*faded)
