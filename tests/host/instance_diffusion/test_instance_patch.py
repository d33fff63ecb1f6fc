"""InstanceDiffusion in the host's sampling, against a plain, dense re-computation from the same weights."""

from dataclasses import replace

import comfy.sample
import pytest
import torch
from deig_pack.tests.host.composition.helpers import SMALL, differs, small_sample
from deig_pack.tests.host.instance_diffusion.helpers import (
    ALL_KINDS,
    DenseInstanceDiffusion,
    apply,
    dense_tokens,
    make_grounding,
    read,
)
from deig_pack.tests.host.test_patch import (
    NEGATIVE,
    POSITIVE,
    REGIONS,
    calls_of,
    clip,
    difference,
    sample,
    second_step,
    t5,
)


def assert_equals_dense(call, dense, tokens_of_entry):
    for row, entry in enumerate(call["entries"]):
        expected = dense(call["x"][row], call["timesteps"][row], call["context"][row], tokens_of_entry[entry])
        assert difference(call["out"][row], expected) <= 1e-4


@pytest.mark.parametrize(
    "size, regions, kinds",
    [((8, 8), REGIONS, "mask"), ((12, 20), ALL_KINDS, "scribble")],
    ids=["boxes", "all kinds, 160x96"],
)
def test_full_depth_equals_dense_recomputation(full_depth_model, full_depth_state, size, regions, kinds):
    """Negatives too: they see the null tokens."""
    patched = apply(full_depth_model, make_grounding(full_depth_state, regions, kinds))
    call = second_step(patched, size)
    dense = DenseInstanceDiffusion(patched.model.diffusion_model, full_depth_state)
    tokens = {0: dense_tokens(full_depth_state, regions, kinds), 1: dense_tokens(full_depth_state, (), kinds)}
    assert_equals_dense(call, dense, tokens)
    # It would tell: a negative without tokens, an instance less, or no ScaleU lie far outside.
    row = call["entries"].index(1)
    own = call["x"][row], call["timesteps"][row], call["context"][row]
    assert difference(call["out"][row], dense(*own, None)) > 1e-3
    row = call["entries"].index(0)
    own = call["x"][row], call["timesteps"][row], call["context"][row]
    fewer = dense_tokens(full_depth_state, regions[:-1], kinds)
    assert difference(call["out"][row], dense(*own, fewer)) > 1e-3
    without = DenseInstanceDiffusion(patched.model.diffusion_model, full_depth_state, scale_u=False)
    assert difference(call["out"][row], without(*own, tokens[0])) > 1e-3


def test_strength_zero_without_scale_u_is_the_plain_model(fast_model, fast_state):
    plain = small_sample(fast_model)
    for schedule in ({"strength": 0.0}, {"end_percent": 0.0}):
        grounding = make_grounding(fast_state)
        assert torch.equal(plain, small_sample(apply(fast_model, grounding, scale_u=False, **schedule)))
    assert not torch.equal(plain, small_sample(apply(fast_model, grounding, scale_u=False)))
    assert torch.equal(plain, small_sample(fast_model))


def test_alpha_ends_the_fusers_and_not_scale_u(fast_model, fast_state):
    patched = apply(fast_model, make_grounding(fast_state), end_percent=0.5)
    with calls_of(patched) as calls:
        small_sample(patched, steps=4)
    dense = DenseInstanceDiffusion(patched.model.diffusion_model, fast_state)
    grounded = [call["grounding"] is not None for call in calls]
    assert set(grounded) == {True, False} and grounded == sorted(grounded, reverse=True)
    assert_equals_dense(calls[-1], dense, {0: None, 1: None})


def test_without_regions_positives_see_what_negatives_do(fast_model, fast_state):
    patched = apply(fast_model, make_grounding(fast_state, ()))
    call = second_step(patched, SMALL)
    null = dense_tokens(fast_state, ())
    assert_equals_dense(
        call, DenseInstanceDiffusion(patched.model.diffusion_model, fast_state), {0: null, 1: null}
    )


def first_step(model):
    with calls_of(model) as calls:
        small_sample(model)
    return calls[0]["out"]


def test_a_regions_own_strength_and_timing(fast_model, fast_state):
    absent = replace(REGIONS[1], strength=0.0)
    late = replace(REGIONS[2], start_percent=0.5)
    with_them = first_step(apply(fast_model, make_grounding(fast_state, (REGIONS[0], absent, late))))
    alone = first_step(apply(fast_model, make_grounding(fast_state, REGIONS[:1])))
    assert torch.equal(with_them, alone)
    weaker = first_step(apply(fast_model, make_grounding(fast_state, (replace(REGIONS[0], strength=0.1),))))
    assert difference(weaker, alone) > 1e-4


def test_a_crop_has_places_of_its_own(fast_model, fast_state):
    """An area conditioning is denoised on its crop: places are told in the crop's own fractions."""
    area = clip(3, area=(8, 8, 8, 8), strength=1.0)
    grounding = make_grounding(fast_state, ALL_KINDS, "scribble")
    patched = apply(fast_model, grounding)
    with calls_of(patched) as calls:
        sample(patched, positive=POSITIVE + area)
    cropped = [call for call in calls if call["x"].shape[-2:] == (8, 8)]
    dense = DenseInstanceDiffusion(patched.model.diffusion_model, fast_state)
    frame = (0.5, 0.5, 1.0, 1.0)
    inside = (1, 3)  # the red mug ends left of the crop, the blue line above it
    tokens = dense_tokens(fast_state, tuple(ALL_KINDS[number] for number in inside), "scribble", frame)
    call = cropped[-1]
    positives = [row for row in range(len(call["x"])) if torch.equal(call["context"][row], area[0][0][0])]
    assert [call["grounding"].groups[row].chosen for row in positives] == [inside]
    for row in positives:
        expected = dense(call["x"][row], call["timesteps"][row], call["context"][row], tokens)
        assert difference(call["out"][row], expected) <= 1e-4


def test_moving_a_box_moves_its_own_tokens_alone(fast_model, fast_state):
    """What the first region says of its box and of its point, which is the middle; and with them the picture."""
    moved = (replace(REGIONS[0], box=(0.45, 0.3, 0.85, 0.8)), *REGIONS[1:])
    groundings = [make_grounding(fast_state, regions) for regions in (REGIONS, moved)]
    before, after = (
        grounding.on_latent(SMALL).rows(1, 1.0, (0, 1, 2), None, 0.0, "cpu", torch.float32).tokens
        for grounding in groundings
    )
    changed = [at for at, (a, b) in enumerate(zip(before.objs, after.objs, strict=True)) if differs(a, b)]
    assert [(before.slots[at], before.kinds[at]) for at in changed] == [(0, "boxes"), (0, "points")]
    pictures = [first_step(apply(fast_model, grounding)) for grounding in groundings]
    assert difference(*pictures) > 1e-3


def test_tokens_are_made_once_a_run(fast_model, fast_state):
    grounding = make_grounding(fast_state, ALL_KINDS)
    runs = []
    hook = grounding.adapter.position_net.register_forward_hook(lambda *_: runs.append(1))
    small_sample(apply(fast_model, grounding), steps=4, batch=2)
    hook.remove()
    assert len(runs) == 2  # with regions, and without


def test_a_batch_is_each_picture_by_itself(fast_model, fast_state):
    patched = apply(fast_model, make_grounding(fast_state))
    both = small_sample(patched, batch=2)
    noise = comfy.sample.prepare_noise(torch.zeros(2, 4, *SMALL), 0)
    for number in range(2):
        alone = comfy.sample.sample(
            patched, noise[number : number + 1], 2, 5.0, "euler", "normal", POSITIVE, NEGATIVE,
            torch.zeros(1, 4, *SMALL), disable_pbar=True, seed=0,
        )  # fmt: skip
        assert difference(both[number : number + 1], alone) <= 1e-5


def test_half_precision_stays_close(fast_model, fast_state):
    """Tokens and ScaleU are computed in float32 whatever the weights are kept in."""
    halves = {name: tensor.half() for name, tensor in fast_state.items()}
    rounded = {name: tensor.float() for name, tensor in halves.items()}
    a = second_step(apply(fast_model, make_grounding(halves)), SMALL)
    b = second_step(apply(fast_model, make_grounding(rounded)), SMALL)
    assert difference(a["out"], b["out"]) <= 1e-4


def test_the_original_and_other_branches_stay_as_they_were(fast_model, fast_state):
    plain = small_sample(fast_model)
    patched = apply(fast_model, make_grounding(fast_state))
    result = small_sample(patched)
    again = patched.clone().clone()
    assert torch.equal(small_sample(fast_model), plain) and torch.equal(small_sample(again), result)
    assert difference(plain, result) > 1e-3


@pytest.mark.parametrize("masked, differs", [("as meant", True), ("as written", True), ("off", False)])
def test_masked_attention_acts_on_4096_tokens_alone(fast_model, fast_state, masked, differs):
    usual, other = (make_grounding(fast_state, REGIONS, masked=choice) for choice in ("off", masked))
    fuser = usual.adapter.fuser(("input", 1, 0))
    x = torch.randn(1, 4096, 320, generator=torch.Generator().manual_seed(0))
    results = []
    for grounding in (usual, other):
        rows = grounding.on_latent((64, 64)).rows(1, 1.0, (0, 1, 2), None, 0.0, x.device, x.dtype)
        results.append(fuser(x, [rows.at((64, 64), x)]))
        assert rows.at((32, 32), x).image_bias is None
        negative = grounding.on_latent((64, 64)).rows(1, 1.0, None, None, 0.0, x.device, x.dtype)
        assert negative.at((64, 64), x).image_bias is None
    assert (difference(*results) > 1e-3) is differs


def test_a_t5_prompt_is_refused(fast_model, fast_state):
    with pytest.raises(ValueError, match="CLIP Text Encode"):
        small_sample(apply(fast_model, make_grounding(fast_state)), t5("a table"), NEGATIVE)


def test_phrases_of_another_width_are_refused(fast_state):
    from deig_pack.deig_core.fusion.instances import Instances, ReadPhrases
    from deig_pack.deig_core.instance_diffusion.grounding import InstanceGrounding

    adapter = make_grounding(fast_state).adapter
    text = ReadPhrases(("a mug",), torch.zeros(1, 1280), torch.zeros(1, 77, 768))
    with pytest.raises(ValueError, match="1280 numbers.*takes 768"):
        InstanceGrounding(adapter, Instances(REGIONS[:1], text))
    with pytest.raises(ValueError, match="masked is 'on'"):
        InstanceGrounding(adapter, Instances(REGIONS[:1], read("a mug")), masked="on")


def test_an_adapter_for_other_blocks_is_refused(fast_state, full_depth_model):
    with pytest.raises(ValueError, match="only in the model"):
        apply(full_depth_model, make_grounding(fast_state))
