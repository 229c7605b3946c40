"""Spectra of a masked sky, freed from the coupling of multipoles that the mask brings (Hivon et al. 2002)."""

from collections.abc import Mapping

import ducc0
import numpy as np

from cmb_lightning.results.spectra import Bins, PairSpectra
from cmb_lightning.sky.transforms import alm2cl, analysis, nest_to_ring, nside_of

MAX_CONDITION = 100.0
WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
LOW = 2  # E and B have no multipoles 0 and 1
TT, TE, SAME, OTHER = range(4)  # ducc0's numbers of the matrices; E and B mix through the last two


class MaskCoupling:
    """Turns pseudo-spectra on one mask into unbiased band powers.

    The coupling is undone in ranges of multipoles as narrow as the mask allows, in each of which D_l is taken to be
    constant, and averaged over the bins afterwards. On large parts of the sky a range is one multipole, and nothing is
    assumed of the spectrum's shape: assuming it flat over wide bins would move E power into B.

    Args:
        weight: Mask or weight of each pixel, the one that both maps were multiplied by, shape (npix,), NESTED.
        lmax: Highest multipole of the pseudo-spectra.
        bins: Where the band powers are wanted, from multipole 2 on.
        polarised: Also prepare EE, BB, EB, TE and TB.
        nthreads: Threads of ducc0.

    Attributes:
        width: Multipoles in each narrow range.
    """

    def __init__(self, weight: np.ndarray, lmax: int, bins: Bins, polarised: bool = False, nthreads: int = 1) -> None:
        kinds = (TT, TE, SAME, OTHER) if polarised else (TT,)
        matrices = coupling_matrices(weight, lmax, kinds, nthreads)
        ell = np.arange(lmax + 1)
        to_d = np.where(ell > 0, ell * (ell + 1) / (2 * np.pi), 1.0)
        for self.width in WIDTHS:
            binned, spread, collect = _narrow(matrices, to_d, self.width, lmax)
            skip = {k: 0 if k == TT else LOW for k in kinds}
            if all(np.linalg.cond(binned[k][skip[k] :, skip[k] :]) < MAX_CONDITION for k in kinds if k != OTHER):
                break
        average = bins.mean(spread).T  # band powers from narrow ones, shape (bin, narrow range)

        def undo(matrix: np.ndarray, first: int) -> np.ndarray:
            return average[:, first:] @ np.linalg.solve(matrix, collect[first:])

        self._operators = {"TT": undo(binned[TT], 0)}
        if polarised:
            spin1, same, other = (binned[k][LOW:, LOW:] for k in (TE, SAME, OTHER))
            self._operators |= {"TE": undo(spin1, LOW), "EB": undo(same - other, LOW)}
            # (EE + BB) and (EE - BB) do not mix
            plus, minus = undo(same + other, LOW), undo(same - other, LOW)
            self._operators |= {"same": (plus + minus) / 2, "other": (plus - minus) / 2}
            self._operators["TB"] = self._operators["TE"]

    def decouple(self, pseudo: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Band powers of the full sky.

        Args:
            pseudo: Spectra of the masked maps as they are (not divided by anything), C_l, shape (..., lmax + 1), by
                name: `TT`; `EE` and `BB`, which need each other; `TE`, `TB`, `EB`.

        Returns:
            D_l [unit of the maps squared], shape (..., bin), by name.
        """
        result = {}
        for name, cl in pseudo.items():
            if name in ("EE", "BB"):
                twin = pseudo["BB" if name == "EE" else "EE"]
                result[name] = cl @ self._operators["same"].T + twin @ self._operators["other"].T
            else:
                result[name] = cl @ self._operators[name].T
        return result

    def decouple_pairs(self, pseudo: Mapping[str, PairSpectra]) -> dict[str, PairSpectra]:
        """Band powers, D_l, of what `pseudo_spectra` gave."""
        parts = [self.decouple({name: pair.parts()[k] for name, pair in pseudo.items()}) for k in range(4)]
        return {name: PairSpectra(*(part[name] for part in parts)) for name in pseudo}


def coupling_matrices(
    weight: np.ndarray, lmax: int, kinds: tuple[int, ...], nthreads: int = 1
) -> dict[int, np.ndarray]:
    """Matrices that take full-sky spectra to the expected pseudo-spectra, each of shape (lmax + 1, lmax + 1)."""
    ring = nest_to_ring(np.asarray(weight, dtype=np.float64))
    mask = alm2cl(analysis(ring, 3 * nside_of(ring) - 1, nthreads=nthreads))
    spectrum = np.zeros(2 * lmax + 1)  # a mask's spectrum ends where its pixels do; beyond, it counts as zero
    spectrum[: min(len(mask), 2 * lmax + 1)] = mask[: 2 * lmax + 1]
    matrices = np.empty((len(kinds), lmax + 1, lmax + 1))
    ducc0.misc.experimental.coupling_matrix_rect(np.stack([spectrum] * len(kinds)), kinds, matrices, nthreads=nthreads)
    return dict(zip(kinds, matrices * (2 * np.arange(lmax + 1) + 1), strict=True))


def _narrow(
    matrices: Mapping[int, np.ndarray], to_d: np.ndarray, width: int, lmax: int
) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
    """Matrices between narrow ranges of D_l, and how such ranges spread over multipoles and are collected from them."""
    edges = np.arange(2, max(3, lmax + 2 - width), width)  # the last range takes the rest
    ranges = Bins(np.concatenate([[0, 1], edges, [lmax + 1]]))
    spread = np.repeat(np.eye(len(ranges.modes)), np.diff(ranges.edges), axis=1)  # (range, lmax + 1)
    modes = 2 * np.arange(lmax + 1) + 1
    collect = spread * modes * to_d / ranges.modes[:, None]
    return {k: collect @ matrix @ (spread / to_d).T for k, matrix in matrices.items()}, spread, collect
