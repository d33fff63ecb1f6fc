"""Which form a text has, and the way to its reader or writer."""

import json
from collections.abc import Callable
from typing import Any

from ..edges import EDGES
from . import annotations, canvas, fields, free_text, json_text, own, pairs, vision
from .layout import Draft, Layout
from .listed import entries_of

JsonReader = Callable[[Any, float, float], Draft]

JSON_READERS: dict[str, JsonReader] = {
    "deig": own.read_own,
    "instancediffusion": annotations.read_instancediffusion,
    "coco": annotations.read_coco,
    "deig-bench": annotations.read_deig_bench,
    "mig-bench": annotations.read_mig_bench,
    "elements": canvas.read_elements,
    "canvas": canvas.read_canvas,
    "qwen-pixels": vision.read_qwen_pixels,
    "qwen-1000": vision.read_qwen_thousandths,
    "gemini": vision.read_gemini,
}
# What auto reads where the numbers leave one choice of unit, and else refuses.
UNNAMED_UNIT = "qwen"
# These are an object; the others may also be a list alone.
OBJECTS = ("instancediffusion", "coco", "deig-bench", "mig-bench")
WRITERS: dict[str, Callable[[Layout, float, float], str]] = {
    "deig": own.write_own,
    "instancediffusion": annotations.write_instancediffusion,
    "coco": annotations.write_coco,
    "deig-bench": annotations.write_deig_bench,
    "mig-bench": annotations.write_mig_bench,
}
# The list that tells a JSON object's format.
MARKS = {
    "regions": "deig",
    "annos": "instancediffusion",
    "annotations": "coco",
    "instances": "deig-bench",
    "segment": "mig-bench",
    canvas.PROMPT: "elements",
}
READABLE = ("auto", *JSON_READERS, "llm", "lines")
WRITABLE = tuple(WRITERS)

# Beyond the largest benchmark file (1.4 million), and it keeps a file pasted by mistake from taking long.
LONGEST_TEXT = 4_000_000
# The JSON parser holds up the whole process while it makes objects; a benchmark's file has 9,000.
MOST_BRACKETS = 200_000
# No picture has such sides, and no number of more digits gets near arithmetic.
LONGEST_SIDE = 1e9


def read_layout(
    text: str,
    format: str = "auto",
    width: float = 512,
    height: float = 512,
    index: int | None = None,
    edges: str = "refuse",
    colours: bool = False,
) -> Layout:
    """Read a layout from text.

    Args:
        text: the layout. JSON may stand in a fenced block or between sentences.
        format: one of READABLE; "auto" tells by what the text holds.
        width, height: the picture's size in pixels, for boxes in pixels whose text does not give it.
        index: which layout of a text that holds many (a benchmark's file, the images of a COCO file), from 0; None:
            it holds one.
        edges: boxes that reach beyond the picture: one of edges.EDGES.
        colours: add the words of a box's palette to its phrase, where the form has one (elements, canvas).

    Raises:
        ValueError: the text is no such layout; the message names the place and the reason.
    """
    if format not in READABLE:
        raise ValueError(
            f"There is no layout format {fields.shown(format)}; there are {', '.join(READABLE)}."
        )
    if edges not in EDGES:
        raise ValueError(f"edges is {fields.shown(edges)}; it is one of {', '.join(EDGES)}.")
    if not (0 < width < LONGEST_SIDE and 0 < height < LONGEST_SIDE):
        raise ValueError(
            "The picture's width and height should be more than 0 pixels, not "
            f"{fields.shown(width)} and {fields.shown(height)}."
        )
    if not text.strip():
        raise ValueError('The text is empty. An empty layout is written {"regions": []}.')
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"The text has {len(text)} characters; a layout has at most {LONGEST_TEXT}.")
    brackets = text.count("{") + text.count("[")
    if brackets > MOST_BRACKETS:
        raise ValueError(f"The text has {brackets} opening brackets; a layout has at most {MOST_BRACKETS}.")
    try:
        draft = _read(text, format, width, height, index, edges)
    except RecursionError:
        raise ValueError("The text's brackets are nested too deeply for a layout.") from None
    try:
        return draft.finished(edges, colours)
    except ValueError as error:
        raise _in_layout(index, error) from None


def _read(text: str, format: str, width: float, height: float, index: int | None, edges: str) -> Draft:
    try:
        piece = None if format == "lines" else json_text.find_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"The JSON breaks off at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from None
    if piece is None:
        json_text.in_range(index or 0, 1)  # loose text is one layout
        return _read_loose(text, format, width, height, edges)
    if box := next(filter(None, map(pairs.box_in, piece.beside)), ""):
        raise ValueError(
            f"Beside the JSON stands {fields.shown(box)}, which looks like a box and would be lost. Keep one of them."
        )
    data = _one_layout(piece.value, format, index)
    try:
        return _read_json(data, format, width, height, edges)
    except ValueError as error:
        raise _in_layout(index, error) from None


def _one_layout(value: Any, format: str, index: int | None) -> Any:
    """The layout that is meant, of JSON that may hold many."""
    if layouts := json_text.layouts_in(value, frozenset(MARKS)):
        return json_text.chosen(layouts, index)
    images = annotations.images_of(value) if format in ("auto", "coco") else ()
    if images:
        return value | {"annotations": json_text.chosen(images, index, "images")}
    return json_text.chosen([value], index)


def _in_layout(index: int | None, error: ValueError) -> ValueError:
    """The error, with which of many layouts it is about."""
    return error if index is None else ValueError(f"Layout {index}: {error}")


def _read_loose(text: str, format: str, width: float, height: float, edges: str) -> Draft:
    if format in JSON_READERS:
        raise ValueError(f"The text holds no JSON object, which the format {format} is written in.")
    found = pairs.Pairs((), "") if format == "lines" else pairs.find_pairs(text)
    if format == "llm" or found.found:
        return free_text.read_pairs(text, found, width, height, edges)
    try:
        return free_text.read_lines(text, width, height, edges)
    except ValueError:
        if found.unclear and pairs.ITEM_BEGINS.search(text):  # it was meant to be pairs
            raise ValueError(found.unclear) from None
        raise


def _read_json(data: Any, format: str, width: float, height: float, edges: str) -> Draft:
    if format == "auto":
        format = _told_format(data)
    if format == "llm":
        return free_text.read_llm_json(data, width, height, edges)
    if format == UNNAMED_UNIT:
        return vision.read_qwen(data, width, height)
    if format in OBJECTS and not isinstance(data, dict):
        raise ValueError(f"The format {format} is a JSON object, but the text holds {fields.shown(data)}.")
    return JSON_READERS[format](data, width, height)


# What one entry of a list has that tells its format, where no name of the list does.
ENTRY_MARKS: dict[str, Callable[[set[str]], bool]] = {
    UNNAMED_UNIT: lambda keys: "bbox_2d" in keys,
    "gemini": lambda keys: "box_2d" in keys,
    "elements": lambda keys: {"bbox", "desc"} <= keys,
    "canvas": lambda keys: {"x", "y", "width", "height", "metadata"} <= keys,
    "deig": lambda keys: {"phrase", "box"} <= keys,
}


def write_layout(layout: Layout, format: str = "deig", width: float = 512, height: float = 512) -> str:
    """Write a layout as JSON in one of WRITABLE; width and height are the picture's, for those in pixels."""
    if format not in WRITERS:
        raise ValueError(f"No layout is written as {fields.shown(format)}; there are {', '.join(WRITABLE)}.")
    return WRITERS[format](layout, width, height)


def _told_format(data: Any) -> str:
    marks = [mark for mark in MARKS if mark in data] if isinstance(data, dict) else []
    if len(marks) > 1:
        raise ValueError(
            f"The JSON has {' and '.join(marks)}, which belong to different formats. Name the format."
        )
    if marks:
        return MARKS[marks[0]]
    entries = entries_of(data)
    keys = [set(entry) for entry in entries if isinstance(entry, dict)]
    # Under a name of somebody else's, entries like ours need not mean what ours do.
    ours = isinstance(data, list) or entries == [data] or "elements" in data
    forms = [form for form in ENTRY_MARKS if ours or form in (UNNAMED_UNIT, "gemini")]
    return next((form for form in forms if any(map(ENTRY_MARKS[form], keys))), "llm")
