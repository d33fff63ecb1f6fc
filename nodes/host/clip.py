"""Phrases through the host's CLIP: a feature each, and what cross-attention takes where a phrase is the prompt."""

import logging

import comfy.utils
import torch

from ...deig_core.fusion.instances import ReadPhrases
from .unet import CONTEXT_WIDTH

log = logging.getLogger(__name__)


def read_phrases(clip, phrases: tuple[str, ...]) -> ReadPhrases:
    """Read phrases, each alone, with all LoRAs that the CLIP has.

    Args:
        clip: the host's CLIP of a Stable Diffusion 1.x model.
        phrases: N phrases; one that is too long for CLIP is cut at a word, with a warning.

    Raises:
        ValueError: if the CLIP is of another kind of model.
    """
    bar = comfy.utils.ProgressBar(len(phrases))
    pooled, contexts = [], []
    for phrase in phrases:
        tokens = clip.tokenize(_cut(clip, phrase))
        # Some CLIPs of other models project what they pool, and this one's were never projected.
        context, feature = clip.encode_from_tokens(tokens, return_pooled="unprojected")
        if feature is None or feature.shape[-1] != CONTEXT_WIDTH or context.shape[-1] != CONTEXT_WIDTH:
            given = "nothing" if feature is None else f"{feature.shape[-1]} and {context.shape[-1]} numbers"
            raise ValueError(
                f"This CLIP gives {given} for a phrase and its words, and {CONTEXT_WIDTH} for both were expected: it "
                "is of another kind of model. Connect the CLIP of a Stable Diffusion 1.x checkpoint."
            )
        pooled.append(feature[0])
        contexts.append(context[0])
        bar.update(1)
    if not phrases:
        return ReadPhrases((), torch.zeros(0, CONTEXT_WIDTH), torch.zeros(0, 1, CONTEXT_WIDTH))
    return ReadPhrases(phrases, torch.stack(pooled).float(), torch.stack(contexts).float())


def _cut(clip, phrase: str) -> str:
    """Return as much of a phrase as CLIP reads at once, which is 77 tokens: whole words, or letters of a single one."""
    if _fits(clip, phrase):
        return phrase
    words = phrase.split()
    count = _most(len(words), lambda count: _fits(clip, " ".join(words[:count])))
    kept, rest = " ".join(words[:count]), " ".join(words[count:])
    if not count:
        whole = phrase.strip()
        letters = _most(len(whole), lambda count: _fits(clip, whole[:count]))
        kept, rest = whole[:letters], whole[letters:]
    log.warning(
        "DEIG: CLIP reads 77 tokens of a phrase, beginning and end included, and one has more. It is read up to %r; "
        "what comes after is left out: %r.",
        kept[-40:],
        rest[:80],
    )
    return kept


def _fits(clip, text: str) -> bool:
    return all(len(chunks) == 1 for chunks in clip.tokenize(text).values())


def _most(limit: int, fits) -> int:
    """Return the largest count below a limit that does not fit, for which it does: more never fits again."""
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
