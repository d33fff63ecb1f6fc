"""Nodes that bring regions in, show them and write them out."""

import logging
import math

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..deig_core.regions.draw import MOST_ENLARGED_PIXELS, draw_regions
from ..deig_core.regions.edges import EDGES
from ..deig_core.regions.layouts import READABLE, WRITABLE, Layout, read_layout, write_layout
from ..deig_core.regions.seed import drawn_state, seed_of, shown_text
from .regions import chained_regions_input
from .types import CATEGORY, RegionsType, also_found_as

log = logging.getLogger(__name__)

EMPTY_LAYOUT = write_layout(Layout(()))

FORMAT_TOOLTIP = (
    "auto tells the form by what the text holds. "
    "deig: this pack's JSON, corners in fractions. "
    "instancediffusion, coco: x y width height in pixels of the text's own width and height, else of the node's. "
    "deig-bench, mig-bench: corners in fractions. "
    "elements, gemini: y x y x of 0 to 1000, as ComfyUI's Build JSON Prompt and Gemini write them. "
    "canvas: ComfyUI's box canvas, in pixels of width x height. "
    "qwen-1000: bbox_2d of 0 to 1000; qwen-pixels: bbox_2d in pixels of width x height, which must be those of the "
    "picture that the model saw. auto never guesses between the two. "
    'llm: ("a red car", [x, y, width, height]) or JSON objects with bbox. '
    "lines: 'a red car: x1 y1 x2 y2', one region a line. "
    "llm and lines are in fractions if every box lies in 0 to 1, in pixels if every box lies in width x height and "
    "is 2 pixels or more each way; anything else is refused, not guessed."
)

SIZE = {"min": 16, "max": 16384, "step": 8}


def width_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input("width", default=512, **SIZE, tooltip=tooltip)


def height_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input("height", default=512, **SIZE, tooltip=tooltip)


class RegionEditor(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RegionEditor",
            display_name="DEIG Region Editor",
            category=CATEGORY,
            **also_found_as(
                "regional prompt", "area", "box", "bounding box", "layout", "canvas", "instance", "GLIGEN"
            ),
            description="Draw regions on the node itself: drag for a box, double click for its phrase, right click to "
            "paste a layout from elsewhere. Brush, eraser, stroke and point draw places of any shape. The help page "
            "has all keys.",
            inputs=[
                io.Custom("STRING").Input(
                    "layout",
                    tooltip="The drawn layout, as JSON. A text wired here takes the drawing's place and cannot be "
                    "edited; wire it into incoming to go on with it on the canvas.",
                    extra_dict={"default": EMPTY_LAYOUT, "widgetType": "DEIG_REGIONS_EDITOR"},
                ),
                width_input("Width of the picture in pixels. The canvas takes its shape from it."),
                height_input("Height of the picture in pixels. The canvas takes its shape from it."),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="A picture to draw over. The editor shows the first one of the last run, stretched to "
                    "width and height; it changes nothing in the result.",
                ),
                io.Custom("STRING,DEIG_REGIONS,BOUNDING_BOX,ARRAY").Input(
                    "incoming",
                    optional=True,
                    extra_dict={"forceInput": True},
                    tooltip="What the canvas begins with: a text in any form that DEIG Regions From Text reads, "
                    "regions, boxes in pixels of width and height, or elements of the host's box canvas. It is shown "
                    "after a run and can be edited; your changes stay until something else comes in.",
                ),
                chained_regions_input(),
            ],
            outputs=[
                RegionsType.Output(
                    display_name="regions",
                    tooltip="The chained regions, then those of the canvas, back to front.",
                ),
                io.String.Output(
                    "prompt", display_name="prompt", tooltip="The prompt for the whole picture."
                ),
                io.Int.Output("image_width", display_name="width", tooltip="The width, in pixels."),
                io.Int.Output("image_height", display_name="height", tooltip="The height, in pixels."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, layout, width, height, background=None, incoming=None, regions=()):
        shown = {"deig_size": [width, height]}
        if background is not None:
            shown["deig_background"] = ui.PreviewImage(background[:1, ..., :3], cls=cls).as_dict()["images"]
        if regions:
            shown["deig_wired"] = [shown_text(regions)]
        drawn, begun_with = drawn_state(layout)
        seed = None if incoming is None else seed_of(incoming, width, height)
        if seed is not None:
            shown["deig_incoming"] = [{"layout": seed.text, "digest": seed.digest}]
        if seed is not None and seed.digest != begun_with:
            read = seed.layout(width, height)
        else:
            read = read_layout(layout, "auto", width, height)
        return io.NodeOutput((*regions, *read.regions), read.prompt or drawn, width, height, ui=shown)


class RegionsFromText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RegionsFromText",
            display_name="DEIG Regions From Text",
            category=CATEGORY,
            **also_found_as(
                "regional prompt", "layout", "bounding boxes", "JSON", "COCO", "annotations", "language model"
            ),
            description="Reads regions from the editor's JSON, InstanceDiffusion, COCO, DEIG-Bench or MIG-Bench "
            "annotations, ComfyUI's box canvas, a language or vision model's layout, or one line a region.",
            inputs=[
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    dynamic_prompts=False,
                    placeholder="a red car: 0.1 0.5 0.5 0.9",
                    tooltip="The layout. JSON may stand in a fenced block or between sentences. An empty text is "
                    "refused.",
                ),
                io.Combo.Input("format", options=list(READABLE), default="auto", tooltip=FORMAT_TOOLTIP),
                width_input(
                    "Width of the picture in pixels, for boxes in pixels whose text does not give it."
                ),
                height_input(
                    "Height of the picture in pixels, for boxes in pixels whose text does not give it."
                ),
                # Optional, so that workflows saved before they were there go on running.
                io.Int.Input(
                    "index",
                    default=-1,
                    min=-1,
                    max=1_000_000,
                    optional=True,
                    tooltip="Which layout of a text that holds many, such as a benchmark's whole file or the images of "
                    "a COCO file, counted from 0. -1: the text holds one, and a file of many is refused, saying how "
                    "many.",
                ),
                io.Combo.Input(
                    "edges",
                    options=list(EDGES),
                    default=EDGES[0],
                    optional=True,
                    tooltip="A box that reaches beyond the picture. refuse: an error that names it. clip: it is cut at "
                    "the picture's edge; what then has no area is left out, and the report says how many of each.",
                ),
                io.Boolean.Input(
                    "colours",
                    default=False,
                    optional=True,
                    tooltip="Add the colours of a box's palette to its phrase, in words: 'a cup, in red and navy "
                    "blue'. Elements and the canvas of ComfyUI's box canvas have palettes. Off: they are not read.",
                ),
            ],
            outputs=[
                RegionsType.Output("regions", display_name="regions", tooltip="The regions, back to front."),
                io.String.Output(
                    "prompt",
                    display_name="prompt",
                    tooltip="The text's prompt for the whole picture; empty if it has none.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How many boxes were cut at the picture's edge, and which were left out; empty if none.",
                ),
            ],
        )

    @classmethod
    def execute(cls, text, format, width, height, index=-1, edges=EDGES[0], colours=False):
        read = read_layout(text, format, width, height, None if index < 0 else index, edges, colours)
        if read.report:
            log.warning("DEIG: %s", read.report)
        return io.NodeOutput(read.regions, read.prompt, read.report)


class RegionsToText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RegionsToText",
            display_name="DEIG Regions To Text",
            category=CATEGORY,
            **also_found_as("layout", "bounding boxes", "JSON", "COCO", "annotations", "export"),
            description="Writes regions as JSON: the editor's, InstanceDiffusion's, COCO's, or a DEIG-Bench or "
            "MIG-Bench entry. What a format has no word for (strength, start, end, mask, scribble, point) is added "
            "under this pack's names, so nothing is lost on the way back.",
            inputs=[
                RegionsType.Input("regions", tooltip="The regions to write."),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="The prompt for the whole picture, written beside the regions. May be empty.",
                ),
                width_input("Width of the picture in pixels, for the formats that are in pixels."),
                height_input("Height of the picture in pixels, for the formats that are in pixels."),
                io.Combo.Input(
                    "format",
                    options=list(WRITABLE),
                    default=WRITABLE[0],
                    tooltip="deig: this pack's own, fractions. instancediffusion and coco: pixels of width x height, "
                    "x y width height. deig-bench and mig-bench: fractions, corners.",
                ),
            ],
            outputs=[io.String.Output("text", display_name="text", tooltip="The layout as JSON.")],
        )

    @classmethod
    def execute(cls, regions, prompt, width, height, format):
        return io.NodeOutput(write_layout(Layout(regions, prompt), format, width, height))


class PreviewRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_PreviewRegions",
            display_name="DEIG Preview Regions",
            category=CATEGORY,
            **also_found_as("layout", "draw bounding boxes", "show boxes", "area", "mask"),
            description="Draws the regions as the editor shows them: boxes, order, phrases and colours, over "
            "an image or a plain ground. Marks show the cells of the coarsest token grid (64 pixels; for small "
            "pictures a finer one) in which the model lets the picture and a region see each other: dots where the "
            "region itself is, rings where the model grows its place there.",
            inputs=[
                RegionsType.Input("regions", tooltip="The regions to draw. Later ones lie in front."),
                width_input(
                    "Width in pixels at which the image is generated. It sets the token grid that is marked."
                ),
                height_input(
                    "Height in pixels at which the image is generated. It sets the token grid that is marked."
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="What to draw over, of any size. Without it the ground is plain and dark.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "preview",
                    display_name="image",
                    tooltip="The drawing. Small pictures are enlarged to 512 pixels on the shorter side or more, as "
                    "far as the longer one stays within 8192 and all pictures together within 4096 x 4096.",
                )
            ],
        )

    @classmethod
    def execute(cls, regions, width, height, image=None):
        grounds = [None] if image is None else [frame.cpu().numpy() for frame in image[..., :3]]
        drawings = [_drawing(regions, width, height, ground, len(grounds)) for ground in grounds]
        return io.NodeOutput(torch.from_numpy(np.stack(drawings)).float().div_(255))  # BHWC, 0 to 1


def _drawing(regions, width: int, height: int, ground: np.ndarray | None, pictures: int) -> np.ndarray:
    """Draw one of several pictures, enlarged no further than all of them together may be."""
    drawn = draw_regions(regions, width, height, ground)
    own_height, own_width = (height, width) if ground is None else ground.shape[:2]
    most = math.isqrt(MOST_ENLARGED_PIXELS // (pictures * own_height * own_width))
    if most < drawn.width // own_width > 1:
        # Drawn large and made smaller, since numbers and phrases have a least size.
        drawn = drawn.resize((own_width * max(most, 1), own_height * max(most, 1)))
    return np.asarray(drawn)


NODES = [RegionEditor, RegionsFromText, RegionsToText, PreviewRegions]
