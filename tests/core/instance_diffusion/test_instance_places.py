"""A region's place in all forms, and what remains of it on a crop."""

import numpy as np
import pytest
import torch
from deig_pack.deig_core.instance_diffusion.places import frame_of, is_inside, places_of
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.tests.core.instance_diffusion.goldens import read_golden

BOX = Region("a mug", (0.2, 0.4, 0.6, 0.8))
LOWER_RIGHT = (32, 32, 32, 32)  # of a latent of 64 x 64 cells


def masked(values, box=(0, 0, 1, 1)):
    return Region("a mug", box, mask=Mask(np.asarray(values, dtype=float)))


def test_a_box_alone_gives_its_middle_and_nothing_else():
    places = places_of([BOX])
    assert torch.allclose(places.boxes, torch.tensor([BOX.box]))
    assert torch.allclose(places.points, torch.tensor([[0.4, 0.6]]))
    assert not places.scribbles.any() and not places.polygons.any() and places.masks is None


def test_of_no_regions_there_are_no_places():
    """What the negative prompt is told."""
    places = places_of([])
    shapes = [tuple(one.shape) for one in (places.boxes, places.points, places.scribbles, places.polygons)]
    assert shapes == [(0, 4), (0, 2), (0, 40), (0, 512)] and places.masks is None and len(places) == 0


def test_a_point_of_its_own_goes_before_the_middle():
    assert places_of([Region("a mug", BOX.box, point=(0.3, 0.5))]).points.tolist()[0] == pytest.approx(
        [0.3, 0.5]
    )


def test_a_scribble_becomes_twenty_points_nearest_first():
    stroke = tuple((0.9 - 0.02 * i, 0.5) for i in range(25))
    points = places_of([Region("a mug", (0.4, 0.4, 0.95, 0.6), scribble=stroke)]).scribbles.view(20, 2)
    assert points[:, 0].tolist() == pytest.approx([0.42 + 0.02 * i for i in range(20)])


@pytest.mark.parametrize("name", ["hole_480x640", "two4", "corner"])
def test_a_masks_polygon_is_the_references(name):
    _, inputs, outputs, _ = read_golden("points_from_masks")
    mask = np.unpackbits(inputs[name].numpy(), axis=1)
    places = places_of([masked(mask)])
    assert (places.polygons[0] - outputs[f"{name}.polygon"]).abs().max() <= 1e-6
    points = places.scribbles.view(20, 2)
    height, width = mask.shape
    assert all(mask[round(y * height), round(x * width)] for x, y in points.tolist())
    assert len({tuple(point) for point in points.tolist()}) == 20


def test_masks_fill_512_pixels_whatever_their_size():
    places = places_of([masked([[0, 1, 0.25, 0]]), BOX])
    assert len(places) == 2 and places.masks.shape == (2, 512, 512) and not places.masks[1].any()
    assert places.masks[0, 0, ::64].tolist() == [0, 0, 1, 1, 0.25, 0.25, 0, 0]


def test_a_soft_mask_has_the_outline_of_its_stronger_half():
    soft, hard = np.zeros((64, 64)), np.zeros((64, 64))
    soft[10:30, 10:40], soft[15:25, 15:35] = 0.1, 0.4
    hard[15:25, 15:35] = 1
    assert torch.equal(places_of([masked(soft)]).polygons, places_of([masked(hard)]).polygons)


def test_a_huge_mask_has_the_polygon_of_a_smaller_one():
    small = np.zeros((512, 512))
    small[100:300, 50:400] = 1
    huge = np.kron(small, np.ones((4, 4)))
    middle = np.kron(small, np.ones((2, 2)))
    assert torch.equal(places_of([masked(huge)]).polygons, places_of([masked(middle)]).polygons)


def test_a_mask_of_1024_pixels_is_followed_pixel_by_pixel():
    fine = np.zeros((1024, 1024))
    fine[201:602, 101:801] = 1
    largest, smallest = places_of([masked(fine)]).polygons.view(-1, 2).aminmax(dim=0)[::-1]
    assert (smallest * 1024).tolist() == pytest.approx([101, 201], abs=0.01)
    assert (largest * 1024).tolist() == pytest.approx([802, 603], abs=0.01), "outlines lie one pixel further"


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3)])
def test_a_crop_at_the_edge_of_a_coarse_mask_has_its_last_pixel(shape):
    values = np.zeros(shape)
    values[-1, -1] = 1
    thin = (0.99, 0.99, 1.0, 1.0)
    assert is_inside(masked(values), thin) and not is_inside(masked(1 - values), thin)
    assert places_of([masked(values)], thin).masks[0].min() == 1


def test_a_crop_within_one_pixel_of_a_coarse_mask_has_that_pixel():
    values = np.zeros((3, 5))
    values[1, 2] = 1
    thin = (0.42, 0.4, 0.45, 0.42)
    assert is_inside(masked(values), thin) and not is_inside(masked(1 - values), thin)
    assert places_of([masked(values)], thin).masks[0].min() == 1


def test_on_a_crop_places_are_its_own_fractions():
    frame = frame_of(LOWER_RIGHT, (64, 64))
    assert frame == (0.5, 0.5, 1.0, 1.0)
    own = Region(
        "a mug", (0.4, 0.6, 0.75, 0.9), point=(0.7, 0.8), scribble=((0.45, 0.7), (0.6, 0.8), (0.7, 0.9))
    )
    places = places_of([own, BOX], frame)
    assert places.boxes.tolist()[0] == pytest.approx([0, 0.2, 0.5, 0.8])
    assert places.boxes.tolist()[1] == pytest.approx([0, 0, 0.2, 0.6])
    assert places.points.tolist()[0] == pytest.approx([0.4, 0.6])
    assert places.points.tolist()[1] == pytest.approx([0.1, 0.3])  # the middle of what is left
    seen = {tuple(round(v, 4) for v in point) for point in places.scribbles[0].view(20, 2).tolist()}
    assert seen == {(0.2, 0.6), (0.4, 0.8)}  # the point outside is gone


def test_a_crop_wider_than_high_of_a_picture_that_is_not_square():
    """Of 8 rows and 12 columns those from 2 and 3 on: its own fractions are 1/4 high, and 3/4 wide."""
    frame = frame_of((2, 9, 2, 3), (8, 12))
    assert frame == pytest.approx((0.25, 0.25, 1.0, 0.5))
    stroke = (0.25, 0.5), (0.625, 0.3), (0.625, 0.2), (0.1, 0.4)  # on its very corner; inside; above; left
    own = Region("a mug", (0.1, 0.3, 0.625, 0.375), point=(1.0, 0.25), scribble=stroke)
    places = places_of([own], frame)
    assert places.boxes.tolist()[0] == pytest.approx([0, 0.2, 0.5, 0.5])
    assert places.points.tolist()[0] == pytest.approx([1, 0]), "a point on the very corner is on it"
    seen = {tuple(round(v, 4) for v in point) for point in places.scribbles[0].view(20, 2).tolist()}
    assert seen == {(0.0, 1.0), (0.5, 0.2)}


@pytest.mark.parametrize("outside", [(0.2, 0.7), (0.7, 0.2)], ids=["left of it", "above it"])
def test_a_point_off_the_crop_is_the_middle_of_what_is_left(outside):
    own = Region("a mug", (0.2, 0.2, 0.8, 0.9), point=outside)
    places = places_of([own], frame_of(LOWER_RIGHT, (64, 64)))
    assert places.points.tolist()[0] == pytest.approx([0.3, 0.4])


def test_of_a_stroke_off_the_crop_the_masks_pixels_take_the_place():
    values = np.zeros((64, 64))
    values[40:48, 48:64] = 1
    frame = frame_of(LOWER_RIGHT, (64, 64))
    stroked = Region("a mug", (0, 0, 1, 1), scribble=((0.1, 0.1), (0.2, 0.1)), mask=masked(values).mask)
    assert torch.equal(places_of([stroked], frame).scribbles, places_of([masked(values)], frame).scribbles)


def test_a_mask_up_to_the_edge_has_an_outline_up_to_the_edge():
    places = places_of([masked(np.ones((6, 9)))])
    assert places.polygons.aminmax() == (0, 1)


def test_a_long_mask_is_thinned_along_its_longer_side_alone():
    long = np.zeros((4, 4096))
    long[1:3, 400:1200] = 1
    thinned = np.zeros((4, 1024))
    thinned[1:3, 100:300] = 1
    for turn in (np.asarray, np.transpose):
        assert torch.equal(
            places_of([masked(turn(long))]).polygons, places_of([masked(turn(thinned))]).polygons
        )


def test_what_a_crop_leaves_of_a_point_and_a_stroke_outside_it():
    outside = Region("a mug", (0.2, 0.2, 0.8, 0.8), point=(0.3, 0.3), scribble=((0.25, 0.3), (0.3, 0.3)))
    places = places_of([outside], frame_of(LOWER_RIGHT, (64, 64)))
    assert places.points.tolist()[0] == pytest.approx([0.3, 0.3])  # of the box's lower right part
    assert not places.scribbles.any()


def test_a_mask_is_cropped():
    values = np.zeros((64, 64))
    values[40:48, 48:64] = 1
    frame = frame_of(LOWER_RIGHT, (64, 64))
    places = places_of([masked(values)], frame)
    assert torch.equal(
        places.masks[0] > 0, torch.nn.functional.pad(torch.ones(128, 256), (256, 0, 128, 256)) > 0
    )
    alone = places_of([masked(values[32:, 32:])])
    assert torch.equal(places.polygons, alone.polygons) and torch.equal(places.scribbles, alone.scribbles)


@pytest.mark.parametrize(
    "region, inside",
    [
        (BOX, True),
        (Region("a mug", (0.1, 0.1, 0.5, 0.9)), False),
        (Region("a mug", (0.1, 0.1, 0.9, 0.5)), False),
        (masked(np.pad(np.ones((4, 4)), ((0, 4), (0, 4)))), False),
        (masked(np.eye(8)), True),
    ],
)
def test_what_lies_on_a_crop(region, inside):
    assert is_inside(region, frame_of(LOWER_RIGHT, (64, 64))) is inside
    assert is_inside(region)


def test_a_crop_takes_its_own_rows_and_columns_of_a_mask():
    """The frame is wider than high, so that rows cut by the width would take in what lies below it."""
    values = np.zeros((20, 40), np.float32)
    values[12, 30] = 1
    mask = Mask(values)
    region = Region("a bead", mask.bounding_box(), mask=mask)
    assert is_inside(region, (0.5, 0.5, 1.0, 0.75))
    assert not is_inside(region, (0.5, 0.0, 1.0, 0.5))
    assert not is_inside(region, (0.0, 0.5, 0.7, 0.75))
