"""Nodes that make regions one by one."""

from comfy_api.latest import io

from ..deig_core.regions import Region
from .types import CATEGORY, RegionsType

FRACTION = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.0001}


def phrase_input() -> io.String.Input:
    return io.String.Input(
        "phrase",
        default="",
        multiline=True,
        tooltip="What is to be seen there, as rich as you like: 'a woman in a white shirt with red accents, blue "
        "shorts and sunglasses'. Up to 128 tokens (about 90 words); what goes beyond is not read.",
    )


def timing_inputs() -> list[io.Input]:
    """Strength, start and end, the same on every node that makes regions."""
    return [
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.05,
            round=0.001,
            tooltip="How much the picture attends to this region. 0: not at all; 1: as the model was trained; "
            "above 1: more, at the cost of the surroundings.",
        ),
        io.Float.Input(
            "start_percent",
            default=0.0,
            **FRACTION,
            tooltip="Where in the sampling schedule the region begins to act. 0: from the first step; 1: never.",
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            **FRACTION,
            tooltip="Where in the sampling schedule the region stops acting. 1: never; 0: before the first step.",
        ),
    ]


def chained_regions_input() -> io.Input:
    return RegionsType.Input(
        "regions",
        optional=True,
        tooltip="Regions from other nodes; they come first, so this one lies in front of them.",
    )


class BoxRegion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_BoxRegion",
            display_name="DEIG Box Region",
            category=CATEGORY,
            description="One instance: a phrase and the box it is painted in. The box is given in fractions of the "
            "image, so it fits every size. Chain several by the regions input.",
            inputs=[
                phrase_input(),
                io.Float.Input(
                    "x",
                    default=0.25,
                    **FRACTION,
                    tooltip="Left edge of the box, as a fraction of the image's width. 0: the image's left edge.",
                ),
                io.Float.Input(
                    "y",
                    default=0.25,
                    **FRACTION,
                    tooltip="Top edge of the box, as a fraction of the image's height. 0: the image's top edge.",
                ),
                io.Float.Input(
                    "width",
                    default=0.5,
                    **FRACTION,
                    tooltip="Width of the box, as a fraction of the image's width. 1: the whole width; x + width "
                    "must not go beyond 1.",
                ),
                io.Float.Input(
                    "height",
                    default=0.5,
                    **FRACTION,
                    tooltip="Height of the box, as a fraction of the image's height. 1: the whole height; y + height "
                    "must not go beyond 1.",
                ),
                *timing_inputs(),
                chained_regions_input(),
            ],
            outputs=[
                RegionsType.Output(
                    display_name="regions", tooltip="The chained regions, with this one as the last."
                )
            ],
        )

    @classmethod
    def execute(cls, phrase, x, y, width, height, strength, start_percent, end_percent, regions=()):
        region = Region(phrase, (x, y, x + width, y + height), strength, start_percent, end_percent)
        return io.NodeOutput((*regions, region))


NODES = [BoxRegion]
