from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from cmb_lightning.sky import Instrument, Simulator, Sky

SKIES = sorted((Path(__file__).parents[2] / "configs" / "skies").glob("*.yaml"))


def read(path):
    parser = ArgumentParser()
    parser.add_argument("--sky", type=Sky)
    return parser.instantiate(parser.parse_args(["--sky", str(path)])).sky


@pytest.mark.parametrize("path", SKIES, ids=lambda path: path.stem)
def test_shipped_skies_load_with_nothing_but_their_folder(path, real_sky):
    instrument = Instrument.load("real_sky_64", 64, ["30", "353"])
    simulator = Simulator(instrument, 64, None, None, read(path), 1, templates=real_sky)
    made = simulator.simulate("train", 0)["foregrounds"]
    assert np.isfinite(made).all() and np.all(made.std(axis=1) > 100)
    assert str(real_sky) not in str(simulator.recipe("train"))


def test_other_laws_are_other_laws(real_sky):
    instrument = Instrument.load("real_sky_64", 64)
    one, other = (
        Simulator(instrument, 64, None, None, read(path), 1, real_sky).simulate("t", 0)["foregrounds"]
        for path in SKIES
        if path.stem in ("real", "real_other_laws")
    )
    difference = (other - one).std(axis=1) / one.std(axis=1)
    assert np.all(difference[1:6] > 0.005) and difference.max() < 0.5  # 30 and 353 are near the templates
