"""What the bytes of a simulation depend on beside its recipe: libraries, and the processor's arithmetic."""

import hashlib
import importlib.metadata
from functools import cache

import numpy as np

_PACKAGES = ("cmb-lightning", "numpy", "ducc0", "astropy", "pysm3", "camb")


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that make simulations, and a digest of how this processor computes.

    NumPy's exponentials, powers and matrix products differ in the last bit between kinds of processor; the digest of
    some of them tells whether two machines can be expected to agree to the bit.
    """
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    found["arithmetic"] = _arithmetic()
    return found


def _arithmetic() -> str:
    digest = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        x = np.linspace(0.1, 9.0, 4096, dtype=dtype)
        for values in (np.exp(x), np.log(x), np.sin(x), x ** x.dtype.type(1.54), x.sum(), x.reshape(64, 64) @ x[:64]):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]
