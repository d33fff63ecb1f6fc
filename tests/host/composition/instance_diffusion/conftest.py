"""The fixtures of the composition tests, with InstanceDiffusion in place of DEIG."""

import pytest


@pytest.fixture(scope="session")
def grounding():
    """Two overlapping regions."""
    from deig_pack.tests import standins
    from deig_pack.tests.host.composition.helpers import TWO
    from deig_pack.tests.host.instance_diffusion.helpers import make_grounding

    return make_grounding(standins.instance_diffusion_state(standins.FAST), TWO)


# Both again, or the other adapter's results would be taken.
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
