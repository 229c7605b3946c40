import numpy as np
import pytest

from cmb_lightning.data.scaling import Extremes, read_extremes, read_target, scan, scan_tasks
from cmb_lightning.data.spectrum_module import SpectrumDataModule, SpectrumSplit
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.spectra import FileSpectrum, PolynomialSpectrum
from cmb_lightning.sky.transforms import alm2cl, analysis, nest_to_ring

POLYNOMIAL = [0.01, 0.1, 1.0]


def module(root, **options) -> SpectrumDataModule:
    splits = {"train": SpectrumSplit(20), "valid": SpectrumSplit(4)}
    defaults = {"splits": splits, "spectrum": PolynomialSpectrum(POLYNOMIAL), "nside": 16, "batch_size": 2}
    return SpectrumDataModule(**defaults | {"root": root} | options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = module(tmp_path_factory.mktemp("cache"))
    data.prepare_data()
    data.setup("fit")
    return data


def test_the_maps_have_the_spectrum_of_the_polynomial(data):
    maps = np.stack([sim["target"][0] for sim in data.splits["train"]])
    assert maps.shape == (20, 3072) and maps.dtype == np.float32
    found = alm2cl(analysis(nest_to_ring(maps), 32), lmax=32).mean(axis=0)
    ell = np.arange(2, 33)
    expected = np.poly1d(POLYNOMIAL)(ell)
    assert np.abs((found[2:] / expected - 1) / np.sqrt(2 / (20 * (2 * ell + 1)))).max() < 4
    assert found[0] < 1e-7


def test_the_spectrum_is_saved(data):
    path = data.root / "spectrum" / "spectrum_valid.txt"
    assert np.array_equal(FileSpectrum(str(path)).cl(32)[0, 1:], np.poly1d(POLYNOMIAL)(np.arange(1, 33)))


def test_extremes_are_over_both_splits_and_equal_to_a_scan(data, tmp_path):
    written = read_extremes(data.write_extremes(), data.identity)
    maps = np.stack([sim["target"][0] for split in data.splits.values() for sim in split])
    assert written["target"].vmin == (maps.min(),) and written["target"].vmax == (maps.max(),)
    tasks = [task for split in data.splits.values() for task in scan_tasks(split.cache, len(split), read_target)]
    for n_workers in (1, 2):
        assert Extremes.of(scan(tasks, n_workers=n_workers), ["I"]) == written["target"]


def test_scaled_maps_lie_between_0_and_1(data):
    batches = [batch for split in ("train", "valid") for batch in data.scaled_dataloader(split)]
    assert batches[0].shape == (2, 1, 3072)
    assert min(float(batch.min()) for batch in batches) == 0
    assert max(float(batch.max()) for batch in batches) == 1


def test_inputs_are_the_maps_with_noise_of_the_stated_level(data):
    training = data.training_dataset()
    noise = np.stack([training[0, i]["inputs"] - training[0, i]["target"] for i in range(20)])
    assert noise.std() == pytest.approx(50, rel=0.02)
    assert np.array_equal(training[0, 3]["target"], data.splits["train"][3]["target"])
    assert np.array_equal(training[0, 3]["inputs"], training[0, 3]["inputs"])
    assert not np.array_equal(training[0, 3]["inputs"], training[1, 3]["inputs"])
    evaluation = data.evaluation_dataset("valid")
    assert np.array_equal(evaluation[1]["observed"], evaluation[1]["inputs"])
    assert (evaluation[1]["split"], evaluation[1]["index"], len(evaluation)) == ("valid", 1, 4)


def test_a_second_time_makes_and_writes_nothing(data):
    before = {path: path.stat().st_mtime_ns for path in data.root.rglob("*")}
    again = module(data.root)
    again.prepare_data()
    again.setup("fit")
    again.write_extremes()
    assert {path: path.stat().st_mtime_ns for path in data.root.rglob("*")} == before


def test_a_split_may_have_its_own_spectrum(tmp_path):
    splits = {"train": SpectrumSplit(1), "test": SpectrumSplit(1, spectrum=PolynomialSpectrum([100.0]))}
    data = module(tmp_path, splits=splits)
    data.prepare_data()
    assert data.splits["test"][0]["target"].std() > 2 * data.splits["train"][0]["target"].std()
    saved = [FileSpectrum(str(tmp_path / "spectrum" / f"spectrum_{name}.txt")).cl(2)[0, 2] for name in splits]
    assert saved == [np.poly1d(POLYNOMIAL)(2), 100.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spectrum": PolynomialSpectrum([-1.0, 3.0])}, "C_l of TT is -1 at l = 4"),
        ({"noise": "-1 uK_CMB"}, "noise: -1"),
        ({"noise": "1 arcmin"}, "noise: '1 arcmin'"),
        ({"nside": 15}, "nside: 15"),
        ({"lmax": 99}, "lmax: 99"),
        ({"seed": -1}, "seed: -1"),
        ({"spectra": "{root}/spectrum.txt"}, "spectra: .* lacks the placeholder {split}"),
        ({"spectra": "{root}/{split}", "extremes": "{root}/split"}, "extremes: .* same path as spectra"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        module(tmp_path, **change)
