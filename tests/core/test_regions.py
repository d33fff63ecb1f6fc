"""What makes a region valid."""

import math

import numpy as np
import pytest
from deig_pack.deig_core.regions.region import Mask, Region, RunLengthMask
from hypothesis import given
from hypothesis import strategies as st

BOX = (0.1, 0.2, 0.5, 0.9)


@pytest.mark.parametrize("phrase", ["", "   ", "\n", None, 3])
def test_a_phrase_is_needed(phrase):
    with pytest.raises(ValueError, match="needs a phrase"):
        Region(phrase, BOX)


@pytest.mark.parametrize(
    "box, words",
    [
        ((-0.1, 0, 0.5, 0.5), "outside the image"),
        ((0, 0, 1.2, 1), "outside the image"),
        ((64, 64, 256, 256), "divide pixels"),
        ((0.5, 0.1, 0.5, 0.4), "no area"),
        ((0.5, 0.4, 0.2, 0.6), "no area"),
        ((0, 0, math.nan, 1), "not finite"),
        ((0, 0, math.inf, 1), "not finite"),
        ((0, 0, 1), "3 numbers"),
    ],
)
def test_a_box_lies_in_the_image_and_has_an_area(box, words):
    with pytest.raises(ValueError, match=f"'a mug'.*{words}"):
        Region("a mug", box)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"strength": -0.1}, "strength -0.1; it takes 0 or more"),
        ({"strength": math.nan}, "strength nan"),
        ({"strength": math.inf}, "strength inf"),
        ({"start_percent": 1.5}, "start_percent 1.5; it takes 0 to 1"),
        ({"end_percent": -0.5}, "end_percent -0.5"),
        ({"start_percent": 0.8, "end_percent": 0.2}, "must not come after"),
        ({"point": (0.5, 0.5), "radius": 12}, "radius 12; it takes 0 to 1"),
        ({"point": (0.5, 0.5), "radius": -0.1}, "radius -0.1; it takes 0 to 1"),
    ],
)
def test_numbers_are_held_to_their_range(values, words):
    with pytest.raises(ValueError, match=words):
        Region("a mug", BOX, **values)


@given(st.floats(0, 0.99), st.floats(0.0001, 1))
def test_rounding_at_the_edge_is_forgiven(x, width):
    """x + width may miss 1 by the last bit, which is not a box outside the image."""
    width = min(width, 1 - x)
    box = Region("a mug", (x, 0, x + width + 1e-7, 1)).box
    assert 0 <= box[0] < box[2] <= 1


@pytest.mark.parametrize(
    "box, kept",
    [
        ((-9e-7, 0, 0.5, 1 + 9e-7), (0, 0, 0.5, 1)),
        ((0.5, -9e-7, 1 + 9e-7, 0.5), (0.5, 0, 1, 0.5)),
        ((0.5, 0, 0.5 + 1e-6, 1), (0.5, 0, 0.5 + 1e-6, 1)),
        ((0, 0.25, 1, 0.25 + 1e-6), (0, 0.25, 1, 0.25 + 1e-6)),
        ([0, 0, 1, 1], (0, 0, 1, 1)),
        ((np.float32(0), 0, np.float32(0.5), 1), (0, 0, 0.5, 1)),
    ],
)
def test_a_box_at_the_limits_is_one(box, kept):
    found = Region("a mug", box).box
    assert found == kept and all(type(edge) is float for edge in found)


@pytest.mark.parametrize(
    "box, words",
    [
        ((-2e-6, 0, 0.5, 0.5), "x from -2e-06 to 0.5, y from 0 to 0.5"),
        ((0.125, 0.25, 0.5, 1.5), "x from 0.125 to 0.5, y from 0.25 to 1.5"),
        ((0, 0, 0.5, 1 + 2e-6), "outside the image"),
        ((0.1, 0.5, 0.4, 0.5), "no area: x from 0.1 to 0.4, y from 0.5 to 0.5"),
        ((0.5, 0, 0.5 + 9e-7, 1), "no area.*1e-06 of the image is the least"),
        ((0, 0.5, 1, 0.5 + 9e-7), "no area"),
        ((1 + 9e-7, 0, 1 + 9e-7, 1), "no area"),
    ],
)
def test_a_box_a_hair_beyond_the_limits_is_refused_with_its_edges(box, words):
    with pytest.raises(ValueError, match=words):
        Region("a mug", box)


@pytest.mark.parametrize(
    "values",
    [
        {"strength": 0},
        {"strength": 50.0},
        {"start_percent": 0.5, "end_percent": 0.5},
        {"start_percent": 1, "end_percent": 1},
        {"start_percent": 0, "end_percent": 0},
        {"point": (0, 1), "radius": 0},
        {"scribble": ((0, 0), (1, 1)), "radius": 1},
    ],
)
def test_the_ends_of_every_range_belong_to_it(values):
    region = Region("a mug", BOX, **values)
    assert {name: getattr(region, name) for name in values} == values


def test_left_alone_a_region_is_its_whole_box_all_the_time():
    region = Region("a mug", BOX)
    assert (region.strength, region.start_percent, region.end_percent) == (1.0, 0.0, 1.0)
    assert (region.mask, region.scribble, region.point, region.radius) == (None, None, None, None)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"end_percent": 1.5}, "end_percent 1.5; it takes 0 to 1"),
        ({"end_percent": math.nan}, "end_percent nan"),
        ({"start_percent": -0.1}, "start_percent -0.1"),
        ({"start_percent": 0.8, "end_percent": 0.2}, "starts at 0.8 and ends at 0.2"),
        ({"point": (0.5, 1.5)}, "outside the image: 0.5, 1.5"),
        ({"scribble": ((0.5, 0.5),), "point": (2, 0.5)}, "outside the image: 2, 0.5"),
    ],
)
def test_a_refusal_says_what_was_given(values, words):
    with pytest.raises(ValueError, match=f"The region 'a mug'.*{words}"):
        Region("a mug", BOX, **values)


@pytest.mark.parametrize("length, shown", [(60, "m" * 60), (61, "m" * 57 + "...")])
def test_a_long_phrase_is_cut_in_a_message(length, shown):
    with pytest.raises(ValueError, match=f"The region '{shown}' has"):
        Region("m" * length, BOX, strength=-1)


def test_what_is_no_phrase_is_not_shown_whole():
    with pytest.raises(ValueError) as refused:
        Region(["red"] * 1000, BOX)
    assert len(str(refused.value)) < 250


def test_half_a_character_is_no_phrase():
    with pytest.raises(ValueError, match="'a \\\\ud83d mug' has half a character"):
        Region("a \ud83d mug", BOX)


@pytest.mark.parametrize(
    "values, words",
    [
        (np.array([[0.5, -0.1]]), "outside 0 to 1"),
        (np.array([[0.5, np.inf]]), "outside 0 to 1"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.ones((1, 4, 4)), r"shape \(1, 4, 4\)"),
    ],
)
def test_a_mask_is_a_picture_of_numbers_from_0_to_1(values, words):
    with pytest.raises(ValueError, match=words):
        Mask(values)


def test_the_box_around_a_mask_ends_behind_its_last_pixels():
    values = np.zeros((10, 20), np.float32)
    values[3, 5] = values[6, 9] = 0.01
    assert Mask(values).bounding_box() == (0.25, 0.3, 0.5, 0.7)
    assert Mask(values).size == (10, 20)


@pytest.mark.parametrize(
    "runs, box",
    [
        ([3, 4, 8], (0, 0, 2 / 3, 1)),
        ([6, 2, 7], (1 / 3, 0.2, 2 / 3, 0.6)),
        ([1, 2, 5, 1, 6], (0, 0.2, 2 / 3, 0.8)),
        ([2, 2, 2, 1, 8], (0, 0.2, 2 / 3, 0.8)),
        ([5, 5, 5], (1 / 3, 0, 2 / 3, 1)),
        ([14, 1], (2 / 3, 0.8, 1, 1)),
        ([0, 1, 13, 0, 1], (0, 0, 1 / 3, 0.2)),
    ],
)
def test_the_box_around_runs_is_that_of_their_pixels(runs, box):
    """Down the columns of a mask 5 high and 3 wide."""
    mask = RunLengthMask((5, 3), np.array(runs))
    assert mask.bounding_box() == pytest.approx(box) and Mask(mask.values).bounding_box() == pytest.approx(
        box
    )
    assert mask.values.shape == mask.size == (5, 3) and mask.values.sum() == sum(runs[1::2])


@pytest.mark.parametrize(
    "make", [lambda: Mask(np.eye(2)), lambda: RunLengthMask((2, 2), np.array([1, 3]))], ids=["values", "runs"]
)
def test_regions_with_masks_can_be_told_apart_and_kept_in_sets(make):
    mask = make()
    region, same, other = (Region("a mug", BOX, mask=one) for one in (mask, mask, make()))
    assert region == same and region != other and len({region, same, other}) == 2
