"""EliGen's rule as the paper states it, dense and slow, to judge the fast attention by."""

import math

import torch


def dense_allowed(lengths, prompt_length, places):
    """Build the square of who sees whom, token by token.

    Args:
        lengths: the text tokens of each entity.
        prompt_length: those of the prompt.
        places: (N, image tokens), bool.

    Returns:
        (S, S), bool, query by key.
    """
    owner = [i for i, length in enumerate(lengths) for _ in range(length)]
    owner += ["prompt"] * prompt_length + ["image"] * places.shape[1]
    first = len(owner) - places.shape[1]

    def sees(query, key):
        kinds = owner[query], owner[key]
        if kinds[0] == kinds[1]:
            return True
        if "image" not in kinds:
            return False
        if "prompt" in kinds:
            return True
        entity, token = (kinds[0], key - first) if kinds[1] == "image" else (kinds[1], query - first)
        return bool(places[entity, token])

    return torch.tensor([[sees(query, key) for key in range(len(owner))] for query in range(len(owner))])


def dense_bias(lengths, prompt_length, places, strengths):
    """Build what is added to the logits: -inf where a token does not see another, and the entities' strengths."""
    allowed = dense_allowed(lengths, prompt_length, places)
    bias = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -math.inf)
    first_image, begin = sum(lengths) + prompt_length, 0
    for length, strength in zip(lengths, strengths, strict=True):
        bias[first_image:, begin : begin + length] += math.log(strength)
        begin += length
    return bias


def dense_attention(q, k, v, bias):
    """Softmax attention in float64, as the formula says: (B, heads, S, d)."""
    q, k, v = (t.double() for t in (q, k, v))
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias
    return logits.softmax(-1) @ v
