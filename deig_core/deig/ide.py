"""Instance Detail Extractor (IDE): boils the T5 features of a phrase down to a few tokens for one timestep.

DEIG, section "Instance Detail Extractor": learned queries, refined layer by layer by self-attention, by
cross-attention to the phrase, and by a feed-forward net, each after a layer norm that depends on time.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn


@dataclass(frozen=True)
class IDESizes:
    """Sizes of an IDE.

    Args:
        text_width: width of the text encoder's features (Flan-T5-XL: 2048).
        width: width of queries, layers and tokens.
        tokens: how many tokens come out for each phrase.
        layers: how many refinement layers.
        time_channels: width of the sinusoid of the timestep.
        time_width: width of the time embedding.
        mlp_width: width inside the feed-forward nets.
        heads: attention heads; a state dict does not tell, the released model has 8.
    """

    text_width: int
    width: int
    tokens: int
    layers: int
    time_channels: int
    time_width: int
    mlp_width: int
    heads: int = 8


def sinusoid(timesteps: torch.Tensor, channels: int) -> torch.Tensor:
    """Embed timesteps as cosines, then sines, of falling frequency.

    Args:
        timesteps: (B,), 0 to 999.
        channels: how many numbers come out; even.

    Returns:
        (B, channels), float32.
    """
    half = channels // 2
    steps = torch.arange(half, device=timesteps.device, dtype=torch.float32)
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10000) * steps / half)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class TimeEmbedding(nn.Module):
    """linear_2(silu(linear_1(sinusoid(t))))."""

    def __init__(self, channels: int, width: int, operations=nn, **factory):
        super().__init__()
        self.channels = channels
        self.linear_1 = operations.Linear(channels, width, **factory)
        self.linear_2 = operations.Linear(width, width, **factory)

    def forward(self, timesteps: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(B,) timesteps -> (B, width)."""
        return self.linear_2(F.silu(self.linear_1(sinusoid(timesteps, self.channels).to(dtype))))


class AdaLayerNorm(nn.Module):
    """Layer norm whose shift and scale come from the time embedding (FiLM, Perez et al. 2018)."""

    def __init__(self, width: int, time_width: int, operations=nn, **factory):
        super().__init__()
        self.linear = operations.Linear(time_width, 2 * width, **factory)

    def forward(self, x: torch.Tensor, activated_time: torch.Tensor) -> torch.Tensor:
        """x: (B, S, width); activated_time: (B, time_width), the SiLU of the time embedding."""
        shift, scale = self.linear(activated_time)[:, None].chunk(2, dim=-1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention with its projections as separate layers.

    The released weights come as torch's packed `in_proj`; the host can only move and cast layers it knows,
    so the adapter splits them when it loads.
    """

    def __init__(self, width: int, heads: int, operations=nn, **factory):
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(width, width, **factory)
        self.to_k = operations.Linear(width, width, **factory)
        self.to_v = operations.Linear(width, width, **factory)
        self.out_proj = operations.Linear(width, width, **factory)

    def forward(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """queries: (B, L, width); context: (B, S, width) -> (B, L, width)."""
        q, k, v = (
            rearrange(x, "b s (heads d) -> b heads s d", heads=self.heads)
            for x in (self.to_q(queries), self.to_k(context), self.to_v(context))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(rearrange(out, "b heads s d -> b s (heads d)"))


class SquaredReLUMLP(nn.Module):
    """Feed-forward net with squared ReLU (Primer, So et al. 2021)."""

    def __init__(self, width: int, hidden_width: int, operations=nn, **factory):
        super().__init__()
        self.c_fc = operations.Linear(width, hidden_width, **factory)
        self.c_proj = operations.Linear(hidden_width, width, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, S, width) -> (B, S, width)."""
        return self.c_proj(F.relu(self.c_fc(x)).square())


class RefinementLayer(nn.Module):
    """One layer of the IDE (DEIG, eq. 1): self-attention, cross-attention to the phrase, feed-forward."""

    def __init__(self, sizes: IDESizes, operations=nn, **factory):
        super().__init__()
        width, time_width = sizes.width, sizes.time_width
        self.attn = Attention(width, sizes.heads, operations, **factory)
        self.cross_attn = Attention(width, sizes.heads, operations, **factory)
        self.mlp = SquaredReLUMLP(width, sizes.mlp_width, operations, **factory)
        self.ln_0 = AdaLayerNorm(width, time_width, operations, **factory)
        self.ln_1 = AdaLayerNorm(width, time_width, operations, **factory)
        self.ln_2 = AdaLayerNorm(width, time_width, operations, **factory)
        self.ln_ff = AdaLayerNorm(width, time_width, operations, **factory)

    def forward(self, latents: torch.Tensor, text: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """latents: (B, L, width); text: (B, S, width); time: (B, time_width), activated -> (B, L, width)."""
        n = self.ln_0(latents, time)
        latents = latents + self.attn(n, n)
        n = self.ln_1(latents, time)
        context = torch.cat((n, self.ln_2(text, time)), dim=1)
        latents = latents + self.cross_attn(n, context)
        return latents + self.mlp(self.ln_ff(latents, time))


class Connector(nn.Module):
    """The learned queries and the layers that refine them."""

    def __init__(self, sizes: IDESizes, operations=nn, **factory):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(sizes.tokens, sizes.width, **factory) * sizes.width**-0.5)
        self.time_aware_linear = operations.Linear(sizes.time_width, sizes.width, **factory)
        self.proj_in = operations.Linear(sizes.text_width, sizes.width, **factory)
        self.perceiver_blocks = nn.ModuleList(
            RefinementLayer(sizes, operations, **factory) for _ in range(sizes.layers)
        )

    def forward(self, text_features: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """text_features: (B, S, text_width); time: (B, time_width) -> (B, L, width)."""
        activated_time = F.silu(time)
        latents = repeat(self.latents.to(time), "tokens width -> b tokens width", b=text_features.shape[0])
        latents = latents + self.time_aware_linear(activated_time)[:, None]
        text = self.proj_in(text_features)
        for block in self.perceiver_blocks:
            latents = block(latents, text, activated_time)
        return latents


class InstanceDetailExtractor(nn.Module):
    """T5 features of phrases, and a timestep, into a few tokens for each phrase.

    Args:
        sizes: the sizes of everything inside.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(self, sizes: IDESizes, operations=nn, **factory):
        super().__init__()
        self.sizes = sizes
        self.time_embedding = TimeEmbedding(sizes.time_channels, sizes.time_width, operations, **factory)
        self.connector = Connector(sizes, operations, **factory)

    def forward(self, text_features: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Extract the detail of each phrase for its timestep.

        Args:
            text_features: (B, S, text_width), as the text encoder gives them, padding positions included: the
                released weights were trained with these visible.
            timesteps: (B,), 0 (clean) to 999 (noise), the timestep being denoised.

        Returns:
            (B, tokens, width)
        """
        time = self.time_embedding(timesteps, text_features.dtype)
        return self.connector(text_features, time)
