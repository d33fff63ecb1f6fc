"""The pictures that templates and help pages show: there, and small enough for an archive that everybody loads."""

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
HELP = ROOT / "web" / "docs"
PAGES = sorted(HELP.glob("*.md"))
LOOKED_AT = {"DEIG_RegionEditor", "DEIG_PreviewRegions", "DEIG_MaskRegion", "DEIG_AttentionMaps"}


@pytest.mark.parametrize("workflow", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_every_template_has_a_small_picture(workflow):
    place = workflow.with_suffix(".jpg")
    assert place.stat().st_size < 60_000
    with Image.open(place) as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 200


def pictures_of(page: Path) -> list[str]:
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_pictures_of_help_pages_are_there_and_small(page):
    named = pictures_of(page)
    assert named or page.stem not in LOOKED_AT
    for name in named:
        assert (HELP / name).stat().st_size < 150_000
        with Image.open(HELP / name) as picture:
            picture.verify()


def test_no_picture_lies_unused():
    used = {name for page in PAGES for name in pictures_of(page)}
    assert {place.name for place in HELP.iterdir() if place.suffix != ".md"} == used
