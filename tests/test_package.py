import subprocess
import sys

import pytest

import cmb_lightning


@pytest.mark.parametrize("name", cmb_lightning.__all__)
def test_what_the_package_offers_is_there(name):
    assert getattr(cmb_lightning, name) is not None


def test_what_it_does_not_offer_is_an_error():
    with pytest.raises(AttributeError, match="Nonsense"):
        cmb_lightning.Nonsense  # noqa: B018


def test_importing_it_loads_nothing():
    heavy = ("torch", "healpy", "lightning", "pysm3")
    code = f"import sys, cmb_lightning; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
