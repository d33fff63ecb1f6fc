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
from demo.workflows import read_workflow, to_api_form, widget_values, workflow_names
from small_model.place import SMALL

ROOT = Path(__file__).resolve().parents[2]
NAMES = workflow_names()
SMALL_MODEL = "deig_small_model"  # its files lie in the repository, under the names of small_model/place.py
# What only newer hosts have; their tests are skipped on the others.
NEEDS = {"deig_from_picture": {"RTDETR_detect", "TextGenerate"}, "deig_from_words": {"TextGenerate"}}
TITLE_HEIGHT = 30


def read_api_form(name: str) -> dict:
    return json.loads((Path(__file__).parent / "api" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def object_info(comfy_server):
    return comfy_server.object_info()


@pytest.fixture(params=NAMES)
def name(request, object_info):
    skip_without(request.param, object_info)
    return request.param


def skip_without(name: str, object_info: dict):
    """Skip a test of a template on a host that lacks nodes which only newer ones have."""
    missing = NEEDS.get(name, set()) - set(object_info)
    if missing:
        pytest.skip(f"this host has no {', '.join(sorted(missing))}")


def takes(socket: str, kind: str) -> bool:
    return socket == "*" or kind in socket.split(",")


def test_the_workflows_that_the_readme_promises():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(NAMES) >= 9 and not [name for name in NAMES if f"`{name}`" not in readme]


def test_workflow_is_what_its_api_form_says(name, object_info):
    workflow = read_workflow(name)
    assert to_api_form(workflow, object_info) == read_api_form(name)
    assert workflow == read_workflow(name), "what is turned into another form stays as it was"


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
        assert takes(socket["type"], kind)


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


def test_an_input_that_has_a_socket_alone_has_no_stored_value():
    inputs = {
        "text": ["STRING", {"forceInput": True}],
        "seed": ["INT", {"control_after_generate": True}],
        "width": ["INT", {}],
    }
    info = {"input_order": {"required": list(inputs)}, "input": {"required": inputs}}
    node = {"type": "a node", "widgets_values": [3, "fixed", 512]}
    assert widget_values(node, info) == {"seed": 3, "width": 512}


def test_seed_is_fixed(name):
    controls = {"KSampler": 1, "DEIG_PaperSampling": 4}  # places among the widgets
    seeded = [node for node in read_workflow(name)["nodes"] if node["type"] in controls]
    assert seeded and all(node["widgets_values"][controls[node["type"]]] == "fixed" for node in seeded)


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
    nodes = read_api_form("deig_paper")
    by_type = {node["class_type"]: node["inputs"] for node in nodes.values()}
    sampling, custom = by_type["DEIG_PaperSampling"], by_type["SamplerCustomAdvanced"]
    settings = {"steps": 40, "alpha_full": 1.0, "alpha_decay": 0.0, "noise_seed": 42}
    assert {name: sampling[name] for name in settings} == settings
    assert by_type["CFGGuider"]["cfg"] == 7.5
    (paper,) = [name for name, node in nodes.items() if node["class_type"] == "DEIG_PaperSampling"]
    assert [custom[name] for name in ("noise", "sampler", "sigmas")] == [[paper, 0], [paper, 1], [paper, 2]]
    apply = by_type["DEIG_ApplyToModel"]
    assert (apply["end_percent"], apply["decay_percent"]) == ([paper, 3], [paper, 4])
    assert (apply["strength"], apply["start_percent"]) == (1.0, 0.0)

    positive, negative = (nodes[by_type["CFGGuider"][which][0]] for which in ("positive", "negative"))
    assert {node["class_type"] for node in (positive, negative)} == {"DEIG_EncodePrompt"}
    phrases = [node["inputs"]["phrase"] for node in nodes.values() if node["class_type"] == "DEIG_BoxRegion"]
    assert positive["inputs"]["text"] == ", ".join(phrases)
    assert negative["inputs"]["text"].startswith("longbody, lowres, distorted face, bad anatomy")


QUARTER = 4
# Sizes and places in pixels that are scaled down together; regions are fractions and stay.
IN_PIXELS = {
    "EmptyLatentImage": ("width", "height"),
    "ImageScale": ("width", "height"),
    "SolidMask": ("width", "height"),
    "MaskComposite": ("x", "y"),
    "DEIG_RegionsToMasks": ("width", "height", "grow", "feather"),
}


def shortened(prompt: dict) -> dict:
    """The same graph with two steps at a quarter of the size."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] in ("KSampler", "DEIG_PaperSampling"):
            node["inputs"]["steps"] = 2
        if node["class_type"] in ("RTDETR_detect", "DEIG_RegionsFromBoxes"):
            # Random weights are sure of nothing.
            node["inputs"] |= (
                {"threshold": 0.0, "max_detections": 3} if "model" in node["inputs"] else {"threshold": 0.0}
            )
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


@pytest.mark.parametrize("name", ["deig_from_picture", "deig_from_words"], indirect=True)
def test_what_a_language_model_says_is_painted(name, comfy_server):
    """The host's own model reads and generates; the layout is what a large one was recorded to say."""
    prompt = shortened(read_api_form(name))
    (editor,) = [key for key, node in prompt.items() if node["class_type"] == "DEIG_RegionEditor"]
    prompt["text"] = {
        "class_type": "DEIG_RegionsToText",
        "inputs": {
            "regions": [editor, 0],
            "prompt": [editor, 1],
            "width": 512,
            "height": 512,
            "format": "deig",
        },
    }
    prompt["shown"] = {"class_type": "PreviewAny", "inputs": {"source": ["text", 0]}}
    layout = json.loads(comfy_server.run(prompt).outputs["shown"]["text"][0])
    phrases = [region["phrase"] for region in layout["regions"]]
    if name == "deig_from_words":
        assert layout["prompt"] == "a reading corner by a window"
        assert phrases == [
            "a dark green velvet armchair with brass legs",
            "a sleeping orange tabby cat with a blue collar",
        ]
        boxes = [region["box"] for region in layout["regions"]]
        assert boxes == [[0.3, 0.35, 0.85, 1.0], [0.45, 0.5, 0.7, 0.7]], "cut at the picture's edge"
    else:
        assert layout["prompt"] == "a photo"
        assert phrases and set(phrases) == {"a golden disc with a dark rim and a fine grain"}


def test_painting_into_regions_leaves_the_rest(comfy_server):
    """No mask is drawn: the regions of the layout, grown and softened, are what is painted anew."""
    prompt = shortened(read_api_form("deig_inpaint_regions"))
    (masks,) = [key for key, node in prompt.items() if node["class_type"] == "DEIG_RegionsToMasks"]
    (scaled,) = [key for key, node in prompt.items() if node["class_type"] == "ImageScale"]
    (painted,) = [key for key, node in prompt.items() if node["class_type"] == "SaveImage"]
    prompt["before"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [scaled, 0], "filename_prefix": "before"},
    }
    prompt["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": [masks, 0]}}
    prompt["mask shown"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["mask", 0], "filename_prefix": "mask"},
    }
    outputs = comfy_server.run(prompt).outputs
    before, after, mask = (
        np.asarray(Image.open(io.BytesIO(comfy_server.view(outputs[key]["images"][0]))).convert("RGB"), int)
        for key in ("before", painted, "mask shown")
    )
    inside, outside = mask[..., 0] == 255, mask[..., 0] == 0
    assert inside.sum() > 2000 and outside.sum() > 4000 and (~inside & ~outside).any(), (
        "two places with soft edges"
    )
    assert np.array_equal(before[outside], after[outside])
    assert np.abs(before - after)[inside].mean() > 5


@pytest.mark.parametrize(
    ("name", "loose", "input_name"),
    [
        ("deig_lora_region", "PairConditioningSetProperties", "hooks"),
        ("deig_controlnet_region", "ControlNetApplyAdvanced", "strength"),
    ],
)
def test_what_works_in_one_region_works_there_and_hardly_elsewhere(name, loose, input_name, comfy_server):
    """Once as it is and once without the LoRA or the ControlNet: the difference lies in the region's mask."""

    def run(prompt):
        (masks,) = [key for key, node in prompt.items() if node["class_type"] == "DEIG_RegionsToMasks"]
        (sampler,) = [node for node in prompt.values() if node["class_type"] == "KSampler"]
        # One step alone: every further one would carry the difference on into its surroundings.
        sampler["inputs"] |= {"steps": 1, "cfg": 1.0}
        (saved,) = [key for key, node in prompt.items() if node["class_type"] == "SaveImage"]
        prompt["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": [masks, 0]}}
        prompt["shown"] = {
            "class_type": "SaveImage",
            "inputs": {"images": ["mask", 0], "filename_prefix": "mask"},
        }
        outputs = comfy_server.run(prompt).outputs
        return [
            np.asarray(
                Image.open(io.BytesIO(comfy_server.view(outputs[key]["images"][0]))).convert("RGB"), int
            )
            for key in (saved, "shown")
        ]

    picture, mask = run(shortened(read_api_form(name)))
    without = shortened(read_api_form(name))
    (node,) = [node for node in without.values() if node["class_type"] == loose]
    if input_name == "hooks":
        del node["inputs"]["hooks"]
    else:
        node["inputs"][input_name] = 0.0
    plain, _ = run(without)
    change = np.abs(picture - plain).sum(-1)
    inside, outside = mask[..., 0] > 250, mask[..., 0] == 0
    assert change[inside].mean() > 2, "it acts in its region"
    assert change[outside].mean() < change[inside].mean() / 4


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
