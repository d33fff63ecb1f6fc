"""What the composition tests share: the host's nodes, a sampler with all its inputs, and what a call grounded."""

import importlib

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, REGIONS, calls_of, difference, sample

TWO = REGIONS[:2]
SMALL = (8, 8)  # a latent of 64x64 pixels


def run_node(module: str, name: str, **inputs) -> tuple:
    """Run a node of the host as its executor does, whether it is written for the old or the new schema."""
    node = getattr(importlib.import_module(module), name)
    if hasattr(node, "define_schema"):
        out = node.execute(**inputs)
        return getattr(out, "result", out)
    return getattr(node(), node.FUNCTION)(**inputs)


def small_sample(model, positive=POSITIVE, negative=NEGATIVE, **options):
    """Sample two steps of a small latent; see `sample`."""
    return sample(model, positive, negative, **{"size": SMALL, **options})


def sample_latent(model, latent, positive=POSITIVE, negative=NEGATIVE, **options):
    """Sample from a given latent, with all inputs of the host's own samplers.

    Args:
        latent: (B, 4, h, w).
        options: noise, steps, cfg, sampler, scheduler, seed, and what else `comfy.sample.sample` takes.
    """
    seed = options.pop("seed", 0)
    noise = options.pop("noise", None)
    return comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(latent, seed) if noise is None else noise,
        options.pop("steps", 2),
        options.pop("cfg", 5.0),
        options.pop("sampler", "euler"),
        options.pop("scheduler", "normal"),
        positive,
        negative,
        latent,
        seed=seed,
        disable_pbar=True,
        **options,
    )


def sample_guider(guider, steps=2, size=SMALL):
    """Sample with a guider, as SamplerCustomAdvanced does."""
    latent = torch.zeros(1, 4, *size)
    sampling = guider.model_patcher.get_model_object("model_sampling")
    return guider.sample(
        comfy.sample.prepare_noise(latent, 0),
        latent,
        comfy.samplers.sampler_object("euler"),
        comfy.samplers.calculate_sigmas(sampling, "normal", steps),
        disable_pbar=True,
        seed=0,
    )


def grounded_rows(call) -> list[tuple[int, ...]]:
    """The regions that each entry of a model call has, in the order of the batch's chunks."""
    if call["grounding"] is None:
        return [()] * len(call["entries"])
    return [group.chosen for group in call["grounding"].groups]


def boxes_of(group) -> torch.Tensor:
    """The boxes (n, 4) that an entry's regions have on its picture or crop, with either adapter."""
    placement = getattr(group, "placement", None)
    return group.boxes if placement is None else placement.boxes[list(group.chosen)]


def assert_only_positives_grounded(calls, positives=(POSITIVE,), regions=TWO):
    """Where a call's text is a positive's, the rows have all regions; elsewhere the fusers have none.

    The text tells them apart, because the host's own numbers of entries mean different things in different
    guiders. Positives and negatives must both occur.
    """
    everything = tuple(range(len(regions)))
    kinds = set()
    for call in calls:
        assert call["grounding"] is not None
        chunk = len(call["x"]) // len(call["entries"])
        for context, chosen in zip(call["context"][::chunk], grounded_rows(call), strict=True):
            is_positive = any(torch.equal(context, text[0][0][0]) for text in positives)
            assert chosen == (everything if is_positive else ())
            kinds.add(is_positive)
    assert kinds == {True, False}


def record_calls(model, run):
    """Return what `run` gives for a clone of the model, and the model calls that it made."""
    spied = model.clone()
    with calls_of(spied) as calls:
        result = run(spied)
    return result, calls


def differs(a, b) -> bool:
    """Whether two results differ by far more than rounding."""
    return difference(a, b) > 1e-3


def count_fuser_runs(adapter) -> tuple[list, list]:
    """Count the runs of an adapter's fusers until the hooks returned are removed: (runs, hooks)."""
    runs, hooks = [], []
    for fuser in adapter.fusers.values():
        hooks.append(fuser.register_forward_hook(lambda *_: runs.append(1)))
    return runs, hooks


def seeded(function, *args, **options):
    """Run something that draws from torch's global generator, always the same draws."""
    torch.manual_seed(0)
    return function(*args, **options)
