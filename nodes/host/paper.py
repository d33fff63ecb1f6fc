"""The sampler of DEIG's authors, and their noise, as the host knows such things.

With x the host's latent, whose noise has the size of sigma, the authors' latent is x / sqrt(1 + sigma**2). In the
host's scale their steps are Euler's (both are DDIM without added noise), so only the two ends differ:

    begin   theirs is noise of unit size in their own scale, so sqrt(1 + sigma**2) in the host's; other samplers of the
            host begin so only at the model's very first timestep, and elsewhere with sigma
    end     theirs is at timestep 0, whose sigma is 0.029, in their own scale; the host takes what a sampler returns
            for a latent at sigma 0, as it is
"""

import math
from dataclasses import dataclass

import comfy.samplers
import torch
from comfy.k_diffusion.sampling import sample_euler
from comfy.model_sampling import ModelSamplingDiscrete

from ...deig_core.deig.cuda_noise import cuda_randn
from ...deig_core.deig.paper import TIMESTEPS, paper_timesteps


def paper_sigmas(model, steps: int) -> torch.Tensor:
    """Return the sigmas of the authors' timesteps, (taken steps + 1,), the last one that of timestep 0.

    Args:
        model: the host's ModelPatcher of an SD1.x model.
        steps: how many are asked for.

    Raises:
        ValueError: for a model that is not denoised in Stable Diffusion's timesteps, and as `paper_timesteps`.
    """
    model_sampling = model.get_model_object("model_sampling")
    if not isinstance(model_sampling, ModelSamplingDiscrete) or len(model_sampling.sigmas) != TIMESTEPS:
        raise ValueError(
            f"DEIG's authors sample in the {TIMESTEPS} timesteps of Stable Diffusion 1.x, and the model connected, "
            f"{type(model.model).__name__}, has others. Connect an SD1.x checkpoint; a model for few steps (LCM) or "
            "with flow matching takes the host's own samplers."
        )
    return model_sampling.sigmas[paper_timesteps(steps)].detach().float().cpu()


class PaperSampler(comfy.samplers.KSAMPLER):
    """Euler between the authors' ends.

    On other sigmas, or on a part of these (Split Sigmas), each end is the authors' only where it is theirs, and else
    the host's: a latent may come and go there as between any two samplers.

    Args:
        sigmas: those of the whole run, from `paper_sigmas`.
    """

    def __init__(self, sigmas: torch.Tensor):
        super().__init__(sample_euler)
        self.first, self.last = float(sigmas[0]), float(sigmas[-1])

    def max_denoise(self, model_wrap, sigmas) -> bool:
        """Tell the host whether to make noise of unit size."""
        return float(sigmas[0]) == self.first

    def sample(self, model_wrap, sigmas, *args, **kwargs) -> torch.Tensor:
        samples = super().sample(model_wrap, sigmas, *args, **kwargs)
        return samples / math.sqrt(1 + self.last**2) if float(sigmas[-1]) == self.last else samples


@dataclass(frozen=True)
class PaperNoise:
    """A NOISE of the host: what the authors' programs draw first with a seed, on whatever device.

    In a batch the first picture has the noise that it has alone, which is the one that the authors begin all with.
    """

    seed: int

    def generate_noise(self, input_latent: dict) -> torch.Tensor:
        """Return noise of the latent's shape, (B, 4, h, w)."""
        rows, *shape = input_latent["samples"].shape
        chosen = input_latent.get("batch_index") or range(rows)
        return cuda_randn((max(chosen) + 1, *shape), self.seed)[list(chosen)]
