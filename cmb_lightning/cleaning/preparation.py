"""How observed maps become what a method sees: linear steps that can be kept, then the rest."""

from collections.abc import Mapping, Sequence

import numpy as np

from cmb_lightning.cleaning.combination import Combination
from cmb_lightning.cleaning.local_estimate import LocalEstimate
from cmb_lightning.data.datasets import Preparation
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import (
    analysis,
    analysis_qu,
    n_alm,
    nest_to_ring,
    ring_to_nest,
    synthesis,
    synthesis_qu,
)


class InHarmonics(Preparation):
    """Methods that work on the bands' coefficients.

    Args:
        layout: The maps' layout.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        """Coefficients at each band's own beam, complex64, shape (channel, nalm); see `harmonics`."""
        return harmonics(maps, self.layout)


class Differences(InHarmonics):
    """For the residual method: the local estimate, and differences of the bands that hold no CMB.

    Args:
        estimate: The local estimate.
    """

    def __init__(self, estimate: LocalEstimate) -> None:
        super().__init__(estimate.layout)
        self.estimate = estimate

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """`inputs` and `templates` (scale * mode, npix): see `LocalEstimate.modes`; `local` (1, npix): the estimate.

        NESTED, float32; the inputs have noise of variance one, all else is in uK_CMB.
        """
        return self.sample(prepared, *self.estimate(prepared))

    def finish_half(self, prepared: np.ndarray, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The same with the estimate's weights as all data have them."""
        return self.sample(prepared, *self.estimate(prepared, whole))

    def sample(self, prepared: np.ndarray, estimate: np.ndarray, weights: list[np.ndarray]) -> dict[str, np.ndarray]:
        """The entries, from the estimate and its weights."""
        modes, taken = self.estimate.modes(prepared, weights)
        return {"inputs": modes, "templates": taken, "local": to_maps(estimate[None], self.layout)}


class Bands(Preparation):
    """For the direct method: the bands as observed."""

    pixel_by_pixel = True

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        """The maps, unchanged."""
        return maps

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """`inputs` (channel, npix): the maps."""
        return {"inputs": np.ascontiguousarray(prepared, dtype=np.float32)}


class Cleaned(Preparation):
    """For classical methods: the cleaned maps.

    Args:
        method: Takes coefficients (channel, nalm) to those of the estimate, (nalm,), or of several, (field, nalm).
        layout: The maps' layout.
    """

    def __init__(self, method: Combination, layout: Layout) -> None:
        self.method, self.layout = method, layout

    def __call__(self, observed: np.ndarray) -> np.ndarray:
        """The cleaned maps (field, npix) of observed ones (channel, npix), both [uK_CMB], NESTED."""
        return to_fields(self.finish(observed)["cleaned"], self.layout)

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        """The maps, unchanged: weights are those of the whole sky."""
        return maps

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """`cleaned` (field, npix) [uK_CMB], NESTED, float32: I, E and B."""
        return {"cleaned": to_maps(np.atleast_2d(self.method(harmonics(prepared, self.layout))), self.layout)}

    def target(self, maps: np.ndarray) -> np.ndarray:
        """I, E and B of the truth."""
        return to_scalars(maps, self.layout)


class WithBaselines(Preparation):
    """For scores: what the method sees, and beside it the results of classical methods on the same maps.

    Args:
        inner: The method's own preparation.
        baselines: Classical methods by the names of their entries.
        layout: The maps' layout.
    """

    def __init__(self, inner: Preparation, baselines: Mapping[str, Combination], layout: Layout) -> None:
        self.inner, self.baselines, self.layout = inner, baselines, layout

    def prepare(self, maps: np.ndarray) -> np.ndarray:
        """The maps, unchanged: what is scored is not mixed."""
        return maps

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """The inner entries, and one for each baseline, (field, npix) [uK_CMB], NESTED, float32."""
        alm = harmonics(prepared, self.layout)
        sample = self.inner.finish(alm if isinstance(self.inner, InHarmonics) else self.inner.prepare(prepared))
        for name, method in self.baselines.items():
            sample[name] = to_maps(np.atleast_2d(method(alm)), self.layout)
        return sample

    def target(self, maps: np.ndarray) -> np.ndarray:
        """The truth as the method makes it."""
        return self.inner.target(maps)


def harmonics(maps: np.ndarray, layout: Layout) -> np.ndarray:
    """Coefficients without monopole of a layout's channels, NESTED maps of shape (channel, npix).

    Returns:
        complex64, shape (channel, nalm): T in the rows of I, E in those of Q, B in those of U.
    """
    fields = [name.rpartition("_")[2] for name in layout.channels]
    return field_harmonics(maps, fields, layout.lmax)


def field_harmonics(maps: np.ndarray, fields: Sequence[str], lmax: int) -> np.ndarray:
    """The same of any maps, whose rows' fields are given; the rows of Q and U are in the same order."""
    if len(maps) != len(fields):
        raise ValueError(f"{len(maps)} maps but {len(fields)} fields.")
    i, q, u = ([row for row, field in enumerate(fields) if field == one] for one in "IQU")
    alm = np.empty((len(fields), n_alm(lmax)), np.complex64)
    if i:
        # An offset goes first, in double precision: it can be a thousand times what is left of the sky.
        offset = maps[i].mean(axis=-1, keepdims=True, dtype=np.float64)
        alm[i] = analysis(nest_to_ring(np.asarray(maps[i] - offset, dtype=np.float32)), lmax)
    if q:
        alm[q], alm[u] = analysis_qu(*(nest_to_ring(np.asarray(maps[row], dtype=np.float32)) for row in (q, u)), lmax)
    alm[..., 0] = 0
    return alm


def to_maps(alm: np.ndarray, layout: Layout) -> np.ndarray:
    """NESTED float32 maps, shape (..., npix), of coefficients."""
    return ring_to_nest(synthesis(alm.astype(np.complex64), layout.nside, layout.lmax))


def to_scalars(maps: np.ndarray, layout: Layout) -> np.ndarray:
    """I, E and B, without monopoles, from maps of the target's fields, float32, shape (field, npix), NESTED."""
    return maps if layout.fields == ("I",) else to_maps(field_harmonics(maps, layout.fields, layout.lmax), layout)


def to_fields(maps: np.ndarray, layout: Layout) -> np.ndarray:
    """The target's fields from I, E and B, float32, shape (field, npix), NESTED: the way back from `to_scalars`."""
    if layout.fields == ("I",):
        return maps
    alm = dict(zip(layout.scalars, field_harmonics(maps, ("I",) * len(maps), layout.lmax), strict=True))
    made = {"I": synthesis(alm["I"], layout.nside, layout.lmax)} if "I" in alm else {}
    if "E" in alm:
        made["Q"], made["U"] = synthesis_qu(alm["E"], alm["B"], layout.nside, layout.lmax)
    return ring_to_nest(np.stack([made[field] for field in layout.fields]))
