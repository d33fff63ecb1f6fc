"""ConvNeXt (Liu et al. 2022), which reads the instances' masks: transformers' own, under the checkpoint's names."""

import re
from dataclasses import dataclass

import torch
from torch import nn

from ..files.shapes import Shapes

STAGES = 4

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
    def read(cls, shapes: Shapes, prefix: str) -> "ConvNextSizes":
        """Read sizes off tensors under the checkpoint's names.

        Raises:
            ValueError: if a tensor that tells a size is not there, or says what cannot be.
        """
        beginning = re.escape(prefix) + r"stages\."
        stages = shapes.numbered(re.compile(beginning + r"(\d+)\.\d+\.gamma$"), STAGES)
        if stages < STAGES:
            raise shapes.refusal(
                f"it lacks the ConvNeXt of its position net, or has {stages} of its {STAGES} stages"
            )
        return cls(
            tuple(
                shapes.numbered(re.compile(rf"{beginning}{stage}\.(\d+)\.gamma$")) for stage in range(STAGES)
            ),
            tuple(shapes.sides(f"{prefix}stages.{stage}.0.gamma", 1)[0] for stage in range(STAGES)),
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
