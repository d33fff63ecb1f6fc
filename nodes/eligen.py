"""Nodes that bring regions to FLUX.1 and Qwen-Image with EliGen."""

import comfy.lora
import comfy.lora_convert
import folder_paths
import torch
from comfy_api.latest import io

from ..deig_core.eligen.entities import Entities
from ..deig_core.eligen.lora import host_names
from ..deig_core.files.tensor_files import read_state_dict
from ..deig_core.fusion.schedule import Schedule
from .host.texts import TextMemory
from .host.transformers import Family, family_of, has_lora, patch_model, with_entities
from .loaders import listed_files
from .types import CATEGORY, FRACTION, RegionsType, also_found_as

NO_LORA = "no LoRA found: put EliGen's into models/loras"
TEXTS = TextMemory()


class EliGen(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_EliGen",
            display_name="EliGen Apply",
            category=CATEGORY,
            **also_found_as("regional prompt", "FLUX", "Qwen-Image", "entity", "area", "instance", "mask"),
            description="Paints every region in its place with FLUX.1 or Qwen-Image and EliGen's LoRA. Connect both "
            "the model and the conditioning that come out to a sampler. Phrases read before are remembered: moving a "
            "region reads nothing.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="FLUX.1-dev or Qwen-Image with EliGen's LoRA for it. Other LoRAs, ControlNets and image "
                    "adapters before and after it go on working.",
                ),
                io.Clip.Input(
                    "clip", tooltip="The model's own text encoder, which reads the regions' phrases."
                ),
                io.Conditioning.Input("positive", tooltip="The prompt for the whole picture."),
                RegionsType.Input("regions", tooltip="The regions, from box, mask, editor or text nodes."),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="The negative prompt, if the sampler takes one."
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How much the picture attends to the regions; each region's own strength is multiplied "
                    "by it. 0: the plain model, exactly; 1: as it was trained; above 1: more, at the cost of the "
                    "surroundings.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    **FRACTION,
                    tooltip="Where in the sampling schedule the regions begin to act. 0: from the first step, which "
                    "decides where things are; 1: never.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    **FRACTION,
                    tooltip="Where in the sampling schedule they stop acting; the steps after it are as fast as "
                    "without. 1: never; 0: before the first step.",
                ),
                io.Boolean.Input(
                    "entities_on_negative",
                    default=False,
                    tooltip="Whether the negative prompt acts in each region by itself as well. Off, as released: it "
                    "acts on the whole picture only. On: as slow as the positive, and it needs a negative prompt.",
                ),
                io.Boolean.Input(
                    "lora_in_weights",
                    default=False,
                    tooltip="Turn on only if EliGen's LoRA is merged into the model file itself, so that no LoRA has "
                    "to be loaded. Off: a model without any LoRA is refused, because regions would not be painted.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The model with EliGen, for a sampler. The one that came in is unchanged.",
                ),
                io.Conditioning.Output(display_name="positive", tooltip="The prompt with the regions."),
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="The negative prompt; with the regions if they are on it. Empty if none came in.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        clip,
        positive,
        regions,
        negative=None,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
        entities_on_negative=False,
        lora_in_weights=False,
    ):
        schedule = Schedule(strength, start_percent, end_percent)
        family = family_of(model)
        regions = tuple(region for region in regions if region.strength > 0)
        if not regions or strength == 0:
            return io.NodeOutput(model, positive, negative)
        check_lora(model, (*positive, *(negative or ())), family, lora_in_weights)
        width = model.model.diffusion_model.txt_in.in_features
        check_widths((*positive, *(negative or ())), width, family)
        texts = TEXTS.encode(clip, tuple(region.phrase for region in regions))
        check_texts(texts, width, family)
        if entities_on_negative:
            negative = with_negative_entities(negative, regions, schedule)
        positive = with_entities(positive, lambda _: Entities(regions, texts, schedule))
        return io.NodeOutput(patch_model(model), positive, negative)


def with_negative_entities(negative, regions: tuple, schedule: Schedule) -> list:
    """Return the negative with a region for each of the positive's, whose text is the whole negative prompt."""
    if negative is None:
        raise ValueError(
            "entities_on_negative is on, but no negative is connected. Connect the negative prompt, or turn it off."
        )
    if not all(prompt.any() for prompt, _ in negative):
        raise ValueError(
            "entities_on_negative is on, but the negative is zeroed (Conditioning Zero Out) and has no words that "
            "could act in a region. Connect a negative prompt from CLIP Text Encode, or turn entities_on_negative off."
        )
    return with_entities(negative, lambda prompt: Entities(regions, (prompt[:1],) * len(regions), schedule))


def check_lora(model, conditioning: tuple, family: Family, in_weights: bool):
    """Refuse a model without any LoRA: nothing would tell it what a region is."""
    if in_weights or has_lora(model, conditioning):
        return
    raise ValueError(
        f"No LoRA is loaded on this {family.name} model, and without EliGen's the regions would not be painted. Put "
        "'EliGen Load LoRA' or the host's LoRA loader between the model and 'EliGen Apply', with EliGen's LoRA for "
        f"{family.name} and a strength above 0. If one is there, the host did not know the names in the file: take "
        "'EliGen Load LoRA', which does. If the LoRA is merged into the model file, turn lora_in_weights on."
    )


def check_widths(conditioning: tuple, width: int, family: Family):
    """Refuse conditioning of another model's text encoder."""
    for prompt, _ in conditioning:
        if prompt.shape[-1] != width:
            raise ValueError(
                f"The conditioning is {prompt.shape[-1]} wide, but this {family.name} model reads text {width} wide. "
                f"Encode the prompt with the model's own text encoder: {family.loader}."
            )


def check_texts(texts: tuple[torch.Tensor, ...], width: int, family: Family):
    """Refuse the text encoder of another model."""
    given = texts[0].shape[-1]
    if given != width:
        raise ValueError(
            f"The CLIP connected gives text {given} wide, but this {family.name} model reads text {width} wide. "
            f"Connect the model's own text encoder: {family.loader}."
        )


class LoadEliGenLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_LoadEliGenLoRA",
            display_name="EliGen Load LoRA",
            category=CATEGORY,
            **also_found_as("LoRA", "FLUX", "Qwen-Image", "DiffSynth"),
            description="Loads EliGen's LoRA for FLUX.1 or Qwen-Image from models/loras, also in the form of its "
            "training code, whose names no ComfyUI reads, and says so if it does not fit the model.",
            inputs=[
                io.Model.Input("model", tooltip="FLUX.1-dev or Qwen-Image."),
                io.Combo.Input(
                    "lora_name",
                    options=listed_files("loras") or [NO_LORA],
                    tooltip="A file from models/loras.",
                ),
                io.Float.Input(
                    "strength_model",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How strongly the LoRA changes the model. 0: not at all; 1: as it was trained; above 1 "
                    "overdoes it; negative turns it round.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the LoRA, for 'EliGen Apply'.")
            ],
        )

    @classmethod
    def execute(cls, model, lora_name, strength_model):
        family = family_of(model)
        if strength_model == 0:
            return io.NodeOutput(model)
        path = folder_paths.get_full_path_or_raise("loras", lora_name)
        # Not the host's reader: it maps the file, and one that is replaced meanwhile would end the process.
        state = read_state_dict(path, lambda name: True)
        return io.NodeOutput(with_lora(model, state, strength_model, f"'{lora_name}'", family))


def with_lora(model, state: dict, strength: float, name: str, family: Family):
    """Return a clone of a model with a LoRA.

    Args:
        model: the host's ModelPatcher.
        state: the LoRA's tensors, under the names of the host, or of DiffSynth-Studio.
        strength: of the LoRA.
        name, family: of the file and the model, for the message.

    Raises:
        ValueError: if the model takes none of it, or not all.
    """
    state = comfy.lora_convert.convert_lora(host_names(state))
    loaded = comfy.lora.load_lora(state, comfy.lora.model_lora_keys_unet(model.model, {}), log_missing=False)
    patched = model.clone()
    taken = set(patched.add_patches(loaded, strength))
    left = [key for key in loaded if key not in taken] + _unread(state, loaded)
    if not taken or left:
        raise ValueError(
            f"The LoRA {name} does not fit this {family.name} model: {len(taken)} layers were taken"
            + (f", {len(left)} names were not, such as '{left[0]}'. " if left else ". ")
            + f"Choose EliGen's LoRA for {family.name}."
        )
    return patched


def _unread(state: dict, loaded: dict) -> list[str]:
    """Return the names of tensors that went into no layer."""
    read = {id(tensor) for patch in loaded.values() for tensor in _tensors(patch)}
    return [key for key, tensor in state.items() if id(tensor) not in read and not key.endswith(".alpha")]


def _tensors(patch) -> list[torch.Tensor]:
    weights = getattr(patch, "weights", patch)
    return [weight for weight in weights if isinstance(weight, torch.Tensor)]


NODES = [LoadEliGenLoRA, EliGen]
