"""How the parts of simulations are joined into an observed sky, as stored or mixed anew for training."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


def observe(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """The sky as the instrument sees it, (1 + gain) (cmb + foregrounds) + noise.

    Args:
        parts: `cmb`, shape (channel, pixel), and where there are any `foregrounds` and `noise` of the same shape and
            `gain`, shape (channel,).

    Returns:
        The maps, shape (channel, pixel), in the unit and ordering of the parts.
    """
    sky = parts["cmb"] + parts["foregrounds"] if "foregrounds" in parts else parts["cmb"].copy()
    if "gain" in parts:
        sky *= 1 + parts["gain"][:, None]
    if "noise" in parts:
        sky += parts["noise"]
    return sky


@dataclass(frozen=True)
class Mix:
    """Which simulations are joined into one training sample.

    Attributes:
        cmb: Simulation whose CMB, and target, is taken.
        foregrounds: Simulation whose foregrounds are taken.
        noise: Two simulations for each channel, shape (channel, 2).
        weights: Weight of the noise of each, shape (channel, 2), float32; their squares sum to one, so that the sum of
            two Gaussian realisations is again one.
        gain: Relative calibration error of each channel, shape (channel,), float32.
    """

    cmb: int
    foregrounds: int
    noise: np.ndarray
    weights: np.ndarray
    gain: np.ndarray

    def noises(self) -> list[list[tuple[np.float32, int]]]:
        """For each channel the weight and simulation of its noises."""
        pairs = zip(self.weights, self.noise.tolist(), strict=True)
        return [list(zip(weights, sims, strict=True)) for weights, sims in pairs]


def draw_mix(
    seed: int,
    epoch: int,
    index: int,
    n_sims: int,
    bands: np.ndarray,
    scatter: np.ndarray,
    noise_of: np.ndarray | None = None,
    in_epoch: int | None = None,
) -> Mix:
    """The mix of one training sample, which depends on these arguments and nothing else.

    Every CMB comes once in `n_sims` samples, over epochs. Noise is drawn channel by channel, since channels have
    independent noise; the channels of a band share its calibration.

    Args:
        seed: Seed of the data.
        epoch: Epoch of the training.
        index: Number of the sample in the epoch, before shuffling.
        n_sims: Simulations to choose from.
        bands: Number of each channel's band, shape (channel,).
        scatter: Largest standard deviation of the relative calibration error, shape (channel,): each sample draws its
            own, from none to this.
        noise_of: The channel whose mix of noises each channel takes over, shape (channel,); its own when None. Q and U
            of a band need the same mix where they become E and B before they are mixed.
        in_epoch: Samples drawn in an epoch, so that the next one goes on with other CMB; n_sims when None.
    """
    rng = stream("mix", seed, epoch, index)
    n_channels = len(scatter)
    foregrounds = int(rng.integers(n_sims))
    first = rng.integers(n_sims, size=n_channels)
    second = (first + rng.integers(1, max(n_sims, 2), size=n_channels)) % n_sims
    angle = rng.uniform(0, 2 * np.pi, size=n_channels)
    weights = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if n_sims == 1:  # the same noise twice would not add up to noise of the same level
        weights = np.stack([np.sign(weights[:, 0]), np.zeros(n_channels)], axis=1)
    if noise_of is not None:
        first, second, weights = first[noise_of], second[noise_of], weights[noise_of]
    # From well calibrated skies to the worst expected, so that a model learns to tell which it sees.
    gain = rng.uniform() * rng.standard_normal(int(bands.max()) + 1)[bands] * scatter
    return Mix(
        cmb=(epoch * (in_epoch or n_sims) + index) % n_sims,
        foregrounds=foregrounds,
        noise=np.stack([first, second], axis=1),
        weights=weights.astype(np.float32),
        gain=gain.astype(np.float32),
    )


def stream(purpose: str, seed: int, *key: int) -> np.random.Generator:
    """A generator of random numbers that depend on the purpose, the seed and the key, and on nothing else."""
    purpose_key = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(purpose_key, *key))))
