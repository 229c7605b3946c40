"""The CMB estimate whose weights follow the foregrounds around each place, and the bands' calibration."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cmb_lightning.cleaning.brightness import coarser, place, weights_at
from cmb_lightning.cleaning.contradiction import follows_sky, left_behind
from cmb_lightning.cleaning.linear import LinearEstimate
from cmb_lightning.cleaning.local_filter import apply_by_place, wiener
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import nest_to_ring, ring_to_nest, synthesis

WINDOW_MODES = 100  # least number of modes in a window, from which covariances are taken
BRIGHTEST = 3  # modes of contrast in each scale whose slopes follow the sky
CLIP = 3.0  # standard deviations: what training has not seen moves weights no further than what it has


@dataclass(frozen=True)
class LocalWeights:
    """What training fixes.

    Attributes:
        quietest: Weights of least noise, that sum to one over channels, shape (scale, channel).
        contrast: What makes of the channels' maps as many, less one, that hold no CMB, whose noise has variance one and
            goes neither with each other's nor with that of the quietest sum, shape (scale, mode, channel), mode the
            channels less one. The foregrounds' parts do not go with each other's either, on average: the first of these
            modes holds most, the next most of what is left, the last ones next to nothing but noise.
        slopes: Of the quietest sum's error on these maps, shape (scale, region, mode).
        levels: Log brightness at which each region's slopes hold, shape (region,); linear in between.
        looks: What skies look like on average, see `look`, shape (look,).
        directions: In which skies differ from that, in units of their scatter, shape (look, direction).
        response: By which fraction each channel seems too bright, where a sky is average and for each direction in
            which it is not, shape (1 + direction, channel).
    """

    quietest: np.ndarray
    contrast: np.ndarray
    slopes: np.ndarray
    levels: np.ndarray
    looks: np.ndarray
    directions: np.ndarray
    response: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays, to be kept in a file."""
        return {name: np.ascontiguousarray(value) for name, value in vars(self).items()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "LocalWeights":
        """The weights that `arrays` gave."""
        return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})

    def seen(self, looks: np.ndarray) -> np.ndarray:
        """A one, and how a sky differs from the average, shape (1 + direction,)."""
        away = (looks - self.looks) @ self.directions
        return np.concatenate([[1.0], CLIP * np.tanh(away / CLIP)])


class LocalEstimate:
    """CMB estimate with needlet weights that follow the foregrounds around each place.

    In each scale it starts from the sum of the channels with least noise, and takes off what the foregrounds leave in
    it. They show in maps of contrast, differences of channels that hold no CMB, whose noise has covariance one. If all
    foregrounds obeyed spectra that are known, their part in the sum would be s' f of theirs in the contrasts, with
    slopes s that spectra alone decide; of contrasts d with noise, of covariance D around the place, it is best
    estimated by s' (1 - D^-1) d, the Wiener filter. So slopes are fitted in training, by region of brightness, and D is
    taken from the sky at hand: bright foregrounds are taken off whole, faint ones with no more noise than they are
    worth.

    Then the channels are calibrated on each other by their foregrounds. A channel whose foregrounds are too bright has
    too large a weight; how bright they seem shows in how its differences from the others compare, and training fits the
    fractions as linear functions of that.

    All this follows from differences alone, and weights sum to one: the CMB passes untouched, and in T that is all.

    In E and B the CMB and the noise are so faint that foregrounds whose spectra are not those of training stand out
    above both. There the weights follow the sky itself: what is taken off, and the brightest modes of contrast, are
    fitted to the estimate in each scale, and added as far as they are sure; see `left_behind`. As with any weights
    that come from a map with its CMB, a little of it goes with them (the ILC bias): on the trial in polarisation 0.1 to
    0.5 % at l = 12 to 40, less above and none below. Held fixed, they too let the CMB pass untouched.

    To take foregrounds off with differences of bands is internal template fitting (SEVEM: Fernandez-Cobos et al. 2012);
    to tell them from noise by covariances around each place in needlet scales is from GNILC (Remazeilles et al. 2011).

    Args:
        linear: The trained linear estimate, whose scales and measure of brightness are used.
        weights: What training fixed; see `local_fit`.
    """

    def __init__(self, linear: LinearEstimate, weights: LocalWeights) -> None:
        self.linear, self.weights = linear, weights
        self.layout: Layout = linear.layout

    @property
    def follows(self) -> bool:
        """Whether weights follow the sky where it contradicts training: those of E and B do."""
        return follows_sky(self.layout)

    def __call__(self, alm: np.ndarray, whole: np.ndarray | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
        """The CMB at the target beam, from the bands at their own beams, shape (channel, nalm).

        Args:
            alm: The bands.
            whole: All data, where the bands are those of one half: weights, which noise would change, are theirs.

        Returns:
            Coefficients, shape (nalm,), without monopole; and the weights of each scale, which sum to one over
            channels, shape (channel, 12 nside_j^2), NESTED, float32.
        """
        maps, weights, filters = self.uncalibrated(alm if whole is None else whole)
        looks = np.concatenate([look(own) for own in self.differences(maps, weights)])
        fractions = (self.weights.seen(looks) @ self.weights.response).astype(np.float32)
        for rows in weights:
            rows *= 1 + fractions @ rows - fractions[:, None]
        followed = self._follow(maps, weights, filters) if self.follows else None
        if whole is not None:
            maps = [scale_maps(alm, j, self.linear) for j in range(len(maps))]
        elif followed is not None:
            return followed, weights
        return self._combined(maps, weights), weights

    def modes(self, alm: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The modes of contrast of each scale, and what of each of them the estimate takes off.

        Args:
            alm: The bands, shape (channel, nalm).
            weights: What the estimate came with.

        Returns:
            The modes, whose noise has a variance of about one, and what is taken off [uK_CMB]; each of shape
            (scale * mode, npix), NESTED, float32. None of it holds any CMB.
        """
        needlets, nside = self.linear.needlets, self.layout.nside
        count = self.weights.contrast.shape[1]
        modes, taken = np.empty((2, len(weights) * count, 12 * nside**2), np.float32)
        for j, (rows, contrast) in enumerate(zip(weights, self.weights.contrast, strict=True)):
            # The window once for the way there and once for the way back, as in the estimate.
            scale = needlets.to_scale(alm, j, self.linear.ratio * needlets.windows[j])
            maps = ring_to_nest(synthesis(contrast.astype(np.float32) @ scale, nside, needlets.top[j]))
            fractions = np.linalg.pinv(contrast.T) @ (self.weights.quietest[j][:, None] - rows)
            own = slice(j * count, (j + 1) * count)
            modes[own] = maps
            np.multiply(
                maps, fractions.astype(np.float32).repeat(len(maps[0]) // rows.shape[-1], axis=-1), out=taken[own]
            )
        return modes, taken

    def uncalibrated(self, alm: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """For each scale maps, and weights that take the channels' calibration for good, both shaped as weights above.

        And the filters that they come from, see `wiener`.
        """
        log = brightness(alm, self.linear)
        found, weights, filters = [], [], []
        for j, (nside, places) in enumerate(zip(self.linear.needlets.nsides, windows(self.linear), strict=True)):
            maps, contrast = scale_maps(alm, j, self.linear), self.weights.contrast[j]
            slopes = weights_at(place(coarser(log, nside), self.weights.levels), self.weights.slopes[j])
            # Double precision: the brightest foregrounds are a million times what is to be left of them.
            filters.append(wiener(contrast @ maps, places))
            taken = contrast.T @ apply_by_place(filters[-1], slopes)
            found.append(maps)
            weights.append((self.weights.quietest[j][:, None] - taken).astype(np.float32))
        return found, weights, filters

    def _follow(self, maps: list[np.ndarray], weights: list[np.ndarray], filters: list[np.ndarray]) -> np.ndarray:
        """Change the weights where the estimate contradicts them: it still holds foregrounds that it shows.

        Returns:
            The estimate with the new weights, as `_combined` makes it.
        """
        estimate, templates = self._combined(maps, weights), []
        for j, (own, rows, by_place) in enumerate(zip(maps, weights, filters, strict=True)):
            taken = self.weights.quietest[j] @ own - np.einsum("cp,cp->p", rows, own)
            seen = apply_by_place(by_place[:, :BRIGHTEST], self.weights.contrast[j] @ own)
            rings = nest_to_ring(np.concatenate([taken[None], seen]).astype(np.float32))
            templates.append(self.linear.needlets.to_alm(rings, j))
        templates = np.concatenate(templates)
        templates[:, 0] = 0  # the estimate has no monopole
        found = left_behind(estimate, templates)
        each = found.reshape(len(maps), -1)
        for j, (rows, by_place, (again, *slopes)) in enumerate(zip(weights, filters, each, strict=True)):
            rows -= (again * (self.weights.quietest[j][:, None] - rows)).astype(np.float32)
            more = self.weights.contrast[j].T @ (slopes @ by_place[:, :BRIGHTEST]).T
            rows -= more.astype(np.float32).repeat(rows.shape[-1] // len(by_place), axis=-1)
        return estimate - (found @ templates).astype(estimate.dtype)

    def _combined(self, maps: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
        """The weighted sums of all scales, as coefficients without monopole, shape (nalm,)."""
        estimate = 0
        for j, (own, rows) in enumerate(zip(maps, weights, strict=True)):
            cleaned = nest_to_ring(np.einsum("cp,cp->p", rows, own))
            estimate = estimate + self.linear.needlets.to_alm(cleaned[None], j)[0]
        estimate[0] = 0
        return estimate

    def differences(self, maps: list[np.ndarray], weights: list[np.ndarray]) -> Iterator[np.ndarray]:
        """The channels' maps of each scale less their weighted sum; zero for channels that do not reach the scale."""
        for top, own, rows in zip(self.linear.needlets.top, maps, weights, strict=True):
            differences = own - np.einsum("cp,cp->p", rows, own)
            differences[self.linear.ratio[:, top] == 0] = 0
            yield differences


def scale_maps(alm: np.ndarray, scale: int, linear: LinearEstimate) -> np.ndarray:
    """Needlet maps of the bands at the target beam, shape (channel, 12 nside_j^2), NESTED, float32."""
    return ring_to_nest(linear.needlets.to_maps(alm, scale, linear.ratio).astype(np.float32))


def windows(linear: LinearEstimate) -> list[int]:
    """Resolution of the pixels, nine of which are a window, in each scale: none has fewer modes than `WINDOW_MODES`."""
    tops = zip(linear.needlets.top, linear.needlets.nsides, strict=True)
    return [min(nside, 2 ** max(0, int(np.log2(9 * top**2 / (12 * WINDOW_MODES)) / 2))) for top, nside in tops]


def brightness(alm: np.ndarray, linear: LinearEstimate) -> np.ndarray:
    """Log brightness of the foregrounds, shape (npix,), NESTED."""
    return linear.brightness(alm, linear.weights.pair)


def look(differences: np.ndarray) -> np.ndarray:
    """Logarithms of the sizes of maps (map, npix), and the correlations of their pairs, shape (look,)."""
    maps = differences.astype(np.float64)  # bright bands are alike to a part in a million
    moments = maps @ maps.T / maps.shape[-1]
    size = np.sqrt(np.maximum(np.diagonal(moments), 1e-12))
    rows, columns = np.triu_indices(len(size), k=1)
    return np.concatenate([np.log(size), moments[rows, columns] / (size[rows] * size[columns])])
