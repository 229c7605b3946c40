"""Spherical harmonic transforms on HEALPix maps, through ducc0.

Maps are RING, shape (..., npix); coefficients are in healpy's order (m outer, l inner), shape (..., nalm). Leading axes
are a batch, and the precision of the input is kept. Q and U follow the HEALPix (COSMO) convention.
"""

from functools import lru_cache

import ducc0
import numpy as np

from ..errors import ConfigError


def check_nside(nside: int, key: str = "nside") -> int:
    """Return nside, or raise ConfigError where it is not a power of two."""
    if not isinstance(nside, (int, np.integer)) or nside < 1 or nside & (nside - 1):
        raise ConfigError(f"{key}: {nside} is not a power of two; give 64, 128, 256, ...")
    return int(nside)


def check_lmax(lmax: int, nside: int, key: str = "lmax") -> int:
    """Return lmax, or raise ConfigError where the pixels cannot carry it."""
    if not 2 <= lmax <= 3 * nside - 1:
        raise ConfigError(f"{key}: {lmax} must lie between 2 and 3 nside - 1 = {3 * nside - 1} (nside {nside})")
    return int(lmax)


def n_alm(lmax: int) -> int:
    """Number of coefficients with m >= 0."""
    return (lmax + 1) * (lmax + 2) // 2


@lru_cache(maxsize=8)
def alm_degrees(lmax: int) -> np.ndarray:
    """Degree l of every coefficient, shape (nalm,)."""
    return np.concatenate([np.arange(m, lmax + 1) for m in range(lmax + 1)])


@lru_cache(maxsize=8)
def _geometry(nside: int) -> dict[str, np.ndarray]:
    return ducc0.healpix.Healpix_Base(check_nside(nside), "RING").sht_info()


@lru_cache(maxsize=8)
def _nest_to_ring_index(nside: int) -> np.ndarray:
    """RING number of every NESTED pixel."""
    base = ducc0.healpix.Healpix_Base(check_nside(nside), "NEST")
    return base.nest2ring(np.arange(12 * nside**2, dtype=np.int64))


@lru_cache(maxsize=8)
def _ring_to_nest_index(nside: int) -> np.ndarray:
    """NESTED number of every RING pixel."""
    base = ducc0.healpix.Healpix_Base(check_nside(nside), "RING")
    return base.ring2nest(np.arange(12 * nside**2, dtype=np.int64))


def nside_of(maps: np.ndarray) -> int:
    """Return nside from the last axis, (..., npix)."""
    npix = maps.shape[-1]
    nside = int(round((npix / 12) ** 0.5))
    if 12 * nside**2 != npix:
        raise ValueError(f"{npix} pixels are no HEALPix map (12 nside^2)")
    return check_nside(nside)


def ring_to_nest(maps: np.ndarray) -> np.ndarray:
    """Reorder (..., npix) from RING to NESTED."""
    return np.take(maps, _nest_to_ring_index(nside_of(maps)), axis=-1)  # unlike [...] with rows that are contiguous


def nest_to_ring(maps: np.ndarray) -> np.ndarray:
    """Reorder (..., npix) from NESTED to RING."""
    return np.take(maps, _ring_to_nest_index(nside_of(maps)), axis=-1)


def _real(dtype: np.dtype) -> type:
    return np.float32 if np.dtype(dtype) in (np.float32, np.complex64) else np.float64


def _complex(dtype: np.dtype) -> type:
    return np.complex64 if _real(dtype) is np.float32 else np.complex128


def _synthesis(alm: np.ndarray, nside: int, lmax: int, spin: int, nthreads: int) -> np.ndarray:
    """Transform (batch, 1 or 2, nalm) to (batch, 1 or 2, npix)."""
    alm = np.ascontiguousarray(alm, dtype=_complex(alm.dtype))
    return ducc0.sht.synthesis(alm=alm, lmax=lmax, spin=spin, nthreads=nthreads, **_geometry(nside))


def _analysis(maps: np.ndarray, lmax: int, spin: int, iterations: int, nthreads: int) -> np.ndarray:
    """Transform (batch, 1 or 2, npix) to (batch, 1 or 2, nalm), iterating on the residual."""
    nside = nside_of(maps)
    maps = np.ascontiguousarray(maps, dtype=_real(maps.dtype))
    weight = maps.dtype.type(4 * np.pi / maps.shape[-1])

    def adjoint(residual: np.ndarray) -> np.ndarray:
        arguments = dict(lmax=lmax, spin=spin, nthreads=nthreads, **_geometry(nside))
        return weight * ducc0.sht.adjoint_synthesis(map=residual, **arguments)

    alm = adjoint(maps)
    for _ in range(iterations):
        alm += adjoint(maps - _synthesis(alm, nside, lmax, spin, nthreads))
    return alm


def synthesis(alm: np.ndarray, nside: int, lmax: int, nthreads: int = 1) -> np.ndarray:
    """Make scalar maps (..., npix) from coefficients (..., nalm)."""
    maps = _synthesis(alm.reshape(-1, 1, alm.shape[-1]), nside, lmax, 0, nthreads)
    return maps.reshape(*alm.shape[:-1], -1)


def analysis(maps: np.ndarray, lmax: int, iterations: int = 3, nthreads: int = 1) -> np.ndarray:
    """Return the coefficients (..., nalm) of scalar maps (..., npix).

    Args:
        maps: RING, float32 or float64.
        lmax: exact (about 1e-6 with three iterations) up to 2 nside, wrong by some percent above.
        iterations: corrections from the residual map.
        nthreads: threads of ducc0.
    """
    alm = _analysis(maps.reshape(-1, 1, maps.shape[-1]), lmax, 0, iterations, nthreads)
    return alm.reshape(*maps.shape[:-1], -1)


def synthesis_qu(
    e: np.ndarray, b: np.ndarray, nside: int, lmax: int, nthreads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Make Q and U maps, each (..., npix), from E and B coefficients, each (..., nalm)."""
    both = np.stack([e, b], axis=-2)
    maps = _synthesis(both.reshape(-1, 2, both.shape[-1]), nside, lmax, 2, nthreads)
    maps = maps.reshape(*e.shape[:-1], 2, -1)
    return maps[..., 0, :], maps[..., 1, :]


def analysis_qu(
    q: np.ndarray, u: np.ndarray, lmax: int, iterations: int = 3, nthreads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return E and B coefficients, each (..., nalm), of Q and U maps, each (..., npix)."""
    both = np.stack([q, u], axis=-2)
    alm = _analysis(both.reshape(-1, 2, both.shape[-1]), lmax, 2, iterations, nthreads)
    alm = alm.reshape(*q.shape[:-1], 2, -1)
    return alm[..., 0, :], alm[..., 1, :]


def almxfl(alm: np.ndarray, fl: np.ndarray) -> np.ndarray:
    """Multiply (..., nalm) by a function of degree (..., lmax+1); leading axes broadcast, `alm` keeps its precision."""
    fl = np.asarray(fl)
    return alm * fl.astype(_real(alm.dtype))[..., alm_degrees(fl.shape[-1] - 1)]


def alm2cl(a: np.ndarray, b: np.ndarray | None = None, lmax: int | None = None) -> np.ndarray:
    """Return the (cross-)spectrum (..., lmax+1) of coefficients (..., nalm), float64."""
    b = a if b is None else b
    lmax = int(round(((8 * a.shape[-1] + 1) ** 0.5 - 3) / 2)) if lmax is None else lmax
    power = (a.astype(np.complex128) * np.conj(b)).real * 2.0
    power[..., : lmax + 1] *= 0.5  # m = 0 is there once, every other m also as -m
    degrees = alm_degrees(lmax)
    rows = np.stack([np.bincount(degrees, row, lmax + 1) for row in power.reshape(-1, power.shape[-1])])
    return rows.reshape(*power.shape[:-1], -1) / (2 * np.arange(lmax + 1) + 1)


def draw_unit_alm(rng: np.random.Generator, lmax: int, count: int | None = None) -> np.ndarray:
    """Draw coefficients of unit variance, complex128, shape (nalm,) or (count, nalm)."""
    shape = (2, n_alm(lmax)) if count is None else (count, 2, n_alm(lmax))
    normal = rng.standard_normal(shape)
    alm = (normal[..., 0, :] + 1j * normal[..., 1, :]) * np.sqrt(0.5)
    alm[..., : lmax + 1] = normal[..., 0, : lmax + 1]  # m = 0 is real
    return alm


def draw_alm(cl: np.ndarray, rng: np.random.Generator, lmax: int) -> np.ndarray:
    """Draw a Gaussian realisation (nalm,) of a spectrum (at least lmax+1,), complex128."""
    return almxfl(draw_unit_alm(rng, lmax), np.sqrt(cl[: lmax + 1]))


def euler_angles(matrix: np.ndarray) -> tuple[float, float, float]:
    """Return ducc0's angles (psi, theta, phi) [rad] of a rotation matrix (3, 3) = Rz(phi) Ry(theta) Rz(psi)."""
    theta = np.arctan2(np.hypot(matrix[2, 0], matrix[2, 1]), matrix[2, 2])
    if np.sin(theta) < 1e-9:  # a turn about z, perhaps after a flip: psi and phi cannot be told apart
        psi, phi = np.arctan2(matrix[1, 0], np.sign(matrix[2, 2]) * matrix[0, 0]), 0.0
    else:
        psi, phi = np.arctan2(matrix[2, 1], -matrix[2, 0]), np.arctan2(matrix[1, 2], matrix[0, 2])
    return float(psi), float(theta), float(phi)


def rotate_alm(alm: np.ndarray, lmax: int, matrix: np.ndarray, nthreads: int = 1) -> np.ndarray:
    """Turn a sky: the source at direction v moves to `matrix @ v`.

    Args:
        alm: (..., nalm), of T, E or B.
        lmax: of the coefficients.
        matrix: rotation, shape (3, 3).
        nthreads: threads of ducc0.
    """
    psi, theta, phi = euler_angles(np.asarray(matrix, dtype=float))
    rows = np.ascontiguousarray(alm.reshape(-1, alm.shape[-1]))
    turned = np.stack([ducc0.sht.rotate_alm(row, lmax, psi, theta, phi, nthreads) for row in rows])
    return turned.reshape(alm.shape)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation matrix (3, 3), uniform over all orientations."""
    quaternion = rng.standard_normal(4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def euler_rotation(first: float, second: float, third: float) -> np.ndarray:
    """Make the rotation matrix (3, 3) of turns about z, then y, then z again [deg]."""

    def turn(angle: float, axes: tuple[int, int]) -> np.ndarray:
        matrix, (a, b) = np.eye(3), axes
        matrix[a, a] = matrix[b, b] = np.cos(np.deg2rad(angle))
        matrix[b, a] = np.sin(np.deg2rad(angle))
        matrix[a, b] = -matrix[b, a]
        return matrix

    return turn(third, (0, 1)) @ turn(second, (2, 0)) @ turn(first, (0, 1))
