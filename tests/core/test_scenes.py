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


# A name and points of the unit square, within and without.
POINTS = {
    "circle": (
        [(0.5, 0.01), (0.99, 0.5), (0.16, 0.16), (0.84, 0.84)],
        [(0.13, 0.13), (0.87, 0.13), (0.0, 0.4)],
    ),
    "square": ([(0.0, 0.0), (1.0, 1.0), (0.3, 0.9)], []),
    "triangle": (
        [(0.5, 0.05), (0.02, 0.99), (0.98, 0.99), (0.3, 0.42)],
        [(0.3, 0.38), (0.7, 0.38), (0.1, 0.5)],
    ),
    "ring": ([(0.5, 0.02), (0.02, 0.5), (0.5, 0.24), (0.76, 0.5)], [(0.5, 0.26), (0.5, 0.5), (0.1, 0.1)]),
    "cross": (
        [(0.33, 0.01), (0.67, 0.99), (0.01, 0.33), (0.99, 0.67)],
        [(0.31, 0.31), (0.69, 0.1), (0.1, 0.69)],
    ),
    # The tip above, arms at 38 % of the height, feet below at 19 and 81 % of the width; the notches are half as deep.
    "star": (
        [(0.5, 0.02), (0.03, 0.385), (0.97, 0.385), (0.2, 0.97), (0.8, 0.97), (0.5, 0.75), (0.37, 0.3)],
        [(0.4, 0.1), (0.3, 0.3), (0.7, 0.3), (0.5, 0.88), (0.1, 0.6), (0.9, 0.6), (0.02, 0.98)],
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_has_its_outline(kind):
    for points, inside in zip(POINTS[kind], (True, False), strict=True):
        for x, y in points:
            assert scenes._inside(kind, np.array([x]), np.array([y]))[0] == inside, (x, y)


def test_textures_repeat_every_two_cells():
    """Stripes lie across; of checks the first is of the main colour; dots fill 0.36 of the area."""
    main, second = coverage("square", "striped", (0, 0, 1, 1))
    rows = np.arange(SIZE) % 16 >= 8
    assert np.array_equal(second, np.broadcast_to(rows[:, None], second.shape)) and np.array_equal(
        main, 1 - second
    )
    _, second = coverage("square", "checked", (0, 0, 1, 1))
    assert np.array_equal(second, rows[:, None] != rows[None])
    _, second = coverage("square", "dotted", (0, 0, 1, 1))
    dot = second[:16, :16]
    assert np.array_equal(second, np.tile(dot, (8, 8))) and np.array_equal(dot, dot[::-1, ::-1])
    assert dot.mean() == pytest.approx(np.pi * 0.34**2, rel=0.02) and dot[7:9, 7:9].min() == 1
    assert coverage("square", "plain", (0, 0, 1, 1))[1].max() == 0


def test_colours_and_grounds_are_painted_as_named():
    shapes = (
        scenes.Shape("square", "striped", ("red", "blue"), (0, 0, 0.5, 0.5), ""),
        scenes.Shape("square", "plain", ("yellow",), (0.25, 0.25, 0.75, 0.5), ""),
    )
    for split in scenes.SPLITS:
        grounds = ("teal",) if split == "plain" else ("teal", "beige")
        picture = draw(scenes.Scene(shapes, grounds, split, ""))
        for (x, y), colour in {
            (0, 0): COLOURS["red"],
            (31, 7): COLOURS["red"],
            (31, 8): COLOURS["blue"],
            (0, 63): COLOURS["blue"],
            (32, 32): COLOURS["yellow"],  # the later one lies in front
            (95, 63): COLOURS["yellow"],
            (63, 31): COLOURS["blue"],
            (0, 64): GROUNDS["beige" if split == "stacked" else "teal"],
            (63, 127): GROUNDS["beige" if split == "stacked" else "teal"],
            (64, 0): GROUNDS["beige" if split == "sideways" else "teal"],
            (96, 63): GROUNDS["beige" if split == "sideways" else "teal"],
        }.items():
            assert tuple(picture[y, x]) == colour, (split, x, y)


def test_areas_and_what_boxes_share():
    a, b = (0.0, 0.25, 0.5, 1.0), (0.25, 0.0, 1.0, 0.5)
    assert scenes.area(a) == 0.375 and scenes.intersection(a, b) == scenes.intersection(b, a) == 0.0625
    for apart in (
        (0.5, 0.25, 1.0, 1.0),
        (0.75, 0.0, 1.0, 1.0),
        (0.0, 0.0, 0.5, 0.25),
        (0.75, 0.0, 1.0, 0.1),
        (0.0, 0.0, 0.5, 0.1),
    ):
        assert scenes.intersection(a, apart) == 0


def share(of) -> float:
    return float(np.mean(list(of)))


def test_scenes_are_as_often_so_as_training_needs_them():
    counts = np.array([len(scene.shapes) for scene in SCENES])
    for count, often in enumerate((0.22, 0.26, 0.22, 0.16, 0.08, 0.06), start=1):
        assert share(counts == count) == pytest.approx(often, abs=0.05), count
    assert share(scene.split == "plain" for scene in SCENES) == pytest.approx(0.6, abs=0.06)
    assert share(scene.split == "sideways" for scene in SCENES) == pytest.approx(0.2, abs=0.05)
    assert all(len(set(scene.ground)) == 1 + (scene.split != "plain") for scene in SCENES)
    # Where there are many shapes, textured ones, which are larger, often do not fit.
    for few, least, most in ((True, 0.5, 0.6), (False, 0.08, 0.25)):
        some = [shape for scene in SCENES if (len(scene.shapes) <= 4) == few for shape in scene.shapes]
        assert least < share(shape.texture != "plain" for shape in some) < most, few
    crowded = [scene for scene in SCENES if len(scene.shapes) >= 4]
    assert share(any(overlaps(scene)) for scene in crowded) == pytest.approx(0.2, abs=0.08)


def test_boxes_are_smaller_where_there_are_many():
    """A side is stretched by a quarter at most, then rounded to the grid; and the largest boxes do come."""
    for count, largest in enumerate((0.6, 0.55, 0.5, 0.45, 0.4, 0.36), start=1):
        boxes = np.array(
            [shape.box for scene in SCENES if len(scene.shapes) == count for shape in scene.shapes]
        )
        sides = boxes[:, 2:] - boxes[:, :2]
        assert sides.max() <= min(0.6, largest * np.exp(0.25) + 4 / SIZE)
        assert np.sqrt(sides.prod(1)).max() > largest - 0.06
        # Large ones are the more frequent.
        plain = np.array(
            [s.texture == "plain" for scene in SCENES if len(scene.shapes) == count for s in scene.shapes]
        )
        assert np.median(np.sqrt(sides[plain].prod(1))) > (0.15 + largest) / 2 - 0.03
    stretched = np.array([(s.box[2] - s.box[0]) / (s.box[3] - s.box[1]) for s in ALL_SHAPES])
    assert share(stretched > 1) == pytest.approx(share(stretched < 1), abs=0.06)
    assert np.quantile(stretched, 0.95) > 1.3


def test_sizes_are_named_now_and_then_and_rightly():
    sides = {"small": [], "large": [], "": []}
    for shape in ALL_SHAPES:
        words = shape.phrase.split()
        size = next((word for word in ("small", "large") if word in words), "")
        sides[size].append(max(shape.box[2] - shape.box[0], shape.box[3] - shape.box[1]))
    assert max(sides["small"]) < 0.33 and min(sides["large"]) > 0.45
    # A fifth of them, but for the phrases that have no place for it.
    every = np.concatenate(list(sides.values()))
    for size, those in (("small", every < 0.33), ("large", every > 0.45)):
        assert 0.09 < len(sides[size]) / those.sum() < 0.22, size
    assert not any("a orange" in shape.phrase for shape in ALL_SHAPES)
    assert any("an orange" in shape.phrase for shape in ALL_SHAPES)


def test_a_second_colour_goes_without_saying_where_it_is_the_usual_one():
    textured = [shape for shape in ALL_SHAPES if shape.texture != "plain"]
    assert all(len(shape.colours) == 2 and shape.colours[0] != shape.colours[1] for shape in textured)
    usual = [s for s in textured if s.colours[1] == ("black" if s.colours[0] == "white" else "white")]
    assert share(shape in usual for shape in textured) == pytest.approx(0.2 + 0.8 / 7, abs=0.06)
    silent = [shape for shape in textured if shape.colours[1] not in shape.phrase]
    assert all(shape in usual for shape in silent)
    assert len(silent) / len(usual) == pytest.approx(0.5, abs=0.1)
    for texture in TEXTURES[1:]:
        assert share(shape.texture == texture for shape in textured) == pytest.approx(1 / 3, abs=0.06)


def test_prompts_name_the_ground_and_which_of_its_colours_lies_where():
    for scene in SCENES:
        first, last = scene.ground[0], scene.ground[-1]
        words = {
            "plain": f"a {first} ground",
            "sideways": f"{first} on the left and {last} on the right",
            "stacked": f"{first} above and {last} below",
        }[scene.split]
        listed = ", ".join([*(shape.phrase for shape in scene.shapes), words])
        assert scene.prompt in (listed, words, f"shapes{' on' if scene.split == 'plain' else ','} {words}")
    first_words = [scene.prompt.startswith("shapes") for scene in SCENES]
    assert share(first_words) == pytest.approx(0.35, abs=0.06)


def test_scenes_named_by_their_seeds_are_those_that_were_measured():
    """Figures, judges' answers and the model card's numbers name scenes by seed."""
    assert [deal(seed).prompt for seed in (0, 1, 7)] == [
        "shapes, beige on the left and teal on the right",
        "shapes, beige on the left and grey on the right",
        "shapes on a grey ground",
    ]
    assert [shape.phrase for shape in deal(3, count=2, kept_out=True).shapes] == [
        "a large checked cross, red and white",
        "a large striped cross, red and orange",
    ]
    assert np.array_equal(
        np.array([shape.box for shape in deal(4, count=3).shapes]) * SIZE,
        [[24, 64, 88, 128], [24, 32, 56, 64], [88, 88, 120, 120]],
    )


@pytest.mark.parametrize("edge", ["left", "right", "almost"])
def test_a_shape_at_an_edge_is_moved_inwards(edge):
    up_to = {"left": 0.25, "right": 1.0, "almost": 1 - 4 / SIZE}[edge]
    box = (up_to - 0.25, up_to - 0.25, up_to, up_to)
    shape = scenes.Shape("square", "plain", ("red",), box, "a red square")
    scene = scenes.Scene((shape,), ("teal",), "plain", "")
    moves = set()
    for seed in range(40):
        found = np.array(scenes.off_grid(scene, seed).shapes[0].box) * SIZE - np.array(box) * SIZE
        moves.add(tuple(found[:2]))
    sign = -1 if edge == "right" else 1
    assert {right for right, _ in moves} == {down for _, down in moves} == {sign * n for n in (1, 2, 3, 4)}
    assert len(moves) > 8  # right and down by themselves
