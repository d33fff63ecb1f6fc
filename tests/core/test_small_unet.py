"""The small UNet computes what Stable Diffusion's does, written out here once more from the names of its weights."""

import pytest
import torch
import torch.nn.functional as F

from deig_core.deig.ide import sinusoid
from small_model.unet import UNet

WIDTH, CONTEXT_WIDTH = 64, 24
RESIDUALS_AND_TRANSFORMERS = (
    ("input_blocks.1.0", None),
    ("input_blocks.3.0", ("input", 3, 0)),
    ("middle_block.0", ("middle", 0, 0)),
    ("middle_block.2", None),
    ("output_blocks.0.0", ("output", 0, 0)),
    ("output_blocks.1.0", ("output", 1, 0)),
    ("output_blocks.2.0", None),
    ("output_blocks.3.0", None),
)


@pytest.fixture(scope="module")
def unet() -> UNet:
    """In float64, with all weights alive: a norm's epsilon is then seen in the result."""
    unet = UNet(WIDTH, CONTEXT_WIDTH).double()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in unet.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        # Queries and keys large enough that some tokens are looked at more than others.
        size = 2.0 if ".to_q" in name or ".to_k" in name else 1.0
        parameter.data = (
            1 + 0.3 * noise if parameter.ndim == 1 else size * noise / parameter[0].numel() ** 0.5
        )
    return unet.requires_grad_(False)


class Written:
    """Stable Diffusion's UNet as a formula over a state dict."""

    def __init__(self, state: dict[str, torch.Tensor], fuse):
        self.state, self.fuse = state, fuse

    def of(self, name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.state[f"{name}.weight"], self.state.get(f"{name}.bias")

    def conv(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight, bias = self.of(name)
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def normed(self, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        groups = x.unflatten(1, (32, -1))
        mean = groups.mean((2, 3, 4), keepdim=True)
        spread = (groups - mean).square().mean((2, 3, 4), keepdim=True)
        weight, bias = self.of(name)
        x = ((groups - mean) / (spread + eps).sqrt()).flatten(1, 2)
        return x * weight[:, None, None] + bias[:, None, None]

    def residual(self, name: str, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = self.conv(f"{name}.in_layers.2", F.silu(self.normed(f"{name}.in_layers.0", x, 1e-5)))
        h = h + F.linear(F.silu(time), *self.of(f"{name}.emb_layers.1"))[:, :, None, None]
        h = self.conv(f"{name}.out_layers.3", F.silu(self.normed(f"{name}.out_layers.0", h, 1e-5)))
        return h + (x if x.shape == h.shape else self.conv(f"{name}.skip_connection", x))

    def attention(self, name: str, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            F.linear(tokens, *self.of(f"{name}.to_{part}"))
            for part, tokens in (("q", x), ("k", context), ("v", context))
        )
        size, heads = WIDTH // 8, []
        for head in range(8):
            own = slice(head * size, (head + 1) * size)
            logits = torch.einsum("bqd,bsd->bqs", q[..., own], k[..., own]) / size**0.5
            heads.append(torch.einsum("bqs,bsd->bqd", logits.softmax(-1), v[..., own]))
        return F.linear(torch.cat(heads, -1), *self.of(f"{name}.to_out.0"))

    def transformer(self, name: str, block: tuple, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        def layer_normed(number: int, tokens: torch.Tensor) -> torch.Tensor:
            return F.layer_norm(tokens, (WIDTH,), *self.of(f"{name}.transformer_blocks.0.norm{number}"), 1e-5)

        inner = f"{name}.transformer_blocks.0"
        tokens = self.conv(f"{name}.proj_in", self.normed(f"{name}.norm", x, 1e-6)).flatten(2).transpose(1, 2)
        itself = layer_normed(1, tokens)
        tokens = self.fuse(block, tokens + self.attention(f"{inner}.attn1", itself, itself))
        tokens = tokens + self.attention(f"{inner}.attn2", layer_normed(2, tokens), context)
        value, gate = F.linear(layer_normed(3, tokens), *self.of(f"{inner}.ff.net.0.proj")).chunk(2, -1)
        tokens = tokens + F.linear(value * F.gelu(gate), *self.of(f"{inner}.ff.net.2"))
        return x + self.conv(f"{name}.proj_out", tokens.transpose(1, 2).unflatten(2, x.shape[2:]))

    def __call__(self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        time = F.silu(F.linear(sinusoid(timesteps, 320).double(), *self.of("time_embed.0")))
        time = F.linear(time, *self.of("time_embed.2"))
        whole = x.shape[2:]
        x = self.conv("input_blocks.0.0", x)
        skips = [x]
        for name, block in RESIDUALS_AND_TRANSFORMERS:
            if name.startswith("input_blocks.3"):
                x = self.conv("input_blocks.2.0.op", x, stride=2)
                skips.append(x)
            if name.startswith("output"):
                x = torch.cat((x, skips.pop()), 1)
            x = self.residual(name, x, time)
            if block:
                x = self.transformer(f"{name[:-1]}1", block, x, context)
            if name.startswith("input"):
                skips.append(x)
            if name.startswith("output_blocks.1"):
                # Half pixels down: each new pixel is the old one that it lies in.
                rows, columns = (
                    torch.arange(size) * x.shape[2 + dim] // size for dim, size in enumerate(whole)
                )
                x = self.conv("output_blocks.1.2.conv", x[:, :, rows][:, :, :, columns])
        return self.conv("out.2", F.silu(self.normed("out.0", x, 1e-5)))


@pytest.mark.parametrize("size", [(6, 4), (5, 7)], ids=str)
def test_the_unet_is_that_of_stable_diffusion(unet, size):
    """With a fuser between self- and cross-attention that does another thing in every block."""
    torch.manual_seed(1)
    x, context = torch.randn(2, 4, *size).double(), torch.randn(2, 5, CONTEXT_WIDTH).double()
    timesteps = torch.tensor([999, 3])
    seen = []

    def fuse(block, tokens):
        seen.append((block, tuple(tokens.shape)))
        return tokens + 0.1 * (1 + block[1] + len(block[0])) * tokens.roll(1, 1).sin()

    found = unet(x, timesteps, context, fuse)
    places = -(-size[0] // 2) * -(-size[1] // 2)
    blocks = [block for _, block in RESIDUALS_AND_TRANSFORMERS if block]
    assert seen == [(block, (2, places, WIDTH)) for block in blocks]
    torch.testing.assert_close(
        found, Written(unet.state_dict(), fuse)(x, timesteps, context), rtol=0, atol=1e-9
    )
    plain = Written(unet.state_dict(), lambda block, tokens: tokens)(x, timesteps, context)
    torch.testing.assert_close(unet(x, timesteps, context), plain, rtol=0, atol=1e-9)
    assert (found - plain).abs().max() > 0.01


def test_the_names_of_fused_blocks_are_those_of_all_its_transformers(unet):
    ending = ".attn1.to_q.weight"
    assert [name.removesuffix(ending) for name in unet.state_dict() if name.endswith(ending)] == list(
        UNet.FUSED_BLOCKS
    )
    small = UNet().state_dict()  # the sizes that are trained and widened
    assert small["time_embed.0.weight"].shape == (640, 320)
    assert small["output_blocks.0.1.transformer_blocks.0.attn2.to_k.weight"].shape == (160, 256)
    assert small["middle_block.1.transformer_blocks.0.ff.net.2.weight"].shape == (160, 640)
