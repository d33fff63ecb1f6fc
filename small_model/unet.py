"""A small UNet of the Stable Diffusion 1.x family, under the original names of its weights.

Two levels; transformers at the lower one only, where a 128 x 128 picture has 8 x 8 tokens. Written out
here rather than taken from a library because then a checkpoint needs no translation, and DEIG's fusers can be
called where they belong, between self- and cross-attention.

It is trained narrower than any Stable Diffusion and then made as wide as one without a change in what it
computes (`widen`): on two CPU cores a quarter of the work for each picture decides whether it learns at all.
So every width follows from two, that of the stream and that of the context.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from deig_core.deig.ide import sinusoid
from deig_core.fusion.fuser import FeedForward
from deig_core.fusion.fusers import BlockId

WIDTH = 160
CONTEXT_WIDTH = 256
SINUSOID_WIDTH = 320  # as the host makes it
HEADS = 8
LATENT_CHANNELS = 4

# Called between self- and cross-attention with the block's name as the host gives it, and its image tokens.
Fuse = Callable[[BlockId, torch.Tensor], torch.Tensor]


class Residual(nn.Module):
    """Two convolutions and the time embedding, with a skip connection."""

    def __init__(self, into: int, out: int):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * out, out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """x: (B, into, h, w); time: (B, 4 * out) -> (B, out, h, w)."""
        h = self.in_layers(x) + self.emb_layers(time)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    """Multi-head attention to a context, or to itself."""

    def __init__(self, width: int, context_width: int):
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x: (B, Q, width); context: (B, S, context_width) -> (B, Q, width)."""
        q, k, v = (
            rearrange(t, "b s (heads d) -> b heads s d", heads=HEADS)
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(rearrange(out, "b heads q d -> b q (heads d)"))


class TransformerBlock(nn.Module):
    """Self-attention, then the fuser, then cross-attention to the prompt, then a feed-forward net."""

    def __init__(self, width: int, context_width: int):
        super().__init__()
        self.attn1 = Attention(width, width)
        self.attn2 = Attention(width, context_width)
        self.ff = FeedForward(width, 4 * width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: torch.Tensor, context: torch.Tensor, fuse: Callable) -> torch.Tensor:
        """x: (B, Q, width); context: (B, S, context_width) -> (B, Q, width)."""
        n = self.norm1(x)
        x = fuse(x + self.attn1(n, n))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """A transformer block over the places of a feature map."""

    def __init__(self, block: BlockId, width: int, context_width: int):
        super().__init__()
        self.block = block
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context_width)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor, context: torch.Tensor, fuse: Fuse) -> torch.Tensor:
        """x: (B, width, h, w) -> (B, width, h, w)."""
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        tokens = self.transformer_blocks[0](tokens, context, lambda t: fuse(self.block, t))
        tokens = rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[2])
        return x + self.proj_out(tokens)


class Downsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor, size: torch.Size) -> torch.Tensor:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class UNet(nn.Module):
    """Predicts the noise in a latent.

    The module lists follow the checkpoint: `input_blocks`, `middle_block` and `output_blocks`, each block a
    list of its layers.

    Args:
        width: of the stream.
        context_width: of the prompt's tokens.
    """

    FUSED_BLOCKS = (
        "input_blocks.3.1.transformer_blocks.0",
        "middle_block.1.transformer_blocks.0",
        "output_blocks.0.1.transformer_blocks.0",
        "output_blocks.1.1.transformer_blocks.0",
    )

    def __init__(self, width: int = WIDTH, context_width: int = CONTEXT_WIDTH):
        super().__init__()
        self.time_embed = nn.Sequential(
            nn.Linear(SINUSOID_WIDTH, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )

        def residual(into: int) -> Residual:
            return Residual(into, width)

        def transformer(*block) -> Transformer:
            return Transformer(block, width, context_width)

        lists = nn.ModuleList
        self.input_blocks = lists(
            [
                lists([nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1)]),
                lists([residual(width)]),
                lists([Downsample(width)]),
                lists([residual(width), transformer("input", 3, 0)]),
            ]
        )
        self.middle_block = lists([residual(width), transformer("middle", 0, 0), residual(width)])
        self.output_blocks = lists(
            [
                lists([residual(2 * width), transformer("output", 0, 0)]),
                lists([residual(2 * width), transformer("output", 1, 0), Upsample(width)]),
                lists([residual(2 * width)]),
                lists([residual(2 * width)]),
            ]
        )
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1)
        )

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        fuse: Fuse = lambda block, tokens: tokens,
    ) -> torch.Tensor:
        """Predict the noise.

        Args:
            x: (B, 4, h, w), noisy latents of unit variance.
            timesteps: (B,), 0 to 999.
            context: (B, S, context_width), tokens of the prompt.
            fuse: what to do between self- and cross-attention; by default nothing.

        Returns:
            (B, 4, h, w)
        """
        time = self.time_embed(sinusoid(timesteps, SINUSOID_WIDTH).to(x.dtype))
        skips = []
        for block in self.input_blocks:
            x = self._run(block, x, time, context, fuse)
            skips.append(x)
        x = self._run(self.middle_block, x, time, context, fuse)
        for block in self.output_blocks:
            x = torch.cat((x, skips.pop()), dim=1)
            x = self._run(block, x, time, context, fuse, skips[-1].shape[2:] if skips else None)
        return self.out(x)

    def _run(self, layers, x, time, context, fuse, size=None) -> torch.Tensor:
        for layer in layers:
            if isinstance(layer, Residual):
                x = layer(x, time)
            elif isinstance(layer, Transformer):
                x = layer(x, context, fuse)
            elif isinstance(layer, Upsample):
                x = layer(x, size)
            else:
                x = layer(x)
        return x
