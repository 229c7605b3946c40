"""How an instrument as built differs from its table: calibration, beams and bandpasses, drawn for each band."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import ConfigError
from . import bandpass
from .channel import Channel
from .rng import Draws


def gains(channels: Sequence[Channel], scale: float, draws: Draws) -> np.ndarray:
    """Draw the relative error of each channel's calibration, (channel,) float32; the fields of a band share it."""
    return np.array([scale * c.gain_error * _normal("gain", c, draws) for c in channels], dtype=np.float32)


def as_built(
    channels: Sequence[Channel], beam_scale: float, bandpass_scale: float, draws: Draws
) -> tuple[Channel, ...]:
    """Draw the channels of one simulation: wider or narrower beams, and bandpasses moved up or down.

    Args:
        channels: as in the table.
        beam_scale: multiplies their `beam_error`.
        bandpass_scale: multiplies their `bandpass_error`.
        draws: streams of the simulation.
    """
    built = []
    for channel in channels:
        wider = np.exp(beam_scale * channel.beam_error * _normal("beam", channel, draws))
        higher = np.exp(bandpass_scale * channel.bandpass_error * _normal("bandpass", channel, draws))
        if higher != 1:
            frequencies, weights = bandpass.moved(channel.frequencies, channel.weights, float(higher))
            channel = replace(channel, frequencies=frequencies, weights=weights)
        built.append(replace(channel, fwhm=float(channel.fwhm * wider)))
    return tuple(built)


def check(channels: Sequence[Channel], beam_scale: float) -> None:
    """Raise ConfigError where beams that are not Gaussian would have to change their width."""
    for channel in channels:
        if beam_scale and channel.beam_error and channel.beam_file:
            raise ConfigError(
                f"beam_errors: {channel.name} has its beam from {channel.beam_file}; only Gaussians can vary"
            )


def _normal(kind: str, channel: Channel, draws: Draws) -> float:
    return float(draws(f"{kind}/{channel.band}").standard_normal())
