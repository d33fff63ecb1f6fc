"""Detail Fusion Module: gated self-attention in which image tokens look at the instances they lie in.

DEIG, section "Detail Fusion Module", eqs. 4-8, on GLIGEN's gated self-attention (Li et al. 2023, eq. 8).

Two things follow from the equations and are used here. An instance's own row of the attention is thrown
away (eq. 8 keeps image tokens only) and its tokens enter every block anew, so only image tokens are queries.
And an absent instance is masked for everyone, so it need not exist.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

# Of the released models; a state dict does not tell.
HEADS = 8

# Numbers in a feed-forward net's hidden tensor that are computed at once on a CPU: 5 MB of them in float32.
CHUNK = 5 * 2**18

# The CPU's attention, which also tells the logarithm of each row's sum of exponentials; torch's own
# `scaled_dot_product_attention` runs it too, and keeps that to itself.
_cpu_attention = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
# Its weight is 0, and unlike -inf it makes no row's sum 0.
NEVER = -1e4


class Grounded(NamedTuple):
    """Rows of a batch that share the same instances.

    Args:
        rows: how many rows of the batch, in order.
        objs: (N, L, context_width), N instances of L tokens; None: these rows have no instances. Or, with
            another dimension in front, (rows, N, L, context_width): N for each row.
        bias: (N, Q) or (rows, N, Q), added to the logits between the Q image tokens and each instance: 0 where the
            token lies in the instance's place, -inf where not, and between for weaker ones.
        image_bias: (Q, Q), added to the logits between image tokens, none of which may be hidden from itself; None:
            all see all, as DEIG's do (eq. 4).
        projected: where every fuser leaves the keys and values of these `objs` for the next call that has the same
            ones; None: there is none.
    """

    rows: int
    objs: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    image_bias: torch.Tensor | None = None
    projected: dict | None = None


KeysValues = tuple[torch.Tensor, torch.Tensor]


class GEGLU(nn.Module):
    """Linear layer gated by the GELU of its other half (Shazeer 2020)."""

    def __init__(self, width: int, hidden_width: int, operations=nn, **factory):
        super().__init__()
        self.proj = operations.Linear(width, 2 * hidden_width, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., hidden_width)."""
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and a linear layer back; the places in `net` are those of the checkpoint."""

    def __init__(self, width: int, hidden_width: int, operations=nn, **factory):
        super().__init__()
        self.net = nn.ModuleDict(
            {
                "0": GEGLU(width, hidden_width, operations, **factory),
                "2": operations.Linear(hidden_width, width, **factory),
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., width)."""
        return self.net["2"](self.net["0"](x))


class AttentionProjections(nn.Module):
    """The four linear layers of an attention, under the checkpoint's names."""

    def __init__(self, width: int, operations=nn, **factory):
        super().__init__()
        self.to_q = operations.Linear(width, width, bias=False, **factory)
        self.to_k = operations.Linear(width, width, bias=False, **factory)
        self.to_v = operations.Linear(width, width, bias=False, **factory)
        self.to_out = nn.ModuleDict({"0": operations.Linear(width, width, **factory)})


class Fuser(nn.Module):
    """Gated self-attention over image and instance tokens, and a gated feed-forward net.

    Args:
        width: width of the block's image tokens.
        context_width: width of the instance tokens.
        heads: attention heads.
        hidden_width: width inside the feed-forward net, 4 x width if not given.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int = HEADS,
        hidden_width: int | None = None,
        operations=nn,
        **factory,
    ):
        super().__init__()
        self.heads = heads
        self.linear = operations.Linear(context_width, width, **factory)
        self.attn = AttentionProjections(width, operations, **factory)
        self.ff = FeedForward(width, hidden_width or 4 * width, operations, **factory)
        self.norm1 = operations.LayerNorm(width, **factory)
        self.norm2 = operations.LayerNorm(width, **factory)
        self.alpha_attn = nn.Parameter(torch.zeros((), **factory))
        self.alpha_dense = nn.Parameter(torch.zeros((), **factory))

    def forward(
        self, x: torch.Tensor, groups: Sequence[Grounded], strength: float | torch.Tensor = 1.0
    ) -> torch.Tensor:
        """Let image tokens look at their instances.

        Args:
            x: (B, Q, width), image tokens.
            groups: the rows of the batch in order; their counts add up to B.
            strength: multiplies both gates; a number, or (B, 1, 1) for one each row. 0 leaves x as it is.

        Returns:
            (B, Q, width)
        """
        attn_gate = strength * torch.tanh(self.alpha_attn.to(x))
        dense_gate = strength * torch.tanh(self.alpha_dense.to(x))
        x = x + attn_gate * self._attend(self.norm1(x), groups)
        return x + dense_gate * self._feed_forward(self.norm2(x))

    def queries_and_keys(self, x: torch.Tensor, group: Grounded) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the attention's weights are made of, for whoever looks at them; `forward` does not need it.

        Args:
            x: (rows, Q, width), image tokens as `forward` gets them.
            group: these rows' instances, S tokens in all.

        Returns:
            Queries of the image tokens, (rows, heads, Q, d), and keys of image and instance tokens, (rows, heads,
            Q + S, d).
        """
        image = self.norm1(x)
        q, k = (self._split_heads(project(image)) for project in (self.attn.to_q, self.attn.to_k))
        instances = self._keys_values(group)[0].expand(len(q), -1, -1, -1)
        return q, torch.cat((k, instances), dim=2)

    def _attend(self, image: torch.Tensor, groups: Sequence[Grounded]) -> torch.Tensor:
        rows = [group.rows for group in groups]
        q, k, v = (
            self._split_heads(project(image)).split(rows)
            for project in (self.attn.to_q, self.attn.to_k, self.attn.to_v)
        )
        out = [self._attend_group(*qkv, group) for *qkv, group in zip(q, k, v, groups, strict=True)]
        return self.attn.to_out["0"](rearrange(torch.cat(out), "b heads q d -> b q (heads d)"))

    def _attend_group(self, q, k, v, group: Grounded) -> torch.Tensor:
        if group.objs is None:
            return F.scaled_dot_product_attention(q, k, v)
        keys, values = (part.expand(len(q), -1, -1, -1) for part in self._keys_values(group))
        bias = repeat(group.bias.to(q), "... n q -> ... q (n tokens)", tokens=group.objs.shape[-2])
        bias = bias if bias.ndim == 2 else bias[:, None]  # the same for all heads
        image_bias = None if group.image_bias is None else group.image_bias.to(q)
        if _tells_log_sum_exp(q, k, v, keys, values, bias):
            return _attend_apart(q, (k, v), (keys, values), bias, image_bias)
        if image_bias is None:
            mask = F.pad(bias, (k.shape[2], 0))  # eq. 4: image tokens see all image tokens
        else:
            mask = torch.cat((image_bias.expand(*bias.shape[:-2], -1, -1), bias), dim=-1)
        return F.scaled_dot_product_attention(
            q, torch.cat((k, keys), dim=2), torch.cat((v, values), dim=2), attn_mask=mask
        )

    def _keys_values(self, group: Grounded) -> KeysValues:
        """Return keys and values of a group's instances, (rows or 1, heads, N * L, d) each."""
        key = (self, group.objs.device, group.objs.dtype)
        if group.projected is not None and key in group.projected:
            return group.projected[key]
        objs = self.norm1(self.linear(rearrange(group.objs, "... n tokens width -> ... (n tokens) width")))
        objs = objs if objs.ndim == 3 else objs[None]
        found = self._split_heads(self.attn.to_k(objs)), self._split_heads(self.attn.to_v(objs))
        if group.projected is not None:
            group.projected[key] = found
        return found

    def _feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":
            return self.ff(x)
        # A CPU has the hidden tensor of some rows in its cache, and need not map new memory for that of all.
        rows = max(CHUNK // self.ff.net["2"].in_features, 1)
        return torch.cat([self.ff(part) for part in x.flatten(0, 1).split(rows)]).view_as(x)

    def _split_heads(self, x: torch.Tensor) -> torch.Tensor:
        return rearrange(x, "b s (heads d) -> b heads s d", heads=self.heads)


def _tells_log_sum_exp(q: torch.Tensor, *others: torch.Tensor) -> bool:
    """Say whether attention among these can be had with its log-sum-exp, which passes no gradient on."""
    needs_gradient = any(tensor.requires_grad for tensor in (q, *others))
    return _cpu_attention is not None and q.device.type == "cpu" and not needs_gradient


def _attend_apart(
    q: torch.Tensor,
    image: KeysValues,
    instances: KeysValues,
    bias: torch.Tensor,
    image_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend to image tokens and to instances apart, and join the two: softmax over both is their mean, each
    weighed by its sum of exponentials.

    So the many image tokens need no mask where all see all of them (eq. 4).

    Args:
        q: (B, heads, Q, d)
        image, instances: keys and values, (B, heads, Q, d) and (B, heads, S, d) each.
        bias: (Q, S) or (B, 1, Q, S), added to the instances' logits.
        image_bias: (Q, Q), added to the image tokens'.

    Returns:
        (B, heads, Q, d)
    """
    seen, seen_sum = _cpu_attention(
        q, *image, attn_mask=None if image_bias is None else image_bias.clamp(min=NEVER)
    )
    told, told_sum = _cpu_attention(q, *instances, attn_mask=bias.clamp(min=NEVER))
    share = torch.sigmoid(told_sum - seen_sum).to(seen)
    return seen.lerp(told, share[..., None])
