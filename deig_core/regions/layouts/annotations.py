"""Annotation files: InstanceDiffusion, COCO, DEIG-Bench and MIG-Bench.

What these formats have no word for (strength, start, end, radius, and outside InstanceDiffusion the mask, scribble
and point) is written under this pack's names and only where it is not the default; other readers ignore it.
"""

import json
from dataclasses import fields as dataclass_fields
from typing import Any

from ..region import Region
from . import fields
from .layout import Layout
from .places import box_around, read_places, written_places

DEFAULTS = {field.name: field.default for field in dataclass_fields(Region)}


def read_instancediffusion(data: dict, width: float, height: float) -> Layout:
    """`annos` with `bbox` xywh in pixels of the file's own width and height, and `caption`.

    An entry may have a mask, scribble or point beside the box, or instead of it; then the box is drawn around.
    """
    width, height = _own_size(data, "", width, height)
    regions = []
    for place, anno in fields.entries(data, "annos"):
        places = read_places(anno, place, width, height)
        has_box = anno.get("bbox") is not None
        box = _pixel_box(anno, place, width, height) if has_box else box_around(places, width, height)
        if box is None:
            raise ValueError(f"{place} has no place: no bbox, mask, scribble or point.")
        # An instance's own words; the category's name only where there are none.
        key = "caption" if anno.get("caption") else "category_name"
        phrase = fields.text(anno, key, place)
        regions.append(fields.region(phrase, box, place, **fields.settings(anno, place), **places))
    return Layout(tuple(regions), fields.prompt(data, "the layout", "caption"), width, height)


def write_instancediffusion(layout: Layout, width: float, height: float) -> str:
    annos = [
        {
            "bbox": _written_pixel_box(region, width, height),
            "mask": [],
            "category_name": "",
            "caption": region.phrase,
            **written_places(region, width, height),
            **_changed_settings(region),
        }
        for region in layout.regions
    ]
    return _dumped({"caption": layout.prompt, "width": width, "height": height, "annos": annos})


def read_coco(data: dict, width: float, height: float) -> Layout:
    """`annotations` of one image: `bbox` xywh in pixels, the phrase is the category's name.

    `segmentation` is not read: polygons there are often rougher or finer than the box that was wanted.
    """
    annotations = list(fields.entries(data, "annotations"))
    # Not a set: anything may stand there, also what cannot be hashed.
    image_ids = []
    for _, annotation in annotations:
        if annotation.get("image_id") not in image_ids:
            image_ids.append(annotation.get("image_id"))
    if len(image_ids) > 1:
        raise ValueError(
            f"annotations belong to {len(image_ids)} images. A layout is one image: keep the annotations with "
            f"one image_id, for example {fields.shown(image_ids[0])}."
        )
    for place, image in fields.entries(data, "images") if "images" in data else ():
        if not image_ids or image.get("id") == image_ids[0]:
            width, height = _own_size(image, place, width, height)
            break
    names = {}
    for place, category in fields.entries(data, "categories"):
        names[fields.number(category.get("id"), f"{place}.id")] = fields.text(category, "name", place)

    regions = []
    for place, annotation in annotations:
        category = fields.number(annotation.get("category_id"), f"{place}.category_id")
        if category not in names:
            raise ValueError(f"{place}.category_id is {category:g}, but categories has no such id.")
        box = _pixel_box(annotation, place, width, height)
        others = fields.settings(annotation, place) | read_places(annotation, place, 1, 1)
        regions.append(fields.region(names[category], box, place, **others))
    info = data.get("info") if isinstance(data.get("info"), dict) else {}
    return Layout(tuple(regions), fields.prompt(info, "info", "description"), width, height)


def write_coco(layout: Layout, width: float, height: float) -> str:
    phrases = list(dict.fromkeys(region.phrase for region in layout.regions))
    annotations = []
    for index, region in enumerate(layout.regions):
        box = _written_pixel_box(region, width, height)
        annotations.append(
            {
                "id": index + 1,
                "image_id": 1,
                "category_id": phrases.index(region.phrase) + 1,
                "bbox": box,
                "area": fields.rounded(box[2] * box[3]),
                "iscrowd": 0,
                **written_places(region, 1, 1),
                **_changed_settings(region),
            }
        )
    return _dumped(
        {
            "info": {"description": layout.prompt},
            "images": [{"id": 1, "width": width, "height": height, "file_name": ""}],
            "annotations": annotations,
            "categories": [{"id": index + 1, "name": phrase} for index, phrase in enumerate(phrases)],
        }
    )


def read_deig_bench(data: dict, width: float, height: float) -> Layout:
    """`instances` with `bbox` xyxy in fractions and `description`."""
    return _read_bench(data, "instances", "description")


def read_mig_bench(data: dict, width: float, height: float) -> Layout:
    """`segment` with `bbox` xyxy in fractions and `label`."""
    return _read_bench(data, "segment", "label")


def _read_bench(data: dict, list_key: str, phrase_key: str) -> Layout:
    regions = []
    for place, entry in fields.entries(data, list_key):
        box = fields.numbers(entry.get("bbox"), 4, "x0, y0, x1, y1", f"{place}.bbox")
        others = fields.settings(entry, place) | read_places(entry, place, 1, 1)
        regions.append(fields.region(fields.text(entry, phrase_key, place), box, place, **others))
    return Layout(tuple(regions), fields.prompt(data, "the entry", "caption", "prompt"))


def write_deig_bench(layout: Layout, width: float, height: float) -> str:
    return _write_bench(layout, "instances", "description")


def write_mig_bench(layout: Layout, width: float, height: float) -> str:
    return _write_bench(layout, "segment", "label")


def _write_bench(layout: Layout, list_key: str, phrase_key: str) -> str:
    listed = [
        {
            "bbox": [fields.rounded(edge) for edge in region.box],
            phrase_key: region.phrase,
            **written_places(region, 1, 1),
            **_changed_settings(region),
        }
        for region in layout.regions
    ]
    return _dumped({"caption": layout.prompt, list_key: listed})


def _own_size(holder: dict, place: str, width: float, height: float) -> tuple[float, float]:
    """The size in pixels that the text gives, else the one that the caller gives."""
    own_width, own_height = fields.side(holder, "width", place), fields.side(holder, "height", place)
    return own_width or width, own_height or height


def _pixel_box(entry: dict, place: str, width: float, height: float) -> fields.Box:
    """xywh in pixels -> xyxy in fractions"""
    corner_and_size = fields.numbers(entry.get("bbox"), 4, "x, y, width, height", f"{place}.bbox")
    return fields.scaled(fields.from_corner(corner_and_size), 1 / width, 1 / height)


def _written_pixel_box(region: Region, width: float, height: float) -> list[float]:
    return [fields.rounded(part) for part in fields.to_corner(fields.scaled(region.box, width, height))]


def _changed_settings(region: Region) -> dict[str, float]:
    values = {key: getattr(region, key) for key in fields.SETTINGS}
    return {key: value for key, value in values.items() if value != DEFAULTS[key]}


def _dumped(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, indent=1)
