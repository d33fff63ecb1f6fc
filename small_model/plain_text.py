"""What stands in the IDE's place where training leaves it out: the text's own features, as they are.

DEIG, Table 4, takes the IDE away. What the fusers and the cross-attention then get has to be as wide as before and no
longer, so there are two ways: the mean of a phrase's words, one token, or its first words, a token each. Neither
knows the timestep, and neither can gather what the tenth word says.
"""

import torch
from torch import nn

from .text import Padded


class PlainText(nn.Module):
    """Text features as tokens.

    Args:
        text_width: of the text encoder's features.
        width: of the tokens.
        tokens: how many come out for a phrase: its first ones, padding included; 1 is the mean over the words.
    """

    def __init__(self, text_width: int, width: int, tokens: int):
        super().__init__()
        self.tokens = tokens
        self.proj_in = nn.Linear(text_width, width)
        # A T5's features are of any size; the IDE norms them too.
        self.norm = nn.LayerNorm(text_width)

    def forward(self, padded: Padded) -> torch.Tensor:
        """Return the tokens of P phrases, (P, tokens, width)."""
        features = self.norm(padded.features)
        if self.tokens == 1:
            shares = padded.words.to(features)[..., None]
            features = (features * shares).sum(1, keepdim=True) / shares.sum(1, keepdim=True)
        elif features.shape[1] < self.tokens:
            rest = features[:, -1:].expand(-1, self.tokens - features.shape[1], -1)  # all padding is alike
            features = torch.cat((features, rest), dim=1)
        return self.proj_in(features[:, : self.tokens])
