"""Which form a text has, and the way to its reader or writer."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

from . import annotations, fields, free_text, own
from .layout import Layout

JsonReader = Callable[[Any, float, float], Layout]

JSON_READERS: dict[str, JsonReader] = {
    "deig": own.read_own,
    "instancediffusion": annotations.read_instancediffusion,
    "coco": annotations.read_coco,
    "deig-bench": annotations.read_deig_bench,
    "mig-bench": annotations.read_mig_bench,
}
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
}
READABLE = ("auto", *JSON_READERS, "llm", "lines")
WRITABLE = tuple(WRITERS)

# Far beyond any layout, and it keeps a file pasted by mistake from holding up the interface.
LONGEST_TEXT = 1_000_000
JSON_BEGINS = re.compile(r'\{\s*"|\[\s*\{')
FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)```", re.DOTALL)


def read_layout(text: str, format: str = "auto", width: float = 512, height: float = 512) -> Layout:
    """Read a layout from text.

    Args:
        text: the layout. JSON may stand in a fenced block or between sentences.
        format: one of READABLE; "auto" tells by what the text holds.
        width, height: the picture's size in pixels, for boxes in pixels whose text does not give it.

    Raises:
        ValueError: the text is no such layout; the message names the place and the reason.
    """
    if format not in READABLE:
        raise ValueError(f"There is no layout format {format!r}; there are {', '.join(READABLE)}.")
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(
            f"The picture's width and height should be more than 0 pixels, not {width} and {height}."
        )
    if not text.strip():
        raise ValueError('The text is empty. An empty layout is written {"regions": []}.')
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"The text has {len(text)} characters; a layout has at most {LONGEST_TEXT}.")
    try:
        return _read(text, format, width, height)
    except RecursionError:
        raise ValueError("The text's brackets are nested too deeply for a layout.") from None


def _read(text: str, format: str, width: float, height: float) -> Layout:
    if format == "lines":
        return free_text.read_lines(text, width, height)
    try:
        data = find_json(text)
    except json.JSONDecodeError as error:
        if format in ("auto", "llm") and free_text.has_pairs(text):
            return free_text.read_pairs(text, width, height)
        raise ValueError(
            f"The JSON breaks off at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from None
    if data is None:
        if format in JSON_READERS:
            raise ValueError(f"The text holds no JSON object, which the format {format} is written in.")
        if format == "llm" or free_text.has_pairs(text):
            return free_text.read_pairs(text, width, height)
        return free_text.read_lines(text, width, height)
    if format == "auto":
        format = _told_format(data)
    if format == "llm":
        return free_text.read_llm_json(data, width, height)
    if format != "deig" and not isinstance(data, dict):
        raise ValueError(f"The format {format} is a JSON object, but the text holds {fields.shown(data)}.")
    return JSON_READERS[format](data, width, height)


def write_layout(layout: Layout, format: str = "deig", width: float = 512, height: float = 512) -> str:
    """Write a layout as JSON in one of WRITABLE; width and height are the picture's, for those in pixels."""
    if format not in WRITERS:
        raise ValueError(f"No layout is written as {format!r}; there are {', '.join(WRITABLE)}.")
    return WRITERS[format](layout, width, height)


def find_json(text: str) -> Any:
    """Return the one JSON object or list of objects in a text; None where there is none.

    Raises:
        json.JSONDecodeError: the text begins like JSON, or has a fenced block that does, and is broken.
        ValueError: there are several.
    """
    blocks = [block for block in FENCE.findall(text) if block.lstrip().startswith(("{", "["))]
    if len(blocks) > 1:
        raise ValueError(f"The text has {len(blocks)} fenced JSON blocks. Keep the one that is the layout.")
    body = blocks[0] if blocks else text
    if body.lstrip().startswith(("{", "[")):
        return _only_objects(_parsed(body))
    found = _embedded(body)
    if len(found) > 1:
        raise ValueError(f"The text holds {len(found)} pieces of JSON. Keep the one that is the layout.")
    return found[0] if found else None


def _embedded(text: str) -> list[Any]:
    """Every JSON object or list of objects that stands between other words."""
    decoder = json.JSONDecoder(parse_constant=_refused_constant)
    found, position = [], 0
    while match := JSON_BEGINS.search(text, position):
        position = match.start() + 1
        try:
            value, end = decoder.raw_decode(text, match.start())
        except json.JSONDecodeError:
            continue
        if _only_objects(value) is not None:
            found.append(value)
        position = end
    return found


def _only_objects(value: Any) -> Any:
    """The value if a layout could be in it: an object or a list with one. Bare lists are read as loose text."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        return value
    return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused_constant)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # a whole number of more digits than Python turns into one
        raise ValueError(f"The JSON cannot be read: {error}.") from None


def _refused_constant(name: str):
    raise ValueError(f"The JSON holds {name}, which is no number")


def _told_format(data: Any) -> str:
    if isinstance(data, list):
        own_list = all(isinstance(item, dict) and "phrase" in item and "box" in item for item in data)
        return "deig" if own_list else "llm"
    marks = [mark for mark in MARKS if mark in data]
    if len(marks) > 1:
        raise ValueError(
            f"The JSON has {' and '.join(marks)}, which belong to different formats. Name the format."
        )
    if marks:
        return MARKS[marks[0]]
    entries = [key for key, value in data.items() if isinstance(value, dict) and set(value) & set(MARKS)]
    if entries:
        raise ValueError(
            f"The JSON holds {len(entries)} layouts, beginning with {fields.shown(entries[0])}. "
            "Keep what stands under one of them."
        )
    return "llm"
