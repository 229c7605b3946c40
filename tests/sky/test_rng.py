import itertools
import subprocess
import sys

import numpy as np

from cmb_lightning.sky.rng import Draws, stream


def test_streams_differ_and_repeat():
    keys = list(itertools.product([0, 1], ["train", "valid"], [0, 1, 2**40], ["cmb/T", "noise/30_I"]))
    first = {key: tuple(stream(*key).standard_normal(4)) for key in keys}
    assert len(set(first.values())) == len(keys)
    assert first == {key: tuple(stream(*key).standard_normal(4)) for key in reversed(keys)}


def test_case_of_the_split_does_not_matter():
    assert stream(1, "Train", 2, "cmb").random() == stream(1, "train", 2, "cmb").random()


def test_same_in_another_process_and_whatever_numpy_global_state():
    code = "from cmb_lightning.sky.rng import Draws; print(Draws(1, 'a', 2)('x').random())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    state = np.random.get_state()[1].copy()
    assert float(printed) == Draws(1, "a", 2)("x").random()
    assert np.array_equal(state, np.random.get_state()[1])


def test_stored_value():
    assert stream(1, "train", 0, "cmb/T").integers(2**32) == 923782427
