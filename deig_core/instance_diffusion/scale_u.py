"""ScaleU: what enters a block of the UNet's decoder, rescaled (InstanceDiffusion, section 3.3).

The block's features by a factor for each channel, and the lowest frequencies of the skip connection by one factor.
The paper takes the skip to its frequencies and back; only four of them change, so here they are picked out and their
difference is added, which is the same without complex numbers.
"""

import math
from functools import lru_cache

import torch
from torch import nn


class ScaleU(nn.Module):
    """The factors of every decoder block; a tensor's name is the checkpoint's.

    Args:
        widths: of the features that enter each decoder block, in order.
    """

    def __init__(self, widths: tuple[int, ...], **factory):
        super().__init__()
        for number, width in enumerate(widths):
            self.register_parameter(f"scaleu_b_{number}", nn.Parameter(torch.zeros(width, **factory)))
            self.register_parameter(f"scaleu_s_{number}", nn.Parameter(torch.zeros(1, **factory)))

    def factors(self) -> "ScaleUFactors":
        """Work the factors out, in float32; a copy of their own."""
        blocks = range(len(self._parameters) // 2)
        return ScaleUFactors(
            [torch.tanh(self.get_parameter(f"scaleu_b_{number}").float()) + 1 for number in blocks],
            [torch.tanh(self.get_parameter(f"scaleu_s_{number}").float()) + 1 for number in blocks],
        )


class ScaleUFactors:
    """What ScaleU multiplies by.

    Args:
        features: for each decoder block (width,), float32, above 0 and below 2.
        skip: for each decoder block (1,).
    """

    def __init__(self, features: list[torch.Tensor], skip: list[torch.Tensor]):
        self.features, self.skip = features, skip
        self._moved: dict[torch.device, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}

    def scale(
        self, features: torch.Tensor, skip: torch.Tensor, block: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rescale what enters a decoder block.

        Args:
            features: (B, width, h, w), from the block before.
            skip: (B, C, H, W), from the encoder.
            block: the block's number.

        Returns:
            Both, as new tensors of the same types; computed in float32.
        """
        if features.device not in self._moved:
            self._moved[features.device] = tuple(
                [factor.to(features.device) for factor in factors] for factors in (self.features, self.skip)
            )
        by_channel, by_frequency = (factors[block] for factors in self._moved[features.device])
        return scale_features(features, by_channel), scale_low_frequencies(skip, by_frequency)


def scale_features(features: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply each channel of (B, C, h, w) by its factor, (C,)."""
    return (features.float() * factors[:, None, None]).to(features.dtype)


def scale_low_frequencies(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiply the frequencies 0 and -1 of both axes by a factor, and keep the real part.

    Args:
        x: (B, C, H, W)
        factor: (1,)

    Returns:
        (B, C, H, W)
    """
    waves = low_waves(*x.shape[-2:], x.device)
    low = (x.float().flatten(-2) @ waves) @ waves.T
    return (x.float() + (factor - 1) * low.view(x.shape)).to(x.dtype)


@lru_cache(maxsize=64)
def low_waves(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Return the waves of the frequencies 0 and -1 on a grid, so that x W W^T is the part of x that they make up.

    Returns:
        (height * width, at most 8), the cosine and the sine of each pair of frequencies.
    """
    # On an axis one long both frequencies are the same.
    vertical, horizontal = ((0, -1) if size > 1 else (0,) for size in (height, width))
    rows, columns = torch.arange(height).double() / height, torch.arange(width).double() / width
    phases = [2 * math.pi * (v * rows[:, None] + h * columns).flatten() for v in vertical for h in horizontal]
    waves = torch.stack([wave for phase in phases for wave in (phase.cos(), phase.sin())], dim=1)
    return (waves / math.sqrt(height * width)).float().to(device)
