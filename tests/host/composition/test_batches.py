"""Batches, cfg 1 and calls split for want of memory: the same picture each time."""

import comfy.sample
import pytest
import torch
from deig_pack.tests.host.composition.helpers import (
    SMALL,
    assert_only_positives_grounded,
    grounded_rows,
    record_calls,
    sample_latent,
    small_sample,
)
from deig_pack.tests.host.test_patch import difference, t5


def test_a_batch_of_four_is_four_pictures(grounded):
    latent = torch.zeros(4, 4, *SMALL)
    noise = comfy.sample.prepare_noise(latent, 0)
    four = sample_latent(grounded, latent, noise=noise)
    for i in (0, 3):
        alone = sample_latent(grounded, latent[i : i + 1], noise=noise[i : i + 1])
        assert difference(alone, four[i : i + 1]) <= 1e-4
    assert difference(four[:1], four[3:]) > 1e-3


def test_cfg_1_is_the_positive_alone(grounded):
    """At cfg 1 the host leaves the negative out; with it computed and weighed by 0 the picture is the same."""
    alone, calls = record_calls(grounded, lambda model: small_sample(model, cfg=1.0))
    assert [grounded_rows(call) for call in calls] == [[(0, 1)]] * 2
    full = grounded.clone()
    full.set_model_sampler_post_cfg_function(lambda args: args["denoised"], disable_cfg1_optimization=True)
    joined, calls = record_calls(full, lambda model: small_sample(model, cfg=1.0))
    assert_only_positives_grounded(calls)
    assert difference(alone, joined) <= 1e-4


@pytest.mark.parametrize("prompts", [{}, {"positive": t5("a table"), "negative": t5("")}], ids=["CLIP", "T5"])
def test_positive_and_negative_in_separate_calls(prompts, grounded, monkeypatch):
    joined, calls = record_calls(grounded, lambda model: small_sample(model, **prompts))
    assert [len(call["entries"]) for call in calls] == [2, 2]
    # What the host does when memory is short: one entry a call.
    monkeypatch.setattr(type(grounded.model), "memory_required", lambda self, shape, **_: shape[0] * 1e20)
    separate, calls = record_calls(grounded, lambda model: small_sample(model, **prompts))
    assert [grounded_rows(call) for call in calls if call["entries"] == [0]] == [[(0, 1)]] * 2
    assert [grounded_rows(call) for call in calls if call["entries"] == [1]] == [[()]] * 2
    assert difference(separate, joined) <= 1e-4
