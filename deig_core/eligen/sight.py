"""Who sees whom: EliGen's regional attention (Zhang et al. 2025, section "Regional Attention").

The tokens stand in a row: entity 1 | ... | entity N | prompt | image. An entity sees its own text and the image
tokens that it covers. The prompt sees itself and the image. An image token sees the prompt, the image, and the
entities that cover it. Texts never see each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True, eq=False)
class Sight:
    """The rule for one row of tokens.

    Args:
        lengths: how many text tokens each of the N entities has.
        prompt_length: how many the prompt has.
        places: (N, image tokens), bool, on the CPU: which image tokens each entity covers.
        strengths: how much image tokens attend to each entity, above 0: the logarithm is added to the logits.
        device: where the attention is computed.

    Raises:
        ValueError: if an entity covers nothing, or has no strength; it has to be left out instead.
    """

    lengths: tuple[int, ...]
    prompt_length: int
    places: torch.Tensor
    strengths: tuple[float, ...]
    device: torch.device = torch.device("cpu")

    def __post_init__(self):
        if not len(self.lengths) == len(self.places) == len(self.strengths):
            raise ValueError(
                f"{len(self.lengths)} texts, {len(self.places)} places and {len(self.strengths)} strengths came in; "
                "each entity takes one of each."
            )
        if any(strength <= 0 for strength in self.strengths) or not self.places.any(1).all():
            raise ValueError(
                "An entity covers no image token or has strength 0. Such an entity is absent: leave it out."
            )

    @cached_property
    def entities_length(self) -> int:
        """The tokens of all entities' texts together, which is where the prompt begins."""
        return sum(self.lengths)

    @property
    def text_length(self) -> int:
        """The tokens of all texts together, which is where the image begins."""
        return self.entities_length + self.prompt_length

    @property
    def length(self) -> int:
        """All tokens."""
        return self.text_length + self.places.shape[1]

    @cached_property
    def texts(self) -> list[slice]:
        """Where each entity's text stands."""
        ends = torch.tensor(self.lengths).cumsum(0).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]

    @cached_property
    def covered(self) -> list[torch.Tensor]:
        """Where the image tokens stand that each entity covers: N tensors (n,), long."""
        return [tokens.to(self.device) for tokens in self._covered]

    @cached_property
    def _covered(self) -> list[torch.Tensor]:
        return [place.nonzero()[:, 0] + self.text_length for place in self.places]

    @cached_property
    def groups(self) -> list["Group"]:
        """All tokens, in groups that see the same: texts first, then image tokens by the entities covering them."""
        everyone = torch.arange(self.length)
        rest = everyone[self.entities_length :]
        groups = [
            (everyone[text], torch.cat((everyone[text], covered)), None)
            for text, covered in zip(self.texts, self._covered, strict=True)
        ]
        groups.append((everyone[self.entities_length : self.text_length], rest, None))
        sets, of_token = torch.unique(self.places, dim=1, return_inverse=True)
        for number, covering in enumerate(sets.T.tolist()):
            chosen = [i for i, covers in enumerate(covering) if covers]
            queries = everyone[self.text_length :][of_token == number]
            keys = torch.cat([*(everyone[self.texts[i]] for i in chosen), rest])
            groups.append((queries, keys, self._bias(chosen, len(rest))))
        return [Group(*(None if t is None else t.to(self.device) for t in group)) for group in groups]

    def _bias(self, chosen: Sequence[int], others: int) -> torch.Tensor | None:
        if all(self.strengths[i] == 1 for i in chosen):
            return None
        logs = torch.tensor([self.strengths[i] for i in chosen]).log()
        each = logs.repeat_interleave(torch.tensor([self.lengths[i] for i in chosen]))
        return torch.cat((each, torch.zeros(others)))


@dataclass(frozen=True, eq=False)
class Group:
    """Tokens that see the same.

    Args:
        queries: (q,), long, which they are.
        keys: (k,), long, what they see.
        bias: (k,), added to the logits; None: nothing is.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor | None = None


def text_positions(lengths: Sequence[int]) -> torch.Tensor:
    """Count each text's tokens from 0 anew, as Qwen-Image places them.

    Args:
        lengths: how many tokens each text has, the prompt's last.

    Returns:
        (sum of lengths,), long
    """
    return torch.cat([torch.arange(length) for length in lengths])
