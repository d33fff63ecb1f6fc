"""What DEIG composes with, InstanceDiffusion composes with too: the same tests, where they make sense.

They do not where T5 prompts, tokens for each timestep or DEIG's places in attention are looked at.
"""

import comfy.samplers
import comfy.sd
import pytest
import torch
from deig_pack.nodes.host.clip import read_phrases
from deig_pack.tests import standins
from deig_pack.tests.host.composition.helpers import (
    TWO,
    assert_only_positives_grounded,
    boxes_of,
    differs,
    grounded_rows,
    record_calls,
    sample_latent,
    small_sample,
)
from deig_pack.tests.host.composition.test_areas import (  # noqa: F401
    test_a_crop_sees_the_regions_where_they_were_drawn,
    test_a_mask_keeps_the_whole_picture,
    test_an_area_and_a_second_size,
    test_averaged_conditionings_are_grounded_once,
    test_combined_conditionings_have_the_regions_each,
    test_concatenated_conditionings_keep_all_their_text,
    test_the_negative_made_for_an_area_has_no_instances,
    test_timestep_ranges_are_each_grounded,
)
from deig_pack.tests.host.composition.test_batches import (  # noqa: F401
    test_a_batch_of_four_is_four_pictures,
    test_cfg_1_is_the_positive_alone,
)
from deig_pack.tests.host.composition.test_control import (  # noqa: F401
    ONE_LEVEL,
    controlnet,
    gligen,
    one_level_model,
    t2i_adapter,
    test_gligen_warns_and_both_run,
    test_ip_adapters_kind_of_patch,
    test_t2i_adapter_adds_what_it_computed,
    test_without_gligen_no_warning,
    with_control,
)
from deig_pack.tests.host.composition.test_inpainting import (  # noqa: F401
    inpaint_model,
    test_a_region_binds_inside_the_mask,
    test_an_inpaint_model_with_9_channels,
    test_differential_diffusion,
    test_img2img,
    test_inpainting_changes_nothing_outside,
)
from deig_pack.tests.host.composition.test_model_patches import (  # noqa: F401
    test_both_effects_are_there,
    test_deep_shrink_moves_the_places_to_its_grid,
    test_freeu_keeps_its_effect,
    test_guiders_with_three_conditionings,
    test_pag_perturbs_the_grounded_positive,
    test_sag_blurs_and_repeats_the_negative_without_instances,
    test_the_old_perp_neg_node,
    wide_model,
    widened,
)
from deig_pack.tests.host.composition.test_regional import (  # noqa: F401
    test_a_masked_picture_and_deig_both_act,
    test_an_empty_mask_is_the_model_without_the_picture,
    test_each_region_has_its_own_picture,
)
from deig_pack.tests.host.composition.test_runs import (  # noqa: F401
    test_a_clone_of_a_patched_model,
    test_interrupted_in_mid_sampling,
    test_torch_compile,
    test_torch_compile_with_other_regions,
    test_two_branches_from_one_model,
)
from deig_pack.tests.host.composition.test_samplers import LATENT, TINIEST
from deig_pack.tests.host.composition.test_sizes import (  # noqa: F401
    BOXES,
    test_small_pictures_of_these_shapes,
    upscaled_to_9_by_14,
)
from deig_pack.tests.host.composition.test_weights import (  # noqa: F401
    STRENGTH,
    clip_lora,
    clip_path,
    load_clip,
    lora,
    merged_clip,
    merged_model,
    merged_result,
    other_model,
    test_a_hook_on_the_positive_alone,
    test_a_merged_model_keeps_deig,
    test_lora_hooks_with_keyframes,
    test_lora_on_model_and_clip,
    test_lora_on_the_model,
    test_the_saved_model_is_the_plain_one,
)
from deig_pack.tests.host.conftest import load_model
from deig_pack.tests.host.instance_diffusion.helpers import make_grounding
from deig_pack.tests.host.test_patch import apply, difference

from bench import random_weights


@pytest.fixture(scope="module")
def one_level_grounding():
    return make_grounding(standins.instance_diffusion_state(ONE_LEVEL), TWO)


@pytest.fixture(scope="module")
def wide_grounding(wide_model):  # noqa: F811
    """The two regions for `wide_model`, with ScaleU as wide as what enters each block of its decoder."""
    state = standins.instance_diffusion_state(standins.FAST)
    shapes = widened({name: tuple(tensor.shape) for name, tensor in state.items()}, wide_model)
    shapes |= {f"scaleu_b_{block}": (width,) for block, width in enumerate((640, 640, 640, 320))}
    return make_grounding(random_weights.draw_weights(shapes, seed=10), TWO)


def test_controlnet_both_effects_are_there(fast_model, grounded, grounded_result, controlnet):  # noqa: F811
    """What it adds goes through ScaleU, as the rest of the skip connection does."""
    conds = with_control(controlnet, strength=0.5)
    both, calls = record_calls(grounded, lambda model: small_sample(model, *conds))
    assert_only_positives_grounded(calls)
    assert differs(both, grounded_result) and differs(both, small_sample(fast_model, *conds))


def test_lora_on_clip_reads_the_phrases(clip_lora, clip_path):  # noqa: F811
    """The phrases are read by the same CLIP as the prompt, and with its LoRAs."""
    phrases = tuple(region.phrase for region in TWO)
    clip = load_clip(clip_path)
    plain = read_phrases(clip, phrases)
    with_lora = read_phrases(comfy.sd.load_lora_for_models(None, clip, clip_lora, 0.0, STRENGTH)[1], phrases)
    merged = read_phrases(merged_clip(clip_path, clip_lora), phrases)
    for part in ("pooled", "contexts"):
        own, expected, without = (getattr(read, part) for read in (with_lora, merged, plain))
        assert difference(own, expected) <= 2e-3  # the file's weights are float16
        assert difference(expected, without) > 1e-2


def test_positive_and_negative_in_separate_calls(grounded, monkeypatch):
    together, _ = record_calls(grounded, small_sample)
    monkeypatch.setattr(type(grounded.model), "memory_required", lambda self, shape, **_: shape[0] * 1e20)
    apart, calls = record_calls(grounded, small_sample)
    assert {len(call["entries"]) for call in calls} == {1}
    assert_only_positives_grounded(calls)
    assert difference(apart, together) <= 1e-4


def test_hires_fix(fast_model, grounded):
    """A second pass at another size and aspect ratio is told the same places."""
    upscaled = upscaled_to_9_by_14(small_sample(grounded))
    second, calls = record_calls(grounded, lambda model: sample_latent(model, upscaled, denoise=0.5))
    assert_only_positives_grounded(calls)
    for call in calls:
        assert call["x"].shape[-2:] == (9, 14)
        assert torch.equal(boxes_of(call["grounding"].groups[grounded_rows(call).index((0, 1))]), BOXES)
    assert torch.isfinite(second).all()
    assert differs(second, sample_latent(fast_model, upscaled, denoise=0.5))


def test_samplers_and_schedules(comfy_host):
    """Every sampler, and every scheduler; the tokens are the same at every timestep."""
    path = comfy_host.base / "models" / "checkpoints" / "tiniest.safetensors"
    plain = load_model(random_weights.save_state(path, standins.checkpoint_state(TINIEST)))
    grounded = apply(plain, make_grounding(standins.instance_diffusion_state(TINIEST), TWO))
    pairs = [(sampler, "karras") for sampler in comfy.samplers.SAMPLER_NAMES]
    pairs += [("euler", scheduler) for scheduler in comfy.samplers.SCHEDULER_NAMES]
    for sampler, scheduler in pairs:
        options = {"sampler": sampler, "scheduler": scheduler, "steps": 3, "denoise": 0.8}
        assert torch.isfinite(sample_latent(grounded, LATENT, **options)).all(), (sampler, scheduler)
