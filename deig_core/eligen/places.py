"""Which image tokens an entity covers.

The released weights were trained with mask images, shrunk to the latent's cells by taking one pixel for each,
and a token counts if any of its four cells does. A box, a stroke and a point are laid out as a mask image of
them would be. What that rule loses, because it is thinner than a cell, keeps all that it touches: no entity
vanishes.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..regions.raster import CELL_PIXELS, cell_places, covers_stroke, stroke_of
from ..regions.region import Region

TOKEN_CELLS = 2  # FLUX.1 and Qwen-Image make one token of 2 x 2 cells
INSIDE = 0.5  # a mask has no half tones here: grey above it is inside


def entity_cells(regions: Sequence[Region], latent_size: tuple[int, int]) -> torch.Tensor:
    """Lay entities onto the cells of the latent.

    Args:
        regions: N regions.
        latent_size: (height, width) of the latent, in cells of 8 pixels.

    Returns:
        (N, height, width), bool; each entity has at least one cell.
    """
    cells = [_cells_of(region, latent_size) for region in regions]
    return torch.stack(cells) if cells else torch.zeros(0, *latent_size, dtype=torch.bool)


def entity_tokens(cells: torch.Tensor) -> torch.Tensor:
    """Pool entities from the latent's cells to image tokens.

    Args:
        cells: (N, h, w), bool, on the cells of a latent, or of a crop of it.

    Returns:
        (N, rows, columns), bool: (h, w) halved, rounding up.
    """
    return F.max_pool2d(cells[:, None].float(), TOKEN_CELLS, ceil_mode=True)[:, 0] > 0


def _cells_of(region: Region, latent_size: tuple[int, int]) -> torch.Tensor:
    place = _sampled(region, latent_size)
    return place if place.any() else _touched(region, latent_size)


def _sampled(region: Region, latent_size: tuple[int, int]) -> torch.Tensor:
    """Look at one pixel of each cell, the one right and below of its middle."""
    if region.mask is not None:
        values = region.mask.values
        rows, columns = (_nearest(size, cells) for size, cells in zip(values.shape, latent_size, strict=True))
        return torch.as_tensor(values[np.ix_(rows, columns)] > INSIDE)
    height, width = (size * CELL_PIXELS for size in latent_size)
    ys, xs = (torch.arange(size) * CELL_PIXELS + CELL_PIXELS // 2 for size in latent_size)
    stroke = stroke_of(region)
    if stroke is not None:
        return covers_stroke(*stroke, (height, width), ys[:, None] + 0.5, xs[None, :] + 0.5)
    x0, y0, x1, y1 = region.box
    inside_y = (ys >= round(y0 * height)) & (ys < round(y1 * height))
    inside_x = (xs >= round(x0 * width)) & (xs < round(x1 * width))
    return inside_y[:, None] & inside_x[None, :]


def _nearest(pixels: int, cells: int) -> np.ndarray:
    """Return the pixel that each cell takes: the one at its middle, summed up step by step as Pillow does it."""
    scale = pixels / cells
    middles = np.cumsum(np.concatenate(([scale * 0.5], np.full(cells - 1, scale))))
    return np.minimum(middles.astype(np.int64), pixels - 1)


def _touched(region: Region, latent_size: tuple[int, int]) -> torch.Tensor:
    values = cell_places([region], latent_size)[0]
    # A mask that is faint everywhere still lies somewhere: where it is brightest.
    return values > INSIDE if (values > INSIDE).any() else values == values.max()
