import healpy
import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.cosmology import CambPrior, CambSpectrum
from cmb_lightning.sky.spectra import FileSpectrum, PolynomialSpectrum, save_spectrum, validated


def test_polynomial_has_the_highest_power_first():
    cl = PolynomialSpectrum([2.0, 0.0, 3.0]).cl(5)
    assert cl.shape == (4, 6)
    assert np.array_equal(cl[0], [0, 5, 11, 21, 35, 53])  # 2 l^2 + 3, and no monopole
    assert not cl[1:].any()


def test_negative_spectra_are_refused():
    with pytest.raises(
        ConfigError, match=r"coefficients \[-1.0, 2.5\]: C_l of TT is -0.5 at l = 3; it must be 0 or more"
    ):
        PolynomialSpectrum([-1.0, 2.5]).cl(5)


@pytest.fixture
def cl():
    degree = np.arange(41.0)
    tt = 1e3 / (1 + degree) ** 2
    return validated(np.stack([tt, 0.1 * tt, 0.01 * tt, -0.2 * tt]), "cl")


def test_text_round_trip_is_exact(tmp_path, cl):
    save_spectrum(tmp_path / "new" / "cl.txt", cl)
    assert np.array_equal(FileSpectrum(str(tmp_path / "new" / "cl.txt")).cl(40), cl)
    assert np.array_equal(FileSpectrum(str(tmp_path / "new" / "cl.txt")).cl(10), cl[:, :11])


def test_fits_of_healpy(tmp_path, cl):
    path = str(tmp_path / "cl.fits")
    healpy.write_cl(path, cl, dtype=np.float64, column_units="uK_CMB2")
    assert np.allclose(FileSpectrum(path).cl(40), cl, rtol=1e-12)
    healpy.write_cl(path, cl[0], dtype=np.float64, overwrite=True)
    assert np.allclose(FileSpectrum(path, "uK_CMB2").cl(40)[0], cl[0], rtol=1e-12)


def test_text_of_other_columns_units_and_kind(tmp_path, cl):
    degree = np.arange(2, 41)
    dl = cl[:, 2:] * degree * (degree + 1) / (2 * np.pi) * 1e-12
    path = tmp_path / "dl.txt"
    np.savetxt(path, np.column_stack([degree, dl[0], np.zeros(39), dl[1]]))
    read = FileSpectrum(str(path), "K_CMB2", ["l", "TT", "-", "EE"], "D_l").cl(40)
    assert np.allclose(read[:2, 2:], cl[:2, 2:], rtol=1e-12)
    assert not read[:, :2].any() and not read[2:].any()


def test_identity_follows_the_content(tmp_path, cl):
    recipes = []
    for name, factor in (("a.txt", 1), ("b.txt", 1), ("a.txt", 2)):
        save_spectrum(tmp_path / name, factor * cl)
        recipes.append(FileSpectrum(str(tmp_path / name)).recipe())
    assert recipes[0] == recipes[1] != recipes[2]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("0 1\n1 1\n2 1\n", {}, "no unit in the file; state"),
        ("0 1\n1 1\n2 1\n", {"unit": "GHz"}, "GHz is not the unit of a spectrum"),
        ("0 1\n1 1\n2 1\n", {"unit": "uK_CBM2"}, "unknown unit 'uK_CBM2'"),
        ("# unit: uK_CMB2\n0 1 1\n1 1 1\n", {}, "3 columns are not .*state `columns`"),
        ("# unit: uK_CMB2\n0 1\n1 one\n", {}, "no table of numbers"),
        ("# unit: uK_CMB2\n0 1\n1 1\n2 1\n3 1\n", {}, "ends at l = 3, the maps need 4; lower lmax"),
        ("# unit: uK_CMB2\n0 1\n1 1\n2 1\n4 1\n5 1\n", {}, "every l"),
        ("# unit: uK_CMB2\n0 1\n1 1\n2 1\n3 nan\n4 1\n", {}, "C_l of TT is nan at l = 3"),
        ("# unit: uK_CMB2\n# l TT EE TE\n2 1 1 0\n3 1 1 2\n4 1 1 0\n", {}, "TE is 2 at l = 3, beyond"),
    ],
)
def test_bad_files(tmp_path, text, arguments, message):
    path = tmp_path / "cl.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        FileSpectrum(str(path), **arguments).cl(4)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="path: there is no spectrum nowhere.txt"):
        FileSpectrum("nowhere.txt")


def test_camb_is_the_lensed_spectrum_with_its_amplitude_at_the_stated_pivot():
    import camb

    parameters = camb.set_params(
        H0=67.36, ombh2=0.02237, omch2=0.12, ns=0.9649, tau=0.0544, mnu=0.06, As=2.1e-9, pivot_scalar=0.05, lmax=2500,
        lens_potential_accuracy=1,
    )  # fmt: skip
    expected = camb.get_results(parameters).get_lensed_scalar_cls(128, CMB_unit="muK", raw_cl=True).T
    cl = CambSpectrum().cl(128)
    assert np.allclose(cl[:2, 2:], expected[:2, 2:129], rtol=1e-3)
    assert np.allclose(cl[2, 2:], expected[2, 2:129], rtol=1e-2)
    assert np.allclose(cl[3, 2:], expected[3, 2:129], atol=1e-3 * np.abs(expected[3]).max())
    assert CambSpectrum(As=4.2e-9).recipe() != CambSpectrum().recipe()


def test_impossible_universe():
    with pytest.raises(ConfigError, match="omch2: -0.1 must be above 0"):
        CambSpectrum(omch2=-0.1)


def test_bad_prior():
    with pytest.raises(ConfigError, match="std: no parameter h0; there are H0, ombh2"):
        CambPrior(std={"h0": 1.0})
    with pytest.raises(ConfigError, match="std: r has mean 0 and cannot scatter"):
        CambPrior(std={"r": 0.1})
