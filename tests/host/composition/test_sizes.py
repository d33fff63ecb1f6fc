"""The same regions at other sizes: hires fix, and pictures that are not square or not multiples of 64."""

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.tests.core.oracle import dense_places
from deig_pack.tests.host.composition.helpers import (
    SMALL,
    TWO,
    assert_only_positives_grounded,
    differs,
    grounded_rows,
    record_calls,
    run_node,
    sample_latent,
    small_sample,
)

BOXES = torch.tensor([region.box for region in TWO])


def assert_right_at(call, size):
    """The positive's places are those of the boxes drawn plainly at every grid of an SD1.x UNet."""
    row = grounded_rows(call).index((0, 1))
    placement = call["grounding"].groups[row].placement
    assert torch.equal(placement.boxes, BOXES)
    grid = size
    for _ in range(4):
        places = placement.bias((0, 1), grid, call["x"]).isfinite().reshape(2, *grid)
        expected = [torch.as_tensor(dense_places(region.box, size, grid)) for region in TWO]
        assert torch.equal(places, torch.stack(expected))
        grid = tuple(-(-cells // 2) for cells in grid)


def upscaled_to_9_by_14(latent):
    return run_node(
        "nodes",
        "LatentUpscale",
        samples={"samples": latent},
        upscale_method="nearest-exact",
        width=112,
        height=72,
        crop="disabled",
    )[0]["samples"]


def test_hires_fix(fast_model, grounded):
    """A second pass at another size and aspect ratio, from the latent of the first, with the same regions."""
    first, calls = record_calls(grounded, small_sample)
    assert_right_at(calls[-1], SMALL)
    upscaled = upscaled_to_9_by_14(first)
    assert upscaled.shape[-2:] == (9, 14)
    second, calls = record_calls(grounded, lambda model: sample_latent(model, upscaled, denoise=0.5))
    assert_only_positives_grounded(calls)
    for call in calls:
        assert call["x"].shape[-2:] == (9, 14)
        assert_right_at(call, (9, 14))
    assert torch.isfinite(second).all()
    assert differs(second, sample_latent(fast_model, upscaled, denoise=0.5))


@pytest.mark.parametrize("width, height", [(384, 768), (1024, 512), (520, 776)])
def test_places_at_large_sizes(width, height, grounded):
    """At full size; the UNet itself, which would take minutes here, is left out and predicts nothing."""
    size = (height // 8, width // 8)
    model = grounded.clone()
    calls = []

    def predict_nothing(executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        entries = list(transformer_options["cond_or_uncond"])
        calls.append({"x": x, "entries": entries, "grounding": transformer_options["deig"].grounding})
        return torch.zeros_like(x)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "nothing", predict_nothing)
    small_sample(model, size=size, steps=1)
    assert [call["x"].shape[-2:] for call in calls] == [size]
    assert_right_at(calls[0], size)


@pytest.mark.parametrize("size", [(12, 6), (4, 8), (9, 7)], ids=["384x768", "1024x512", "odd"])
def test_small_pictures_of_these_shapes(size, fast_model, grounded):
    """The same aspect ratios, small, through the whole UNet."""
    result, calls = record_calls(grounded, lambda model: small_sample(model, size=size))
    assert result.shape[-2:] == size and torch.isfinite(result).all()
    assert {grid for call in calls for grid in call["grounding"]._at_grid} == {
        size,
        tuple(-(-cells // 2) for cells in size),
    }
    assert differs(result, small_sample(fast_model, size=size))
