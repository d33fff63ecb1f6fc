"""Fixtures of the composition tests: one small model and one grounding of two regions, shared by all.

What imports the host is imported where it is used: this file is read where there is none as well.
"""

import pytest


@pytest.fixture(scope="session", autouse=True)
def host_in_report(comfy_host, record_testsuite_property):
    """Say in the JUnit report which host ran, for composition_table.py."""
    record_testsuite_property("comfyui", comfy_host.version)


@pytest.fixture(scope="session")
def grounding(fast_adapter_state):
    """Two overlapping regions. Tokens are remembered, so each timestep is computed once for all tests."""
    from deig_pack.tests.host.composition.helpers import TWO
    from deig_pack.tests.host.test_patch import make_grounding

    return make_grounding(fast_adapter_state, TWO)


@pytest.fixture
def grounded(fast_model, grounding):
    """`fast_model` with DEIG."""
    from deig_pack.tests.host.test_patch import apply

    return apply(fast_model, grounding)


@pytest.fixture(scope="session")
def plain_result(fast_model):
    from deig_pack.tests.host.composition.helpers import small_sample

    return small_sample(fast_model)


@pytest.fixture(scope="session")
def grounded_result(fast_model, grounding):
    from deig_pack.tests.host.composition.helpers import small_sample
    from deig_pack.tests.host.test_patch import apply

    return small_sample(apply(fast_model, grounding))
