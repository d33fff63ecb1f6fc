"""Position net: adds each instance's box to its tokens (GLIGEN, Li et al. 2023, eq. 5)."""

import torch
from einops import repeat
from torch import nn

FREQUENCIES = 8
TEMPERATURE = 100
FOURIER_WIDTH = FREQUENCIES * 2 * 4  # sine and cosine of each of a box's four edges


def fourier_features(boxes: torch.Tensor) -> torch.Tensor:
    """Embed box edges as sines and cosines of rising frequency.

    Args:
        boxes: (..., 4), xyxy, fractions of the image.

    Returns:
        (..., 64): for each frequency the sines of the four edges, then their cosines.
    """
    steps = torch.arange(FREQUENCIES, device=boxes.device, dtype=torch.float32)
    angles = TEMPERATURE ** (steps / FREQUENCIES)[:, None] * boxes.float()[..., None, :]
    return torch.stack((angles.sin(), angles.cos()), dim=-2).flatten(-3)


class PositionNet(nn.Module):
    """Joins an instance's tokens with its box and mixes the two in a small MLP.

    Args:
        token_width: width of the tokens that come in.
        out_width: width of the tokens that go out.
        hidden_width: width of the two layers between.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(self, token_width: int, out_width: int, hidden_width: int = 512, operations=nn, **factory):
        super().__init__()
        self.linears = nn.Sequential(
            operations.Linear(token_width + FOURIER_WIDTH, hidden_width, **factory),
            nn.SiLU(),
            operations.Linear(hidden_width, hidden_width, **factory),
            nn.SiLU(),
            operations.Linear(hidden_width, out_width, **factory),
        )
        self.null_positive_feature = nn.Parameter(torch.zeros(token_width, **factory))
        self.null_position_feature = nn.Parameter(torch.zeros(FOURIER_WIDTH, **factory))

    def forward(
        self, tokens: torch.Tensor, boxes: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Give each instance's tokens their place.

        Args:
            tokens: (..., L, token_width), L tokens of each instance.
            boxes: (..., 4), xyxy, fractions of the image.
            present: (...), bool; where False the learned null vectors stand in for tokens and box. Only the
                released model's padded form needs it. None: all are present.

        Returns:
            (..., L, out_width)
        """
        places = fourier_features(boxes).to(tokens.dtype)
        if present is not None:
            tokens = torch.where(present[..., None, None], tokens, self.null_positive_feature.to(tokens))
            places = torch.where(present[..., None], places, self.null_position_feature.to(places))
        places = repeat(places, "... width -> ... tokens width", tokens=tokens.shape[-2])
        return self.linears(torch.cat((tokens, places), dim=-1))
