"""Multi-instance sampling through the host's own samplers."""

import comfy.sample
import comfy.samplers
import pytest
import torch
from deig_pack.deig_core.fusion.merging import merge_latents
from deig_pack.deig_core.regions.raster import cell_places
from deig_pack.nodes.multi_instance import MultiInstanceSampling
from deig_pack.tests.host.test_patch import (
    NEGATIVE,
    POSITIVE,
    REGIONS,
    apply,
    calls_of,
    difference,
    features,
    make_grounding,
    plain_tokens,
    sample,
    t5,
)

TWO = REGIONS[:2]
STEPS, APART = 5, 2  # percent 0.36 of 5 steps is 2


def apart(model, percent=0.36, merge="average"):
    return MultiInstanceSampling.execute(model, percent, merge)[0]


@pytest.fixture
def patched(fast_model, fast_adapter_state):
    return apply(fast_model, make_grounding(fast_adapter_state, TWO))


def test_at_zero_it_is_not_there(patched):
    assert torch.equal(sample(patched), sample(apart(patched, percent=0.0)))


def run_stretch(model, start, sigmas, latent=None):
    """Sample a stretch of a schedule: from noise, or on from a latent that still holds its noise."""
    empty = torch.zeros(1, 4, 16, 16)
    noise = comfy.sample.prepare_noise(empty, 0) if latent is None else torch.zeros_like(empty)
    latent = empty if latent is None else latent
    sampler = comfy.samplers.sampler_object("euler")
    return comfy.sample.sample_custom(
        model, noise, 5.0, sampler, sigmas, POSITIVE, NEGATIVE, latent, disable_pbar=True, seed=0
    )


@pytest.mark.parametrize("merge", ["average", "place"])
def test_it_equals_sampling_each_instance_by_itself(fast_model, fast_adapter_state, patched, merge):
    model_sampling = fast_model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, "normal", STEPS)
    whole = run_stretch(patched, 0, sigmas[: APART + 1])
    alone = [
        run_stretch(apply(fast_model, make_grounding(fast_adapter_state, (region,))), 0, sigmas[: APART + 1])
        for region in TWO
    ]
    places = cell_places(TWO, (16, 16)) if merge == "place" else None
    merged = merge_latents(whole, torch.stack(alone), places)
    expected = run_stretch(patched, APART, sigmas[APART:], merged)

    result = sample(apart(patched, merge=merge), steps=STEPS)
    assert difference(result, expected) <= 1e-4
    assert difference(sample(patched, steps=STEPS), expected) > 1e-2


def test_what_each_row_sees(patched):
    model = apart(patched)
    with calls_of(model) as calls:
        sample(model, t5("a table"), t5(""), steps=STEPS, batch=2)
    assert [len(call["x"]) for call in calls] == [2 * 3 * 2] * APART + [2 * 2] * (STEPS - APART)
    call = calls[0]
    for entry, groups in zip(
        call["entries"], (call["grounding"].groups[:3], call["grounding"].groups[3:]), strict=True
    ):
        assert [group.rows for group in groups] == [2, 2, 2]
        assert [group.chosen for group in groups] == ([(0, 1), (0,), (1,)] if entry == 0 else [()] * 3)
    first = call["entries"].index(0) * 6
    adapter_state = patched.get_additional_models_with_key("DEIG")[0].model.checkpoint_state()
    tokens = plain_tokens(
        adapter_state, features("a table", *(region.phrase for region in TWO)), call["timesteps"][0]
    )
    for number, expected in enumerate(tokens.repeat_interleave(2, 0)):
        assert difference(call["context"][first + number], expected) <= 1e-5


def test_one_by_one_where_memory_is_short(patched, monkeypatch):
    model = apart(patched)
    together = sample(model, steps=STEPS)
    monkeypatch.setattr(type(model.model), "memory_required", lambda self, shape, **_: shape[0] * 1e20)
    with calls_of(model) as calls:
        one_by_one = sample(model, steps=STEPS)
    assert {len(call["x"]) for call in calls} == {1}
    assert difference(one_by_one, together) <= 1e-4


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "lms", "uni_pc", "heun"])
def test_the_samplers_of_the_host(patched, sampler):
    result = sample(apart(patched, merge="place"), steps=STEPS, sampler_name=sampler)
    assert result.isfinite().all()
    assert difference(sample(patched, steps=STEPS, sampler_name=sampler), result) > 1e-3


def test_progress_counts_all_steps(patched):
    seen = []
    latent = torch.zeros(1, 4, 16, 16)
    comfy.sample.sample(
        apart(patched), comfy.sample.prepare_noise(latent, 0), STEPS, 5.0, "euler", "normal", POSITIVE, NEGATIVE,
        latent, callback=lambda step, x0, x, total: seen.append((step, len(x0), total)), disable_pbar=True, seed=0,
    )  # fmt: skip
    assert seen == [(step, 1, STEPS) for step in range(STEPS)]


def test_a_model_without_deig_is_refused(fast_model):
    with pytest.raises(ValueError, match="DEIG Apply to Model"):
        apart(fast_model)
