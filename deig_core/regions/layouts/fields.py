"""Reading one value at a time out of parsed JSON. Every error names the place, like `annos[2].bbox`."""

from collections.abc import Iterator
from typing import Any

from ..region import Region
from . import in_words

Box = tuple[float, float, float, float]

# Annotation files round their numbers, which carries boxes at the edge a little over it. Up to half a pixel
# of a 512 picture counts as lying on the edge.
EDGE_SLACK = 1e-3

# Far more than anybody paints: what goes beyond is no layout, and would only take long to be told so.
MOST_REGIONS = 10_000

# Keys under which this or that format keeps a box.
BOX_WORDS = frozenset(("bbox", "box", "bbox_2d", "box_2d", "bounding_box", "bboxes", "boxes"))

# Numbers under these names are a box, or the half of one. Words under them (left: "a cup") are not.
BOX_NAMES = (
    *({"x", "y"}, {"x0"}, {"x1"}, {"xmin"}, {"x_min"}, {"cx", "cy"}),
    *({"left", "top"}, {"left", "right"}, {"top", "bottom"}),
)
# Text under these is words that are read or that name something, whatever numbers they hold.
WORDS = frozenset(
    (
        "prompt",
        "background_prompt",
        "background",
        "caption",
        "description",
        "phrase",
        "label",
        "name",
        "object",
        "title",
    )
    + (
        "text_content",
        "desc",
        "text",
        "high_level_description",
        "category",
        "category_name",
        "file_name",
        "url",
    )
)
# What annotation files hold beside a box about the same thing.
NO_BOXES = frozenset(("segmentation", "keypoints", "counts"))

# What width and height of a picture are called.
SIZE_NAMES = (
    ("width", "height"),
    *((f"{whose}_width", f"{whose}_height") for whose in ("image", "img", "canvas")),
)

SETTINGS = ("strength", "start_percent", "end_percent")


def entries(holder: dict, key: str, place: str = "") -> Iterator[tuple[str, dict]]:
    """Yield (place, object) for each object of the list at `key`."""
    name = f"{place}.{key}" if place else key
    values = holder.get(key)
    if not isinstance(values, list):
        raise ValueError(f"{name} should be a list of objects, but it is {shown(values)}.")
    limit_count(len(values), name)
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise ValueError(f"{name}[{index}] should be an object, but it is {shown(value)}.")
        yield f"{name}[{index}]", value


def limit_count(count: int, name: str):
    if count > MOST_REGIONS:
        raise ValueError(f"{name} has {count} entries; a layout has at most {MOST_REGIONS}.")


def text(holder: dict, key: str, place: str) -> str:
    value = holder.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{place}.{key} should be text, but it is {shown(value)}.")
    return whole(value, f"{place}.{key}")


def whole(value: str, place: str) -> str:
    """Text that can be written again: JSON and quoted text may hold half a character, a lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place} holds half a character (a lone surrogate): {shown(value)}.") from None
    return value


def prompt(holder: dict, place: str, *keys: str) -> str:
    """The first text there is at one of the keys, else ""."""
    return next((text(holder, key, place) for key in keys if holder.get(key) is not None), "")


def number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{place} should be a number, but it is {shown(value)}.")
    # Not float(value): whole numbers of JSON may be too large for a float.
    if not -1e12 < value < 1e12:
        raise ValueError(f"{place} is {shown(value)}, which is no possible coordinate or setting.")
    return float(value)


def numbers(value: Any, count: int, names: str, place: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{place} should be {count} numbers, [{names}], but it is {shown(value)}.")
    return tuple(number(part, f"{place}[{index}]") for index, part in enumerate(value))


def side(holder: dict, key: str, place: str) -> float | None:
    """A width or height in pixels, None where there is none."""
    if holder.get(key) is None:
        return None
    place = f"{place}.{key}" if place else key
    pixels = number(holder[key], place)
    if pixels <= 0:
        raise ValueError(f"{place} is {pixels:g}; a side is more than 0 pixels.")
    return pixels


def picture_size(holder: dict, place: str, width: float, height: float) -> tuple[float, float]:
    """The size in pixels that the text gives, else the one that the caller gives.

    Raises:
        ValueError: for half of a size, two sizes that differ, and one in an object of its own: boxes would be scaled by
            another.
    """
    for key, value in holder.items():
        if isinstance(value, dict) and all(_is_number(value.get(name)) for name in SIZE_NAMES[0]):
            raise ValueError(
                f"{place or 'The layout'} has a width and a height within {shown(key)}, where the picture's are not "
                "read. Put them beside it, or take them away."
            )
    found = {}
    for names in SIZE_NAMES:
        sides = tuple(side(holder, name, place) for name in names)
        if (sides[0] is None) != (sides[1] is None):
            given, lacking = names if sides[1] is None else names[::-1]
            raise ValueError(
                f"{place or 'The layout'} gives the picture's {given}, but no {lacking}. Give both, or neither."
            )
        if None not in sides:
            found[sides] = names
    if len(found) > 1:
        by = " and by ".join(names[0] for names in found.values())
        raise ValueError(
            f"{place or 'The layout'} gives two sizes of the picture, by {by}. Keep the one that holds."
        )
    return next(iter(found), (width, height))


def is_given(value: Any) -> bool:
    """Whether anything stands there: null and what is empty is nothing."""
    return value is not None and value not in ("", [], {})


def holds_box(value: Any) -> bool:
    """Whether anything in parsed JSON looks like a box: four numbers, two points, text with them, or a box's names."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if _boxed_names(value):
                return True
            waiting.extend(part for key, part in value.items() if _may_hold_box(key, part))
        elif isinstance(value, list):
            two_points = len(value) == 2 and all(
                isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in value
            )
            if two_points or (len(value) == 4 and all(map(_is_number, value))):
                return True
            waiting.extend(part for part in value if isinstance(part, dict | list | str))
        elif isinstance(value, str) and in_words.box_at(value):
            return True
    return False


def _may_hold_box(key: str, value: Any) -> bool:
    if isinstance(value, str):
        return key not in WORDS and key not in NO_BOXES
    return isinstance(value, dict | list) and key not in NO_BOXES and "colo" not in key.lower()


def _boxed_names(holder: dict) -> list[str]:
    """The keys of an object under which a box or a part of one stands, whatever it is."""
    keys = [key for key in holder if key in BOX_WORDS and is_given(holder[key])]
    if keys:
        return keys
    named = {key.lower(): key for key, value in holder.items() if _is_number(value)}
    return next(([named[name] for name in sorted(names)] for names in BOX_NAMES if names <= named.keys()), [])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, str) and in_words.is_number(value))


def _left_box(holder: dict, read: tuple[str, ...]) -> str | None:
    """The first key under which something looks like a box, beside the keys that are read."""
    rest = {key: value for key, value in holder.items() if key not in read}
    boxed = _boxed_names(rest)
    return next(
        (key for key, part in rest.items() if key in boxed or (_may_hold_box(key, part) and holds_box(part))),
        None,
    )


def refuse_boxes_beside(holder: dict, *read: str):
    """Refuse what looks like a box in an object outside the keys that are read: it would be lost."""
    key = _left_box(holder, read)
    if key is not None:
        raise ValueError(
            f"{shown(key)} holds a box that would be lost: the layout is read from {' and '.join(read)}. "
            "Put it there, or take it away."
        )


def refuse_more_boxes(entry: dict, place: str, *read: str):
    """Refuse what looks like a box in an entry, outside the keys that are read."""
    key = _left_box(entry, read)
    if key is not None:
        raise ValueError(
            f"{place} holds a box in {shown(key)}, which would be lost beside its own. Make that an entry by itself, "
            "or take it away."
        )


def settings(holder: dict, place: str) -> dict[str, float]:
    """A region's strength, start and end, as far as they are given; null is not."""
    return {key: number(holder[key], f"{place}.{key}") for key in SETTINGS if holder.get(key) is not None}


def from_corner(corner_and_size: tuple[float, ...]) -> Box:
    """xywh -> xyxy"""
    x, y, width, height = corner_and_size
    return x, y, x + width, y + height


def to_corner(box: Box) -> Box:
    """xyxy -> xywh"""
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0


def scaled(box: Box, width: float, height: float) -> Box:
    x0, y0, x1, y1 = box
    return x0 * width, y0 * height, x1 * width, y1 * height


def region(phrase: str, box: Box, place: str, **others) -> Region:
    """Make a region from a box in fractions; what is wrong with it is said together with where."""
    try:
        return Region(phrase, tuple(on_edge(value) for value in box), **others)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def on_edge(value: float) -> float:
    if -EDGE_SLACK <= value < 0:
        return 0.0
    if 1 < value <= 1 + EDGE_SLACK:
        return 1.0
    return value


def shown(value: Any) -> str:
    """A value for a message: short, and never a whole file."""
    if value is None:
        return "missing"
    if isinstance(value, int) and not -1e12 < value < 1e12:  # printing millions of digits takes minutes
        return "a number of very many digits"
    if isinstance(value, list | dict) and len(value) > 6:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    # Not the whole of a long text, which repr would write out first.
    written = repr(value[:80] if isinstance(value, str) else value)
    return written if len(written) <= 80 else written[:77] + "..."


def rounded(value: float) -> float:
    """A number as it is written out: readable, and far finer than the 1e-6 that a round trip may lose."""
    return round(value, 9)
