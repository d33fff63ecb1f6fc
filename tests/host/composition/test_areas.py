"""DEIG with the host's conditioning nodes: boxes land where they were drawn, whatever part is denoised."""

from functools import partial

import pytest
import torch
from deig_pack.tests.host.composition.helpers import (
    TWO,
    boxes_of,
    grounded_rows,
    record_calls,
    run_node,
    sample_latent,
)
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, apply, clip, difference

sample = partial(sample_latent, latent=torch.zeros(1, 4, 16, 16))
# The top right quarter of a picture of 128x128 pixels; of the two regions only the green lamp reaches it.
QUARTER = {"width": 64, "height": 64, "x": 64, "y": 0}
QUARTER_MASK = torch.zeros(1, 128, 128)
QUARTER_MASK[:, :64, 64:] = 1.0
LAMP_IN_QUARTER = torch.tensor([0.0, 0.7, 0.8, 1.0])
CROPS = (
    ("ConditioningSetArea", {**QUARTER, "strength": 1.0}),
    ("ConditioningSetAreaPercentage", {"width": 0.5, "height": 0.5, "x": 0.5, "y": 0.0, "strength": 1.0}),
    ("ConditioningSetMask", {"mask": QUARTER_MASK, "set_cond_area": "mask bounds", "strength": 1.0}),
)


def positive_groups(calls):
    return [(call, group) for call in calls for group in call["grounding"].groups if group.chosen]


@pytest.mark.parametrize("node, inputs", CROPS)
def test_a_crop_sees_the_regions_where_they_were_drawn(node, inputs, grounded):
    positive = run_node("nodes", node, conditioning=POSITIVE, **inputs)[0]
    result, calls = record_calls(grounded, partial(sample, positive=positive))
    assert torch.isfinite(result).all()
    found = positive_groups(calls)
    assert len(found) == 2
    for call, group in found:
        assert call["x"].shape[-2:] == (8, 8)
        assert group.chosen == (1,)  # the red mug ends left of the crop
        assert (boxes_of(group)[0] - LAMP_IN_QUARTER).abs().max() <= 1e-6


@pytest.mark.parametrize("node, inputs", CROPS)
def test_places_on_a_crops_own_grid(node, inputs, grounded):
    """The lower 3 of 8 rows, the left 7 of 8 columns."""
    positive = run_node("nodes", node, conditioning=POSITIVE, **inputs)[0]
    _, calls = record_calls(grounded, partial(sample, positive=positive, steps=1))
    for call, group in positive_groups(calls):
        place = group.placement.bias((1,), (8, 8), call["x"])[0].reshape(8, 8).isfinite()
        expected = torch.zeros(8, 8, dtype=torch.bool)
        expected[5:, :7] = True
        assert torch.equal(place, expected)


def test_a_crop_is_the_picture_of_the_remapped_regions(fast_model, grounding, grounded):
    """Cropping the text's area and cropping the picture come to the same model call."""
    area = run_node("nodes", "ConditioningSetArea", conditioning=POSITIVE, strength=1.0, **QUARTER)[0]
    _, calls = record_calls(grounded, partial(sample, positive=area, steps=1))
    cropped = next(call for call, _ in positive_groups(calls))
    row = grounded_rows(cropped).index((1,))
    boxes = torch.tensor([region.box for region in TWO])
    assert not torch.equal(cropped["grounding"].groups[row].placement.boxes, boxes)
    objs = cropped["grounding"].groups[row].objs
    tokens = grounding.refiner.tokens(
        grounding.instances.text, cropped["timesteps"][0].item(), objs.device, objs.dtype
    )
    net = grounding.refiner.adapter.position_net
    assert difference(objs, net(tokens[1:], LAMP_IN_QUARTER[None])) <= 1e-5
    assert difference(objs, net(tokens[1:], boxes[1:])) > 1e-3


def test_the_negative_made_for_an_area_has_no_instances(grounded):
    """The host adds a negative with the area of each positive."""
    positive = run_node("nodes", "ConditioningSetArea", conditioning=POSITIVE, strength=1.0, **QUARTER)[0]
    _, calls = record_calls(grounded, partial(sample, positive=positive))
    for call in calls:
        for entry, chosen in zip(call["entries"], grounded_rows(call), strict=True):
            assert chosen == ((1,) if entry == 0 else ())
    assert {call["x"].shape[-2:] for call in calls if 1 in call["entries"]} == {(8, 8), (16, 16)}


def test_a_mask_keeps_the_whole_picture(grounded, grounded_result):
    positive = run_node(
        "nodes",
        "ConditioningSetMask",
        conditioning=POSITIVE,
        mask=QUARTER_MASK,
        set_cond_area="default",
        strength=1.0,
    )[0]
    _, calls = record_calls(grounded, partial(sample, positive=positive))
    for call, group in positive_groups(calls):
        assert call["x"].shape[-2:] == (16, 16) and group.chosen == (0, 1)
        assert torch.equal(boxes_of(group), torch.tensor([region.box for region in TWO]))


def test_combined_conditionings_have_the_regions_each(grounded, fast_model):
    other = run_node("nodes", "ConditioningSetArea", conditioning=clip(3), strength=1.0, **QUARTER)[0]
    both = run_node("nodes", "ConditioningCombine", conditioning_1=POSITIVE, conditioning_2=other)[0]
    result, calls = record_calls(grounded, partial(sample, positive=both))
    chosen = {(tuple(call["x"].shape[-2:]), group.chosen) for call, group in positive_groups(calls)}
    assert chosen == {((16, 16), (0, 1)), ((8, 8), (1,))}
    assert difference(result, sample(fast_model, positive=both)) > 1e-3


def test_concatenated_conditionings_keep_all_their_text(grounded):
    both = run_node("nodes", "ConditioningConcat", conditioning_to=POSITIVE, conditioning_from=clip(3))[0]
    _, calls = record_calls(grounded, partial(sample, positive=both))
    for call in calls:
        row = grounded_rows(call).index((0, 1))
        assert torch.equal(call["context"][row, :154], torch.cat([POSITIVE[0][0], clip(3)[0][0]], 1)[0])


def test_averaged_conditionings_are_grounded_once(grounded):
    average = run_node(
        "nodes",
        "ConditioningAverage",
        conditioning_to=POSITIVE,
        conditioning_from=clip(3),
        conditioning_to_strength=0.25,
    )[0]
    _, calls = record_calls(grounded, partial(sample, positive=average))
    for call in calls:
        row = grounded_rows(call).index((0, 1))
        expected = 0.25 * POSITIVE[0][0] + 0.75 * clip(3)[0][0]
        assert difference(call["context"][row], expected[0]) <= 1e-6


def test_timestep_ranges_are_each_grounded(grounded):
    early, late = (
        run_node("nodes", "ConditioningSetTimestepRange", conditioning=text, start=start, end=end)[0]
        for text, start, end in [(POSITIVE, 0.0, 0.5), (clip(3), 0.5, 1.0)]
    )
    both = run_node("nodes", "ConditioningCombine", conditioning_1=early, conditioning_2=late)[0]
    _, calls = record_calls(grounded, partial(sample, positive=both, negative=NEGATIVE, steps=4))
    texts = []
    for call in calls:
        row = grounded_rows(call).index((0, 1))
        text = POSITIVE if call["timesteps"][0] > 499.5 else clip(3)
        texts.append(torch.equal(call["context"][row], text[0][0][0]))
    assert texts == [True] * 4


def test_an_area_and_a_second_size(fast_model, grounding):
    """An area in percent follows the latent's size, and so do the regions in it."""
    positive = run_node(
        "nodes",
        "ConditioningSetAreaPercentage",
        conditioning=POSITIVE,
        width=0.5,
        height=0.5,
        x=0.5,
        y=0.0,
        strength=1.0,
    )[0]
    for size in [(16, 16), (16, 24)]:
        latent = torch.zeros(1, 4, *size)
        _, calls = record_calls(
            apply(fast_model, grounding), partial(sample_latent, latent=latent, positive=positive, steps=1)
        )
        (call, group), *_ = positive_groups(calls)
        assert tuple(call["x"].shape[-2:]) == (size[0] // 2, size[1] // 2)
        assert (boxes_of(group)[0] - LAMP_IN_QUARTER).abs().max() <= 1e-6
