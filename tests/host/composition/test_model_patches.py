"""DEIG with the host's nodes that patch a model or guide differently: each keeps its effect, and so does DEIG."""

from functools import partial

import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
import comfy.sd
import pytest
import torch
from deig_pack.tests import standins
from deig_pack.tests.host.composition.helpers import (
    TWO,
    assert_only_positives_grounded,
    differs,
    grounded_rows,
    record_calls,
    run_node,
    sample_guider,
    seeded,
    small_sample,
)
from deig_pack.tests.host.test_patch import (
    NEGATIVE,
    POSITIVE,
    apply,
    clip,
    difference,
    make_grounding,
    plain_objs,
)

from bench import random_weights

PATCHES = {
    "SAG": ("nodes_sag", "SelfAttentionGuidance", {"scale": 0.8, "blur_sigma": 2.0}),
    "PAG": ("nodes_pag", "PerturbedAttentionGuidance", {"scale": 3.0}),
    "HyperTile": (
        "nodes_hypertile",
        "HyperTile",
        {"tile_size": 32, "swap_size": 1, "max_depth": 0, "scale_depth": False},
    ),
    "ToMe": ("nodes_tomesd", "TomePatchModel", {"ratio": 0.5}),
    "deep shrink": (
        "nodes_model_downscale",
        "PatchModelAddDownscale",
        {
            "block_number": 1,
            "downscale_factor": 2.0,
            "start_percent": 0.0,
            "end_percent": 1.0,
            "downscale_after_skip": True,
            "downscale_method": "bicubic",
            "upscale_method": "bicubic",
        },
    ),
    "RescaleCFG": ("nodes_model_advanced", "RescaleCFG", {"multiplier": 0.7}),
    "v-prediction": (
        "nodes_model_advanced",
        "ModelSamplingDiscrete",
        {"sampling": "v_prediction", "zsnr": False},
    ),
    "LCM": ("nodes_model_advanced", "ModelSamplingDiscrete", {"sampling": "lcm", "zsnr": False}),
}


def patch_with(name, model):
    module, node, inputs = PATCHES[name]
    return run_node(f"comfy_extras.{module}", node, model=model, **inputs)[0]


@pytest.mark.parametrize("name", PATCHES)
def test_both_effects_are_there(name, fast_model, grounded, grounding, grounded_result):
    both, calls = record_calls(patch_with(name, grounded), partial(seeded, small_sample))
    assert torch.isfinite(both).all()
    assert differs(both, grounded_result)
    assert differs(both, seeded(small_sample, patch_with(name, fast_model)))
    assert_only_positives_grounded(calls)
    # In whichever order the nodes stand.
    assert difference(seeded(small_sample, apply(patch_with(name, fast_model), grounding)), both) <= 1e-5


def test_sag_blurs_and_repeats_the_negative_without_instances(grounded):
    _, calls = record_calls(patch_with("SAG", grounded), small_sample)
    repeats = [call for call in calls if len(call["entries"]) == 1]
    assert len(repeats) == 2 and all(torch.equal(call["context"], NEGATIVE[0][0]) for call in repeats)
    assert [grounded_rows(call) for call in repeats] == [[()], [()]]


def test_pag_perturbs_the_grounded_positive(grounded):
    _, calls = record_calls(patch_with("PAG", grounded), small_sample)
    repeats = [call for call in calls if len(call["entries"]) == 1]
    assert len(repeats) == 2 and all(torch.equal(call["context"], POSITIVE[0][0]) for call in repeats)
    assert [grounded_rows(call) for call in repeats] == [[(0, 1)], [(0, 1)]]


def test_deep_shrink_moves_the_places_to_its_grid(grounded):
    """The block after the shrinking one sees a quarter of its tokens, and the places follow."""
    _, calls = record_calls(patch_with("deep shrink", grounded), small_sample)
    _, usual = record_calls(grounded, small_sample)
    assert [set(call["grounding"]._at_grid) for call in usual] == [{(8, 8), (4, 4)}] * 2
    assert [set(call["grounding"]._at_grid) for call in calls] == [{(8, 8), (2, 2)}] * 2


def test_model_sampling_tells_the_timestep(grounded, fast_adapter_state):
    """LCM knows 50 timesteps; the tokens are those of the one that the model is given."""
    model = patch_with("LCM", grounded)
    _, calls = record_calls(model, small_sample)
    sampling = model.get_model_object("model_sampling")
    for call in calls:
        timestep = call["timesteps"][0]
        assert timestep % sampling.skip_steps == sampling.skip_steps - 1
        row = grounded_rows(call).index((0, 1))
        expected = plain_objs(fast_adapter_state, TWO, timestep)
        assert difference(call["grounding"].groups[row].objs, expected) <= 1e-5


@pytest.fixture(scope="module")
def wide_model(comfy_host):
    """320 channels at the first level and 640 below, which is what FreeU looks for."""
    unet = openaimodel.UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        num_res_blocks=[1, 1],
        channel_mult=[1, 2],
        transformer_depth=[1, 1],
        transformer_depth_output=[1, 1, 1, 1],
        transformer_depth_middle=1,
        num_heads=8,
        context_dim=768,
        use_spatial_transformer=True,
        legacy=False,
        device="meta",
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    path = comfy_host.base / "models" / "checkpoints" / "wide.safetensors"
    state = random_weights.draw_weights(shapes, seed=0)
    prefix = "model.diffusion_model."
    random_weights.save_state(path, {prefix + name: tensor for name, tensor in state.items()})
    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]


def widened(shapes, model):
    """The shapes of an adapter with fusers as wide as each block of a model."""
    state = model.model.diffusion_model.state_dict()
    tail = ".transformer_blocks.0.norm1.weight"
    widths = {name.removesuffix(tail): len(state[name]) for name in state if name.endswith(tail)}

    def fitted(name, shape):
        times = widths[name.split(".transformer_blocks")[0]] // 320 if ".fuser." in name else 1
        return tuple(size * times if size % 320 == 0 else size for size in shape)

    return {name: fitted(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def wide_grounding(wide_model):
    """The two regions for `wide_model`, whose blocks are those of `fast_model`."""
    shapes = standins.adapter_shapes(standins.transformer_names(standins.FAST), text_width=64, layers=2)
    return make_grounding(random_weights.draw_weights(widened(shapes, wide_model), seed=10), TWO)


def test_freeu_keeps_its_effect(wide_model, wide_grounding):
    def freeu(model):
        return run_node(
            "comfy_extras.nodes_freelunch", "FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2
        )[0]

    grounded = apply(wide_model, wide_grounding)
    both, calls = record_calls(freeu(grounded), small_sample)
    assert torch.isfinite(both).all()
    assert differs(both, small_sample(grounded)) and differs(both, small_sample(freeu(wide_model)))
    assert_only_positives_grounded(calls)
    assert difference(small_sample(apply(freeu(wide_model), wide_grounding)), both) <= 1e-5


OTHER = clip(3)


def dual_cfg(model, style="regular"):
    return run_node(
        "comfy_extras.nodes_custom_sampler",
        "DualCFGGuider",
        model=model,
        cond1=POSITIVE,
        cond2=OTHER,
        negative=NEGATIVE,
        cfg_conds=4.0,
        cfg_cond2_negative=3.0,
        style=style,
    )[0]


def perp_neg(model):
    return run_node(
        "comfy_extras.nodes_perpneg",
        "PerpNegGuider",
        model=model,
        positive=POSITIVE,
        negative=NEGATIVE,
        empty_conditioning=OTHER,
        cfg=5.0,
        neg_scale=1.0,
    )[0]


@pytest.mark.parametrize(
    "guide, positives",
    [
        (dual_cfg, (POSITIVE, OTHER)),
        (partial(dual_cfg, style="nested"), (POSITIVE, OTHER)),
        (perp_neg, (POSITIVE,)),
    ],
    ids=["DualCFGGuider", "DualCFGGuider nested", "PerpNegGuider"],
)
def test_guiders_with_three_conditionings(guide, positives, fast_model, grounded, grounded_result):
    both, calls = record_calls(grounded, lambda model: sample_guider(guide(model)))
    assert torch.isfinite(both).all()
    assert differs(both, grounded_result) and differs(both, sample_guider(guide(fast_model)))
    assert [len(call["entries"]) for call in calls] == [3, 3]
    assert_only_positives_grounded(calls, positives)


def test_the_old_perp_neg_node(fast_model, grounded, grounded_result):
    """It makes its empty conditioning itself, in mid-sampling, and the plain model answers for that."""

    def patch(model):
        return run_node(
            "comfy_extras.nodes_perpneg", "PerpNeg", model=model, empty_conditioning=OTHER, neg_scale=1.0
        )[0]

    both, calls = record_calls(patch(grounded), small_sample)
    assert differs(both, grounded_result) and differs(both, small_sample(patch(fast_model)))
    empty = [call for call in calls if len(call["entries"]) == 1]
    assert len(empty) == 2 and all(call["grounding"] is None for call in empty)
    assert_only_positives_grounded([call for call in calls if len(call["entries"]) == 2])
