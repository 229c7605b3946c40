"""Every shipped network configuration builds its network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import nn

import cmb_lightning.networks  # noqa: F401  makes class names known

FILES = sorted((Path(__file__).parents[2] / "configs" / "networks").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_configuration_builds(path):
    parser = ArgumentParser()
    parser.add_argument("--network", type=Callable[[int, int, int], nn.Module])
    config = parser.parse_object({"network": yaml.safe_load(path.read_text())["model"]["network"]})
    network = parser.instantiate_classes(config).network(9, 1, 16)
    assert network.eval()(torch.randn(1, 9, 3072)).shape == (1, 1, 3072)
