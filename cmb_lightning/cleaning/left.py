"""What a linear method leaves of each part of the sky."""

from collections.abc import Mapping

import numpy as np

from cmb_lightning.cleaning.classical import ClassicalMethod
from cmb_lightning.cleaning.each_field import EachField
from cmb_lightning.cleaning.linear import LinearEstimate
from cmb_lightning.cleaning.preparation import harmonics, to_maps, to_scalars
from cmb_lightning.data.layout import Layout


def left_parts(
    method: ClassicalMethod | EachField | LinearEstimate, parts: Mapping[str, np.ndarray], layout: Layout
) -> dict[str, np.ndarray]:
    """The error of a cleaned map in parts, which add up to it: the method is applied to each with the same weights.

    Args:
        method: The method.
        parts: A simulation as it is stored: `cmb`, `foregrounds` and `noise` (channel, npix), `gain` (channel,) and
            `target` (field, npix), NESTED.
        layout: The maps' layout.

    Returns:
        Maps (field, npix) [uK_CMB], NESTED, of I, E and B: `CMB`, what calibration errors and the transforms change of
        it, `foregrounds` and `noise`.
    """
    gain = 1 + parts["gain"][:, None]
    seen = {"CMB": gain * parts["cmb"], "foregrounds": gain * parts["foregrounds"], "noise": parts["noise"]}
    alm = {name: harmonics(maps, layout) for name, maps in seen.items()}
    combination = method.combination(sum(alm.values()))
    left = {name: to_maps(np.atleast_2d(combination(one)), layout) for name, one in alm.items()}
    return left | {"CMB": left["CMB"] - to_scalars(parts["target"], layout)}
