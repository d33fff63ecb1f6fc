"""Regions as masks of a picture's size."""

import numpy as np
import pytest
import torch
from deig_pack.deig_core.regions.masks import MaskOptions, empty_ones, region_masks, union
from deig_pack.deig_core.regions.region import Mask, Region

SIZE = (40, 60)  # height, width
BACK = Region("back", (0.0, 0.0, 0.5, 1.0))
FRONT = Region("front", (0.25, 0.25, 0.75, 0.75))


def test_a_box_is_its_pixels_and_no_more():
    (mask,) = region_masks((FRONT,), SIZE)
    expected = torch.zeros(SIZE)
    expected[10:30, 15:45] = 1
    assert torch.equal(mask, expected)


def test_no_region_is_too_thin_for_a_pixel():
    (mask,) = region_masks((Region("a hair", (0.9999, 0.0, 1.0, 1.0)),), SIZE)
    assert mask.sum() == SIZE[0] and mask[:, -1].all()


@pytest.mark.parametrize("scale", [1, 3])
def test_a_mask_is_laid_over_the_whole_picture(scale):
    values = np.zeros((SIZE[0] * scale, SIZE[1] * scale), np.float32)
    values[5 * scale : 9 * scale, 7 * scale : 20 * scale] = 1
    (mask,) = region_masks((Region("shape", (0, 0, 1, 1), mask=Mask(values)),), SIZE)
    assert (mask > 0.5).sum() == 4 * 13 and mask[6, 10] == 1 and mask[20, 10] == 0


def test_scribbles_and_points_have_their_radius_in_pixels():
    square = (100, 100)
    stroke, disc = region_masks(
        (
            Region("stroke", (0, 0, 1, 1), scribble=((0.2, 0.5), (0.8, 0.5)), radius=0.05),
            Region("disc", (0, 0, 1, 1), point=(0.5, 0.5), radius=0.2),
        ),
        square,
    )
    assert stroke[:, 50].sum() == 10 and stroke[50, 30:70].all() and not stroke[50, 90]
    assert abs(disc.sum().item() - np.pi * 20**2) < 20


def test_share_and_front():
    shared = region_masks((BACK, FRONT), SIZE)
    assert shared[0].sum() == 40 * 30 and shared[1].sum() == 20 * 30
    back, front = region_masks((BACK, FRONT), SIZE, MaskOptions(overlap="front"))
    assert torch.equal(front, shared[1])
    assert torch.equal(back, shared[0] * (1 - shared[1]))
    assert torch.equal(union(shared), union(torch.stack([back, front])))


def test_a_region_lies_behind_all_later_ones():
    beside = Region("beside", (0.75, 0.0, 1.0, 1.0))
    back, _, front = region_masks((BACK, beside, FRONT), SIZE, MaskOptions(overlap="front"))
    assert torch.equal(back, *region_masks((BACK,), SIZE) * (1 - front)), "also where others come between"


def test_a_soft_mask_in_front_lets_the_back_through():
    grey = Region("haze", (0, 0, 1, 1), mask=Mask(np.full(SIZE, 0.25, np.float32)))
    back, _ = region_masks((BACK, grey), SIZE, MaskOptions(overlap="front"))
    assert back[5, 5] == 0.75


def test_a_region_wholly_behind_others_is_named():
    masks = region_masks((FRONT, Region("all", (0, 0, 1, 1))), SIZE, MaskOptions(overlap="front"))
    assert empty_ones(masks, (FRONT, BACK)) == ["front"]


def test_growing_reaches_the_same_distance_every_way():
    (mask,) = region_masks((Region("dot", (0.5, 0.5, 0.51, 0.51)),), (100, 100), MaskOptions(grow=20))
    y, x = np.mgrid[:100, :100]
    inside = (x - 50) ** 2 + (y - 50) ** 2 <= 20**2
    assert np.array_equal(mask.numpy() > 0, inside)


def test_growing_a_soft_mask_keeps_its_values():
    values = np.zeros(SIZE, np.float32)
    values[10:20, 10:20] = 0.5
    (mask,) = region_masks((Region("soft", (0, 0, 1, 1), mask=Mask(values)),), SIZE, MaskOptions(grow=3))
    assert set(mask.unique().tolist()) == {0.0, 0.5} and mask[15, 22] == 0.5


def test_shrinking_spares_the_picture_edge():
    (mask,) = region_masks((BACK,), SIZE, MaskOptions(grow=-5))
    expected = torch.zeros(SIZE)
    expected[:, :25] = 1
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("width", [1, 8, 9])
def test_feather_is_a_ramp_of_its_width_across_the_edge(width):
    (mask,) = region_masks((BACK,), SIZE, MaskOptions(feather=width))
    row = mask[0]
    assert torch.allclose(mask, row.expand(SIZE)), "no edge at the top and bottom of the picture"
    ramp = ((row > 1e-6) & (row < 1 - 1e-6)).sum()
    assert ramp == width - 1 and row[0] == 1 and row[-1] == 0
    assert abs(row.sum().item() - 30) <= 0.5 + 1e-4, "half of the ramp lies inside, half outside"
    assert (row.diff() <= 1e-6).all()


def test_options_are_checked():
    with pytest.raises(ValueError, match="share, front"):
        MaskOptions(overlap="both")
    with pytest.raises(ValueError, match="feather"):
        MaskOptions(feather=-1)
