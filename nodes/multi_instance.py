"""InstanceDiffusion's Multi-instance Sampler: instances are denoised apart for a while, then together.

Its own file beside host/unet.py: it splits a run of the host's sampler in two and never looks into the model.
"""

import inspect
from collections.abc import Iterator

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io
from einops import repeat

from ..deig_core.fusion.merging import merge_latents
from .host.unet import COND, KEY, WHOLE, GroundedCond, Run
from .types import CATEGORY

APART = "DEIG multi-instance sampling"


class MultiInstanceSampling(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_MultiInstanceSampling",
            display_name="DEIG Multi-Instance Sampling",
            category=CATEGORY,
            description="Denoises every instance by itself for the first steps, beside the whole picture, then makes "
            "one picture of them and goes on. Instances mix less. It takes longer: for N instances N x percent "
            "of the steps come on top.",
            inputs=[
                io.Model.Input("model", tooltip="From 'DEIG Apply to Model'."),
                io.Float.Input(
                    "percent",
                    default=0.36,
                    min=0.0,
                    max=0.6,
                    step=0.01,
                    round=0.0001,
                    tooltip="For how much of the steps instances are denoised apart. 0: not at all, as if this node "
                    "were not there; 0.36: as published; more: they mix less, and fit together less. Costs N x percent "
                    "more time for N instances.",
                ),
                io.Combo.Input(
                    "merge",
                    options=["average", "place"],
                    default="average",
                    tooltip="How the latents become one. average: the mean of all of them everywhere, as published. "
                    "place: the mean of its own and the whole's inside an instance's place, and the whole's elsewhere, "
                    "which keeps the background sharper.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="patched",
                    display_name="model",
                    tooltip="The model, for a sampler. The one that came in is unchanged.",
                )
            ],
        )

    @classmethod
    def execute(cls, model, percent, merge):
        if not model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
            raise ValueError(
                "This model has no DEIG, so there are no instances to denoise apart. Connect the MODEL output of "
                "'DEIG Apply to Model' here."
            )
        patched = model.clone()
        patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, APART)  # a second one replaces the first
        if percent > 0:
            patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, APART, _sampler(percent, merge))
        return io.NodeOutput(patched)


def _sampler(percent: float, merge: str):
    """Return a SAMPLER_SAMPLE wrapper that samples apart first."""

    def sample(executor, guider, sigmas, extra_args, callback, noise, latent, mask=None, *args, **kwargs):
        steps = len(sigmas) - 1
        apart = min(round(percent * steps), steps - 1)
        run = _run_of(guider)
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
        places = run.placement(None).cells[list(instances)].to(whole) if merge == "place" else None
        merged = merge_latents(whole, alone, places)
        noise = _noise_that_leads_to(merged, sigmas[apart], latent, run.model_sampling)
        # Another seed, or samplers that add noise would add the first steps' once more.
        extra_args = {**extra_args, "seed": None if (seed := extra_args.get("seed")) is None else seed + 1}
        together = _progress(callback, len(batches) * apart, total, len(noise))
        return executor(guider, sigmas[apart:], extra_args, together, noise, latent, mask, *args, **kwargs)

    return sample


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
        and guider.inner_model.memory_required([2 * size * len(noise), *noise.shape[1:]]) * 1.5 > free
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


NODES = [MultiInstanceSampling]
