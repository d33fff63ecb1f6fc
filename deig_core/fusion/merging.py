"""Merging latents that were denoised apart (InstanceDiffusion's Multi-instance Sampler, Wang et al. 2024)."""

import torch


def merge_latents(
    whole: torch.Tensor, alone: torch.Tensor, places: torch.Tensor | None = None
) -> torch.Tensor:
    """Make one latent of the whole picture's and of each instance's own.

    Args:
        whole: (B, C, h, w), the picture with all instances.
        alone: (N, B, C, h, w), each instance by itself.
        places: (N, h, w), above 0 where an instance lies. Given, each cell is the mean of the whole and of the
            instances that lie there; without, every cell is the mean of all, as published.

    Returns:
        (B, C, h, w)
    """
    inside = torch.ones_like(alone[:, :1, :1]) if places is None else (places > 0).to(alone)[:, None, None]
    return (whole + (alone * inside).sum(0)) / (1 + inside.sum(0))
