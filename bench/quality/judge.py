"""Judges a painted picture against its scene, by comparing it with what the code would have drawn.

For every shape the box is compared with templates of all shapes and textures. A template splits the box into
pixels of the main colour, of the second colour and of what lies around; each part takes the colour that fits it
best, so the comparison is exact over all shapes, textures and colours. What other shapes cover is left out.
A ground of two colours is judged by what no shape covers.
"""

from dataclasses import dataclass

import numpy as np

from small_model.scenes import (
    COLOURS,
    GROUNDS,
    SHAPES,
    SIZE,
    TEXTURES,
    Scene,
    Shape,
    coverage,
    draw_ground,
    draw_shapes,
    pixel_box,
)

NAMES = tuple(COLOURS)
SHAPE_COLOURS = np.array(list(COLOURS.values()), dtype=np.float32)
GROUND_COLOURS = np.array(list(GROUNDS.values()), dtype=np.float32)
PALETTE = np.concatenate([SHAPE_COLOURS, GROUND_COLOURS])
NOTHING = len(NAMES)  # labels from here on are grounds

# A pixel further from its colour than this counts as that far and no further: a shape two pixels off is
# judged by its inside and not by its rim. Squared distance in RGB, 0 to 255.
FAR = 90.0**2
# Colours that take less of a shape than this do not count as its colours; one that takes as much is all its colour.
FEW, MOST = 0.12, 0.7
# A shape is there where at least this share of it does not look like ground.
THERE = 0.4
# Where no more of a ground's side is free than this share of the picture, it says nothing.
LITTLE = 0.01


@dataclass(frozen=True)
class Verdict:
    """What is found in one shape's box.

    Args:
        kind, texture, colours: what the picture shows, or None and () where nothing is.
        is_colour, is_kind, is_texture: whether that is what was asked for.
        iou: of the box around what is painted in its colours, right or wrong, with the box asked for; None
            where other shapes leave nothing of it to measure.
        leaked: share of the shape's pixels that have a colour of another shape of the scene and not its own.
    """

    kind: str | None
    texture: str | None
    colours: tuple[str, ...]
    is_colour: bool
    is_kind: bool
    is_texture: bool
    iou: float | None
    leaked: float

    @property
    def is_all(self) -> bool:
        """Whether colour, shape and texture are all right."""
        return self.is_colour and self.is_kind and self.is_texture


@dataclass(frozen=True)
class Judgement:
    """Verdicts on the shapes of a scene, in order, and on what lies between them.

    Args:
        shapes: one verdict for each shape.
        outside: share of the pixels outside all boxes that have a shape's colour.
        ground: whether both colours of the ground are on their sides; None where it has one colour, or where shapes
            cover a side.
    """

    shapes: tuple[Verdict, ...]
    outside: float
    ground: bool | None


def labels(picture: np.ndarray) -> np.ndarray:
    """Return the nearest colour of each pixel: (H, W), indices of shape colours, then of grounds."""
    return _distances(picture, PALETTE).argmin(-1)


def _distances(picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(H, W, 3) and (C, 3) -> (H, W, C), squared distances."""
    return ((picture[..., None, :].astype(np.float32) - colours) ** 2).sum(-1)


def judge(picture: np.ndarray, scene: Scene) -> Judgement:
    """Judge a picture.

    Args:
        picture: (128, 128, 3), uint8.
        scene: what it ought to show.
    """
    if picture.shape != (SIZE, SIZE, 3):
        raise ValueError(
            f"The picture has shape {picture.shape}; judged are pictures of ({SIZE}, {SIZE}, 3). "
            "Paint it at that size."
        )
    seen = labels(picture)
    verdicts = tuple(_judge_shape(picture, seen, scene, i) for i in range(len(scene.shapes)))
    outside = np.ones((SIZE, SIZE), dtype=bool)
    for shape in scene.shapes:
        x0, y0, x1, y1 = pixel_box(shape.box)
        # Two pixels of grace: the rim of a shape may lie there.
        outside[max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = False
    leaked = float((seen[outside] < NOTHING).mean()) if outside.any() else 0.0
    return Judgement(verdicts, leaked, _is_ground(seen, scene))


def _is_ground(seen: np.ndarray, scene: Scene) -> bool | None:
    """Say whether each of a ground's two colours has `MOST` of what is free on its side."""
    if scene.split == "plain":
        return None
    covered = np.zeros((SIZE, SIZE), dtype=bool)
    for shape in scene.shapes:
        covered |= _covered_by(shape)
    free = ~_grown(covered, 3)  # the rim of a shape may lie there
    half = SIZE // 2
    sides = (np.s_[:, :half], np.s_[:, half:]) if scene.split == "sideways" else (np.s_[:half], np.s_[half:])
    if min(free[side].sum() for side in sides) < LITTLE * SIZE**2:
        return None
    wanted = [NOTHING + tuple(GROUNDS).index(colour) for colour in scene.ground]
    shares = [(seen[side][free[side]] == label).mean() for side, label in zip(sides, wanted, strict=True)]
    return bool(min(shares) >= MOST)


def _covered_by(shape: Shape) -> np.ndarray:
    """Return which pixels belong to a shape, if only in part."""
    covered = np.zeros((SIZE, SIZE), dtype=bool)
    x0, y0, x1, y1 = pixel_box(shape.box)
    main, second = coverage(shape.kind, shape.texture, shape.box)
    covered[y0:y1, x0:x1] = main + second > 0
    return covered


def _covered_by_others(scene: Scene, index: int, in_front: bool) -> np.ndarray:
    """Return which pixels belong to other shapes: to those in front only, or to any."""
    covered = np.zeros((SIZE, SIZE), dtype=bool)
    for other in scene.shapes[index + 1 :] if in_front else scene.shapes:
        if other is not scene.shapes[index]:
            covered |= _covered_by(other)
    return covered


def _judge_shape(picture: np.ndarray, seen: np.ndarray, scene: Scene, index: int) -> Verdict:
    shape = scene.shapes[index]
    x0, y0, x1, y1 = pixel_box(shape.box)
    box = np.s_[y0:y1, x0:x1]
    visible = ~_covered_by_others(scene, index, in_front=True)
    main, second = coverage(shape.kind, shape.texture, shape.box)
    body = (main + second > 0.5) & visible[box]
    inside = seen[box][body]
    shares = _colour_shares(inside)
    colours = tuple(name for name, share in shares.items() if share >= FEW)
    leaked = _leaked(inside, scene, shape)
    iou = _painted_iou(np.isin(seen, [NAMES.index(name) for name in colours]), scene, index)
    if (inside < NOTHING).mean() < THERE:
        return Verdict(None, None, (), False, False, False, iou, leaked)
    # Behind this shape may lie larger ones as well as the ground; what is drawn there is known.
    behind = _drawn_behind(scene, index)[box]
    kind, texture = _best_template(shape.box, picture[box], behind, visible[box])
    found = colours[:1] if texture == "plain" else colours[:2]
    return Verdict(
        kind,
        texture,
        found,
        _has_colours(shares, shape),
        kind == shape.kind,
        texture == shape.texture,
        iou,
        leaked,
    )


def _colour_shares(inside: np.ndarray) -> dict[str, float]:
    """Return how much each shape colour has of all pixels that have one, the most frequent first."""
    counts = np.bincount(inside, minlength=len(PALETTE))[:NOTHING]
    return {NAMES[i]: counts[i] / max(counts.sum(), 1) for i in counts.argsort()[::-1]}


def _has_colours(shares: dict[str, float], shape: Shape) -> bool:
    """Say whether a shape is painted in its colours; which one has the dots counts, of stripes nobody can tell."""
    first, second, *_ = shares
    if shape.texture == "plain":
        return first == shape.colours[0] and shares[first] >= MOST
    if shares[second] < FEW:
        return False
    return (
        (first, second) == shape.colours
        or shape.texture != "dotted"
        and {first, second} == set(shape.colours)
    )


def _leaked(inside: np.ndarray, scene: Scene, shape: Shape) -> float:
    foreign = {name for other in scene.shapes for name in other.colours} - set(shape.colours)
    indices = [NAMES.index(name) for name in foreign]
    return float(np.isin(inside, indices).mean()) if inside.size else 0.0


def _drawn_behind(scene: Scene, index: int) -> np.ndarray:
    picture = draw_ground(scene.ground, scene.split)
    draw_shapes(picture, scene.shapes[:index])
    return picture


def _best_template(
    box: tuple[float, float, float, float], area: np.ndarray, behind: np.ndarray, visible: np.ndarray
) -> tuple[str, str]:
    """Return the shape and texture whose template, with its best colours, is nearest to what the box shows."""
    to_colours = np.minimum(_distances(area, SHAPE_COLOURS), FAR) * visible[..., None]
    # Around the shape the ground asked for may be there, or another: its colour is not judged here.
    to_ground = np.minimum(_distances(area, GROUND_COLOURS).min(-1), ((area - behind) ** 2).sum(-1))
    to_ground = np.minimum(to_ground, FAR) * visible
    costs = {}
    for kind in SHAPES:
        for texture in TEXTURES:
            main, second = coverage(kind, texture, box)
            cost = ((1 - main - second) * to_ground).sum()
            by_main = np.einsum("hw,hwc->c", main, to_colours)
            by_second = np.einsum("hw,hwc->c", second, to_colours)
            if texture == "plain":
                cost += by_main.min()
            else:
                both = by_main[:, None] + by_second[None]
                np.fill_diagonal(both, np.inf)  # one colour alone would be plain
                cost += both.min()
            costs[kind, texture] = cost
    return min(costs, key=costs.get)


def _painted_iou(painted: np.ndarray, scene: Scene, index: int) -> float | None:
    """Compare the box asked for with the box around the painted pixels in and near it.

    Pixels of other shapes may be painted in the same colour, so both boxes are drawn around what is left
    without these: the painted pixels, and those that the shape would have. Paint further away than half the
    longer side is not taken for this shape's.

    Args:
        painted: (128, 128), whether a pixel has a colour that the shape is painted in.
    """
    shape = scene.shapes[index]
    x0, y0, x1, y1 = pixel_box(shape.box)
    grace = round(0.5 * max(x1 - x0, y1 - y0))
    near = np.zeros((SIZE, SIZE), dtype=bool)
    near[max(y0 - grace, 0) : y1 + grace, max(x0 - grace, 0) : x1 + grace] = True
    near &= ~_grown(_covered_by_others(scene, index, in_front=False), 3)
    wanted = np.zeros((SIZE, SIZE), dtype=bool)
    main, second = coverage(shape.kind, shape.texture, shape.box)
    wanted[y0:y1, x0:x1] = main + second > 0.5
    if not (wanted & near).any():
        return None
    return _iou(_bounds(painted & near), _bounds(wanted & near))


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    for _ in range(by):
        padded = np.pad(mask, 1)
        mask = mask | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    return mask


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box around a mask, without rows and columns of a single stray pixel."""
    columns, rows = np.flatnonzero(mask.sum(0) > 1), np.flatnonzero(mask.sum(1) > 1)
    if not len(columns) or not len(rows):
        return 0, 0, 0, 0
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    shared = width * height
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / both) if both else 0.0
