"""The names and shapes of the released checkpoint's adapter, and of something as large as the UNet beside it."""

import math
from collections.abc import Mapping

Shapes = dict[str, tuple[int, ...]]

FUSER_WIDTHS = {
    **{f"input_blocks.{i}.1": (320, 640, 1280)[i // 3] for i in (1, 2, 4, 5, 7, 8)},
    "middle_block.1": 1280,
    **{f"output_blocks.{i}.1": (1280, 640, 320)[i // 3 - 1] for i in range(3, 12)},
}
TENSORS = 409
PARAMETERS = 297_147_296
UNET_PARAMETERS = 859_520_964


def adapter_shapes(fuser_widths: Mapping[str, int] = FUSER_WIDTHS) -> Shapes:
    """Names and shapes of an adapter with a fuser for each of these blocks; the released one's if not given."""
    shapes: Shapes = {}
    for block, width in fuser_widths.items():
        shapes |= fuser(f"{block}.transformer_blocks.0.fuser", width)
    shapes |= {"position_net.null_positive_feature": (768,), "position_net.null_position_feature": (64,)}
    for layer, out, into in ((0, 512, 832), (2, 512, 512), (4, 768, 512)):
        shapes |= linear(f"position_net.linears.{layer}", out, into)
    shapes |= {"IDE.connector.latents": (16, 768)}
    for name, into in (
        ("time_embedding.linear_1", 320),
        ("time_embedding.linear_2", 768),
        ("connector.time_aware_linear", 768),
        ("connector.proj_in", 2048),
    ):
        shapes |= linear(f"IDE.{name}", 768, into)
    for layer in range(6):
        shapes |= _ide_layer(f"IDE.connector.perceiver_blocks.{layer}")
    return shapes


def unet_shapes() -> Shapes:
    """As many parameters as SD1.x's UNet in as many tensors, under a few of its names."""
    count = 686
    sides = [math.isqrt(UNET_PARAMETERS // count)] * count
    return {f"input_blocks.1.0.in_layers.{i}.weight": (side, side) for i, side in enumerate(sides)}


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def fuser(name: str, width: int) -> Shapes:
    shapes: Shapes = {f"{name}.alpha_attn": (), f"{name}.alpha_dense": ()}
    shapes |= linear(f"{name}.linear", width, 768)
    shapes |= {f"{name}.attn.{layer}.weight": (width, width) for layer in ("to_q", "to_k", "to_v")}
    shapes |= linear(f"{name}.attn.to_out.0", width, width)
    shapes |= linear(f"{name}.ff.net.0.proj", 8 * width, width) | linear(f"{name}.ff.net.2", width, 4 * width)
    for norm in ("norm1", "norm2"):
        shapes |= {f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)}
    return shapes


def _ide_layer(name: str) -> Shapes:
    shapes: Shapes = {}
    for attention in ("attn", "cross_attn"):
        shapes |= {
            f"{name}.{attention}.in_proj_weight": (2304, 768),
            f"{name}.{attention}.in_proj_bias": (2304,),
            **linear(f"{name}.{attention}.out_proj", 768, 768),
        }
    shapes |= linear(f"{name}.mlp.c_fc", 3072, 768) | linear(f"{name}.mlp.c_proj", 768, 3072)
    for norm in ("ln_0", "ln_1", "ln_2", "ln_ff"):
        shapes |= linear(f"{name}.{norm}.linear", 1536, 768)
    return shapes
