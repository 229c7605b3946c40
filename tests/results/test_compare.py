import healpy
import numpy as np
import pytest

from cmb_lightning.cleaning.regions import galactic_mask
from cmb_lightning.cleaning.scores import METRICS
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.comparable import Settings
from cmb_lightning.results.compare import compare
from cmb_lightning.results.find import find_predictions
from cmb_lightning.results.fits import read_map, write_map
from cmb_lightning.results.sources import CachedMethod, FitsMaps, Halves, Statements
from tests.results.comparing import FWHM, LAYOUT, NPIX, NSIDE, SIMS, first_half, predictions, smooth, truth


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two splits, predictions of two methods for each, and a method that is run on the spot."""
    root = tmp_path_factory.mktemp("world")
    truths = {split: truth(root / "cache", split, seed) for seed, split in enumerate(("test", "turned"))}
    for seed, of in enumerate(truths.values()):
        predictions(root / "good", of, 3, 10 + seed, sigma=3.0)
        predictions(root / "poor", of, 8, 20 + seed)
    found = {name: find_predictions(root / name) for name in ("good", "poor")}
    methods = {
        split: {name: found[name][split][-1] for name in found}
        | {"finest band": CachedMethod(of.cache, SIMS, first_half)}
        for split, of in truths.items()
    }
    return root, truths, methods


@pytest.fixture(scope="module")
def result(world):
    _, truths, methods = world
    return compare(truths, methods, n_workers=1)


def test_scores_equal_a_separate_computation(world, result):
    root, truths, _ = world
    mask = healpy.reorder(galactic_mask(NSIDE, 20), n2r=True)
    scores = result.main_scores["turned", "poor"]
    for sim in range(SIMS):
        p = healpy.read_map(root / "poor" / "turned" / f"sim{sim:04d}" / "map.fits", dtype=np.float64)
        t = healpy.reorder(truths["turned"].read(sim)["maps"][0], n2r=True).astype(np.float64)
        assert scores.of("RMSE", "full")[sim] == pytest.approx(np.sqrt(np.mean((p - t) ** 2)), rel=1e-9)
        assert scores.of("MAE", "b20")[sim] == pytest.approx(np.abs(p - t)[mask].mean(), rel=1e-9)
        cl = healpy.anafast(p - t, lmax=2 * NSIDE)
        ell = np.arange(cl.size)
        residual = result.spectra["full sky", "turned", "poor"]["TT"].residual[sim]
        low, high = result.bins.edges[3:5]
        weights = (2 * ell + 1)[low:high]
        d = (cl * ell * (ell + 1) / 2 / np.pi)[low:high]
        assert residual[3] == pytest.approx((d * weights).sum() / weights.sum(), rel=1e-5)


def test_shape_of_the_result(result):
    assert result.splits == ("test", "turned") and result.methods == ("good", "poor", "finest band")
    assert result.regions == ("full", "b20", "faintest50%", "50-80%", "brightest20%")
    assert result.main_scores["test", "good"].values.shape == (SIMS, 1, 5, len(METRICS))
    assert result.spectra["masked", "test", "good"]["TT"].truth.shape == (SIMS, len(result.bins.centres))
    assert result.examples["turned"][""].shape == (1, NPIX)
    assert result.about["test", "finest band"] == {"method": "run on the observed maps"}
    for split in result.splits:
        means = [result.main_scores[split, name].of("RMSE", "full").mean() for name in ("good", "poor")]
        assert means == [pytest.approx(3, rel=0.01), pytest.approx(8, rel=0.01)]


def test_method_run_on_the_spot(result):
    """The finest band misses the truth by its foregrounds and noise, most where they are bright."""
    scores = result.main_scores["test", "finest band"]
    zones = [scores.of("RMSE", zone).mean() for zone in result.regions[2:]]
    assert zones[0] < zones[1] < zones[2]


def test_calibration_of_error_bars(result):
    found = result.calibration["test", "good"]
    assert ("test", "poor") not in result.calibration
    assert found.pixels == SIMS * galactic_mask(NSIDE, 20).sum()
    assert found.reduced_chi2() == pytest.approx(1, abs=0.1)
    assert found.coverage()[10] == pytest.approx(0.683, abs=0.05)
    stated, made = found.reliability()
    assert stated == pytest.approx([3.0]) and made == pytest.approx([3.0], rel=0.05)


def test_histograms_count_every_pixel_near_zero(result):
    counts = result.histograms["test", "good"]
    assert counts.shape == (1, len(result.edges) - 1)
    assert counts.sum() == pytest.approx(SIMS * galactic_mask(NSIDE, 20).sum(), rel=1e-3)


def test_processes_change_nothing(world, result):
    _, truths, methods = world
    again = compare({"test": truths["test"]}, {"test": methods["test"]}, n_workers=2)
    for key, scores in again.main_scores.items():
        np.testing.assert_array_equal(scores.values, result.main_scores[key].values)


def test_common_beam(world):
    """At a wider beam maps are those that healpy smooths."""
    root, truths, methods = world
    found = compare(
        {"test": truths["test"]}, {"test": methods["test"]}, settings=Settings(beams=(FWHM, 1200.0)), n_workers=1
    )
    p = healpy.read_map(root / "good" / "test" / "sim0002" / "map.fits", dtype=np.float64)
    t = healpy.reorder(truths["test"].read(2)["maps"][0], n2r=True).astype(np.float64)
    extra = np.radians(np.sqrt(1200.0**2 - FWHM**2) / 60)
    smoothed = healpy.smoothing(p - t, fwhm=extra, lmax=2 * NSIDE)
    assert found.scores[1200.0]["test", "good"].of("RMSE", "full")[2] == pytest.approx(smoothed.std(), rel=1e-4)
    native = compare({"test": truths["test"]}, {"test": methods["test"]}, n_workers=1)
    np.testing.assert_array_equal(found.scores[FWHM]["test", "good"].values, native.main_scores["test", "good"].values)


def alone(world, source, **settings):
    _, truths, _ = world
    return compare({"test": truths["test"]}, {"test": {"mine": source}}, settings=Settings(**settings), n_workers=1)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"DATAID": "0000"}, "mine cannot be compared on split test: its test data are 0000, the truth's"),
        ({"FWHM": 660.0}, "its beam is 660 arcmin, the truth's 600; give a common beam of 660 arcmin or more"),
        ({"FWHM": None}, "its beam is not known; state its FWHM"),
    ],
)
def test_refusals_name_what_differs(world, tmp_path, header, message):
    _, truths, _ = world
    predictions(tmp_path, truths["test"], 3, 0, **header)
    with pytest.raises(ConfigError, match=message):
        alone(world, find_predictions(tmp_path)["test"][-1])


def test_methods_for_different_parts_of_the_sky_need_a_mask(world, tmp_path):
    _, truths, methods = world
    predictions(tmp_path, truths["test"], 3, 0, MASK="0123")
    both = {"test": {"good": methods["test"]["good"], "masked": find_predictions(tmp_path)["test"][-1]}}
    with pytest.raises(ConfigError, match="good for the whole sky, masked for the mask 0123; give a `mask`"):
        compare({"test": truths["test"]}, both, n_workers=1)
    kept = galactic_mask(NSIDE, 20)
    found = compare({"test": truths["test"]}, both, settings=Settings(mask=kept), n_workers=1)
    assert found.regions[0] == "mask"


def test_refuses_too_fine_a_beam_missing_simulations_and_other_nside(world, tmp_path):
    root, truths, methods = world
    with pytest.raises(ConfigError, match="a common beam of 500 arcmin is finer"):
        alone(world, methods["test"]["good"], beams=(500.0,))
    some = FitsMaps({k: v for k, v in methods["test"]["good"].paths.items() if k != 4})
    with pytest.raises(ConfigError, match="lacks 1 of 6 simulations, 4 first"):
        alone(world, some)
    write_map(tmp_path / "sim0.fits", np.zeros((1, 12 * 8**2)), ["I"], "uK_CMB", {"FWHM": FWHM})
    with pytest.raises(ConfigError, match="its nside is 8, the truth's 16"):
        alone(world, FitsMaps({0: tmp_path / "sim0.fits"}))
    with pytest.raises(ConfigError, match="others have"):
        compare(truths, {"test": methods["test"], "turned": {"good": methods["turned"]["good"]}})
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare({}, {})


def test_masks_must_leave_out_holes(world, tmp_path):
    """A map with a hole is refused on the full sky and compared on a mask that leaves the hole out."""
    _, truths, _ = world
    hole = ~galactic_mask(NSIDE, 10)
    for sim in range(SIMS):
        maps = truths["test"].read(sim)["maps"] + 1
        write_map(
            tmp_path / f"sim{sim}.fits",
            np.where(hole, np.nan, maps),
            ["I"],
            "uK_CMB",
            {"FWHM": FWHM, "CREATOR": "cmb_lightning"},
        )
    source = find_predictions(tmp_path)[""][-1]
    with pytest.raises(ConfigError, match=f"{hole.sum()} pixels without data lie in region full"):
        alone(world, source)
    found = alone(world, source, mask=~hole)
    assert found.regions == ("mask", "b20", "faintest50%", "50-80%", "brightest20%")
    assert found.main_scores["test", "mine"].of("RMSE", "mask") == pytest.approx(1, rel=1e-5)
    assert {where for where, _, _ in found.spectra} == {"masked"}
    with pytest.raises(ConfigError, match="own beam only"):
        alone(world, source, mask=~hole, beams=(900.0,))


def test_maps_of_another_program(world, tmp_path):
    """WMAP-like: mK, RING, no unit keyword, an offset; stated, they score as what they are."""
    _, truths, _ = world
    rng = np.random.default_rng(0)
    error = smooth(rng, 4)[0]
    for sim in range(SIMS):
        ring = healpy.reorder(truths["test"].read(sim)["maps"][0] + error + 17, n2r=True)
        healpy.write_map(
            tmp_path / f"clean_{sim:02d}.fits", ring / 1000, dtype=np.float32, column_names=["TEMPERATURE"]
        )
    template = str(tmp_path / "clean_{sim:02d}.fits")
    plain = find_predictions(template)[""][-1]
    with pytest.raises(ConfigError, match="has no unit"):
        alone(world, plain)
    with pytest.raises(ConfigError, match="unit of I is 'mK': state it"):
        alone(world, find_predictions(template, statements=Statements(unit="mK"))[""][-1])
    with pytest.raises(ConfigError, match="coordinates are not stated"):
        alone(world, find_predictions(template, statements=Statements(unit="mK_CMB"))[""][-1])
    stated = Statements(unit="mK_CMB", coordinates="G", fwhm=FWHM)
    found = alone(world, find_predictions(template, statements=stated)[""][-1])
    assert found.main_scores["test", "mine"].of("RMSE", "full") == pytest.approx(4, rel=1e-3)
    assert found.about["test", "mine"]["monopole"] == "removed"


def test_units_of_predictions_are_converted(world, tmp_path):
    _, truths, _ = world
    predictions(tmp_path, truths["test"], 3, 10, unit="mK_CMB")
    found = alone(world, find_predictions(tmp_path)["test"][-1])
    assert found.main_scores["test", "mine"].of("RMSE", "full") == pytest.approx(3, rel=1e-3)


def test_noise_halves(world, tmp_path):
    _, truths, _ = world
    halves = [find_predictions(predictions(tmp_path / str(k), truths["test"], 5, 30 + k))["test"][-1] for k in range(2)]
    both = alone(world, Halves(*halves))
    one = alone(world, halves[0])
    assert both.main_scores["test", "mine"].of("RMSE", "full").mean() == pytest.approx(5 / np.sqrt(2), rel=0.1)
    for sim in range(SIMS):  # the same from their names, as another program would write them
        for k in range(2):
            path = halves[k].paths[sim]
            write_map(tmp_path / "named" / f"{sim}_{k + 1}.fits", read_map(path).nested().values[None], ["I"], "uK_CMB")
    stated = Statements(fwhm=FWHM)
    named = find_predictions(str(tmp_path / "named" / "{sim}_{half}.fits"), statements=stated)[""][-1]
    np.testing.assert_allclose(named.read(3)["halves"], Halves(*halves).read(3)["halves"], atol=2e-3)
    for path in (tmp_path / "named").glob("*_2.fits"):
        path.unlink()
    with pytest.raises(ConfigError, match="is one half of the data, and half 2 is not there"):
        find_predictions(str(tmp_path / "named" / "{sim}_{half}.fits"))
    noise = [np.mean(c.spectra["full sky", "test", "mine"]["TT"].residual) for c in (both, one)]
    assert abs(noise[0]) < 0.15 * noise[1]


def test_finding_predictions(world, tmp_path):
    root, truths, methods = world
    assert sorted(find_predictions(root / "good")) == ["test", "turned"]
    for epoch in (3, 7):
        predictions(tmp_path / "run" / "predictions" / f"{epoch}", truths["test"], 3, epoch, EPOCH=epoch)
    (tmp_path / "run" / "other.fits").write_bytes(b"not a map")
    assert list(find_predictions(tmp_path / "run")["test"]) == [3, 7]
    one = root / "good" / "test" / "sim0003" / "map.fits"
    assert find_predictions(one)["test"][-1].paths == {3: one}
    assert read_map(one).nside == LAYOUT.nside
    with pytest.raises(FileNotFoundError, match="no FITS maps"):
        find_predictions(tmp_path / "empty")
    for name in ("a", "b"):
        write_map(tmp_path / "two" / f"{name}.fits", np.zeros((1, NPIX)), ["I"], "uK_CMB")
    with pytest.raises(ConfigError, match="cannot tell which simulation"):
        find_predictions(tmp_path / "two")
    write_map(tmp_path / "twice" / "sim01.fits", np.zeros((1, NPIX)), ["I"], "uK_CMB")
    write_map(tmp_path / "twice" / "sim1.fits", np.zeros((1, NPIX)), ["I"], "uK_CMB")
    with pytest.raises(ConfigError, match="is of the same simulation"):
        find_predictions(tmp_path / "twice")
