"""Nodes that encode phrases and prompts, ground instances, and put DEIG into a model."""

import logging

import torch
from comfy_api.latest import io

from ..deig_core.deig.grounding import TRAINED_INSTANCES, Grounding
from ..deig_core.fusion.instances import EncodedText, Instances
from ..deig_core.fusion.schedule import Schedule
from ..deig_core.instance_diffusion.grounding import InstanceGrounding
from ..deig_core.instance_diffusion.masked_attention import CHOICES, OFF
from ..deig_core.instance_diffusion.uni_fusion import RELEASED_KINDS, SLOTS
from .host.clip import read_phrases
from .host.unet import COND, CONTEXT_WIDTH, PromptCond, patch_model
from .types import (
    CATEGORY,
    FRACTION,
    AdapterGrounding,
    AdapterType,
    GroundingType,
    InstancesType,
    LoadedInstanceDiffusion,
    RegionsType,
    TextEncoderType,
    also_found_as,
)

log = logging.getLogger(__name__)

# What a conditioning without CLIP holds in its place. An SD1.x model with DEIG sees none of it; it lets other
# models come as far as to be told what is wrong.
CLIP_TOKENS, POOLED = 77, 1280


class EncodeRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_EncodeRegions",
            display_name="DEIG Encode Regions",
            category=CATEGORY,
            **also_found_as("regional prompt", "instance prompts", "phrases", "T5 encode", "CLIP encode"),
            description="Reads the phrase of every region: with the T5 text encoder for DEIG, with the checkpoint's "
            "CLIP for InstanceDiffusion. What T5 has read before is remembered: moving a box encodes nothing, "
            "changing one phrase encodes one.",
            inputs=[
                io.MultiType.Input(
                    "text_encoder",
                    types=[TextEncoderType, io.Clip],
                    tooltip="For DEIG from 'DEIG Load Text Encoder'. For InstanceDiffusion the CLIP of the checkpoint, "
                    "LoRAs included; it reads up to 77 tokens of a phrase, about 55 words.",
                ),
                RegionsType.Input("regions", tooltip="The regions, from box, mask, editor or text nodes."),
            ],
            outputs=[
                InstancesType.Output(
                    display_name="instances",
                    tooltip="Regions with their phrases read, for 'DEIG Refine Instances'.",
                )
            ],
        )

    @classmethod
    def execute(cls, text_encoder, regions):
        if len(regions) > TRAINED_INSTANCES:
            log.warning(
                "DEIG: %d regions. All of them are used, but the released weights were trained with at most %d in a "
                "picture, so some may come out weaker.",
                len(regions),
                TRAINED_INSTANCES,
            )
        phrases = tuple(region.phrase for region in regions)
        is_clip = hasattr(text_encoder, "encode_from_tokens")
        text = read_phrases(text_encoder, phrases) if is_clip else text_encoder.encode(phrases)
        return io.NodeOutput(Instances(tuple(regions), text))


class EncodePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_EncodePrompt",
            display_name="DEIG Encode Prompt",
            category=CATEGORY,
            **also_found_as("T5 prompt", "text encode", "CLIP text encode", "global prompt"),
            description="Encodes the prompt of the whole picture as DEIG's authors do: through T5 and the adapter, "
            "refined anew at every step, in place of CLIP. Use it for the positive and the negative prompt, with a "
            "model from 'DEIG Apply to Model'. Plain CLIP prompts work as well.",
            inputs=[
                TextEncoderType.Input("text_encoder", tooltip="From 'DEIG Load Text Encoder'."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="The prompt for the whole picture. Up to 128 tokens (about 90 words). May be empty, as a "
                    "negative prompt often is.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="CLIP conditioning to build on. It keeps its areas, masks, ControlNets and timing, and "
                    "ControlNet goes on seeing CLIP's text; only the model's own text is replaced. Without it the "
                    "prompt stands alone, and the graph needs no CLIP model.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="For the positive or negative input of a sampler whose model has DEIG.",
                )
            ],
        )

    @classmethod
    def execute(cls, text_encoder, text, conditioning=None):
        prompt = text_encoder.encode((text,))
        if conditioning is None:
            conditioning = [
                [torch.ones(1, CLIP_TOKENS, CONTEXT_WIDTH), {"pooled_output": torch.zeros(1, POOLED)}]
            ]
        return io.NodeOutput([_with_prompt(prompt, context, options) for context, options in conditioning])


def _with_prompt(prompt: EncodedText, context: torch.Tensor, options: dict) -> list:
    conds = {**options.get("model_conds", {}), COND: PromptCond(prompt, context)}
    return [context, {**options, "model_conds": conds}]


class RefineInstances(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_RefineInstances",
            display_name="DEIG Refine Instances",
            category=CATEGORY,
            **also_found_as("instance detail extractor", "IDE", "overlap", "grounding"),
            description="Joins instances with the adapter. DEIG's Instance Detail Extractor boils each phrase down "
            "to a few tokens for the step being sampled; InstanceDiffusion's UniFusion makes tokens of phrases, "
            "boxes, points, scribbles and masks. Nothing is computed until sampling.",
            inputs=[
                AdapterType.Input("adapter", tooltip="From 'DEIG Load Adapter'."),
                InstancesType.Input("instances", tooltip="From 'DEIG Encode Regions'."),
                io.Combo.Input(
                    "overlap",
                    options=["share", "front"],
                    default="share",
                    tooltip="Where regions overlap, for DEIG. share: the picture sees all of them there, as in the "
                    "paper. front: the later region hides the earlier ones, which keeps them from merging. "
                    "InstanceDiffusion has no use for it: its pixels see every region anyway.",
                ),
                io.Combo.Input(
                    "kinds",
                    options=list(RELEASED_KINDS),
                    default="mask",
                    optional=True,
                    tooltip="Which places of a region InstanceDiffusion goes by; DEIG has no use for it. mask: "
                    "boxes, points and masks, as its authors do by default; box: boxes and points; point: points "
                    "alone; scribble: all of them. What a region has not is made of what it has: points of boxes, "
                    "scribbles of masks.",
                ),
                io.Combo.Input(
                    "masked",
                    options=list(CHOICES),
                    default=OFF,
                    optional=True,
                    tooltip="Whether regions are kept apart in InstanceDiffusion's attention, where the picture has "
                    "64 x 64 cells (512 x 512 pixels). off: as released; as meant: pixels in a box see only those "
                    "that share it; as written: the same with x and y exchanged, as the authors' program computes it.",
                ),
            ],
            outputs=[
                GroundingType.Output(
                    display_name="grounding", tooltip="What to paint and where, for 'DEIG Apply to Model'."
                )
            ],
        )

    @classmethod
    def execute(cls, adapter, instances, overlap, kinds="mask", masked=OFF):
        if isinstance(adapter, LoadedInstanceDiffusion):
            _warn_of_masks(instances)
            grounding = InstanceGrounding(adapter.adapter, instances, RELEASED_KINDS[kinds], masked)
        else:
            grounding = Grounding(adapter.refiner, instances, front=overlap == "front")
        return io.NodeOutput(AdapterGrounding(adapter, grounding))


def _warn_of_masks(instances: Instances):
    if sum(region.mask is not None for region in instances.regions) > SLOTS:
        log.warning(
            "DEIG: InstanceDiffusion sees the shapes of %d masks at once, and more regions than that have one. The "
            "largest are taken; every region keeps its box, point and outline.",
            SLOTS,
        )


class ApplyToModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_ApplyToModel",
            display_name="DEIG Apply to Model",
            category=CATEGORY,
            **also_found_as(
                "regional prompt",
                "area",
                "GLIGEN",
                "instance",
                "grounding",
                "model patch",
                "InstanceDiffusion",
            ),
            description="Puts DEIG or InstanceDiffusion into a Stable Diffusion 1.x model: while it samples, every "
            "region is painted in its place. LoRAs, ControlNets and other patches before and after it go on working.",
            inputs=[
                io.Model.Input("model", tooltip="Any SD1.x model, LoRAs and community checkpoints included."),
                GroundingType.Input("grounding", tooltip="From 'DEIG Refine Instances'."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How strongly DEIG acts. 0: the plain model, exactly; 1: as it was trained; above 1: "
                    "regions bind harder and the picture may suffer.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    **FRACTION,
                    tooltip="Where in the sampling schedule DEIG begins. 0: from the first step, which decides where "
                    "things are; 1: never.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    **FRACTION,
                    tooltip="Where in the sampling schedule DEIG ends; after it the plain model finishes, at its own "
                    "speed. 1: never; 0: before the first step.",
                ),
                io.Float.Input(
                    "decay_percent",
                    default=0.0,
                    **FRACTION,
                    tooltip="Over how much of the schedule before the end the strength falls linearly to 0. 0: full "
                    "strength up to the end.",
                ),
                io.Boolean.Input(
                    "scale_u",
                    default=True,
                    optional=True,
                    tooltip="InstanceDiffusion's ScaleU, which rescales the model's features; DEIG has none. On: as "
                    "it was trained, at every step, whatever strength and timing say. Off: without it; with strength "
                    "0 the plain model, exactly.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The model with DEIG, for a sampler. The one that came in is unchanged.",
                )
            ],
        )

    @classmethod
    def execute(cls, model, grounding, strength, start_percent, end_percent, decay_percent, scale_u=True):
        schedule = Schedule(strength, start_percent, end_percent, decay_percent)
        patched = patch_model(model, grounding.adapter.patcher, grounding.grounding, schedule, scale_u)
        return io.NodeOutput(patched)


NODES = [EncodeRegions, EncodePrompt, RefineInstances, ApplyToModel]
