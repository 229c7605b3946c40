from pathlib import Path

import pytest

from cmb_lightning.data.paths import PathTemplate, refuse_collisions
from cmb_lightning.errors import ConfigError

TEXT = "{root}/{dataset}/{split}/sim{sim:04d}/cmb_map_pred_{epoch}.fits"
KNOWN = {"required": ("split", "sim", "epoch"), "optional": ("root", "dataset")}


def test_a_template_gives_paths():
    template = PathTemplate(TEXT, "paths.predictions", **KNOWN)
    path = template(root=Path("out"), dataset="sky", split="test", sim=7, epoch=12)
    assert path == Path("out/sky/test/sim0007/cmb_map_pred_12.fits")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("{epoch}", "x"), "lacks the placeholder {epoch}"),
        (TEXT + "{frequency}", "unknown placeholder {frequency}"),
        (TEXT + "{}", "unknown placeholder {}"),
        (TEXT + "{", "is not a template"),
        (TEXT.replace("{split}", "{split:04d}"), "format does not fit"),
    ],
)
def test_a_wrong_template_is_refused(text, message):
    with pytest.raises(ConfigError, match="^paths.predictions: .*" + message):
        PathTemplate(text, "paths.predictions", **KNOWN)


def test_two_outputs_on_one_path_are_refused():
    first, same = PathTemplate("{root}/a_{split}", "a", **{"optional": ("root", "split")}), None
    same = PathTemplate("{root}/a_split", "b", optional=("root", "split"))
    with pytest.raises(ConfigError, match="b: .* would write to the same path as a"):
        refuse_collisions({"a": first, "b": same})
    refuse_collisions({"a": first, "b": PathTemplate("{root}/b_{split}", "b", optional=("root", "split"))})
