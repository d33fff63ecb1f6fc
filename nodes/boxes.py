"""Nodes between regions and boxes as the host passes them: detectors, box canvas, segmenters."""

import logging

from comfy_api.latest import io

from ..deig_core.regions.boxes import ORDERS, PHRASES, BoxOptions, read_boxes, write_boxes
from ..deig_core.regions.choice import chosen
from ..deig_core.regions.edges import EDGES
from .regions import chained_regions_input
from .types import CATEGORY, RegionsType, also_found_as

log = logging.getLogger(__name__)

# The host has a class for it from 0.4 on; its name is the same in all.
BoundingBoxType = io.Custom("BOUNDING_BOX")
# The host's box canvas gives its descriptions out as elements, of the type ARRAY.
BoxesOrElementsType = io.Custom("BOUNDING_BOX,ARRAY")

SIZE = {"min": 1, "max": 16384}


def edges_input() -> io.Combo.Input:
    return io.Combo.Input(
        "edges",
        options=list(EDGES),
        default=EDGES[0],
        tooltip="A box that reaches beyond the picture. refuse: an error that names it. clip: it is cut at the "
        "picture's edge; what then has no area is left out, and the report says how many of each.",
    )


def choice_input() -> io.String.Input:
    return io.String.Input(
        "choose",
        default="",
        tooltip="Which regions. Empty: all. Else numbers as the editor shows them (1 lies at the back), ranges, or "
        "words of the phrase, separated by commas: '1, 3-5' or 'cat, red car'. A phrase's own digits go in quotes.",
    )


class RegionsFromBoxes(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RegionsFromBoxes",
            display_name="DEIG Regions From Boxes",
            category=CATEGORY,
            **also_found_as("bounding boxes", "detector", "segment", "SAM3", "regional prompt", "area"),
            description="Makes regions of bounding boxes: from SAM3, RT-DETR, MediaPipe, the host's box canvas, or "
            "anything else that gives them. SAM3's masks may come along as the exact places.",
            inputs=[
                BoxesOrElementsType.Input(
                    "bboxes",
                    # Else the frontends that draw boxes would show a widget here.
                    extra_dict={"forceInput": True},
                    tooltip="Boxes in pixels: one, several, or several for each picture of a batch. Or the elements of "
                    "the host's box canvas, which hold its descriptions.",
                ),
                io.Combo.Input(
                    "phrases",
                    options=list(PHRASES),
                    default=PHRASES[0],
                    tooltip="Where the phrases come from. labels: what the detector calls each box. metadata: the "
                    "description that a box or an element carries, and its letters where its type is text. lines: the "
                    "text below. A box without the chosen one is an error that names it.",
                ),
                io.String.Input(
                    "lines",
                    default="",
                    multiline=True,
                    tooltip="For phrases from lines: one line for each region, in the order chosen below, or a single "
                    "line for all. Not read otherwise.",
                ),
                io.Int.Input(
                    "width",
                    default=1024,
                    **SIZE,
                    tooltip="Width in pixels of the picture that the boxes were measured in. A picture wired below "
                    "goes before it.",
                ),
                io.Int.Input(
                    "height",
                    default=1024,
                    **SIZE,
                    tooltip="Height in pixels of the picture that the boxes were measured in. A picture wired below "
                    "goes before it.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Boxes with a lower score are left out. 0: none is; 1: all that are not wholly sure. "
                    "Boxes without a score stay.",
                ),
                io.Int.Input(
                    "limit",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="How many boxes are kept at most, the surest first; of those without a score, the first. "
                    "0: all.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default=ORDERS[0],
                    tooltip="The regions' order, back to front. size: the largest at the back, so that small things "
                    "lie in front. score: the surest in front. left to right: by the left edge.",
                ),
                io.Boolean.Input(
                    "colours",
                    default=False,
                    tooltip="Add the colours of a box's palette to its phrase, in words: 'a cup, in red and navy "
                    "blue'. Off: palettes are not read.",
                ),
                edges_input(),
                io.Int.Input(
                    "picture",
                    default=0,
                    min=0,
                    max=4095,
                    tooltip="Which picture's boxes to take where they come for a batch. 0: the first.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The picture that the boxes were found in. It is only measured.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="One mask for each box, as SAM3 Detect gives them with individual_masks on: the exact "
                    "places. They are of the picture's shape; white is inside.",
                ),
                chained_regions_input(),
            ],
            outputs=[
                RegionsType.Output(
                    display_name="regions",
                    tooltip="The chained regions, then one for each box kept.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How many boxes became regions, and why the others did not.",
                ),
                io.Int.Output("image_width", display_name="width", tooltip="The picture's width, in pixels."),
                io.Int.Output(
                    "image_height", display_name="height", tooltip="The picture's height, in pixels."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        bboxes,
        phrases,
        lines,
        width,
        height,
        threshold,
        limit,
        order,
        colours,
        edges,
        picture,
        image=None,
        masks=None,
        regions=(),
    ):
        if image is not None:
            height, width = image.shape[1:3]
        options = BoxOptions(phrases, lines, colours, threshold, limit, order, edges)
        places = None if masks is None else masks.reshape(-1, *masks.shape[-2:]).float().cpu().numpy()
        read = read_boxes(bboxes, width, height, options, picture, places)
        log.info("DEIG: %s", read.report)
        return io.NodeOutput((*regions, *read.regions), read.report, width, height)


class RegionsToBoxes(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RegionsToBoxes",
            display_name="DEIG Regions To Boxes",
            category=CATEGORY,
            **also_found_as("bounding boxes", "area", "detailer"),
            description="Writes regions as the host's bounding boxes, for its box canvas, Draw BBoxes, SAM3 Detect "
            "and whatever else takes them. Phrases go along as labels and descriptions; a mask, scribble or point "
            "leaves the box around it.",
            inputs=[
                RegionsType.Input("regions", tooltip="The regions to write, back to front."),
                io.Int.Input(
                    "width",
                    default=1024,
                    **SIZE,
                    tooltip="Width in pixels of the picture that the boxes are for.",
                ),
                io.Int.Input(
                    "height",
                    default=1024,
                    **SIZE,
                    tooltip="Height in pixels of the picture that the boxes are for.",
                ),
                choice_input(),
            ],
            outputs=[
                BoundingBoxType.Output(
                    display_name="bboxes",
                    tooltip="One list of boxes, in whole pixels, for one picture or for all pictures of a batch.",
                )
            ],
        )

    @classmethod
    def execute(cls, regions, width, height, choose):
        return io.NodeOutput(
            write_boxes([regions[index] for index in chosen(regions, choose)], width, height)
        )


NODES = [RegionsFromBoxes, RegionsToBoxes]
