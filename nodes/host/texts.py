"""Entities' texts, read with the host's CLIP and remembered by phrase."""

import threading
from collections import OrderedDict
from weakref import WeakKeyDictionary

import torch

T5_TOKENS = 512  # to which FLUX.1's T5 fills up every text, where the host fills up to 256
T5_OPTION = "t5xxl_min_length"  # the host's, settable with its node 'T5TokenizerOptions'


class TextMemory:
    """Texts that were read, for as long as the text encoder that read them lives.

    Args:
        capacity: how many to keep for each text encoder; the longest unused go first. One of FLUX.1 takes 8 MiB.
    """

    def __init__(self, capacity: int = 64):
        self.capacity = capacity
        self._kept: WeakKeyDictionary[torch.nn.Module, OrderedDict] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def encode(self, clip, phrases: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        """Read phrases, each alone, and remember them.

        Args:
            clip: the host's CLIP, of FLUX.1 or Qwen-Image.
            phrases: plain words; brackets and weights mean nothing.

        Returns:
            (1, tokens, width) for each phrase
        """
        options = _options(clip)
        reader = clip.patcher.patches_uuid, clip.layer_idx, tuple(sorted(map(str, options.items())))
        with self._lock:
            kept = self._kept.setdefault(clip.cond_stage_model, OrderedDict())
        found = {}
        for phrase in dict.fromkeys(phrases):
            text = kept.get((reader, phrase))
            found[phrase] = _read(clip, phrase, options) if text is None else text
        with self._lock:
            for phrase, text in found.items():
                kept[reader, phrase] = text
                kept.move_to_end((reader, phrase))
            while len(kept) > max(self.capacity, len(found)):
                kept.popitem(last=False)
        return tuple(found[phrase] for phrase in phrases)


def _options(clip) -> dict:
    """Return the tokenizer's options: those of the user's own nodes, and EliGen's length where they say nothing."""
    return {T5_OPTION: T5_TOKENS, **clip.tokenizer_options}


def _read(clip, phrase: str, options: dict) -> torch.Tensor:
    # Qwen-Image's tokenizer reads no weights anyway, and takes no word about it.
    plain = {"disable_weights": True} if hasattr(clip.tokenizer, "t5xxl") else {}
    tokens = clip.tokenize(phrase, tokenizer_options=options, **plain)
    return clip.encode_from_tokens(tokens)
