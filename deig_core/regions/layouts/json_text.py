"""Finding the JSON in a text, and the one layout in the JSON."""

import json
import re
from dataclasses import dataclass
from typing import Any

from . import fields

JSON_BEGINS = re.compile(r'\{\s*"|\[\s*\{')
FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)```", re.DOTALL)

# Not the mouth of a smiley.
BRACKET = re.compile(r"[(\[{]|(?<![:;])[)\]}]")

# Words beside a fenced block may have so many that begin like JSON and are none; each takes time.
MOST_BROKEN = 20

# More digits than any coordinate has; turning very many into a number takes long.
MOST_DIGITS = 400


@dataclass(frozen=True)
class Piece:
    """A JSON value, and the stretches of words that stand around it."""

    value: Any
    beside: tuple[str, ...]


def find_json(text: str) -> Piece | None:
    """Return the one JSON object or list of objects in a text; None where there is none.

    Raises:
        json.JSONDecodeError: the text has what begins like JSON and is broken.
        ValueError: there are several, or it is the inside of something else. No part is read alone: a list of objects
            without the object around it has lost its size and prompt.
    """
    fences = [match for match in FENCE.finditer(text) if match[1].lstrip().startswith(("{", "["))]
    if len(fences) > 1:
        raise ValueError(f"The text has {len(fences)} fenced JSON blocks. Keep the one that is the layout.")
    body = fences[0][1] if fences else text
    around = (text[: fences[0].start()], text[fences[0].end() :]) if fences else ()
    found, beside = _pieces(body)
    for stretch in around:
        found += _whole_pieces(stretch)
    if len(found) > 1:
        raise ValueError(f"The text holds {len(found)} pieces of JSON. Keep the one that is the layout.")
    return Piece(found[0], (*around, *beside)) if found else None


def _pieces(text: str) -> tuple[list[Any], list[str]]:
    """Every JSON object or list of objects of a text, and the stretches of text around them."""
    found, beside, position = [], [], 0
    first = len(text) - len(text.lstrip())
    if text.startswith(("{", "["), first):
        # It begins like JSON; without any object in it, it may also be a list of quoted phrases and boxes.
        if text[first] == "[" and not JSON_BEGINS.search(text):
            return [], [text]
        value, position = _parsed(text, first)
        if not _may_be_layout(value):
            return [], [text]
        found.append(value)
    while match := JSON_BEGINS.search(text, position):
        beside.append(text[position : match.start()])
        value, position = _parsed(text, match.start())
        found.append(value)
    beside.append(text[position:])
    if found:
        _refuse_inside(beside)
    return found, beside


def _whole_pieces(text: str) -> list[Any]:
    """Every JSON object or list of objects of a text that need not be any: what is broken is words."""
    found, position, broken = [], 0, 0
    while match := JSON_BEGINS.search(text, position):
        try:
            value, position = _parsed(text, match.start())
            found.append(value)
        except json.JSONDecodeError as error:
            broken += 1
            if broken > MOST_BROKEN:
                raise
            position = max(error.pos, match.start() + 1)
    return found


def _refuse_inside(beside: list[str]):
    """Refuse JSON in brackets that are no JSON: some begins are left open before it, or end after it."""
    open_ones: list[str] = []
    for index, stretch in enumerate(beside):
        for bracket in BRACKET.finditer(stretch):
            if bracket[0] in "([{":
                open_ones.append(stretch[bracket.start() : bracket.start() + 60])
            elif open_ones and (open_ones[-1][0] == "{") == (bracket[0] == "}"):
                open_ones.pop()  # [ and ) too: intervals are written [0, 1)
            elif bracket[0] != ")" and index == len(beside) - 1:
                raise _inside(stretch[max(bracket.start() - 60, 0) : bracket.end()])
        around = [piece for piece in open_ones if piece[0] != "("]
        if around and index < len(beside) - 1:
            raise _inside(around[0])


def _inside(piece: str) -> ValueError:
    return ValueError(
        f"The JSON stands inside something broken, at {fields.shown(piece)}; read alone it would lose what that says, "
        "such as the picture's size. Mend the brackets, names and quotes around it, or take away what does not belong."
    )


def _parsed(text: str, start: int) -> tuple[Any, int]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_without_twins, parse_int=_whole_number, parse_constant=_refused_constant
    )
    return decoder.raw_decode(text, start)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"An object of the JSON has {fields.shown(twin)} twice. Keep the one that holds.")
    return values


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise ValueError(f"The JSON holds a number of {len(digits)} digits, which is no coordinate.")
    return int(digits)


def _refused_constant(name: str):
    raise ValueError(f"The JSON holds {name}, which is no number.")


def _may_be_layout(value: Any) -> bool:
    """An object, or a list with objects in it or one list further in. Other lists are read as loose text."""
    if isinstance(value, dict):
        return True
    inner = [item for outer in value for item in (outer if isinstance(outer, list) else [outer])]
    return any(isinstance(item, dict) for item in inner)


def chosen(layouts: list, index: int | None, what: str = "layouts") -> Any:
    """Return the layout that is meant.

    Args:
        index: which, from 0; None: there is only one.
        what: the file calls them.
    """
    if index is None and len(layouts) > 1:
        raise ValueError(
            f"The JSON holds {len(layouts)} {what}. Choose one with index, 0 to {len(layouts) - 1}, or keep what "
            "belongs to one of them."
        )
    return layouts[in_range(index or 0, len(layouts), what)]


def in_range(index: int, layouts: int, what: str = "layouts") -> int:
    if not 0 <= index < layouts:
        holds = "one layout: its index is 0" if layouts == 1 else f"{layouts} {what}, 0 to {layouts - 1}"
        raise ValueError(f"There is no layout {index}: the text holds {holds}.")
    return index


def layouts_in(data: Any, marks: frozenset[str]) -> list | None:
    """Return the layouts of a collection (a list, an object of layouts, or frames); None if the data is none.

    Args:
        marks: the keys by which an object is a layout.
    """

    def is_layout(value: Any) -> bool:
        return isinstance(value, dict) and not marks.isdisjoint(value)

    if isinstance(data, list):
        if data and all(isinstance(item, list) for item in data):
            return data
        if any(is_layout(item) for item in data):
            return _all_layouts(list(enumerate(data)), is_layout)
        return None
    if is_layout(data):
        return None
    if any(is_layout(value) for value in data.values()):
        # A text or a number beside them is a note; anything else may be a layout of another kind.
        return _all_layouts(
            [
                (key, value)
                for key, value in data.items()
                if isinstance(value, dict | list) or fields.holds_box(value)
            ],
            is_layout,
        )
    lists = [key for key, value in data.items() if isinstance(value, list) and any(map(is_layout, value))]
    if not lists:
        return None
    if len(lists) > 1:
        raise ValueError(
            f"The JSON has {len(lists)} lists of layouts, {fields.shown(lists)}. Keep one of them."
        )
    fields.refuse_boxes_beside(data, lists[0])
    return _all_layouts(list(enumerate(data[lists[0]])), is_layout)


def _all_layouts(items: list[tuple], is_layout) -> list:
    for key, value in items:
        if not is_layout(value):
            raise ValueError(
                f"The JSON holds several layouts, but what stands at {fields.shown(key)} is none: "
                f"{fields.shown(value)}."
            )
    return [value for _, value in items]
