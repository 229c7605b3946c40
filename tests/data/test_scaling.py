import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from cmb_lightning.data.generation import make_split
from cmb_lightning.data.scaling import (
    Extremes,
    read_extremes,
    read_observed,
    read_target,
    scan,
    scan_tasks,
    write_extremes,
)
from cmb_lightning.data.splits import Split, SplitData
from cmb_lightning.errors import ConfigError
from tests.data.fakes import Toy, toy_cache


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cache = toy_cache(tmp_path_factory.mktemp("cache"), Toy())
    make_split(cache, Toy(), 5)
    return SplitData(cache, Toy(), Split(5))


def test_headers_and_serial_and_parallel_scans_agree_to_the_bit(data, tmp_path):
    written = []
    for n_workers in (None, 1, 2):
        if n_workers is None:
            found = data.summary(5)
        else:
            readers = {"observed": read_observed, "target": read_target}
            found = {
                name: scan(scan_tasks(data.cache, 5, reader), n_workers=n_workers) for name, reader in readers.items()
            }
        extremes = {
            "inputs": Extremes.of(found["observed"], ["30_I", "100_I"]),
            "target": Extremes.of(found["target"], ["I"]),
        }
        write_extremes(tmp_path / f"{n_workers}.yaml", extremes, {"train": data.cache.id})
        written.append((tmp_path / f"{n_workers}.yaml").read_bytes())
    assert written[0] == written[1] == written[2]


def test_yaml_gives_back_the_same_quantities(tmp_path):
    values = np.float32([-123.456789, 1e-7, 3.4e38])
    extremes = Extremes(("a", "b", "c"), tuple((-values).tolist()), tuple(values.tolist()))
    path = tmp_path / "folder" / "extremes.yaml"
    write_extremes(path, {"inputs": extremes}, {"train": "0f"})
    assert read_extremes(path)["inputs"] == extremes
    assert read_extremes(path)["inputs"].quantities() == extremes.quantities()
    assert all(
        np.array_equal(a, b) for a, b in zip(read_extremes(path)["inputs"].arrays(), (-values, values), strict=True)
    )
    entry = yaml.safe_load(path.read_text())["inputs"]["b"]
    assert entry["vmax"].endswith(" uK_CMB") and float(entry["vmax"].split()[0]) == values[1]
    assert str(extremes.quantities()["b"][1].unit) == "uK_CMB"


def test_extremes_of_other_data_are_refused(tmp_path):
    path = tmp_path / "extremes.yaml"
    write_extremes(path, {"inputs": Extremes(("a",), (0.0,), (1.0,))}, {"train": "0f"})
    assert read_extremes(path, {"train": "0f"})
    with pytest.raises(ConfigError, match="'0f'.*not of.*'1f'"):
        read_extremes(path, {"train": "1f"})
    with pytest.raises(FileNotFoundError, match="no extremes"):
        read_extremes(tmp_path / "missing.yaml")


@pytest.mark.parametrize("text", ["", "a: [", "recipes: {}\ninputs: {a: {vmin: 1, vmax: 2}}", "recipes: {}\ninputs: 3"])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "extremes.yaml").write_text(text)
    with pytest.raises(ConfigError, match="does not hold extremes"):
        read_extremes(tmp_path / "extremes.yaml")


def test_the_same_extremes_are_not_written_again(tmp_path):
    path = tmp_path / "extremes.yaml"
    for _ in range(2):
        write_extremes(path, {"inputs": Extremes(("a",), (0.0,), (1.0,))}, {"train": "0f"})
        inode = path.stat().st_ino
    assert path.stat().st_ino == inode
    write_extremes(path, {"inputs": Extremes(("a",), (0.0,), (2.0,))}, {"train": "0f"})
    assert path.stat().st_ino != inode


def test_constant_channels_are_known():
    assert Extremes(("a", "b"), (0.0, 1.0), (1.0, 1.0)).constant() == ["b"]


def test_no_maps_have_no_extremes():
    assert scan([]) is None


SCAN = """
import os, signal, sys
from pathlib import Path
from cmb_lightning.data.scaling import Extremes, read_target, scan, scan_tasks, write_extremes
from tests.data.fakes import Toy, toy_cache

root, when = Path(sys.argv[1]), sys.argv[2]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def reader(path):
    return die() if when == "reading" and "sim000003" in path else read_target(path)

if when == "writing":
    os.replace = die
cache = toy_cache(root, Toy())
found = scan(scan_tasks(cache, 5, reader), n_workers=1)
write_extremes(root / "scanned" / "extremes.yaml", {"target": Extremes.of(found, ["I"])}, {"train": cache.id})
"""


@pytest.mark.parametrize("when", ["reading", "writing"])
def test_a_scan_that_is_killed_leaves_no_extremes_and_the_next_finds_the_same(data, when):
    root, path = data.cache.root, data.cache.root / "scanned" / "extremes.yaml"
    path.unlink(missing_ok=True)

    def run(moment: str) -> int:
        command = [sys.executable, "-c", SCAN, str(root), moment]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False).returncode

    assert run(when) == -signal.SIGKILL
    assert not path.exists()
    assert run("never") == 0
    assert read_extremes(path)["target"] == Extremes.of(data.summary(5)["target"], ["I"])
