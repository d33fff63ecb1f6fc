"""Regions: what goes where. A region is a phrase and a place, in fractions of the image."""

import math
from dataclasses import dataclass

import numpy as np

# How far a scribble and a point reach, as a fraction of the image's shorter side: a stroke of a 20 pixel brush,
# and a thing a quarter of the side wide, on a 512 image.
SCRIBBLE_RADIUS = 0.02
POINT_RADIUS = 0.125

# Thinner than any pixel of any picture; a box as thin as this still survives being written as text.
LEAST_SIDE = 1e-6

# Wide enough for the rounding of x + width and of a box that went through 7 digits of text, far below
# what anyone could see (a hundredth of a pixel at 4096).
EDGE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Mask:
    """A place of any shape. Two masks are equal only if they are one object, so that regions stay hashable.

    Args:
        values: (height, width), 0 outside the place to 1 inside it, over the whole image at any resolution.

    Raises:
        ValueError: if it is empty, or not of numbers from 0 to 1.
    """

    values: np.ndarray

    def __post_init__(self):
        values = self.values
        if values.ndim != 2 or not values.size:
            raise ValueError(f"A region's mask has shape {values.shape}; it takes (height, width).")
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError("A region's mask holds values outside 0 to 1.")
        if not values.any():
            raise ValueError(
                "A region's mask is empty: no pixel of it is above 0. Paint the place white, or check that the mask "
                "is not inverted."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.values.shape

    def bounding_box(self) -> tuple[float, float, float, float]:
        """Return the box around all that is above 0: xyxy, fractions of the image."""
        rows, columns = (np.flatnonzero(self.values.any(axis)) for axis in (1, 0))
        height, width = self.values.shape
        return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


@dataclass(frozen=True, eq=False)
class RunLengthMask:
    """A hard mask kept as the lengths of its runs: a few bytes for millions of pixels, until they are used.

    It does what a `Mask` does. Its values are made anew whenever they are asked for, so ask once.

    Args:
        size: (height, width)
        runs: (R,), whole numbers: how many pixels lie outside, inside, outside and so on, down the columns.

    Raises:
        ValueError: if the runs do not fill the size, or no pixel lies inside.
    """

    size: tuple[int, int]
    runs: np.ndarray

    def __post_init__(self):
        height, width = self.size
        if self.runs.sum() != height * width:
            raise ValueError(f"The runs cover {self.runs.sum()} pixels of {height} x {width}.")
        if not self.runs[1::2].any():
            raise ValueError("A region's mask is empty: no pixel of it lies inside.")

    @property
    def values(self) -> np.ndarray:
        """(height, width), float32, 0 or 1"""
        height, width = self.size
        inside = np.arange(len(self.runs)) % 2
        columns = np.repeat(inside.astype(np.float32), self.runs)
        return columns.reshape(width, height).T  # W H -> H W

    def bounding_box(self) -> tuple[float, float, float, float]:
        """Return the box around all that lies inside: xyxy, fractions of the image."""
        height, width = self.size
        ends = np.cumsum(self.runs)
        firsts, lasts = (ends - self.runs)[1::2], ends[1::2] - 1
        there = lasts >= firsts
        firsts, lasts = firsts[there], lasts[there]
        # A run that goes on in the next column has been at the bottom of one and is at the top of the other.
        turns = (firsts // height != lasts // height).any()
        top = 0 if turns else (firsts % height).min()
        bottom = height if turns else (lasts % height).max() + 1
        left, right = firsts[0] // height, lasts[-1] // height + 1
        return float(left / width), float(top / height), float(right / width), float(bottom / height)


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
        mask: the exact place, where it is not the whole box; its values weigh as strength does.
        scribble: points (x, y) of a stroke through the instance, fractions of the image; the place is the
            stroke, `radius` wide each way. A mask goes before it.
        point: (x, y) of a point on the instance, fractions of the image; the place is the disc around it. A
            mask or a scribble goes before it.
        radius: of the stroke or the disc, as a fraction of the image's shorter side; None: the usual one.

    Raises:
        ValueError: naming the region and what is wrong with it.
    """

    phrase: str
    box: tuple[float, float, float, float]
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    mask: Mask | RunLengthMask | None = None
    scribble: tuple[tuple[float, float], ...] | None = None
    point: tuple[float, float] | None = None
    radius: float | None = None

    def __post_init__(self):
        if not isinstance(self.phrase, str) or not self.phrase.strip():
            raise ValueError(
                f"A region needs a phrase, but this one is empty: {repr(self.phrase)[:60]}. "
                "Describe what is to be painted there, for example 'a red ceramic mug'."
            )
        try:
            self.phrase.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"The region {self._named} has half a character (a lone surrogate) in its phrase. Write it anew."
            ) from None
        object.__setattr__(self, "box", self._checked_box())
        self._check_number("strength", self.strength, 0.0, math.inf)
        self._check_number("start_percent", self.start_percent, 0.0, 1.0)
        self._check_number("end_percent", self.end_percent, 0.0, 1.0)
        if self.radius is not None:
            self._check_number("radius", self.radius, 0.0, 1.0)
        for x, y in (*(self.scribble or ()), *((self.point,) if self.point else ())):
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise ValueError(
                    f"The region {self._named} has a point outside the image: {x}, {y}. Points are fractions of the "
                    "image, 0 to 1; divide pixels by the image's width and height."
                )
        if self.start_percent > self.end_percent:
            raise ValueError(
                f"The region {self._named} starts at {self.start_percent} and ends at {self.end_percent}: "
                "start_percent must not come after end_percent."
            )

    @property
    def _named(self) -> str:
        """The phrase for a message, cut where it is long."""
        return repr(self.phrase if len(self.phrase) <= 60 else self.phrase[:57] + "...")

    def _checked_box(self) -> tuple[float, float, float, float]:
        box = tuple(float(edge) for edge in self.box)
        if len(box) != 4:
            raise ValueError(
                f"The region {self._named} has a box of {len(box)} numbers; it takes x0, y0, x1, y1."
            )
        if not all(math.isfinite(edge) for edge in box):
            raise ValueError(f"The region {self._named} has a box with a number that is not finite: {box}.")
        if any(edge < -EDGE_TOLERANCE or edge > 1 + EDGE_TOLERANCE for edge in box):
            raise ValueError(
                f"The region {self._named} lies outside the image: x from {box[0]:g} to {box[2]:g}, "
                f"y from {box[1]:g} to {box[3]:g}. Boxes are fractions of the image, so every edge must lie "
                "in 0 to 1; divide pixels by the image's width and height."
            )
        x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in box)
        # A little less, so that a side that is just as long is not lost to the rounding of x + width.
        if min(x1 - x0, y1 - y0) < LEAST_SIDE * (1 - 1e-6):
            raise ValueError(
                f"The region {self._named} has no area: x from {x0:g} to {x1:g}, y from {y0:g} to {y1:g}. "
                f"Give it a width and a height above 0 ({LEAST_SIDE:g} of the image is the least)."
            )
        return x0, y0, x1, y1

    def _check_number(self, name: str, value: float, low: float, high: float):
        # `not (low <= value <= high)` also catches NaN.
        if not (low <= value <= high) or value == math.inf:
            limits = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise ValueError(f"The region {self._named} has {name} {value}; it takes {limits}.")


# A chain of regions, in order: where two overlap, the later one lies in front.
Regions = tuple[Region, ...]
