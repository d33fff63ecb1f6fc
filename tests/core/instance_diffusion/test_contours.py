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


# Outlines of small masks with corners that touch and a hole, by scikit-image 0.26's `find_contours` at level 0: x and
# y of each point, one digit each.
SMALL = {
    ".#.# ..#. ..#. ##..": ("25 15 04 13 23 22 31 22 11 20 31 40 51 42 43 34 25 42 31 42 34 23 34"),
    "##.# #.## .##. #..#": (
        "15 04 13 22 13 02 01 10 20 31 40 51 52 43 34 24 15 31 22 31 24 13 24 45 34 43 54 45"
    ),
    "###.# #.#.# ###.# ...#. ##.#.": (
        "46 35 26 16 05 14 24 35 34 43 34 24 14 03 02 01 10 20 30 41 50 61 62 63 54 55 46 "
        "41 42 41 42 43 42 54 43 54"
    ),
}


@pytest.mark.parametrize("drawn, expected", SMALL.items(), ids=[drawn.replace(" ", "/") for drawn in SMALL])
def test_outlines_begin_and_go_on_as_scikit_images(drawn, expected):
    mask = np.array([[pixel == "#" for pixel in row] for row in drawn.split()])
    assert " ".join(f"{x:.0f}{y:.0f}" for x, y in outlines(mask)) == expected


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


def test_as_many_pixels_as_points_are_all_taken():
    mask = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 1]], bool)
    assert scattered_points(mask, 4).tolist() in (
        [[1, 0], [0, 1], [2, 1], [2, 2]],
        [[0, 1], [1, 0], [2, 1], [2, 2]],  # as near
    )


def test_a_small_mask_gives_all_its_points_again_and_again():
    mask = np.zeros((40, 40), bool)
    mask[10:13, 20:22] = True
    points = polygon_points(mask)
    assert np.array_equal(points, polygon_points(mask))
    assert points.shape == (256, 2)
    assert {(x, y) for x in (20, 21) for y in (10, 11, 12)} <= {(x, y) for x, y in points.astype(int)}


def test_an_empty_mask_has_no_points():
    empty = np.zeros((5, 5), bool)
    assert np.array_equal(polygon_points(empty, 8), np.zeros((8, 2)))
    assert np.array_equal(scattered_points(empty, 3), np.zeros((3, 2)))
