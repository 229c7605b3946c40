"""Whether a simulation that was made twice is the same."""

import json
import logging
from collections.abc import Mapping

import numpy as np

from cmb_lightning.data.header import read_header
from cmb_lightning.data.recipe import differing_keys
from cmb_lightning.data.tensorfile import TensorFile
from cmb_lightning.data.versions import versions

log = logging.getLogger(__name__)

AGREEMENT = 1e-5  # of the spread, asked of another kind of processor or other versions


class NotDeterministic(RuntimeError):
    """The same recipe gave different maps on the same kind of machine."""


def check_same(name: str, stored: TensorFile, tensors: Mapping[str, np.ndarray], hashes: Mapping[str, str]) -> None:
    """Compares a simulation with the one that is stored.

    Args:
        name: What it is called in messages.
        stored: The one that another process has stored.
        tensors: The one made now.
        hashes: SHA-256 of its tensors.

    Raises:
        NotDeterministic: They differ, by more than processors or versions of libraries do.
        BadFile: The stored one is damaged.
    """
    header = read_header(stored)
    if header["sha256"] == hashes:
        return
    if json.loads(header["versions"]) == versions():
        raise NotDeterministic(
            f"{name} was made twice, with different results in "
            f"{', '.join(differing_keys(header['sha256'], hashes))}: the generator is not deterministic."
        )
    for key, tensor in tensors.items():
        difference = disagreement(tensor, stored.read(key))
        if difference > AGREEMENT:
            raise NotDeterministic(
                f"'{key}' of {name} differs from the stored one by {difference:.1e} of its spread; that was made with "
                f"{header['versions']}."
            )
    log.warning("%s agrees with that of other versions, but not to the bit.", name)


def disagreement(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of two tensors, over the spread of the first; above `AGREEMENT` they are not the same."""
    if mine.shape != theirs.shape:
        return float("inf")
    difference = float(np.abs(mine - theirs).max(initial=0))
    return difference / max(float(np.ptp(mine)), np.finfo(np.float32).tiny) if difference else 0.0
