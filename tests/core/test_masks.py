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


@pytest.mark.parametrize("kind", [np.float64, np.uint8, bool])
@pytest.mark.parametrize("size", [(4, 4), (8, 8)])
def test_a_mask_of_numbers_of_any_kind_is_the_same(kind, size):
    as_it_is, other = (
        region_masks((Region("shape", (0, 0, 1, 1), mask=Mask(np.eye(4, dtype=one))),), size)
        for one in (np.float32, kind)
    )
    assert other.dtype == torch.float32 and torch.equal(other, as_it_is)


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


@pytest.mark.parametrize(
    "box, where", [((0.126, 0.0, 0.374, 1.0), np.s_[:, 8:22]), ((0.0, 0.51, 1.0, 0.99), np.s_[20:40])]
)
def test_edges_are_rounded_to_the_nearest_pixel(box, where):
    (mask,) = region_masks((Region("a", box),), SIZE)
    expected = torch.zeros(SIZE)
    expected[where] = 1
    assert torch.equal(mask, expected)


def test_a_hair_is_the_pixel_in_which_its_middle_lies():
    (across, down) = region_masks(
        (Region("a", (0.499, 0.0, 0.503, 1.0)), Region("b", (0.0, 0.366, 1.0, 0.372))), (60, 60)
    )
    assert across.nonzero()[:, 1].unique().tolist() == [30] and down.nonzero()[:, 0].unique().tolist() == [22]


def test_a_mask_goes_before_a_scribble_and_a_scribble_before_a_point():
    values = np.zeros(SIZE, np.float32)
    values[:5, :5] = 1
    stroke = {"scribble": ((0.1, 0.9), (0.2, 0.9)), "point": (0.8, 0.2), "radius": 0.05}
    masked, scribbled = region_masks(
        (Region("a", (0, 0, 1, 1), mask=Mask(values), **stroke), Region("b", (0, 0, 1, 1), **stroke)), SIZE
    )
    assert np.array_equal(masked.numpy(), values)
    assert scribbled[36, 9] == 1 and scribbled[8, 48] == 0


def test_a_disc_lies_in_the_middle_of_its_pixels_on_any_aspect():
    (disc,) = region_masks((Region("a", (0, 0, 1, 1), point=(0.75, 0.5), radius=0.25),), SIZE)
    y, x = np.mgrid[:40, :60] + 0.5
    assert np.array_equal(disc.numpy() > 0, (x - 45) ** 2 + (y - 20) ** 2 <= 10**2)


def test_a_fine_pattern_keeps_its_share_when_it_is_laid_onto_fewer_pixels():
    values = np.zeros((160, 240), np.float32)
    values[:, ::4] = 1
    (mask,) = region_masks((Region("a fence", (0, 0, 1, 1), mask=Mask(values)),), SIZE)
    assert torch.allclose(mask[:, 5:55], torch.full((40, 50), 0.25), atol=0.02)


def test_a_coarse_mask_becomes_soft_between_its_pixels():
    (mask,) = region_masks((Region("a", (0, 0, 1, 1), mask=Mask(np.eye(2, dtype=np.float32))),), (8, 8))
    assert mask[0, 0] == 1 and mask[0, 7] == 0 and mask[0].tolist() == sorted(mask[0].tolist(), reverse=True)
    assert len(mask[0].unique()) > 3 and mask.min() >= 0 and mask.max() <= 1


def test_what_fills_the_picture_has_no_edge_to_shrink_from():
    whole = Region("all", (0, 0, 1, 1))
    assert region_masks((whole,), SIZE, MaskOptions(grow=-5)).all()
    assert region_masks((whole,), SIZE, MaskOptions(grow=5)).all()


def test_a_soft_mask_stays_as_soft_however_it_grows_or_shrinks():
    values = np.zeros(SIZE, np.float32)
    values[10:30, 10:20], values[10:30, 20:30] = 0.25, 0.75
    region = Region("soft", (0, 0, 1, 1), mask=Mask(values))
    (shrunk,) = region_masks((region,), SIZE, MaskOptions(grow=-2))
    expected = np.zeros(SIZE, np.float32)
    expected[12:28, 12:28] = values[12:28, 12:28]
    assert np.array_equal(shrunk.numpy(), expected) and shrunk.dtype == torch.float32
    (grown,) = region_masks((region,), SIZE, MaskOptions(grow=2))
    assert grown[20, 7:10].tolist() == [0, 0.25, 0.25] and grown[20, 30:33].tolist() == [0.75, 0.75, 0]


def test_what_has_grown_lies_in_front_and_only_then_fades():
    back, front = region_masks(
        (Region("all", (0, 0, 1, 1)), FRONT), SIZE, MaskOptions(grow=4, overlap="front")
    )
    assert front[20, 12] == 1 and torch.equal(back, 1 - front)
    back, front = region_masks(
        (Region("all", (0, 0, 1, 1)), FRONT), SIZE, MaskOptions(overlap="front", feather=6)
    )
    assert torch.allclose(back + front, torch.ones(SIZE), atol=1e-6) and 0 < back[20, 15] < 1


def test_two_soft_masks_in_front_take_what_the_stronger_takes():
    hazes = [
        Region("haze", (0, 0, 1, 1), mask=Mask(np.full(SIZE, level, np.float32)))
        for level in (0.5, 0.25, 0.5)
    ]
    back, middle, *_ = region_masks((BACK, *hazes), SIZE, MaskOptions(overlap="front"))
    assert back[5, 5] == 0.5 and middle[5, 5] == 0.25


@pytest.mark.parametrize("width", [4, 5])
def test_a_feather_is_as_wide_down_as_across(width):
    square = Region("a", (0.25, 0.25, 0.75, 0.75))
    (mask,) = region_masks((square,), (40, 40), MaskOptions(feather=width))
    assert torch.allclose(mask, mask.T) and mask[20, 20] == 1
    assert ((mask[20] > 1e-6) & (mask[20] < 1 - 1e-6)).sum() == 2 * (width - 1)


@pytest.mark.parametrize("down", [True, False], ids=["down", "across"])
@pytest.mark.parametrize(
    "box, ramp",
    [
        ((0, 0.125, 1, 1), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ((0, 0, 1, 0.875), [1, 1, 1, 1, 1, 1, 0.75, 0.5]),
    ],
)
def test_a_ramp_at_the_pictures_edge_ends_there_as_if_the_picture_went_on(box, ramp, down):
    box = box if down else (box[1], box[0], box[3], box[2])
    (mask,) = region_masks((Region("a", box),), (8, 8), MaskOptions(feather=4))
    expected = torch.tensor(ramp)[:, None].expand(8, 8)
    assert torch.allclose(mask, expected if down else expected.T, atol=1e-6)


def test_the_union_has_the_largest_value_of_each_pixel():
    masks = torch.tensor([[[0.25, 0.5, 0.0]], [[0.5, 0.25, 0.0]]])
    assert torch.equal(union(masks), torch.tensor([[[0.5, 0.5, 0.0]]]))


def test_a_faint_mask_is_not_empty():
    masks = torch.stack([torch.full(SIZE, 0.01), torch.zeros(SIZE)])
    masks[0, 1:] = 0
    assert empty_ones(masks, (FRONT, BACK)) == ["back"]
