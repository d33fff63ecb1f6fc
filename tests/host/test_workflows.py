"""The shared workflows: what the frontend would send for them, and that it runs to a picture."""

import copy
import io
import json
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["deig_basic", "deig_paper", "deig_lora_checkpoint", "deig_editor"]
# Drawn by the frontend, unknown to the server.
NOTES = {"Note", "MarkdownNote"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
CONTROLS = {"fixed", "increment", "decrement", "randomize"}
TITLE_HEIGHT = 30


def read_workflow(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def read_api_form(name: str) -> dict:
    return json.loads((Path(__file__).parent / "api" / f"{name}.json").read_text(encoding="utf-8"))


def widget_inputs(node_info: dict) -> list[tuple[str, bool]]:
    """The inputs that the frontend draws as widgets, in its order, and whether a seed control follows."""
    widgets = []
    for section in ("required", "optional"):
        for name in node_info["input_order"].get(section, []):
            kind, *options = node_info["input"][section][name]
            options = options[0] if options else {}
            is_combo = isinstance(kind, list)
            if (is_combo or kind in WIDGET_TYPES) and not options.get("forceInput"):
                widgets.append((name, bool(options.get("control_after_generate"))))
    return widgets


def widget_values(node: dict, node_info: dict) -> dict:
    """A node's stored widget values by input name, as the frontend hands them out when it loads a workflow."""
    values = list(node["widgets_values"])
    by_name = {}
    for name, has_control in widget_inputs(node_info):
        by_name[name] = values.pop(0)
        if has_control:
            assert values.pop(0) in CONTROLS
    assert not values, f"{node['type']}: {values} left over"
    return by_name


def to_api_form(workflow: dict, object_info: dict) -> dict:
    """What the frontend sends to the server for a workflow of plain nodes."""
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs = widget_values(node, object_info[node["type"]])
        for socket in node["inputs"]:
            if socket["link"] is not None:
                _, source, slot, *_ = links[socket["link"]]
                inputs[socket["name"]] = [str(source), slot]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.fixture(scope="module")
def object_info(comfy_server):
    return comfy_server.object_info()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_all_workflows_are_tested():
    shared = {path.stem for path in (ROOT / "workflows").glob("deig_*.json")}
    assert shared >= set(NAMES)


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
        assert output["type"] == socket["type"] == kind == object_info[nodes[source]["type"]]["output"][slot]


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
    loaders = [node for node in read_workflow(name)["nodes"] if "Load" in node["type"]]
    assert len(loaders) >= 3
    for node in loaders:
        (model,) = node["properties"]["models"]
        assert model["name"] == node["widgets_values"][0]
        assert model["directory"] in folders
        assert model["url"].startswith(("https://huggingface.co/", "https://civitai.com/"))


def test_paper_workflow_has_the_papers_settings():
    (sampler,) = [node for node in read_api_form("deig_paper").values() if node["class_type"] == "KSampler"]
    settings = {key: sampler["inputs"][key] for key in ("steps", "cfg", "sampler_name", "scheduler")}
    assert settings == {"steps": 40, "cfg": 7.5, "sampler_name": "euler", "scheduler": "ddim_uniform"}


def shortened(prompt: dict) -> dict:
    """The same graph with two steps at 128 pixels."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 2
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"] |= {"width": 128, "height": 128}
    return prompt


def test_workflow_runs_to_a_picture(name, object_info, comfy_server):
    prompt = shortened(to_api_form(read_workflow(name), object_info))
    result = comfy_server.run(prompt)
    images = {}
    for node_id, output in result.outputs.items():
        if "images" not in output:  # what the editor tells its canvas
            continue
        (image,) = output["images"]
        images[prompt[node_id]["class_type"]] = Image.open(io.BytesIO(comfy_server.view(image)))
    assert set(images) == {"SaveImage", "PreviewImage"}
    assert images["SaveImage"].size == (128, 128)
    colours = images["SaveImage"].convert("RGB").getcolors(maxcolors=128 * 128)
    assert len(colours) > 100, "the picture is flat"
