"""The text side: a T5 encoder of Flan-T5-XL's size with random weights, and what it is asked for."""

from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.text_encoders
import torch
from comfy.model_patcher import ModelPatcher
from deig_pack.deig_core.deig.text_encoder import FastTokenizer, PhraseReader, TextEncoder, pick_dtype
from deig_pack.deig_core.regions.region import Regions
from deig_pack.nodes.grounding import EncodeRegions
from deig_pack.nodes.types import LoadedTextEncoder
from transformers import T5Config, T5EncoderModel

from .measure import Measured, measuring
from .models import layout

FLAN_T5_XL = {
    "vocab_size": 32128,
    "d_model": 2048,
    "d_kv": 64,
    "d_ff": 5120,
    "num_layers": 24,
    "num_heads": 32,
    "feed_forward_proj": "gated-gelu",
    "use_cache": False,
}


def random_encoder() -> LoadedTextEncoder:
    """A text encoder as 'DEIG Load Text Encoder' gives it: 1.2 G parameters."""
    device = comfy.model_management.text_encoder_device()
    with torch.device("meta"):
        t5 = T5EncoderModel(T5Config(**FLAN_T5_XL)).to(pick_dtype("auto", device))
    model = PhraseReader(t5.encoder).eval().requires_grad_(False).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    tokenizer = FastTokenizer(Path(comfy.text_encoders.__path__[0]) / "t5_tokenizer")
    patcher = ModelPatcher(
        model, load_device=device, offload_device=comfy.model_management.text_encoder_offload_device()
    )
    return LoadedTextEncoder(TextEncoder("random", model, tokenizer, t5.config.d_model), patcher)


def measure_text(encoder: LoadedTextEncoder, count: int = 10) -> dict[str, dict[str, float]]:
    """Encode ten phrases through the node: cold, after moving a box, after changing one phrase.

    Returns:
        For each, its seconds and how many phrases the encoder read.
    """
    regions = layout(count)
    moved = (replace(regions[0], box=(0.0, 0.0, 0.5, 0.5)), *regions[1:])
    changed = (replace(regions[0], phrase="something else"), *regions[1:])
    return {
        "cold": _encode(encoder, regions),
        "a box moved": _encode(encoder, moved),
        "a phrase changed": _encode(encoder, changed),
    }


def _encode(loaded: LoadedTextEncoder, regions: Regions) -> dict[str, float]:
    before, measured = loaded.encoder.encoded_phrases, Measured()
    with measuring(measured, loaded.patcher.load_device):
        EncodeRegions.execute(loaded, regions)
    return {"seconds": measured.seconds[0], "encoded": loaded.encoder.encoded_phrases - before}
