"""Places that are not boxes: masks, scribbles and points."""

import math

import numpy as np
import pytest
import torch
from deig_pack.deig_core.regions.raster import (
    cell_places,
    crop_boxes,
    later_in_front,
    spread_tokens,
    token_pixels,
    token_places,
)
from deig_pack.deig_core.regions.region import Mask, Region, RunLengthMask
from deig_pack.tests.effort import examples
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
@settings(max_examples=examples(80), deadline=None)
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


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.uint8, bool])
def test_a_mask_of_numbers_of_any_kind_is_the_same_place(kind):
    place = cells(mask=Mask(np.eye(4, dtype=kind)))
    assert place.dtype == torch.float32 and torch.equal(place, torch.eye(4).kron(torch.ones(4, 4)))


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
@settings(max_examples=examples(60), deadline=None)
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


def test_a_radius_of_0_is_a_point_and_not_the_usual_disc():
    for place in ({"point": (0.5, 0.5)}, {"scribble": ((0.3, 0.5), (0.7, 0.5))}):
        thin, usual = cells(radius=0, **place), cells(**place)
        assert 0 < thin.sum() < usual.sum() or "scribble" in place
    assert cells((64, 64), point=(0.51, 0.51), radius=0).sum() == 1
    line = cells((64, 64), scribble=((0.26, 0.51), (0.74, 0.51)), radius=0)
    assert line.sum(0).max() == 1, "one cell thin"
    assert cells((64, 64), scribble=((0.26, 0.51), (0.74, 0.51))).sum(0).max() > 1


@pytest.mark.parametrize("at", [(0.5, 1.5), (0.5, -0.5), (1.5, 0.5), (-0.5, 0.5), (0.5, math.nan)])
def test_both_coordinates_of_a_point_are_checked(at):
    for place in ({"point": at}, {"scribble": ((0.5, 0.5), at)}):
        with pytest.raises(ValueError, match="point outside the image"):
            Region("a thing", WHOLE, **place)


def test_a_grid_that_is_coarser_one_way_grows_by_its_coarser_side():
    """Tokens of 16 x 32 pixels: as wide as those at which the model was trained with places grown by one."""
    place = torch.zeros(1, 32, 32)
    place[0, 16, 16] = 1
    for grid in ((16, 8), (8, 16)):
        tokens = token_places(place, (32, 32), grid)[0]
        assert tokens.sum() == 9 and tokens[grid[0] // 2, grid[1] // 2] == 1
    assert token_places(place, (32, 32), (16, 16))[0].sum() == 1


def test_a_hidden_region_keeps_the_token_in_its_middle():
    places = torch.zeros(2, 9, 9)
    places[0, 2:7, 2:7] = 1
    places[1] = 1
    kept = later_in_front(places)
    assert kept[0].nonzero().tolist() == [[4, 4]] and kept[1].sum() == 81
    # Of a ring, whose middle is no part of it, the token nearest to the middle.
    places[0, 3:6, 3:6] = 0
    ((row, column),) = later_in_front(places)[0].nonzero().tolist()
    assert abs(row - 4) + abs(column - 4) == 2


@pytest.mark.parametrize("size", [(5, 7), (700, 900)])
def test_a_mask_of_runs_is_laid_as_its_values_are(size):
    generator = np.random.default_rng(5)
    runs = generator.integers(0, 40, 4 * size[0] * size[1] // 40 + 2)
    runs = runs[: int(np.searchsorted(np.cumsum(runs), size[0] * size[1]))]
    runs = np.append(runs, size[0] * size[1] - runs.sum())
    coded = RunLengthMask(size, runs)
    plain = Mask(np.array(coded.values))
    assert torch.equal(cells(mask=coded), cells(mask=plain))
    assert coded.bounding_box() == plain.bounding_box() and coded.size == plain.size == size


@pytest.mark.parametrize(
    "runs, words", [([3, 3], "cover 6 pixels of 2 x 2"), ([4], "empty"), ([4, 0], "empty")]
)
def test_run_lengths_that_are_no_mask_are_refused(runs, words):
    with pytest.raises(ValueError, match=words):
        RunLengthMask((2, 2), np.array(runs))


def test_a_scribble_runs_through_all_its_points():
    bent = cells((32, 64), scribble=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)), radius=0.02)
    assert bent[3, 30] == 1 and bent[16, 57] == 1 and bent[28, 30] == 1
    assert bent[16, 6:55].sum() == 0 and bent[:, 60:].sum() == 0, "and not beyond or between them"


def test_a_scribble_and_a_point_have_their_usual_reach():
    """Of 512 pixels: 10.24 and 64."""
    stroke = cells((64, 64), scribble=((0.25, 0.5), (0.75, 0.5)))
    disc = cells((64, 64), point=(0.5, 0.5))
    assert stroke[:, 32].nonzero().flatten().tolist() == [30, 31, 32, 33]
    assert disc[32].nonzero().flatten().tolist() == list(range(24, 40))


@pytest.mark.parametrize("size", [(16, 32), (32, 16)])
def test_a_radius_is_of_the_shorter_side(size):
    rows, columns = cells(size, point=(0.5, 0.5), radius=0.25).nonzero().T
    assert rows.unique().numel() == columns.unique().numel() == 8


def test_a_mask_goes_before_a_scribble_and_a_scribble_before_a_point():
    values = np.zeros((16, 16), dtype=np.float32)
    values[0, 0] = 0.5
    others = {"scribble": ((0.1, 0.9), (0.2, 0.9)), "point": (0.9, 0.1), "radius": 0.03}
    masked, scribbled = cells(mask=Mask(values), **others), cells(**others)
    assert masked.nonzero().tolist() == [[0, 0]] and masked[0, 0] == 0.5
    assert scribbled[14, 2] == 1 and scribbled[1, 14] == 0


@pytest.mark.parametrize(
    "box, where",
    [
        ((0.0, 0.0, 1.0, 1.0), np.s_[:, :]),
        ((0.25, 0.5, 0.5, 1.0), np.s_[4:8, 4:8]),
        ((0.26, 0.51, 0.51, 0.99), np.s_[4:8, 4:9]),
        ((0.999, 0.0, 1.0, 0.01), np.s_[:1, 15:]),
        ((0.4995, 0.2, 0.4999, 0.3), np.s_[1:3, 7:8]),
    ],
)
def test_a_box_is_the_cells_that_its_pixels_touch(box, where):
    expected = torch.zeros(8, 16)
    expected[where] = 1
    assert torch.equal(cell_places([Region("a thing", box)], (8, 16))[0], expected)


def test_no_regions_have_no_places():
    assert cell_places([], (8, 16)).shape == (0, 8, 16)


@pytest.mark.parametrize(
    "grid, pixels, side",
    [((64, 64), 8, 1), ((32, 32), 16, 1), ((16, 16), 32, 3), ((8, 8), 64, 5), ((4, 4), 128, 4)],
)
def test_places_grow_by_one_and_two_tokens_at_the_coarsest_grids(grid, pixels, side):
    place = torch.zeros(1, 64, 64)
    place[0, 33, 33] = 1
    tokens = token_places(place, (64, 64), grid)[0]
    assert token_pixels((64, 64), grid) == pixels and tokens.sum() == side**2


@pytest.mark.parametrize("grid, pixels", [((9, 12), 16), ((5, 6), 32), ((3, 3), 64), ((2, 2), 128)])
def test_tokens_of_a_latent_that_is_no_multiple_are_as_wide_as_elsewhere(grid, pixels):
    assert token_pixels((17, 23), grid) == pixels


def test_in_front_the_later_region_has_the_token_alone():
    places = torch.zeros(2, 8, 8)
    places[0, :, :4], places[1, :, 3:] = 1, 1
    shared, front = (token_places(places, (8, 8), (8, 8), front=front) for front in (False, True))
    assert shared[0, :, 3].all() and not front[0, :, 3].any()
    assert torch.equal(front[1], shared[1]) and torch.equal(front[0, :, :3], shared[0, :, :3])


def test_the_token_that_a_hidden_region_keeps_has_its_value():
    places = torch.zeros(3, 9, 9)
    places[0, 1:4, 3:8] = 0.25
    places[2] = 1
    kept = later_in_front(places)
    assert kept[0].nonzero().tolist() == [[2, 5]] and kept[0, 2, 5] == 0.25
    assert not kept[1].any() and torch.equal(places[0, 1:4, 3:8], torch.full((3, 5), 0.25))


def test_the_kept_token_is_the_nearest_to_the_middle_as_the_crow_flies():
    """From (3, 2.6): a corner two away each way is farther than one that is 2.4 away along a row."""
    places = torch.zeros(2, 7, 7)
    for row, column in ((1, 0), (5, 0), (1, 4), (5, 4), (3, 5)):
        places[0, row, column] = 1
    places[1] = 1
    assert later_in_front(places)[0].nonzero().tolist() == [[3, 5]]


def test_every_cell_has_the_value_of_its_token():
    values = torch.arange(6.0).reshape(2, 3)
    assert spread_tokens(values, (4, 6)).tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert spread_tokens(values, (3, 5)).tolist() == [[0, 0, 1, 1, 2]] * 2 + [[3, 3, 4, 4, 5]]
    assert spread_tokens(values[None], (2, 3)).tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_boxes_of_a_crop_are_fractions_of_it_cut_at_its_edges():
    """Of 40 x 80 cells the 20 x 10 at (30, 20): rows 20 to 40, columns 30 to 40."""
    boxes = torch.tensor([[0.375, 0.5, 0.4375, 0.75], [0.0, 0.75, 0.5, 1.0]])
    crop = crop_boxes(boxes, (40, 80), (20, 10, 20, 30))
    assert crop.tolist() == [[0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 1.0, 1.0]]
