"""Error bars: how large the error of a cleaned map is in each pixel, as the network states it."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cmb_lightning.cleaning.methods import Method

LEVELS = 16


class Cleaned(NamedTuple):
    """Cleaned maps and, where they are stated, their standard errors, each (batch, field, npix) [uK_CMB], NESTED."""

    maps: Tensor
    sigma: Tensor | None = None


class ErrorBars(nn.Module):
    """Standard errors from one more output of the network per field: the log of their ratio to a typical one.

    The typical error is that of the map which a silent network leaves, found before training where the sky is as
    bright: a network that starts at zero starts with error bars that are right.

    Args:
        fields: How many fields are cleaned.
    """

    brightness: Tensor
    error: Tensor

    def __init__(self, fields: int) -> None:
        super().__init__()
        for name in ("brightness", "error"):  # logs
            self.register_buffer(name, torch.full((fields, LEVELS), torch.nan))

    @torch.no_grad()
    def learn(self, method: Method, batches: Iterable[dict[str, Tensor]]) -> None:
        """Take the typical errors from prepared batches with their `target`."""
        brightness, errors = [], []
        for batch in batches:
            target = batch["target"]
            silence = torch.zeros(len(target), method.network_channels[1], target.shape[-1], device=target.device)
            brightness.append(method.brightness(batch).transpose(0, 1).flatten(1))
            errors.append((method.cleaned(silence, batch) - target).transpose(0, 1).flatten(1))
        for field, (bright, error) in enumerate(zip(torch.cat(brightness, 1), torch.cat(errors, 1), strict=True)):
            shuffled = torch.randperm(len(bright), generator=torch.Generator().manual_seed(0)).to(bright.device)
            order = shuffled[bright[shuffled].argsort()]  # pixels of one brightness in no order
            # Each level holds 0.3 of the sky that is left: the few brightest pixels have the largest errors.
            ends = [round(len(order) * (1 - 2 ** (-k / 2))) for k in range(LEVELS)] + [len(order)]
            for level, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
                members = order[start : max(end, start + 1)]
                self.brightness[field, level] = bright[members].double().mean().clamp_min(1e-30).log()
                self.error[field, level] = error[members].double().square().mean().sqrt().clamp_min(1e-6).log()
        # Between levels of one brightness there is nothing to interpolate.
        self.brightness.add_(1e-6 * torch.arange(LEVELS, device=self.brightness.device))

    def typical(self, brightness: Tensor) -> Tensor:
        """Log of the typical error where the sky is so bright, shape (batch, field, npix)."""
        fields = []
        for bright, levels, errors in zip(brightness.unbind(1), self.brightness, self.error, strict=True):
            log = bright.clamp_min(1e-30).log().contiguous()
            above = torch.bucketize(log, levels).clamp(1, LEVELS - 1)
            part = (log - levels[above - 1]) / (levels[above] - levels[above - 1])
            fields.append(torch.lerp(errors[above - 1], errors[above], part.clamp(0, 1)))
        return torch.stack(fields, dim=1)

    def forward(self, outputs: Tensor, brightness: Tensor) -> Tensor:
        """Standard errors [uK_CMB] from the network's outputs for them, both of shape (batch, field, npix)."""
        with torch.autocast(outputs.device.type, enabled=False):
            return (self.typical(brightness.float()) + outputs.float()).exp()


def predictive(passes: Iterable[Cleaned]) -> Cleaned:
    """The mean of random passes, and the error of it: that which they state, and their own spread.

    The variance is the mean of theirs plus the variance of their maps (Kendall and Gal 2017). A single pass that states
    none has none.
    """
    count, mean, squares, stated = 0, 0.0, 0.0, None
    for maps, sigma in passes:
        count += 1
        change = maps - mean
        mean = mean + change / count
        squares = squares + change * (maps - mean)  # Welford's sum: a difference of large squares would lose it
        if sigma is not None:
            stated = sigma**2 if stated is None else stated + sigma**2
    if stated is not None:
        return Cleaned(mean, ((squares + stated) / count).sqrt())
    return Cleaned(mean, (squares / count).sqrt() if count > 1 else None)
