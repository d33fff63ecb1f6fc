"""What ComfyUI's own box canvas, *Create Bounding Boxes*, and *Build JSON Prompt* hold and write.

The canvas keeps its boxes in pixels of its own width and height; the `elements` that it hands on have corners of 0 to
1000, y first. Both may run backwards where a box was drawn from right to left, and are read as the host reads them.
"""

from typing import Any

from . import fields
from .layout import Draft, Entry
from .places import read_others

GRID = 1000
CORNER = ("x", "y", "width", "height")
DESCRIBED = ("desc", "text", "type")
PROMPT = "compositional_deconstruction"


def read_elements(data: Any, width: float, height: float) -> Draft:
    """Read elements, each with `bbox` [ymin, xmin, ymax, xmax] of 0 to 1000 and `desc`, `text` or both.

    Args:
        data: one element, a list of them, an object with the list `elements`, or the whole JSON prompt with its
            `compositional_deconstruction`; what that says of the whole picture and its style becomes the prompt.
    """
    place, words = "elements", []
    if isinstance(data, dict) and PROMPT in data:
        fields.refuse_boxes_beside(data, PROMPT, "style_description")
        words = [_words(data, "high_level_description", "the prompt")]
        style, data = data.get("style_description"), data[PROMPT]
        if not isinstance(data, dict):
            raise ValueError(f"{PROMPT} should be an object with elements, but it is {fields.shown(data)}.")
        place = f"{PROMPT}.elements"
        words += [_words(data, "background", PROMPT), *_style(style)]
    if isinstance(data, dict) and "elements" in data:
        fields.refuse_boxes_beside(data, "elements")
        data = data["elements"]
    elif isinstance(data, dict):
        data = [data]
    entries = tuple(_element(entry, place) for place, entry in fields.entries({place: data}, place))
    return Draft(entries, ", ".join(filter(None, words)))


def _words(holder: dict, key: str, place: str) -> str:
    """What stands at a key, made to be joined with more by commas."""
    return fields.prompt(holder, place, key).strip().rstrip(".,;")


def _style(style: Any) -> list[str]:
    if style is None:
        return []
    if not isinstance(style, dict):
        raise ValueError(f"style_description should be an object, but it is {fields.shown(style)}.")
    keys = ("aesthetics", "lighting", "photo", "medium", "art_style")
    fields.refuse_boxes_beside(style, *keys)
    return [_words(style, key, "style_description") for key in keys if key in style]


def _element(entry: dict, place: str) -> Entry:
    corners = fields.numbers(entry.get("bbox"), 4, "ymin, xmin, ymax, xmax", f"{place}.bbox")
    y0, x0, y1, x1 = (corner / GRID for corner in corners)
    others = read_others(entry, place, 1, 1, "bbox", *DESCRIBED, "color_palette")
    return Entry(place, _phrase(entry, place), _ordered((x0, y0, x1, y1)), others, entry.get("color_palette"))


def read_canvas(data: Any, width: float, height: float) -> Draft:
    """Read boxes with x, y, width and height in pixels of `width` x `height`, and `metadata` or a `label`.

    Args:
        data: one box or a list of them.
    """
    entries = []
    for place, entry in fields.entries({"box": data if isinstance(data, list) else [data]}, "box"):
        numbers = (fields.number(entry.get(key), f"{place}.{key}") for key in CORNER)
        box = _ordered(fields.scaled(fields.from_corner(tuple(numbers)), 1 / width, 1 / height))
        metadata = {} if entry.get("metadata") is None else entry["metadata"]
        if not isinstance(metadata, dict):
            raise ValueError(f"{place}.metadata should be an object, but it is {fields.shown(metadata)}.")
        phrase = _phrase(metadata, f"{place}.metadata") or fields.prompt(entry, place, "label")
        if not phrase.strip():
            raise ValueError(
                f"{place} says nothing of what is there: no desc or text in its metadata, no label."
            )
        fields.refuse_more_boxes(metadata, f"{place}.metadata", *DESCRIBED, "palette")
        others = read_others(entry, place, 1, 1, *CORNER, "metadata", "label")
        entries.append(Entry(place, phrase, box, others, metadata.get("palette")))
    return Draft(tuple(entries), "", width, height)


def _phrase(holder: dict, place: str) -> str:
    """The description; for letters that are to be painted, these before it."""
    desc = fields.prompt(holder, place, "desc")
    letters = fields.prompt(holder, place, "text") if holder.get("type") == "text" else ""
    return ", ".join(filter(str.strip, (f'the text "{letters}"' if letters.strip() else "", desc)))


def _ordered(box: fields.Box) -> fields.Box:
    x0, y0, x1, y1 = box
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
