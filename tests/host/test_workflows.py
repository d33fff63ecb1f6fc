"""The shared workflows: what the frontend would send for them, and that it runs to a picture."""

import copy
import io
import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.quality.judge import NAMES as COLOUR_NAMES
from bench.quality.judge import labels
from demo.workflows import read_workflow, to_api_form, workflow_names
from small_model.place import SMALL

ROOT = Path(__file__).resolve().parents[2]
NAMES = workflow_names()
SMALL_MODEL = "deig_small_model"  # its files lie in the repository, under the names of small_model/place.py
TITLE_HEIGHT = 30


def read_api_form(name: str) -> dict:
    return json.loads((Path(__file__).parent / "api" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def object_info(comfy_server):
    return comfy_server.object_info()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_the_workflows_that_the_readme_promises():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(NAMES) >= 9 and not [name for name in NAMES if f"`{name}`" not in readme]


def test_workflow_is_what_its_api_form_says(name, object_info):
    assert to_api_form(read_workflow(name), object_info) == read_api_form(name)


def test_links_join_what_they_name(name, object_info):
    workflow = read_workflow(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["last_node_id"] == max(nodes)
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    for number, source, slot, target, target_slot, kind in workflow["links"]:
        output = nodes[source]["outputs"][slot]
        socket = nodes[target]["inputs"][target_slot]
        assert number in output["links"] and socket["link"] == number
        assert output["type"] == kind == object_info[nodes[source]["type"]]["output"][slot]
        assert kind in socket["type"].split(",")  # it may take either of two


def test_nodes_keep_their_titles_and_do_not_overlap(name):
    nodes = read_workflow(name)["nodes"]
    assert not [node for node in nodes if "title" in node]
    boxes = [
        (x, y - TITLE_HEIGHT, x + width, y + height)
        for (x, y), (width, height) in ((node["pos"], node["size"]) for node in nodes)
    ]
    for index, (left, top, right, bottom) in enumerate(boxes):
        for x0, y0, x1, y1 in boxes[:index]:
            assert x1 <= left or right <= x0 or y1 <= top or bottom <= y0


def test_seed_is_fixed(name):
    samplers = [node for node in read_workflow(name)["nodes"] if node["type"] == "KSampler"]
    assert samplers and all(node["widgets_values"][1] == "fixed" for node in samplers)


def test_loaders_tell_the_frontend_where_models_come_from(name, comfy_server):
    folders = comfy_server.get("/models")
    loaders = [
        node
        for node in read_workflow(name)["nodes"]
        if "Load" in node["type"] and node["type"] != "LoadImage"
    ]
    assert len(loaders) >= 2
    if name == SMALL_MODEL:
        assert {node["widgets_values"][0] for node in loaders} == set(astuple(SMALL))
        return
    for node in loaders:
        models = node["properties"]["models"]
        assert [model["name"] for model in models] == node["widgets_values"][: len(models)]
        for model in models:
            assert model["directory"] in folders
            assert model["url"].startswith(("https://huggingface.co/", "https://civitai.com/"))


def test_paper_workflow_has_the_papers_settings():
    (sampler,) = [node for node in read_api_form("deig_paper").values() if node["class_type"] == "KSampler"]
    settings = {key: sampler["inputs"][key] for key in ("steps", "cfg", "sampler_name", "scheduler")}
    assert settings == {"steps": 40, "cfg": 7.5, "sampler_name": "euler", "scheduler": "ddim_uniform"}


QUARTER = 4
# Sizes and places in pixels that are scaled down together; regions are fractions and stay.
IN_PIXELS = {
    "EmptyLatentImage": ("width", "height"),
    "ImageScale": ("width", "height"),
    "SolidMask": ("width", "height"),
    "MaskComposite": ("x", "y"),
}


def shortened(prompt: dict) -> dict:
    """The same graph with two steps at a quarter of the size."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 2
        for name in IN_PIXELS.get(node["class_type"], ()):
            if isinstance(node["inputs"][name], int):
                node["inputs"][name] //= QUARTER
            else:  # wired, from an editor: give it what the picture needs
                node["inputs"][name] = 128
    return prompt


PICTURES = {"deig_hires": [(288, 192)], "deig_iterative": [(128, 128)] * 3}


def test_workflow_runs_to_a_picture(name, object_info, comfy_server):
    if name.startswith("eligen_"):
        pytest.skip("the host takes only FLUX.1 and Qwen-Image of full size; see eligen/test_templates.py")
    prompt = shortened(to_api_form(read_workflow(name), object_info))
    result = comfy_server.run(prompt)
    pictures = [
        Image.open(io.BytesIO(comfy_server.view(image)))
        for node_id, output in result.outputs.items()
        if prompt[node_id]["class_type"] == "SaveImage"
        for image in output["images"]
    ]
    assert [picture.size for picture in pictures] == PICTURES.get(name, [(128, 128)])
    for picture in pictures:
        assert len(picture.convert("RGB").getcolors(maxcolors=512 * 512)) > 100, "the picture is flat"


def test_the_small_model_paints_what_its_workflow_says(object_info, comfy_server):
    """Run as it is opened: every box of the editor's layout has the colours of its phrase."""
    prompt = to_api_form(read_workflow(SMALL_MODEL), object_info)
    (saved,) = [
        image for output in comfy_server.run(prompt).outputs.values() for image in output.get("images", [])
    ]
    seen = labels(np.asarray(Image.open(io.BytesIO(comfy_server.view(saved))).convert("RGB")))
    assert seen.shape == (128, 128)
    (editor,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "DEIG_RegionEditor"]
    regions = json.loads(editor["layout"])["regions"]
    assert "a striped ring, green and white" in [region["phrase"] for region in regions]
    for region in regions:
        x0, y0, x1, y1 = (round(edge * 128) for edge in region["box"])
        inside = seen[y0:y1, x0:x1]
        share = {colour: (inside == index).mean() for index, colour in enumerate(COLOUR_NAMES)}
        named = [colour for colour in COLOUR_NAMES if colour in region["phrase"]]
        assert named and all(share[colour] > 0.04 for colour in named), (region["phrase"], share)
        assert sum(share[colour] for colour in named) > 2 * max(
            value for colour, value in share.items() if colour not in named
        )


def test_painting_into_a_picture_leaves_the_rest(object_info, comfy_server):
    prompt = shortened(read_api_form("deig_inpaint_fusion"))
    (scaled,) = [key for key, node in prompt.items() if node["class_type"] == "ImageScale"]
    prompt["before"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [scaled, 0], "filename_prefix": "before"},
    }
    outputs = comfy_server.run(prompt).outputs
    (painted,) = [
        key for key, node in prompt.items() if node["class_type"] == "SaveImage" and key != "before"
    ]
    before, after = (
        np.asarray(Image.open(io.BytesIO(comfy_server.view(outputs[key]["images"][0]))).convert("RGB"), int)
        for key in ("before", painted)
    )
    inside = np.zeros((128, 128), bool)
    inside[72:116, 12:52] = inside[60:116, 80:116] = True
    assert np.array_equal(before[~inside], after[~inside])
    assert np.abs(before - after)[inside].mean() > 5
