"""The fixtures of the composition tests, with InstanceDiffusion in place of DEIG."""

from functools import partial

import pytest


@pytest.fixture(scope="session")
def ground():
    """A function that grounds regions."""
    from deig_pack.tests import standins
    from deig_pack.tests.host.instance_diffusion.helpers import make_grounding

    return partial(make_grounding, standins.instance_diffusion_state(standins.FAST))


@pytest.fixture(scope="session")
def prompts():
    """Positive and negative as CLIP gives them, since T5's are refused."""
    from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE

    return POSITIVE, NEGATIVE


# These again, or the other adapter's would be taken.
@pytest.fixture(scope="session")
def grounding(ground):
    """Two overlapping regions."""
    from deig_pack.tests.host.composition.helpers import TWO

    return ground(TWO)


@pytest.fixture
def grounded(fast_model, grounding):
    """`fast_model` with InstanceDiffusion."""
    from deig_pack.tests.host.test_patch import apply

    return apply(fast_model, grounding)


@pytest.fixture(scope="session")
def grounded_result(fast_model, grounding):
    from deig_pack.tests.host.composition.helpers import small_sample
    from deig_pack.tests.host.test_patch import apply

    return small_sample(apply(fast_model, grounding))
