"""EliGen's attention at the cost of what is seen, without a square mask.

A mask of all tokens takes memory with their square and keeps the fast kernels away. Two ways around it give the
same result to rounding:

`attend_in_parts` runs the prompt and the image over themselves in one call without a mask. Each entity is a
small second call, and the two are joined by their log-sum-exp: softmax over both is their mean, each weighed by
its sum of exponentials. Strength is a number added to one of the two logarithms.

`attend_by_groups` calls any attention once for all tokens that see the same. It is for attention of the host's
own, or of another pack, which keeps its log-sum-exp to itself.
"""

from collections.abc import Callable

import torch

from .sight import Sight

# Numbers of q, k or v that are gathered at once: 1 MiB of them in float32. An accelerator takes more, because there
# every call costs.
GATHERED, GATHERED_ON_ACCELERATOR = 2**18, 2**20
# Queries that see the prompt and the image run at once, where entities' texts are long.
QUERIES = 4096

_cpu_attention = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)

# (q, k, v, bias) -> out, all (B, heads, S, d); bias broadcasts to (B, heads, Q, K), or is None.
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
# (q, k, v) -> out and the log-sum-exp of its logits, (B, heads, Q) in float32.
AttendTelling = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def telling_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> AttendTelling | None:
    """Return torch's attention that tells its log-sum-exp for such tensors, or None where there is none.

    Args:
        q, k, v: (B, heads, S, d)
    """
    if any(t.requires_grad for t in (q, k, v)):
        return None
    if q.device.type == "cpu":
        return _cpu_attention
    if q.device.type != "cuda":
        return None
    params = torch.backends.cuda.SDPAParams(q, k, v, None, 0.0, False, False)
    if torch.backends.cuda.can_use_flash_attention(params):
        return _cuda_flash
    if torch.backends.cuda.can_use_efficient_attention(params):
        return _cuda_efficient
    return None


def _cuda_flash(q, k, v):
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[:2]


def _cuda_efficient(q, k, v):
    out, sums = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[:2]
    return out, sums[..., : q.shape[2]]  # padded to a multiple of 32


def attend_in_parts(
    tell: AttendTelling, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sight: Sight
) -> torch.Tensor:
    """Attend as a sight says.

    Args:
        tell: an attention from `telling_attention`.
        q, k, v: (B, heads, S, d), S the sight's length. They are not changed.

    Returns:
        (B, heads, S, d)
    """
    out, sums = _attend_rest(tell, q, k, v, sight)
    gathered = GATHERED if q.device.type == "cpu" else GATHERED_ON_ACCELERATOR
    at_once = max(gathered // (q.shape[0] * q.shape[1] * q.shape[3]), 1)
    for text, covered, strength in zip(sight.texts, sight.covered, sight.strengths, strict=True):
        weight = torch.tensor(strength).log().item()
        own, own_sums = tell(q[:, :, text], k[:, :, text], v[:, :, text])
        for tokens in covered.split(at_once):
            _join_at(out, sums, tokens, *tell(q[:, :, tokens], k[:, :, text], v[:, :, text]), weight)
            seen, seen_sums = tell(q[:, :, text], k[:, :, tokens], v[:, :, tokens])
            own, own_sums = _join(own, own_sums, seen, seen_sums)
        out[:, :, text] = own
    return out


def _attend_rest(tell, q, k, v, sight: Sight) -> tuple[torch.Tensor, torch.Tensor]:
    """Let prompt and image see themselves; what stands in the entities' rows is to be overwritten."""
    first = sight.entities_length
    keys, values = k[:, :, first:], v[:, :, first:]
    if first * 16 <= sight.length:
        # A few rows too many cost less than putting the result into a larger tensor.
        return tell(q, keys, values)
    batch, heads, length, width = q.shape
    out = q.new_empty(batch, length, heads, width).transpose(1, 2)
    sums = q.new_empty(batch, heads, length, dtype=torch.float32)
    for begin in range(first, length, QUERIES):
        rows = slice(begin, begin + QUERIES)
        out[:, :, rows], sums[:, :, rows] = tell(q[:, :, rows], keys, values)
    return out, sums


def _join_at(out, sums, tokens, part, part_sums, weight: float):
    """Join a part into some rows of a result, in place."""
    joined, joined_sums = _join(out[:, :, tokens], sums[:, :, tokens], part, part_sums + weight)
    out[:, :, tokens], sums[:, :, tokens] = joined, joined_sums


def _join(out, sums, part, part_sums) -> tuple[torch.Tensor, torch.Tensor]:
    """Join two results over different keys, of which the first may be changed."""
    share = torch.sigmoid(part_sums - sums).to(out)[..., None]
    return out.lerp_(part, share), torch.logaddexp(sums, part_sums)


def attend_by_groups(
    attend: Attend,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sight: Sight,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend as a sight says, with any attention.

    Args:
        attend: computes one group.
        q, k, v: (B, heads, S, d), S the sight's length.
        mask: what others add to the logits: (S, S), or with B or heads, of any size 1, in front.

    Returns:
        (B, heads, S, d)
    """
    batch, heads, length, width = q.shape
    out = q.new_empty(batch, length, heads, width).transpose(1, 2)
    for group in sight.groups:
        if not len(group.queries):
            continue
        bias = None
        if group.bias is not None:
            bias = group.bias.to(q).expand(len(group.queries), -1)
        if mask is not None:
            own = mask if mask.shape[-2] == 1 else mask.index_select(-2, group.queries)
            own = own.index_select(-1, group.keys).to(q)
            own = own.expand(*own.shape[:-2], len(group.queries), -1)
            bias = own if bias is None else own + bias
        out[:, :, group.queries] = attend(
            q[:, :, group.queries], k[:, :, group.keys], v[:, :, group.keys], bias
        )
    return out
