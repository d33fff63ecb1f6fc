"""The judge of painted pictures, on pictures of which the truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from bench.quality.judge import judge
from small_model.scenes import COLOURS, GROUNDS, SIZE, Scene, Shape, deal, draw, off_grid, pixel_box

RED = Shape("square", "plain", ("red",), (0.1, 0.1, 0.5, 0.5), "a red square")
STAR = Shape("star", "plain", ("yellow",), (0.55, 0.55, 0.95, 0.95), "a yellow star")
RING = Shape(
    "ring", "striped", ("green", "white"), (0.55, 0.05, 0.95, 0.45), "a green and white striped ring"
)
SCENE = Scene((RED, STAR, RING), ("grey",), "plain", "shapes on a grey ground")


def with_shape(index: int, **changes) -> Scene:
    shapes = list(SCENE.shapes)
    shapes[index] = replace(shapes[index], **changes)
    return replace(SCENE, shapes=tuple(shapes))


@pytest.fixture(scope="module")
def verdicts():
    """On rendered pictures of 80 scenes, some off the grid, and the same with noise as strong as a decoder's."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(80):
        scene = deal(seed, kept_out=seed % 4 == 3)
        scene = off_grid(scene, seed) if seed % 3 == 1 else scene
        noisy = draw(scene) + rng.normal(0, 12, (SIZE, SIZE, 3))
        for picture in (draw(scene), noisy.clip(0, 255).astype(np.uint8)):
            judgement = judge(picture, scene)
            assert judgement.outside < 0.01
            found += judgement.shapes
    return found


@pytest.mark.parametrize("attribute", ["is_colour", "is_kind", "is_texture"])
def test_rendered_pictures_are_judged_right(verdicts, attribute):
    assert len(verdicts) > 400
    assert np.mean([getattr(verdict, attribute) for verdict in verdicts]) >= 0.99


def test_rendered_shapes_fit_their_boxes_and_do_not_leak(verdicts):
    ious = [verdict.iou for verdict in verdicts if verdict.iou is not None]
    assert len(ious) > 0.95 * len(verdicts) and np.mean(ious) > 0.97
    assert np.mean([verdict.leaked for verdict in verdicts]) < 0.005


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(
    "attribute, wrong",
    [
        ("is_colour", {"colours": ("blue", "orange")}),
        ("is_kind", {"kind": "circle"}),
        ("is_texture", {"texture": "checked", "colours": ("white", "black")}),
    ],
)
def test_a_wrong_attribute_is_noticed_and_only_there(index, attribute, wrong):
    if "texture" not in wrong:
        wrong = {name: value[: len(SCENE.shapes[index].colours)] if name == "colours" else value
                 for name, value in wrong.items()}  # fmt: skip
    found = judge(draw(with_shape(index, **wrong)), SCENE).shapes
    assert not getattr(found[index], attribute)
    assert all(verdict.is_all for i, verdict in enumerate(found) if i != index)


def test_what_is_seen_is_named():
    picture = draw(with_shape(0, kind="cross", texture="dotted", colours=("purple", "white")))
    verdict = judge(picture, SCENE).shapes[0]
    assert (verdict.kind, verdict.texture, set(verdict.colours)) == ("cross", "dotted", {"purple", "white"})


def test_a_missing_shape_is_noticed():
    without = replace(SCENE, shapes=SCENE.shapes[1:])
    found = judge(draw(without), SCENE).shapes
    assert found[0].kind is None and not found[0].is_all and found[0].iou == 0
    assert all(verdict.is_all for verdict in found[1:])


def test_all_counts_only_if_every_attribute_is_right():
    blue = judge(draw(with_shape(0, colours=("blue",))), SCENE).shapes[0]
    assert blue.is_kind and blue.is_texture and not blue.is_all


def test_iou_is_that_of_the_boxes():
    picture = draw(with_shape(0, box=(0.1, 0.1, 0.4, 0.5)))  # three quarters as wide
    assert judge(picture, SCENE).shapes[0].iou == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("colour, iou", [("red", 0.8), ("purple", 1.0)])
def test_paint_beside_the_box_counts_if_it_has_the_shapes_colour(colour, iou):
    x0, y0, x1, y1 = pixel_box(RED.box)
    picture = draw(SCENE)
    picture[y0:y1, x1 : x1 + (x1 - x0) // 4] = COLOURS[colour]
    assert judge(picture, SCENE).shapes[0].iou == pytest.approx(iou, abs=0.02)


def test_a_shape_in_a_wrong_colour_has_its_iou():
    verdict = judge(draw(with_shape(0, colours=("blue",))), SCENE).shapes[0]
    assert not verdict.is_colour and verdict.iou > 0.95


def test_of_dots_it_counts_which_colour_they_have():
    asked = with_shape(0, texture="dotted", colours=("red", "white"))
    swapped = with_shape(0, texture="dotted", colours=("white", "red"))
    assert judge(draw(asked), asked).shapes[0].is_all
    assert not judge(draw(swapped), asked).shapes[0].is_colour


def test_a_plain_shape_in_two_colours_is_not_in_its_colour():
    mixed = with_shape(0, texture="dotted", colours=("red", "white"))
    assert not judge(draw(mixed), SCENE).shapes[0].is_colour


def test_a_shape_among_others_has_no_iou():
    cover = replace(RED, kind="circle", colours=("blue",), box=(0.1, 0.1, 0.5, 0.48))
    scene = replace(SCENE, shapes=(replace(RED, kind="circle"), cover))
    assert judge(draw(scene), scene).shapes[0].iou is None


def test_another_shapes_colour_is_a_leak_and_a_strangers_is_not():
    x0, y0, x1, y1 = pixel_box(RED.box)
    for colour, leaked in (("yellow", 0.25), ("purple", 0.0)):
        picture = draw(SCENE)
        picture[y0 : y1 - (y1 - y0) // 2, x0 : x1 - (x1 - x0) // 2] = COLOURS[colour]
        assert judge(picture, SCENE).shapes[0].leaked == pytest.approx(leaked, abs=0.02)


def test_colour_between_the_boxes_is_a_leak():
    picture = draw(SCENE)
    assert judge(picture, SCENE).outside == 0
    picture[80:120, 10:60] = COLOURS["red"]
    outside = SIZE**2 - sum((1 + 4 / 51) ** 2 * 51**2 for _ in SCENE.shapes)  # boxes with two pixels of grace
    assert judge(picture, SCENE).outside == pytest.approx(2000 / outside, rel=0.05)


TWO = replace(
    SCENE, ground=("brown", "teal"), split="sideways", prompt="brown on the left and teal on the right"
)


@pytest.mark.parametrize("split", ["sideways", "stacked"])
@pytest.mark.parametrize(
    "painted, right",
    [
        ({}, True),
        ({"ground": ("teal", "brown")}, False),
        ({"ground": ("brown", "beige")}, False),
        ({"ground": ("grey", "teal")}, False),
        ({"ground": ("brown",), "split": "plain"}, False),
        ({"shapes": ()}, True),
    ],
    ids=["right", "swapped", "another below", "another above", "one colour", "without shapes"],
)
def test_a_ground_is_right_with_both_colours_on_their_sides(split, painted, right):
    scene = replace(TWO, split=split)
    assert judge(draw(replace(scene, **painted)), scene).ground is right


def test_a_ground_that_is_split_the_other_way_is_wrong():
    for split, other in (("sideways", "stacked"), ("stacked", "sideways")):
        assert judge(draw(replace(TWO, split=other)), replace(TWO, split=split)).ground is False


def test_a_ground_counts_only_where_no_shape_covers_it():
    """The right half but for a strip lies below a square: what the square covers is not looked at."""
    cover = replace(RED, box=(0.5, 0.0, 1.0, 0.8))
    scene = replace(TWO, shapes=(cover,))
    assert judge(draw(scene), scene).ground is True
    wrong = draw(scene)
    wrong[-20:, SIZE // 2 :] = GROUNDS["brown"]
    assert judge(wrong, scene).ground is False
    covered = replace(TWO, shapes=(replace(cover, box=(0.48, 0.0, 1.0, 1.0)),))
    assert judge(draw(covered), covered).ground is None


def test_paint_of_shapes_all_over_a_side_is_no_ground():
    picture = draw(TWO)
    picture[:, :40] = COLOURS["purple"]
    assert judge(picture, TWO).ground is False


def test_a_ground_of_one_colour_is_not_judged():
    assert judge(draw(SCENE), SCENE).ground is None


def test_drawn_grounds_are_judged_right():
    """With noise as strong as a decoder's, and the other way round all wrong."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(120):
        scene = deal(seed)
        swapped = replace(scene, ground=scene.ground[::-1])
        pair = [
            judge((draw(one) + rng.normal(0, 12, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8), scene)
            for one in (scene, swapped)
        ]
        found += [tuple(judgement.ground for judgement in pair)]
    assert found.count((True, False)) > 30 and set(found) <= {(True, False), (None, None)}


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(64, 64, 3\); judged are pictures of \(128, 128, 3\)"):
        judge(np.zeros((64, 64, 3), dtype=np.uint8), SCENE)


def repainted(rows: int, colour: tuple[int, int, int]):
    """The verdict on the red square, 51 pixels a side, with so many rows of it in another colour."""
    x0, y0, x1, y1 = pixel_box(RED.box)
    assert (x1 - x0, y1 - y0) == (51, 51)
    picture = draw(SCENE)
    picture[y0 : y0 + rows, x0:x1] = colour
    return judge(picture, SCENE).shapes[0]


@pytest.mark.parametrize("rows, right", [(15, True), (16, False)])
def test_seven_tenths_in_its_colour_are_a_plain_shape_of_that_colour(rows, right):
    assert repainted(rows, COLOURS["purple"]).is_colour == right  # 36 of 51 are 0.706, 35 are 0.686


@pytest.mark.parametrize("rows, there", [(30, True), (31, False)])
def test_what_is_ground_for_more_than_six_tenths_is_not_there(rows, there):
    verdict = repainted(rows, GROUNDS["grey"])  # 21 of 51 are 0.412, 20 are 0.392
    assert (verdict.kind is not None) == there and (verdict.colours != ()) == there


@pytest.mark.parametrize("share, right", [(0.13, True), (0.11, False)])
def test_a_second_colour_counts_from_an_eighth_on(share, right):
    scene = with_shape(0, texture="checked", colours=("red", "white"))
    x0, y0, x1, y1 = pixel_box(RED.box)
    picture = draw(scene)
    inside = picture[y0:y1, x0:x1]
    white = np.argwhere((inside == COLOURS["white"]).all(-1))
    for row, column in white[round(share * 51**2) :]:
        inside[row, column] = COLOURS["red"]
    assert judge(picture, scene).shapes[0].is_colour == right


@pytest.mark.parametrize("side", range(4))
def test_two_pixels_around_a_box_are_its_rim_and_the_third_is_outside(side):
    x0, y0, x1, y1 = pixel_box(RED.box)
    for beyond, leaks in ((2, False), (3, True)):
        picture = draw(SCENE)
        picture[
            (np.s_[y0:y1, x0 - beyond], np.s_[y0:y1, x1 - 1 + beyond],
             np.s_[y0 - beyond, x0:x1], np.s_[y1 - 1 + beyond, x0:x1])[side]
        ] = COLOURS["purple"]  # fmt: skip
        assert (judge(picture, SCENE).outside > 0) == leaks


@pytest.mark.parametrize(
    "down, wide, height",
    [(10, 1, 51), (10, 2, 51 + 10), (26, 2, 51 + 26), (27, 2, 51)],
    ids=["a stray pixel", "near", "half a side away", "further away"],
)
def test_paint_is_a_shapes_up_to_half_its_side_away_but_for_stray_pixels(down, wide, height):
    x0, _, _, y1 = pixel_box(RED.box)
    picture = draw(SCENE)
    picture[y1 - 1 + down, x0 + 10 : x0 + 10 + wide] = COLOURS["red"]
    assert judge(picture, SCENE).shapes[0].iou == pytest.approx(51 / height, abs=1e-6)
