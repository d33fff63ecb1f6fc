"""A TAESD-layout autoencoder: pictures to latents of an eighth of the size and back.

The layout (which block stands where, under which name) is that of the Tiny AutoEncoder for Stable Diffusion,
so the host reads it out of an ordinary checkpoint. TAESD is 64 channels wide throughout. Here the width
tapers towards the full resolution, which makes training on a CPU four times as fast, and `full_width` pads the
weights with zeros afterwards: the channels and blocks that this adds pass on what comes in.
"""

import math
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from .device import CPU, half_precision
from .keep import load_same, save_whole
from .scenes import deal, draw
from .supply import drawn_ahead

LATENT_CHANNELS = 4
TAESD_WIDTH = 64
WIDTHS = (16, 32, 48, 64)  # at full size, a half, a quarter, an eighth
TAESD_BLOCKS = 3  # at each size but the full one, which has one
BLOCKS = (1, 1, 2, 3)  # of those, how many do anything

# Where TAESD has the blocks that do nothing here.
MISSING_BLOCKS = {"encoder": (4, 5, 9), "decoder": (10, 14, 15)}

# What the host multiplies an SD1.x latent with before its UNet sees it.
HOST_SCALE = 0.18215


class Clamp(nn.Module):
    """Keeps latents within -3 to 3, softly."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Three convolutions and a skip connection."""

    def __init__(self, width: int):
        super().__init__()
        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])
        nn.init.zeros_(convs[2].weight)  # begins, like a missing block ends, by letting everything through
        nn.init.zeros_(convs[2].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x) + x)


def _blocks(width: int, count: int, of: int = TAESD_BLOCKS) -> list[nn.Module]:
    """Return `count` blocks and as many stand-ins as TAESD has more; what comes in is not negative."""
    return [Block(width) if i < count else nn.Identity() for i in range(of)]


def _encoder(widths: tuple[int, ...], blocks: tuple[int, ...]) -> nn.Sequential:
    layers = [nn.Conv2d(3, widths[0], 3, padding=1), *_blocks(widths[0], blocks[0], of=1)]
    for (wide, narrow), count in zip(pairwise(widths), blocks[1:], strict=True):
        layers.append(nn.Conv2d(wide, narrow, 3, padding=1, stride=2, bias=False))
        layers.extend(_blocks(narrow, count))
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], LATENT_CHANNELS, 3, padding=1))


def _decoder(widths: tuple[int, ...], blocks: tuple[int, ...]) -> nn.Sequential:
    layers = [Clamp(), nn.Conv2d(LATENT_CHANNELS, widths[-1], 3, padding=1), nn.ReLU()]
    for (narrow, wide), count in zip(pairwise(reversed(widths)), reversed(blocks), strict=False):
        layers.extend(_blocks(narrow, count))
        layers.extend((nn.Upsample(scale_factor=2), nn.Conv2d(narrow, wide, 3, padding=1, bias=False)))
    layers.extend(_blocks(widths[0], blocks[0], of=1))
    return nn.Sequential(*layers, nn.Conv2d(widths[0], 3, 3, padding=1))


def _start_lively(model: nn.Module):
    """Let signals keep their size from layer to layer."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.any():
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


class Autoencoder(nn.Module):
    """Encoder and decoder under TAESD's names.

    Args:
        widths: channels at full size, a half, a quarter and an eighth of it.
        blocks: how many blocks of each size do anything.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS):
        super().__init__()
        self.taesd_encoder = _encoder(widths, blocks)
        self.taesd_decoder = _decoder(widths, blocks)
        _start_lively(self)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), 0 to 1 -> (B, 4, H/8, W/8), about unit variance: what the UNet works on."""
        return self.taesd_encoder(pictures)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, 4, h, w) -> (B, 3, 8h, 8w), 0 to 1."""
        return self.taesd_decoder(latents).clamp(0, 1)


def full_width(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pad an autoencoder's weights with zeros to TAESD's width, and add the scale that the host applies."""

    def padded(size: int) -> int:
        return size if size in (3, LATENT_CHANNELS) else TAESD_WIDTH

    out = {}
    for name, weight in state.items():
        wide = weight.new_zeros([padded(n) for n in weight.shape[:2]] + list(weight.shape[2:]))
        wide[tuple(slice(n) for n in weight.shape)] = weight
        out[name] = wide
    for half, places in MISSING_BLOCKS.items():
        for place in places:
            for i in (0, 2, 4):
                name = f"taesd_{half}.{place}.conv.{i}"
                out[f"{name}.weight"] = torch.zeros(TAESD_WIDTH, TAESD_WIDTH, 3, 3)
                out[f"{name}.bias"] = torch.zeros(TAESD_WIDTH)
    return out | {"vae_scale": torch.tensor(HOST_SCALE), "vae_shift": torch.tensor(0.0)}


def to_tensor(pictures: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W), 0 to 1."""
    return pictures.permute(0, 3, 1, 2).float() / 255


def to_uint8(pictures: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W), 0 to 1 -> (B, H, W, 3) uint8."""
    return (pictures.permute(0, 2, 3, 1).float() * 255).round().clamp(0, 255).byte().cpu().numpy()


class Crops(NamedTuple):
    """Pieces of pictures, (B, 64, 64, 3), uint8, and noise for their latents, (B, 4, 8, 8)."""

    pictures: torch.Tensor
    noise: torch.Tensor


def _draw_step(seed: tuple[int, ...], step: int, scenes: int = 4, side: int = 64) -> Crops:
    """Draw the scenes of a step and cut each into its four quarters, moved a little."""
    rng = np.random.default_rng((*seed, step))
    crops = []
    for _ in range(scenes):
        picture = draw(deal(int(rng.integers(2**40))))
        for y in (0, side):
            for x in (0, side):
                dy, dx = rng.integers(-12, 13, size=2)
                top, left = np.clip((y + dy, x + dx), 0, picture.shape[0] - side)
                crops.append(picture[top : top + side, left : left + side])
    noise = rng.standard_normal((len(crops), LATENT_CHANNELS, side // 8, side // 8), dtype=np.float32)
    return Crops(torch.from_numpy(np.stack(crops)), torch.from_numpy(noise))


def _mean_colours(pictures: torch.Tensor) -> torch.Tensor:
    """Each cell's mean lightness and its two colour differences, about unit variance: (B, 3, H/8, W/8)."""
    red, green, blue = F.avg_pool2d(pictures, 8).unbind(1)
    lightness, warmth, blueness = red + green + blue - 1.3, red - green - 0.1, blue - (red + green) / 2 + 0.1
    return torch.stack((2 * lightness, 5 * warmth, 5 * blueness), dim=1)


def _loss(model: Autoencoder, pictures: torch.Tensor, noise: torch.Tensor, done: float) -> torch.Tensor:
    """Distance of the painted crop, and of the latents from what makes them easy to learn from.

    Three of the four channels are drawn towards the mean colour of their cell, less and less. Without that,
    colours come long after light and dark, and the UNet has a harder language to learn.
    """
    with half_precision(pictures.device):
        latents = model.encode(pictures)
        painted = model.taesd_decoder(latents.float() + 0.08 * noise).float()
    latents = latents.float()
    colour = F.mse_loss(latents[:, :3], _mean_colours(pictures))
    moments = latents.mean((0, 2, 3)).square().mean() + (latents.var((0, 2, 3)) - 1).square().mean()
    extremes = (latents.abs() - 2.5).clamp(min=0).square().mean()
    guide = 0.2 * 0.05**done * colour + 0.01 * moments + 0.05 * extremes
    return 3 * F.mse_loss(painted, pictures) + done * F.l1_loss(painted, pictures) + guide


@dataclass(frozen=True)
class Part:
    """A part of training.

    Args:
        name: of the file that keeps it.
        steps: how many, of 4 scenes each.
        rate: the highest learning rate; it falls as a cosine.
        begin: how far training as a whole is when this begins, 0 to 1.
        with_encoder: train the encoder too; otherwise the decoder alone, for the latents as they are.
    """

    name: str
    steps: int
    rate: float
    begin: float
    with_encoder: bool

    def rate_at(self, step: int) -> float:
        """Return the rate at a step: up for a fiftieth of them, then down."""
        done = step / self.steps
        return self.rate * min(1, (step + 1) / self.steps * 50) * 0.5 * (1 + math.cos(math.pi * done))


def train(folder: Path, steps: int, seed: int = 0, device: torch.device = CPU, save_minutes: float = 2):
    """Train an autoencoder on drawn scenes, then its decoder alone for half as long, and leave it in a file.

    Args:
        folder: where to, as autoencoder.pt; in between it keeps what is done so far, and goes on from there.
        steps: how many with the whole of it.
        seed: of weights, scenes and noise.
        device: what to train on.
        save_minutes: how often to keep what is done so far.
    """
    torch.manual_seed(seed)
    model = Autoencoder().to(device, memory_format=torch.channels_last)
    parts = (
        Part("autoencoder", steps, rate=2e-3, begin=0.0, with_encoder=True),
        Part("decoder", steps // 2, rate=1.2e-3, begin=0.7, with_encoder=False),
    )
    for number, part in enumerate(parts):
        _fit(model, part, (seed, number), folder / f"{part.name}-state.pt", save_minutes)
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_whole(state, folder / "autoencoder.pt")
    for part in parts:
        (folder / f"{part.name}-state.pt").unlink()


def _fit(model: Autoencoder, part: Part, seed: tuple[int, int], path: Path, save_minutes: float):
    """Train a part, on from where it was left."""
    model.taesd_encoder.requires_grad_(part.with_encoder)
    device = next(model.parameters()).device
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=part.rate, betas=(0.9, 0.99), fused=True)
    begun, settings = 0, {"seed": seed[0], "steps": part.steps}
    if path.exists():
        state = load_same(path, settings, device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        begun = state["step"]

    def save(step: int):
        done = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
        save_whole(done | {"settings": settings}, path)

    saved = time.monotonic()
    drawn = drawn_ahead(partial(_draw_step, seed), range(begun, part.steps), device)
    with tqdm(drawn, desc=part.name, initial=begun, total=part.steps, unit="step", mininterval=5) as bar:
        for step, (pictures, noise) in enumerate(bar, start=begun):
            pictures = to_tensor(pictures.to(device)).contiguous(memory_format=torch.channels_last)
            loss = _loss(model, pictures, noise.to(device), part.begin + (1 - part.begin) * step / part.steps)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for group in optimiser.param_groups:
                group["lr"] = part.rate_at(step)
            optimiser.step()
            if step % 100 == 0:
                bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
            if time.monotonic() - saved > save_minutes * 60:
                save(step + 1)
                saved = time.monotonic()
    if begun < part.steps:
        save(part.steps)
