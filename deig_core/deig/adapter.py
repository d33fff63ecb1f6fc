"""The adapter: IDE, position net and fusers together, sized from a state dict.

Inside, attention projections are separate layers; in a checkpoint the IDE's are packed (`in_proj_weight`),
and `split_packed_projections` and `pack_projections` go between the two. All other key names are the
checkpoint's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..files.shapes import Shapes
from ..fusion.fuser import Fuser
from ..fusion.fusers import (
    BlockId,
    Fusers,
    FuserSizes,
    inner_name,
    outer_name,
    read_fuser_sizes,
)
from .ide import IDESizes, InstanceDetailExtractor
from .position_net import PositionNet

PACKED = re.compile(r"^(.*\b(?:attn|cross_attn))\.in_proj_(weight|bias)$")
LAYER = re.compile(r"IDE\.connector\.perceiver_blocks\.(\d+)\.")
WHAT_TO_GET = (
    "Use the released model.pth or a file made from it with 'python -m deig_core.files.checkpoint'; a GLIGEN or "
    "InstanceDiffusion file has no IDE and is none."
)


@dataclass(frozen=True)
class AdapterSizes:
    """Sizes of an adapter.

    Args:
        ide: sizes of the Instance Detail Extractor.
        position_hidden_width: width of the position net's layers.
        context_width: width of the tokens that the fusers take.
        fusers: of each fuser.
    """

    ide: IDESizes
    position_hidden_width: int
    context_width: int
    fusers: tuple[FuserSizes, ...]


class Adapter(nn.Module):
    """Everything DEIG adds to a model.

    Args:
        sizes: the sizes of everything inside.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(self, sizes: AdapterSizes, operations=nn, **factory):
        super().__init__()
        self.sizes = sizes
        self.IDE = InstanceDetailExtractor(sizes.ide, operations, **factory)
        self.position_net = PositionNet(
            sizes.ide.width, sizes.context_width, sizes.position_hidden_width, operations, **factory
        )
        self.fusers = Fusers(sizes.fusers, sizes.context_width, operations, **factory)

    def fuser(self, block: BlockId) -> Fuser | None:
        """Return the fuser of a block, or None where the adapter has none."""
        return self.fusers.of(block)

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Return the weights under the names of the released checkpoint."""
        return pack_projections({outer_name(key): tensor for key, tensor in self.state_dict().items()})


def load_adapter(
    state_dict: Mapping[str, torch.Tensor], operations=nn, path: str | Path = "This file"
) -> Adapter:
    """Build an adapter around a state dict's own tensors.

    Args:
        state_dict: tensors under the names of the released checkpoint (`checkpoint.read_adapter`).
        operations: where the layer classes come from; the host gives its own.
        path: of the file that the tensors are from, for error texts.

    Returns:
        The adapter, in evaluation mode, without gradients, its weights being the tensors given.

    Raises:
        ValueError: naming missing, unexpected and misshapen tensors.
    """
    shapes = Shapes(state_dict, f"{path} is not a whole DEIG adapter", WHAT_TO_GET)
    sizes = read_sizes(shapes)
    # The host's layers may have no weights before they are loaded, so torch's tell what is expected.
    shapes.check(Adapter(sizes, device="meta").checkpoint_state())
    weights = {inner_name(key): tensor for key, tensor in split_packed_projections(state_dict).items()}
    adapter = Adapter(sizes, operations, device="meta").eval().requires_grad_(False)
    adapter.load_state_dict(weights, assign=True)
    return adapter


def read_sizes(shapes: Shapes) -> AdapterSizes:
    """Read an adapter's sizes off its tensors' shapes.

    Raises:
        ValueError: if a tensor that tells a size is not there, or says what cannot be.
    """
    layers = shapes.numbered(LAYER)
    fusers = read_fuser_sizes(shapes)
    if not layers or not fusers:
        raise shapes.refusal(
            "it lacks the layers of its IDE (IDE.connector.perceiver_blocks.*)"
            if fusers
            else "it lacks its fusers (*.fuser.*)"
        )
    tokens, width = shapes.sides("IDE.connector.latents", 2)
    time_width, time_channels = shapes.sides("IDE.time_embedding.linear_1.weight", 2)
    ide = IDESizes(
        text_width=shapes.sides("IDE.connector.proj_in.weight", 2)[1],
        width=width,
        tokens=tokens,
        layers=layers,
        time_channels=time_channels,
        time_width=time_width,
        mlp_width=shapes.sides("IDE.connector.perceiver_blocks.0.mlp.c_fc.weight", 2)[0],
    )
    if width % ide.heads:
        raise shapes.refusal(
            f"the tensor 'IDE.connector.latents' is {width} wide, which {ide.heads} heads of attention cannot share"
        )
    if time_channels % 2:
        raise shapes.refusal(
            f"the tensor 'IDE.time_embedding.linear_1.weight' takes {time_channels} numbers, and as many cosines as "
            "sines were expected"
        )
    context_width, hidden_width = shapes.sides("position_net.linears.4.weight", 2)
    return AdapterSizes(ide, hidden_width, context_width, fusers)


def split_packed_projections(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Split each `in_proj` of torch's nn.MultiheadAttention, (3 width, ...), into to_q, to_k and to_v.

    The parts are views, so nothing is copied.
    """
    split = {}
    for key, tensor in state_dict.items():
        if found := PACKED.match(key):
            for name, part in zip(("to_q", "to_k", "to_v"), tensor.chunk(3), strict=True):
                split[f"{found[1]}.{name}.{found[2]}"] = part
        else:
            split[key] = tensor
    return split


def pack_projections(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo `split_packed_projections` for the IDE, whose projections a checkpoint holds packed."""
    packed = {}
    for key, tensor in state_dict.items():
        if not key.startswith("IDE.") or ".to_" not in key:
            packed[key] = tensor
            continue
        stem, kind = key.rsplit(".to_", 1)
        name, parameter = kind.split(".")
        if name == "q":
            parts = [state_dict[f"{stem}.to_{part}.{parameter}"] for part in "qkv"]
            packed[f"{stem}.in_proj_{parameter}"] = torch.cat(parts)
    return packed
