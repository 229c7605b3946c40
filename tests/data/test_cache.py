import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from cmb_lightning.data import determinism
from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.content import Statistics
from cmb_lightning.data.determinism import NotDeterministic
from cmb_lightning.data.generation import make_split
from cmb_lightning.data.mixing import draw_mix, observe
from cmb_lightning.data.tensorfile import BadFile
from cmb_lightning.errors import ConfigError
from tests.data.fakes import LAYOUT, Toy, contents, toy_cache


@pytest.fixture
def cache(tmp_path):
    cache = toy_cache(tmp_path / "cache", Toy())
    make_split(cache, Toy(), 3)
    return cache


def test_it_gives_back_what_was_made(cache):
    made = Toy().simulate("train", 1)
    read = cache.read(1)
    assert read.keys() == made.keys()
    assert all(np.array_equal(read[name], made[name]) and read[name].dtype == np.float32 for name in made)
    assert np.array_equal(cache.read(1, ("noise",), slice(64, 128))["noise"], made["noise"][:, 64:128])


@pytest.mark.parametrize("piece", [100, 1 << 16])
def test_skies_are_added_up_as_they_are_read(cache, monkeypatch, piece):
    monkeypatch.setattr("cmb_lightning.data.reading.PIECE", piece)
    sims = [cache.read(index) for index in range(3)]
    observed, target = cache.observed(1)
    assert np.array_equal(observed, observe(sims[1])) and np.array_equal(target, sims[1]["target"])
    mix = draw_mix(1, 2, 3, 3, np.array([0, 1]), np.array([0.1, 0.2]))
    noise = [
        sum(weight * sims[index]["noise"][c] for weight, index in zip(mix.weights[c], mix.noise[c], strict=True))
        for c in range(2)
    ]
    parts = {"cmb": sims[mix.cmb]["cmb"], "foregrounds": sims[mix.foregrounds]["foregrounds"]}
    assert np.array_equal(
        cache.mixed(mix, np.empty((2, 768), np.float32)), observe({**parts, "noise": np.stack(noise), "gain": mix.gain})
    )


def test_the_header_describes_the_simulation(cache):
    header = cache.header(2)
    observed = observe(cache.read(2))
    assert {key: header[key] for key in ("dataset", "split", "index", "nside", "ordering", "unit")} == {
        **{"dataset": "toy", "split": "train", "index": "2", "nside": "8", "ordering": "NESTED", "unit": "uK_CMB"}
    }
    assert json.loads(header["channels"]) == ["30_I", "100_I"]
    assert header["statistics"]["observed"].minimum == tuple(observed.min(axis=1).tolist())
    assert header["statistics"]["observed"].maximum == tuple(observed.max(axis=1).tolist())
    assert header["statistics"]["target"].bad == (0,)
    assert header["sha256"].keys() == cache.read(2).keys()
    assert "numpy" in json.loads(header["versions"])


def test_the_recipe_is_stored_beside_the_data(cache):
    recipe = json.loads((cache.folder / "recipe.json").read_text())
    assert recipe["seed"] == 1 and recipe["layout"]["channels"] == ["30_I", "100_I"]
    assert cache.folder.name == f"train-{cache.id}"


def damage(cache: SplitCache, how: str) -> None:
    path, other = cache.path(1), cache.path(2)
    data = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "swapped":
        shutil.copy(other, path)
    elif how == "foreign":
        foreign = toy_cache(cache.root, Toy(seed=2))
        make_split(foreign, Toy(seed=2), 2)
        shutil.copy(foreign.path(1), path)
    else:
        path.write_bytes({"empty": b"", "truncated": data[:-9], "appended": data + b"1"}[how])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("deleted", "missing"),
        ("empty", "too few for a header"),
        ("truncated", "its header describes"),
        ("appended", "its header describes"),
        ("swapped", "its index is '2', not '1'"),
        ("foreign", "its recipe is"),
    ],
)
def test_damage_is_named_and_healed(cache, how, reason, caplog):
    golden = contents(cache, 3)
    damage(cache, how)
    assert [index for index in range(3) if cache.fault(index)] == [1]
    assert reason in cache.fault(1)
    report = make_split(cache, Toy(), 3)
    assert (report.made, report.found) == (1, 2)
    assert contents(cache, 3) == golden
    aside = [path for path in cache.folder.iterdir() if path.name.startswith(".bad-")]
    assert len(aside) == (how != "deleted")
    assert how == "deleted" or ("train simulation 1 is damaged" in caplog.text and reason in caplog.text)


@pytest.mark.parametrize("how", ["truncated", "swapped"])
def test_reading_damage_names_the_file_and_the_remedy(cache, how):
    damage(cache, how)
    with pytest.raises(BadFile, match="sim000001.safetensors cannot be used.*cmb-lightning simulate"):
        cache.read(1)


def test_the_first_of_two_writers_wins(cache):
    before = cache.path(0).stat()
    assert not cache.publish(0, Toy().simulate("train", 0))
    assert cache.path(0).stat().st_mtime_ns == before.st_mtime_ns


def test_a_generator_that_is_not_deterministic_is_an_error(cache):
    maps = Toy().simulate("train", 0)
    maps["cmb"] = maps["cmb"] + np.float32(1e-6)
    with pytest.raises(NotDeterministic, match="train simulation 0 was made twice, with different results in cmb"):
        cache.publish(0, maps)


def test_other_versions_need_to_agree_nearly_only(cache, monkeypatch, caplog):
    monkeypatch.setattr(determinism, "versions", lambda: {"numpy": "0"})
    maps = Toy().simulate("train", 0)
    assert not cache.publish(0, maps | {"cmb": maps["cmb"] + np.float32(1e-6)})
    assert "agrees with that of other versions" in caplog.text
    with pytest.raises(NotDeterministic, match="'cmb' of train simulation 0 differs"):
        cache.publish(0, maps | {"cmb": maps["cmb"] + np.float32(1e-3)})


def test_a_damaged_file_does_not_win(cache):
    golden = contents(cache, 3)
    damage(cache, "truncated")
    assert cache.publish(1, Toy().simulate("train", 1))
    assert contents(cache, 3) == golden


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("nan", "'foregrounds' of 100_I has 2 values that are NaN"),
        ("inf", "'foregrounds' of 100_I has 2 values"),
        ("unseen", "'foregrounds' of 100_I has 2 values"),
        ("shape", r"'noise' has shape \(1, 768\), where \(2, 768\) is expected"),
        ("dtype", "'noise' is of type float64: convert it to float32"),
    ],
)
def test_what_is_no_map_is_refused(cache, trouble, message):
    with pytest.raises(ValueError, match=message):
        cache.publish(3, Toy(trouble=trouble).simulate("train", 3))
    assert not cache.path(3).exists()
    with pytest.raises(ValueError, match="no 'cmb'"):
        cache.publish(3, {})


def test_a_symbolic_link_is_not_followed(cache, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(cache.path(1).read_bytes())
    cache.path(1).unlink()
    cache.path(1).symlink_to(outside)
    with pytest.raises(BadFile, match="symbolic link"):
        cache.publish(1, Toy().simulate("train", 1))
    assert "symbolic link" in cache.fault(1)

    planted = toy_cache(tmp_path / "other", Toy())
    planted.folder.parent.mkdir(parents=True)
    planted.folder.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ConfigError, match="is a symbolic link"):
        make_split(planted, Toy(), 1)
    assert not list(tmp_path.glob("sim*"))


@pytest.mark.parametrize("kind", ["file", "dangling", "forbidden"])
def test_a_root_that_cannot_be_used_is_one_sentence(tmp_path, kind, monkeypatch):
    root = tmp_path / "root"
    if kind == "file":
        root.write_text("")
    elif kind == "dangling":
        root.symlink_to(tmp_path / "nowhere")
    else:

        def mkdir(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    with pytest.raises(ConfigError, match="^root: the cache folder .* cannot be made") as caught:
        make_split(toy_cache(root, Toy()), Toy(), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "", "a\0", "a" * 65, "tr\u0430in", "a b", "a.b"])
def test_names_that_are_no_folders_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="splits"):
        SplitCache(tmp_path, "toy", name, {}, LAYOUT)
    with pytest.raises(ConfigError, match="dataset"):
        SplitCache(tmp_path, name, "train", {}, LAYOUT)


def test_another_recipe_is_another_folder_and_says_what_differs(cache, caplog):
    caplog.set_level("INFO")
    golden = contents(cache, 3)
    other = toy_cache(cache.root, Toy(seed=2))
    make_split(other, Toy(seed=2), 1)
    assert other.folder != cache.folder
    assert contents(cache, 3) == golden
    assert f"it differs from {cache.folder.name} in seed." in caplog.text
    unit = SplitCache(cache.root, "toy", "train", Toy().recipe("train"), dataclasses.replace(LAYOUT, unit="K_CMB"))
    assert unit.id != cache.id


def test_too_little_space_is_said_beforehand(cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(OSError, match=r"2 simulations need \d+ bytes in .*, where 1000 are free"):
        make_split(cache, Toy(), 5)


def test_a_complete_split_is_only_read(cache, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("nothing may be written")

    for name in ("link", "rename", "mkdir", "unlink", "fsync"):
        monkeypatch.setattr(os, name, forbidden)
    assert make_split(cache, Toy(), 3).made == 0


def test_statistics_leave_out_what_is_bad():
    maps = np.array([[1, 2, 3, 4], [np.nan, -1.6375e30, 5, np.inf], [np.nan] * 4], dtype=np.float32)
    found = Statistics.of(maps)
    assert found.bad == (0, 3, 4)
    assert found.minimum[:2] == (1, 5) and found.maximum[:2] == (4, 5)
    assert np.isnan(found.minimum[2])
    joined = found.joined(Statistics((0, 9, 7), (1, 9, 8), (1, 0, 0)))
    assert joined == Statistics((0, 5, 7), (4, 9, 8), (1, 3, 4))
