"""The command `simulate`, on toy data."""

import os

import lightning as L
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.trainer import Trainer
from tests.data.toy_training import SPLITS, ToyModule


@pytest.fixture
def trainer(tmp_path):
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)


def sims(root):
    return sorted(path for path in root.rglob("sim*"))


def test_it_makes_all_splits_and_their_extremes_once(tmp_path, trainer):
    trainer.simulate(datamodule=ToyModule(tmp_path))
    assert len(sims(tmp_path)) == sum(SPLITS.values())
    assert (tmp_path / "extremes.yaml").is_file()
    before = [path.stat().st_mtime_ns for path in tmp_path.rglob("*")]
    trainer.simulate(datamodule=ToyModule(tmp_path), shard="2/3")
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*")] == before


def test_it_verifies_and_repairs(tmp_path, trainer, capsys):
    trainer.simulate(datamodule=ToyModule(tmp_path))
    golden = [path.read_bytes() for path in sims(tmp_path)]
    trainer.simulate(datamodule=ToyModule(tmp_path), full=True)
    os.truncate(sims(tmp_path)[2], 4000)
    data = bytearray(golden[9])
    data[-1] ^= 1
    sims(tmp_path)[9].write_bytes(data)
    with pytest.raises(ConfigError, match="^1 simulations cannot be used; .*repair"):
        trainer.simulate(datamodule=ToyModule(tmp_path), verify=True)
    assert "test simulation 2" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="^2 simulations"):
        trainer.simulate(datamodule=ToyModule(tmp_path), verify=True, full=True)
    trainer.simulate(datamodule=ToyModule(tmp_path), repair=True, full=True)
    printed = capsys.readouterr().out
    assert "train simulation 4" in printed and "made again" in printed
    assert [path.read_bytes() for path in sims(tmp_path)] == golden


def test_data_that_are_not_simulated_are_refused(trainer):
    with pytest.raises(ConfigError, match="LightningDataModule is not simulated"):
        trainer.simulate(datamodule=L.LightningDataModule())
