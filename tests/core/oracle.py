"""The fuser as the paper writes it, dense and slow, to judge the fast one by.

DEIG, section "Detail Fusion Module", eqs. 4-8: every instance slot is carried, absent ones too, and all four
parts of the attention mask are built.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

SLOTS = 30


def pixel_place(box, height, width):
    """Rasterise a box at image resolution: corners rounded half to even, upper edge exclusive."""
    place = np.zeros((height, width), dtype=bool)
    x0, x1 = (int(np.rint(edge * width)) for edge in (box[0], box[2]))
    y0, y1 = (int(np.rint(edge * height)) for edge in (box[1], box[3]))
    place[y0:y1, x0:x1] = True
    return place


def dense_places(box, latent_size, grid):
    """Pool a box's pixels to a token grid, token by token, and grow it at the two coarsest grids."""
    height, width = (8 * size for size in latent_size)
    pixels = pixel_place(box, height, width)
    halvings = 0
    while tuple(math.ceil(size / 2**halvings) for size in latent_size) != tuple(grid):
        halvings += 1
    side = 8 * 2**halvings
    tokens = np.zeros(grid, dtype=bool)
    for row in range(grid[0]):
        for column in range(grid[1]):
            tokens[row, column] = pixels[
                row * side : (row + 1) * side, column * side : (column + 1) * side
            ].any()
    return _grown(tokens, {32: 1, 64: 2}.get(side, 0))


def _grown(tokens, by):
    rows, columns = tokens.nonzero()
    grown = np.zeros_like(tokens)
    for row, column in zip(rows, columns, strict=True):
        grown[max(row - by, 0) : row + by + 1, max(column - by, 0) : column + by + 1] = True
    return grown


def dense_mask(places, strengths, tokens_per_instance, slots=SLOTS):
    """Build the additive mask over image and instance tokens.

    Args:
        places: (N, Q), bool, the present instances' places.
        strengths: N numbers; their logarithm is added where an image token looks at the instance.
        tokens_per_instance: how many tokens an instance has.
        slots: how many instances are carried; those beyond N are absent.

    Returns:
        (Q + slots * tokens, the same)
    """
    visual = places.shape[1]
    total = visual + slots * tokens_per_instance
    mask = torch.full((total, total), -math.inf)
    mask[:visual, :visual] = 0  # eq. 4: image tokens see each other
    for slot in range(slots):
        own = slice(visual + slot * tokens_per_instance, visual + (slot + 1) * tokens_per_instance)
        mask[own, own] = 0  # eq. 6: an instance sees itself
        if slot < len(places):
            inside = torch.as_tensor(places[slot])
            mask[:visual, own] = torch.where(inside, math.log(strengths[slot] or 1e-300), -math.inf)[:, None]
            mask[own, :visual] = torch.where(inside, 0.0, -math.inf)[None]  # eq. 5, and back
    return mask


def dense_fuser(weights, x, objs, places, strengths, gate=1.0, heads=8):
    """Run a fuser over one row of the batch.

    Args:
        weights: the fuser's state dict.
        x: (Q, width); objs: (N, L, context_width); places: (N, Q), bool; strengths: N numbers.
    """
    count, length, _ = objs.shape
    padded = torch.zeros(max(SLOTS, count), length, objs.shape[2])
    padded[:count] = objs
    mask = dense_mask(places, strengths, length, slots=len(padded))

    tokens = torch.cat((x, F.linear(padded.flatten(0, 1), weights["linear.weight"], weights["linear.bias"])))
    n = F.layer_norm(tokens, x.shape[1:], weights["norm1.weight"], weights["norm1.bias"])
    attended = dense_attention(n, n, weights, mask, heads)
    x = x + gate * math.tanh(weights["alpha_attn"]) * attended[: len(x)]  # eq. 8
    n = F.layer_norm(x, x.shape[1:], weights["norm2.weight"], weights["norm2.bias"])
    return x + gate * math.tanh(weights["alpha_dense"]) * dense_feed_forward(n, weights)


def dense_attention(queries, context, weights, mask=None, heads=8, prefix="attn."):
    """Softmax attention, head by head; queries: (Q, width), context: (S, width)."""
    q = queries @ weights[f"{prefix}to_q.weight"].T
    k = context @ weights[f"{prefix}to_k.weight"].T
    v = context @ weights[f"{prefix}to_v.weight"].T
    size = q.shape[1] // heads
    out = torch.empty_like(q)
    # One square of logits for all heads: at 640x384 it has 75 MB, which are slow to ask for again and again.
    square = None if q.requires_grad or k.requires_grad else torch.empty(len(q), len(k))
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        logits = torch.matmul(q[:, own], k[:, own].T, out=square).div_(math.sqrt(size))
        if mask is not None:
            logits += mask
        logits -= logits.detach().max(dim=1, keepdim=True).values
        logits.exp_()
        out[:, own] = logits @ v[:, own] / logits.sum(dim=1, keepdim=True)
    return out @ weights[f"{prefix}to_out.0.weight"].T + weights[f"{prefix}to_out.0.bias"]


def dense_feed_forward(x, weights, prefix="ff."):
    """GEGLU feed-forward."""
    hidden = x @ weights[f"{prefix}net.0.proj.weight"].T + weights[f"{prefix}net.0.proj.bias"]
    value, gate = hidden.chunk(2, dim=-1)
    return (value * F.gelu(gate)) @ weights[f"{prefix}net.2.weight"].T + weights[f"{prefix}net.2.bias"]
