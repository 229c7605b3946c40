"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports numba: compiling PySM, which some tests compare with, would take longer than all of them.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


@pytest.fixture(scope="session")
def real_sky() -> Path:
    """Folder of the real Galactic templates, which the project does not ship."""
    folder = Path(__file__).parents[2] / "shared" / "sky"
    if not folder.is_dir():
        pytest.skip(f"no real sky at {folder}")
    return folder
