"""Fixtures of the composition tests: one small model and one grounding of two regions, shared by all."""

import pytest
from deig_pack.tests.host.composition.helpers import TWO, small_sample
from deig_pack.tests.host.test_patch import apply, make_grounding


@pytest.fixture(scope="session", autouse=True)
def host_in_report(comfy_host, record_testsuite_property):
    """Say in the JUnit report which host ran, for composition_table.py."""
    record_testsuite_property("comfyui", comfy_host.version)


@pytest.fixture(scope="session")
def grounding(fast_adapter_state):
    """Two overlapping regions. Tokens are remembered, so each timestep is computed once for all tests."""
    return make_grounding(fast_adapter_state, TWO)


@pytest.fixture
def grounded(fast_model, grounding):
    """`fast_model` with DEIG."""
    return apply(fast_model, grounding)


@pytest.fixture(scope="session")
def plain_result(fast_model):
    return small_sample(fast_model)


@pytest.fixture(scope="session")
def grounded_result(fast_model, grounding):
    return small_sample(apply(fast_model, grounding))
