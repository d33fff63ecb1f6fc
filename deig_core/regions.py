"""Regions: what goes where. A region is a phrase and a place, in fractions of the image."""

import math
from dataclasses import dataclass

import numpy as np

# Wide enough for the rounding of x + width and of a box that went through 7 digits of text, far below
# what anyone could see (a hundredth of a pixel at 4096).
EDGE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Mask:
    """A place of any shape. Two masks are equal only if they are one object, so that regions stay hashable.

    Args:
        values: (height, width), 0 outside the place to 1 inside it, over the whole image at any resolution.
    """

    values: np.ndarray


@dataclass(frozen=True)
class Region:
    """One instance: what is painted, and where.

    Args:
        phrase: what is to be seen there, in plain words.
        box: (x0, y0, x1, y1), xyxy, fractions of the image, origin top left.
        strength: how much image tokens attend to this instance: its logarithm is added to the instance's
            attention logits. 0 is absence, 1 changes nothing, above 1 is stronger.
        start_percent: where in the sampling schedule the region begins to act, 0 (first step) to 1.
        end_percent: where it stops acting, 0 to 1, not before `start_percent`.
        mask: the exact place, where it is not the whole box.
        scribble: points (x, y) of a stroke through the instance, fractions of the image.
        point: (x, y) of a point on the instance, fractions of the image.

    Raises:
        ValueError: naming the region and what is wrong with it.
    """

    phrase: str
    box: tuple[float, float, float, float]
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    mask: Mask | None = None
    scribble: tuple[tuple[float, float], ...] | None = None
    point: tuple[float, float] | None = None

    def __post_init__(self):
        if not isinstance(self.phrase, str) or not self.phrase.strip():
            raise ValueError(
                f"A region needs a phrase, but this one is empty: {self.phrase!r}. "
                "Describe what is to be painted there, for example 'a red ceramic mug'."
            )
        object.__setattr__(self, "box", self._checked_box())
        self._check_number("strength", self.strength, 0.0, math.inf)
        self._check_number("start_percent", self.start_percent, 0.0, 1.0)
        self._check_number("end_percent", self.end_percent, 0.0, 1.0)
        if self.start_percent > self.end_percent:
            raise ValueError(
                f"The region {self.phrase!r} starts at {self.start_percent} and ends at {self.end_percent}: "
                "start_percent must not come after end_percent."
            )

    def _checked_box(self) -> tuple[float, float, float, float]:
        box = tuple(float(edge) for edge in self.box)
        if len(box) != 4:
            raise ValueError(
                f"The region {self.phrase!r} has a box of {len(box)} numbers; it takes x0, y0, x1, y1."
            )
        if not all(math.isfinite(edge) for edge in box):
            raise ValueError(f"The region {self.phrase!r} has a box with a number that is not finite: {box}.")
        if any(edge < -EDGE_TOLERANCE or edge > 1 + EDGE_TOLERANCE for edge in box):
            raise ValueError(
                f"The region {self.phrase!r} lies outside the image: x from {box[0]:g} to {box[2]:g}, "
                f"y from {box[1]:g} to {box[3]:g}. Boxes are fractions of the image, so every edge must lie "
                "in 0 to 1; divide pixels by the image's width and height."
            )
        x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in box)
        if x1 <= x0 or y1 <= y0:
            raise ValueError(
                f"The region {self.phrase!r} has no area: x from {x0:g} to {x1:g}, y from {y0:g} to {y1:g}. "
                "Give it a width and a height above 0."
            )
        return x0, y0, x1, y1

    def _check_number(self, name: str, value: float, low: float, high: float):
        # `not (low <= value <= high)` also catches NaN.
        if not (low <= value <= high) or value == math.inf:
            limits = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise ValueError(f"The region {self.phrase!r} has {name} {value}; it takes {limits}.")


# A chain of regions, in order: where two overlap, the later one lies in front.
Regions = tuple[Region, ...]
