"""Heads for training only: they name what is asked for from the IDE's tokens.

A pretrained T5 knows "striped" from "dotted" before any picture is painted. The small encoder has to learn it while
the UNet learns to paint, and the error of a noisy picture hardly asks for it, since the picture itself shows which
texture it has. Without these heads the IDE gave two textures nearly the same tokens, and which one was painted
followed the noise. So it was with the prompt's ground while phrases alone were named: the tokens of "brown on the
left and teal on the right" and of the same with its colours swapped lay 0.6 % of the tokens' spread apart.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .scenes import COLOURS, GROUNDS, SHAPES, SPLITS, TEXTURES, Scene, Shape

_COLOURS, _GROUNDS = tuple(COLOURS), tuple(GROUNDS)

# What there is to choose from: shape, texture, first and second colour; first and second colour and how they lie.
OF_PHRASE = (len(SHAPES), len(TEXTURES), len(_COLOURS), len(_COLOURS))
OF_GROUND = (len(_GROUNDS), len(_GROUNDS), len(SPLITS))


def name_shape(shape: Shape) -> tuple[int, ...]:
    """Return what a phrase asks for, of each of the choices `OF_PHRASE`."""
    first, second = _COLOURS.index(shape.colours[0]), _COLOURS.index(shape.colours[-1])
    return SHAPES.index(shape.kind), TEXTURES.index(shape.texture), first, second


def name_ground(scene: Scene) -> tuple[int, ...]:
    """Return what a prompt asks for, of each of the choices `OF_GROUND`."""
    first, second = _GROUNDS.index(scene.ground[0]), _GROUNDS.index(scene.ground[-1])
    return first, second, SPLITS.index(scene.split)


class Reader(nn.Linear):
    """Reads what is asked for.

    Args:
        tokens, width: of what the IDE makes of a phrase or a prompt.
        choices: how many answers each of the questions has.
    """

    def __init__(self, tokens: int, width: int, choices: tuple[int, ...]):
        super().__init__(tokens * width, sum(choices))
        self.choices = choices

    def loss(self, tokens: torch.Tensor, answers: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Return the cross-entropy of all questions together, the mean over what is read.

        Args:
            tokens: (P, tokens, width)
            answers: P right ones, each with an answer to every question; at least one.
        """
        asked = torch.tensor(answers, device=tokens.device)
        guesses = self(tokens.flatten(1)).float().split(self.choices, dim=1)
        return sum(F.cross_entropy(guess, answer) for guess, answer in zip(guesses, asked.T, strict=True))
