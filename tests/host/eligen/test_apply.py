"""EliGen through the host's samplers, against a dense re-computation and the plain model."""

from dataclasses import replace
from types import SimpleNamespace

import comfy.ldm.modules.attention
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.eligen.sight import Sight
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.eligen import TEXTS, EliGen
from deig_pack.nodes.host import transformers
from deig_pack.nodes.host.texts import TextMemory
from deig_pack.nodes.host.transformers import COND, KEY
from deig_pack.tests.core.eligen.oracle import dense_attention, dense_bias
from deig_pack.tests.host.composition.helpers import run_node
from deig_pack.tests.host.eligen.helpers import (
    FAMILIES,
    OVERLAPPING,
    TWO,
    apply,
    calls_of,
    dense_call,
    difference,
    oracle_places,
    prompt,
    sample,
    short_clip,
    sight_of,
    small_clip,
)
from deig_pack.tests.host.eligen.models import host_model

TOLERANCE = 1e-4


def texts_of(positive):
    return positive[0][1]["model_conds"][COND].entities.texts


def assert_dense(model, positive, calls, places, strengths=None):
    """Every call with entities equals the dense re-computation; there is at least one."""
    with_entities = [call for call in calls if sight_of(call) is not None]
    assert with_entities
    for call in with_entities:
        expected = dense_call(model, call, texts_of(positive), places, strengths)
        assert difference(call["out"], expected) <= TOLERANCE


CASES = {
    "three overlapping": (OVERLAPPING, (16, 16)),
    "not square": (OVERLAPPING, (12, 24)),
    "odd": (TWO, (17, 23)),
    "a disc": ((Region("a round clock", (0, 0, 1, 1), point=(0.5, 0.4), radius=0.3),), (16, 12)),
    "strengths": (
        (Region("a mug", (0, 0, 0.6, 0.6), strength=0.3), Region("a lamp", (0.3, 0.3, 1, 1), strength=3.0)),
        (16, 16),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_dense_recomputation(family, case):
    regions, size = case
    model, positive, negative = apply(family, regions)
    with calls_of(model) as calls:
        sample(model, positive, negative, size)
    assert_dense(model, positive, calls, oracle_places(regions, size), [r.strength for r in regions])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_place_thinner_than_a_token_is_seen(family):
    thin = Region("a thin red line", (0.1, 1 / 128, 0.9, 2 / 128))
    model, positive, negative = apply(family, (thin,))
    with calls_of(model) as calls:
        sample(model, positive, negative, (16, 16), cfg=1.0)
    places = torch.zeros(1, 8, 8, dtype=torch.bool)
    places[0, 0, :] = True
    assert_dense(model, positive, calls, places.flatten(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_comparison_tells_a_wrong_place(family):
    model, positive, negative = apply(family, TWO)
    with calls_of(model) as calls:
        sample(model, positive, negative, cfg=1.0)
    moved = oracle_places(TWO, (16, 16))
    moved[0, 40:48] = True
    assert difference(calls[0]["out"], dense_call(model, calls[0], texts_of(positive), moved)) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_no_regions_or_strength_zero_is_the_plain_model(family):
    plain = host_model(family)
    expected = sample(plain, prompt(family, 1), prompt(family, 2))
    off = Region("a mug", (0, 0, 0.5, 0.5), strength=0.0)
    for options in ({"regions": ()}, {"strength": 0.0}, {"regions": (off,)}, {"start_percent": 1.0}):
        model, positive, negative = apply(family, **options)
        if "start_percent" not in options:
            assert torch.equal(sample(model, positive, negative), expected)
    # A model with EliGen and conditioning without.
    model, positive, _ = apply(family)
    assert torch.equal(sample(model, prompt(family, 1), prompt(family, 2)), expected)
    assert difference(sample(model, positive, prompt(family, 2)), expected) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_region_of_strength_zero_is_absent(family):
    off = Region("a yellow hat", (0, 0, 0.5, 0.5), strength=0.0)
    assert torch.equal(
        sample(*apply(family, (*TWO, off))),
        sample(*apply(family, TWO)),
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("all_end", [0.8, 1.0])
def test_regions_start_and_end(family, all_end):
    early = Region("a mug", (0, 0, 0.5, 1), end_percent=0.5)
    late = Region("a lamp", (0.5, 0, 1, 1), start_percent=0.5)
    never = Region("a hat", (0, 0, 1, 1), start_percent=0.999)
    model, positive, negative = apply(family, (early, late, never), end_percent=all_end)
    sampling = model.get_model_object("model_sampling")
    with calls_of(model) as calls:
        sample(model, positive, negative, (8, 8), cfg=1.0, steps=8)
    middle, end = (float(sampling.percent_to_sigma(percent)) for percent in (0.5, all_end))
    acting = []
    for call in calls:
        sigma, sight = call["options"]["sigmas"][0].item(), sight_of(call)
        expected = None if sigma <= end else ("early" if sigma > middle else "late")
        on_the_left = sight and sight.places[:, 0].tolist()
        assert on_the_left == {None: None, "early": [True], "late": [False]}[expected]
        acting.append(expected)
    assert set(acting) == ({"early", "late", None} if all_end < 1 else {"early", "late"})


@pytest.mark.parametrize("family", FAMILIES)
def test_entities_on_the_negative_are_its_whole_prompt(family):
    model, positive, negative = apply(family, TWO, entities_on_negative=True)
    with calls_of(model) as calls:
        sample(model, positive, negative)
    own = prompt(family, 2)[0][0]
    places = oracle_places(TWO, (16, 16))
    on_negative = [call for call in calls if call["options"]["cond_or_uncond"] == [1]]
    assert len(on_negative) == 2
    for call in on_negative:
        assert difference(call["out"], dense_call(model, call, [own, own], places)) <= TOLERANCE
    off = apply(family, TWO)[2]
    assert COND not in off[0][1].get("model_conds", {})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_batch_of_two(family, cfg):
    model, positive, negative = apply(family, TWO)
    with calls_of(model) as calls:
        sample(model, positive, negative, batch=2, cfg=cfg)
    assert len(calls) == (2 if cfg == 1 else 4)
    assert_dense(model, positive, calls, oracle_places(TWO, (16, 16)))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_entries_of_one_call_share_a_batch(family):
    """Entries with the same regions, and texts of the same length, go through the model together."""
    one = prompt(family, 1, tokens=12)
    model, positive, _ = apply(family, TWO, positive=one)
    other = apply(family, TWO, positive=prompt(family, 9, tokens=12))[1]
    both = run_node("nodes", "ConditioningCombine", conditioning_1=positive, conditioning_2=other)[0]
    with calls_of(model) as calls:
        sample(model, both, prompt(family, 2), cfg=1.0)
    joined = [call for call in calls if len(call["args"][0]) == 2]
    places = oracle_places(TWO, (16, 16))
    for call in calls:
        assert difference(call["out"], dense_call(model, call, texts_of(positive), places)) <= TOLERANCE
    assert len(joined) in (0, 2)  # the host decides by memory; where it does, both rows are right


@pytest.mark.parametrize("family", FAMILIES)
def test_areas_lay_regions_over_the_whole_picture(family):
    model, positive, _ = apply(family, TWO)
    area = run_node(
        "nodes", "ConditioningSetArea", conditioning=positive, width=64, height=96, x=32, y=16, strength=1.0
    )[0]
    if family == "qwen":
        area[0][1]["area"] = (1, *area[0][1]["area"][:2], 0, *area[0][1]["area"][2:])
    with calls_of(model) as calls:
        sample(model, area, prompt(family, 2), cfg=1.0)
    assert calls[0]["args"][0].shape[-2:] == (12, 8)
    assert_dense(model, positive, calls, oracle_places(TWO, (16, 16), (12, 8, 2, 4)))


@pytest.mark.parametrize("family", FAMILIES)
def test_areas_of_one_size_have_regions_of_their_own(family):
    """Two entries that differ in their place alone cannot share a batch."""
    model, positive, _ = apply(family, TWO)
    areas = [(16, 8, 0, x) for x in (0, 8)] if family == "flux" else [(1, 16, 8, 0, 0, x) for x in (0, 8)]
    both = [[prompt, {**options, "area": area}] for prompt, options in positive for area in areas]
    with calls_of(model) as calls:
        sample(model, both, prompt(family, 2), cfg=1.0, steps=1)
    assert sorted(len(sight_of(call).lengths) for call in calls) == [1, 2], "the mug ends left of the second"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_regions_lie_elsewhere_in_another_area(family):
    wide = (Region("a shelf", (0.1, 0.2, 0.7, 0.5)), Region("a rug", (0.2, 0.6, 0.9, 0.9)))
    model, positive, _ = apply(family, wide)
    areas = [(16, 8, 0, x) for x in (0, 8)]
    given = areas if family == "flux" else [(1, 16, 8, 0, 0, 0), (1, 16, 8, 0, 0, 8)]
    both = [[prompt, {**options, "area": area}] for prompt, options in positive for area in given]
    with calls_of(model) as calls:
        sample(model, both, prompt(family, 2), cfg=1.0, steps=1)
    assert all(len(sight_of(call).lengths) == 2 for call in calls)
    texts = texts_of(positive)
    fits = [
        [
            difference(call["out"], dense_call(model, call, texts, oracle_places(wide, (16, 16), area)))
            <= TOLERANCE
            for area in areas
        ]
        for call in calls
    ]
    assert sorted(fits) == [[False, True], [True, False]]


@pytest.mark.parametrize("family", FAMILIES)
def test_entries_that_act_at_other_times_do_so(family):
    model, early, _ = apply(family, TWO, positive=prompt(family, 1, tokens=12), end_percent=0.5)
    whole = apply(family, TWO, positive=prompt(family, 9, tokens=12))[1]
    with calls_of(model) as calls:
        sample(model, [*early, *whole], prompt(family, 2), (8, 8), cfg=1.0, steps=4)
    last = calls[-1]["options"]["sigmas"][0]
    acting = [sight_of(call) is not None for call in calls if call["options"]["sigmas"][0] == last]
    assert sorted(acting) == [False, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_entries_of_other_strengths_keep_theirs(family):
    """The same regions in the same places, and prompts as long: only how strongly they act differs."""
    model, weak, _ = apply(family, TWO, positive=prompt(family, 1, tokens=12), strength=0.25)
    full = apply(family, TWO, positive=prompt(family, 9, tokens=12))[1]
    with calls_of(model) as calls:
        sample(model, [*weak, *full], prompt(family, 2), cfg=1.0, steps=1)
    assert sorted(sight_of(call).strengths for call in calls) == [(0.25, 0.25), (1.0, 1.0)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cropped", [False, True])
def test_a_tile_that_nobody_speaks_of_is_painted_as_if_it_were_the_whole(family, cropped, caplog):
    model, positive, negative = apply(family, TWO)
    if cropped:
        area = (16, 8, 0, 8) if family == "flux" else (1, 16, 8, 0, 0, 8)
        positive = [[positive[0][0], {**positive[0][1], "area": area}]]

    def tiled(apply_model, args):
        halves = args["input"].chunk(2, dim=-2)
        return torch.cat([apply_model(half, args["timestep"], **args["c"]) for half in halves], dim=-2)

    model.set_model_unet_function_wrapper(tiled)
    with calls_of(model) as calls:
        assert sample(model, positive, negative, cfg=1.0, steps=1).isfinite().all()
    assert all(len(sight_of(call).lengths) == 2 for call in calls)
    (warning,) = [record.message for record in caplog.records if "tiles" in record.message]
    assert (f"latent of {8 if cropped else 16}x8 instead of {8 if cropped else 16}x16") in warning


@pytest.mark.parametrize("family", FAMILIES)
def test_a_region_outside_the_crop_costs_nothing(family):
    corner = Region("a hat", (0.0, 0.0, 0.2, 0.2))
    model, positive, _ = apply(family, (corner,))
    options = {"area": (8, 8, 8, 8)} if family == "flux" else {"area": (1, 8, 8, 0, 8, 8)}
    cropped = [[positive[0][0], {**positive[0][1], **options}]]
    with calls_of(model) as calls:
        sample(model, cropped, prompt(family, 2), cfg=1.0)
    assert calls and all(sight_of(call) is None for call in calls)
    assert all(call["args"][2].shape[1] == positive[0][0].shape[1] for call in calls)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_branches_of_one_model(family):
    """Two nodes on one model, one after the other in one model's line: each conditioning keeps its own regions."""
    model, first, negative = apply(family, TWO)
    other = (Region("a hat", (0.5, 0.5, 1, 1)),)
    model, second, _ = apply(family, other, model=model)
    assert len(model.get_wrappers(WrappersMP.APPLY_MODEL, KEY)) == 1
    assert torch.equal(sample(model, second, negative), sample(*apply(family, other)[:2], negative))
    assert torch.equal(sample(model, first, negative), sample(*apply(family, TWO)[:2], negative))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_was_interrupted_leaves_nothing(family):
    model, positive, negative = apply(family, TWO)
    expected = sample(model, positive, negative)

    def stop(executor, *args, **kwargs):
        executor(*args, **kwargs)
        raise InterruptedError

    stopped = model.clone()
    stopped.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "stop", stop)
    with pytest.raises(InterruptedError):
        sample(stopped, positive, negative)
    assert torch.equal(sample(model, positive, negative), expected)
    assert isinstance(positive[0][1]["model_conds"][COND], transformers.WaitingEntities)
    plain = sample(host_model(family), prompt(family, 1), prompt(family, 2))
    assert torch.equal(plain, sample(host_model(family), prompt(family, 1), prompt(family, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_overrides_of_others_are_called(family):
    """Another pack's attention computes EliGen's groups, without a mask."""
    model, positive, negative = apply(family, TWO)
    expected = sample(model, positive, negative)
    other, seen = model.clone(), []

    def override(func, q, k, v, heads, mask=None, **kwargs):
        seen.append((q.shape[2] if kwargs["skip_reshape"] else q.shape[1], mask is None))
        return func(q, k, v, heads, mask=mask, **kwargs)

    other.model_options["transformer_options"]["optimized_attention_override"] = override
    assert difference(sample(other, positive, negative), expected) <= TOLERANCE
    assert all(unmasked for _, unmasked in seen) and len({length for length, _ in seen}) > 3


def test_replaced_blocks_of_others_are_called():
    """Qwen-Image's positions go into a block that another node replaced, and its result is kept."""
    model, positive, negative = apply("qwen", TWO)
    expected = sample(model, positive, negative)
    seen = []

    def replaced(args, extra):
        seen.append(args["transformer_options"]["patches_replace"])
        return extra["original_block"](args)

    other = model.clone()
    other.set_model_patch_replace(replaced, "dit", "double_block", 1)
    other.set_model_patch_replace(replaced, "a kind of another pack's", "block", 0)
    assert torch.equal(sample(other, positive, negative), expected)
    assert seen and all(("block", 0) in patches["a kind of another pack's"] for patches in seen)

    def doubled(args, extra):
        out = extra["original_block"](args)
        return {**out, "img": out["img"] * 1.5}

    other = model.clone()
    other.set_model_patch_replace(doubled, "dit", "double_block", 1)
    assert difference(sample(other, positive, negative), expected) > 1e-3


def test_one_call_of_the_model_leaves_nothing_in_the_next():
    """What tiles a picture calls the model several times with one and the same transformer_options."""
    model, positive, negative = apply("qwen", TWO, positive=prompt("qwen", 1, tokens=20))
    model.set_model_patch_replace(lambda args, extra: extra["original_block"](args), "dit", "double_block", 1)
    same = []

    def twice(apply_model, args):
        first, second = (apply_model(args["input"], args["timestep"], **args["c"]) for _ in range(2))
        same.append(torch.equal(first, second))
        return second

    model.set_model_unet_function_wrapper(twice)
    sample(model, positive, negative, steps=1)
    assert same and all(same)


def test_replaced_blocks_of_flux():
    model, positive, negative = apply("flux", TWO)
    expected = sample(model, positive, negative)
    other, seen = model.clone(), []

    def replaced(args, extra):
        seen.append(args["txt"].shape[1])
        return extra["original_block"](args)

    other.set_model_patch_replace(replaced, "dit", "double_block", 0)
    assert torch.equal(sample(other, positive, negative), expected)
    assert len(set(seen)) == 2  # with the entities' texts, and without on the negative


def test_masks_of_others_act_beside_ours():
    """An attention mask in the conditioning (Redux): over prompt and image, while entities go on seeing their own."""
    family, tokens, image = "flux", 16, 64
    mask = torch.zeros(1, tokens + image, tokens + image)
    mask[:, tokens:, 3:9] = -2.0
    model, positive, _ = apply(family, TWO)
    options = {**positive[0][1], "attention_mask": mask, "attention_mask_img_shape": (8, 8)}
    masked = [[positive[0][0], options]]
    with calls_of(model) as calls:
        sample(model, masked, prompt(family, 2), cfg=1.0)
    assert {call["kwargs"]["attention_mask"].shape[-1] for call in calls} == {sight_of(calls[0]).length}
    without = sample(model, positive, prompt(family, 2), cfg=1.0)
    assert difference(sample(model, masked, prompt(family, 2), cfg=1.0), without) > 1e-3
    zero = [[positive[0][0], {**options, "attention_mask": torch.zeros_like(mask)}]]
    assert difference(sample(model, zero, prompt(family, 2), cfg=1.0), without) <= TOLERANCE


def test_a_mask_of_the_prompts_tokens_leaves_the_entities_seen():
    """As Qwen-Image's text encoder gives it: whole numbers, 1 for what is seen."""
    model, positive, _ = apply("qwen", TWO)
    tokens = positive[0][0].shape[1]
    seen = [[positive[0][0], {**positive[0][1], "attention_mask": torch.ones(1, tokens, dtype=torch.long)}]]
    without = sample(model, positive, prompt("qwen", 2), cfg=1.0)
    assert difference(sample(model, seen, prompt("qwen", 2), cfg=1.0), without) <= TOLERANCE


SEEN = Sight((3, 2), 4, torch.tensor([[1, 1, 0, 1, 0, 0], [0, 1, 1, 0, 0, 1]]).bool(), (1.0, 0.4))
PLAIN_ATTENTION = comfy.ldm.modules.attention.attention_pytorch


def attended(func, mask=None, reshaped=False, **options):
    """What becomes of 15 tokens where the host calls attention, and the dense result: (B, heads, S, d) both."""
    generator = torch.Generator().manual_seed(2)
    q, k, v = (2 * torch.randn(2, 2, SEEN.length, 8, generator=generator) for _ in range(3))
    given = (t if reshaped else t.transpose(1, 2).flatten(2) for t in (q, k, v))
    call = transformers.ThisCall(SEEN)
    shapes = {"skip_reshape": reshaped, "skip_output_reshape": reshaped}
    out = transformers._attend(
        func, *given, 2, mask=mask, transformer_options={COND: call}, **shapes, **options
    )
    bias = dense_bias(SEEN.lengths, SEEN.prompt_length, SEEN.places, SEEN.strengths)
    if mask is not None:
        bias = bias + (mask[:, None] if mask.ndim == 3 else mask)
    assert call.attended
    return out if reshaped else out.unflatten(2, (2, 8)).transpose(1, 2), dense_attention(q, k, v, bias)


@pytest.mark.parametrize("reshaped", [False, True])
@pytest.mark.parametrize(
    "shape", [None, (15, 15), (1, 15, 15), (2, 15, 15), (2, 1, 15, 15), (2, 2, 15, 15)], ids=str
)
def test_others_masks_of_every_shape_that_the_host_reads(shape, reshaped):
    mask = shape and 2 * torch.randn(shape, generator=torch.Generator().manual_seed(4))
    out, dense = attended(PLAIN_ATTENTION, mask, reshaped)
    assert difference(out, dense) <= TOLERANCE


@pytest.mark.parametrize(
    "name, options, is_called",
    [
        ("attention_pytorch", {}, False),
        ("attention_sub_quad", {}, False),
        ("attention_sage", {}, True),
        ("attention_pytorch", {"low_precision_attention": False}, True),
    ],
)
def test_attention_that_is_more_than_the_formula_is_called_for_what_it_is(name, options, is_called):
    """Quantised attention, or an option that somebody set; what computes the formula itself is not needed."""
    given = []

    def attention(*args, **kwargs):
        given.append({key: kwargs[key] for key in options})
        kwargs = {key: value for key, value in kwargs.items() if key not in options}
        return PLAIN_ATTENTION(*args, **kwargs, _inside_attn_wrapper=True)

    attention.__name__ = name
    out, dense = attended(attention, **options)
    assert difference(out, dense) <= TOLERANCE
    assert bool(given) == is_called and all(one == options for one in given)


@pytest.mark.parametrize("family", FAMILIES)
def test_where_nothing_is_painted_nothing_is_asked_for(family):
    """Neither a LoRA nor a text encoder that fits: regions are not there yet, or are switched off."""
    plain, positive = host_model(family), prompt(family, 1)
    off = tuple(replace(region, strength=0.0) for region in TWO)
    for regions, options in (((), {}), (off, {}), (TWO, {"strength": 0.0})):
        given = (plain, SimpleNamespace(), positive, regions)
        assert EliGen.execute(*given, **options).result == (plain, positive, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_that_was_zeroed_before_is_painted_with_its_regions(family):
    """No words for the whole, and regions all the same: refused is only what is zeroed after the node."""
    zeroed = run_node("nodes", "ConditioningZeroOut", conditioning=prompt(family, 1))[0]
    model, positive, negative = apply(family, TWO, positive=zeroed)
    with calls_of(model) as calls:
        sample(model, positive, negative, (8, 8), cfg=1.0, steps=1)
    assert [len(sight_of(call).lengths) for call in calls] == [2]


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_negative_there_is_none(family):
    plain = host_model(family)
    given = (short_clip(family), prompt(family, 1), TWO)
    model, positive, negative = EliGen.execute(plain, *given, lora_in_weights=True).result
    assert negative is None and model is not plain
    other = prompt(family, 2)
    expected = sample(*apply(family, TWO), cfg=1.0, steps=1)
    assert torch.equal(sample(model, positive, other, cfg=1.0, steps=1), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_moving_a_box_encodes_nothing(family, monkeypatch):
    clip, read = small_clip(family), []
    encode = clip.cond_stage_model.encode_token_weights

    def counted(*args, **kwargs):
        read.append(1)
        return encode(*args, **kwargs)

    monkeypatch.setattr(clip.cond_stage_model, "encode_token_weights", counted)
    hat, owl = Region("a hat nobody wore", (0, 0, 0.5, 0.5)), Region("a grey owl", (0, 0, 1, 1))
    apply(family, (hat, owl), clip=clip)
    assert len(read) == 2
    apply(family, (owl, Region(hat.phrase, (0.2, 0, 0.5, 0.5))), clip=clip)
    assert len(read) == 2
    apply(family, (owl, Region("another owl", (0, 0, 1, 1))), clip=clip)
    assert len(read) == 3


def test_the_longest_unused_text_is_forgotten_first(monkeypatch):
    clip, read = small_clip("qwen"), []
    encode = clip.cond_stage_model.encode_token_weights
    monkeypatch.setattr(
        clip.cond_stage_model, "encode_token_weights", lambda *args: read.append(1) or encode(*args)
    )
    memory = TextMemory(capacity=2)

    def newly_read(*phrases):
        before = len(read)
        texts = memory.encode(clip, phrases)
        assert len(texts) == len(phrases)
        return len(read) - before

    assert [newly_read("one"), newly_read("two"), newly_read("one"), newly_read("three")] == [1, 1, 0, 1]
    assert newly_read("one", "three") == 0 and newly_read("two") == 1, "two was pushed out"
    many = ("four", "five", "six", "four")
    assert newly_read(*many) == 3 and newly_read(*many) == 0, "those of one run stay, however many"


def test_texts_are_those_of_the_reference():
    """FLUX.1's are filled up to 512 tokens, unless the user's own node says otherwise; weights mean nothing."""
    clip = small_clip("flux")
    text = TEXTS.encode(clip, ("a mug (red:1.3)",))[0]
    assert text.shape == (1, 512, 96)
    shorter = clip.clone()
    shorter.set_tokenizer_option("t5xxl_min_length", 64)
    assert TEXTS.encode(shorter, ("a mug (red:1.3)",))[0].shape[1] == 64
    escaped = clip.tokenize("a mug \\(red:1.3\\)", tokenizer_options={"t5xxl_min_length": 512})
    assert torch.equal(clip.encode_from_tokens(escaped), text)
    qwen = small_clip("qwen")
    alone = qwen.encode_from_tokens(qwen.tokenize("mirror"))
    assert torch.equal(TEXTS.encode(qwen, ("mirror",))[0], alone) and alone.shape[1] == 6


def test_another_layer_of_the_text_encoder_reads_anew():
    """CLIP Set Last Layer, which FLUX.1's T5 follows too."""
    clip = small_clip("flux", layers=2)
    last = TEXTS.encode(clip, ("a boat",))[0]
    earlier = clip.clone()
    earlier.clip_layer(-2)
    alone = earlier.encode_from_tokens(
        earlier.tokenize("a boat", tokenizer_options={"t5xxl_min_length": 512})
    )
    assert torch.equal(TEXTS.encode(earlier, ("a boat",))[0], alone) and not torch.equal(alone, last)
    assert torch.equal(TEXTS.encode(clip, ("a boat",))[0], last)


def test_a_lora_on_the_text_encoder_reads_anew():
    clip = small_clip("qwen")
    before = TEXTS.encode(clip, ("a hat",))[0]
    patched = clip.clone()
    name = next(
        key for key in clip.cond_stage_model.state_dict() if key.endswith("layers.0.mlp.down_proj.weight")
    )
    shape = clip.cond_stage_model.state_dict()[name].shape
    assert patched.add_patches({name: ("diff", (torch.ones(shape),))}, 1.0)
    assert not torch.equal(TEXTS.encode(patched, ("a hat",))[0], before)
    assert torch.equal(TEXTS.encode(clip, ("a hat",))[0], before)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_texts_ask_the_host_for_more_memory(family):
    model, positive, negative = apply(family, TWO)
    asked = []

    def memory(executor, model, noise_shape, conds, *args, **kwargs):
        asked.append(noise_shape)
        return executor(model, noise_shape, conds, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "spy", memory)
    sample(model, positive, negative)
    sample(model, prompt(family, 1), negative)
    sample(model, positive, negative, (5, 7), steps=1)
    more = sum(text.shape[1] for text in texts_of(positive))
    assert asked[0][-1] == -(-16 * (64 + more) // 64) and asked[1][-1] == 16
    assert asked[2][-1] == -(-7 * (12 + more) // 12), "3 x 4 tokens, of which some are half outside"


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_say_what_to_do(family):
    plain, clip = host_model(family), small_clip(family)
    given = {"clip": clip, "positive": prompt(family, 1), "regions": TWO, "negative": prompt(family, 2)}
    with pytest.raises(ValueError, match="No LoRA is loaded.*EliGen Load LoRA"):
        EliGen.execute(plain, **given)
    other = small_clip("qwen" if family == "flux" else "flux")
    wider = [[torch.randn(1, 8, 80), {}]]
    for which in ("positive", "negative"):
        with pytest.raises(ValueError, match="conditioning is 80 wide.*own text encoder"):
            EliGen.execute(plain, **{**given, which: wider}, lora_in_weights=True)
    assert other.tokenizer is not clip.tokenizer
    with pytest.raises(ValueError, match="no negative is connected"):
        EliGen.execute(plain, **{**given, "negative": None}, lora_in_weights=True, entities_on_negative=True)
    zeroed = run_node("nodes", "ConditioningZeroOut", conditioning=prompt(family, 2))[0]
    for negative in (zeroed, prompt(family, 2) + zeroed):  # all of its entries, and one of two
        with pytest.raises(ValueError, match="negative is zeroed.*turn entities_on_negative off"):
            EliGen.execute(
                plain, **{**given, "negative": negative}, lora_in_weights=True, entities_on_negative=True
            )
    model, positive, negative = apply(family, TWO, negative=zeroed)
    sample(model, positive, negative)
    after = run_node("nodes", "ConditioningZeroOut", conditioning=positive)[0]
    with pytest.raises(ValueError, match="zeroed a prompt that has entities"):
        sample(model, positive, after)
    with pytest.raises(ValueError, match="MODEL output of 'EliGen Apply'"):
        sample(plain, positive, negative)
    with pytest.raises(ValueError, match="already has entities"):
        apply(family, TWO, positive=positive)
    with pytest.raises(ValueError, match="strength is -1"):
        apply(family, TWO, strength=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_encoder_of_another_width_is_refused(family, monkeypatch):
    monkeypatch.setattr(TEXTS, "encode", lambda clip, phrases: (torch.zeros(1, 4, 80),) * len(phrases))
    with pytest.raises(ValueError, match="CLIP connected gives text 80 wide.*reads text 96 wide.*CLIPLoader"):
        apply(family, TWO)


def test_rows_at_which_other_regions_act_are_refused(monkeypatch):
    """A batch whose rows are at other points of the schedule."""
    late = Region("a lamp", (0.5, 0, 1, 1), start_percent=0.5)

    def at_two_sigmas(apply_model, args):
        x, timestep = (torch.cat((args[name],) * 2) for name in ("input", "timestep"))
        timestep[1] /= 10
        conds = {
            name: torch.cat((cond,) * 2) if torch.is_tensor(cond) else cond
            for name, cond in args["c"].items()
        }
        return apply_model(x, timestep, **conds)[:1]

    for regions, refused in (((late,), True), (TWO, False)):
        model, positive, negative = apply("qwen", regions)
        model.set_model_unet_function_wrapper(at_two_sigmas)
        if refused:
            with pytest.raises(
                ValueError, match="different noise in its rows, at which different regions act"
            ):
                sample(model, positive, negative, (8, 8), cfg=1.0, steps=1)
        else:
            assert sample(model, positive, negative, (8, 8), cfg=1.0, steps=1).isfinite().all()


@pytest.mark.parametrize("positions", [(), (3,)], ids=["as FLUX.1", "with positions of text"])
def test_another_makers_model_under_fluxs_name_is_refused(positions):
    config = {"image_model": "flux", "txt_ids_dims": list(positions)}
    model = SimpleNamespace(model=SimpleNamespace(model_config=SimpleNamespace(unet_config=config)))
    if not positions:
        assert transformers.family_of(model).name == "FLUX.1"
        return
    with pytest.raises(ValueError, match="works on FLUX.1 and Qwen-Image"):
        transformers.family_of(model)


def test_a_batch_of_negatives_lends_its_first_text_to_regions():
    own = prompt("qwen", 2)[0]
    negative = [[own[0].repeat(2, 1, 1), own[1]]]
    on_negative = apply("qwen", TWO, negative=negative, entities_on_negative=True)[2]
    for text in texts_of(on_negative):
        assert torch.equal(text, own[0])


def test_another_family_is_refused(fast_model):
    with pytest.raises(ValueError, match="works on FLUX.1 and Qwen-Image.*DEIG Apply to Model"):
        EliGen.execute(fast_model, small_clip("flux"), prompt("flux", 1), TWO)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_of_others_are_noticed(family):
    """A node that adds tokens to the model's own leaves EliGen in the dark about which is which."""
    model, positive, negative = apply(family, TWO)

    def longer(executor, x, t, context, *args, **kwargs):
        return executor(x, t, torch.cat((context[:, :2], context), dim=1), *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "longer", longer)
    with pytest.raises(ValueError, match="adds tokens of its own"):
        sample(model, positive, negative)
