"""Folders to run the application in."""

import pytest
import torch

from tests.command.application import Application


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
