import pytest

from cmb_lightning.data.splits import Split, SplitData, check_splits, choose_splits
from cmb_lightning.errors import ConfigError
from tests.data.fakes import Toy, toy_cache


@pytest.mark.parametrize("n_sims", [0, -3])
def test_no_simulations_are_refused(n_sims):
    with pytest.raises(ConfigError, match=f"n_sims: {n_sims} must be at least 1"):
        Split(n_sims)


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_is_refused(cap):
    with pytest.raises(ConfigError, match=f"n_sims_cap: {cap}"):
        Split(3, n_sims_cap=cap)


@pytest.mark.parametrize(("own", "common", "used"), [(None, None, 5), (2, None, 2), (None, 3, 3), (2, 3, 2), (9, 3, 5)])
def test_a_cap_limits_what_is_used_not_what_is_made(tmp_path, own, common, used):
    data = SplitData(toy_cache(tmp_path, Toy()), Toy(), Split(5, own), common)
    assert (data.n_used, data.n_sims, len(data)) == (used, 5, 5)


def test_a_cap_above_the_number_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    SplitData(toy_cache(tmp_path, Toy()), Toy(), Split(5, 9))
    assert "n_sims_cap: 9 is above the 5 simulations of train; all are used." in caplog.text


def test_names_of_splits():
    assert list(check_splits({"Train": Split(1), "test-1_b": Split(1)})) == ["train", "test-1_b"]
    with pytest.raises(ConfigError, match="'TRAIN' is there twice"):
        check_splits({"train": Split(1), "TRAIN": Split(1)})
    with pytest.raises(ConfigError, match="there are none"):
        check_splits({})
    with pytest.raises(ConfigError, match="'../x' must be"):
        check_splits({"../x": Split(1)})


def test_an_unknown_split_lists_the_known_ones():
    assert choose_splits(["Test"], ["train", "test"], "run_inference_on") == ["test"]
    with pytest.raises(ConfigError, match="run_inference_on: there is no split 'tets'; there are train, test."):
        choose_splits(["tets"], ["train", "test"], "run_inference_on")
    for names in ([], ["test", "Test"]):
        with pytest.raises(ConfigError, match="at least one split, each once"):
            choose_splits(names, ["test"], "run_inference_on")
