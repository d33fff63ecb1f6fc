"""Places that are not boxes: masks, scribbles and points."""

import math

import numpy as np
import pytest
import torch
from deig_pack.deig_core.regions.raster import cell_places, token_places
from deig_pack.deig_core.regions.region import Mask, Region
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

WHOLE = (0, 0, 1, 1)


def cells(latent_size=(16, 16), **place):
    return cell_places([Region("a thing", WHOLE, **place)], latent_size)[0]


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 60), st.integers(1, 60)), elements=st.floats(0, 1, width=32)
    ),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
@settings(max_examples=80, deadline=None)
def test_a_cell_takes_the_largest_of_the_mask_pixels_it_touches(values, latent_size):
    values.flat[0] = 1
    place = cells(latent_size, mask=Mask(values))
    for row in range(latent_size[0]):
        for column in range(latent_size[1]):
            top, bottom = (math.floor, math.ceil)
            rows = slice(
                top(row * values.shape[0] / latent_size[0]),
                bottom((row + 1) * values.shape[0] / latent_size[0]),
            )
            columns = slice(
                top(column * values.shape[1] / latent_size[1]),
                bottom((column + 1) * values.shape[1] / latent_size[1]),
            )
            assert place[row, column] == values[rows, columns].max()


def test_a_mask_of_a_box_is_that_box():
    values = np.zeros((128, 128), dtype=np.float32)
    values[13:77, 40:101] = 1
    as_box = Region("a thing", (40 / 128, 13 / 128, 101 / 128, 77 / 128))
    assert torch.equal(cells(mask=Mask(values)), cell_places([as_box], (16, 16))[0])


def test_a_ring_has_a_hole():
    ys, xs = np.mgrid[:128, :128] - 63.5
    ring = (np.hypot(ys, xs) < 60) & (np.hypot(ys, xs) > 36)
    place = cells(mask=Mask(ring.astype(np.float32)))
    assert place[8, 8] == 0 and place[0, 0] == 0 and place[8, 1] == 1


def test_one_pixel_of_a_large_mask_keeps_a_token_at_every_grid():
    values = np.zeros((700, 900), dtype=np.float32)
    values[699, 3] = 1
    place = cells((17, 23), mask=Mask(values))[None]
    for grid in ((17, 23), (9, 12), (5, 6), (3, 3)):
        tokens = token_places(place, (17, 23), grid)
        assert tokens[0, -1, 0] == 1


def test_a_scribble_is_grown_by_its_radius():
    line = cells(scribble=((0.25, 0.5), (0.75, 0.5)), radius=0.1)
    rows, columns = line.nonzero().T
    # 128 pixels: from 32 to 96 at 64, grown by 12.8 each way, in cells of 8.
    assert rows.min() == 6 and rows.max() == 9
    assert columns.min() == 2 and columns.max() == 13
    assert cells(scribble=((0.25, 0.5), (0.75, 0.5))).sum() < line.sum()


def test_a_point_is_a_disc_on_any_aspect():
    disc = cells((16, 32), point=(0.5, 0.5), radius=0.25)
    rows, columns = disc.nonzero().T
    assert rows.max() - rows.min() == columns.max() - columns.min()  # round in pixels, not in fractions
    assert disc[8, 16] == 1 and disc[4, 12] == 0


@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.01), st.tuples(st.integers(1, 20), st.integers(1, 20))
)
@settings(max_examples=60, deadline=None)
def test_a_point_however_small_keeps_a_cell(x, y, radius, latent_size):
    assert cells(latent_size, point=(x, y), radius=radius).any()


@pytest.mark.parametrize(
    "values, words",
    [
        (np.zeros((4, 4)), "mask is empty"),
        (np.full((4, 4), 2.0), "outside 0 to 1"),
        (np.full((4, 4), np.nan), "outside 0 to 1"),
        (np.ones(4), r"shape \(4,\)"),
    ],
)
def test_a_mask_that_is_none_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Mask(values)


def test_points_lie_in_the_image():
    with pytest.raises(ValueError, match="point outside the image"):
        Region("a thing", WHOLE, scribble=((0.1, 0.1), (1.5, 0.2)))
    with pytest.raises(ValueError, match="radius"):
        Region("a thing", WHOLE, point=(0.1, 0.1), radius=math.nan)
