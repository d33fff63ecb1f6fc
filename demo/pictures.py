"""Make the pictures of this repository that show its graphs, from the graphs themselves.

    python -m demo.pictures --host COMFYUI                  thumbnails of the templates; those in the help pages
    python -m demo.pictures --host COMFYUI --browser CHROME and those of the editor, which only a browser draws

Thumbnails show the layout of a template, as its preview draws it; that of the small model shows what it paints.
Run it with the packages of tests/browser (`python run.py test --browser` makes them) for the second line.
"""

import argparse
import copy
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from small_model.place import WEIGHTS

from .graph import Prompt, node
from .play import TEMPLATE, furnish
from .server import PACK, ComfyServer
from .workflows import WORKFLOWS, read_workflow, to_api_form, workflow_names

DOCS, HELP = PACK / "docs", PACK / "web" / "docs"
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 420, 82  # pixels; of 100. A template's card shows about half of it
HELP_WIDTH = 560
SIZED = ("EmptyLatentImage", "DEIG_RegionEditor")
LEFT_OUT = ("background", "incoming")  # inputs of the editor
SHOWN = "shown"  # the node whose picture is wanted


# -- from the graph -----------------------------------------------------------------------------------------


def behind(prompt: Prompt, value: Any) -> Prompt:
    """The nodes of a graph that a value depends on; none if it is no link."""
    if not isinstance(value, list):
        return {}
    source = value[0]
    found = {source: prompt[source]}
    for further in prompt[source]["inputs"].values():
        found |= behind(prompt, further)
    return found


def layout_graph(prompt: Prompt) -> Prompt:
    """Of a workflow's graph what leads to its regions, and a drawing of them: it runs without any model.

    The regions are those that the workflow previews; without a preview, the last ones that it uses. What an editor
    draws over changes nothing in them, and what a model hands to it is not there without the model: both are left out.
    """
    prompt = {
        name: one | {"inputs": {key: value for key, value in one["inputs"].items() if key not in LEFT_OUT}}
        for name, one in prompt.items()
    }
    users = [one for one in prompt.values() if "regions" in one["inputs"] and "phrase" not in one["inputs"]]
    previews = [one for one in users if one["class_type"] == "DEIG_PreviewRegions"]
    sizes = previews or [one for one in prompt.values() if one["class_type"] in SIZED]
    shown = (previews or users)[-1]["inputs"]["regions"]
    width, height = (sizes[0]["inputs"][side] for side in ("width", "height"))
    graph: Prompt = {}
    for value in (shown, width, height):
        graph |= behind(prompt, value)
    graph["drawing"] = node("DEIG_PreviewRegions", regions=shown, width=width, height=height)
    graph[SHOWN] = node("SaveImage", images=["drawing", 0], filename_prefix="drawing")
    return graph


def picture_of(server: ComfyServer, prompt: Prompt) -> Image.Image:
    """The one picture that a graph saves."""
    outputs = server.run(prompt).outputs
    (image,) = [
        image for name in outputs for image in outputs[name].get("images", []) if image["type"] == "output"
    ]
    return Image.open(io.BytesIO(server.view(image))).convert("RGB")


def template_picture(server: ComfyServer, name: str, object_info: dict[str, Any]) -> Image.Image:
    prompt = to_api_form(read_workflow(name), object_info)
    return picture_of(server, prompt if name == TEMPLATE else layout_graph(prompt))


def looking_inside(prompt: Prompt, show: str, output: int) -> Prompt:
    """A graph that paints, and of what *DEIG Attention Maps* shows of its first region the output of a number."""

    def only(class_type: str) -> str:
        (name,) = [name for name, one in prompt.items() if one["class_type"] == class_type]
        return name

    prompt = copy.deepcopy(prompt)
    sampler, decoded = only("KSampler"), only("VAEDecode")
    model = prompt[sampler]["inputs"]["model"]
    editor = prompt[only("DEIG_RegionEditor")]["inputs"]
    layout = json.loads(editor["layout"])
    # One less than there are, so that there is a background.
    editor["layout"] = json.dumps(layout | {"regions": layout["regions"][:3]})
    graph = {name: one for name, one in prompt.items() if one["class_type"] != "SaveImage"}
    graph[sampler] = node("KSampler", **prompt[sampler]["inputs"] | {"model": ["record", 0]})
    graph["record"] = node(
        "DEIG_RecordAttention", model=model, blocks="all", start_percent=0.0, end_percent=1.0
    )
    graph["maps"] = node(
        "DEIG_AttentionMaps",
        recording=["record", 1],
        samples=[sampler, 0],
        choose="1",
        show=show,
        scale="each",
        image=[decoded, 0],
    )
    return graph | {SHOWN: node("SaveImage", images=["maps", output], filename_prefix="inside")}


def thumbnails(server: ComfyServer) -> Iterator[Path]:
    """Write a picture beside each template, and yield where."""
    object_info = server.object_info()
    for name in workflow_names():
        picture = template_picture(server, name, object_info)
        if max(picture.size) > THUMBNAIL_SIDE:
            picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.LANCZOS)
        else:  # the small model's pixels stay as they are
            scale = THUMBNAIL_SIDE // max(picture.size)
            picture = picture.resize((scale * picture.width, scale * picture.height), Image.NEAREST)
        place = WORKFLOWS / f"{name}.jpg"
        picture.save(place, quality=THUMBNAIL_QUALITY, optimize=True)
        yield place


def help_pictures(server: ComfyServer) -> Iterator[Path]:
    """Write the pictures of the help pages that need no browser, and yield where."""
    object_info = server.object_info()
    for page, template in (("DEIG_PreviewRegions", "deig_editor"), ("DEIG_MaskRegion", "deig_masks")):
        yield save_small(template_picture(server, template, object_info), HELP / f"{page}.png", HELP_WIDTH)
    painting = to_api_form(read_workflow(TEMPLATE), object_info)
    for name, show, output, width in (
        ("DEIG_AttentionMaps", "instances", 3, HELP_WIDTH),
        ("DEIG_AttentionMaps_tokens", "tokens", 0, 460),
    ):
        yield save_small(
            picture_of(server, looking_inside(painting, show, output)), HELP / f"{name}.png", width
        )


def save_small(picture: Image.Image, place: Path, width: int) -> Path:
    """Save a drawing as a PNG no wider than `width` pixels."""
    picture = picture.convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.LANCZOS)
    picture.save(place, optimize=True)
    return place


# -- from the browser ---------------------------------------------------------------------------------------

FITS = """() => {
    const canvas = app.canvas;
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const node of app.graph._nodes) {
        left = Math.min(left, node.pos[0]);
        top = Math.min(top, node.pos[1] - 30);
        right = Math.max(right, node.pos[0] + node.size[0]);
        bottom = Math.max(bottom, node.pos[1] + node.size[1]);
    }
    const [width, height] = [canvas.canvas.clientWidth - 120, canvas.canvas.clientHeight - 170];
    canvas.ds.scale = Math.min(width / (right - left), height / (bottom - top));
    canvas.ds.offset = [80 / canvas.ds.scale - left, 120 / canvas.ds.scale - top]; // below the menu
    canvas.setDirty(true, true);
    const on = (x, y) => [(x + canvas.ds.offset[0]) * canvas.ds.scale, (y + canvas.ds.offset[1]) * canvas.ds.scale];
    return [...on(left, top), ...on(right, bottom)];
}"""
ALONE = """(type) => {
    const [node] = app.graph.findNodesByType(type);
    for (const other of [...app.graph._nodes]) if (other !== node) app.graph.remove(other);
}"""
MARGIN = 12  # pixels around what is shown


def browser_pictures(server: ComfyServer, chromium: str) -> Iterator[Path]:
    """Write the pictures that only the frontend draws, and yield where: the workflow after a run, and the editor."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        open_template(page, server, TEMPLATE)
        page.get_by_role("button", name="Run", exact=True).first.click()
        page.wait_for_function("app.graph.findNodesByType('SaveImage')[0].imgs?.length", timeout=120_000)
        yield save_small(shot(page), DOCS / "workflow.png", 1400)

        page.set_viewport_size({"width": 1100, "height": 1000})
        open_template(page, server, "deig_editor")
        page.evaluate(ALONE, "DEIG_RegionEditor")
        editor = shot(page)
        yield save_small(editor, DOCS / "editor.png", 760)
        yield save_small(editor, HELP / "DEIG_RegionEditor.png", HELP_WIDTH)
        browser.close()


def open_template(page, server: ComfyServer, name: str):
    page.goto(f"http://{server.address}")
    page.wait_for_function(
        "window.app?.graph && window.LiteGraph?.registered_node_types.DEIG_RegionEditor !== undefined"
    )
    page.wait_for_timeout(2500)  # it goes on restoring what was there before
    page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", read_workflow(name))
    page.wait_for_selector(".deig-canvas", state="visible")
    page.wait_for_timeout(1000)
    page.keyboard.press("Escape")  # the window about missing models, where there is one


def shot(page) -> Image.Image:
    """The graph on the page, fitted to it, without what stands around."""
    page.evaluate(FITS)
    page.wait_for_timeout(1500)
    left, top, right, bottom = page.evaluate(FITS)
    frame = page.locator("#graph-canvas").bounding_box()
    clip = {
        "x": frame["x"] + left - MARGIN,
        "y": frame["y"] + top - MARGIN,
        "width": right - left + 2 * MARGIN,
        "height": bottom - top + 2 * MARGIN,
    }
    return Image.open(io.BytesIO(page.screenshot(clip=clip)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="what small_model.export wrote")
    parser.add_argument("--browser", metavar="CHROME", help="a Chromium, for the pictures of the editor")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deig-pictures-", ignore_cleanup_errors=True) as folder:
        furnish(Path(folder), options.weights)
        with ComfyServer(options.host, Path(folder)) as server:
            for made in (thumbnails(server), help_pictures(server)):
                for place in made:
                    print(f"{place.relative_to(PACK)}: {place.stat().st_size / 1000:.0f} kB", flush=True)
            if options.browser:
                server.post("/settings", {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False})
                for place in browser_pictures(server, options.browser):
                    print(f"{place.relative_to(PACK)}: {place.stat().st_size / 1000:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
