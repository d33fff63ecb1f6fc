"""Random weights for models of given shapes, and what they are told: drawn from a seed, so that the same call gives
the same tensors."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]
State = dict[str, torch.Tensor]

# Queries and keys are drawn this much larger than a layer that keeps unit variance, so that attention
# logits have a deviation of about QK_GAIN squared: weights far from uniform, which a wrong mask or a wrong
# key then shows in the result.
QK_GAIN = 1.5
QUERY_KEY_NAMES = (".to_q.weight", ".to_k.weight", ".q_proj.weight", ".k_proj.weight")


def draw_weights(shapes: Shapes, seed: int) -> State:
    """Fill shapes with weights that keep activations near unit variance, float32, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _draw(name, shape, generator) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    if ".alpha_" in name:
        # A gate of tanh(0.5 to 1): well open, and different in every block.
        return 0.75 + 0.25 * torch.tanh(noise)
    if name.endswith("latents") or "embeddings." in name or "null_" in name:
        return noise
    if len(shape) < 2:
        is_scale = name.endswith(".weight")
        return is_scale + 0.1 * noise
    weight = noise / math.sqrt(math.prod(shape[1:]))
    if name.endswith(QUERY_KEY_NAMES):
        return weight * QK_GAIN
    if name.endswith("in_proj_weight"):
        queries_and_keys = 2 * shape[0] // 3
        weight[:queries_and_keys] *= QK_GAIN
    return weight


def clip_conditioning(seed: int, **options) -> list:
    """One entry of SD1.x' CLIP conditioning, as far as a sampler can tell; `options` go with it."""
    return [[torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(seed)), options]]


def save_state(path: Path, state: State, dtype: torch.dtype = torch.float32) -> Path:
    """Write a state dict as safetensors of one dtype; folders are made where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in state.items()}, path)
    return path
