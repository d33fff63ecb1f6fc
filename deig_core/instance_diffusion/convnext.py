"""ConvNeXt (Liu et al. 2022), which reads the instances' masks: transformers' own, under the checkpoint's names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

# The checkpoint's names, which are those of the paper's own code, in transformers' words; the first that fits.
NAMES = (
    (r"downsample_layers\.0\.0\.", "embeddings.patch_embeddings."),
    (r"downsample_layers\.0\.1\.", "embeddings.layernorm."),
    (r"downsample_layers\.(\d+)\.(\d+)\.", r"encoder.stages.\1.downsampling_layer.\2."),
    (r"stages\.(\d+)\.(\d+)\.gamma$", r"encoder.stages.\1.layers.\2.layer_scale_parameter"),
    (r"stages\.(\d+)\.(\d+)\.norm\.", r"encoder.stages.\1.layers.\2.layernorm."),
    (r"stages\.(\d+)\.(\d+)\.", r"encoder.stages.\1.layers.\2."),
)


@dataclass(frozen=True)
class ConvNextSizes:
    """Sizes of a ConvNeXt.

    Args:
        depths: how many blocks each stage has.
        widths: of the stages' features.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]

    @classmethod
    def read(cls, state: Mapping[str, torch.Tensor], prefix: str) -> "ConvNextSizes":
        """Read sizes off a state dict under the checkpoint's names."""
        blocks = [
            tuple(map(int, found.groups()))
            for name in state
            if (found := re.fullmatch(re.escape(prefix) + r"stages\.(\d+)\.(\d+)\.gamma", name))
        ]
        stages = range(1 + max((stage for stage, _ in blocks), default=-1))
        return cls(
            tuple(sum(stage == own for own, _ in blocks) for stage in stages),
            tuple(len(state[f"{prefix}stages.{stage}.0.gamma"]) for stage in stages),
        )


def build_convnext(sizes: ConvNextSizes, device=None, dtype=None) -> nn.Module:
    """Build transformers' ConvNextModel; its output's `last_hidden_state` is that of the last stage."""
    # Not at the top: it takes a second, and who has another adapter does not need it.
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(
        num_channels=3,
        hidden_sizes=list(sizes.widths),
        depths=list(sizes.depths),
        num_stages=len(sizes.depths),
    )
    with torch.device(device or "cpu"):
        model = ConvNextModel(config)
    model.layernorm = nn.Identity()  # it is for the pooled features, which are not used here
    return model if dtype is None else model.to(dtype)


def renamed(name: str) -> str:
    """Return transformers' name of one of the checkpoint's tensors, without prefix."""
    for pattern, words in NAMES:
        if re.match(pattern, name):
            return re.sub(pattern, words, name, count=1)
    return name
