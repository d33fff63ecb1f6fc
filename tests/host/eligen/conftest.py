"""Models and text encoders live as long as one module of tests: those of full width take gigabytes."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def models_for_this_module(comfy_host):
    # Here, because they import the host.
    from deig_pack.tests.host.eligen import helpers, models

    yield
    for made in (models.host_model, helpers.small_clip, helpers.short_clip):
        made.cache_clear()
