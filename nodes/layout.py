"""Nodes that bring regions in, show them and write them out."""

import numpy as np
import torch
from comfy_api.latest import io

from ..deig_core.draw import draw_regions

CATEGORY = "DEIG"
RegionList = io.Custom("DEIG_REGIONS")

SIZE = {"min": 16, "max": 16384, "step": 8}


def width_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input("width", default=512, **SIZE, tooltip=tooltip)


def height_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input("height", default=512, **SIZE, tooltip=tooltip)


class PreviewRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_PreviewRegions",
            display_name="DEIG Preview Regions",
            category=CATEGORY,
            description="Draws the regions as the editor shows them: boxes, order, phrases and colours, over "
            "an image or a plain ground. Marks show the cells of the coarsest token grid (64 pixels) in "
            "which the model lets the picture and a region see each other: dots where the region itself is, "
            "rings where the model grows its place there.",
            inputs=[
                RegionList.Input("regions", tooltip="The regions to draw. Later ones lie in front."),
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
                    tooltip="The drawing, at least 512 pixels on its shorter side.",
                )
            ],
        )

    @classmethod
    def execute(cls, regions, width, height, image=None):
        grounds = [None] if image is None else [frame.cpu().numpy() for frame in image[..., :3]]
        drawings = [np.asarray(draw_regions(regions, width, height, ground)) for ground in grounds]
        return io.NodeOutput(torch.from_numpy(np.stack(drawings)).float() / 255)  # BHWC, 0 to 1


NODES = [PreviewRegions]
