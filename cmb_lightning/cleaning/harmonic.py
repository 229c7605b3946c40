"""ducc0's spherical harmonic transform as a function that torch can differentiate."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmb_lightning.sky.transforms import analysis, nest_to_ring, nside_of, ring_to_nest, synthesis


def analyse(maps: Tensor, lmax: int) -> Tensor:
    """The coefficients of maps, by one quadrature with equal weights: good to some 1e-3 up to 2 nside.

    Args:
        maps: Real, shape (..., npix), NESTED, on any device; the transform runs on the processor.
        lmax: Highest multipole.

    Returns:
        Complex, shape (..., nalm), in healpy's order (m outer, l inner).
    """
    return _Analysis.apply(maps, lmax)


class _Analysis(torch.autograd.Function):
    """a_lm = w sum_p Y*_lm(p) map(p); backward is the adjoint: w times a synthesis."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, lmax: int) -> Tensor:
        ctx.lmax, ctx.nside = lmax, nside_of(maps)
        alm = analysis(nest_to_ring(maps.detach().cpu().numpy()), lmax, iterations=0, nthreads=torch.get_num_threads())
        return torch.from_numpy(alm).to(maps.device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        alm = gradient.detach().resolve_conj().cpu().numpy().copy()
        # A synthesis takes a coefficient with m > 0 for its twin at -m too, which is none of the outputs of `forward`.
        alm[..., ctx.lmax + 1 :] /= 2
        maps = synthesis(alm, ctx.nside, ctx.lmax, nthreads=torch.get_num_threads())
        maps *= maps.dtype.type(4 * np.pi / maps.shape[-1])
        return torch.from_numpy(ring_to_nest(maps)).to(gradient.device), None
