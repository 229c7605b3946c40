import numpy as np
import pysm3
import pysm3.units as u
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import bandpass
from cmb_lightning.sky.laws import ModifiedBlackbody, PowerLaw

FREQUENCIES = np.linspace(120.0, 180.0, 601)
TRANSMISSION = np.exp(-(((FREQUENCIES - 145) / 15) ** 4)) * (1 + 0.3 * np.sin(FREQUENCIES / 4))


def signal(band, law, reference):
    return sum(weight * law.ratio(nu, reference, {}) for nu, weight in zip(*band, strict=True))


def pysms(law, reference, frequencies, weights):
    """PySM's integral over a bandpass with its own rule, in uK_CMB for 1 uK_RJ at the reference."""
    one = np.ones(12) << u.uK_RJ
    if isinstance(law, ModifiedBlackbody):
        model = pysm3.ModifiedBlackBody(
            one, reference * u.GHz, reference * u.GHz, 1.54, 20.0, 1, map_Q=one, map_U=one, unit_mbb_temperature="K"
        )
    else:
        model = pysm3.PowerLaw(one, reference * u.GHz, -3.0, 1, has_polarization=False)
    sky = pysm3.Sky(nside=1, component_objects=[model], output_unit="uK_CMB")
    return sky.get_emission(frequencies * u.GHz, weights)[0, 0].value


@pytest.mark.parametrize(("law", "reference"), [(ModifiedBlackbody(1.54, "20 K"), 353.0), (PowerLaw(-3.0), 30.0)])
def test_tabulated_is_pysms(law, reference, tmp_path):
    path = tmp_path / "band.txt"
    np.savetxt(path, np.column_stack([FREQUENCIES, 7 * TRANSMISSION]))
    band = bandpass.tabulated(path)
    assert len(band[0]) == bandpass.NODES
    assert signal(band, law, reference) == pytest.approx(pysms(law, reference, FREQUENCIES, TRANSMISSION), rel=1e-5)


@pytest.mark.parametrize(("law", "reference"), [(ModifiedBlackbody(1.54, "20 K"), 353.0), (PowerLaw(-3.0), 30.0)])
@pytest.mark.parametrize("centre", [28.4, 143.0, 866.8])
def test_top_hat_is_pysms(law, reference, centre):
    edges = np.linspace(0.8 * centre, 1.2 * centre, 2001)
    band = bandpass.top_hat(centre, 0.4 * centre, "bandwidth")
    assert signal(band, law, reference) == pytest.approx(pysms(law, reference, edges, None), rel=1e-5)


def test_narrow_top_hat_is_a_delta():
    law = ModifiedBlackbody()
    narrow = signal(bandpass.top_hat(143.0, 0.01, "bandwidth"), law, 353.0)
    assert narrow == pytest.approx(signal(bandpass.delta(143.0), law, 353.0), rel=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100 1 1\n110 1 1\n", "must have two columns"),
        ("100 one\n", "must have two columns"),
        ("110 1\n100 1\n", "rising"),
        ("100 1\n", "at least two"),
        ("100 1\n110 -1\n", "nowhere below 0"),
        ("100 0\n110 0\n", "somewhere above it"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "band.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        bandpass.tabulated(tmp_path / "band.txt")


def test_bad_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match="bandpass: there is no file"):
        bandpass.tabulated(tmp_path / "band.txt")
    with pytest.raises(ConfigError, match="bandwidth: 300.0 GHz must lie between 0 and twice"):
        bandpass.top_hat(100.0, 300.0, "bandwidth")
