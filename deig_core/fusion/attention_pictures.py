"""Recorded attention as masks of a picture's size, and as pictures."""

import numpy as np
import torch
import torch.nn.functional as F

from ..regions.heat import Picture, draw_heat, draw_heats, draw_parts
from .attention_record import AttentionRecord
from .leakage import bar_of, leakage

EACH, TOGETHER, AS_IT_IS = "each", "together", "as it is"
SCALES = (EACH, TOGETHER, AS_IT_IS)


def attention_masks(
    record: AttentionRecord,
    picture: int,
    chosen: tuple[int, ...],
    by_token: bool,
    scale: str,
    size: tuple[int, int],
) -> torch.Tensor:
    """Lay what a picture attended to onto its pixels.

    Args:
        record: what was recorded.
        picture: which picture of the batch.
        chosen: n instances.
        by_token: a mask for each of an instance's L tokens, instead of one for all together.
        scale: EACH: the most attended place of every mask becomes 1; TOGETHER: the most attended of all masks does;
            AS_IT_IS: the share of attention.
        size: (height, width) in pixels.

    Returns:
        (n, L or 1, height, width), float32, 0 to 1; 0 outside an instance's place, soft within.
    """
    maps = torch.stack([record.maps(picture, instance) for instance in chosen])
    if not by_token:
        maps = maps.sum(1, keepdim=True)
    # Smooth between cells, but never out over the edge of a place.
    masks = F.interpolate(maps, size, mode="bilinear") * (F.interpolate(maps, size) > 0)
    if scale != AS_IT_IS:
        most = masks.amax((2, 3), keepdim=True) if scale == EACH else masks.amax()
        masks = torch.where(most > 0, masks / most, masks)
    return masks.clamp(0, 1)


def heat_pictures(
    record: AttentionRecord, chosen: tuple[int, ...], masks: torch.Tensor, image: Picture = None
) -> list[np.ndarray]:
    """Draw masks over a picture: one drawing for each instance, of all its tokens side by side if there are many.

    Args:
        record: what was recorded.
        chosen: n instances.
        masks: (n, L or 1, height, width), of `attention_masks`.
        image: what lies behind, of any size.

    Returns:
        n drawings, (H, W, 3), uint8.
    """
    height, width = masks.shape[-2:]
    return [
        np.asarray(
            draw_heat(one[0].numpy(), instance, record.regions[instance], width, height, image)
            if len(one) == 1
            else draw_heats(one.numpy(), record.token_names, width, height, image)
        )
        for instance, one in zip(chosen, masks, strict=True)
    ]


def leakage_picture(
    record: AttentionRecord, picture: int, size: tuple[int, int], image: Picture = None
) -> np.ndarray:
    """Draw all instances' heat in their colours, and below it what the place of each attended to.

    Returns:
        (H, W, 3), uint8.
    """
    every = tuple(range(len(record.regions)))
    weights = attention_masks(record, picture, every, False, TOGETHER, size)[:, 0]
    bars = [bar_of(leak, index) for index, leak in enumerate(leakage(record.shares(picture)))]
    return np.asarray(draw_parts(weights.numpy(), bars, record.regions, size[1], size[0], image))
