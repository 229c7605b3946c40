"""A split of its own for the linear weights, those of networks and of trained classical methods alike."""

import numpy as np
import pytest

from cmb_lightning.cleaning.fitted import load_weights
from tests.command.application import TINY, Application, merge

NETWORK = {"trainer": {"max_epochs": 1}}
CLASSICAL = {"task": "ClassicalTask", "model": {"method": "NeedletILC", "trained": True}}


def weights(folder, command, changes, splits):
    """What is fitted with these splits."""
    base = TINY if command == "fit" else {key: value for key, value in TINY.items() if key != "model"}
    folder.mkdir()
    app = Application(folder)
    app.write("tiny.yaml", merge(merge(base, changes), {"data": {"init_args": {"splits": splits}}}))
    ended = app(command)
    assert (ended.status, ended.err) == (0, "")
    (path,) = folder.glob("run/*_weights.safetensors")
    return {name: value for name, value in load_weights(path).items() if name != "key"}


@pytest.mark.parametrize(("command", "changes"), [("fit", NETWORK), ("test", CLASSICAL)], ids=["network", "classical"])
def test_the_split_for_linear_weights_alone_decides_them(tmp_path, command, changes):
    plain = {"linear": {"n_sims": 2}}
    first = weights(tmp_path / "a", command, changes, plain)
    odder = weights(tmp_path / "b", command, changes, plain | {"train": {"gain_errors": 5.0}})
    other = weights(tmp_path / "c", command, changes, {"linear": {"n_sims": 2, "gain_errors": 5.0}})
    assert all(np.array_equal(first[name], odder[name]) for name in first)
    assert not np.array_equal(first["weights"], other["weights"])
