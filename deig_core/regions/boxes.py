"""Regions from and to boxes as ComfyUI passes them between nodes: the type BOUNDING_BOX.

A box there is {"x", "y", "width", "height"} in pixels of a picture, with "label" and "score" where a detector made
it and "metadata" ("type", "text", "desc", "palette") where a canvas did. It travels alone, in a list, or in a list
of lists, one for each picture of a batch. The host's box canvas puts its descriptions into "elements" instead: "bbox"
as y0, x0, y1, x1 in thousandths of the picture, beside "type", "text", "desc" and "color_palette".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .colours import coloured
from .edges import Box, EdgeCutter
from .layouts import fields
from .layouts.canvas import CORNER
from .region import Mask, Region, Regions

PHRASES = ("labels", "metadata", "lines")
ORDERS = ("as given", "size", "score", "left to right")


@dataclass(frozen=True)
class FoundBox:
    """One box that came in.

    Args:
        place: which it was, for messages: "box 3".
        box: (x0, y0, x1, y1), pixels.
        label: what a detector calls it, or "".
        score: how sure the detector is, 0 to 1; None: it does not say.
        desc, text, kind, palette: the canvas's description, the letters to be painted and whether it is them that
            are meant ("text") or a thing ("obj"), and hexadecimal colours.
        mask: the exact place, if one came along.
    """

    place: str
    box: Box
    label: str = ""
    score: float | None = None
    desc: str = ""
    text: str = ""
    kind: str = "obj"
    palette: tuple[str, ...] = ()
    mask: Mask | None = None


@dataclass(frozen=True)
class BoxOptions:
    """How boxes become regions.

    Args:
        phrases: one of PHRASES: where the phrases come from.
        lines: for "lines", one line for each region that comes out, back to front, or a single one for all.
        colours: add the words of a box's palette to its phrase.
        threshold: leave out what the detector is less sure of, 0 to 1; boxes without a score stay.
        limit: keep so many at most, the surest (of those without a score, the first); 0: all.
        order: one of ORDERS, back to front. "size": the largest at the back. "score": the surest in front.
        edges: one of edges.EDGES.
    """

    phrases: str = "labels"
    lines: str = ""
    colours: bool = False
    threshold: float = 0.0
    limit: int = 0
    order: str = "as given"
    edges: str = "refuse"

    def __post_init__(self):
        for name, value, known in (("phrases", self.phrases, PHRASES), ("order", self.order, ORDERS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it is one of {', '.join(known)}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; a score lies in 0 to 1.")
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}; it is the number of boxes to keep, or 0 for all.")


@dataclass(frozen=True)
class BoxesRead:
    """Regions, and what became of the boxes that are not among them."""

    regions: Regions
    report: str


def read_boxes(
    value: Any,
    width: int,
    height: int,
    options: BoxOptions = BoxOptions(),
    picture: int = 0,
    masks: np.ndarray | None = None,
) -> BoxesRead:
    """Make regions of boxes.

    Args:
        value: what travels as BOUNDING_BOX: a box, a list of boxes, or a list of lists, one for each picture; or the
            elements of the host's box canvas.
        width, height: of the picture that the boxes are measured in, pixels.
        picture: which list to take, from 0, where there is one for each picture of a batch.
        masks: (N, h, w), 0 to 1, one for each box of that picture, or of all pictures together; each lies over the
            whole picture at any resolution.

    Raises:
        ValueError: something does not fit; the message says which box, mask or line.
    """
    found, before, in_all = _boxes_of(value, picture, width, height)
    if masks is not None:
        found = _with_masks(found, masks, before, in_all, width, height)
    kept, dropped = _sifted(found, options)
    if not kept:
        raise ValueError(_why_none(found, options))
    cutter = EdgeCutter(options.edges)
    boxes = [cutter.fit(fields.scaled(one.box, 1 / width, 1 / height), one.place) for one in kept]
    inside = [(one, box) for one, box in zip(kept, boxes, strict=True) if box is not None]
    if not inside:
        raise ValueError(
            f"All {len(kept)} boxes lie outside the picture of {width} x {height}. Connect the picture that they were "
            "found in, or set width and height to its size."
        )
    phrases = _phrases([one for one, _ in inside], options)
    regions = tuple(
        _region(one, phrase, box, width, height) for (one, box), phrase in zip(inside, phrases, strict=True)
    )
    return BoxesRead(regions, _report(len(found), len(regions), dropped, cutter))


def _boxes_of(value: Any, picture: int, width: int, height: int) -> tuple[list[FoundBox], int, int]:
    """The boxes of one picture, how many boxes the pictures before it have, and how many there are in all."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(
            f"bboxes should be a box or a list of boxes, each with x, y, width and height, but it is "
            f"{fields.shown(value)}. Text goes to DEIG Regions From Text."
        )
    if value and all(isinstance(one, list) for one in value):
        if picture >= len(value):
            raise ValueError(f"There is no picture {picture}: boxes came for {len(value)}, counted from 0.")
        before = sum(len(one) for one in value[:picture])
        boxes, in_all = value[picture], sum(len(one) for one in value)
    else:
        boxes, before, in_all = value, 0, len(value)
    read = [_read_one(one, f"box {count}", width, height) for count, one in enumerate(boxes, start=1)]
    return read, before, in_all


def _read_one(value: Any, place: str, width: int, height: int) -> FoundBox:
    if not isinstance(value, dict):
        raise ValueError(f"{place} should have x, y, width and height, but it is {fields.shown(value)}.")
    return _read_element(value, place, width, height) if "bbox" in value else _read_box(value, place)


def _read_element(value: dict, place: str, width: int, height: int) -> FoundBox:
    y0, x0, y1, x1 = fields.numbers(value["bbox"], 4, "y0, x0, y1, x1 in thousandths", f"{place}.bbox")
    fields.refuse_more_boxes(value, place, "bbox")
    box = fields.scaled((x0, y0, x1, y1), width / 1000, height / 1000)
    return FoundBox(place, box, **_described(value, "color_palette", place))


def _read_box(value: dict, place: str) -> FoundBox:
    missing = [name for name in CORNER if name not in value]
    if missing:
        raise ValueError(f"{place} has no {missing[0]}; a box has x, y, width and height, in pixels.")
    corner = tuple(_number(value[name], f"{place}.{name}") for name in CORNER)
    fields.refuse_more_boxes(value, place, *CORNER)
    x0, y0, x1, y1 = fields.from_corner(corner)
    score = value.get("score")
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError(f"{place}.metadata should be an object, but it is {fields.shown(metadata)}.")
    return FoundBox(
        place,
        (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)),  # a canvas may have drawn from right to left
        label=_text(value, "label", place),
        score=None if score is None else _number(score, f"{place}.score"),
        **_described(metadata, "palette", f"{place}.metadata"),
    )


def _described(holder: dict, palette_key: str, place: str) -> dict:
    palette = holder.get(palette_key) or ()
    if not isinstance(palette, list | tuple):
        raise ValueError(
            f"{place}.{palette_key} should be a list of colours, but it is {fields.shown(palette)}."
        )
    return {
        "desc": _text(holder, "desc", place),
        "text": _text(holder, "text", place),
        "kind": _text(holder, "type", place) or "obj",
        "palette": tuple(palette),
    }


def _number(value: Any, place: str) -> float:
    # Detectors may leave numpy's and torch's own numbers in their boxes.
    return fields.number(value.item() if hasattr(value, "item") else value, place)


def _text(holder: dict, key: str, place: str) -> str:
    return fields.text(holder, key, place).strip() if holder.get(key) is not None else ""


def _with_masks(
    found: list[FoundBox], masks: np.ndarray, before: int, in_all: int, width: int, height: int
) -> list[FoundBox]:
    """Give each box its mask; a detector hands out the masks of all pictures in one batch."""
    if masks.ndim != 3:
        raise ValueError(f"The masks have shape {masks.shape}; they are a batch, (masks, height, width).")
    if len(masks) == in_all:
        masks = masks[before : before + len(found)]
    elif len(masks) != len(found):
        raise ValueError(
            f"{len(masks)} masks came with {len(found)} boxes: there is one mask for each box. "
            "In SAM3 Detect switch individual_masks on, and give it words to find, not points."
        )
    rows, columns = masks.shape[1:]
    if abs(rows * width - columns * height) > max(rows, columns, width, height):
        raise ValueError(
            f"The masks are {columns} x {rows}, but the picture of the boxes is {width} x {height}: they have another "
            "shape. Connect the picture that both were found in, or set width and height to its size."
        )
    return [
        replace(one, mask=_mask_of(one, values, width, height))
        for one, values in zip(found, masks, strict=True)
    ]


def _mask_of(one: FoundBox, values: np.ndarray, width: int, height: int) -> Mask:
    place = one.place.replace("box", "mask")
    try:
        mask = Mask(values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    x0, y0, x1, y1 = mask.bounding_box()
    left, top, right, bottom = one.box
    if x0 * width >= right or x1 * width <= left or y0 * height >= bottom or y1 * height <= top:
        raise ValueError(
            f"{place} lies wholly outside {one.place}: masks and boxes are in another order, or of other pictures."
        )
    return mask


def _sifted(found: list[FoundBox], options: BoxOptions) -> tuple[list[FoundBox], dict[str, int]]:
    """The boxes to keep, back to front, and how many were dropped for which reason."""
    sure = [one for one in found if one.score is None or one.score >= options.threshold]
    kept = sure
    if options.limit and len(sure) > options.limit:
        ranked = sorted(range(len(sure)), key=lambda index: -_sureness(sure[index]))
        kept = [sure[index] for index in sorted(ranked[: options.limit])]
    dropped = {
        "below the threshold": len(found) - len(sure),
        "over the limit": len(sure) - len(kept),
    }
    keys = {"size": lambda one: -_area(one.box), "score": _sureness, "left to right": lambda one: one.box[0]}
    return (sorted(kept, key=keys[options.order]) if options.order in keys else kept), dropped


def _sureness(one: FoundBox) -> float:
    return 1.0 if one.score is None else one.score


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _why_none(found: list[FoundBox], options: BoxOptions) -> str:
    if not found:
        return "No box came in: nothing was found in the picture, or nothing was drawn."
    best = max(_sureness(one) for one in found)
    return (
        f"None of the {len(found)} boxes has a score of {options.threshold:g} or more; the surest has {best:.3g}. "
        "Lower the threshold."
    )


def _phrases(kept: list[FoundBox], options: BoxOptions) -> list[str]:
    if options.phrases == "lines":
        lines = [line.strip() for line in options.lines.splitlines() if line.strip()]
        if len(lines) not in (1, len(kept)):
            raise ValueError(
                f"There are {len(lines)} lines for {len(kept)} boxes. Write one line for each, back to front, or a "
                "single one for all."
            )
        phrases = lines * len(kept) if len(lines) == 1 else lines
    else:
        phrases = [_own_phrase(one, options.phrases) for one in kept]
    if options.colours:
        phrases = [
            coloured(phrase, one.palette, one.place) for phrase, one in zip(phrases, kept, strict=True)
        ]
    return phrases


def _own_phrase(one: FoundBox, source: str) -> str:
    if source == "labels":
        if not one.label:
            raise ValueError(
                f"{one.place} has no label. Set phrases to lines and write what is to be seen there"
                + (", or to metadata: it has a description." if one.desc or one.text else ".")
            )
        return one.label
    words = [f'the text "{one.text}"'] if one.kind == "text" and one.text else []
    words += [one.desc] if one.desc else []
    if not words:
        raise ValueError(
            f"{one.place} has no description. The host's box canvas gives its descriptions out as elements: connect "
            f"those. Or set phrases to {'labels: it has one.' if one.label else 'lines.'}"
        )
    return ", ".join(words)


def _region(one: FoundBox, phrase: str, box: Box, width: int, height: int) -> Region:
    try:
        return fields.region(phrase, box, one.place, mask=one.mask)
    except ValueError as error:
        if min(box) >= 0 and max(box) <= 1:
            raise
        raise ValueError(
            f"{error} Here the boxes are pixels of a picture {width} x {height}: connect the picture that they were "
            "found in or set its size, or set edges to clip."
        ) from None


def _report(found: int, made: int, dropped: dict[str, int], cutter: EdgeCutter) -> str:
    said = f"{made} region{'s' * (made != 1)} of {found} box{'es' * (found != 1)}"
    for reason, count in dropped.items():
        said += f"; {count} {reason}" if count else ""
    return " ".join(filter(None, (f"{said}.", cutter.told())))


def write_boxes(regions: Sequence[Region], width: int, height: int) -> list[list[dict]]:
    """Write regions as BOUNDING_BOX: one list for one picture, in whole pixels, phrases as label and description.

    A box is at least one pixel wide and high. Masks, scribbles and points do not travel; what is left of them is
    the box around.
    """
    return [[_written(region, width, height) for region in regions]]


def _written(region: Region, width: int, height: int) -> dict:
    x0, y0, x1, y1 = region.box
    (left, right), (top, bottom) = _whole(x0 * width, x1 * width), _whole(y0 * height, y1 * height)
    return {
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
        "label": region.phrase,
        "metadata": {"type": "obj", "text": "", "desc": region.phrase, "palette": []},
    }


def _whole(low: float, high: float) -> tuple[int, int]:
    """Round two edges to whole pixels; where both fall on one, take the pixel in which most of the box lies."""
    if round(low) < round(high):
        return round(low), round(high)
    pixel = int((low + high) / 2)
    return pixel, pixel + 1
