"""Points on and in a mask: the outline followed from pixel to pixel, and an even choice of what lies inside.

The released weights were trained with outlines as scikit-image's `find_contours` draws them at level 0 (marching
squares, Lorensen and Cline 1987). Which of an outline's points are chosen depends on where it begins, so beginnings
and order follow that function; it is not among what the host brings.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np

POLYGON_POINTS = 256
SCRIBBLE_POINTS = 20

Point = tuple[int, int]  # (row, column)

# The parts of an outline in a square of four pixels, by which of them are filled: 1 top left, 2 top right, 4 bottom
# left, 8 bottom right. Each goes from one side of the square to another with the filled pixels on the same hand.
# Squares filled at two opposite corners have two parts, which keep the corners apart.
TOP, RIGHT, BOTTOM, LEFT = range(4)
PARTS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((TOP, LEFT),),
    2: ((RIGHT, TOP),),
    3: ((RIGHT, LEFT),),
    4: ((LEFT, BOTTOM),),
    5: ((TOP, BOTTOM),),
    6: ((RIGHT, TOP), (LEFT, BOTTOM)),
    7: ((RIGHT, BOTTOM),),
    8: ((BOTTOM, RIGHT),),
    9: ((TOP, LEFT), (BOTTOM, RIGHT)),
    10: ((BOTTOM, TOP),),
    11: ((BOTTOM, LEFT),),
    12: ((LEFT, RIGHT),),
    13: ((TOP, RIGHT),),
    14: ((LEFT, TOP),),
}
# The two pixels at the ends of each side, as numbers of the square's pixels (row-major).
SIDES = {TOP: (0, 1), RIGHT: (1, 3), BOTTOM: (2, 3), LEFT: (0, 2)}


def polygon_points(mask: np.ndarray, count: int = POLYGON_POINTS) -> np.ndarray:
    """Choose points of a mask: half of them along its outlines, half inside, the nearest to the corner first.

    InstanceDiffusion, section 3.1: masks as points. Where a mask has fewer pixels than are wanted inside, they are
    drawn with repetition, here always the same ones.

    Args:
        mask: (height, width), bool.
        count: how many points; even.

    Returns:
        (count, 2), float64, x and y in pixels; zeros for an empty mask.
    """
    outline = outlines(mask)
    if not len(outline):
        return np.zeros((count, 2))
    on = outline[np.linspace(0, len(outline) - 1, count // 2).astype(int)]
    return nearest_first(np.concatenate((_inside(mask, count - len(on)), on)))


def _inside(mask: np.ndarray, count: int) -> np.ndarray:
    """Choose filled pixels at even steps of the distance from their middle: (count, 2), x and y."""
    pixels = np.argwhere(mask)
    if len(pixels) < count:
        return pixels[_drawn(len(pixels), count)][:, ::-1].astype(float)
    pixels = pixels[np.argsort(_length(pixels - pixels.mean(0)), kind="stable")]
    step = len(pixels) // count
    return pixels[np.arange(count) * step + step // 2][:, ::-1].astype(float)


def scattered_points(mask: np.ndarray, count: int = SCRIBBLE_POINTS) -> np.ndarray:
    """Draw filled pixels, none twice if there are enough, always the same ones of the same mask.

    Args:
        mask: (height, width), bool.

    Returns:
        (count, 2), float64, x and y in pixels, the nearest to the corner first; zeros for an empty mask.
    """
    pixels = np.argwhere(mask)
    if not len(pixels):
        return np.zeros((count, 2))
    return nearest_first(pixels[_drawn(len(pixels), count)][:, ::-1].astype(float))


def _drawn(among: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).choice(among, count, replace=among < count)


def stroke_points(points: np.ndarray, count: int = SCRIBBLE_POINTS) -> np.ndarray:
    """Choose points of a stroke at even steps, the nearest to the corner first.

    Args:
        points: (n, 2), n at least 1; fewer than `count` are repeated.

    Returns:
        (count, 2)
    """
    points = nearest_first(points)
    many = len(points) >= count
    steps = np.arange(count)
    return nearest_first(points[steps * (len(points) // count) if many else steps * len(points) // count])


def nearest_first(points: np.ndarray) -> np.ndarray:
    """Sort points (n, 2) by their distance to the origin."""
    return points[np.argsort(_length(points), kind="stable")]


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((np.asarray(vectors, dtype=float) ** 2).sum(1))


def outlines(mask: np.ndarray) -> np.ndarray:
    """Follow all outlines of a mask, one after the other.

    They run over the empty pixels next to filled ones, a margin around the mask included. Pixels are counted from that
    margin, so all points lie one pixel further right and down than the mask says: so the weights were trained.

    Args:
        mask: (height, width), bool.

    Returns:
        (n, 2), float64, x and y in pixels.
    """
    closed = []
    for line in _joined(_parts(np.pad(mask, 1))):
        if line[0] != line[-1]:
            line = [*line, line[0]]
        if len(line) >= 3:
            closed.append(np.array(line, dtype=float)[:, ::-1])
    return np.concatenate(closed) if closed else np.zeros((0, 2))


def _parts(mask: np.ndarray) -> Iterator[tuple[Point, Point]]:
    """Find the outline's part in every square of four pixels, row by row."""
    squares = np.stack((mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]))
    cases = np.tensordot([1, 2, 4, 8], squares, 1)
    for row, column in np.argwhere((cases != 0) & (cases != 15)):
        corners = [(row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)]
        case = int(cases[row, column])
        for sides in PARTS[case]:
            # At level 0 an outline crosses a side at the end that is empty.
            begin, end = (
                next(tuple(map(int, corners[i])) for i in SIDES[side] if not case >> i & 1) for side in sides
            )
            if begin != end:
                yield begin, end


def _joined(parts: Iterator[tuple[Point, Point]]) -> list[list[Point]]:
    """Join parts into lines, in the order in which the lines were begun.

    Outlines may touch, so that two lines begin or end in one point; then the later one is the one that is found.
    """
    lines: dict[int, deque[Point]] = {}
    by_begin: dict[Point, int] = {}
    by_end: dict[Point, int] = {}
    for number, (begin, end) in enumerate(parts):
        after, before = by_begin.pop(end, None), by_end.pop(begin, None)
        if after is None and before is None:
            lines[number] = deque((begin, end))
            by_begin[begin] = by_end[end] = number
        elif before is None:
            lines[after].appendleft(begin)
            by_begin[begin] = after
        elif after is None:
            lines[before].append(end)
            by_end[end] = before
        elif after == before:
            lines[before].append(end)
        else:
            kept = min(after, before)
            if kept == before:
                lines[kept].extend(lines.pop(after))
            else:
                by_begin.pop(lines[before][0], None)
                lines[kept].extendleft(reversed(lines.pop(before)))
            by_begin[lines[kept][0]] = by_end[lines[kept][-1]] = kept
    return [list(lines[number]) for number in sorted(lines)]
