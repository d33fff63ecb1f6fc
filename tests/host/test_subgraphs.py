"""The blueprint in subgraphs/: listed by hosts that know blueprints, and its graph runs to a picture on any."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from demo.workflows import widget_values
from small_model.place import SMALL

ROOT = Path(__file__).resolve().parents[2]
NAME = "DEIG Paint Regions"
INPUT, OUTPUT = -10, -20  # the ids of a subgraph's own ends


@pytest.fixture(scope="module")
def blueprint() -> dict:
    return json.loads((ROOT / "subgraphs" / f"{NAME}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def object_info(comfy_server) -> dict:
    return comfy_server.object_info()


def unfolded(blueprint: dict, object_info: dict, given: dict) -> tuple[dict, list]:
    """The nodes in the subgraph in API form, with `given` at its inputs, and the link that is its output."""
    (graph,) = blueprint["definitions"]["subgraphs"]
    links = {link["id"]: link for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        inputs = widget_values(node, object_info[node["type"]])
        for socket in node["inputs"]:
            link = links.get(socket["link"])
            if link and link["origin_id"] == INPUT:
                name = graph["inputs"][link["origin_slot"]]["name"]
                inputs[socket["name"]] = given.get(name, inputs.get(socket["name"]))
            elif link:
                inputs[socket["name"]] = [str(link["origin_id"]), link["origin_slot"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    (end,) = [link for link in graph["links"] if link["target_id"] == OUTPUT]
    return prompt, [str(end["origin_id"]), end["origin_slot"]]


def test_a_host_that_knows_blueprints_lists_it(comfy_server, blueprint):
    if not (comfy_server.host / "app" / "subgraph_manager.py").exists():
        pytest.skip("this host is older than blueprints")
    listed = comfy_server.get("/global_subgraphs")
    (key,) = [key for key, entry in listed.items() if entry["info"]["node_pack"].endswith("comfyui-deig")]
    assert listed[key]["name"] == NAME
    assert json.loads(comfy_server.get(f"/global_subgraphs/{key}")["data"]) == blueprint


def test_its_links_join_what_they_name(blueprint, object_info):
    (graph,) = blueprint["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    for link in graph["links"]:
        if link["origin_id"] == INPUT:
            socket = graph["inputs"][link["origin_slot"]]
            assert socket["type"] == link["type"] and link["id"] in socket["linkIds"]
        else:
            origin = nodes[link["origin_id"]]
            assert object_info[origin["type"]]["output"][link["origin_slot"]] == link["type"]
            assert link["id"] in origin["outputs"][link["origin_slot"]]["links"]
        if link["target_id"] == OUTPUT:
            assert graph["outputs"][link["target_slot"]]["linkIds"] == [link["id"]]
        else:
            socket = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert socket["type"] == link["type"] and socket["link"] == link["id"]
    assert len({link["id"] for link in graph["links"]}) == len(graph["links"])


def test_it_offers_models_regions_and_prompt(blueprint):
    (graph,) = blueprint["definitions"]["subgraphs"]
    (node,) = blueprint["nodes"]
    offered = [socket["name"] for socket in graph["inputs"]]
    assert {"ckpt_name", "encoder_name", "adapter_name", "regions", "text"} <= set(offered)
    assert [socket["name"] for socket in node["inputs"]] == offered
    assert [socket["type"] for socket in graph["outputs"]] == ["IMAGE"]


def test_its_graph_runs_to_a_picture(blueprint, object_info, comfy_server):
    given = {
        "regions": ["region", 0],
        "text": "shapes on a grey ground",
        "width": 128,
        "height": 128,
        "ckpt_name": SMALL.checkpoint,
        "encoder_name": SMALL.text_encoder,
        "adapter_name": SMALL.adapter,
        "steps": 2,
    }
    prompt, picture = unfolded(blueprint, object_info, given)
    box = {"phrase": "a red square", "x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}
    timing = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    prompt["region"] = {"class_type": "DEIG_BoxRegion", "inputs": box | timing}
    prompt["save"] = {
        "class_type": "SaveImage",
        "inputs": {"images": picture, "filename_prefix": "blueprint"},
    }
    (image,) = comfy_server.run(prompt).outputs["save"]["images"]
    painted = Image.open(io.BytesIO(comfy_server.view(image))).convert("RGB")
    assert painted.size == (128, 128)
    assert len(painted.getcolors(maxcolors=128 * 128)) > 100
