"""A head for training only: it names a phrase's shape, texture and colours from the IDE's tokens.

A pretrained T5 knows "striped" from "dotted" before any picture is painted. The small encoder has to learn it while
the UNet learns to paint, and the error of a noisy picture hardly asks for it, since the picture itself shows which
texture it has. Without this head the IDE gave two textures nearly the same tokens, and which one was painted
followed the noise.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .scenes import COLOURS, SHAPES, TEXTURES, Shape

_COLOURS = tuple(COLOURS)
_CHOICES = (len(SHAPES), len(TEXTURES), len(_COLOURS), len(_COLOURS))


class Reader(nn.Linear):
    """Reads the attributes of phrases.

    Args:
        tokens, width: of what the IDE makes of a phrase.
    """

    def __init__(self, tokens: int, width: int):
        super().__init__(tokens * width, sum(_CHOICES))

    def loss(self, tokens: torch.Tensor, shapes: Sequence[Shape]) -> torch.Tensor:
        """Return the cross-entropy of shape, texture and both colours, together.

        Args:
            tokens: (P, tokens, width)
            shapes: the P shapes that the phrases are for.
        """
        asked = torch.tensor(
            [
                (SHAPES.index(shape.kind), TEXTURES.index(shape.texture))
                + (_COLOURS.index(shape.colours[0]), _COLOURS.index(shape.colours[-1]))
                for shape in shapes
            ],
            device=tokens.device,
        )
        guesses = self(tokens.flatten(1)).float().split(_CHOICES, dim=1)
        return sum(F.cross_entropy(guess, answer) for guess, answer in zip(guesses, asked.T, strict=True))
