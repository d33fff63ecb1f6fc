"""Adapters of InstanceDiffusion for the small models."""

import pytest
from deig_pack.tests import standins


@pytest.fixture(scope="session")
def fast_state() -> standins.State:
    """Weights for `fast_model`."""
    return standins.instance_diffusion_state(standins.FAST)


@pytest.fixture(scope="session")
def full_depth_state() -> standins.State:
    """Weights for `full_depth_model`."""
    return standins.instance_diffusion_state(standins.FULL_DEPTH)
