"""The node that gives regions out as masks."""

import logging

from comfy_api.latest import io

from ..deig_core.regions.choice import chosen
from ..deig_core.regions.masks import OVERLAPS, MaskOptions, empty_ones, region_masks, union
from .boxes import SIZE, choice_input
from .types import CATEGORY, RegionsType, also_found_as

log = logging.getLogger(__name__)

EACH, UNION = "one for each", "union"


class RegionsToMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RegionsToMasks",
            display_name="DEIG Regions To Masks",
            category=CATEGORY,
            **also_found_as("mask", "area", "segment", "regional prompt", "attention couple"),
            description="Gives the regions' places as masks, so that the layout that DEIG paints by also says where a "
            "LoRA, a ControlNet, an IP-Adapter or inpainting works.",
            inputs=[
                RegionsType.Input("regions", tooltip="The regions, back to front."),
                io.Int.Input("width", default=512, **SIZE, tooltip="Width of the masks in pixels."),
                io.Int.Input("height", default=512, **SIZE, tooltip="Height of the masks in pixels."),
                choice_input(),
                io.Combo.Input(
                    "output",
                    options=[EACH, UNION],
                    default=EACH,
                    tooltip="one for each: a batch, one mask for each chosen region, back to front. union: one mask "
                    "of all that are chosen.",
                ),
                io.Combo.Input(
                    "overlap",
                    options=list(OVERLAPS),
                    default=OVERLAPS[0],
                    tooltip="Where regions overlap. share: each has its whole place. front: the later region takes it "
                    "from those behind, also where the later one is not chosen.",
                ),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=-1024,
                    max=1024,
                    tooltip="How many pixels a place reaches beyond itself, every way alike. 0: not at all; below 0 "
                    "it shrinks. It comes before the overlap is settled.",
                ),
                io.Int.Input(
                    "feather",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="How wide the soft edge is, in pixels: half of it lies inside, half outside. 0: edges "
                    "stay as they are. It comes last.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "masks",
                    display_name="masks",
                    tooltip="White is inside. Strength and timing are not in them.",
                )
            ],
        )

    @classmethod
    def execute(cls, regions, width, height, choose, output, overlap, grow, feather):
        indices = chosen(regions, choose)
        masks = region_masks(regions, (height, width), MaskOptions(grow, overlap, feather))[list(indices)]
        for phrase in empty_ones(masks, [regions[index] for index in indices]):
            log.warning("DEIG: the mask of %r is empty: nothing is left of its place.", phrase)
        return io.NodeOutput(union(masks) if output == UNION else masks)


NODES = [RegionsToMasks]
