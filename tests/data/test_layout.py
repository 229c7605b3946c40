import json
from dataclasses import replace

import healpy
import numpy as np
import pytest

from cmb_lightning.data.layout import Layout, check_nside
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import Instrument
from tests.data.fakes import LAYOUT


def test_it_survives_a_checkpoint():
    stored = LAYOUT.to_dict()
    assert Layout.from_dict(json.loads(json.dumps(stored))) == LAYOUT
    assert all(isinstance(value, int | float | str | list) for value in stored.values())


def test_beams_are_gaussians_unless_their_windows_are_given(tmp_path):
    degree = np.arange(17)
    b_l = 1 / (1 + (degree / 9) ** 4)
    np.savetxt(tmp_path / "beam.txt", np.column_stack([degree, b_l]))
    one, other, polarised = Instrument.load("real_sky_64", 8, ["30", "100"], ("I", "Q", "U")).channels[:3]
    channels = [replace(one, beam_file=str(tmp_path / "beam.txt")), other, polarised]
    layout = Layout.of(channels, 8, 16, ("I", "Q", "U"), 300.0)
    np.testing.assert_allclose(layout.beams()[0], b_l)
    np.testing.assert_allclose(layout.beams()[1], healpy.gauss_beam(np.radians(3), 16, pol=True)[:, 1])
    np.testing.assert_allclose(layout.target_beams()[0], healpy.gauss_beam(np.radians(5), 16))
    np.testing.assert_allclose(layout.target_beams()[1], healpy.gauss_beam(np.radians(5), 16, pol=True)[:, 1])
    assert Layout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    assert "windows" not in Layout.of([other, polarised], 8, 16, ("Q", "U"), 300.0).to_dict()


def test_another_window_is_a_difference_with_few_words():
    window = tuple(np.linspace(1, 0, 17).tolist())
    other = replace(LAYOUT, windows=((), window))
    assert LAYOUT.differences(other) == other.differences(LAYOUT) == ["beam window of 100_I"]
    assert other.differences(replace(LAYOUT, windows=((), window[:-1] + (0.1,)))) == ["beam window of 100_I"]
    assert other.differences(other) == []


def test_differences_are_named():
    other = replace(LAYOUT, nside=16, channels=("30_I", "70_I"))
    assert LAYOUT.differences(LAYOUT) == []
    assert LAYOUT.differences(other) == [
        "nside: 8 here, 16 there",
        "channels: ['30_I', '100_I'] here, ['30_I', '70_I'] there",
    ]


@pytest.mark.parametrize("nside", [0, -8, 3, 63, 16384])
def test_nside_must_be_a_power_of_two(nside):
    with pytest.raises(ConfigError, match=f"nside: {nside} is not a power of two"):
        check_nside(nside)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lmax": 24}, "lmax: 24 does not fit nside 8"),
        ({"windows": ((), (1.0, 0.5))}, "windows: .* with 17 values or none"),
        ({"fwhm": (1.0,)}, "2 channels but 1 beams"),
        ({"channels": ("30_I", "30_I")}, "each only once"),
        ({"fields": ("V",)}, r"fields: \['V'\] must be some of I, Q, U"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(LAYOUT, **change)
