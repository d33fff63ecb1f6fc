"""The README's table of what comes in and goes out: each row has a test that shows it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

DRAWING = "tests/browser/test_drawing.py"
WORKFLOWS = "tests/host/test_workflows.py"
BOX_NODES = "tests/host/test_box_nodes.py"
LAYOUTS = "tests/core/test_layouts.py"
DESCRIBE = "tests/host/test_describe.py"
REGIONAL = "tests/host/composition/test_regional.py"

SHOWN_BY = {
    "the mouse, a pen, the keys": (DRAWING, "test_brushed_saved_loaded_and_painted"),
    "a mask: mask editor, segmenters": (DRAWING, "test_chained_mask_regions_are_seen"),
    "*SAM3 Detect*": (BOX_NODES, "test_what_sam3_finds_by_words_is_regions_with_their_masks"),
    "*Real-Time Detection (RT-DETR)*": (WORKFLOWS, "test_what_a_language_model_says_is_painted"),
    "MediaPipe's face landmarks": (BOX_NODES, "test_mediapipes_faces_are_regions"),
    "*Create Bounding Boxes*": (BOX_NODES, "test_the_hosts_canvas_takes_our_boxes_and_gives_them_back"),
    "*Build JSON Prompt*": (BOX_NODES, "test_the_hosts_json_prompt_is_a_layout"),
    "*Bounding Box*": (BOX_NODES, "test_the_hosts_drawing_and_primitive_take_and_give_boxes"),
    "a language model: *Generate Text*": (WORKFLOWS, "test_what_a_language_model_says_is_painted"),
    "layout files of other tools": (LAYOUTS, "test_each_form_reads"),
    "a picture, with a vision language model": (DESCRIBE, "test_the_hosts_own_model_sees_the_crop"),
    "to a LoRA for one region": (WORKFLOWS, "test_what_works_in_one_region_works_there_and_hardly_elsewhere"),
    "to a ControlNet for one region": (
        WORKFLOWS,
        "test_what_works_in_one_region_works_there_and_hardly_elsewhere",
    ),
    "to inpainting": (WORKFLOWS, "test_painting_into_regions_leaves_the_rest"),
    "to IP-Adapter, a picture for each region": (REGIONAL, "test_a_masked_picture_and_deig_both_act"),
    "to *Create Bounding Boxes*": (BOX_NODES, "test_the_hosts_canvas_takes_our_boxes_and_gives_them_back"),
    "to *SAM3 Detect*": (BOX_NODES, "test_sam3_reads_our_boxes_as_it_reads_its_own"),
    "to *Draw BBoxes*": (BOX_NODES, "test_the_hosts_drawing_and_primitive_take_and_give_boxes"),
    "to layout files of other tools": (LAYOUTS, "test_places_of_instancediffusion_are_kept"),
}


def rows() -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## What comes in, what goes out\n")[1].split("\n## ")[0]
    found, prefix = [], ""
    for line in section.splitlines():
        first = line.split("|")[1].strip() if line.startswith("|") else ""
        if first in ("from", "to"):
            prefix = "to " if first == "to" else ""
        elif first and not set(first) <= set("-"):
            found.append(prefix + first)
    return found


def test_every_row_has_its_test_and_every_test_its_row():
    assert sorted(rows()) == sorted(SHOWN_BY)


@pytest.mark.parametrize(("path", "function"), sorted(set(SHOWN_BY.values())))
def test_the_test_is_there(path, function):
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
