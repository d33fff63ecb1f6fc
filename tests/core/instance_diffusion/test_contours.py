"""Points of masks and strokes against the reference's."""

import numpy as np
import pytest
from deig_pack.deig_core.instance_diffusion.contours import (
    outlines,
    polygon_points,
    scattered_points,
    stroke_points,
)
from deig_pack.tests.core.instance_diffusion.goldens import read_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

_, INPUTS, OUTPUTS, _ = read_golden("points_from_masks")
MASKS = [name for name in INPUTS if not name.startswith("scribble")]


def mask_of(name):
    return np.unpackbits(INPUTS[name].numpy(), axis=1).astype(bool)


@pytest.mark.parametrize("name", MASKS)
def test_the_references_polygon(name):
    expected = OUTPUTS[f"{name}.polygon_pixels"].numpy().reshape(-1, 2)
    assert np.array_equal(polygon_points(mask_of(name)), expected)


@pytest.mark.parametrize("name", ["scribble_7", "scribble_47"])
def test_the_references_choice_of_a_stroke(name):
    assert np.array_equal(stroke_points(INPUTS[name].numpy()), OUTPUTS[name].numpy())


masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@settings(max_examples=200)
@given(masks)
def test_outlines_run_round_the_mask(mask):
    """Their points are empty pixels next to filled ones; and what lies beyond the mask's own edge is all met."""
    padded = np.pad(mask, 2)
    met = {(int(y), int(x)) for x, y in outlines(mask)}
    for row, column in met:
        around = padded[row : row + 3, column : column + 3]  # in a margin of 2 a point lies one further in
        assert around.any() and not around[1, 1]
    height, width = mask.shape
    for column in np.flatnonzero(mask[0]):
        assert (0, column + 1) in met
    for column in np.flatnonzero(mask[-1]):
        assert (height + 1, column + 1) in met
    for row in np.flatnonzero(mask[:, 0]):
        assert (row + 1, 0) in met
    for row in np.flatnonzero(mask[:, -1]):
        assert (row + 1, width + 1) in met


@settings(max_examples=100)
@given(masks)
def test_scattered_points_lie_on_the_mask_and_stay_where_they_are(mask):
    points = scattered_points(mask, 4)
    assert np.array_equal(points, scattered_points(mask, 4))
    if mask.any():
        assert all(mask[int(y), int(x)] for x, y in points)
        assert len({tuple(point) for point in points}) == min(4, mask.sum()) or mask.sum() < 4
    else:
        assert not points.any()


def test_a_small_mask_gives_all_its_points_again_and_again():
    mask = np.zeros((40, 40), bool)
    mask[10:13, 20:22] = True
    points = polygon_points(mask)
    assert np.array_equal(points, polygon_points(mask))
    assert points.shape == (256, 2)
    on_it = {(x, y) for x, y in points if mask[int(y), int(x)]}
    assert len(on_it) > 1


def test_an_empty_mask_has_no_points():
    assert not polygon_points(np.zeros((5, 5), bool)).any()
