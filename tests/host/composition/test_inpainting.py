"""DEIG where a picture is there already: img2img, inpainting, differential diffusion and inpaint models."""

from functools import partial

import comfy.sd
import pytest
import torch
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests import standins
from deig_pack.tests.host.composition.helpers import (
    SMALL,
    assert_only_positives_grounded,
    differs,
    grounded_rows,
    record_calls,
    run_node,
    sample_latent,
)
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, apply, difference

from bench import random_weights

PICTURE = torch.randn(1, 4, *SMALL, generator=torch.Generator().manual_seed(9))
MASK = torch.zeros(1, 64, 64)  # of pixels: the left half is to be painted anew
MASK[:, :, :32] = 1.0
INSIDE, OUTSIDE = (..., slice(0, 4)), (..., slice(4, 8))
# Without the schedule's very last sigma, at which differential diffusion lets everything through.
inpaint = partial(sample_latent, latent=PICTURE, noise_mask=MASK, scheduler="sgm_uniform", steps=3)


def masked_latent():
    latent = run_node("nodes", "SetLatentNoiseMask", samples={"samples": PICTURE}, mask=MASK)[0]
    assert torch.equal(latent["samples"], PICTURE)
    return {"latent": latent["samples"], "noise_mask": latent["noise_mask"]}


def test_img2img(fast_model, grounded):
    result, calls = record_calls(grounded, lambda model: sample_latent(model, PICTURE, denoise=0.4))
    assert_only_positives_grounded(calls)
    # The last 40% of the schedule, and their own timesteps.
    timesteps = [call["timesteps"][0].item() for call in calls]
    assert len(timesteps) == 2 and max(timesteps) < 600
    assert torch.isfinite(result).all()
    assert differs(result, sample_latent(fast_model, PICTURE, denoise=0.4))


@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_inpainting_changes_nothing_outside(denoise, fast_model, grounded):
    sample = partial(inpaint, **masked_latent(), denoise=denoise)
    result, calls = record_calls(grounded, sample)
    assert_only_positives_grounded(calls)
    assert difference(result[OUTSIDE], PICTURE[OUTSIDE]) <= 1e-5
    assert differs(result[INSIDE], PICTURE[INSIDE])
    assert differs(result[INSIDE], sample(fast_model)[INSIDE])


def test_a_region_binds_inside_the_mask(fast_model, ground):
    """What the region says, and where it lies, tells inside the mask and nowhere else."""
    results = []
    for phrase, box in [
        ("a red mug", (0.0, 0.0, 0.4, 0.5)),
        ("a blue book", (0.0, 0.0, 0.4, 0.5)),
        ("a red mug", (0.0, 0.5, 0.4, 1.0)),
    ]:
        result, calls = record_calls(apply(fast_model, ground((Region(phrase, box),))), inpaint)
        assert all(grounded_rows(call)[call["entries"].index(0)] == (0,) for call in calls)
        results.append(result)
    mug, book, moved = results
    assert differs(mug[INSIDE], book[INSIDE]) and differs(mug[INSIDE], moved[INSIDE])
    assert difference(mug[OUTSIDE], book[OUTSIDE]) <= 1e-5
    assert difference(mug[OUTSIDE], moved[OUTSIDE]) <= 1e-5


def test_differential_diffusion(fast_model, grounded):
    def differential(model):
        return run_node("comfy_extras.nodes_differential_diffusion", "DifferentialDiffusion", model=model)[0]

    # From fully painted anew on the left, over less and less, to untouched on the right.
    soft = torch.linspace(1.0, 0.0, 8).mul(1.2).sub(0.2).clamp(0, 1).repeat_interleave(8).expand(1, 64, 64)
    sample = partial(inpaint, noise_mask=soft.clone())
    result, calls = record_calls(differential(grounded), sample)
    assert_only_positives_grounded(calls)
    assert difference(result[..., 7:], PICTURE[..., 7:]) <= 1e-5
    assert differs(result[INSIDE], sample(differential(fast_model))[INSIDE])
    assert differs(result, sample(grounded))


@pytest.fixture(scope="module")
def inpaint_model(comfy_host):
    """An inpaint checkpoint: `fast_model` with 9 input channels, and its VAE."""
    state = standins.checkpoint_state(standins.FAST)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    state[name] = random_weights.draw_weights({name: (320, 9, 3, 3)}, seed=4)[name]
    path = comfy_host.base / "models" / "checkpoints" / "inpaint.safetensors"
    random_weights.save_state(path, state)
    model, _, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(path), output_vae=True, output_clip=False)
    return model, vae


def test_an_inpaint_model_with_9_channels(inpaint_model, grounding):
    model, vae = inpaint_model
    pixels = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(10))
    positive, negative, latent = run_node(
        "nodes",
        "InpaintModelConditioning",
        positive=POSITIVE,
        negative=NEGATIVE,
        vae=vae,
        pixels=pixels,
        mask=MASK,
        noise_mask=True,
    )
    sample = partial(
        sample_latent,
        latent=latent["samples"],
        noise_mask=latent["noise_mask"],
        positive=positive,
        negative=negative,
    )
    result, calls = record_calls(apply(model, grounding), sample)
    assert {call["x"].shape[1] for call in calls} == {9}
    assert_only_positives_grounded(calls)
    assert difference(result[OUTSIDE], latent["samples"][OUTSIDE]) <= 1e-5
    assert differs(result[INSIDE], sample(model)[INSIDE])
