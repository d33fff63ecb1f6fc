"""The adapter: UniFusion, fusers and ScaleU together, sized from a state dict.

A checkpoint has ConvNeXt's tensors under the names of that paper's own code; inside they have transformers'. All
other names are the checkpoint's.
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
from .convnext import renamed
from .scale_u import ScaleU
from .uni_fusion import UniFusion, UniFusionSizes, read_uni_fusion_sizes

POSITION_NET = "position_net."
CONVNEXT = f"{POSITION_NET}convnext_tiny_backbone."
SCALE_U = re.compile(r"scaleu_[bs]_(\d+)$")
WHAT_TO_GET = (
    "Use the released instancediffusion_sd15.pth, all three of its split files (fusers, position_net, scaleu), or a "
    "file made from either with 'python -m deig_core.files.checkpoint'."
)


@dataclass(frozen=True)
class InstanceDiffusionSizes:
    """Sizes of an adapter.

    Args:
        uni_fusion: sizes of UniFusion.
        fusers: of each fuser.
        scale_u: widths of the features that enter each block of the decoder.
    """

    uni_fusion: UniFusionSizes
    fusers: tuple[FuserSizes, ...]
    scale_u: tuple[int, ...]


class InstanceDiffusionAdapter(nn.Module):
    """Everything InstanceDiffusion adds to a model.

    Args:
        sizes: the sizes of everything inside.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(self, sizes: InstanceDiffusionSizes, operations=nn, **factory):
        super().__init__()
        self.sizes = sizes
        self.position_net = UniFusion(sizes.uni_fusion, operations, **factory)
        self.fusers = Fusers(sizes.fusers, sizes.uni_fusion.width, operations, **factory)
        self.scale_u = ScaleU(sizes.scale_u, **factory)

    def fuser(self, block: BlockId) -> Fuser | None:
        """Return the fuser of a block, or None where the adapter has none."""
        return self.fusers.of(block)


def load_instance_diffusion(
    state_dict: Mapping[str, torch.Tensor], operations=nn, path: str | Path = "This file"
) -> InstanceDiffusionAdapter:
    """Build an adapter around a state dict's own tensors.

    Args:
        state_dict: tensors under the names of the released checkpoint.
        operations: where the layer classes come from; the host gives its own.
        path: of the file that the tensors are from, for error texts.

    Returns:
        The adapter, in evaluation mode, without gradients, its weights being the tensors given.

    Raises:
        ValueError: naming missing, unexpected and misshapen tensors.
    """
    shapes = Shapes(state_dict, f"{path} is not a whole InstanceDiffusion adapter", WHAT_TO_GET)
    sizes = read_sizes(shapes)
    # The host's layers may have no weights before they are loaded, so torch's tell what is expected.
    shapes.check(InstanceDiffusionAdapter(sizes, device="meta").state_dict(), _inner, _outer)
    adapter = InstanceDiffusionAdapter(sizes, operations, device="meta").eval().requires_grad_(False)
    adapter.load_state_dict({_inner(name): tensor for name, tensor in state_dict.items()}, assign=True)
    return adapter


def _inner(name: str) -> str:
    if name.startswith(CONVNEXT):
        return CONVNEXT + renamed(name.removeprefix(CONVNEXT))
    return f"scale_u.{name}" if SCALE_U.fullmatch(name) else inner_name(name)


def _outer(key: str) -> str:
    return outer_name(key.removeprefix("scale_u."))


def read_sizes(shapes: Shapes) -> InstanceDiffusionSizes:
    """Read an adapter's sizes off its tensors' shapes.

    Raises:
        ValueError: if a tensor that tells a size is not there, or says what cannot be.
    """
    fusers = read_fuser_sizes(shapes)
    blocks = shapes.numbered(SCALE_U)
    uni_fusion = read_uni_fusion_sizes(shapes, POSITION_NET)
    lacking = [
        what
        for what, found in (("its fusers (*.fuser.*)", fusers), ("ScaleU (scaleu_*)", blocks))
        if not found
    ]
    if lacking:
        raise shapes.refusal(f"it lacks {' and '.join(lacking)}")
    widths = [shapes.sides(f"scaleu_b_{block}", 1)[0] for block in range(blocks)]
    return InstanceDiffusionSizes(uni_fusion, fusers, tuple(widths))
