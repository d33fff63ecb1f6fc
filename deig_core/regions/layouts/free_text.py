"""Layouts that come as loose text: what language models write, and one line a region.

These say nothing of their units, so one rule tells fractions from pixels. A layout is in fractions if every box
lies in 0 to 1; it is in pixels if every box lies in the picture and is 2 pixels or more in width and height.
No layout can be both, and one that is neither is refused.
"""

import ast
import re
from typing import Any

from . import fields
from .layout import Layout

Found = list[tuple[str, str, fields.Box]]  # place in the text, phrase, box xyxy in whatever unit

# ("a red car", [10, 20, 30, 40]): a quoted phrase and bracketed numbers, in brackets of either kind.
PAIR = re.compile(
    r"""[(\[]\s* (?P<phrase> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' ) \s*,\s*
        [(\[] (?P<numbers> [^()\[\]]*) [)\]] \s*,?\s* [)\]]""",
    re.VERBOSE,
)
BACKGROUND = re.compile(r"^[ \t*#-]*background prompt[ \t*]*:(?P<prompt>.+)$", re.IGNORECASE | re.MULTILINE)

# The most telling first: where an entry has several, a description says more than a name.
PHRASE_KEYS = ("description", "phrase", "caption", "prompt", "label", "name", "object")
BOX_KEYS = ("bbox", "bounding_box")
CORNER_AND_SIZE = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
CORNERS = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)


def has_pairs(text: str) -> bool:
    return PAIR.search(text) is not None


def read_pairs(text: str, width: float, height: float) -> Layout:
    """Read ("a red car", [x, y, w, h]) items, wherever they stand in the text."""
    found: Found = []
    for count, match in enumerate(PAIR.finditer(text), start=1):
        place = f"item {count} (line {text.count(chr(10), 0, match.start()) + 1})"
        try:
            phrase = ast.literal_eval(match["phrase"])
        except (ValueError, SyntaxError):
            raise ValueError(
                f"{place}: its phrase is no proper quoted text: {match['phrase'][:80]}"
            ) from None
        fields.whole(phrase, place)
        found.append((place, phrase, fields.from_corner(_written_numbers(match["numbers"], place))))
    if not found:
        raise ValueError('The text has no item of the form ("a red car", [x, y, width, height]).')
    background = BACKGROUND.search(text)
    return _with_units(found, background["prompt"].strip(" \t*\"'") if background else "", width, height)


def read_llm_json(data: Any, width: float, height: float) -> Layout:
    """Read a list of objects, each with a phrase and a box, alone or as the only such list of an object.

    A box of four bare numbers is [x, y, width, height]; named numbers say what they are.
    """
    prompt, items = "", data
    if isinstance(data, dict):
        lists = [key for key, value in data.items() if isinstance(value, list) and value]
        if len(lists) != 1:
            raise ValueError(
                f"The JSON has {len(lists)} lists that could be the layout; one is wanted: a list of objects, "
                'each like {"label": "a red car", "bbox": [x, y, width, height]}.'
            )
        width, height = (
            fields.side(data, "width", "the layout") or width,
            fields.side(data, "height", "the layout") or height,
        )
        prompt = fields.prompt(data, "the layout", "prompt", "background_prompt", "background", "caption")
        items = data[lists[0]]
    found = []
    for place, entry in fields.entries({"item": items}, "item"):
        key = next((key for key in PHRASE_KEYS if key in entry), None)
        if key is None:
            raise ValueError(f"{place} has no phrase: none of {', '.join(PHRASE_KEYS)}.")
        found.append((place, fields.text(entry, key, place), _llm_box(entry, place)))
    return _with_units(found, prompt, width, height)


def _llm_box(entry: dict, place: str) -> fields.Box:
    key = next((key for key in (*BOX_KEYS, "box") if key in entry), None)
    holder = entry if key is None else entry[key]
    if isinstance(holder, list):
        if key == "box":
            raise ValueError(
                f"{place}.box could be corners or a corner and a size. Name the numbers (x0, y0, x1, y1 or x, y, "
                "width, height), or call it bbox for [x, y, width, height]."
            )
        return fields.from_corner(fields.numbers(holder, 4, "x, y, width, height", f"{place}.{key}"))
    if isinstance(holder, dict):
        for names in (*CORNER_AND_SIZE, *CORNERS):
            if all(name in holder for name in names):
                values = tuple(fields.number(holder[name], f"{place}.{name}") for name in names)
                return fields.from_corner(values) if names in CORNER_AND_SIZE else values
    raise ValueError(f"{place} has no box: bbox as [x, y, width, height], or x, y, width and height by name.")


def read_lines(text: str, width: float, height: float) -> Layout:
    """Read `phrase: x1 y1 x2 y2`, one region a line. Empty lines and lines that begin with # are passed over."""
    found: Found = []
    for count, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = f"line {count}"
        phrase, colon, numbers = line.rpartition(":")
        if not colon:
            raise ValueError(f"{place} should read 'phrase: x1 y1 x2 y2', but it is {fields.shown(line)}.")
        fields.whole(phrase, place)
        found.append((place, phrase.strip(), _written_numbers(numbers, place)))
    if not found:
        raise ValueError("The text has no line of the form 'phrase: x1 y1 x2 y2'.")
    return _with_units(found, "", width, height)


def _written_numbers(written: str, place: str) -> tuple[float, ...]:
    parts = written.strip(" \t()[]").replace(",", " ").split()
    if len(parts) != 4:
        raise ValueError(f"{place} should have 4 numbers, but it has {len(parts)}: {fields.shown(written)}.")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"{place} should have 4 numbers, but it has {fields.shown(written)}.") from None
    return fields.numbers(values, 4, "4 numbers", place)


def _with_units(found: Found, prompt: str, width: float, height: float) -> Layout:
    """Make regions of boxes, once it is clear whether they are fractions or pixels."""
    no_fractions = next((item for item in found if not _within(item[2], 1, 1)), None)
    no_pixels = next((item for item in found if not _is_pixel_box(item[2], width, height)), None)
    if no_fractions and no_pixels:
        raise ValueError(
            "The boxes are neither all fractions nor all pixels. "
            f"No fractions of the image (0 to 1): {_told(no_fractions)}. "
            f"No pixels of {width:g} x {height:g}, 2 or more each way: {_told(no_pixels)}. "
            "Use one unit for all, and set width and height to the picture's."
        )
    if no_fractions:
        found = [(place, phrase, fields.scaled(box, 1 / width, 1 / height)) for place, phrase, box in found]
    regions = tuple(fields.region(phrase, box, place) for place, phrase, box in found)
    return Layout(regions, prompt, width if no_fractions else None, height if no_fractions else None)


def _within(box: fields.Box, width: float, height: float) -> bool:
    x0, y0, x1, y1 = box
    slack = fields.EDGE_SLACK
    return all(-slack <= x / width <= 1 + slack for x in (x0, x1)) and all(
        -slack <= y / height <= 1 + slack for y in (y0, y1)
    )


def _is_pixel_box(box: fields.Box, width: float, height: float) -> bool:
    return _within(box, width, height) and box[2] - box[0] >= 2 and box[3] - box[1] >= 2


def _told(item: tuple[str, str, fields.Box]) -> str:
    place, phrase, (x0, y0, x1, y1) = item
    return f"{place}, {fields.shown(phrase)}, x from {x0:g} to {x1:g}, y from {y0:g} to {y1:g}"
