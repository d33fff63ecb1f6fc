"""What DEIG composes with, InstanceDiffusion composes with too: the same tests, where they make sense.

They do not where T5 prompts or DEIG's places in attention are looked at.
"""

import pytest
import torch
from deig_pack.tests.host.composition.helpers import (
    assert_only_positives_grounded,
    differs,
    record_calls,
    small_sample,
)
from deig_pack.tests.host.composition.test_areas import (  # noqa: F401
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
    controlnet,
    test_ip_adapters_kind_of_patch,
    with_control,
)
from deig_pack.tests.host.composition.test_inpainting import (  # noqa: F401
    test_differential_diffusion,
    test_img2img,
    test_inpainting_changes_nothing_outside,
)
from deig_pack.tests.host.composition.test_model_patches import (  # noqa: F401
    test_both_effects_are_there,
    test_guiders_with_three_conditionings,
    test_pag_perturbs_the_grounded_positive,
    test_sag_blurs_and_repeats_the_negative_without_instances,
    test_the_old_perp_neg_node,
)
from deig_pack.tests.host.composition.test_runs import (  # noqa: F401
    test_a_clone_of_a_patched_model,
    test_torch_compile,
    test_two_branches_from_one_model,
)
from deig_pack.tests.host.composition.test_sizes import test_small_pictures_of_these_shapes  # noqa: F401
from deig_pack.tests.host.composition.test_weights import (  # noqa: F401
    lora,
    merged_model,
    merged_result,
    other_model,
    test_a_merged_model_keeps_deig,
    test_lora_on_the_model,
)
from deig_pack.tests.host.test_patch import difference


def test_controlnet_both_effects_are_there(fast_model, grounded, grounded_result, controlnet):  # noqa: F811
    """What it adds goes through ScaleU, as the rest of the skip connection does."""
    conds = with_control(controlnet, strength=0.5)
    both, calls = record_calls(grounded, lambda model: small_sample(model, *conds))
    assert_only_positives_grounded(calls)
    assert differs(both, grounded_result) and differs(both, small_sample(fast_model, *conds))


def test_positive_and_negative_in_separate_calls(grounded, monkeypatch):
    together, _ = record_calls(grounded, small_sample)
    monkeypatch.setattr(type(grounded.model), "memory_required", lambda self, shape, **_: shape[0] * 1e20)
    apart, calls = record_calls(grounded, small_sample)
    assert {len(call["entries"]) for call in calls} == {1}
    assert_only_positives_grounded(calls)
    assert difference(apart, together) <= 1e-4


@pytest.mark.parametrize("sampler", ["ipndm", "euler_ancestral", "dpmpp_2m_sde"])
@pytest.mark.parametrize("scheduler", ["ddim_uniform", "karras"])
def test_samplers_and_schedules(sampler, scheduler, grounded):
    result = small_sample(grounded, sampler_name=sampler, scheduler=scheduler, denoise=0.8)
    assert torch.isfinite(result).all()
