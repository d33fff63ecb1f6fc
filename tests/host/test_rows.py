"""What each row of one call of the model is given: its own sigma, strength, prompt and crop."""

from copy import deepcopy

import comfy.sample
import comfy.samplers
import pytest
import torch
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.host.clock import Clock
from deig_pack.nodes.host.unet import ide_dtype
from deig_pack.tests.host.test_patch import (
    NEGATIVE,
    POSITIVE,
    REGIONS,
    apply,
    calls_of,
    clip,
    difference,
    make_grounding,
    plain_objs,
    sample,
)

SIGMAS = (9.0, 2.0)  # of the two rows of a batch


def called_once(model, sigmas, batch):
    """Call the model once, each row of the batch at a sigma of its own.

    Returns:
        What it makes of them, and what comes out of the sampler, which changes nothing.
    """
    found = []

    def sampler(model, x, _, extra_args=None, **kwargs):
        found.append(model(x, torch.tensor(sigmas), **(extra_args or {})))
        return x

    noise = comfy.sample.prepare_noise(torch.zeros(batch, 4, 16, 16), 3)
    samples = comfy.sample.sample_custom(
        model,
        noise[:1].expand(batch, -1, -1, -1),
        4.0,
        comfy.samplers.KSAMPLER(sampler),
        torch.tensor([9.0, 0.0]),
        POSITIVE,
        NEGATIVE,
        torch.zeros(batch, 4, 16, 16),
        disable_pbar=True,
        seed=0,
    )
    return found[0], samples


def denoised_once(model, sigmas, batch):
    return called_once(model, sigmas, batch)[0]


def test_rows_of_other_sigmas_have_tokens_and_strengths_of_their_own(fast_model, fast_adapter_state):
    patched = apply(fast_model, make_grounding(fast_adapter_state), decay_percent=1.0)
    with calls_of(patched) as calls:
        together = denoised_once(patched, SIGMAS, 2)
    (call,) = calls
    groups = [group for group in call["grounding"].groups if group.chosen]
    timesteps = call["timesteps"].reshape(2, 2)[call["entries"].index(0)]
    assert timesteps[0] > timesteps[1] + 100 and len(groups) == 2
    for group, timestep in zip(groups, timesteps, strict=True):
        assert difference(group.objs, plain_objs(fast_adapter_state, REGIONS, timestep)) <= 1e-5
    assert groups[0].strength > groups[1].strength + 0.1 > 0.1
    for row, sigma in enumerate(SIGMAS):
        assert difference(together[row], denoised_once(patched, (sigma,), 1)[0]) <= 1e-4


def test_a_decay_alone_falls_to_the_schedules_end(fast_model, fast_adapter_state):
    """Nothing begins late or ends early, and still it matters how far the schedule is."""
    patched = apply(fast_model, make_grounding(fast_adapter_state), decay_percent=0.5)
    with calls_of(patched) as calls:
        sample(patched, steps=8, cfg=1.0)
    strengths = [call["grounding"].groups[0].strength for call in calls]
    assert strengths[0] == 1.0 and strengths == sorted(strengths, reverse=True) and strengths[-1] < 0.5


def test_a_region_outside_its_time_leaves_no_token_and_no_place(fast_model, fast_adapter_state):
    """Sampled to where only the late region acts, the model computes what it does with that region alone."""
    early = Region("a red mug", (0, 0, 0.6, 1), end_percent=0.4)
    late = Region("a green lamp", (0.4, 0, 1, 1), start_percent=0.4)
    both, alone = (
        apply(fast_model, make_grounding(fast_adapter_state, regions)) for regions in ((early, late), (late,))
    )
    for sigma, is_late in ((9.0, False), (0.3, True)):
        outs = [denoised_once(model, (sigma,), 1) for model in (both, alone)]
        assert (difference(*outs) <= 1e-5) == is_late


def tiles_of(patched, cut):
    """Let a wrapper run the model on parts of the picture that it cuts, and say nothing of where they lie."""

    def tiled(apply_model, args):
        parts = cut(args["input"])
        return torch.cat([apply_model(part, args["timestep"], **args["c"]) for part in parts], dim=-1)

    patched.set_model_unet_function_wrapper(tiled)


@pytest.mark.parametrize("tiled", [False, True])
def test_a_crop_has_a_size_of_its_own(fast_model, fast_adapter_state, caplog, tiled):
    """An area's crop is no tile; a tile of an area's crop is one."""
    patched = apply(fast_model, make_grounding(fast_adapter_state))
    if tiled:
        tiles_of(patched, lambda x: x.chunk(2, dim=-1) if x.shape[-1] == 8 else (x,))
    area = (16, 8, 0, 8)  # height, width, y, x in cells: the right half
    sample(patched, clip(1, area=area, strength=1.0) + clip(3), NEGATIVE)
    warned = [record.message for record in caplog.records if "tiles" in record.message]
    assert len(warned) == tiled
    if tiled:
        assert "4x16 instead of 8x16" in warned[0]


def test_a_point_of_the_schedule_is_found_again(fast_model):
    """What begins at a point begins at its sigma, not a step later."""
    sampling = fast_model.get_model_object("model_sampling")
    for point in (0.0, 0.25, 0.5, 0.75):
        assert point <= Clock(sampling).percent(float(sampling.percent_to_sigma(point))) < point + 1e-6


def test_points_are_those_of_the_sampling_that_a_node_put_in(fast_model, fast_adapter_state):
    model = fast_model.clone()
    sampling = deepcopy(model.get_model_object("model_sampling"))
    sampling.set_sigmas(sampling.sigmas * 20)
    model.add_object_patch("model_sampling", sampling)
    patched = apply(model, make_grounding(fast_adapter_state), end_percent=0.5)
    with calls_of(patched) as calls:
        sample(patched, steps=6)
    half = float(sampling.percent_to_sigma(0.5))
    acts = [call["grounding"] is not None for call in calls]
    assert acts == [float(sampling.sigma(call["timesteps"][0])) > half for call in calls]
    assert any(acts) and not all(acts)


class Typed:
    """A model's types, as `ide_dtype` asks for them."""

    def __init__(self, dtype, manual_cast_dtype=None):
        self.manual_cast_dtype, self._dtype = manual_cast_dtype, dtype

    def get_dtype(self):
        return self._dtype


@pytest.mark.parametrize(
    "stored, computed, expected",
    [
        (torch.float16, None, torch.float32),
        (torch.float32, None, torch.float32),
        (torch.bfloat16, None, torch.bfloat16),
        (torch.float16, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.float32),
    ],
)
def test_the_ide_is_never_computed_in_float16(stored, computed, expected):
    assert ide_dtype(Typed(stored, computed)) == expected
