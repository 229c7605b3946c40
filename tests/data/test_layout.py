import dataclasses
import json

import pytest

from cmb_lightning.data.layout import Layout, check_nside
from cmb_lightning.errors import ConfigError
from tests.data.fakes import LAYOUT


def test_it_survives_a_checkpoint():
    stored = LAYOUT.to_dict()
    assert Layout.from_dict(json.loads(json.dumps(stored))) == LAYOUT
    assert all(isinstance(value, int | float | str | list) for value in stored.values())


def test_differences_are_named():
    other = dataclasses.replace(LAYOUT, nside=16, channels=("30_I", "70_I"))
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
        ({"fwhm": (1.0,)}, "2 channels but 1 beams"),
        ({"channels": ("30_I", "30_I")}, "each only once"),
        ({"fields": ("V",)}, r"fields: \['V'\] must be some of I, Q, U"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(LAYOUT, **change)
