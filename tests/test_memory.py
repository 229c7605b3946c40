import subprocess
import sys

import pytest

from cmb_lightning.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from cmb_lightning.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for turn in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.zeros(3_000_000, np.uint8).fill(1), np.empty(60_000_000, np.uint8).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_large_arrays_come_from_what_was_freed():
    def run(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)

    assert run("kept") < 20 < run("returned")


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_freed_memory()
