"""Scenes: pictures of a few coloured, textured shapes, drawn by code together with the words for them.

Everything follows from a seed. A shape fills its box; its texture is a wallpaper seen through the shape, the
same all over the picture. So a region and its phrase say exactly what is to be seen there, and the part of a
texture that a place shows hangs on the place alone, as a small model can learn it. Where two shapes overlap the
smaller one lies in front, which a model can tell from the boxes alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

SIZE = 128  # pixels a side
FIRST_SCENE = 2**32  # training's seeds; those below are for figures and tests

COLOURS = {
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (250, 225, 60),
    "green": (30, 150, 60),
    "blue": (35, 80, 215),
    "purple": (135, 50, 175),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
}
GROUNDS = {
    "grey": (125, 125, 130),
    "beige": (215, 195, 160),
    "teal": (50, 110, 110),
    "brown": (95, 65, 45),
}
SHAPES = ("circle", "square", "triangle", "ring", "star", "cross")
TEXTURES = ("plain", "striped", "checked", "dotted")
SPLITS = ("plain", "sideways", "stacked")

MOST_SHAPES = 6
OFTEN = (0.22, 0.26, 0.22, 0.16, 0.08, 0.06)  # how often a scene has 1, 2, 3, ... shapes
LARGEST = (0.6, 0.55, 0.5, 0.45, 0.4, 0.36)  # side of a box, of the picture, if it has 1, 2, 3, ... shapes
SMALLEST = 0.15
SMALLEST_TEXTURED = 0.36  # below, too few stripes, checks or dots are seen of a star or a ring
GRID = 8  # pixels that boxes are laid out on: a cell of the latent
PERIOD = 16  # pixels from stripe to stripe, check to check, dot to dot: two cells of the latent
SUPERSAMPLING = 3


@dataclass(frozen=True)
class Shape:
    """One shape of a scene.

    Args:
        kind: one of `SHAPES`.
        texture: one of `TEXTURES`.
        colours: names from `COLOURS`; one if plain, else the main one and that of stripes, checks or dots.
        box: (x0, y0, x1, y1), fractions of the picture; where it is dealt, edges lie on a grid of `GRID` pixels,
            but for the right and lower ones of the smallest and the largest boxes.
        phrase: what a person would call it.
    """

    kind: str
    texture: str
    colours: tuple[str, ...]
    box: tuple[float, float, float, float]
    phrase: str


@dataclass(frozen=True)
class Scene:
    """Shapes on a ground, back to front.

    Args:
        shapes: one to six, the larger ones first.
        ground: one or two names from `GROUNDS`.
        split: one of `SPLITS`: "plain", "sideways" (first colour left, second right) or "stacked" (first above second).
        prompt: the global prompt.
    """

    shapes: tuple[Shape, ...]
    ground: tuple[str, ...]
    split: str
    prompt: str


def is_kept_out(kind: str, colour: str) -> bool:
    """Say whether a shape of this main colour is left out of training, to measure composition."""
    return tuple(COLOURS).index(colour) == (3 * SHAPES.index(kind) + 1) % len(COLOURS)


# -- drawing ----------------------------------------------------------------------------------------------


def _inside(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Say which points of the unit square belong to the shape."""
    u, v = 2 * x - 1, 2 * y - 1
    radius = np.hypot(u, v)
    if kind == "circle":
        return radius <= 1
    if kind == "square":
        return np.ones_like(x, dtype=bool)
    if kind == "triangle":
        return np.abs(u) <= y
    if kind == "ring":
        return (radius <= 1) & (radius >= 0.5)
    if kind == "cross":
        return (np.abs(u) <= 0.36) | (np.abs(v) <= 0.36)
    return _inside_star(x, y)


def _inside_star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five-pointed star, stretched to touch all four sides of the unit square."""
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1, 0.5)
    corners = np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)
    low, high = corners.min(0), corners.max(0)
    corners = (corners - low) / (high - low)
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def _second_colour(texture: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Say which points have the texture's second colour; x and y are in periods of the texture."""
    x, y = x % 1, y % 1
    if texture == "striped":
        return y >= 0.5
    if texture == "checked":
        return (x >= 0.5) != (y >= 0.5)
    if texture == "dotted":
        return np.hypot(x - 0.5, y - 0.5) <= 0.34
    return np.zeros(x.shape, dtype=bool)


def pixel_box(box: tuple[float, float, float, float], width: int = SIZE, height: int = SIZE):
    """Return (x0, y0, x1, y1) in pixels, upper edges exclusive."""
    x0, y0, x1, y1 = box
    return round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)


def coverage(
    kind: str, texture: str, box: tuple[float, float, float, float], width: int = SIZE, height: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each pixel of a box shows the main and the second colour.

    A texture has `PERIOD` pixels at any size of the picture.

    Args:
        box: (x0, y0, x1, y1), fractions of the picture.
        width, height: of the picture, in pixels.

    Returns:
        Two arrays of the box's height and width in pixels, float32, 0 to 1; the rest of each pixel is what
        lies behind.
    """
    x0, y0, x1, y1 = pixel_box(box, width, height)
    return _coverage(kind, texture, x1 - x0, y1 - y0, x0 % PERIOD, y0 % PERIOD)


@lru_cache(maxsize=8192)
def _coverage(kind: str, texture: str, width: int, height: int, left: int, top: int):
    x = (np.arange(width * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    y = (np.arange(height * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    x, y = np.meshgrid(x, y)
    inside = _inside(kind, x / width, y / height)
    second = _second_colour(texture, (x + left) / PERIOD, (y + top) / PERIOD)
    return _box_mean(inside & ~second), _box_mean(inside & second)


def _box_mean(mask: np.ndarray) -> np.ndarray:
    h, w = mask.shape[0] // SUPERSAMPLING, mask.shape[1] // SUPERSAMPLING
    return mask.reshape(h, SUPERSAMPLING, w, SUPERSAMPLING).mean((1, 3), dtype=np.float32)


def draw_ground(ground: tuple[str, ...], split: str, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    """Return the empty ground, (height, width, 3), float32, 0 to 255."""
    picture = np.empty((height, width, 3), dtype=np.float32)
    picture[:] = GROUNDS[ground[0]]
    if split == "sideways":
        picture[:, width // 2 :] = GROUNDS[ground[1]]
    elif split == "stacked":
        picture[height // 2 :] = GROUNDS[ground[1]]
    return picture


def draw_shapes(picture: np.ndarray, shapes: Sequence[Shape]):
    """Draw shapes over a picture, (height, width, 3), float32, 0 to 255, the last one in front."""
    height, width = picture.shape[:2]
    for shape in shapes:
        x0, y0, x1, y1 = pixel_box(shape.box, width, height)
        main, second = coverage(shape.kind, shape.texture, shape.box, width, height)
        area = picture[y0:y1, x0:x1]
        colours = np.array([COLOURS[name] for name in shape.colours], dtype=np.float32)
        paint = main[..., None] * colours[0] + second[..., None] * colours[-1]
        area[:] = area * (1 - main - second)[..., None] + paint


def draw(scene: Scene, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    """Draw a scene, anti-aliased.

    Returns:
        (height, width, 3), uint8.
    """
    picture = draw_ground(scene.ground, scene.split, width, height)
    draw_shapes(picture, scene.shapes)
    return picture.round().clip(0, 255).astype(np.uint8)


# -- words ------------------------------------------------------------------------------------------------

PLAIN_PHRASES = ("a {size}{a} {kind}", "{size}{a} {kind}", "a {size}plain {a} {kind}", "a {size}{kind}, {a}")
TEXTURED_PHRASES = {
    "striped": (
        "a {size}{a} {kind} with {b} stripes",
        "a {size}{a} and {b} striped {kind}",
        "{kind} with {a} and {b} stripes",
        "a {size}striped {kind}, {a} and {b}",
    ),
    "checked": (
        "a {size}{a} {kind} with {b} checks",
        "a {size}{a} and {b} checked {kind}",
        "{kind} with {a} and {b} checks",
        "a {size}checked {kind}, {a} and {b}",
    ),
    "dotted": (
        "a {size}{a} {kind} with {b} dots",
        "a {size}{a} {kind}, dotted {b}",
        "{kind} in {a} with {b} dots",
        "a {size}dotted {kind}, {a} and {b}",
    ),
}
SHORT_PHRASES = ("a {size}{a} {texture} {kind}", "{texture} {kind}, {a}")  # second colour: white, or black


def _default_second(colour: str) -> str:
    return "black" if colour == "white" else "white"


def _phrase(rng: np.random.Generator, kind: str, texture: str, colours: tuple[str, ...], side: float) -> str:
    size = ""
    if rng.random() < 0.2:
        size = "small " if side < 0.33 else "large " if side > 0.45 else ""
    if texture == "plain":
        forms = PLAIN_PHRASES
    elif colours[1] == _default_second(colours[0]) and rng.random() < 0.5:
        forms = SHORT_PHRASES
    else:
        forms = TEXTURED_PHRASES[texture]
    form = forms[rng.integers(len(forms))]
    phrase = form.format(size=size, a=colours[0], b=colours[-1], kind=kind, texture=texture)
    return phrase.replace("a orange", "an orange")


def _ground_words(ground: tuple[str, ...], split: str) -> str:
    if split == "sideways":
        return f"{ground[0]} on the left and {ground[1]} on the right"
    if split == "stacked":
        return f"{ground[0]} above and {ground[1]} below"
    return f"a {ground[0]} ground"


def _prompt(rng: np.random.Generator, shapes: tuple[Shape, ...], ground: tuple[str, ...], split: str) -> str:
    words = _ground_words(ground, split)
    form = rng.random()
    if form < 0.35:
        return ", ".join([shape.phrase for shape in shapes] + [words])
    if form < 0.7:
        return f"shapes on {words}" if split == "plain" else f"shapes, {words}"
    return words


# -- dealing out ------------------------------------------------------------------------------------------


def _deal_look(rng: np.random.Generator, kept_out: bool, textured: bool) -> tuple[str, str, tuple[str, ...]]:
    names = tuple(COLOURS)
    while True:
        kind, colour = SHAPES[rng.integers(len(SHAPES))], names[rng.integers(len(names))]
        if is_kept_out(kind, colour) == kept_out:
            break
    if not textured:
        return kind, "plain", (colour,)
    second = _default_second(colour) if rng.random() < 0.2 else colour
    while second == colour:
        second = names[rng.integers(len(names))]
    return kind, TEXTURES[1 + rng.integers(3)], (colour, second)


def _deal_box(rng: np.random.Generator, textured: bool, most: float) -> tuple[float, float, float, float]:
    low = SMALLEST_TEXTURED if textured else SMALLEST
    side = low + (most - low) * rng.random() ** 0.5  # small ones are rarer: there is less to see in them
    stretch = np.exp(rng.uniform(-0.25, 0.25))
    width, height = (_pixels(np.clip(s, low, LARGEST[0])) for s in (side * stretch, side / stretch))
    x0, y0 = (GRID * int(rng.integers((SIZE - length) // GRID + 1)) for length in (width, height))
    return x0 / SIZE, y0 / SIZE, (x0 + width) / SIZE, (y0 + height) / SIZE


def _pixels(side: float) -> int:
    """Round a side to cells of the grid, within the bounds for boxes."""
    bounds = math.ceil(SMALLEST * SIZE), math.floor(LARGEST[0] * SIZE)
    return int(np.clip(GRID * round(side * SIZE / GRID), *bounds))


def area(box: tuple[float, float, float, float]) -> float:
    """Area of a box, xyxy."""
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def intersection(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Area that two boxes share."""
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _fits(box, placed: list, overlap: float) -> bool:
    return all(intersection(box, other) <= overlap * min(area(box), area(other)) for other in placed)


def deal(seed: int, count: int | None = None, kept_out: bool = False) -> Scene:
    """Deal out one scene.

    Args:
        seed: everything follows from it.
        count: how many shapes, 1 to 6; None lets the seed choose.
        kept_out: every shape has a combination of attributes that training never shows; else none has.
    """
    rng = np.random.default_rng(seed)
    drawn = int(rng.choice(MOST_SHAPES, p=OFTEN)) + 1
    count = count or drawn
    overlap = 0.2 if rng.random() < 0.2 else 0.0
    often_textured = 0.55 if count <= 4 else 0.25
    boxes, looks = [], []
    while len(boxes) < count:
        boxes, looks = [], []
        for _ in range(count):
            textured = rng.random() < often_textured
            for _ in range(40):
                box = _deal_box(rng, textured, LARGEST[count - 1])
                if _fits(box, boxes, overlap):
                    boxes.append(box)
                    looks.append(_deal_look(rng, kept_out, textured))
                    break
    shapes = tuple(
        Shape(*look, box, _phrase(rng, *look, max(box[2] - box[0], box[3] - box[1])))
        for look, box in zip(looks, boxes, strict=True)
    )
    shapes = tuple(sorted(shapes, key=lambda shape: -area(shape.box)))
    split = str(rng.choice(SPLITS, p=(0.6, 0.2, 0.2)))
    ground = tuple(str(n) for n in rng.permutation(tuple(GROUNDS))[: 1 if split == "plain" else 2])
    return Scene(shapes, ground, split, _prompt(rng, shapes, ground, split))


def off_grid(scene: Scene, seed: int) -> Scene:
    """Move every shape by up to half a cell in both directions, off the grid that boxes lie on in training."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, GRID // 2 + 1, size=(len(scene.shapes), 2))
    shapes = (_moved(shape, *step) for shape, step in zip(scene.shapes, steps, strict=True))
    return replace(scene, shapes=tuple(shapes))


def _moved(shape: Shape, right: int, down: int) -> Shape:
    x0, y0, x1, y1 = pixel_box(shape.box)
    right = right if x1 + right <= SIZE else -right
    down = down if y1 + down <= SIZE else -down
    edges = (x0 + right, y0 + down, x1 + right, y1 + down)
    return replace(shape, box=tuple(float(edge) / SIZE for edge in edges))
