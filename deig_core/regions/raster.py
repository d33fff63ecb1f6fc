"""Rasterising: which image tokens belong to which region, at any image size and any token grid.

A region is first laid onto the cells of the latent (8x8 pixels each), then pooled to the grid of whichever
block asks. Pooling keeps the largest value, so whatever a region touches counts as its place, and two
poolings in a row give what one would: the latent's cells hold all that the coarser grids need.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .region import POINT_RADIUS, SCRIBBLE_RADIUS, Region

CELL_PIXELS = 8

# The released model was trained with places grown by this many tokens each way at its two coarsest grids,
# whose tokens are 32 and 64 pixels wide.
GROWTH_BY_TOKEN_PIXELS = {32: 1, 64: 2}


def cell_places(regions: Sequence[Region], latent_size: tuple[int, int]) -> torch.Tensor:
    """Lay regions onto the latent.

    Args:
        regions: N regions.
        latent_size: (height, width) of the latent, in cells of 8 pixels.

    Returns:
        (N, height, width), float32, above 0 where the region touches the cell: 1, or the mask's value. Each
        region has at least one cell.
    """
    places = [_cells_of(region, latent_size) for region in regions]
    return torch.stack(places) if places else torch.zeros(0, *latent_size)


def _cells_of(region: Region, latent_size: tuple[int, int]) -> torch.Tensor:
    if region.mask is not None:
        # Each cell takes the largest of all mask pixels that it touches, whatever the mask's resolution.
        values = torch.as_tensor(region.mask.values, dtype=torch.float32)
        return F.adaptive_max_pool2d(values[None], latent_size)[0]
    stroke = stroke_of(region)
    if stroke is not None:
        return _stroke(*stroke, latent_size)
    x0, y0, x1, y1 = region.box
    place = torch.zeros(latent_size)
    place[_covered_cells(y0, y1, latent_size[0]), _covered_cells(x0, x1, latent_size[1])] = 1
    return place


def stroke_of(region: Region) -> tuple[Sequence[tuple[float, float]], float] | None:
    """Return a scribble's or a point's polyline and radius, or None for a region without; see `covers_stroke`."""
    if region.scribble:
        return region.scribble, _or_default(region.radius, SCRIBBLE_RADIUS)
    if region.point:
        return (region.point,), _or_default(region.radius, POINT_RADIUS)
    return None


def _or_default(radius: float | None, usual: float) -> float:
    return usual if radius is None else radius


def covers_stroke(
    points: Sequence[tuple[float, float]],
    radius: float,
    size: tuple[int, int],
    ys: torch.Tensor,
    xs: torch.Tensor,
) -> torch.Tensor:
    """Tell which places of an image a polyline, grown by a radius, covers; a single point is a disc.

    Args:
        points: (x, y), fractions of the image.
        radius: fraction of the image's shorter side.
        size: (height, width) of the image, in pixels.
        ys, xs: the places asked for, in pixels, (h, 1) and (1, w); a pixel's centre lies at a half.

    Returns:
        (h, w), bool
    """
    height, width = size
    reach = max(radius * min(height, width), 0.75)  # however thin, it meets the pixels that it runs through
    inside = torch.zeros(ys.numel(), xs.numel(), dtype=torch.bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        ax, ay, bx, by = x0 * width, y0 * height, x1 * width, y1 * height
        length2 = (bx - ax) ** 2 + (by - ay) ** 2
        along = (((xs - ax) * (bx - ax) + (ys - ay) * (by - ay)) / length2).clamp(0, 1) if length2 else 0.0
        inside |= (xs - ax - along * (bx - ax)) ** 2 + (ys - ay - along * (by - ay)) ** 2 <= reach**2
    return inside


def _stroke(
    points: Sequence[tuple[float, float]], radius: float, latent_size: tuple[int, int]
) -> torch.Tensor:
    """Lay a polyline, grown by a radius, onto the latent's cells; a single point is a disc.

    A cell is touched where the stroke's middle line comes within the radius of any of its pixels' centres.

    Args:
        points: (x, y), fractions of the image.
        radius: fraction of the image's shorter side.
    """
    height, width = (size * CELL_PIXELS for size in latent_size)
    ys, xs = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
    inside = covers_stroke(points, radius, (height, width), ys, xs)
    return F.max_pool2d(inside[None].float(), CELL_PIXELS)[0]


def _covered_cells(low: float, high: float, cells: int) -> slice:
    """Return the cells that the pixels of an interval, given in fractions, touch."""
    pixels = cells * CELL_PIXELS
    first, end = round(low * pixels), round(high * pixels)
    if end <= first:  # thinner than a pixel: it keeps the one at its middle
        first = min(int((low + high) / 2 * pixels), pixels - 1)
        end = first + 1
    return slice(first // CELL_PIXELS, -(-end // CELL_PIXELS))


def token_places(
    cells: torch.Tensor, latent_size: tuple[int, int], grid: tuple[int, int], front: bool = False
) -> torch.Tensor:
    """Pool places from the latent's cells to a grid of image tokens.

    Args:
        cells: (N, h, w), 0 to 1, places on the cells of a latent, or of a crop of it.
        latent_size: (h, w) of that latent or crop.
        grid: (rows, columns) of the tokens.
        front: where places overlap, give the tokens to the later region instead of sharing them.

    Returns:
        (N, rows, columns), 0 to 1.
    """
    stride = _stride(latent_size, grid)
    if stride is None:
        places = F.adaptive_max_pool2d(cells[:, None], grid)[:, 0]
    else:
        places = F.max_pool2d(cells[:, None], stride, ceil_mode=True)[:, 0]
    wide = token_pixels(latent_size, grid)
    growth = max((by for pixels, by in GROWTH_BY_TOKEN_PIXELS.items() if wide >= pixels), default=0)
    if growth:
        places = F.max_pool2d(places[:, None], 2 * growth + 1, stride=1, padding=growth)[:, 0]
    return later_in_front(places) if front else places


def token_pixels(latent_size: tuple[int, int], grid: tuple[int, int]) -> float:
    """Return how many pixels of the picture a token of a grid is wide, at the longer of its sides."""
    stride = _stride(latent_size, grid)
    if stride is not None:
        return CELL_PIXELS * stride
    return CELL_PIXELS * max(size / tokens for size, tokens in zip(latent_size, grid, strict=True))


def spread_tokens(values: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
    """Give every cell of a latent, or of a crop of it, the value of the token that it lies in.

    Args:
        values: (..., rows, columns), by token.
        latent_size: (h, w) of that latent or crop.

    Returns:
        (..., h, w)
    """
    grid = tuple(values.shape[-2:])
    stride = _stride(latent_size, grid)
    rows, columns = (
        torch.arange(size) // stride if stride is not None else torch.arange(size) * tokens // size
        for size, tokens in zip(latent_size, grid, strict=True)
    )
    return values[..., rows[:, None], columns]


def _stride(latent_size: tuple[int, int], grid: tuple[int, int]) -> int | None:
    """Return how many cells a token spans, if the grid came from the latent by halvings (rounding up)."""
    stride = 1
    while stride <= max(latent_size):
        if all(math.ceil(size / stride) == tokens for size, tokens in zip(latent_size, grid, strict=True)):
            return stride
        stride *= 2
    return None


def later_in_front(places: torch.Tensor) -> torch.Tensor:
    """Give every contested token to the last region that claims it.

    A region that would lose all its tokens keeps one, the nearest to the middle of its place, and shares it
    with the one in front, so that nothing vanishes.

    Args:
        places: (N, rows, columns), 0 where a region is not.
    """
    claimed = places > 0
    later = claimed.flip(0).cumsum(0).flip(0) - claimed.int()
    kept = places * (later == 0)
    for i in range(len(places)):
        if claimed[i].any() and not kept[i].any():
            row, column = _middle_token(claimed[i])
            kept[i, row, column] = places[i, row, column]
    return kept


def _middle_token(claimed: torch.Tensor) -> tuple[int, int]:
    tokens = claimed.nonzero()
    distances = (tokens - tokens.float().mean(0)).square().sum(1)
    return tuple(tokens[distances.argmin()].tolist())


def crop_boxes(
    boxes: torch.Tensor, latent_size: tuple[int, int], area: tuple[int, int, int, int]
) -> torch.Tensor:
    """Express boxes in fractions of a crop of the image, cut off at its edges.

    Args:
        boxes: (N, 4), xyxy, fractions of the whole image.
        latent_size: (height, width) of the whole latent, in cells.
        area: (height, width, y, x) of the crop, in cells, as the host gives it.
    """
    height, width, y, x = area
    whole = boxes.new_tensor([latent_size[1], latent_size[0]] * 2)
    corner, size = boxes.new_tensor([x, y] * 2), boxes.new_tensor([width, height] * 2)
    return ((boxes * whole - corner) / size).clamp(0, 1)
