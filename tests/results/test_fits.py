import gzip
import os
import subprocess
import sys
import warnings

import healpy
import numpy as np
import pytest
from astropy.io import fits

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import UNSEEN, read_map, write_map
from cmb_lightning.results.healpix_map import is_misordered, known_unit

NSIDE = 16
NPIX = 12 * NSIDE**2


def smooth_map(seed=0, rms=70.0):
    """A smooth sky in RING order, float32."""
    rng = np.random.default_rng(seed)
    vectors = np.array(healpy.pix2vec(NSIDE, np.arange(NPIX)))
    sky = sum(np.sin(rng.normal(size=3) * 3 @ vectors + rng.uniform(0, 6)) for _ in range(30))
    return (rms * sky / sky.std()).astype(np.float32)


def write(path, maps, names=("I",), form="1024E", **cards):
    """A FITS map made with astropy alone; a card of None is left out."""
    wide = form == "1024E"
    columns = [
        fits.Column(name=n, format=form, array=m.reshape(-1, 1024) if wide else m, unit=cards.get("unit", "uK_CMB"))
        for n, m in zip(names, maps, strict=True)
    ]
    table = fits.BinTableHDU.from_columns(columns)
    header = dict(PIXTYPE="HEALPIX", ORDERING="RING", NSIDE=NSIDE, COORDSYS="G", INDXSCHM="IMPLICIT") | cards
    for key, value in header.items():
        if value is not None and key != "unit":
            table.header[key] = value
    table.writeto(path, overwrite=True)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "map.fits"


@pytest.mark.parametrize("form", ["1024E", "E", "D", "J"])
@pytest.mark.parametrize("ordering", ["RING", "NESTED"])
def test_reads_every_table_form(path, form, ordering):
    sky = smooth_map(rms=5000).round()
    stored = healpy.reorder(sky, r2n=True) if ordering == "NESTED" else sky
    write(path, [stored], form=form, ORDERING=ordering)
    read = read_map(path)
    assert read.values.dtype == np.float32 and read.values.dtype.isnative
    assert (read.nside, read.ordering, read.unit, read.coordinates) == (NSIDE, ordering, "uK_CMB", "G")
    np.testing.assert_array_equal(read.values, stored)
    np.testing.assert_array_equal(read.nested().values, healpy.reorder(sky, r2n=True))
    np.testing.assert_array_equal(read.nested().ordered("RING").values, sky)


def test_file_made_by_healpy(path):
    sky = smooth_map()
    healpy.write_map(path, [sky, 2 * sky, 3 * sky], coord="G", column_units="K_CMB", dtype=np.float64)
    for field, factor in ((None, 1), ("I", 1), ("q", 2), ("U_POLARISATION", 3), (2, 3)):
        np.testing.assert_allclose(read_map(path, field).values, factor * sky)
    with pytest.raises(ConfigError, match="no field 'V': choose one of TEMPERATURE"):
        read_map(path, "V")


def test_part_of_the_sphere(path):
    sky = smooth_map().astype(np.float64)
    sky[: NPIX // 3] = healpy.UNSEEN
    healpy.write_map(path, sky, partial=True, column_units="uK_CMB", coord="C")
    read = read_map(path)
    assert read.bad.sum() == NPIX // 3 and read.coordinates == "C"
    np.testing.assert_allclose(read.values[~read.bad], sky[NPIX // 3 :], rtol=1e-6)


def test_gzip_and_second_table(tmp_path):
    plain = write(tmp_path / "a.fits", [smooth_map()])
    with fits.open(plain) as hdus:
        beam = fits.BinTableHDU.from_columns([fits.Column(name="BEAM", format="E", array=np.ones(5))])
        fits.HDUList([hdus[0], beam, hdus[1]]).writeto(tmp_path / "b.fits")
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress((tmp_path / "b.fits").read_bytes()))
    np.testing.assert_array_equal(read_map(packed).values, smooth_map())
    packed.write_bytes(packed.read_bytes()[:-5000])
    with pytest.raises(ConfigError, match="b.fits.gz"):
        read_map(packed)


def test_pixels_without_data_are_marked(path):
    sky = smooth_map()
    for value, at in ((UNSEEN, 3), (np.nan, 5), (np.inf, 7), (-9999.0, 11)):
        sky[at] = value
    read = read_map(write(path, [sky], BAD_DATA=-9999.0))
    assert np.flatnonzero(read.bad).tolist() == [3, 5, 7, 11] and np.isnan(read.values[read.bad]).all()
    assert np.flatnonzero(read.nested().bad).tolist() == sorted(healpy.ring2nest(NSIDE, [3, 5, 7, 11]))


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("ORDERING", {"ordering": "RING"}, "state the ordering, RING or NESTED"),
        ("NSIDE", {"nside": NSIDE}, "state nside"),
        ("unit", {"unit": "uK_CMB"}, r"no unit \(TUNIT1\): state the unit"),
    ],
)
def test_missing_keyword_must_be_stated(path, key, given, message):
    write(path, [smooth_map()], **{key: None})
    with pytest.raises(ConfigError, match=message):
        read_map(path)
    np.testing.assert_array_equal(read_map(path, **given).values, smooth_map())


@pytest.mark.parametrize(
    ("cards", "given", "message"),
    [
        ({"ORDERING": "SPIRAL"}, {}, "ordering 'SPIRAL' is not known"),
        ({}, {"ordering": "ringed"}, "ordering 'ringed' is not known"),
        ({"COORDSYS": "X"}, {}, "coordinates 'X' is not known"),
        ({"unit": "furlong"}, {}, "unit 'furlong' is not known"),
        ({}, {"unit": "K_XYZ"}, "unit 'K_XYZ' is not known"),
        ({"NSIDE": 15}, {}, "nside 15 is not a power of two"),
        ({"NSIDE": 32}, {}, "holds 3072 pixels, nside 32 has 12288"),
        ({}, {"nside": 8}, "has nside 16 where 8 is needed: give a map of nside 8\\."),
        ({}, {"field": 4}, "no field 4"),
    ],
)
def test_refusals_name_file_and_remedy(path, cards, given, message):
    write(path, [smooth_map()], **cards)
    with pytest.raises(ConfigError, match=message) as error:
        read_map(path, **given)
    assert str(path) in str(error.value) and str(error.value).count(". ") == 0


def test_missing_coordinates_are_none(path):
    write(path, [smooth_map()], COORDSYS=None)
    assert read_map(path).coordinates is None
    assert read_map(path, coordinates="galactic").coordinates == "G"


def test_damaged_files(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_map(tmp_path / "none.fits")
    whole = write(path, [smooth_map()]).read_bytes()
    cases = {
        "empty": b"",
        "garbage": np.random.default_rng(0).bytes(9000),
        "letters": b"SIMPLE  =" + b"x" * 9000,
        "zeros": whole[:80] + bytes(9000),
        "header": whole[:3000],
        "halved": whole[: len(whole) // 2],
        "padding": whole[:-1],
        "no table": whole[:2880],
    }
    for name, content in cases.items():
        damaged = tmp_path / f"{name}.fits"
        damaged.write_bytes(content)
        with pytest.raises(ConfigError, match=f"{name}.fits: "):
            read_map(damaged)
    with pytest.raises(FileNotFoundError):
        read_map(tmp_path)


@pytest.mark.parametrize("where", ["NAXIS2", "NAXIS1", "NSIDE"])
@pytest.mark.parametrize("packed", [False, True])
def test_allocation_bombs(path, where, packed):
    write(path, [smooth_map()])
    content = path.read_bytes()
    start = content.index(f"{where}".ljust(8).encode() + b"=", 2880)
    bomb = content[:start] + f"{where:8s}= {10**12:>20d}".encode() + content[start + 30 :]
    path.write_bytes(gzip.compress(bomb) if packed else bomb)
    with pytest.raises(ConfigError, match="map.fits"):
        read_map(path)


def test_a_few_pixels_are_no_finest_sphere(path):
    """A file of kilobytes must not ask for gigabytes."""
    numbers = np.arange(50)
    columns = [fits.Column("PIXEL", "J", array=numbers), fits.Column("I", "E", array=numbers + 1.0, unit="uK_CMB")]
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update(PIXTYPE="HEALPIX", ORDERING="RING", NSIDE=8192, COORDSYS="G", INDXSCHM="EXPLICIT")
    table.writeto(path)
    with pytest.raises(ConfigError, match="map.fits: holds 50 pixels of a sphere of 805306368"):
        read_map(path)
    table.header["NSIDE"] = 64
    table.writeto(path, overwrite=True)
    assert np.count_nonzero(~read_map(path).bad) == 50


def test_every_byte_matters_in_own_files(path):
    write_map(path, smooth_map()[None], ["I"], "uK_CMB")
    content = bytearray(path.read_bytes())
    for at in (9000, len(content) - 3000, content.index(b"uK_CMB")):
        flipped = content.copy()
        flipped[at] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(ConfigError, match="damaged"):
            read_map(path)


def test_written_map_is_what_healpy_reads(path):
    sky = smooth_map()
    nested = healpy.reorder(sky, r2n=True)
    holes = nested.copy()
    holes[17] = np.nan
    header = {"FWHM": (180.0, "beam [arcmin]"), "CHECKPT": "a" * 64, "SIM": 3}
    write_map(path, np.stack([nested, holes]), ["I", "SIGMA"], "uK_CMB", header)
    (first, second), cards = healpy.read_map(path, field=(0, 1), h=True)
    np.testing.assert_array_equal(first, sky)
    assert np.flatnonzero(second == healpy.UNSEEN).tolist() == [healpy.nest2ring(NSIDE, 17)]
    cards = dict(cards)
    assert (cards["ORDERING"], cards["TUNIT1"], cards["FWHM"], cards["COORDSYS"]) == ("RING", "uK_CMB", 180.0, "G")
    back = read_map(path, "SIGMA")
    assert back.header["CHECKPT"] == "a" * 64 and back.header["SIM"] == 3
    np.testing.assert_array_equal(back.nested().values, holes)
    before = path.read_bytes()
    write_map(path, np.stack([nested, holes]), ["I", "SIGMA"], "uK_CMB", header)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["map.fits"]


def test_write_refuses_other_shapes(path):
    for maps, names in ((np.zeros((1, 100)), ["I"]), (np.zeros((2, NPIX)), ["I"]), (np.zeros(NPIX), ["I"])):
        with pytest.raises(ConfigError, match="are not"):
            write_map(path, maps, names, "uK_CMB")
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("uK_CMB", "uK_CMB"),
        ("mK,thermodynamic", "mK_CMB"),
        ("Kcmb", "K_CMB"),
        ("µK_RJ", "uK_RJ"),
        ("MJy/sr", "MJy / sr"),
    ]
    + [("mK", "mK"), ("1", ""), ("", ""), ("mK,antenna", "mK_RJ")],
)
def test_unit_spellings(text, spelled):
    assert known_unit(text, "here") == spelled


@pytest.mark.parametrize("unit", ["K_CMB", "uK_RJ", "MJy/sr"])
def test_conversion_agrees_with_pysm(path, unit):
    import pysm3.units as u

    sky = smooth_map()
    write(path, [sky], unit=unit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = read_map(path).in_uK_CMB(143.0)
    expected = (sky * u.Unit(unit)).to_value(u.uK_CMB, equivalencies=u.cmb_equivalencies(143 * u.GHz))
    np.testing.assert_allclose(got.values, expected, rtol=1e-5)
    assert got.unit == "uK_CMB"


def test_plain_kelvin_is_ambiguous(path):
    write(path, [smooth_map()], unit="mK")
    with pytest.raises(ConfigError, match="state the unit by `unit`, mK_CMB or mK_RJ"):
        read_map(path).in_uK_CMB(94.0)
    with pytest.warns(UserWarning, match="check its unit"):
        assert read_map(path, unit="mK_CMB").in_uK_CMB(94.0).values.std() == pytest.approx(70e3, rel=0.01)


@pytest.mark.parametrize(
    ("unit", "frequency", "likely"), [("K_CMB", 143, False), ("uK_CMB", 143, True), ("K_CMB", 30, True)]
)
def test_unlikely_sky_is_a_warning(path, unit, frequency, likely):
    write(path, [smooth_map()], unit=unit)
    sky = read_map(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sky.in_uK_CMB(frequency)
    assert len(caught) == (0 if likely else 1)


@pytest.mark.parametrize("true", ["RING", "NESTED"])
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_lying_header_is_seen(path, true, noise):
    sky = smooth_map() + np.random.default_rng(0).normal(size=NPIX).astype(np.float32) * 70 * noise
    stored = healpy.reorder(sky, r2n=True) if true == "NESTED" else sky
    lie = {"RING": "NESTED", "NESTED": "RING"}[true]
    with pytest.warns(UserWarning, match=f"is called {lie} but looks like {true}"):
        read_map(write(path, [stored], ORDERING=lie))
    with pytest.warns(UserWarning, match="as stated"):
        assert read_map(path, ordering=true).ordering == true


@pytest.mark.parametrize("ordering", ["RING", "NESTED"])
def test_noise_has_no_ordering(ordering):
    for seed in range(20):
        for nside in (2, 8, 32):
            noise = np.random.default_rng(seed).normal(size=12 * nside**2)
            assert not is_misordered(noise, nside, ordering)


def test_real_templates(real_sky):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dust = read_map(real_sky / "dust_353ghz.fits", "I")
        index = read_map(real_sky / "dust_353ghz.fits", "BETA")
    assert (dust.nside, dust.unit, index.unit, dust.header["REFFREQ"]) == (64, "uK_RJ", "", 353.0)
    np.testing.assert_array_equal(dust.values, healpy.read_map(real_sky / "dust_353ghz.fits", dtype=np.float32))


def test_reader_needs_no_torch():
    code = (
        "import sys, cmb_lightning.results.fits; sys.exit(any(m in sys.modules for m in ('torch', 'healpy', 'pysm3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode == 0
