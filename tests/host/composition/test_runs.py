"""DEIG from run to run: branches of one model, interruption and compiled models."""

import comfy.model_management
import comfy.utils
import pytest
import torch
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests.host.composition.helpers import (
    SMALL,
    assert_only_positives_grounded,
    differs,
    record_calls,
    run_node,
    small_sample,
)
from deig_pack.tests.host.test_patch import apply, difference


def test_two_branches_from_one_model(fast_model, grounded, plain_result, grounded_result):
    """The branch without DEIG is untouched, in turns with the other and after both were freed and reloaded."""
    for _ in range(2):
        assert torch.equal(small_sample(fast_model), plain_result)
        assert difference(small_sample(grounded), grounded_result) <= 1e-6
        comfy.model_management.unload_all_models()
        assert not comfy.model_management.loaded_models()
    assert differs(grounded_result, plain_result)


def test_a_clone_of_a_patched_model(grounded, grounded_result):
    result, calls = record_calls(grounded.clone().clone(), small_sample)
    assert_only_positives_grounded(calls)
    assert difference(result, grounded_result) <= 1e-6


def ksampler(model, prompts, steps=3):
    """The host's KSampler node."""
    positive, negative = prompts
    return run_node(
        "nodes",
        "KSampler",
        model=model,
        seed=1,
        steps=steps,
        cfg=5.0,
        sampler_name="euler",
        scheduler="normal",
        positive=positive,
        negative=negative,
        latent_image={"samples": torch.zeros(1, 4, *SMALL)},
        denoise=1.0,
    )[0]["samples"]


def test_interrupted_in_mid_sampling(fast_model, grounded, grounding, prompts, plain_result, monkeypatch):
    """The user's click falls into the second call of the model, between two blocks."""
    whole = ksampler(grounded, prompts)

    def stop_as_the_server_does(value, total, preview, **_):
        comfy.model_management.throw_exception_if_processing_interrupted()

    runs = []

    def click(*_):
        runs.append(1)
        if len(runs) == len(grounding.adapter.fusers) + 2:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", stop_as_the_server_does)
    hooks = [fuser.register_forward_hook(click) for fuser in grounding.adapter.fusers.values()]
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            ksampler(grounded, prompts)
    finally:
        for hook in hooks:
            hook.remove()
        comfy.model_management.interrupt_current_processing(False)
    assert torch.equal(ksampler(grounded, prompts), whole)
    assert torch.equal(small_sample(fast_model), plain_result)


@pytest.mark.parametrize(
    "schedule",
    [{"start_percent": 0.4}, {"end_percent": 0.9, "decay_percent": 0.9}],
    ids=["beginning in mid-sampling", "fading"],
)
def test_torch_compile(schedule, fast_model, grounding):
    """A compiled model meets calls with DEIG and without, and other strengths and batches than at first."""
    grounded = apply(fast_model, grounding, **schedule)
    compiled = run_node(
        "comfy_extras.nodes_torch_compile", "TorchCompileModel", model=grounded, backend="eager"
    )[0]
    torch._dynamo.reset()
    for options in ({"steps": 3}, {"steps": 3, "cfg": 1.0}):
        result = small_sample(compiled, **options)
        assert difference(result, small_sample(grounded, **options)) <= 1e-4
        assert differs(result, small_sample(fast_model, **options))


def test_torch_compile_with_other_regions(fast_model, ground, grounding):
    """Regions that come and go at times of their own, after a first run with others."""
    early = Region("a red mug", (0, 0, 0.5, 1), end_percent=0.5)
    late = Region("a green lamp", (0.5, 0, 1, 1), start_percent=0.5)
    torch._dynamo.reset()
    for own in (grounding, ground((early, late))):
        grounded = apply(fast_model, own)
        compiled = run_node(
            "comfy_extras.nodes_torch_compile", "TorchCompileModel", model=grounded, backend="eager"
        )[0]
        assert difference(small_sample(compiled, steps=4), small_sample(grounded, steps=4)) <= 1e-4
