"""Places other than boxes in JSON: `mask`, `scribble`, `point`, and the `radius` of the last two."""

from typing import Any

from ..region import POINT_RADIUS, SCRIBBLE_RADIUS, Region
from . import fields
from .run_length import read_mask, write_mask

PLACE_KEYS = ("mask", "scribble", "point", "radius")


def read_places(entry: dict, place: str, width: float, height: float) -> dict:
    """The mask, scribble, point and radius of an entry, whose image is `width` x `height` in its units.

    The radius is a fraction of the shorter side in every format. Null and an empty list (which annotation files
    write where there is none) are no place; anything else is read or refused.
    """
    found = {}
    if _is_given(entry, "mask"):
        found["mask"] = read_mask(entry["mask"], f"{place}.mask")
    if _is_given(entry, "scribble"):
        if not isinstance(entry["scribble"], list):
            raise ValueError(
                f"{place}.scribble should be a list of points, but it is {fields.shown(entry['scribble'])}."
            )
        found["scribble"] = tuple(
            _read_point(point, f"{place}.scribble[{index}]", width, height)
            for index, point in enumerate(entry["scribble"])
        )
    if _is_given(entry, "point"):
        found["point"] = _read_point(entry["point"], f"{place}.point", width, height)
    if entry.get("radius") is not None:
        found["radius"] = fields.number(entry["radius"], f"{place}.radius")
    return found


def read_others(entry: dict, place: str, width: float, height: float, *read: str) -> dict:
    """All of an entry but its phrase and box, which stand at the keys `read`; a second box in it is refused."""
    fields.refuse_more_boxes(entry, place, *read, *fields.SETTINGS, *PLACE_KEYS)
    return fields.settings(entry, place) | read_places(entry, place, width, height)


def _is_given(entry: dict, key: str) -> bool:
    return entry.get(key) is not None and entry[key] != []


def _read_point(value: Any, place: str, width: float, height: float) -> tuple[float, float]:
    x, y = fields.numbers(value, 2, "x, y", place)
    x, y = fields.on_edge(x / width), fields.on_edge(y / height)
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"{place} lies outside the image: {fields.shown(value)}.")
    return x, y


def box_around(places: dict, width: float, height: float) -> fields.Box | None:
    """The box, xyxy in fractions, of an entry that has other places and no box; None if it has none."""
    if "mask" in places:
        return places["mask"].bounding_box()
    points, usual = places.get("scribble"), SCRIBBLE_RADIUS
    if not points:
        if "point" not in places:
            return None
        points, usual = (places["point"],), POINT_RADIUS
    reach = places.get("radius", usual) * min(width, height)
    xs, ys = zip(*points, strict=True)
    around = (
        min(xs) - reach / width,
        min(ys) - reach / height,
        max(xs) + reach / width,
        max(ys) + reach / height,
    )
    return tuple(min(max(edge, 0.0), 1.0) for edge in around)


def written_places(region: Region, width: float, height: float) -> dict:
    def written_point(point):
        return [fields.rounded(point[0] * width), fields.rounded(point[1] * height)]

    found: dict = {}
    if region.mask is not None:
        found["mask"] = write_mask(region.mask)
    if region.scribble is not None:
        found["scribble"] = [written_point(point) for point in region.scribble]
    if region.point is not None:
        found["point"] = written_point(region.point)
    if region.radius is not None:
        found["radius"] = region.radius
    return found
