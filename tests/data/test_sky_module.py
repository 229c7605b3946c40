"""The data module with the real simulator, at nside 8."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from cmb_lightning.data import generation
from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.datasets import Unprepared
from cmb_lightning.data.mixing import observe
from cmb_lightning.data.scaling import read_extremes
from cmb_lightning.data.sky_module import SkyDataModule, SkySplit
from cmb_lightning.data.tensorfile import digest
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.foregrounds import Foreground
from cmb_lightning.sky.simulator import Sky
from cmb_lightning.sky.spectra import PolynomialSpectrum
from cmb_lightning.sky.transforms import draw_unit_alm


class Haze(Foreground):
    """The same random field in every band."""

    name, fixed = "haze", False

    def check(self, channels, nside):
        pass

    def alm(self, channels, nside, lmax, draws):
        return np.repeat(
            draws("haze")[None] if isinstance(draws, dict) else [draw_unit_alm(draws("haze"), lmax)],
            len(channels),
            axis=0,
        )

    def recipe(self):
        return {"class": "Haze"}


SKY = Sky(PolynomialSpectrum([1.0]), [Haze()], gain_errors=1.0)


def module(root, **options) -> SkyDataModule:
    splits = {"Train": SkySplit(4), "valid": SkySplit(2), "test": SkySplit(3), "test1": SkySplit(2, gain_errors=0.0)}
    defaults = {"splits": splits, "instrument": "real_sky_64", "nside": 8, "bands": ["100", "143"], "sky": SKY}
    return SkyDataModule(**defaults | {"root": root, "batch_size": 2} | options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A complete cache."""
    root = tmp_path_factory.mktemp("cache")
    module(root).prepare_data()
    return root


def stage(data: SkyDataModule, name: str, **options) -> SkyDataModule:
    """Makes a data module believe that a trainer runs it."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=0, processed=0), is_last_batch=False)
    fit_loop = SimpleNamespace(epoch_progress=progress, epoch_loop=SimpleNamespace(batch_progress=progress))
    trainer = {"world_size": 1, "global_rank": 0, "is_global_zero": True, "fast_dev_run": 0, "fit_loop": fit_loop}
    trainer |= {"state": SimpleNamespace(fn=SimpleNamespace(value=name)), "default_root_dir": str(data.root / "run")}
    trainer |= {"strategy": SimpleNamespace(root_device=SimpleNamespace(type="cpu"))}
    trainer |= {"lightning_module": SimpleNamespace(preparation=lambda scored: Unprepared())}
    data.trainer = SimpleNamespace(**trainer | options)
    return data


def made(root) -> set[str]:
    return {f"{path.parent.name.split('-')[0]}/{path.stem}" for path in root.rglob("sim*")}


def hashes(data: SkyDataModule, split: str) -> list[dict[str, str]]:
    return [{name: digest(maps) for name, maps in sim.items() if name != "index"} for sim in data.splits[split]]


def test_the_layout_is_known_at_once(tmp_path):
    layout = module(tmp_path, target_fwhm="150 arcmin").layout
    assert (layout.nside, layout.lmax, layout.channels) == (8, 16, ("100_I", "143_I"))
    assert (layout.fwhm, layout.fields, layout.target_fwhm) == ((150.0, 140.0), ("I",), 150.0)
    assert module(tmp_path).layout.target_fwhm == 140.0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "splits"),
    [("fit", {"train", "valid"}), ("validate", {"valid"}), ("test", {"test", "test1"}), ("predict", {"test", "test1"})],
)
def test_a_stage_makes_only_what_it_needs(tmp_path, name, splits):
    data = stage(module(tmp_path, run_inference_on=["test", "Test1"]), name)
    data.prepare_data()
    assert {path.split("/")[0] for path in made(tmp_path)} == splits
    data.setup(name)
    assert data.inference_splits == (["test", "test1"] if name in ("test", "predict") else ["valid"])


def test_a_fast_dev_run_makes_one_of_each(tmp_path):
    data = stage(module(tmp_path), "fit", fast_dev_run=1)
    data.prepare_data()
    data.setup("fit")
    assert made(tmp_path) == {"train/sim000000", "valid/sim000000"}
    assert len(next(iter(data.train_dataloader()))["index"]) == 1
    assert not (tmp_path / "run").exists()


def test_splits_share_no_realisation(root):
    data = module(root)
    found = [sim[name] for split in data.splits for sim in hashes(data, split) for name in sim if name != "gain"]
    assert len(set(found)) == len(found) == 11 * 4


def test_leaving_a_component_out_changes_no_other(root, tmp_path):
    bare = module(tmp_path, sky=dataclasses.replace(SKY, foregrounds=[]), splits={"train": SkySplit(2)})
    bare.prepare_data()
    for with_haze, without in zip(hashes(module(root), "train")[:2], hashes(bare, "train"), strict=True):
        assert {name for name in with_haze if with_haze[name] != without[name]} == {"foregrounds"}


def test_more_simulations_of_one_split_change_no_other_bytes(root, tmp_path):
    splits = {"train": SkySplit(4), "valid": SkySplit(2), "test": SkySplit(3), "test1": SkySplit(2, gain_errors=0.0)}
    grown = module(tmp_path, splits=splits | {"valid": SkySplit(5)})
    grown.make()
    before, after = ({p.relative_to(at): p.read_bytes() for p in at.rglob("sim*")} for at in (root, tmp_path))
    assert before.items() <= after.items() and len(after) == len(before) + 3


def test_other_code_s_random_numbers_change_nothing_and_are_not_changed(root, tmp_path):
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    again = module(tmp_path, splits={"train": SkySplit(4)})
    again.prepare_data()
    assert np.array_equal(np.random.get_state()[1], state)
    assert hashes(again, "train") == hashes(module(root), "train")


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"nside": 16}, {"lmax": 15}, {"target_fwhm": "200 arcmin"}, {"bands": ["100", "217"]}]
    + [{"sky_nside": 16}, {"sky": dataclasses.replace(SKY, noise=False)}]
    + [{"sky": dataclasses.replace(SKY, gain_errors=2.0)}],
)
def test_what_changes_the_maps_changes_their_folder(tmp_path, change):
    assert module(tmp_path, **change).identity["train"] != module(tmp_path).identity["train"]


def test_what_does_not_change_the_maps_does_not(tmp_path):
    splits = {"train": SkySplit(400, n_sims_cap=3), "new": SkySplit(1)}
    options = {"batch_size": 7, "n_workers": 2, "num_workers": 1, "target_fwhm": "140 arcmin", "keep": 0.0}
    other = module(tmp_path / "elsewhere", splits=splits, **options)
    assert other.identity["train"] == module(tmp_path).identity["train"]


def test_a_split_may_have_its_own_sky(tmp_path):
    own = Sky(PolynomialSpectrum([2.0]), [], gain_errors=1.0)
    splits = {"train": SkySplit(1), "test": SkySplit(1, sky=own), "test1": SkySplit(1, gain_errors=0)}
    data = module(tmp_path, splits=splits)
    data.prepare_data()
    sims = {name: data.splits[name][0] for name in data.splits}
    assert sims["train"]["foregrounds"].any() and not sims["test"]["foregrounds"].any()
    assert sims["train"]["gain"].any() and sims["test"]["gain"].any() and not sims["test1"]["gain"].any()
    assert sims["test"]["cmb"].std() > 1.1 * sims["train"]["cmb"].std()


def test_extremes_are_those_of_the_training_maps_alone(root, tmp_path):
    data = stage(module(root), "fit")
    data.setup("fit")
    maps = np.stack([observe(sim) for sim in data.splits["train"]])
    targets = np.stack([sim["target"] for sim in data.splits["train"]])
    scaling = data.scaling()
    assert np.array_equal(scaling["inputs"], (maps.min(axis=(0, 2)), maps.max(axis=(0, 2))))
    assert np.array_equal(scaling["target"], (targets.min(axis=(0, 2)), targets.max(axis=(0, 2))))
    in_run = read_extremes(root / "run" / "extremes.yaml", {"train": data.identity["train"]})
    assert in_run == data.extremes
    assert data.write_extremes() == root / "sky" / "extremes.yaml"
    assert read_extremes(root / "sky" / "extremes.yaml") == data.extremes


def test_prediction_needs_no_training_data(tmp_path):
    data = stage(module(tmp_path), "predict")
    data.prepare_data()
    data.setup("predict")
    assert {path.split("/")[0] for path in made(tmp_path)} == {"valid"}
    with pytest.raises(RuntimeError, match="after setup"):
        data.scaling()


def test_batches(root):
    data = stage(module(root, run_inference_on=["test", "test1"], n_sims_cap=2), "test")
    data.setup("fit")
    (first, second) = data.train_dataloader()
    assert first["inputs"].shape == (2, 2, 768) and first["target"].shape == (2, 1, 768)
    assert sorted(first["index"].tolist() + second["index"].tolist()) == [0, 1, 2, 3]
    loaders = data.test_dataloader()
    batches = [list(loader) for loader in loaders]
    assert [[batch["index"].tolist() for batch in one] for one in batches] == [[[0, 1]], [[0, 1]]]
    assert [one[0]["split"] for one in batches] == [["test", "test"], ["test1", "test1"]]
    assert np.array_equal(batches[0][0]["observed"][1], observe(data.splits["test"][1]))
    assert np.array_equal(batches[0][0]["inputs"], batches[0][0]["observed"])
    assert [part["index"] for part in data.training_parts(3)] == [0, 1, 2]


def test_gains_are_drawn_anew_with_the_instrument_s_scatter(root):
    data = stage(module(root, samples_per_epoch=12, batch_size=12), "fit")
    dataset = data.training_dataset()
    assert len(dataset) == 12
    errors = [channel.gain_error for channel in data.splits["train"].generator.channels]
    assert np.allclose(dataset._scatter, errors) and all(errors)


@pytest.mark.parametrize(("n_samples", "expected"), [(None, 6), (15, 15)])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_sky_comes_again_to_the_worker_that_made_it(root, n_samples, expected, num_workers):
    options = {"samples_per_epoch": n_samples, "batch_size": 2, "num_workers": num_workers}
    loader = stage(module(root, repeats=3, **options), "fit").train_dataloader()
    skies = [index // 3 for _, index in loader.sampler]
    again = 4 if expected == 15 else 2
    assert len(skies) == expected and skies[:again] == skies[again : 2 * again] == skies[2 * again : 3 * again]


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_only_a_training_keeps_what_it_will_want_again(root, command):
    skies = stage(module(root), command).evaluation_dataset("valid")
    assert (skies[0] is skies[0]) == (command == "fit")


def test_keeping_prepared_maps_changes_no_sample(root):
    kept = stage(module(root), "fit").training_dataset()
    anew = stage(module(root, keep=0.0), "fit").training_dataset()
    assert np.array_equal(kept[1, 2]["inputs"], anew[1, 2]["inputs"])


def test_setup_says_what_is_missing_and_what_makes_it(tmp_path):
    data = module(tmp_path)
    data.splits["train"].cache.make_folder()
    with pytest.raises(ConfigError, match="splits.train: 4 of 4 simulations .*cmb-lightning simulate"):
        data.setup("fit")


def test_several_processes_refuse_to_wait_for_much(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "LARGE", 1000)
    monkeypatch.setattr("sys.argv", ["cmb-lightning", "fit", "--config", "a b.yaml"])
    data = stage(module(tmp_path), "fit", world_size=2)
    with pytest.raises(
        ConfigError, match="6 simulations .*make them first: cmb-lightning simulate --config 'a b.yaml'"
    ):
        data.prepare_data()
    assert not made(tmp_path)
    stage(data, "fit", world_size=1).prepare_data()
    stage(data, "fit", world_size=2).prepare_data()


def test_fewer_samples_than_processes_are_refused(root):
    data = stage(module(root), "fit", world_size=8)
    with pytest.raises(ConfigError, match="4 samples of 4 skies are too few for 8 processes"):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nside": 12}, "nside: 12 is not a power of two"),
        ({"bands": ["101"]}, "bands: .*101"),
        ({"fields": ["V"]}, "fields"),
        ({"splits": {}}, "splits: there are none"),
        ({"splits": {"a/b": SkySplit(1)}}, "splits: 'a/b'"),
        ({"dataset": "../x"}, "dataset: '../x'"),
        ({"run_inference_on": ["nowhere"]}, "run_inference_on: there is no split 'nowhere'"),
        ({"n_sims_cap": 0}, "n_sims_cap: 0"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"num_workers": -1}, "num_workers: -1"),
        ({"n_workers": 0}, "n_workers: 0"),
        ({"samples_per_epoch": 0}, "samples_per_epoch: 0"),
        ({"repeats": 0}, "repeats: 0"),
        ({"samples_per_epoch": 9, "repeats": 2}, "samples_per_epoch: 9 is not a multiple of repeats, 2"),
        ({"keep": -1.0}, "keep: -1.0"),
        ({"seed": -1}, "seed: -1"),
        ({"extremes": "{root}/{frequency}"}, "extremes: .*unknown placeholder {frequency}"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        module(tmp_path, **change)
    assert not list(tmp_path.iterdir())


def test_fit_needs_train_and_valid(tmp_path):
    data = stage(module(tmp_path, splits={"train": SkySplit(1)}), "fit")
    with pytest.raises(ConfigError, match="splits: there is no split 'valid'; there are train"):
        data.prepare_data()


def test_the_cache_knows_the_instrument_s_layout(root):
    data = module(root)
    cache: SplitCache = data.splits["train"].cache
    assert cache.layout == data.layout
    assert cache.recipe["seed"] == 0
