"""Nodes that make regions one by one."""

import logging

from comfy_api.latest import io

from ..deig_core.regions.region import Mask, Region
from .types import CATEGORY, FRACTION, RegionsType, also_found_as

log = logging.getLogger(__name__)


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
            **also_found_as("regional prompt", "area", "box", "bounding box", "instance", "GLIGEN textbox"),
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


class MaskRegion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_MaskRegion",
            display_name="DEIG Mask Region",
            category=CATEGORY,
            **also_found_as("regional prompt", "area", "mask", "segment", "instance", "inpaint region"),
            description="One instance whose place is a mask of any shape. Several masks in one batch make one region "
            "each, with one line of the phrase for each.",
            inputs=[
                io.Mask.Input(
                    "mask",
                    tooltip="The place: white is inside. Any resolution; it is laid over the whole image. Grey weighs "
                    "as strength does. It must not be empty.",
                ),
                phrase_input(),
                *timing_inputs(),
                chained_regions_input(),
            ],
            outputs=[
                RegionsType.Output(
                    display_name="regions", tooltip="The chained regions, with these as the last."
                )
            ],
        )

    @classmethod
    def execute(cls, mask, phrase, strength, start_percent, end_percent, regions=()):
        masks = mask.reshape(-1, *mask.shape[-2:])
        phrases = _phrase_of_each(phrase, len(masks))
        new = []
        for values, words in zip(masks, phrases, strict=True):
            place = Mask(values.float().cpu().numpy())
            if place.values.min() > 0:
                log.warning("DEIG: the mask of %r covers the whole image. Is it inverted?", words)
            box = place.bounding_box()
            new.append(Region(words, box, strength, start_percent, end_percent, mask=place))
        return io.NodeOutput((*regions, *new))


def _phrase_of_each(phrase: str, masks: int) -> list[str]:
    if masks == 1:
        return [phrase]
    lines = [line.strip() for line in phrase.splitlines() if line.strip()]
    if len(lines) != masks:
        raise ValueError(
            f"A batch of {masks} masks came in, but the phrase has {len(lines)} lines. Write one line for each mask, "
            "or connect one mask."
        )
    return lines


NODES = [BoxRegion, MaskRegion]
