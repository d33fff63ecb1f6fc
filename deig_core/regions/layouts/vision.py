"""Where vision language models say that things are: Qwen's `bbox_2d` and Gemini's `box_2d`.

Qwen's newer models measure in 0 to 1000, its older ones in pixels of the picture as they saw it. The numbers rarely
tell which, and a wrong guess paints everything in the wrong place, so the format says it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from . import fields
from .layout import Draft, Entry
from .listed import one_list, only_box, phrase_of
from .places import read_others

GRID = 1000


def read_qwen_pixels(data: Any, width: float, height: float) -> Draft:
    """`bbox_2d` [x0, y0, x1, y1] in pixels of the text's own width and height, else of `width` x `height`."""
    found = one_list(data, width, height)
    scale = (1 / found.width, 1 / found.height)
    entries = _entries(found.items, "bbox_2d", "x0, y0, x1, y1", lambda box: fields.scaled(box, *scale))
    return Draft(entries, found.prompt, found.width, found.height)


def read_qwen_thousandths(data: Any, width: float, height: float) -> Draft:
    """`bbox_2d` [x0, y0, x1, y1], 0 to 1000 each way whatever the picture's shape."""
    found = one_list(data, width, height)
    entries = _entries(found.items, "bbox_2d", "x0, y0, x1, y1", _from_grid)
    return Draft(entries, found.prompt)


def read_qwen(data: Any, width: float, height: float) -> Draft:
    """`bbox_2d` whose unit nobody named: read where the numbers leave one choice, else refused."""
    found = one_list(data, width, height)
    largest = max(
        (
            max(fields.numbers(entry.get("bbox_2d"), 4, "x0, y0, x1, y1", f"{place}.bbox_2d"))
            for place, entry in found.items
        ),
        default=0,
    )
    if largest > GRID * (1 + fields.EDGE_SLACK):
        return read_qwen_pixels(data, width, height)
    raise ValueError(
        "bbox_2d may be in pixels of the picture that the model saw, or in 0 to 1000, and nothing here tells which. "
        "Set the format of DEIG Regions From Text: qwen-1000 (Qwen2-VL, Qwen3-VL), or qwen-pixels (Qwen2.5-VL) with "
        "the width and height of that picture, "
        f"now {found.width:g} x {found.height:g}."
    )


def read_gemini(data: Any, width: float, height: float) -> Draft:
    """`box_2d` [ymin, xmin, ymax, xmax], 0 to 1000 each way."""

    def to_fractions(corners: fields.Box) -> fields.Box:
        y0, x0, y1, x1 = corners
        return _from_grid((x0, y0, x1, y1))

    found = one_list(data, width, height)
    return Draft(_entries(found.items, "box_2d", "ymin, xmin, ymax, xmax", to_fractions), found.prompt)


def _from_grid(box: fields.Box) -> fields.Box:
    return fields.scaled(box, 1 / GRID, 1 / GRID)


def _entries(
    items: list[tuple[str, dict]], key: str, names: str, to_fractions: Callable[[fields.Box], fields.Box]
) -> tuple[Entry, ...]:
    def read() -> Iterator[Entry]:
        for place, entry in items:
            box = to_fractions(fields.numbers(entry.get(key), 4, names, f"{place}.{key}"))
            only_box(entry, place)
            if isinstance(entry.get("mask"), str):
                raise ValueError(
                    f"{place}.mask is a picture as text, which is not read. Take it away; the box stays."
                )
            others = read_others(entry, place, 1, 1, key)
            yield Entry(place, phrase_of(entry, place), box, others)

    return tuple(read())
