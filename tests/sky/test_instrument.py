from dataclasses import replace

import numpy as np
import pysm3.units as u
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.cosmology import CambSpectrum
from cmb_lightning.sky.instrument import Instrument
from cmb_lightning.sky.tables import TABLES

HEADER = """# %ECSV 1.0
# ---
# datatype:
# - {name: band, datatype: string}
# - {name: frequency, unit: GHz, datatype: float64}
# - {name: fwhm, unit: deg, datatype: float64}
# - {name: fields, datatype: string}
# - {name: depth_I, unit: uK_CMB arcmin, datatype: float64}
# - {name: noise_P, unit: mK_CMB, datatype: float64}
# schema: astropy-2.0
band frequency fwhm fields depth_I noise_P
"""


@pytest.fixture
def write(tmp_path):
    def write(rows, header=HEADER):
        path = tmp_path / "mine.ecsv"
        path.write_text(header + rows)
        return str(path)

    return write


def test_reference_is_that_of_the_paper():
    instrument = Instrument.load("reference", 512)
    assert instrument.bands == ("30", "44", "70", "100", "143", "217", "353", "545", "857")
    assert [channel.name for channel in instrument.channels][:2] == ["30_I", "44_I"]
    first = instrument.channels[0]
    assert (first.frequency, first.fwhm) == (28.4, 75.0)
    assert first.noise == pytest.approx(150 / 6.87, rel=1e-3)  # a pixel at nside 512 is 6.87 arcmin wide
    assert first.gain_error == pytest.approx(0.004)


def test_depth_in_intensity_is_converted_by_astropy():
    channel = Instrument.load("reference", 512, ["857"]).channels[0]
    side = np.sqrt(4 * np.pi / (12 * 512**2)) * u.rad
    intensity = (0.72 * u.kJy / u.sr * u.deg / side).to(u.MJy / u.sr)
    expected = intensity.to_value(u.uK_CMB, equivalencies=u.cmb_equivalencies(866.8 * u.GHz))
    assert channel.noise == pytest.approx(expected, rel=1e-9)


def test_noise_per_pixel_follows_nside_only_where_it_is_a_depth():
    depth = [Instrument.load("planck", nside).channels[0].noise for nside in (64, 128)]
    assert depth[1] == pytest.approx(2 * depth[0])
    pixel = [Instrument.load("real_sky_64", nside).channels[0].noise for nside in (64, 128)]
    assert pixel[0] == pixel[1] == pytest.approx(150 / 6.87, rel=1e-4)


def test_real_sky_64_is_the_trial():
    channels = Instrument.load("real_sky_64", 64).channels
    assert [c.fwhm for c in channels] == [180, 170, 160, 150, 140, 130, 120, 120, 120]
    assert [c.noise for c in channels][-2:] == [268, 11200]
    assert np.allclose([c.gain_error for c in channels], np.array([0.4, 0.3, 0.2, 0.1, 0.1, 0.2, 1, 6, 6]) / 100)


def test_polarised_channels_only_where_they_are_measured():
    instrument = Instrument.load("reference", 64, ["353", "545"], ("I", "Q", "U"))
    assert [c.name for c in instrument.channels] == ["353_I", "353_Q", "353_U", "545_I"]
    assert instrument.fields == ("I", "Q", "U")
    assert instrument.channels[1].noise == instrument.channels[2].noise > instrument.channels[0].noise


def test_bands_may_be_written_as_numbers():
    assert (
        Instrument.load("reference", 64, [30, "100"]).channels
        == Instrument.load("reference", 64, ["30", "100"]).channels
    )


def test_scaled_keeps_noise_and_widens_beams_up_to_a_limit():
    instrument = Instrument.load("reference", 512)
    scaled = instrument.scaled(128, max_fwhm=200.0)
    assert scaled.nside == 128
    assert [c.noise for c in scaled.channels] == [c.noise for c in instrument.channels]
    assert [c.fwhm for c in scaled.channels] == [min(4 * c.fwhm, 200.0) for c in instrument.channels]


def test_so_sat_has_a_knee_in_polarisation_only():
    channels = Instrument.load("so_sat", 64, ["93"], ("I", "Q", "U")).channels
    assert [(c.l_knee, c.alpha) for c in channels] == [(0, 0), (25, 2.5), (25, 2.5)]


def test_a_table_of_ones_own(write):
    channels = Instrument.load(write("A 100 0.5 IQU 60 0.002\n"), 64, fields=("I", "Q", "U")).channels
    assert channels[0].fwhm == pytest.approx(30)
    assert channels[0].noise == pytest.approx(60 / 54.97, rel=1e-3)
    assert channels[1].noise == pytest.approx(2)


@pytest.mark.parametrize("name", sorted(path.stem for path in TABLES.glob("*.ecsv")))
def test_every_table_loads_and_names_its_source(name):
    from astropy.table import Table

    Instrument.load(name, 64, fields=("Q", "U"))
    assert Table.read(TABLES / f"{name}.ecsv").meta["source"]


@pytest.mark.parametrize(
    ("rows", "edit", "message"),
    [
        ("A 100 0.5 IQU 60 1\nA 100 0.5 IQU 60 1\n", None, "a band is there twice: A, A"),
        ("A 100 0.5 IQ 60 1\n", None, "fields of band A are 'IQ'; write I or IQU"),
        ('A 100 0.5 IQU "" 1\n', None, "band A states no noise for I; fill depth_I"),
        ("A 100 0.5 IQU -60 1\n", None, "band A has negative noise for I"),
        ("A 0 0.5 IQU 60 1\n", None, "band A needs a frequency above 0"),
        ("A 100 0.5 IQU 60 1\n", ("uK_CMB arcmin", "uK_XYZ arcmin"), "column depth_I: unit 'uK_XYZ arcmin' .*unknown"),
        (
            "A 100 0.5 IQU 60 1\n",
            ("uK_CMB arcmin", "GHz"),
            "column depth_I: '60.0 GHz' is not a quantity in uK_CMB deg",
        ),
        ("A 100 0.5 IQU 60 1\n", ("unit: GHz, ", ""), "column frequency: unit '' is missing"),
        ("A 100 0.5 IQU 60 1\n", ("fwhm", "width"), "no column 'fwhm'; it has band, frequency, width"),
        ("A 100\n", None, "not an ECSV table"),
    ],
)
def test_bad_tables(write, rows, edit, message):
    path = write(rows, HEADER.replace(*edit) if edit else HEADER)
    with pytest.raises(ConfigError, match=message):
        Instrument.load(path, 64)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="bands: no band '31' in reference.ecsv; it has 30, 44"):
        Instrument.load("reference", 64, ["31"])
    with pytest.raises(ConfigError, match="bands: 30, 30; name at least one band, each once"):
        Instrument.load("reference", 64, ["30", "30"])
    with pytest.raises(ConfigError, match="fields: 'X' is not possible"):
        Instrument.load("reference", 64, fields=("X",))
    with pytest.raises(ConfigError, match="fields: no band among 857 measures Q, U"):
        Instrument.load("reference", 64, ["857"], ("I", "Q", "U"))
    with pytest.raises(FileNotFoundError, match="instrument: no table 'plank'; .*planck"):
        Instrument.load("plank", 64)
    with pytest.raises(ConfigError, match="nside: 63 is not a power of two"):
        Instrument.load("reference", 63)


def test_optional_columns(tmp_path):
    (tmp_path / "band.txt").write_text("90 0\n95 1\n105 1\n110 0\n")
    header = HEADER.replace(
        "# schema",
        """# - {name: l_knee_P, datatype: float64}
# - {name: alpha_P, datatype: float64}
# - {name: bandwidth, unit: GHz, datatype: float64}
# - {name: bandpass, datatype: string}
# - {name: beam, datatype: string}
# schema""",
    ).replace("noise_P\n", "noise_P l_knee_P alpha_P bandwidth bandpass beam\n")
    path = tmp_path / "mine.ecsv"
    path.write_text(header + 'A 100 0.5 IQU 60 1 50 2.5 30 "" beam.txt\nB 100 0.5 I 60 "" "" "" "" band.txt ""\n')
    instrument = Instrument.load(str(path), 64, fields=("I", "Q", "U"))
    a, q, _, b = instrument.channels
    assert (a.l_knee, q.l_knee, q.alpha) == (0, 50, 2.5)
    assert a.beam_file == str(tmp_path / "beam.txt") and not b.beam_file
    assert 85 < min(a.frequencies) < 90 < 110 < max(a.frequencies) < 115
    assert b.frequencies == (95.0, 105.0)
    with pytest.raises(ConfigError, match="beam.txt cannot be scaled"):
        instrument.scaled(32)
    assert replace(instrument, channels=(replace(q, beam_file=""),)).scaled(32).channels[0].l_knee == 25


def test_e_stands_out_of_the_noise_of_the_trial_in_polarisation():
    """Signal-to-noise of 3 or more in each mode at l = 20, without foregrounds, all bands combined at any one beam."""
    channels = [one for one in Instrument.load("low_noise_64", 64, None, ("Q", "U")).channels if one.field == "Q"]
    degree = 20
    width = np.radians([channel.fwhm / 60 for channel in channels]) / np.sqrt(8 * np.log(2))
    beam = np.exp(-0.5 * width**2 * (degree * (degree + 1) - 4))
    power = np.array([channel.noise for channel in channels]) ** 2 * 4 * np.pi / (12 * 64**2)
    signal = CambSpectrum().cl(40)[1, degree] * (beam**2 / power).sum()
    assert np.sqrt(signal) == pytest.approx(9.7, abs=0.1)  # as configs/polarised_64.yaml says
