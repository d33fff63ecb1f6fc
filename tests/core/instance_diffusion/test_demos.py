"""The reference's own layouts, which are fetched and not kept here: INSTANCEDIFFUSION_PATH names a clone of it."""

import json
import os
from pathlib import Path

import pytest
from deig_pack.deig_core.instance_diffusion.places import places_of
from deig_pack.deig_core.regions.layouts import read_layout

REFERENCE = Path(os.environ.get("INSTANCEDIFFUSION_PATH") or ".instancediffusion-path-not-set")
# A box of no size at the lower edge, for what the reference reads as an instance of no place.
LEFT_OUT = {"demo_rose_garden_painting": 1}
DEMOS = sorted((REFERENCE / "demos").glob("*.json"))

pytestmark = pytest.mark.skipif(
    not DEMOS, reason="needs INSTANCEDIFFUSION_PATH, a clone of frank-xwang/InstanceDiffusion, for its demos"
)


def test_all_twelve_are_there():
    assert len(DEMOS) == 12


@pytest.mark.parametrize("path", DEMOS, ids=lambda path: path.stem)
def test_a_demo_is_read(path):
    text = path.read_text(encoding="utf-8")
    data, layout = json.loads(text), read_layout(text, edges="clip")
    assert layout.prompt == data["caption"]
    annos = [anno for number, anno in enumerate(data["annos"]) if f"annos[{number}]" not in layout.report]
    assert len(layout.regions) == len(annos) == len(data["annos"]) - LEFT_OUT.get(path.stem, 0)
    width, height = data["width"], data["height"]
    for region, anno in zip(layout.regions, annos, strict=True):
        assert region.phrase == anno["caption"]
        assert (region.mask is not None) == bool(anno.get("mask"))
        assert (region.scribble is not None) == ("scribble" in anno)
        if "bbox" in anno:
            x, y, w, h = anno["bbox"]
            expected = (x / width, y / height, min((x + w) / width, 1), min((y + h) / height, 1))
            assert region.box == pytest.approx(expected)
        if "point" in anno:
            x, y = anno["point"]
            assert region.point == pytest.approx((x / width, y / height))
    places = places_of(layout.regions)
    assert (places.masks is not None) == any(anno.get("mask") for anno in data["annos"])
