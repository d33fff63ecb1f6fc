"""FLUX.1 and Qwen-Image of the host's own classes, small or of full width, with the weights of the goldens."""

import math
import zlib

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from deig_pack.deig_core.eligen.lora import ELSEWHERE, IN_DOUBLE_BLOCKS, IN_SINGLE_BLOCKS
from deig_pack.tests.host.kept import kept

NORMS = {
    "attn.norm_q_a": "img_attn.norm.query_norm",
    "attn.norm_k_a": "img_attn.norm.key_norm",
    "attn.norm_q_b": "txt_attn.norm.query_norm",
    "attn.norm_k_b": "txt_attn.norm.key_norm",
}
SINGLE_NORMS = {"norm_q_a": "norm.query_norm", "norm_k_a": "norm.key_norm"}
SEEDS = {("flux", 256): 101, ("flux", 3072): 102, ("qwen", 256): 103, ("qwen", 3072): 104}


def seeded_tensor(name: str, shape: tuple, seed: int) -> torch.Tensor:
    """A tensor of random weights, the same for the same name, shape and seed."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
    t = torch.randn(shape, generator=generator)
    if len(shape) >= 2:
        return t / math.sqrt(t[0].numel())
    return 1 + 0.05 * t if name.endswith("weight") else 0.05 * t


def reference_name(name: str) -> str:
    """Return what the reference implementation calls a tensor of the host's FLUX.1."""
    path, end = name.rsplit(".", 1)
    end = "weight" if end == "scale" else end
    for kind, layers in (("double", IN_DOUBLE_BLOCKS | NORMS), ("single", IN_SINGLE_BLOCKS | SINGLE_NORMS)):
        prefix = f"{kind}_blocks."
        if path.startswith(prefix):
            number, layer = path.removeprefix(prefix).split(".", 1)
            theirs = {ours: theirs for theirs, ours in layers.items()}[layer]
            return f"{prefix.removeprefix('double_')}{number}.{theirs}.{end}"
    return f"{({ours: theirs for theirs, ours in ELSEWHERE.items()})[path]}.{end}"


def fill(module: torch.nn.Module, seed: int, renamed=lambda name: name):
    """Give a model the weights that its names and a seed stand for; attention is peaked, so that a mask shows."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            theirs = renamed(name)
            gain = 2 if any(norm in theirs for norm in ("norm_q", "norm_k", "norm_added")) else 1
            weight.copy_(gain * seeded_tensor(theirs, tuple(weight.shape), seed))


def flux_config(width: int, context: int, pooled: int, double: int, single: int) -> dict:
    config = {
        "image_model": "flux",
        "in_channels": 16,
        "out_channels": 16,
        "patch_size": 2,
        "vec_in_dim": pooled,
        "context_in_dim": context,
        "hidden_size": width,
        "num_heads": width // 128,
        "mlp_ratio": 4.0,
        "depth": double,
        "depth_single_blocks": single,
        "axes_dim": [16, 56, 56],
        "theta": 10000,
        "qkv_bias": True,
        "guidance_embed": True,
    }
    from comfy.ldm.flux.model import FluxParams

    return config | ({"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__annotations__ else {})


def qwen_config(width: int, context: int, layers: int) -> dict:
    return {
        "image_model": "qwen_image",
        "in_channels": 64,
        "num_layers": layers,
        "num_attention_heads": width // 128,
        "joint_attention_dim": context,
    }


@kept
def host_model(family: str, width: int = 256):
    """The host's ModelPatcher of a transformer, float32.

    Args:
        family: flux or qwen.
        width: 256 (several blocks, with heads and rotations of the real size) or 3072 (the real width, least depth).
    """
    small = width == 256
    if family == "flux":
        sizes = (96, 48, 2, 2) if small else (4096, 768, 1, 1)
        kind, config = comfy.supported_models.Flux, flux_config(width, *sizes)
    else:
        sizes = (96, 3) if small else (3584, 2)
        kind, config = comfy.supported_models.QwenImage, qwen_config(width, *sizes)
    config = kind({**config, "dtype": torch.float32})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    fill(
        model.diffusion_model, SEEDS[family, width], reference_name if family == "flux" else lambda name: name
    )
    device = comfy.model_management.get_torch_device()
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(model.eval(), load_device=device, offload_device=device)
