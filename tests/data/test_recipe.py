import numpy as np
import pytest

from cmb_lightning.data.recipe import canonical, differing_keys, file_digest, nearest, recipe_id

RECIPE = {"seed": 1, "sky": {"beam": 30.0, "parts": ["dust", {"index": 1.5}]}}


def test_equal_recipes_have_one_name_however_they_are_written():
    other = {"sky": {"parts": ("dust", {"index": np.float64(1.5)}), "beam": 30}, "seed": np.int64(1)}
    assert canonical(other) == canonical(RECIPE)
    assert recipe_id(other) == recipe_id(RECIPE)
    assert len(recipe_id(RECIPE)) == 16


def test_what_rounding_changes_on_another_machine_is_the_same_recipe():
    weight = 3.1084283003358615  # of uK_RJ in a band: one processor's, whose last digit another has one lower
    here, there = ({**RECIPE, "weights": [found, 1]} for found in (weight, np.nextafter(weight, 0)))
    assert here != there
    assert recipe_id(here) == recipe_id(there) and differing_keys(here, there) == []
    assert recipe_id(here) != recipe_id({**RECIPE, "weights": [weight * (1 + 1e-9), 1]})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 2}, "seed"),
        ({"sky": {**RECIPE["sky"], "beam": 30.1}}, "sky.beam"),
        ({"sky": {**RECIPE["sky"], "parts": ["dust", {"index": 1.6}]}}, "sky.parts.1.index"),
        ({"unit": "uK_CMB"}, "unit"),
    ],
)
def test_a_change_gives_another_name_and_is_found(change, key):
    assert recipe_id(RECIPE | change) != recipe_id(RECIPE)
    assert differing_keys(RECIPE | change, RECIPE) == [key]


def test_true_is_not_one():
    assert recipe_id({"noise": True}) != recipe_id({"noise": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises((ValueError, TypeError), match="recipe.sky.beam"):
        canonical({"sky": {"beam": value}})


def test_the_nearest_stored_recipe_is_found(tmp_path):
    for name, recipe in {"near": {**RECIPE, "seed": 2}, "far": {"seed": 2}}.items():
        (tmp_path / name).write_text(canonical(recipe))
    (tmp_path / "damaged").write_text("{")
    path, keys = nearest(RECIPE, sorted(tmp_path.iterdir()))
    assert (path.name, keys) == ("near", ["seed"])
    assert nearest(RECIPE, []) is None


def test_a_file_is_known_by_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")
    (tmp_path / "a").write_bytes(b"2")
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "b")
