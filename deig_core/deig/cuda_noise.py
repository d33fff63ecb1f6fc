"""The noise that PyTorch draws on an NVIDIA card, on any device.

A seed's noise there is another than on the CPU, and DEIG's authors draw theirs there. It is Philox 4x32 with 10 rounds
(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), one number for each thread, made normal by Box and
Muller's transform. CUDA's own sine and logarithm are a little less exact, so that noise is equal to about 1e-6.
"""

import math

import numpy as np
import torch

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HIGH_SHIFT = np.uint64(32)


def cuda_randn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return what `torch.manual_seed(seed); torch.randn(shape, device="cuda")` gives, float32, on the CPU.

    Args:
        shape: of no more numbers than the card runs threads at once (some 200,000: a dozen latents of 512 x 512).
        seed: 0 to 2**64 - 1.
    """
    count = math.prod(shape)
    zero = np.zeros(count, dtype=np.uint64)
    first, second, *_ = _philox((zero, zero, np.arange(count, dtype=np.uint64), zero), seed)
    # In the middle of each of 2**32 steps, so that the logarithm is never that of 0.
    radius = np.sqrt(-2 * np.log((first + 0.5) / 2**32))
    normal = radius * np.sin(2 * math.pi * (second + 0.5) / 2**32)
    return torch.from_numpy(normal.astype(np.float32)).reshape(shape)


def _philox(counter: tuple[np.ndarray, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Encrypt counters, four words of 32 bits each in 64, by the key that a seed is."""
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    a, b, c, d = counter
    for _ in range(10):
        one, other = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (other >> _HIGH_SHIFT) ^ b ^ np.uint64(keys[0]),
            other & _LOW,
            (one >> _HIGH_SHIFT) ^ d ^ np.uint64(keys[1]),
            one & _LOW,
        )
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, _KEY_STEPS, strict=True)]
    return a, b, c, d
