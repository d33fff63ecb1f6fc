"""Regions with their phrases encoded: what the models of both systems are told."""

from dataclasses import dataclass, replace

import torch

from ..regions.region import Regions


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Phrases as a T5 text encoder read them, for DEIG.

    Args:
        phrases: N phrases, or prompts.
        features: (N, S, text_width), padding positions included.
        encoder: the identity of the text encoder; features of two encoders do not mix.
    """

    phrases: tuple[str, ...]
    features: torch.Tensor
    encoder: str

    def to(self, device: torch.device, dtype: torch.dtype) -> "EncodedText":
        """Return the same on a device and in a dtype, which the device itself turns it into."""
        return replace(self, features=self.features.to(device).to(dtype))

    def only(self, index: int) -> "EncodedText":
        """Return one of the phrases by itself."""
        return EncodedText(self.phrases[index : index + 1], self.features[index : index + 1], self.encoder)


@dataclass(frozen=True, eq=False)
class ReadPhrases:
    """Phrases as CLIP read them, each alone, for InstanceDiffusion.

    Args:
        phrases: N phrases.
        pooled: (N, width), the last layer's feature at the end of the text, before any projection.
        contexts: (N, S, context_width), what cross-attention takes where a phrase is the prompt.
    """

    phrases: tuple[str, ...]
    pooled: torch.Tensor
    contexts: torch.Tensor


@dataclass(frozen=True, eq=False)
class Instances:
    """Regions with their phrases encoded; `text` has one phrase for each region, in order."""

    regions: Regions
    text: EncodedText | ReadPhrases
