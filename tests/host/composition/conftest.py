"""Fixtures of the composition tests: one small model and one grounding of two regions, shared by all.

What imports the host is imported where it is used: this file is read where there is none as well.
"""

from functools import partial

import pytest


@pytest.fixture(scope="session", autouse=True)
def host_in_report(comfy_host, record_testsuite_property):
    """Say in the JUnit report which host ran, for composition_table.py."""
    record_testsuite_property("comfyui", comfy_host.version)


@pytest.fixture(scope="session")
def ground(fast_adapter_state):
    """A function that grounds regions."""
    from deig_pack.tests.host.test_patch import make_grounding

    return partial(make_grounding, fast_adapter_state)


@pytest.fixture(scope="session")
def grounding(ground):
    """Two overlapping regions. Tokens are remembered, so each timestep is computed once for all tests."""
    from deig_pack.tests.host.composition.helpers import TWO

    return ground(TWO)


@pytest.fixture(scope="session")
def prompts():
    """Positive and negative as the paper has them, through T5."""
    from deig_pack.tests.host.test_patch import t5

    return t5("a table"), t5("")


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
