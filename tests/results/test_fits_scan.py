import gzip
import shutil

import healpy
import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import write_map
from cmb_lightning.results.fits_scan import map_extremes

NSIDE = 16
NPIX = 12 * NSIDE**2


@pytest.fixture
def maps():
    return np.random.default_rng(0).standard_normal((3, NPIX)).astype(np.float32)


def write(path, maps, **options):
    columns = {"column_names": ["I_STOKES", "Q_STOKES", "U_STOKES"][: len(maps)], "column_units": "uK_CMB"}
    healpy.write_map(path, maps, **({"dtype": np.float32} | columns | options))
    return path


@pytest.mark.parametrize("options", [{}, {"dtype": np.float64}, {"fits_IDL": False}, {"nest": True}])
@pytest.mark.parametrize("piece", [5000, 1 << 18])
def test_extremes_are_those_of_the_maps(tmp_path, maps, monkeypatch, options, piece):
    monkeypatch.setattr("cmb_lightning.results.fits_scan._PIECE", piece)
    monkeypatch.setattr("cmb_lightning.results.fits_scan.read_map", None)  # not needed
    path = write(tmp_path / "a.fits", maps, **options)
    found = map_extremes(path, ["U", "I", 1])
    for k, row in enumerate((2, 0, 1)):
        assert found.statistics.minimum[k] == maps[row].min() and found.statistics.maximum[k] == maps[row].max()
    assert found.units == ("uK_CMB",) * 3 and found.statistics.bad == (0, 0, 0)


def test_our_own_files_with_checksums(tmp_path, maps, monkeypatch):
    monkeypatch.setattr("cmb_lightning.results.fits_scan._PIECE", 5000)
    write_map(tmp_path / "a.fits", maps, ["I", "Q", "U"], "uK_CMB")
    assert map_extremes(tmp_path / "a.fits", ["Q"]).statistics.maximum == (maps[1].max(),)
    content = bytearray((tmp_path / "a.fits").read_bytes())
    content[8000] ^= 1
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(ConfigError, match="a.fits: its checksum does not fit"):
        map_extremes(tmp_path / "a.fits", ["Q"])


def test_pixels_without_data_do_not_count(tmp_path, maps):
    maps[0, [3, 5, 700]] = healpy.UNSEEN, np.nan, np.inf
    statistics = map_extremes(write(tmp_path / "a.fits", maps), ["I", "Q"]).statistics
    good = maps[0, np.isfinite(maps[0]) & (maps[0] > -1e30)]
    assert statistics.minimum == (good.min(), maps[1].min()) and statistics.maximum == (good.max(), maps[1].max())
    assert statistics.bad == (3, 0)


def test_files_that_are_not_plain_give_the_same(tmp_path, maps):
    path = write(tmp_path / "a.fits", maps[:1])
    plain = map_extremes(path, ["I"])
    with path.open("rb") as file, gzip.open(tmp_path / "b.fits.gz", "wb") as packed:
        shutil.copyfileobj(file, packed)
    assert map_extremes(tmp_path / "b.fits.gz", ["I"]) == plain
    maps[0, :100] = healpy.UNSEEN
    statistics = map_extremes(write(tmp_path / "c.fits", maps[:1], partial=True), ["I"]).statistics
    assert statistics.maximum == (maps[0].max(),) and statistics.bad == (100,)


def test_faults_are_explained(tmp_path, maps):
    path = write(tmp_path / "a.fits", maps[:1])
    (tmp_path / "short.fits").write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ConfigError, match="short.fits"):
        map_extremes(tmp_path / "short.fits", ["I"])
    with pytest.raises(ConfigError, match="no field 'Q'"):
        map_extremes(path, ["Q"])
    with pytest.raises(FileNotFoundError, match="none.fits"):
        map_extremes(tmp_path / "none.fits", ["I"])
    (tmp_path / "text.fits").write_text("no map")
    with pytest.raises(ConfigError, match="no FITS file"):
        map_extremes(tmp_path / "text.fits", ["I"])
    with pytest.raises(ConfigError, match="has no unit"):
        map_extremes(write(tmp_path / "b.fits", maps[:1], column_units=None), ["I"])
    assert map_extremes(tmp_path / "b.fits", ["I"], unit="mK_CMB").units == ("mK_CMB",)
