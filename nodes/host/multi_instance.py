"""InstanceDiffusion's Multi-instance Sampler: instances are denoised apart for a while, then together.

Its own file beside unet.py: it splits a run of the host's sampler in two and never looks into the model.
"""

import inspect
from collections.abc import Iterator

import comfy.model_management
import torch
from einops import repeat

from ...deig_core.fusion.merging import merge_latents
from ...deig_core.instance_diffusion.grounding import InstanceGrounding
from ...deig_core.regions.raster import cell_places
from .unet import COND, WHOLE, GroundedCond, Run

APART = "DEIG multi-instance sampling"  # the key of the wrapper


def apart_sampler(percent: float, merge: str, contexts: torch.Tensor | None = None):
    """Return a SAMPLER_SAMPLE wrapper that samples apart first.

    Args:
        percent: for how much of the steps.
        merge: "average" or "place", how the latents become one.
        contexts: (N, S, context_width), what CLIP reads in the phrase of every region, to be the prompt where it is
            denoised alone; None: InstanceDiffusion has them anyway, and DEIG keeps the prompt of the whole.
    """

    def sample(executor, guider, sigmas, extra_args, callback, noise, latent, mask=None, *args, **kwargs):
        steps = len(sigmas) - 1
        run = _run_of(guider)
        apart = _steps_apart(percent, steps, run)
        run.contexts = run.contexts if contexts is None else contexts
        instances = run.grounding.active(run.percent(float(sigmas[0]))) if apart > 0 else ()
        if not instances:
            return executor(guider, sigmas, extra_args, callback, noise, latent, mask, *args, **kwargs)

        batches = list(_batches(guider, executor.class_obj, noise, (WHOLE, *instances)))
        total = len(batches) * apart + steps - apart
        latents = []
        try:
            for number, members in enumerate(batches):
                run.members = members
                latents += executor(
                    guider,
                    sigmas[: apart + 1],
                    dict(extra_args),
                    _progress(callback, number * apart, total, len(noise)),
                    *(_for_each(tensor, len(members)) for tensor in (noise, latent, mask)),
                    *args,
                    **kwargs,
                ).split(len(noise))
        finally:
            run.members = (WHOLE,)

        whole, alone = latents[0], torch.stack(latents[1:])
        places = None
        if merge == "place":
            places = cell_places([run.grounding.regions[i] for i in instances], run.latent_size).to(whole)
        merged = merge_latents(whole, alone, places)
        noise = _noise_that_leads_to(merged, sigmas[apart], latent, run.model_sampling)
        # Another seed, or samplers that add noise would add the first steps' once more.
        extra_args = {**extra_args, "seed": None if (seed := extra_args.get("seed")) is None else seed + 1}
        together = _progress(callback, len(batches) * apart, total, len(noise))
        return executor(guider, sigmas[apart:], extra_args, together, noise, latent, mask, *args, **kwargs)

    return sample


def _steps_apart(percent: float, steps: int, run: Run) -> int:
    """InstanceDiffusion's own sampler cuts off, DEIG's rounds; both leave at least one step for the whole."""
    counted = percent * steps
    is_own = isinstance(run.grounding, InstanceGrounding)
    return min(int(counted) if is_own else round(counted), steps - 1)


def _run_of(guider) -> Run:
    conds: Iterator[GroundedCond] = (
        entry["model_conds"][COND] for entries in guider.conds.values() for entry in entries
    )
    return next(conds).run


def _batches(guider, sampler, noise: torch.Tensor, members: tuple) -> Iterator[tuple]:
    """Split what is denoised apart into batches that fit into memory.

    A sampler that adds noise of its own gives every member the same noise only if each has a run to itself.
    """
    parameters = inspect.signature(getattr(sampler, "sampler_function", sampler.sample)).parameters
    size = len(members) if "noise_sampler" not in parameters else 1
    free = comfy.model_management.get_free_memory(noise.device)
    # Twice the rows, for positive and negative, and the host's own margin.
    while (
        size > 1
        and guider.inner_model.memory_required([2 * size * len(noise), *noise.shape[1:]]) * 1.5 >= free
    ):
        size -= 1
    for start in range(0, len(members), size):
        yield members[start : start + size]


def _for_each(tensor: torch.Tensor | None, members: int) -> torch.Tensor | None:
    return None if tensor is None else repeat(tensor, "b ... -> (members b) ...", members=members)


def _progress(callback, done: int, total: int, rows: int):
    """Report the steps of one stretch as part of all of them, with the first member's picture."""
    if callback is None:
        return None
    return lambda step, denoised, x, _: callback(done + step, denoised[:rows], x[:rows], total)


def _noise_that_leads_to(
    latents: torch.Tensor, sigma: torch.Tensor, latent_image: torch.Tensor, model_sampling
) -> torch.Tensor:
    """Find the noise from which the sampler starts with just these latents.

    A sampler begins with noise scaled and added to the latent image, which is affine in the noise; asking for
    it at noise 0 and 1 tells how.
    """
    start, one = (
        model_sampling.noise_scaling(sigma, fill(latents), latent_image, False)
        for fill in (torch.zeros_like, torch.ones_like)
    )
    return (latents - start) / (one - start)
