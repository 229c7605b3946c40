"""Losses beside torch's own (`torch.nn.L1Loss`, `MSELoss`, `HuberLoss`): a likelihood, and one in harmonic space."""

import torch
from torch import Tensor, nn

from cmb_lightning.cleaning.harmonic import analyse
from cmb_lightning.errors import ConfigError


class GaussianLikelihood(nn.Module):
    """Minus the log likelihood of Gaussian errors whose size the network states, pixel by pixel (Petroff et al. 2020).

    Choosing it makes any network state error bars: it gets one more output per field.

    Args:
        beta: Pixels count as their stated variance to this power, which takes no part in the gradient (Seitzer et al.
            2022): at 0, the likelihood itself, a network that states large errors stops learning there; at 1 the mean
            learns as from squared errors.

    Raises:
        ConfigError: If beta is not between 0 and 1.
    """

    states_errors = True

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ConfigError(f"model.loss.beta: {beta} must lie between 0 and 1.")
        self.beta = beta

    def forward(self, prediction: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
        """The mean over all pixels of maps and of their stated errors, all of one shape."""
        cost = sigma.log() + 0.5 * ((prediction - target) / sigma) ** 2
        return (cost * sigma.detach() ** (2 * self.beta)).mean()


class HarmonicLikelihood(nn.Module):
    """Minus the log likelihood of Gaussian errors whose power at each multipole is the one found in the batch.

    That is the mean, over all modes, of the log error power: every multipole counts by its modes and its relative
    error, where losses in pixels see only the multipoles with most error. Each field is taken as a scalar: I, E or B,
    not Q and U. The errors of the Galactic plane reach every multipole: give a mask, apodised.

    Args:
        lmax: Highest multipole; 2 nside when None.
    """

    whole_sky = True  # it cannot be taken on the pixels of a mask alone

    def __init__(self, lmax: int | None = None) -> None:
        super().__init__()
        self.lmax = lmax

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of maps of shape (batch, field, npix), NESTED."""
        error = prediction.float() - target.float()
        lmax = 2 * int((error.shape[-1] / 12) ** 0.5) if self.lmax is None else self.lmax
        alm = analyse(error, lmax)
        modes = torch.full((alm.shape[-1],), 2.0, device=alm.device)
        modes[: lmax + 1] = 1.0  # m = 0 has no twin at -m
        ell = torch.cat([torch.arange(m, lmax + 1, device=alm.device) for m in range(lmax + 1)])
        squares = (modes * (alm.real**2 + alm.imag**2)).mean(0)  # over the skies of the batch
        counts = 2.0 * torch.arange(lmax + 1, device=alm.device) + 1
        power = torch.zeros(squares.shape[0], lmax + 1, device=alm.device).index_add(1, ell, squares) / counts
        # The monopole is removed from every map. The floor keeps the log of a perfect map finite.
        cost = counts[1:] * (power[:, 1:] + torch.finfo(power.dtype).tiny).log()
        return 0.5 * cost.sum(1).mean() / counts[1:].sum()
