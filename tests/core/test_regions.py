"""What makes a region valid."""

import math

import pytest
from deig_pack.deig_core.regions.region import Region
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
