from pathlib import Path
from types import SimpleNamespace

import healpy
import numpy as np
import pytest
import yaml

from cmb_lightning.data.datasets import Unprepared
from cmb_lightning.data.observations import ObservationsDataModule, fill, remove_moments, to_galactic
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import write_map
from cmb_lightning.sky import Channel, Instrument
from cmb_lightning.sky.transforms import draw_alm, ring_to_nest, synthesis
from cmb_lightning.sky.units import to_uK_CMB

NSIDE, NPIX = 16, 3072
BANDS = ["100", "143"]


def smooth_map(seed: int, lmax: int = 16) -> np.ndarray:
    """A band-limited map without monopole, NESTED."""
    cl = 1e4 / (np.arange(lmax + 1) + 1.0) ** 2
    cl[0] = 0
    return ring_to_nest(synthesis(draw_alm(cl, np.random.default_rng(seed), lmax), NSIDE, lmax)).astype(np.float32)


@pytest.fixture
def maps(tmp_path):
    """Two maps, in uK_CMB and in MJy/sr, with a monopole each and a hole in the second."""
    values = {band: smooth_map(int(band)) + offset for band, offset in zip(BANDS, (7.0, 0.0), strict=True)}
    hole = values["143"].copy()
    hole[100:110] = np.nan
    write_map(tmp_path / "100.fits", values["100"][None], ["I"], "uK_CMB")
    write_map(tmp_path / "143.fits", hole[None] / np.float32(to_uK_CMB(142.876, "MJy/sr")), ["I"], "MJy/sr")
    return values


def module(folder, **options) -> ObservationsDataModule:
    observations = {"mine": {band: str(folder / f"{band}.fits") for band in BANDS}}
    defaults = {"observations": observations, "instrument": "real_sky_64", "nside": NSIDE, "bands": BANDS}
    return ObservationsDataModule(**defaults | options)


def batch_of(data: ObservationsDataModule) -> dict:
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    return batch


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_maps_are_read_in_one_unit_without_monopole_and_with_holes_filled_and_marked(tmp_path, maps, caplog):
    caplog.set_level("INFO")
    data = module(tmp_path)
    batch = batch_of(data)
    assert data.layout.channels == ("100_I", "143_I")
    assert batch["inputs"].shape == (1, 2, NPIX)
    assert batch["split"] == ["observations"] == data.inference_splits and batch["index"].tolist() == [0]
    bad = batch["bad"][0].numpy()
    assert np.flatnonzero(bad).tolist() == list(range(100, 110))
    for row, band in zip(batch["inputs"][0].numpy(), BANDS, strict=True):
        assert abs(row[~bad].mean(dtype=float)) < 1e-5
        expected = maps[band] - maps[band][~bad].mean(dtype=float)
        assert np.allclose(row[~bad], expected[~bad], atol=1e-3)
        assert np.abs(row[bad]).max() <= np.abs(expected).max()
    assert "mine, 100_I: removed [" in caplog.text and "10 of 3072 pixels without data" in caplog.text
    assert len(data.identity["observations"]) == 16


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_the_model_s_preparation_is_used(tmp_path, maps):
    data = module(tmp_path)

    class Negative(Unprepared):
        def prepare(self, maps):
            return -maps

    model = SimpleNamespace(preparation=lambda scored: Negative())
    data.trainer = SimpleNamespace(lightning_module=model, global_rank=0, world_size=1)
    batch = batch_of(data)
    assert np.array_equal(batch["inputs"], -batch["observed"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", ["fit", "test", "validate"])
def test_other_stages_need_a_truth(tmp_path, maps, stage):
    with pytest.raises(ConfigError, match=f"no truth, so `{stage}` cannot be done"):
        module(tmp_path).setup(stage)


@pytest.mark.filterwarnings("ignore")
def test_maps_in_other_coordinates_are_turned(tmp_path):
    # A spot in the direction of the Galactic centre, in a map in ecliptic coordinates.
    longitude, latitude = 266.8395, -5.5366
    spot = np.array(healpy.ang2vec(longitude, latitude, lonlat=True))
    distance = np.arccos(np.clip(spot @ np.array(healpy.pix2vec(NSIDE, np.arange(NPIX), nest=True)), -1, 1))
    values = (1000 * np.exp(-((distance / 0.3) ** 2))).astype(np.float32)
    for band in BANDS:
        write_map(tmp_path / f"{band}.fits", values[None], ["I"], "uK_CMB", coordinates="E")
    turned = batch_of(module(tmp_path))["inputs"][0, 0].numpy()
    centre = healpy.ang2pix(NSIDE, 0, 0, nest=True, lonlat=True)
    assert turned[centre] == pytest.approx(values.max() - values.mean(), rel=0.02)
    hottest = healpy.pix2ang(NSIDE, int(turned.argmax()), nest=True, lonlat=True)
    assert healpy.rotator.angdist(hottest, (0, 0), lonlat=True)[0] < np.deg2rad(4)


def test_the_mask_turns_with_the_map():
    channel = Instrument.load("real_sky_64", NSIDE, ["100"]).channels
    bad = np.zeros(NPIX, bool)
    bad[healpy.query_disc(NSIDE, healpy.ang2vec(266.8395, -5.5366, lonlat=True), 0.2, nest=True)] = True
    _, turned = to_galactic(np.zeros((1, NPIX), np.float32), bad, "E", channel, 32)
    assert turned.sum() == pytest.approx(bad.sum(), rel=0.2)
    assert turned[healpy.query_disc(NSIDE, [1, 0, 0], 0.1, nest=True)].all()
    assert isinstance(channel[0], Channel)


def write(folder, name, unit="uK_CMB", nside=NSIDE, coordinates="G"):
    write_map(folder / name, np.zeros((1, 12 * nside**2)), ["I"], unit, coordinates=coordinates)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write_options", "options", "message"),
    [
        ({"unit": "K"}, {}, "may be thermodynamic or Rayleigh-Jeans"),
        ({"nside": 8}, {}, "has nside 8 where 16 is needed: give a map of nside 16 or finer"),
        ({"coordinates": "E"}, {}, "different coordinates, E, G"),
    ],
)
def test_maps_that_do_not_fit_are_refused_before_any_work(tmp_path, write_options, options, message):
    write(tmp_path, "100.fits")
    write(tmp_path, "143.fits", **write_options)
    with pytest.raises(ConfigError, match=message):
        module(tmp_path, **options).setup("predict")


@pytest.mark.filterwarnings("ignore")
def test_what_a_header_says_can_be_stated(tmp_path):
    write(tmp_path, "100.fits")
    write(tmp_path, "143.fits", unit="K", coordinates="E")
    module(tmp_path, unit={"143": "K_CMB"}, coordinates="G").setup("predict")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"observations": {}}, ConfigError, "observations: there are none"),
        ({"observations": {"a": {"100": "x"}}}, FileNotFoundError, "observations.a.100: there is no file x"),
        ({"observations": {"a": {}}}, ConfigError, "observations.a: no file for band 100"),
        ({"observations": {"../a": {}}}, ConfigError, "observations: '../a'"),
        ({"unit": {"30": "K_CMB"}}, ConfigError, "unit: there is no band '30'"),
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"dataset": "a/b"}, ConfigError, "dataset"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path, options, error, message):
    for band in BANDS:
        write(tmp_path, f"{band}.fits")
    with pytest.raises(error, match=message):
        module(tmp_path, **options)


def test_a_band_that_is_not_asked_for_is_refused(tmp_path):
    for band in BANDS:
        write(tmp_path, f"{band}.fits")
    with pytest.raises(ConfigError, match="observations.mine: 143 is not among the bands 100"):
        module(tmp_path, bands=["100"])


def test_holes_are_filled_from_around_them():
    maps = np.arange(2 * 192, dtype=np.float32).reshape(2, 192)
    bad = np.zeros(192, bool)
    bad[[1, 4, 5, 6, 7]] = True  # one pixel of four, and all four of another
    filled = fill(maps, bad)
    assert np.array_equal(filled[:, ~bad], maps[:, ~bad])
    assert filled[0, 1] == pytest.approx((0 + 2 + 3) / 3)
    around = np.concatenate([filled[0, :4], maps[0, 8:16]])  # the base pixel around the second
    assert filled[0, 5] == pytest.approx(around.mean())
    assert fill(maps, np.arange(192) > 0)[0, 191] == 0  # one good pixel fills the sky


def test_monopole_and_dipole_are_those_of_the_good_pixels():
    directions = np.stack(healpy.pix2vec(NSIDE, np.arange(NPIX), nest=True))
    values = (5 + np.array([1.0, -2.0, 3.0]) @ directions).astype(np.float32)
    bad = directions[2] > 0.5
    values[bad] = 1e6
    assert np.allclose(remove_moments(values, bad, dipole=True), [5, 1, -2, 3], atol=1e-4)
    assert np.abs(values[~bad]).max() < 1e-5


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_files_like_planck_s_are_read_with_the_configuration_for_them(tmp_path):
    """The CMB alone at each map's own beam, at nsides of 16 (LFI) and 32 (HFI): it comes out at the model's."""
    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "planck_maps.yaml").read_text())
    options = config["data"]["init_args"]
    (files,) = options["observations"].values()
    alm = healpy.synalm(1e4 / (np.arange(17) + 1.0) ** 3, lmax=16)
    alm[0] = 0
    for band, path in files.items():
        values = healpy.alm2map(alm, 16 if "LFI" in path else 32, fwhm=np.radians(fwhm_of(options["map_fwhm"][band])))
        unit = "MJy/sr" if band in ("545", "857") else "K_CMB"
        (channel,) = Instrument.load("real_sky_64", 8, [band]).channels
        healpy.write_map(
            tmp_path / Path(path).name,
            [healpy.reorder((values + 10) / to_uK_CMB(channel.frequency, unit), r2n=True), np.zeros_like(values)],
            nest=True,
            coord="G",
            column_names=["I_STOKES", "HITS"],
            column_units=[unit, ""],
            dtype=[np.float32, np.float32],
        )
    there = {"mine": {band: str(tmp_path / Path(path).name) for band, path in files.items()}}
    batch = batch_of(ObservationsDataModule(**options | {"observations": there, "nside": 8}))
    for row, channel in zip(batch["observed"][0].numpy(), Instrument.load("real_sky_64", 8).channels, strict=True):
        expected = healpy.alm2map(alm, 8, fwhm=np.radians(channel.fwhm / 60))
        np.testing.assert_allclose(
            healpy.reorder(row, n2r=True), expected - expected.mean(), atol=0.01 * expected.std()
        )


def fwhm_of(text: str) -> float:
    """Degrees of `7.2 arcmin`."""
    return float(text.removesuffix(" arcmin")) / 60


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_maps_are_smoothed_to_the_window_of_the_instrument_s_file(tmp_path):
    alm = healpy.synalm(1e4 / (np.arange(33) + 1.0) ** 2, lmax=32)
    alm[0] = 0
    window = 1 / (1 + (np.arange(33) / 12) ** 4)
    np.savetxt(tmp_path / "beam.txt", np.column_stack([np.arange(33), window]))
    (tmp_path / "mine.ecsv").write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: band, datatype: string}\n"
        "# - {name: frequency, unit: GHz, datatype: float64}\n# - {name: fwhm, unit: arcmin, datatype: float64}\n"
        "# - {name: fields, datatype: string}\n# - {name: noise_I, unit: uK_CMB, datatype: float64}\n"
        "# - {name: beam, datatype: string}\n# schema: astropy-2.0\n"
        "band frequency fwhm fields noise_I beam\n100 100 800 I 1 beam.txt\n"
    )
    options = {"instrument": str(tmp_path / "mine.ecsv"), "bands": ["100"]}
    files = {"observations": {"mine": {"100": str(tmp_path / "100.fits")}}}
    for own, beam, nside in (("4 deg", healpy.gauss_beam(np.radians(4), 32), NSIDE), (None, window, 2 * NSIDE)):
        fine = healpy.alm2map(healpy.almxfl(alm, beam), nside)
        write_map(tmp_path / "100.fits", ring_to_nest(fine)[None].astype(np.float32), ["I"], "uK_CMB")
        data = module(tmp_path, map_fwhm=own, **options, **files)
        np.testing.assert_allclose(data.layout.beams()[0], window)
        expected = healpy.alm2map(healpy.almxfl(alm, window), NSIDE)
        found = healpy.reorder(batch_of(data)["observed"][0, 0].numpy(), n2r=True)
        np.testing.assert_allclose(found, expected - expected.mean(), atol=2e-3 * expected.std())


def test_a_beam_broader_than_the_instrument_s_is_refused(tmp_path):
    for band in BANDS:
        write(tmp_path, f"{band}.fits")
    with pytest.raises(ConfigError, match="map_fwhm: 3 deg is broader than the 150 arcmin"):
        module(tmp_path, map_fwhm={"100": "3 deg"})
    with pytest.raises(ConfigError, match="map_fwhm: there is no band '30'"):
        module(tmp_path, map_fwhm={"30": "3 deg"})
