"""The names and shapes of the released checkpoint's adapter, written out from its sizes."""

from collections.abc import Mapping, Sequence

from .released import FUSER_WIDTHS, Shapes, fuser, linear

PARAMETERS = {"fuser": 208.0e6, "position_net": 160.8e6, "scaleu": 11532}
SCALE_U_WIDTHS = (1280,) * 7 + (640,) * 3 + (320,) * 2


def adapter_shapes(
    hidden=3072,
    depths=(3, 3, 9, 3),
    widths=(96, 192, 384, 768),
    fuser_widths: Mapping[str, int] = FUSER_WIDTHS,
    scale_u_widths: Sequence[int] = SCALE_U_WIDTHS,
) -> Shapes:
    """All 513 tensors; smaller ones on request, of which the last width and the tokens' stay."""
    shapes: Shapes = {}
    for block, width in fuser_widths.items():
        shapes |= fuser(f"{block}.transformer_blocks.0.fuser", width)
    for block, width in enumerate(scale_u_widths):
        shapes |= {f"scaleu_b_{block}": (width,), f"scaleu_s_{block}": (1,)}
    own = uni_fusion_shapes(hidden, depths, widths)
    return shapes | {f"position_net.{name}": shape for name, shape in own.items()}


def uni_fusion_shapes(hidden=3072, depths=(3, 3, 9, 3), widths=(96, 192, 384, 768), text=768) -> Shapes:
    features = {"position": 128, "point": 64, "scribble": 1280, "polygon": 16384}
    shapes: Shapes = {"pos_embedding": (1, 64, 3072), "null_positive_feature": (text,)}
    shapes |= {f"null_{kind}_feature": (width,) for kind, width in features.items()}
    shapes |= {"null_seg_feature": (3072,), "in_conv.weight": (3, 30, 3, 3), "in_conv.bias": (3,)}
    for number, into in enumerate([*(text + width for width in features.values()), 3072]):
        shapes |= linear(f"linears_list.{number}.0", hidden, into)
        shapes |= linear(f"linears_list.{number}.2", hidden, hidden)
        shapes |= linear(f"linears_list.{number}.4", text, hidden)
    convnext = convnext_shapes(depths, widths)
    return shapes | {f"convnext_tiny_backbone.{name}": shape for name, shape in convnext.items()}


def convnext_shapes(depths=(3, 3, 9, 3), widths=(96, 192, 384, 768)) -> Shapes:
    shapes: Shapes = {}
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        # Before the first stage a convolution and a norm, before the others a norm and a convolution.
        into, side, (conv, norm) = (3, 4, "01") if stage == 0 else (widths[stage - 1], 2, "10")
        name = f"downsample_layers.{stage}"
        normed = width if stage == 0 else into
        shapes |= {f"{name}.{conv}.weight": (width, into, side, side), f"{name}.{conv}.bias": (width,)}
        shapes |= {f"{name}.{norm}.weight": (normed,), f"{name}.{norm}.bias": (normed,)}
        for block in range(depth):
            name = f"stages.{stage}.{block}"
            shapes |= {f"{name}.gamma": (width,)}
            shapes |= {f"{name}.dwconv.weight": (width, 1, 7, 7), f"{name}.dwconv.bias": (width,)}
            shapes |= {f"{name}.norm.weight": (width,), f"{name}.norm.bias": (width,)}
            shapes |= linear(f"{name}.pwconv1", 4 * width, width) | linear(
                f"{name}.pwconv2", width, 4 * width
            )
    return shapes
