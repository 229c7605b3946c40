"""Maps that the project did not make, cleaned end to end: `predict` with ObservationsDataModule on a small model."""

import healpy
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from cmb_lightning.cli import main
from cmb_lightning.data.mixing import observe
from cmb_lightning.results.fits import UNSEEN, read_map
from tests.app.conftest import CONFIG

BANDS = CONFIG["data"]["init_args"]["bands"]


@pytest.fixture
def observed(inside):
    """The first test simulation as observed, RING [uK_CMB], with an offset that no map knows the origin of."""
    (path,) = (inside / "cache" / "tiny").glob("test-*/sim000000.safetensors")
    nested = observe(load_file(path)).astype(float)
    return {band: healpy.reorder(row, n2r=True) + 30 for band, row in zip(BANDS, nested, strict=True)}


def wmap_style(folder, maps, bad=()) -> dict[str, str]:
    """Files such as those of WMAP: mK, RING, column TEMPERATURE, UNSEEN pixels, no keyword for the unit."""
    files = {}
    for band, values in maps.items():
        values = values / 1000
        values[list(bad)] = UNSEEN
        files[band] = str(folder / f"{band}.fits")
        healpy.write_map(files[band], values, coord="G", column_names=["TEMPERATURE"], dtype=np.float32, overwrite=True)
    return files


def predict(folder, files, *words, **options) -> None:
    """Clean them with the run `runs/a`, whose beams grew with its pixels."""
    data = CONFIG["data"]["init_args"]
    table = folder / "instrument.ecsv"
    table.write_text(instrument_at(data["nside"]))
    config = {
        "run": "runs/a",
        "model": CONFIG["model"],
        "trainer": CONFIG["trainer"],
        "data": {
            "class_path": "ObservationsDataModule",
            "init_args": {
                "observations": {"mine": files},
                "instrument": str(table),
                "nside": data["nside"],
                **options,
            },
        },
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    path = f"--predictions.path={folder}/cleaned/{{split}}_sim{{sim}}_{{epoch}}.fits"
    main(["predict", f"--config={folder}/mine.yaml", path, *words])


def instrument_at(nside: int) -> str:
    """The instrument of the run as a table of its own."""
    from cmb_lightning.sky import Instrument

    rows = [
        f"{channel.band} {channel.frequency!r} {channel.fwhm!r} I {channel.noise!r}"
        for channel in Instrument.load("real_sky_64", 64, BANDS).scaled(nside).channels
    ]
    head = ["# %ECSV 1.0", "# ---", "# datatype:", "# - {name: band, datatype: string}"]
    for name, unit in (("frequency", "GHz"), ("fwhm", "arcmin")):
        head.append(f"# - {{name: {name}, unit: {unit}, datatype: float64}}")
    head.append("# - {name: fields, datatype: string}")
    head.append("# - {name: noise_I, unit: uK_CMB, datatype: float64}")
    return "\n".join([*head, "# schema: astropy-2.0", "band frequency fwhm fields noise_I", *rows, ""])


def cleaned(folder):
    (path,) = (folder / "cleaned").glob("observations_sim0_*.fits")
    return read_map(path).ordered("RING")


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_a_wmap_style_file_is_refused_until_its_unit_is_stated(tmp_path, observed, capsys):
    files = wmap_style(tmp_path, observed)
    with pytest.raises(SystemExit) as ended:
        predict(tmp_path, files)
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1
    assert "30.fits: column TEMPERATURE has no unit (TUNIT1): state the unit by `unit`, such as mK_CMB" in lines[0]
    with pytest.raises(SystemExit):
        predict(tmp_path, files, unit="mK")
    assert (
        "may be thermodynamic or Rayleigh-Jeans: state the unit by `unit`, mK_CMB or mK_RJ" in capsys.readouterr().err
    )
    predict(tmp_path, files, unit="mK_CMB")
    assert cleaned(tmp_path).unit == "uK_CMB"


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_it_is_cleaned_as_the_same_sky_of_a_simulation(tmp_path, observed, inside):
    predict(tmp_path, wmap_style(tmp_path, observed), unit="mK_CMB")
    (path,) = (inside / "runs/a/predictions/tiny/test/sim0000").glob("*.fits")
    same = read_map(path).ordered("RING").values
    np.testing.assert_allclose(cleaned(tmp_path).values, same, atol=1e-3 * np.std(same))


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_the_cleaned_map_comes_in_the_unit_asked_for_with_its_holes(tmp_path, observed):
    holes = [3, 4, 700]
    files = wmap_style(tmp_path, observed, holes)
    predict(tmp_path, files, unit="mK_CMB")
    micro = cleaned(tmp_path)
    predict(tmp_path, files, "--predictions.unit=K_CMB", unit="mK_CMB")
    kelvin = cleaned(tmp_path)
    assert kelvin.unit == "K_CMB" and kelvin.header["FWHM"] == micro.header["FWHM"]
    assert np.flatnonzero(kelvin.bad).tolist() == holes
    np.testing.assert_allclose(kelvin.values * 1e6, micro.values, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_finer_maps_are_lowered_to_the_model_s(tmp_path, observed, inside):
    """The same sky at nside 32 and at half the beam gives the same cleaned map, but for noise above its lmax."""
    from cmb_lightning.sky import Instrument
    from cmb_lightning.sky.beams import gaussian_beam

    channels = Instrument.load("real_sky_64", 64, BANDS).scaled(8).channels
    fine, smooth = {}, {}
    for channel in channels:
        alm = healpy.map2alm(observed[channel.band], lmax=16, iter=10)
        ratio = gaussian_beam(channel.fwhm / 2, 16) / gaussian_beam(channel.fwhm, 16)
        fine[channel.band] = healpy.alm2map(healpy.almxfl(alm, ratio), 32)
        smooth[channel.band] = healpy.alm2map(alm, 8)
    beams = {channel.band: f"{channel.fwhm / 2!r} arcmin" for channel in channels}
    predict(tmp_path, wmap_style(tmp_path, smooth), unit="mK_CMB")
    expected = cleaned(tmp_path)
    predict(tmp_path, wmap_style(tmp_path, fine, range(6000, 6020)), unit="mK_CMB", map_fwhm=beams)
    found = cleaned(tmp_path)
    assert found.nside == 8
    far = np.ones(768, bool)
    far[healpy.query_disc(8, healpy.pix2vec(32, 6010), 0.7)] = False
    error = (found.values - expected.values)[far & ~found.bad]
    assert np.std(error) < 0.05 * np.std(expected.values[far])
