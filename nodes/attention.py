"""Nodes that look inside: where the picture attended to each instance, and how much leaked."""

import logging

import numpy as np
import torch
from comfy_api.latest import io

from ..deig_core.fusion.attention_pictures import SCALES, attention_masks, heat_pictures, leakage_picture
from ..deig_core.fusion.attention_record import RecordSettings
from ..deig_core.fusion.block_choice import EVERY, BlockChoice
from ..deig_core.fusion.leakage import report
from ..deig_core.regions.choice import chosen
from ..deig_core.regions.raster import CELL_PIXELS
from .boxes import choice_input
from .host.attention import AttentionRecording, record_attention
from .types import CATEGORY, FRACTION, AttentionType, also_found_as

log = logging.getLogger(__name__)

INSTANCES, TOKENS = "instances", "tokens"


class RecordAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RecordAttention",
            display_name="DEIG Record Attention",
            category=CATEGORY,
            **also_found_as("attention map", "look inside", "debug", "leakage", "instance"),
            description="Notes, while the model samples, which parts of the picture attend to which region. The "
            "picture stays the same, to the bit; sampling takes somewhat longer. 'DEIG Attention Maps' shows what was "
            "noted.",
            inputs=[
                io.Model.Input("model", tooltip="From 'DEIG Apply to Model'."),
                io.String.Input(
                    "blocks",
                    default=EVERY,
                    tooltip="In which blocks of the model. all: every one. A size of image tokens in pixels: 8 (fine, "
                    "slowest), 16, 32, 64 (coarse). Or input, middle, output, or one block such as input.2, where the "
                    "paper looks. Several are separated by commas: '16, 32'.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    **FRACTION,
                    tooltip="Where in the sampling schedule noting begins. 0: from the first step, which decides where "
                    "things are; 1: never.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    **FRACTION,
                    tooltip="Where in the sampling schedule noting ends. 1: with the last step, which paints details; "
                    "0: before the first.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="recorded",
                    display_name="model",
                    tooltip="The model, for a sampler. The one that came in is unchanged.",
                ),
                AttentionType.Output(
                    id="recording", display_name="recording", tooltip="For 'DEIG Attention Maps'."
                ),
            ],
        )

    @classmethod
    def execute(cls, model, blocks, start_percent, end_percent):
        recording = AttentionRecording(RecordSettings(BlockChoice.read(blocks), start_percent, end_percent))
        return io.NodeOutput(record_attention(model, recording), recording)


class AttentionMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_AttentionMaps",
            display_name="DEIG Attention Maps",
            category=CATEGORY,
            **also_found_as("attention map", "heat map", "look inside", "leakage", "mask", "instance"),
            description="Shows where the finished picture attended to each region, and how much of what a region's "
            "area attended to was its own, another region's, or the background: why an instance did not appear, or "
            "took on another's colours.",
            inputs=[
                AttentionType.Input("recording", tooltip="From 'DEIG Record Attention'."),
                io.Latent.Input(
                    "samples",
                    tooltip="The LATENT straight out of the sampler that the recorded model went into: by it this "
                    "node runs after the sampler, and finds what belongs to just this picture.",
                ),
                choice_input(),
                io.Combo.Input(
                    "show",
                    options=[INSTANCES, TOKENS],
                    default=INSTANCES,
                    tooltip="instances: one map for each region. tokens: one for each of the few tokens that a "
                    "phrase is boiled down to (16 in the released model), which take on its details; their maps lie "
                    "side by side on one picture.",
                ),
                io.Combo.Input(
                    "scale",
                    options=list(SCALES),
                    default=SCALES[0],
                    tooltip="How bright maps are. each: the most attended place of every map is 1. together: the most "
                    "attended of all maps is 1, so that a weak region looks weak. as it is: the share of attention, 0 "
                    "to 1.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The finished picture, which the maps are laid over; masks take its size. Without it the "
                    "ground is plain, and the size that of the latent.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "maps",
                    display_name="maps",
                    tooltip="Heat over the picture, one for each chosen region, back to front: dark where it was not "
                    "attended to, light yellow where most. Small pictures are enlarged as in the preview.",
                ),
                io.Mask.Output(
                    "masks",
                    display_name="masks",
                    tooltip="The same as masks, 0 to 1, of the picture's size: one for each chosen region, or for each "
                    "of its tokens. 0 wherever the model does not let picture and region see each other.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Of what each region's area attended to, in per cent: itself, others and background.",
                ),
                io.Image.Output(
                    "leakage",
                    display_name="leakage",
                    tooltip="The report as a picture, in the preview's colours: below it a bar for each region, its "
                    "words (bright), its area (pale), the others (their colours) and the background (grey).",
                ),
            ],
        )

    @classmethod
    def execute(cls, recording, samples, choose, show, scale, image=None):
        record = recording.of(samples["samples"])
        pictures = (
            [None] * record.pictures if image is None else [one.cpu().numpy() for one in image[..., :3]]
        )
        if len(pictures) != record.pictures:
            raise ValueError(
                f"{len(pictures)} pictures came in, but {record.pictures} were sampled. Connect to 'image' what VAE "
                "Decode makes of the same samples."
            )
        size = (
            tuple(CELL_PIXELS * side for side in record.latent_size)
            if image is None
            else tuple(image.shape[1:3])
        )
        regions = chosen(record.regions, choose)
        text = report(record)
        if record.is_empty:
            log.warning("DEIG: %s", text)
        masks, maps, leaks = [], [], []
        for number, picture in enumerate(pictures):
            own = attention_masks(record, number, regions, show == TOKENS, scale, size)
            masks.append(own.flatten(0, 1))
            maps += heat_pictures(record, regions, own, picture)
            leaks.append(leakage_picture(record, number, size, picture))
        return io.NodeOutput(_as_images(maps), torch.cat(masks), text, _as_images(leaks))


def _as_images(drawings: list[np.ndarray]) -> torch.Tensor:
    """Drawings of one size -> (B, H, W, 3), 0 to 1."""
    return torch.from_numpy(np.stack(drawings)).float() / 255


NODES = [RecordAttention, AttentionMaps]
