"""This pack's own JSON, version 1: what the editor holds and a workflow stores. Schema: docs/layout.schema.json."""

import json
from typing import Any

from . import fields
from .layout import Draft, Entry, Layout
from .places import PLACE_KEYS, box_around, read_places, written_places

VERSION = 1
LAYOUT_KEYS = {"version", "prompt", "regions", "incoming"}
REGION_KEYS = {"phrase", "box", *fields.SETTINGS, *PLACE_KEYS}


def read_own(data: Any, width: float, height: float) -> Draft:
    """Read {"version": 1, "prompt": ..., "regions": [{"phrase": ..., "box": [x0, y0, x1, y1], ...}]}.

    Boxes are fractions of the image. A list of regions alone is read too. A region with a mask, scribble or
    point needs no box: it gets the one around that place, for which the image's size tells how far a radius
    reaches each way.
    """
    if isinstance(data, list):
        data = {"regions": data}
    if not isinstance(data, dict):
        raise ValueError(f"A layout is a JSON object with regions, but this is {fields.shown(data)}.")
    version = data.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise ValueError(
            f"version is {fields.shown(version)}, but this pack reads version {VERSION} of its layouts. "
            "A newer pack may have written it: update this one."
        )
    _only_known_keys(data, LAYOUT_KEYS, "the layout")
    entries = tuple(
        _read_region(entry, place, width, height) for place, entry in fields.entries(data, "regions")
    )
    return Draft(entries, fields.prompt(data, "the layout", "prompt"))


def _read_region(entry: dict, place: str, width: float, height: float) -> Entry:
    _only_known_keys(entry, REGION_KEYS, place)
    places = read_places(entry, place, 1, 1)
    box = None if entry.get("box") is not None else box_around(places, width, height)
    if box is None:
        box = fields.numbers(entry.get("box"), 4, "x0, y0, x1, y1", f"{place}.box")
    phrase = fields.text(entry, "phrase", place)
    return Entry(place, phrase, box, fields.settings(entry, place) | places)


def _only_known_keys(entry: dict, known: set[str], place: str):
    unknown = sorted(set(entry) - known)
    if unknown:
        raise ValueError(
            f"{place} has {fields.shown(unknown[0])}, which is not one of {', '.join(sorted(known))}."
        )


def write_own(layout: Layout, width: float, height: float) -> str:
    regions = [
        {
            "phrase": region.phrase,
            "box": [fields.rounded(edge) for edge in region.box],
            **{key: getattr(region, key) for key in fields.SETTINGS},
            **written_places(region, 1, 1),
        }
        for region in layout.regions
    ]
    # One region a line: short enough to read, and to compare in a version control's diff.
    lines = ",\n".join("    " + json.dumps(region, ensure_ascii=False) for region in regions)
    prompt = json.dumps(layout.prompt, ensure_ascii=False)
    inner = f"\n{lines}\n  " if regions else ""
    return f'{{\n  "version": {VERSION},\n  "prompt": {prompt},\n  "regions": [{inner}]\n}}'
