"""Annotation files: InstanceDiffusion, COCO, DEIG-Bench and MIG-Bench.

What these formats have no word for (strength, start, end, radius, and outside InstanceDiffusion the mask, scribble
and point) is written under this pack's names and only where it is not the default; other readers ignore it.
"""

import json
import re
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any

from ..region import Region
from . import fields
from .layout import Draft, Entry, Layout
from .places import box_around, read_others, written_places

DEFAULTS = {field.name: field.default for field in dataclass_fields(Region)}
# As a number is written: 007 is a name.
WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,11}")


def read_instancediffusion(data: dict, width: float, height: float) -> Draft:
    """`annos` with `bbox` xywh in pixels of the file's own width and height, and `caption`.

    An entry may have a mask, scribble or point beside the box, or instead of it; then the box is drawn around.
    """
    fields.refuse_boxes_beside(data, "annos")
    width, height = fields.picture_size(data, "", width, height)
    entries = []
    for place, anno in fields.entries(data, "annos"):
        others = read_others(anno, place, width, height, "bbox", "caption", "category_name")
        has_box = anno.get("bbox") is not None
        box = _pixel_box(anno, place, width, height) if has_box else box_around(others, width, height)
        if box is None:
            raise ValueError(f"{place} has no place: no bbox, mask, scribble or point.")
        # An instance's own words; the category's name only where there are none.
        key = "caption" if anno.get("caption") else "category_name"
        phrase = fields.text(anno, key, place)
        entries.append(Entry(place, phrase, box, others))
    return Draft(tuple(entries), fields.prompt(data, "the layout", "caption"), width, height)


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


def read_coco(data: dict, width: float, height: float) -> Draft:
    """`annotations` of one image: `bbox` xywh in pixels, the phrase is the category's name.

    `segmentation` is not read: polygons there are often rougher or finer than the box that was wanted.
    """
    fields.refuse_boxes_beside(data, "annotations", "images", "categories")
    annotations = list(fields.entries(data, "annotations"))
    width, height = _image_size(data, annotations, width, height)
    names = _category_names(data)
    entries = []
    for place, annotation in annotations:
        category = fields.number(annotation.get("category_id"), f"{place}.category_id")
        if category not in names:
            raise ValueError(f"{place}.category_id is {category:g}, but categories has no such id.")
        box = _pixel_box(annotation, place, width, height)
        others = read_others(annotation, place, 1, 1, "bbox", "category_id")
        entries.append(Entry(place, names[category], box, others))
    info = data.get("info") if isinstance(data.get("info"), dict) else {}
    return Draft(tuple(entries), fields.prompt(info, "info", "description"), width, height)


def images_of(data: Any) -> list[list[dict]]:
    """The annotations of each image of a COCO file, for the images that have any, in the order of `images`.

    Nothing comes of a file of one image, nor of what is no such file: what is wrong with that is said by its reader.
    """
    found = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(annotation, dict) for annotation in found):
        return []
    by_image: dict[float | str | None, list[dict]] = {}
    for index, annotation in enumerate(found):
        image = _image_id(annotation.get("image_id"), f"annotations[{index}].image_id")
        by_image.setdefault(image, []).append(annotation)
    if len(by_image) < 2:
        return []
    images = list(fields.entries(data, "images")) if data.get("images") is not None else []
    order = {_image_id(image.get("id"), f"{place}.id"): at for at, (place, image) in enumerate(images)}
    ids = sorted(by_image, key=lambda image: order.get(image, len(order)))
    return [by_image[image] for image in ids]


def _image_size(data: dict, annotations: list, width: float, height: float) -> tuple[float, float]:
    """The size of the image that the annotations belong to, if the file says it.

    An id that no image has (some tools leave it out) is that of the file's one image; of several, nobody can say
    which.
    """
    ids = {
        _image_id(annotation.get("image_id"), f"{place}.image_id"): None for place, annotation in annotations
    }
    if len(ids) > 1:
        raise ValueError(
            f"annotations belong to {len(ids)} images. A layout is one image: keep the annotations with "
            f"one image_id, for example {fields.shown(next(iter(ids)))}."
        )
    images = list(fields.entries(data, "images")) if data.get("images") is not None else []
    wanted = next(iter(ids), None)
    fitting = (
        [item for item in images if _image_id(item[1].get("id"), f"{item[0]}.id") == wanted] if ids else []
    )
    if len(fitting) != 1:
        if len(images) > 1:
            raise ValueError(
                f"{len(fitting) or 'None'} of the {len(images)} images {'have' if fitting else 'has'} the id of the "
                f"annotations, {fields.shown(wanted)}, so that the picture's size is not known. Keep its image alone."
            )
        fitting = images
    return fields.picture_size(fitting[0][1], fitting[0][0], width, height) if fitting else (width, height)


def _image_id(value: Any, place: str) -> float | str | None:
    """An id to compare by: a whole number is the same as text and as a number."""
    if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value):
        return float(value)
    if value is None or isinstance(value, str):
        return value
    return fields.number(value, place)


def _category_names(data: dict) -> dict[float, str]:
    names: dict[float, str] = {}
    for place, category in fields.entries(data, "categories"):
        number = fields.number(category.get("id"), f"{place}.id")
        name = fields.text(category, "name", place)
        if names.setdefault(number, name) != name:
            raise ValueError(
                f"{place} has the id {number:g}, which {fields.shown(names[number])} has too. Give each its own."
            )
    return names


def write_coco(layout: Layout, width: float, height: float) -> str:
    categories: dict[str, int] = {}
    for region in layout.regions:
        categories.setdefault(region.phrase, len(categories) + 1)
    annotations = []
    for index, region in enumerate(layout.regions):
        box = _written_pixel_box(region, width, height)
        annotations.append(
            {
                "id": index + 1,
                "image_id": 1,
                "category_id": categories[region.phrase],
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
            "categories": [{"id": number, "name": phrase} for phrase, number in categories.items()],
        }
    )


def read_deig_bench(data: dict, width: float, height: float) -> Draft:
    """`instances` with `bbox` xyxy in fractions and `description`.

    The prompt is the descriptions joined by commas, as the benchmark's own script makes it; its `caption` is that of
    the COCO picture, which nobody paints from. A `prompt` of one's own, as `write_deig_bench` adds it, goes before.
    """
    draft = _read_bench(data, "instances", "description")
    own = fields.prompt(data, "the entry", "prompt")
    if data.get("prompt") is None:
        own = ", ".join(entry.phrase for entry in draft.entries)
    return replace(draft, prompt=own)


def read_mig_bench(data: dict, width: float, height: float) -> Draft:
    """`segment` with `bbox` xyxy in fractions and `label`."""
    draft = _read_bench(data, "segment", "label")
    return replace(draft, prompt=fields.prompt(data, "the entry", "caption", "prompt"))


def _read_bench(data: dict, list_key: str, phrase_key: str) -> Draft:
    fields.refuse_boxes_beside(data, list_key)
    entries = []
    for place, entry in fields.entries(data, list_key):
        box = fields.numbers(entry.get("bbox"), 4, "x0, y0, x1, y1", f"{place}.bbox")
        others = read_others(entry, place, 1, 1, "bbox", phrase_key)
        entries.append(Entry(place, fields.text(entry, phrase_key, place), box, others))
    return Draft(tuple(entries))


def write_deig_bench(layout: Layout, width: float, height: float) -> str:
    return _write_bench(layout, "instances", "description", prompt=layout.prompt)


def write_mig_bench(layout: Layout, width: float, height: float) -> str:
    return _write_bench(layout, "segment", "label")


def _write_bench(layout: Layout, list_key: str, phrase_key: str, **more: str) -> str:
    listed = [
        {
            "bbox": [fields.rounded(edge) for edge in region.box],
            phrase_key: region.phrase,
            **written_places(region, 1, 1),
            **_changed_settings(region),
        }
        for region in layout.regions
    ]
    return _dumped({"caption": layout.prompt, **more, list_key: listed})


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
