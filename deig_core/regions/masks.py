"""Regions as masks of a picture's size, for whatever else in a graph works by masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .raster import covers_stroke, stroke_of
from .region import Region, Regions

OVERLAPS = ("share", "front")


@dataclass(frozen=True)
class MaskOptions:
    """What is done to each mask, in this order.

    Args:
        grow: how far the place reaches beyond itself, in pixels; below 0 it shrinks. What is new takes the value of
            the nearest pixel inside. The picture's own edge is no edge of a place.
        overlap: "share" leaves overlaps to all; "front" takes them from the regions further back.
        feather: how wide the edge's ramp from 0 to 1 is, in pixels, half of it inside and half outside; 0: none.
    """

    grow: int = 0
    overlap: str = "share"
    feather: int = 0

    def __post_init__(self):
        if self.overlap not in OVERLAPS:
            raise ValueError(f"overlap is {self.overlap!r}; it is one of {', '.join(OVERLAPS)}.")
        if self.feather < 0:
            raise ValueError(f"feather is {self.feather}; it is a width in pixels, 0 or more.")


def region_masks(
    regions: Regions, size: tuple[int, int], options: MaskOptions = MaskOptions()
) -> torch.Tensor:
    """Lay regions onto a picture's pixels.

    Args:
        regions: N regions, one or more, back to front.
        size: (height, width) in pixels.

    Returns:
        (N, height, width), float32, 0 to 1. A region that lies wholly behind others is all 0 where they do not
        share.
    """
    masks = torch.stack([_grown(_pixels_of(region, size), options.grow) for region in regions])
    if options.overlap == "front":
        masks = _in_front(masks)
    return _feathered(masks, options.feather)


def union(masks: torch.Tensor) -> torch.Tensor:
    """(N, height, width) -> (1, height, width): the largest value of each pixel."""
    return masks.amax(0, keepdim=True)


def _pixels_of(region: Region, size: tuple[int, int]) -> torch.Tensor:
    height, width = size
    if region.mask is not None:
        values = torch.as_tensor(region.mask.values, dtype=torch.float32)
        if values.shape == size:
            return values
        resized = F.interpolate(values[None, None], size, mode="bilinear", antialias=True)[0, 0]
        return resized.clamp(0, 1)
    stroke = stroke_of(region)
    if stroke is not None:
        ys, xs = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
        return covers_stroke(*stroke, size, ys, xs).float()
    x0, y0, x1, y1 = region.box
    place = torch.zeros(size)
    place[_covered(y0, y1, height), _covered(x0, x1, width)] = 1
    return place


def _covered(low: float, high: float, pixels: int) -> slice:
    """The pixels of an interval in fractions: edges rounded, but never none."""
    first, end = round(low * pixels), round(high * pixels)
    if end <= first:
        first = min(int((low + high) / 2 * pixels), pixels - 1)
        end = first + 1
    return slice(first, end)


def _grown(place: torch.Tensor, by: int) -> torch.Tensor:
    """(height, width) -> the same, grown or shrunk by a distance in pixels."""
    from scipy.ndimage import distance_transform_edt

    inside = place.numpy() > 0
    if not by or inside.all() or not inside.any():
        return place
    if by < 0:
        return place * torch.from_numpy(distance_transform_edt(inside) > -by)
    distances, (rows, columns) = distance_transform_edt(~inside, return_indices=True)
    nearest = place[torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(columns.astype(np.int64))]
    return nearest * torch.from_numpy(distances <= by)


def _in_front(masks: torch.Tensor) -> torch.Tensor:
    """Take from each mask what the later ones cover; a soft edge in front lets as much through as it lacks."""
    covered = torch.zeros_like(masks[0])
    kept: list[torch.Tensor] = []
    for mask in masks.flip(0):
        kept.append(mask * (1 - covered))
        covered = torch.maximum(covered, mask)
    return torch.stack(kept[::-1])


def _feathered(masks: torch.Tensor, width: int) -> torch.Tensor:
    """(N, height, width): edges become a ramp `width` pixels wide. Beyond the picture's edge it goes on as there."""
    if not width:
        return masks
    for axis in (1, 2):
        # A box filter makes a ramp of its own width; its middle lies between pixels where the width is even.
        before, after = width // 2, (width - 1) // 2
        padding = (0, 0, before, after) if axis == 1 else (before, after, 0, 0)
        kernel = (width, 1) if axis == 1 else (1, width)
        masks = F.avg_pool2d(F.pad(masks[:, None], padding, mode="replicate"), kernel, stride=1)[:, 0]
    return masks


def empty_ones(masks: torch.Tensor, regions: Sequence[Region]) -> list[str]:
    """The phrases of the regions of which nothing is left."""
    return [region.phrase for region, mask in zip(regions, masks, strict=True) if not bool((mask > 0).any())]
