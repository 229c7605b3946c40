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


SIZES = """
from pathlib import Path
import numpy as np
from cmb_lightning import memory
memory._LARGEST = 30_000_000
memory.keep_freed_memory()

def used():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

small, large = np.ones(20_000_000, np.uint8), np.ones(40_000_000, np.uint8)
before = used()
del large
without_large = used()
del small
print((before - without_large) // 1_000_000, (without_large - used()) // 1_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_the_largest_arrays_are_given_back():
    """Or holes would be left that torch's arrays of the same size, which are aligned, do not fit into."""
    given_back = subprocess.run([sys.executable, "-c", SIZES], capture_output=True, check=True, text=True).stdout
    large, small = map(int, given_back.split())
    assert small < 5 and large > 35


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_freed_memory()
