"""Layouts that come as loose text: what language models write, and one line a region.

These say nothing of their units, so one rule tells fractions from pixels. A layout is in fractions if every box
lies in 0 to 1; it is in pixels if every box lies in the picture and is 2 pixels or more in width and height.
No layout can be both, and one that is neither is refused.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from . import fields
from .layout import Draft, Entry
from .listed import one_list, only_box, phrase_of
from .pairs import SEPARATORS, Pairs, box_in
from .places import PLACE_KEYS, read_places

BACKGROUND = re.compile(r"^[ \t*#-]*background prompt[ \t*]*:(?P<prompt>.+)$", re.IGNORECASE | re.MULTILINE)

BETWEEN = re.compile(rf"[{SEPARATORS}]")

CORNER_AND_SIZE = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
CORNERS = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)


@dataclass(frozen=True)
class Found:
    """A region whose box and points are in whatever unit the text has.

    Args:
        box: xyxy
        entry: the JSON object that it comes from, for its other values.
    """

    place: str
    phrase: str
    box: fields.Box
    entry: dict = field(default_factory=dict)


def read_pairs(text: str, pairs: Pairs, width: float, height: float, edges: str) -> Draft:
    """Read ("a red car", [x, y, w, h]) items, wherever they stand in the text."""
    if pairs.unclear:
        raise ValueError(pairs.unclear)
    if not pairs.found:
        raise ValueError('The text has no item of the form ("a red car", [x, y, width, height]).')
    found = []
    for pair in pairs.found:
        phrase = fields.whole(pair.phrase, pair.place)
        found.append(
            Found(pair.place, phrase, fields.from_corner(_written_numbers(pair.numbers, pair.place)))
        )
    background = BACKGROUND.search(text)
    prompt = background["prompt"].strip(" \t*\"'") if background else ""
    return _with_units(found, fields.whole(prompt, "background prompt"), width, height, edges)


def read_llm_json(data: Any, width: float, height: float, edges: str) -> Draft:
    """Read a list of objects, each with a phrase and a box, alone or as the only such list of an object.

    A box of four bare numbers is [x, y, width, height]; named numbers say what they are. A scribble and a point are in
    the unit of the boxes.
    """
    listed = one_list(data, width, height)
    found = [
        Found(place, phrase_of(entry, place), _llm_box(entry, place), entry) for place, entry in listed.items
    ]
    return _with_units(found, listed.prompt, listed.width, listed.height, edges)


def _llm_box(entry: dict, place: str) -> fields.Box:
    key = only_box(entry, place)
    holder = entry if key is None else entry[key]
    if key is not None:
        fields.refuse_more_boxes(entry, place, key, *PLACE_KEYS)
    if isinstance(holder, list):
        if key == "box":
            raise ValueError(
                f"{place}.box could be corners or a corner and a size. Name the numbers (x0, y0, x1, y1 or x, y, "
                "width, height), or call it bbox for [x, y, width, height]."
            )
        return fields.from_corner(fields.numbers(holder, 4, "x, y, width, height", f"{place}.{key}"))
    if isinstance(holder, dict):
        inside = place if key is None else f"{place}.{key}"
        for names in (*CORNER_AND_SIZE, *CORNERS):
            if all(name in holder for name in names):
                fields.refuse_more_boxes(holder, inside, *names, *PLACE_KEYS)
                values = tuple(fields.number(holder[name], f"{inside}.{name}") for name in names)
                return fields.from_corner(values) if names in CORNER_AND_SIZE else values
    raise ValueError(f"{place} has no box: bbox as [x, y, width, height], or x, y, width and height by name.")


def read_lines(text: str, width: float, height: float, edges: str) -> Draft:
    """Read `phrase: x1 y1 x2 y2`, one region a line. Empty lines and lines that begin with # are passed over."""
    found = []
    for count, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = f"line {count}"
        fields.limit_count(len(found) + 1, "The text")
        phrase, colon, numbers = line.rpartition(":")
        if not colon:
            raise ValueError(f"{place} should read 'phrase: x1 y1 x2 y2', but it is {fields.shown(line)}.")
        if box := box_in(phrase):
            raise ValueError(
                f"{place} has two boxes, of which {fields.shown(box)} would be lost. Give each a line."
            )
        fields.whole(phrase, place)
        found.append(Found(place, phrase.strip(), _written_numbers(numbers, place)))
    if not found:
        raise ValueError("The text has no line of the form 'phrase: x1 y1 x2 y2'.")
    return _with_units(found, "", width, height, edges)


def _written_numbers(written: str, place: str) -> tuple[float, ...]:
    parts = BETWEEN.sub(" ", written.strip(" \t()[]")).split()
    if len(parts) != 4:
        raise ValueError(f"{place} should have 4 numbers, but it has {len(parts)}: {fields.shown(written)}.")
    try:
        values = [float(part.replace("_", "none")) for part in parts]  # Python would read 1_0 as 10
    except ValueError:
        raise ValueError(f"{place} should have 4 numbers, but it has {fields.shown(written)}.") from None
    return fields.numbers(values, 4, "4 numbers", place)


def _with_units(found: list[Found], prompt: str, width: float, height: float, edges: str) -> Draft:
    """Turn boxes into fractions, once it is clear whether they are that already or pixels."""
    # How far boxes may reach beyond the picture and still be told apart: less than half of it, where they are cut.
    # One without area, which is left out then, says nothing.
    beyond = 0.499 if edges == "clip" else fields.EDGE_SLACK
    telling = [item for item in found if edges != "clip" or _has_area(item.box)]
    no_fractions = next((item for item in telling if not _within(item.box, 1, 1, beyond)), None)
    no_pixels = next((item for item in telling if not _is_pixel_box(item.box, width, height, beyond)), None)
    if no_fractions and no_pixels:
        raise ValueError(
            "The boxes are neither all fractions nor all pixels. "
            f"No fractions of the image (0 to 1): {_told(no_fractions)}. "
            f"No pixels of {width:g} x {height:g}, 2 or more each way: {_told(no_pixels)}. "
            "Use one unit for all, and set width and height to the picture's."
        )
    unit = (width, height) if no_fractions else (1, 1)
    entries = tuple(
        Entry(
            item.place,
            item.phrase,
            fields.scaled(item.box, 1 / unit[0], 1 / unit[1]),
            fields.settings(item.entry, item.place) | read_places(item.entry, item.place, *unit),
        )
        for item in found
    )
    return Draft(entries, prompt, *(unit if no_fractions else (None, None)))


def _has_area(box: fields.Box) -> bool:
    return box[2] > box[0] and box[3] > box[1]


def _within(box: fields.Box, width: float, height: float, beyond: float) -> bool:
    x0, y0, x1, y1 = box
    return all(-beyond <= x / width <= 1 + beyond for x in (x0, x1)) and all(
        -beyond <= y / height <= 1 + beyond for y in (y0, y1)
    )


def _is_pixel_box(box: fields.Box, width: float, height: float, beyond: float) -> bool:
    return _within(box, width, height, beyond) and box[2] - box[0] >= 2 and box[3] - box[1] >= 2


def _told(item: Found) -> str:
    x0, y0, x1, y1 = item.box
    return f"{item.place}, {fields.shown(item.phrase)}, x from {x0:g} to {x1:g}, y from {y0:g} to {y1:g}"
