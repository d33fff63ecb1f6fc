"""The host's own FLUX.1 and Qwen-Image with EliGen against numbers by the reference implementation."""

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.eligen.entities import Entities
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.host.clock import Clock
from deig_pack.nodes.host.transformers import EntitiesCond, Run, patch_model
from deig_pack.tests.core.eligen.test_places import GOLDEN, NAMES, mask_region, read_golden
from deig_pack.tests.host.eligen.helpers import (
    FAMILIES,
    OVERLAPPING,
    calls_of,
    dense_call,
    oracle_places,
)
from deig_pack.tests.host.eligen.models import host_model

# Of the result's size. The host's plain FLUX.1 lies 7e-6 (root mean square) from the reference without us.
TOLERANCE, LARGEST = 1e-5, 2e-5


def regions_of(golden) -> tuple[Region, ...]:
    return tuple(mask_region(image / 255) for image in golden["mask_images"])


def call_model(model, golden, prompt, texts=None, latents="latents", pooled="pooled", reference=None):
    """Call the diffusion model as `apply_model` does, for one row, at the golden's timestep."""
    base = model.model
    x = golden[latents]
    is_flux = "guidance" in golden
    kwargs = {}
    if is_flux:
        kwargs = {"y": golden[pooled], "guidance": golden["guidance"]}
    else:
        x = x[:, :, None]
        if reference is not None:
            kwargs["ref_latents"] = [golden[reference][:, :, None]]
    if texts is not None:
        regions = regions_of(golden)[: len(texts)]
        run = Run(tuple(x.shape[-2:]), Clock(base.model_sampling))
        kwargs["eligen"] = [EntitiesCond(run, Entities(regions, tuple(texts)))]
    outputs = []

    def spy(executor, *args, **options):
        outputs.append(executor(*args, **options))
        return outputs[-1]

    spied = model.clone()
    spied.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "spy", spy)
    options = {"wrappers": {kind: {**by_key} for kind, by_key in spied.wrappers.items()}}
    sigma = golden["timestep"] / (1000 if golden["timestep"].max() > 1 else 1)
    with torch.no_grad():
        base.apply_model(x, sigma, c_crossattn=golden[prompt], transformer_options=options, **kwargs)
    return outputs[0] if is_flux else outputs[0][:, :, 0]


def difference(out, expected):
    """Return the root mean square of the difference, and the largest, relative to the result's."""
    away = out - expected
    return (away.norm() / expected.norm()).item(), (away.abs().max() / expected.abs().max()).item()


def width_of(metadata):
    return metadata["size"]["dim"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name):
    golden, metadata = read_golden(name)
    family = metadata["size"]["family"]
    model = patch_model(host_model(family, width_of(metadata)))
    out = "out_" if family == "flux" else "out_tanh_"
    texts = [golden["entity_0"], golden["entity_1"]]
    cases = {
        "with": {"prompt": "prompt", "texts": texts},
        "without": {"prompt": "prompt"},
        "only_0": {"prompt": "prompt", "texts": texts[:1]},
        "with_b": {"prompt": "prompt", "texts": texts, "latents": "latents_b"},
        "negative_without": {"prompt": "negative", "pooled": "negative_pooled"},
        "negative_with": {
            "prompt": "negative",
            "pooled": "negative_pooled",
            "texts": [golden["negative"]] * 2,
        },
        "edit_without": {"prompt": "prompt", "reference": "latents_b"},
        "edit_with": {"prompt": "prompt", "texts": texts, "reference": "latents_b"},
    }
    compared = 0
    for case, given in cases.items():
        if out + case not in golden:
            continue
        compared += 1
        measured = difference(call_model(model, golden, **given), golden[out + case])
        assert measured[0] <= TOLERANCE and measured[1] <= LARGEST, (case, measured)
    assert compared >= 6


@pytest.mark.parametrize("name", NAMES)
def test_the_goldens_tell_regions_apart(name):
    """Without entities, or with one of two, the result lies far outside the tolerance."""
    golden, metadata = read_golden(name)
    out = "out_" if metadata["size"]["family"] == "flux" else "out_tanh_"
    assert difference(golden[out + "with"], golden[out + "without"])[0] > 1e-2
    assert difference(golden[out + "with"], golden[out + "only_0"])[0] > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_full_width_equals_dense_recomputation(family):
    """Cases without a golden: three overlapping, one thinner than a token, a picture that is not square."""
    generator = torch.Generator().manual_seed(6)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    model = patch_model(host_model(family, 3072))
    size, thin = (12, 24), Region("a thin line", (0.1, 1 / 96, 0.9, 2 / 96))
    width = 4096 if family == "flux" else 3584
    texts = [random(1, tokens, width) for tokens in (7, 12, 5, 9)]
    run = Run(size, Clock(model.model.model_sampling))
    kwargs = {"eligen": [EntitiesCond(run, Entities((*OVERLAPPING, thin), tuple(texts)))]}
    if family == "flux":
        kwargs |= {"y": random(1, 768), "guidance": torch.tensor([3.5])}
    x = random(1, 16, *(() if family == "flux" else (1,)), *size)
    with calls_of(model) as calls, torch.no_grad():
        options = {"wrappers": {kind: {**by_key} for kind, by_key in model.wrappers.items()}}
        options["cond_or_uncond"] = [0]
        model.model.apply_model(
            x, torch.tensor([0.6]), c_crossattn=random(1, 11, width), transformer_options=options, **kwargs
        )
    places = oracle_places((*OVERLAPPING, thin), size)
    assert not places[3].any()
    places[3, 1:11] = True  # the first row of tokens, from a tenth of the picture's width to nine tenths
    expected = dense_call(model, calls[0], texts, places)
    assert difference(calls[0]["out"], expected)[1] <= 1e-4
    assert difference(dense_call(model, calls[0], texts, places.roll(1, 1)), expected)[1] > 1e-3


def test_there_are_goldens_of_both_families():
    assert {name.split("_")[0] for name in NAMES} == {"flux", "qwen"} and GOLDEN.is_dir()
