"""UniFusion: tokens of instances out of their phrases and whichever places are known (InstanceDiffusion, section 3.1).

For every instance a token each for box, point, scribble and polygon, by an MLP of its own over the phrase and the
Fourier features of the place; and 64 tokens for all masks together, by a ConvNeXt. The model was trained with 30
slots, and every image token sees all of them: those that no instance fills hold learned null features. As all of
these are the same, each kind's null token exists once here and counts for all, by the logarithm of their number added
to its attention logits. That is exact.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from torch.func import functional_call

from ..files.shapes import Shapes
from .convnext import ConvNextSizes, build_convnext
from .places import Places

SLOTS = 30
FREQUENCIES = 16
TEMPERATURE = 100


@dataclass(frozen=True)
class Kinds:
    """Which kinds of place are used; instead of one left out its null features stand in for all instances.

    Raises:
        ValueError: if none is.
    """

    boxes: bool = True
    points: bool = True
    scribbles: bool = True
    masks: bool = True

    def __post_init__(self):
        if not (self.boxes or self.points or self.scribbles or self.masks):
            raise ValueError("No kind of place is used, but the model needs one: choose boxes at the least.")


# The configurations that the authors released, by the names of their files (test_mask.yaml ...).
RELEASED_KINDS = {
    "mask": Kinds(scribbles=False),
    "box": Kinds(scribbles=False, masks=False),
    "point": Kinds(boxes=False, scribbles=False, masks=False),
    "scribble": Kinds(),
}


@dataclass(frozen=True, eq=False)
class Tokens:
    """Grounding tokens, all of them different.

    Args:
        objs: (K, width)
        counts: for each, how many it stands for.
        slots: for each, the slot of the instance it is of; None for null tokens and those of all masks together.
        kinds: for each, "boxes", "points", "scribbles", "polygons" or "masks".
    """

    objs: torch.Tensor
    counts: tuple[int, ...]
    slots: tuple[int | None, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class UniFusionSizes:
    """Sizes of a UniFusion.

    Args:
        text_width: width of a phrase's features (CLIP ViT-L/14: 768).
        width: width of the tokens.
        hidden_width: width inside the MLPs.
        convnext: of the network that reads the masks.
    """

    text_width: int
    width: int
    hidden_width: int
    convnext: ConvNextSizes


# The kinds that have a token for each instance: the checkpoint's name for the null features, and how many numbers.
OWN_TOKEN = {
    "boxes": ("null_position_feature", 4),
    "points": ("null_point_feature", 2),
    "scribbles": ("null_scribble_feature", 40),
    "polygons": ("null_polygon_feature", 512),
}
MASK_SIDE, MASK_TOKENS, MASK_WIDTH = 512, 64, 3072
MASK_ROWS = 4  # of the ConvNeXt's features in one token


def fourier_features(coordinates: torch.Tensor) -> torch.Tensor:
    """Embed coordinates as sines and cosines of rising frequency.

    Args:
        coordinates: (..., n), fractions of the image.

    Returns:
        (..., 32 n), float32: for each frequency the sines of all coordinates, then their cosines.
    """
    steps = torch.arange(FREQUENCIES, device=coordinates.device, dtype=torch.float32)
    angles = TEMPERATURE ** (steps / FREQUENCIES)[:, None] * coordinates.float()[..., None, :]
    return torch.stack((angles.sin(), angles.cos()), dim=-2).flatten(-3)


class UniFusion(nn.Module):
    """The five tokenizers. Names inside are the checkpoint's.

    Args:
        sizes: the sizes of everything inside.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(self, sizes: UniFusionSizes, operations=nn, **factory):
        super().__init__()
        self.sizes = sizes
        feature_widths = {kind: 2 * FREQUENCIES * numbers for kind, (_, numbers) in OWN_TOKEN.items()}
        self.linears_list = nn.ModuleList(
            [
                _mlp(sizes.text_width + width, sizes, operations, **factory)
                for width in feature_widths.values()
            ]
            + [_mlp(MASK_WIDTH, sizes, operations, **factory)]
        )
        self.null_positive_feature = nn.Parameter(torch.zeros(sizes.text_width, **factory))
        for kind, (null, _) in OWN_TOKEN.items():
            self.register_parameter(null, nn.Parameter(torch.zeros(feature_widths[kind], **factory)))
        self.null_seg_feature = nn.Parameter(torch.zeros(MASK_WIDTH, **factory))
        self.pos_embedding = nn.Parameter(torch.zeros(1, MASK_TOKENS, MASK_WIDTH, **factory))
        self.in_conv = operations.Conv2d(SLOTS, 3, 3, padding=1, **factory)
        self.convnext_tiny_backbone = build_convnext(sizes.convnext, **factory)

    @torch.no_grad()
    def forward(self, phrases: torch.Tensor, places: Places, kinds: Kinds = RELEASED_KINDS["mask"]) -> Tokens:
        """Make the tokens of n instances; with none, what the model takes for the negative prompt.

        Args:
            phrases: (n, text_width), on the device and in the type to compute in.
            places: of the n instances.
            kinds: which kinds of place are used.

        Returns:
            The tokens of boxes, points, scribbles and polygons, n each and the null token behind them if n is less
            than 30, then 64 of all masks.
        """
        count, missing = len(phrases), max(SLOTS - len(phrases), 0)
        text = torch.cat((phrases, self.null_positive_feature.to(phrases)[None]))
        used = {**vars(kinds), "polygons": kinds.masks}
        objs = []
        for mlp, (kind, (null_name, _)) in zip(self.linears_list, OWN_TOKEN.items(), strict=False):
            null = self.get_parameter(null_name).to(phrases)[None]
            coordinates = getattr(places, kind).to(phrases.device)
            own = fourier_features(coordinates).to(phrases) if used[kind] else null.expand(count, -1)
            tokens = mlp(torch.cat((text, torch.cat((own, null))), dim=1))
            objs.append(tokens if missing else tokens[:count])
        objs.append(self._mask_tokens(places.masks if kinds.masks else None, phrases))

        slots = (*range(count), *([None] if missing else []))
        counts = (*[1] * count, *([missing] if missing else []))
        return Tokens(
            objs=torch.cat(objs),
            counts=counts * len(OWN_TOKEN) + (1,) * MASK_TOKENS,
            slots=slots * len(OWN_TOKEN) + (None,) * MASK_TOKENS,
            kinds=tuple(kind for kind in OWN_TOKEN for _ in slots) + ("masks",) * MASK_TOKENS,
        )

    def _mask_tokens(self, masks: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """(n, 512, 512) -> (64, width); of no mask, or empty ones, the null features."""
        if masks is None or not masks.any():
            features = self.null_seg_feature.to(like)
        else:
            features = self._read_masks(masks_of_slots(masks).to(like))
        return self.linears_list[-1](features + self.pos_embedding[0].to(like))

    def _read_masks(self, masks: torch.Tensor) -> torch.Tensor:
        """(30, 512, 512) -> (64, 3072)."""
        picture = self.in_conv(masks[None])
        # Its layers are not the host's, which leaves them where and as they are: so they are brought here.
        weights = {
            name: tensor.to(picture) for name, tensor in self.convnext_tiny_backbone.named_parameters()
        }
        features = functional_call(self.convnext_tiny_backbone, weights, (picture,)).last_hidden_state
        # A token is one column of every fourth row, and all of its 768 features of four rows.
        return rearrange(features[0], "c (r h) w -> (h w) (c r)", r=MASK_ROWS)


def masks_of_slots(masks: torch.Tensor) -> torch.Tensor:
    """Return (30, h, w) of n masks: empty ones for slots without, and of more than 30 the largest, in order."""
    if len(masks) > SLOTS:
        largest = masks.flatten(1).sum(1).argsort(descending=True, stable=True)[:SLOTS]
        masks = masks[largest.sort().values]
    return F.pad(masks, (0, 0, 0, 0, 0, SLOTS - len(masks)))


def _mlp(into: int, sizes: UniFusionSizes, operations, **factory) -> nn.Sequential:
    return nn.Sequential(
        operations.Linear(into, sizes.hidden_width, **factory),
        nn.SiLU(),
        operations.Linear(sizes.hidden_width, sizes.hidden_width, **factory),
        nn.SiLU(),
        operations.Linear(sizes.hidden_width, sizes.width, **factory),
    )


def log_counts(tokens: Tokens, strengths: tuple[float, ...]) -> torch.Tensor:
    """Return what is added to each token's attention logits, (K,), float32.

    Args:
        strengths: of the instances by slot, above 0; their logarithm is added to their own tokens'.
    """
    return torch.tensor(
        [
            math.log(count * (1.0 if slot is None else strengths[slot]))
            for count, slot in zip(tokens.counts, tokens.slots, strict=True)
        ]
    )


def read_uni_fusion_sizes(shapes: Shapes, prefix: str = "") -> UniFusionSizes:
    """Read sizes off tensors whose names are UniFusion's, with a prefix.

    Raises:
        ValueError: if a tensor that tells a size is not there, or says what cannot be.
    """
    hidden, _ = shapes.sides(f"{prefix}linears_list.0.0.weight", 2)
    (text,) = shapes.sides(f"{prefix}null_positive_feature", 1)
    width, _ = shapes.sides(f"{prefix}linears_list.0.4.weight", 2)
    convnext = ConvNextSizes.read(shapes, f"{prefix}convnext_tiny_backbone.")
    if convnext.widths[-1] * MASK_ROWS != MASK_WIDTH:
        raise shapes.refusal(
            f"its ConvNeXt gives features {convnext.widths[-1]} wide, and {MASK_WIDTH // MASK_ROWS} were expected"
        )
    return UniFusionSizes(text, width, hidden, convnext)
