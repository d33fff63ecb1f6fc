"""The shared workflows, and what the frontend sends to the server for one."""

import json
from pathlib import Path
from typing import Any

from .graph import Prompt

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
# Drawn by the frontend, unknown to the server.
NOTES = {"Note", "MarkdownNote"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
CONTROLS = {"fixed", "increment", "decrement", "randomize"}


def workflow_names() -> list[str]:
    return sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def read_workflow(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def widget_inputs(node_info: dict) -> list[tuple[str, set | None]]:
    """The inputs that the frontend draws as widgets, in its order, and what the one that follows may hold.

    A seed is followed by its control, a picture to load by the button to upload one.
    """
    widgets = []
    for section in ("required", "optional"):
        for name in node_info["input_order"].get(section, []):
            kind, *options = node_info["input"][section][name]
            options = options[0] if options else {}
            is_combo = isinstance(kind, list)
            if (is_combo or kind in WIDGET_TYPES) and not options.get("forceInput"):
                control = CONTROLS if options.get("control_after_generate") else None
                widgets.append((name, {"image"} if options.get("image_upload") else control))
    return widgets


def widget_values(node: dict, node_info: dict) -> dict[str, Any]:
    """A node's stored widget values by input name, as the frontend hands them out when it loads a workflow.

    Raises:
        ValueError: if the values are not those of the node's widgets.
    """
    values = list(node["widgets_values"])
    widgets = widget_inputs(node_info)
    wanted = len(widgets) + sum(followed_by is not None for _, followed_by in widgets)
    if len(values) != wanted:
        raise ValueError(
            f"{node['type']} has {wanted} values of widgets, but here are {len(values)}: {values}."
        )
    by_name = {}
    for name, followed_by in widgets:
        by_name[name] = values.pop(0)
        if followed_by and (control := values.pop(0)) not in followed_by:
            raise ValueError(
                f"{node['type']}.{name} is followed by one of {followed_by}, not by {control!r}."
            )
    return by_name


def to_api_form(workflow: dict, object_info: dict) -> Prompt:
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
