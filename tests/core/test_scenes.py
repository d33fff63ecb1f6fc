"""The scenes that the small model is trained on: what is drawn, and the words for it."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from small_model import scenes
from small_model.scenes import COLOURS, FIRST_SCENE, GROUNDS, SHAPES, SIZE, TEXTURES, coverage, deal, draw

SCENES = [deal(seed) for seed in range(600)]
ALL_SHAPES = [shape for scene in SCENES for shape in scene.shapes]


def test_everything_follows_from_the_seed():
    assert [deal(seed) for seed in range(20)] == SCENES[:20]
    assert np.array_equal(draw(deal(3)), draw(deal(3)))
    assert len(set(SCENES)) == len(SCENES)


def test_boxes_lie_in_the_picture_and_are_15_to_60_percent_of_a_side():
    for shape in ALL_SHAPES:
        x0, y0, x1, y1 = shape.box
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
        for side in (x1 - x0, y1 - y0):
            assert 0.15 <= side <= 0.6
            assert shape.texture == "plain" or side >= scenes.SMALLEST_TEXTURED


def test_boxes_lie_on_the_grid():
    boxes = np.array([shape.box for shape in ALL_SHAPES]) * SIZE
    assert not (boxes[:, :2] % scenes.GRID).any()
    sides = boxes[:, 2:] - boxes[:, :2]
    extreme = (sides == 20) | (sides == 76)  # 15 % and 60 % of 128
    assert not (sides[~extreme] % scenes.GRID).any() and extreme.any()
    assert len(np.unique(boxes)) >= SIZE // scenes.GRID + 1


def test_every_kind_texture_colour_and_ground_occurs():
    assert {shape.kind for shape in ALL_SHAPES} == set(SHAPES)
    assert {shape.texture for shape in ALL_SHAPES} == set(TEXTURES)
    assert {colour for shape in ALL_SHAPES for colour in shape.colours} == set(COLOURS)
    assert {ground for scene in SCENES for ground in scene.ground} == set(GROUNDS)
    assert {scene.split for scene in SCENES} == {"plain", "sideways", "stacked"}


def test_scenes_have_one_to_six_shapes():
    counts = [len(scene.shapes) for scene in SCENES]
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert all(len(deal(seed, count=count).shapes) == count for count in range(1, 7) for seed in range(5))


def overlaps(scene) -> list[float]:
    """Of each pair of boxes, the share of the smaller that both have."""
    return [
        scenes.intersection(a.box, b.box) / min(scenes.area(a.box), scenes.area(b.box))
        for a, b in combinations(scene.shapes, 2)
    ]


def test_some_boxes_overlap_a_little():
    shares = [share for scene in SCENES for share in overlaps(scene)]
    assert max(shares) <= 0.2
    assert sum(any(overlaps(scene)) for scene in SCENES) > 0.05 * len(SCENES)


def test_some_scenes_have_the_same_shape_twice():
    twice = [scene for scene in SCENES if len({s.kind for s in scene.shapes}) < len(scene.shapes)]
    assert len(twice) > 0.2 * len(SCENES)
    assert any(
        a.kind == b.kind and a.colours == b.colours
        for scene in twice
        for a, b in combinations(scene.shapes, 2)
    )


def test_smaller_shapes_lie_in_front():
    for scene in SCENES:
        areas = [scenes.area(shape.box) for shape in scene.shapes]
        assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("width, height", [(19, 19), (24, 40), (77, 50)])
def test_a_shape_fills_its_box(kind, width, height):
    painted = sum(coverage(kind, "plain", (0.1, 0.2, 0.1 + width / SIZE, 0.2 + height / SIZE)))
    assert painted.shape == (height, width)
    for edge in (painted[0], painted[-1], painted[:, 0], painted[:, -1]):
        assert edge.max() > 0


@pytest.mark.parametrize("phase", range(0, scenes.PERIOD, scenes.GRID))
@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("kind", SHAPES)
def test_a_texture_has_both_colours_and_no_pixel_has_more_than_one_whole(kind, texture, phase):
    """In the smallest box that a texture has, wherever it lies."""
    edge, side = phase / SIZE, np.ceil(scenes.SMALLEST_TEXTURED * SIZE) / SIZE
    main, second = coverage(kind, texture, (edge, 0.25, edge + side, 0.25 + side))
    assert (main + second).max() <= 1 + 1e-6 and main.mean() > 0.1
    assert (second.mean() > 0.04) == (texture != "plain")


@pytest.mark.parametrize("texture", TEXTURES)
def test_a_texture_stays_where_it_is_when_its_shape_moves(texture):
    whole = coverage("square", texture, (0, 0, 1, 1))
    for box in ((0.25, 0.125, 0.75, 0.5), (0.34375, 0.28125, 0.84375, 0.71875)):
        x0, y0, x1, y1 = scenes.pixel_box(box)
        for part, of in zip(coverage("square", texture, box), whole, strict=True):
            assert np.array_equal(part, of[y0:y1, x0:x1])


def test_rims_are_smooth():
    painted, _ = coverage("circle", "plain", (0.25, 0.25, 0.75, 0.75))
    rim = (painted > 0) & (painted < 1)
    assert 0.03 < rim.mean() < 0.1
    assert painted.mean() == pytest.approx(np.pi / 4, rel=0.005)


def test_shapes_are_drawn_where_their_boxes_are():
    for scene in SCENES[:50]:
        empty = scenes.draw_ground(scene.ground, scene.split)
        changed = np.abs(draw(scene) - empty).max(-1) > 1
        boxes = np.zeros_like(changed)
        for shape in scene.shapes:
            x0, y0, x1, y1 = scenes.pixel_box(shape.box)
            boxes[y0:y1, x0:x1] = True
        assert changed.any() and not changed[~boxes].any()


def test_boxes_are_fractions_at_any_size():
    square = replace(next(s for s in ALL_SHAPES if s.kind == "square"), box=(0.25, 0.25, 0.5, 0.75))
    wide = draw(replace(SCENES[0], shapes=(square,)), width=192, height=96)
    ground = scenes.draw_ground(SCENES[0].ground, SCENES[0].split, 192, 96)
    changed = np.abs(wide - ground).max(-1) > 1
    assert changed[24:72, 48:96].all() and changed.sum() == 48 * 48


def test_shapes_moved_off_the_grid_keep_all_but_their_place():
    for seed, scene in enumerate(SCENES[:100]):
        moved = scenes.off_grid(scene, seed)
        assert replace(moved, shapes=scene.shapes) == scene
        for before, after in zip(scene.shapes, moved.shapes, strict=True):
            assert replace(after, box=before.box) == before
            apart = (np.array(after.box) - before.box) * SIZE
            assert np.array_equal(apart[:2], apart[2:]) and set(np.abs(apart)) <= {1, 2, 3, 4}
            assert min(after.box) >= 0 and max(after.box) <= 1


def test_training_never_shows_the_combinations_kept_out():
    shown = [shape for seed in range(2000) for shape in deal(FIRST_SCENE + seed).shapes]
    assert not any(scenes.is_kept_out(shape.kind, shape.colours[0]) for shape in shown)
    # Each colour and each shape by itself is known all the same.
    kept_out = {(kind, colour) for kind in SHAPES for colour in COLOURS if scenes.is_kept_out(kind, colour)}
    assert len(kept_out) == len(SHAPES)
    assert {(shape.kind, shape.colours[0]) for shape in shown} == {
        (kind, colour) for kind in SHAPES for colour in COLOURS
    } - kept_out


def test_kept_out_scenes_show_nothing_else():
    shown = [shape for seed in range(200) for shape in deal(seed, kept_out=True).shapes]
    assert all(scenes.is_kept_out(shape.kind, shape.colours[0]) for shape in shown)


def test_phrases_name_what_is_drawn():
    stems = {"striped": "stripe", "checked": "check", "dotted": "dot"}
    for shape in ALL_SHAPES:
        words = shape.phrase.replace(",", "").split()
        assert shape.kind in words and shape.colours[0] in words
        assert {word for word in words if word in COLOURS} <= set(shape.colours)
        named = [texture for texture, stem in stems.items() if stem in shape.phrase]
        assert named == ([] if shape.texture == "plain" else [shape.texture])
        # A second colour that goes without saying is white, on white black.
        assert shape.colours[-1] in words or shape.colours[-1] == scenes._default_second(shape.colours[0])


def test_phrases_and_prompts_vary():
    assert len({shape.phrase for shape in ALL_SHAPES}) > 0.4 * len(ALL_SHAPES)
    joined = [scene for scene in SCENES if all(shape.phrase in scene.prompt for shape in scene.shapes)]
    assert 0.2 < len(joined) / len(SCENES) < 0.5
    for scene in SCENES:
        assert all(ground in scene.prompt for ground in scene.ground)
