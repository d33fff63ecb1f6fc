"""A region's place in all the forms that UniFusion takes: box, point, scribble, polygon and mask.

InstanceDiffusion, section 3.1, and its own evaluation, which turn one form into others: a point out of a box, a
scribble and a polygon out of a mask. What a region has not and nothing gives stays zero, and the region is present
for the model all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..regions.region import Mask, Region
from .contours import POLYGON_POINTS, SCRIBBLE_POINTS, polygon_points, scattered_points, stroke_points

MASK_SIDE = 512
# A larger mask is thinned out before its outline is followed, which goes pixel by pixel.
MOST_PIXELS = 1024

Area = tuple[int, int, int, int]  # (height, width, y, x) of a crop in cells, as the host gives it
Frame = tuple[float, float, float, float]  # the same as xyxy, fractions of the image
WHOLE: Frame = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Places:
    """Where n regions lie on an image or a crop of it, in its own fractions.

    Args:
        boxes: (n, 4), xyxy.
        points: (n, 2).
        scribbles: (n, 40), x and y of 20 points in turn; zeros for none.
        polygons: (n, 512), x and y of 256 points in turn; zeros for none.
        masks: (n, 512, 512), 0 outside to 1 inside; None if no region has a mask.
    """

    boxes: torch.Tensor
    points: torch.Tensor
    scribbles: torch.Tensor
    polygons: torch.Tensor
    masks: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.boxes)


def frame_of(area: Area | None, latent_size: tuple[int, int]) -> Frame:
    """Return a crop of the latent, in cells, as fractions of the image."""
    if area is None:
        return WHOLE
    height, width, y, x = area
    rows, columns = latent_size
    return x / columns, y / rows, (x + width) / columns, (y + height) / rows


def is_inside(region: Region, frame: Frame = WHOLE) -> bool:
    """Tell whether any of a region lies in a frame: of its mask if it has one, else of its box."""
    if region.mask is not None:
        return bool(_cropped(region.mask, frame).any())
    x0, y0, x1, y1 = _within(region.box, frame)
    return x0 < x1 and y0 < y1


def places_of(regions: Sequence[Region], frame: Frame = WHOLE) -> Places:
    """Bring regions into all forms.

    Args:
        regions: n regions, all of which lie in the frame at least in part.
        frame: the part of the image that is looked at.
    """
    boxes = [_within(region.box, frame) for region in regions]
    masks = [
        None if region.mask is None else torch.tensor(_cropped(region.mask, frame), dtype=torch.float32)
        for region in regions
    ]
    filled = [None if mask is None else _filled(mask) for mask in masks]
    return Places(
        boxes=torch.tensor(boxes).reshape(-1, 4),
        points=torch.tensor(
            [_point(region, box, frame) for region, box in zip(regions, boxes, strict=True)]
        ).reshape(-1, 2),
        scribbles=_stacked(
            [_scribble(region, mask, frame) for region, mask in zip(regions, filled, strict=True)],
            SCRIBBLE_POINTS,
        ),
        polygons=_stacked([_polygon(mask) for mask in filled], POLYGON_POINTS),
        masks=_stacked_masks(masks),
    )


def _within(box: tuple[float, float, float, float], frame: Frame) -> tuple[float, float, float, float]:
    """Return a box in fractions of a frame, cut off at its edges."""
    corners = (_moved(box[:2], frame), _moved(box[2:], frame))
    return tuple(min(max(edge, 0.0), 1.0) for corner in corners for edge in corner)


def _moved(point: tuple[float, float], frame: Frame) -> tuple[float, float]:
    (x, y), (x0, y0, x1, y1) = point, frame
    return (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)


def _is_on_it(point: tuple[float, float]) -> bool:
    return 0 <= point[0] <= 1 and 0 <= point[1] <= 1


def _cropped(mask: Mask, frame: Frame) -> np.ndarray:
    values = mask.values  # asked for once: a mask read from text is decoded each time
    height, width = values.shape
    x0, y0, x1, y1 = frame
    left, top = min(round(x0 * width), width - 1), min(round(y0 * height), height - 1)
    return values[top : max(round(y1 * height), top + 1), left : max(round(x1 * width), left + 1)]


def _point(region: Region, box: tuple[float, ...], frame: Frame) -> tuple[float, float]:
    """Return the region's own point, or else the middle of its box; of one cut off, the middle of what is left."""
    if region.point is not None and _is_on_it(point := _moved(region.point, frame)):
        return point
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _scribble(region: Region, filled: np.ndarray | None, frame: Frame) -> np.ndarray:
    if region.scribble:
        points = [moved for point in region.scribble if _is_on_it(moved := _moved(point, frame))]
        if points:
            return stroke_points(np.array(points))
    if filled is not None:
        return _fractions(scattered_points(filled), filled)
    return np.zeros((SCRIBBLE_POINTS, 2))


def _polygon(filled: np.ndarray | None) -> np.ndarray:
    return np.zeros((POLYGON_POINTS, 2)) if filled is None else _fractions(polygon_points(filled), filled)


def _fractions(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    return np.minimum(points / (width, height), 1.0)


def _filled(mask: torch.Tensor) -> np.ndarray:
    """Return where a mask is at least half as strong as anywhere, as bool: soft masks have an outline too."""
    height, width = (min(side, MOST_PIXELS) for side in mask.shape)
    if (height, width) != tuple(mask.shape):
        mask = F.interpolate(mask[None, None], (height, width), mode="nearest")[0, 0]
    return (mask >= mask.max() / 2).numpy() & (mask > 0).numpy()


def _stacked(points: list[np.ndarray], count: int) -> torch.Tensor:
    """Return (n, 2 count), float32, from n times (count, 2)."""
    return torch.tensor(np.array(points), dtype=torch.float32).reshape(len(points), 2 * count)


def _stacked_masks(masks: list[torch.Tensor | None]) -> torch.Tensor | None:
    if all(mask is None for mask in masks):
        return None
    size = (MASK_SIDE, MASK_SIDE)
    empty = torch.zeros(size)
    return torch.stack(
        [
            empty if mask is None else F.interpolate(mask[None, None], size, mode="nearest")[0, 0]
            for mask in masks
        ]
    )
