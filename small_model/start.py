"""Begins a training run from weights that are stored, instead of from nothing.

They are narrowed to the width that is trained (`widen.narrow`). What is rounded in them stays so; what was thrown
away, the readers' heads and the optimiser's memory, begins anew.
"""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import T5EncoderModel

from deig_core.deig.adapter import load_adapter

from . import text
from .autoencoder import Autoencoder, full_width
from .device import CPU
from .keep import load_same, save_whole
from .model import SmallDEIG
from .place import ADAPTER, CHECKPOINT, TEXT_FOLDER
from .stored import AUTOENCODER_PREFIX, UNET_PREFIX, part
from .widen import narrow, widen_adapter, widen_unet

START = "start.pt"
IDE = "IDE."  # names of its tensors in an adapter


def begin(folder: Path, weights: Path | None):
    """Put weights to begin from into a run's folder, unless they are there.

    Args:
        folder: the run's.
        weights: what `python -m small_model.export` wrote; None: to begin from nothing.

    Raises:
        ValueError: if the run was begun from other weights, or from nothing.
    """
    settings = {"start_from": _digest(weights)}
    path = folder / START
    if path.exists():
        load_same(path, settings, CPU)
    elif weights is None:
        return
    elif (folder / "autoencoder.pt").exists():
        raise ValueError(
            f"The training in {folder} was begun from nothing, not from weights. Leave --start-from out, or begin "
            "anew with another --run folder."
        )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        save_whole(narrowed(weights) | {"settings": settings}, path)
    pieces = text.read_pieces(weights / TEXT_FOLDER)
    text.write_tokenizer(folder / "t5", pieces)
    save_whole(load_same(path, settings, CPU)["autoencoder"], folder / "autoencoder.pt")


def _digest(weights: Path | None) -> str | None:
    """Return what tells weights from others."""
    if weights is None:
        return None
    files = (weights / CHECKPOINT, weights / ADAPTER, weights / TEXT_FOLDER / "model.safetensors")
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def narrowed(weights: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Read stored weights as states of training's UNet, adapter, text encoder and autoencoder."""
    checkpoint, adapter = load_file(weights / CHECKPOINT), load_file(weights / ADAPTER)
    like = SmallDEIG(text.load_tokenizer(weights / TEXT_FOLDER))
    unet = narrow(part(checkpoint, UNET_PREFIX), like.unet.state_dict(), widen_unet)
    small = narrow(adapter, like.adapter.checkpoint_state(), widen_adapter)
    autoencoder = part(checkpoint, AUTOENCODER_PREFIX)
    encoder = T5EncoderModel.from_pretrained(weights / TEXT_FOLDER).float()
    return {
        "unet": unet,
        "adapter": load_adapter(small).state_dict(),
        "text": encoder.state_dict(),
        "autoencoder": narrow(autoencoder, Autoencoder().state_dict(), full_width),
    }


def load_start(model: SmallDEIG, folder: Path, new_ide: bool = False):
    """Let a model begin with the weights of a run's folder, if there are any; its IDE anew, if that is asked for."""
    if not (folder / START).exists():
        return
    state = torch.load(folder / START, weights_only=True)
    if new_ide:
        own = model.adapter.state_dict()
        others = {name: tensor for name, tensor in state["adapter"].items() if not name.startswith(IDE)}
        state["adapter"] = others | {name: own[name] for name in own if name.startswith(IDE)}
    for name in ("unet", "adapter", "text"):
        getattr(model, name).load_state_dict(state[name])
