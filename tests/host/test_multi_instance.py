"""Multi-instance sampling through the host's own samplers."""

from dataclasses import replace

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.k_diffusion import sampling as k_diffusion
from deig_pack.deig_core.fusion.merging import merge_latents
from deig_pack.deig_core.regions.raster import cell_places
from deig_pack.nodes.host import multi_instance
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


def run_stretch(model, sigmas, latent=None, sampler="euler", seed=0):
    """Sample a stretch of a schedule: from noise, or on from a latent that still holds its noise."""
    empty = torch.zeros(1, 4, 16, 16)
    noise = comfy.sample.prepare_noise(empty, 0) if latent is None else torch.zeros_like(empty)
    latent = empty if latent is None else latent
    sampler = comfy.samplers.sampler_object(sampler)
    return comfy.sample.sample_custom(
        model, noise, 5.0, sampler, sigmas, POSITIVE, NEGATIVE, latent, disable_pbar=True, seed=seed
    )


@pytest.mark.parametrize(
    "sampler, merge",
    [
        ("euler", "average"),
        ("euler", "place"),
        ("heun", "place"),
        ("lms", "place"),
        ("dpmpp_2m", "place"),
        ("uni_pc", "place"),
        # These add noise of their own: the same to each while they are apart, another after the merge.
        ("euler_ancestral", "place"),
        ("dpmpp_2m_sde", "place"),
    ],
)
def test_it_equals_sampling_each_instance_by_itself(fast_model, fast_adapter_state, patched, sampler, merge):
    """By the definition: a stretch for the whole and one for each instance, merged, and a stretch from there on."""
    model_sampling = fast_model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, "normal", STEPS)
    whole, *alone = (
        run_stretch(model, sigmas[: APART + 1], sampler=sampler)
        for model in (
            patched,
            *(apply(fast_model, make_grounding(fast_adapter_state, (region,))) for region in TWO),
        )
    )
    places = cell_places(TWO, (16, 16)) if merge == "place" else None
    merged = merge_latents(whole, torch.stack(alone), places)
    expected = run_stretch(patched, sigmas[APART:], merged, sampler, seed=1)

    result = run_stretch(apart(patched, merge=merge), sigmas, sampler=sampler)
    assert difference(result, expected) <= 1e-4
    assert difference(run_stretch(patched, sigmas, sampler=sampler), expected) > 1e-2


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
    # The negative prompt is the same beside each of them.
    negative = plain_tokens(adapter_state, features(""), call["timesteps"][0])[0]
    for number in range(6):
        assert difference(call["context"][6 - first + number], negative) <= 1e-5


def test_an_instance_that_ends_while_apart_is_absent_from_then_on(fast_model, fast_adapter_state):
    short = replace(TWO[0], end_percent=0.1)
    model = apart(apply(fast_model, make_grounding(fast_adapter_state, (short, TWO[1]))), percent=0.5)
    with calls_of(model) as calls:
        sample(model, steps=6, cfg=1.0)
    ended = [call["timesteps"][0] < 999 * 0.9 for call in calls[:3]]
    assert ended == [False, True, True]
    for call, is_over in zip(calls[:3], ended, strict=True):
        expected = [(1,), (), (1,)] if is_over else [(0, 1), (0,), (1,)]
        assert [group.chosen for group in call["grounding"].groups] == expected


@pytest.mark.parametrize("merge", ["average", "place"])
def test_an_instance_that_has_ended_before_is_not_denoised_alone(fast_model, fast_adapter_state, merge):
    """img2img begins late in the schedule, after a region may have ended."""
    over = replace(TWO[0], end_percent=0.3)
    model = apart(apply(fast_model, make_grounding(fast_adapter_state, (over, TWO[1]))), 0.5, merge)
    # With T5 an instance alone has its phrase for a prompt.
    given = (t5("a table"), t5(""), (16, 16), 4)
    with calls_of(model) as calls:
        latent = sample(model, *given, cfg=1.0, denoise=0.5)
    assert [len(call["x"]) for call in calls] == [2, 2, 1, 1]
    without = apart(apply(fast_model, make_grounding(fast_adapter_state, TWO[1:])), 0.5, merge)
    assert difference(latent, sample(without, *given, cfg=1.0, denoise=0.5)) <= 1e-4


def test_each_picture_of_a_batch_is_the_one_that_it_is_alone(patched):
    """Rows of a batch stay in order through splitting, merging and going on."""
    model = apart(patched, merge="place")
    latent = torch.zeros(2, 4, 16, 16)
    noise = comfy.sample.prepare_noise(latent, 5)

    def paint(noise, latent):
        return comfy.sample.sample(
            model, noise, STEPS, 5.0, "euler", "normal", POSITIVE, NEGATIVE, latent, disable_pbar=True, seed=5
        )

    both = paint(noise, latent)
    for row in range(2):
        assert difference(both[row : row + 1], paint(noise[row : row + 1], latent[:1])) <= 1e-4
    assert difference(both[:1], both[1:]) > 1e-2


def test_it_goes_on_from_a_picture(fast_model, fast_adapter_state, patched):
    """img2img: what comes out of the merge is what the second stretch starts with, whatever the latent image."""
    image = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(4))
    noise = comfy.sample.prepare_noise(image, 0)
    model_sampling = fast_model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, "normal", 2 * STEPS)[-(STEPS + 1) :]
    sampler = comfy.samplers.sampler_object("euler")

    def run(model, noise, sigmas, latent):
        return comfy.sample.sample_custom(
            model, noise, 5.0, sampler, sigmas, POSITIVE, NEGATIVE, latent, disable_pbar=True, seed=0
        )

    first = sigmas[: APART + 1]
    whole = run(patched, noise, first, image)
    alone = [
        run(apply(fast_model, make_grounding(fast_adapter_state, (region,))), noise, first, image)
        for region in TWO
    ]
    expected = run(patched, torch.zeros_like(noise), sigmas[APART:], merge_latents(whole, torch.stack(alone)))
    assert difference(run(apart(patched), noise, sigmas, image), expected) <= 1e-4


def test_what_a_mask_keeps_stays_for_the_whole_and_for_each_apart(patched):
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1  # only the right half is painted
    model, noise = apart(patched), comfy.sample.prepare_noise(image, 0)
    with calls_of(model) as calls:
        painted = comfy.sample.sample(
            model, noise, STEPS, 1.0, "euler", "normal", POSITIVE, NEGATIVE, image, noise_mask=mask,
            disable_pbar=True, seed=0,
        )  # fmt: skip
    assert torch.allclose(painted[..., :4], image[..., :4], atol=1e-5)
    assert difference(painted[..., 4:], image[..., 4:]) > 1e-2
    whole, *alone = calls[1]["x"][:3]  # the last step apart
    for x in alone:
        assert torch.allclose(x[..., :4], whole[..., :4], atol=1e-5)
        assert difference(x[..., 4:], whole[..., 4:]) > 1e-3


@pytest.mark.parametrize("sampler, drawn", [("euler_ancestral", STEPS - 1), ("euler", 0)])
def test_noise_added_on_the_way_is_fresh_and_the_same_for_each_apart(patched, sampler, drawn, monkeypatch):
    """A sampler that adds noise adds the same to the whole and to each instance, and other noise after the merge."""
    added = []
    original = k_diffusion.default_noise_sampler

    def spy(x, seed=None):
        draw, own = original(x, seed=seed), []
        added.append(own)
        return lambda *sigmas: own.append(draw(*sigmas)) or own[-1]

    monkeypatch.setattr(k_diffusion, "default_noise_sampler", spy)
    sample(apart(patched), steps=STEPS, sampler_name=sampler)
    noise = [own for own in added if own]
    if not drawn:
        assert not noise
        return
    *members, after = noise
    assert len(members) == 1 + len(TWO) and {len(own) for own in members} == {APART}
    assert all(torch.equal(a, b) for own in members[1:] for a, b in zip(own, members[0], strict=True))
    assert len(after) + APART == drawn
    assert not any(torch.equal(a, b) for a in after for b in members[0])


@pytest.mark.parametrize("free, most", [(9.01, 3), (9.0, 2), (6.01, 2), (6.0, 1), (0.5, 1)])
def test_members_share_a_call_as_far_as_memory_goes(patched, monkeypatch, free, most):
    """A row needs 1, there are two for each member, and the host wants more than one and a half times as much."""
    unit = 1e9
    model = apart(patched)
    monkeypatch.setattr(type(model.model), "memory_required", lambda self, shape, **_: shape[0] * unit)
    monkeypatch.setattr(
        comfy.model_management,
        "get_free_memory",
        lambda device=None, torch_free_too=False: (free * unit,) * 2 if torch_free_too else free * unit,
    )
    sizes = []
    original = multi_instance._for_each
    monkeypatch.setattr(
        multi_instance,
        "_for_each",
        lambda tensor, members: sizes.append(members) or original(tensor, members),
    )
    sample(model, steps=STEPS)
    assert max(sizes) == most and sum(sizes) == 3 * (1 + len(TWO))  # noise, latent and mask of each member


def test_a_second_node_takes_the_place_of_the_first(patched):
    once, twice = apart(patched, merge="place"), apart(apart(patched), merge="place")
    assert torch.equal(sample(twice, steps=STEPS), sample(once, steps=STEPS))
    assert torch.equal(sample(apart(apart(patched), percent=0.0), steps=STEPS), sample(patched, steps=STEPS))


def test_one_step_is_never_apart(patched):
    assert torch.equal(sample(apart(patched, percent=0.6), steps=1), sample(patched, steps=1))


def test_one_by_one_where_memory_is_short(patched, monkeypatch):
    model = apart(patched)
    together = sample(model, steps=STEPS)
    monkeypatch.setattr(type(model.model), "memory_required", lambda self, shape, **_: shape[0] * 1e20)
    with calls_of(model) as calls:
        one_by_one = sample(model, steps=STEPS)
    assert {len(call["x"]) for call in calls} == {1}
    assert difference(one_by_one, together) <= 1e-4


@pytest.mark.parametrize("sampler, total", [("euler", STEPS), ("euler_ancestral", 3 * APART + STEPS - APART)])
def test_progress_counts_all_steps(patched, sampler, total):
    """Where every member has a run to itself, their steps count as well; shown is the whole picture's latent."""
    seen = []

    def callback(step, denoised, x, steps):
        seen.append((step, denoised.shape, x.shape, steps))

    latent = torch.zeros(2, 4, 8, 8)
    comfy.sample.sample(
        apart(patched), comfy.sample.prepare_noise(latent, 0), STEPS, 5.0, sampler, "normal", POSITIVE, NEGATIVE,
        latent, callback=callback, disable_pbar=True, seed=0,
    )  # fmt: skip
    assert seen == [(step, latent.shape, latent.shape, total) for step in range(total)]


def test_a_run_without_a_seed(patched):
    sampling = patched.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)
    without, seeded = (run_stretch(apart(patched), sigmas, seed=seed) for seed in (None, 0))
    assert torch.equal(without, seeded), "euler draws nothing"


def test_a_model_without_deig_is_refused(fast_model):
    with pytest.raises(ValueError, match="DEIG Apply to Model"):
        apart(fast_model)
