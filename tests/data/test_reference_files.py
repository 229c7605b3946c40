import shutil

import healpy
import numpy as np
import pytest

from cmb_lightning.data.generation import make_split
from cmb_lightning.data.mixing import observe
from cmb_lightning.data.reference_files import ReferenceFiles, export, extremes
from cmb_lightning.data.reference_module import ReferenceDataModule
from cmb_lightning.data.sky_module import SkyDataModule, SkySplit
from cmb_lightning.data.splits import Split
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import PolynomialSpectrum, Sky, StatisticalGalaxy
from cmb_lightning.sky.transforms import alm2cl, analysis, nest_to_ring
from cmb_lightning.trainer import Trainer

NSIDE, LMAX, BANDS = 16, 32, ["100", "143", "857"]
TEMPERATURE = Sky(PolynomialSpectrum([1.0]), [StatisticalGalaxy()])


def sky(root, fields="I", **changes):
    arguments = {
        "instrument": "real_sky_64",
        "nside": NSIDE,
        "bands": BANDS,
        "fields": list(fields),
        "sky": TEMPERATURE,
    }
    return SkyDataModule({"train": SkySplit(3), "valid": SkySplit(2)}, root=root, **(arguments | changes))


def reference(root, folder, fields="I", **changes):
    arguments = {"instrument": "real_sky_64", "nside": NSIDE, "bands": BANDS, "fields": list(fields)}
    splits = {"Train": Split(3), "valid": Split(2)}
    return ReferenceDataModule(splits, folder, root=root, **(arguments | changes))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A data set of I, Q and U, and its files."""
    folder = tmp_path_factory.mktemp("files")
    module = sky(tmp_path_factory.mktemp("cache"), "IQU")
    for data in module.splits.values():
        make_split(data.cache, data.generator, data.n_sims, n_workers=1)
        export(data, ReferenceFiles(folder), n_workers=1)
    return module, folder


def test_the_files_are_the_references(exported):
    module, folder = exported
    made = module.splits["train"][2]
    path = folder / "Simulation" / "Train" / "sim0002"
    names = {"obs_100_map.fits", "obs_143_map.fits", "obs_857_map.fits", "cmb_map_fid.fits"}
    assert {file.name for file in path.iterdir()} == names
    maps, header = healpy.read_map(path / "obs_143_map.fits", (0, 1, 2), h=True)
    assert np.array_equal(maps, nest_to_ring(observe(made)[3:6]))
    header = dict(header)
    assert [header[f"TTYPE{n}"] for n in (1, 2, 3)] == ["I_STOKES", "Q_STOKES", "U_STOKES"]
    assert {header[f"TUNIT{n}"] for n in (1, 2, 3)} == {"uK_CMB"} and header["ORDERING"] == "RING"
    cmb, header = healpy.read_map(path / "cmb_map_fid.fits", (0, 1, 2), h=True)
    assert np.array_equal(cmb, nest_to_ring(made["target"]))
    assert dict(header)["TTYPE1"] == "TEMPERATURE" and dict(header)["FWHM"] == 120


def test_what_was_exported_comes_back(exported, tmp_path):
    module, folder = exported
    imported = reference(tmp_path, folder, "IQU")
    imported.make()
    for name, data in module.splits.items():
        for one, other in zip(data, imported.splits[name], strict=True):
            expected = observe(one)
            assert np.allclose(observe(other), expected, atol=1e-5 * expected.std())
            for part in ("cmb", "target"):
                assert np.abs(other[part] - one[part]).max() < 1e-3 * one[part].std(), part
            assert not other["noise"].any() and not other["gain"].any()
    imported.setup("fit")
    assert imported.extremes["inputs"].names == imported.layout.channels
    sample = imported.training_dataset()[0, 1]
    assert sample["inputs"].shape == (7, 12 * NSIDE**2) and sample["target"].shape == (3, 12 * NSIDE**2)


def test_files_of_the_reference_itself(tmp_path):
    """Double precision, the CMB without a beam, more simulations than wanted, and no more keywords than healpy's."""
    rng = np.random.default_rng(0)
    for split, count in (("Train", 4), ("Valid", 2)):
        for index in range(count):
            folder = tmp_path / "Simulation" / split / f"sim{index:04d}"
            folder.mkdir(parents=True)
            alm = healpy.synalm(np.ones(LMAX + 1), LMAX)
            columns = {"column_units": "uK_CMB", "dtype": np.float64}
            healpy.write_map(folder / "cmb_map_fid.fits", healpy.alm2map(alm, NSIDE), **columns)
            for band, fwhm in zip(BANDS, (150, 140, 120), strict=True):
                maps = healpy.alm2map(healpy.smoothalm(alm, np.deg2rad(fwhm / 60), inplace=False), NSIDE) + 7
                maps += rng.standard_normal(maps.size)
                healpy.write_map(folder / f"obs_{band}_map.fits", maps, column_names=["I_STOKES"], **columns)
    imported = reference(tmp_path / "cache", tmp_path)
    imported.make()
    part = imported.splits["train"][3 - 1]
    fwhm = dict(zip(BANDS, imported.layout.fwhm, strict=True))
    read = healpy.read_map(tmp_path / "Simulation/Train/sim0002/obs_143_map.fits")
    assert np.allclose(nest_to_ring(observe(part))[1], read - read.mean(), atol=1e-4)
    truth = healpy.read_map(tmp_path / "Simulation/Train/sim0002/cmb_map_fid.fits")
    smooth = healpy.smoothing(truth, np.deg2rad(fwhm["143"] / 60), lmax=LMAX)
    assert np.allclose(nest_to_ring(part["cmb"])[1], smooth - smooth.mean(), atol=1e-4 * smooth.std())
    rest = alm2cl(analysis(nest_to_ring(part["foregrounds"])[1].astype(float), LMAX))
    assert rest[2:].mean() == pytest.approx(4 * np.pi / (12 * NSIDE**2), rel=0.15)  # the noise


def test_the_command_exports(exported, tmp_path):
    module, folder = exported
    trainer = Trainer(default_root_dir=tmp_path, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.simulate(datamodule=sky(module.root, "IQU", n_workers=1), export=str(tmp_path / "files"))
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.fits"))
    assert files == sorted(path.relative_to(tmp_path / "files") for path in tmp_path.rglob("*.fits"))
    for path in files[:3]:
        assert (folder / path).read_bytes() == (tmp_path / "files" / path).read_bytes()


def test_extremes_are_found_without_the_cache(exported):
    module, folder = exported
    observed = [observe(one) for one in module.splits["train"]]
    channels = module.splits["train"].generator.channels
    for n_workers in (1, 2):
        found = extremes(ReferenceFiles(folder), "train", 3, channels, n_workers=n_workers)
        assert found.minimum == tuple(np.min(observed, axis=(0, 2)).tolist())
        assert found.maximum == tuple(np.max(observed, axis=(0, 2)).tolist())
        assert found.bad == (0,) * 7


def test_extremes_are_in_uK_CMB_whatever_the_unit(tmp_path):
    folder = tmp_path / "Simulation" / "Train" / "sim0000"
    folder.mkdir(parents=True)
    healpy.write_map(folder / "obs_100_map.fits", np.arange(12.0), column_units="mK_CMB", dtype=np.float32)
    channels = sky(tmp_path / "cache", bands=["100"]).splits["train"].generator.channels
    assert extremes(ReferenceFiles(tmp_path), "train", 1, channels).maximum == pytest.approx((11000.0,))


def test_the_recipe_follows_content_and_not_place(exported, tmp_path):
    _, folder = exported
    shutil.copytree(folder, tmp_path / "copy")
    first, second = (reference(tmp_path, place, "IQU").identity for place in (folder, tmp_path / "copy"))
    assert first == second
    assert reference(tmp_path, folder, "IQU", ordering="NESTED").identity != first


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"bands": ["100", "217"]}, FileNotFoundError, "splits.train: there is no .*obs_217_map.fits"),
        ({"splits": {"train": Split(4)}}, FileNotFoundError, "splits.train: there is no .*sim0003"),
        ({"splits": {"test": Split(1)}}, FileNotFoundError, "splits.test: there is no .*Test"),
        ({"unit": {"44": "uK_CMB"}}, ConfigError, "unit: there is no map '44'"),
        ({"lmax": 48}, ConfigError, "lmax: 48"),
    ],
)
def test_bad_configuration(exported, tmp_path, changes, error, message):
    arguments = {"splits": {"train": Split(3)}, "folder": exported[1], "nside": NSIDE, "bands": BANDS} | changes
    with pytest.raises(error, match=message):
        ReferenceDataModule(root=tmp_path, instrument="real_sky_64", **arguments)


def test_bad_files(exported, tmp_path):
    _, folder = exported
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "Simulation" / "Train" / "sim0001" / "obs_143_map.fits"
    maps = healpy.read_map(path)
    maps[5] = healpy.UNSEEN
    healpy.write_map(path, maps, column_units="uK_CMB", overwrite=True)
    importer = reference(tmp_path, tmp_path / "copy").splits["train"].generator
    with pytest.raises(ConfigError, match="obs_143_map.fits: .* has 1 pixels without data"):
        importer.simulate("train", 1)
    path = path.with_name("cmb_map_fid.fits")
    healpy.write_map(path, maps, column_units="uK_CMB", extra_header=[("FWHM", 900.0)], overwrite=True)
    maps[5] = 0
    healpy.write_map(path.with_name("obs_143_map.fits"), maps, column_units="uK_CMB", overwrite=True)
    with pytest.raises(ConfigError, match="cmb_map_fid.fits: .* has 1 pixels without data"):
        importer.simulate("train", 1)
    healpy.write_map(path, maps, column_units="uK_CMB", extra_header=[("FWHM", 900.0)], overwrite=True)
    with pytest.raises(ConfigError, match="cmb_map_fid.fits: its beam of 900 arcmin is too wide for"):
        importer.simulate("train", 1)
