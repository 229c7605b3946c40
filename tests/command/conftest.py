"""Folders to run the application in."""

import os

import pytest
import torch

from tests.command.application import Application


@pytest.fixture(scope="session", autouse=True)
def quick():
    """One thread, as small maps want and bits depend on it, and no waiting for the disk, as no power is lost."""
    before, sync = torch.get_num_threads(), os.fsync
    torch.set_num_threads(1)
    os.fsync = lambda _: None
    yield
    torch.set_num_threads(before)
    os.fsync = sync


@pytest.fixture
def app(tmp_path):
    """A fresh folder."""
    return Application(tmp_path)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    application = Application(tmp_path_factory.mktemp("trained"))
    assert application("fit").status == 0
    return application


@pytest.fixture
def trained(trained_once, tmp_path):
    """A folder in which `fit` has ended."""
    return trained_once.copy(tmp_path)
