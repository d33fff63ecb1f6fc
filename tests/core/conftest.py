"""What the tests of training begin with."""

import shutil

import pytest


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with a vocabulary and an untrained autoencoder, which no test changes."""
    import torch

    from small_model import autoencoder, text

    folder = tmp_path_factory.mktemp("run")
    text.train_vocabulary(folder / "t5", scenes=300)
    torch.manual_seed(0)
    torch.save(autoencoder.Autoencoder().state_dict(), folder / "autoencoder.pt")
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    """A run's folder of its own."""
    return shutil.copytree(prepared, tmp_path / "run")
