"""Write the small model as the files that the pack and the host read.

Matrices of the UNet and the adapter are stored as 8-bit floats (training ends with weights held to these);
the autoencoder, the text encoder and every vector of the adapter as 16-bit ones.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from .autoencoder import Autoencoder, full_width
from .model import SmallDEIG
from .widen import widen_adapter, widen_unet

CHECKPOINT, ADAPTER, TEXT_FOLDER = "checkpoint.safetensors", "deig.safetensors", "t5"
STORED = torch.float8_e4m3fn


def checkpoint_state(
    model: SmallDEIG, encoder: Autoencoder, stored: torch.dtype = STORED
) -> dict[str, torch.Tensor]:
    """Return UNet and autoencoder under the names of a Stable Diffusion 1.x checkpoint."""
    state = {
        f"model.diffusion_model.{name}": tensor.to(stored).contiguous()
        for name, tensor in widen_unet(model.unet.state_dict()).items()
    }
    for name, tensor in full_width(encoder.state_dict()).items():
        dtype = torch.float32 if name.startswith("vae_") else torch.float16
        state[f"first_stage_model.{name}"] = tensor.to(dtype).contiguous()
    return state


def adapter_state(model: SmallDEIG, stored: torch.dtype = STORED) -> dict[str, torch.Tensor]:
    """Return the adapter under the names of the released one."""
    return {
        name: tensor.to(stored if tensor.ndim > 1 else torch.float16).contiguous()
        for name, tensor in widen_adapter(model.adapter.checkpoint_state()).items()
    }


def export(model: SmallDEIG, encoder: Autoencoder, tokenizer: Path, folder: Path):
    """Write everything.

    Args:
        model, encoder: what to write.
        tokenizer: the folder that `text.train_vocabulary` wrote.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(checkpoint_state(model, encoder), folder / CHECKPOINT, metadata={"format": "pt"})
    save_file(adapter_state(model), folder / ADAPTER, metadata={"format": "pt"})
    model.text.half().save_pretrained(folder / TEXT_FOLDER)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / TEXT_FOLDER / file).write_bytes((tokenizer / file).read_bytes())
    model.text.float()
