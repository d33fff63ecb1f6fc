"""A list of objects, each with a phrase and a box, as language models write it: alone, or with the prompt around it."""

from dataclasses import dataclass
from typing import Any

from . import fields

# The most telling first: where an entry has several, a description says more than a name.
PHRASE_KEYS = ("description", "phrase", "caption", "prompt", "label", "name", "object", "text_content")


@dataclass(frozen=True)
class Listed:
    """The entries with their places, and what stands around them.

    Args:
        width, height: of the picture in pixels, as the text gives them, else as the caller does.
    """

    items: list[tuple[str, dict]]
    prompt: str
    width: float
    height: float


def one_list(data: Any, width: float, height: float) -> Listed:
    """Find the list in JSON: the data itself, the only list of an object, or an object that is its one entry."""
    prompt, items = "", data
    if isinstance(data, dict) and not fields.BOX_WORDS.isdisjoint(data):
        items = [data]
    elif isinstance(data, dict):
        lists = [key for key, value in data.items() if isinstance(value, list) and value]
        if len(lists) != 1:
            raise ValueError(
                f"The JSON has {len(lists)} lists that could be the layout; one is wanted: a list of objects, "
                'each like {"label": "a red car", "bbox": [x, y, width, height]}.'
            )
        fields.refuse_boxes_beside(data, lists[0])
        width, height = fields.picture_size(data, "", width, height)
        prompt = fields.prompt(data, "the layout", "prompt", "background_prompt", "background", "caption")
        items = data[lists[0]]
    return Listed(list(fields.entries({"item": items}, "item")), prompt, width, height)


def entries_of(data: Any) -> list[Any]:
    """What `one_list` would find, without a word about what is wrong: to tell forms apart."""
    if isinstance(data, list):
        return data
    if not fields.BOX_WORDS.isdisjoint(data) or {"x", "y", "metadata"} <= data.keys():
        return [data]
    lists = [value for value in data.values() if isinstance(value, list) and value]
    return lists[0] if len(lists) == 1 else []


def phrase_of(entry: dict, place: str) -> str:
    key = next((key for key in PHRASE_KEYS if entry.get(key) is not None), None)
    if key is None:
        raise ValueError(f"{place} has no phrase: none of {', '.join(PHRASE_KEYS)}.")
    return fields.text(entry, key, place)


def only_box(entry: dict, place: str) -> str | None:
    """The key of an entry's box; None where none of the usual ones is there. Two boxes are one too many."""
    keys = [key for key in sorted(fields.BOX_WORDS) if fields.is_given(entry.get(key))]
    if len(keys) > 1:
        raise ValueError(f"{place} has {' and '.join(keys)}. Keep the one that holds.")
    return keys[0] if keys else None
