from dataclasses import dataclass

import numpy as np
import pytest

from cmb_lightning.cleaning.classical import PixelILC
from cmb_lightning.cleaning.preparation import Cleaned
from cmb_lightning.data.cache import SplitCache
from cmb_lightning.errors import ConfigError
from cmb_lightning.results import report, report_sections
from cmb_lightning.results.collect import collect
from cmb_lightning.results.compare import compare
from cmb_lightning.results.sources import CachedTruth, Identity
from tests.results.comparing import LAYOUT, NSIDE, SIMS, predictions, smooth, truth


@dataclass
class SplitOnDisk:
    """As much of a split as `collect` sees."""

    cache: SplitCache
    n_used: int


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("collect")
    splits = {
        name: SplitOnDisk(truth(root / "cache", name, k).cache, SIMS) for k, name in enumerate(("test", "turned"))
    }
    for name in splits:
        predictions(root / "run" / "predictions", CachedTruth(splits[name].cache, SIMS), 3, 1)
    return root, splits


def test_runs_maps_and_methods_side_by_side(world):
    root, splits = world
    truths, methods = collect(splits, {"run": root / "run"}, {"pixel ILC": Cleaned(PixelILC(LAYOUT), LAYOUT)})
    assert list(truths) == list(methods) == ["test", "turned"]
    assert [list(of) for of in methods.values()] == [["run", "pixel ILC"]] * 2
    assert compare(truths, methods, n_workers=1).methods == ("run", "pixel ILC")


def test_epochs_become_methods(world, tmp_path):
    _, splits = world
    one = {"test": splits["test"]}
    for epoch in (1, 5):
        predictions(tmp_path / str(epoch), CachedTruth(splits["test"].cache, SIMS), 3, 1, EPOCH=epoch)
    assert list(collect(one, {"run": tmp_path})[1]["test"]) == ["run@1", "run@5"]


def test_maps_without_a_split_belong_to_the_only_one(world, tmp_path):
    _, splits = world
    predictions(tmp_path, CachedTruth(splits["test"].cache, SIMS), 3, 1, SPLIT=None)
    assert list(collect({"turned": splits["turned"]}, {"mine": tmp_path})[1]["turned"]) == ["mine"]
    with pytest.raises(ConfigError, match="mine: .* has no maps of split test; its splits: none that they state"):
        collect(splits, {"mine": tmp_path})


@dataclass(frozen=True)
class InMemory:
    """Polarised maps that are nowhere on disk."""

    maps: np.ndarray

    def identity(self) -> Identity:
        return Identity(None, NSIDE, 600.0, tuple(range(len(self.maps))))

    def read(self, sim: int) -> dict[str, np.ndarray]:
        return {"maps": self.maps[sim]}

    def about(self) -> dict[str, str]:
        return {}


def test_polarisation(tmp_path, monkeypatch):
    monkeypatch.setattr(report_sections, "svg_address", lambda figure: "data:image/svg+xml,")  # drawn, but not saved
    rng = np.random.default_rng(0)
    true = np.stack([smooth(rng, 10, 3) for _ in range(3)])
    found = compare(
        {"test": InMemory(true)}, {"test": {"scaled": InMemory(0.9 * true)}}, fields=("I", "Q", "U"), n_workers=1
    )
    assert found.main_scores["test", "scaled"].fields == ("I", "Q", "U")
    np.testing.assert_allclose(found.main_scores["test", "scaled"].of("NRMSE", "b20", "U"), 0.1, rtol=1e-5)
    for where in ("full sky", "masked"):
        spectra = found.spectra[where, "test", "scaled"]
        assert list(spectra) == ["TT", "EE", "BB", "TE"]
        for kind in spectra:
            np.testing.assert_allclose(spectra[kind].transfer(), 0.9, rtol=1e-4)
    text = report.write_report(found, tmp_path / "report.html").read_text()
    for expected in ("Spectra BB of test, masked sky", "Map of scaled, test, simulation 0, U", "Histogram of test, Q"):
        assert expected in text
