"""Numbers that the reference implementation of InstanceDiffusion computed, and the weights that belong to them."""

import json
import math
import zlib
from pathlib import Path

import torch
from safetensors import safe_open

FOLDER = Path(__file__).parents[1] / "golden" / "instance_diffusion"


def read_golden(path):
    """Return (state dict, inputs, outputs, config) of a golden file, by its path or its name in `FOLDER`."""
    path = path if isinstance(path, Path) else FOLDER / f"{path}.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        config = json.loads(file.metadata()["config"])
    inputs, outputs = (
        {key.removeprefix(kind): tensor for key, tensor in tensors.items() if key.startswith(kind)}
        for kind in ("in.", "out.")
    )
    state = {key: tensor for key, tensor in tensors.items() if not key.startswith(("in.", "out."))}
    return state, inputs, outputs, config


def seeded_tensor(name, shape, seed):
    """The weight that the goldens' makers drew for a name: unit variance kept, faint ones brought up."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
    if name.endswith(("alpha_attn", "alpha_dense")):
        return torch.tensor(0.6 + 0.6 * torch.rand((), generator=generator).item()).reshape(shape)
    noise = torch.randn(shape, generator=generator)
    if len(shape) >= 2:
        weight = noise / math.sqrt(math.prod(shape[1:]))
        if ".fuser.attn.to_q" in name or ".fuser.attn.to_k" in name:
            weight = weight * 2.5
    else:
        weight = 1 + 0.05 * noise if name.endswith("weight") else 0.05 * noise
    last = name.rsplit(".", 1)[-1]
    if last.startswith(("scaleu_b", "scaleu_s", "null_")):
        return weight * 10
    if last == "pos_embedding":
        return weight * (0.1 * math.sqrt(math.prod(shape[1:])))
    return weight + 0.2 if last == "gamma" else weight


def relative_difference(given, expected):
    """Largest difference, as a part of the largest value expected."""
    assert given.shape == expected.shape
    return ((given - expected).abs().max() / expected.abs().max()).item()
