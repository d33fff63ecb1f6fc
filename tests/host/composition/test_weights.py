"""DEIG with other weights: LoRA, LoRA hooks with keyframes, merging and saving."""

from functools import partial
from pathlib import Path

import comfy.sd
import folder_paths
import pytest
import torch
from deig_pack.tests import standins
from deig_pack.tests.host.composition.helpers import (
    SMALL,
    assert_only_positives_grounded,
    differs,
    record_calls,
    run_node,
    sample_latent,
    small_sample,
)
from deig_pack.tests.host.conftest import load_model
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, apply, difference
from safetensors.torch import load_file

from bench import random_weights

PREFIX = "model.diffusion_model."
HOOKS = "comfy_extras.nodes_hooks"
STRENGTH = 0.8


def merged(state, lora, strength):
    """Merge a LoRA of `standins.lora_state` into a checkpoint, plainly: W + strength alpha / rank up down."""
    state = dict(state)
    for block in standins.transformer_names(standins.FAST):
        for layer in ("to_q", "to_k", "to_v"):
            name = f"lora_unet_{block}_transformer_blocks_0_attn1_{layer}".replace(".", "_")
            up, down, alpha = (
                lora[f"{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha")
            )
            key = f"{PREFIX}{block}.transformer_blocks.0.attn1.{layer}.weight"
            state[key] = state[key] + strength * alpha / len(down) * up @ down
    return state


@pytest.fixture(scope="module")
def lora():
    return standins.lora_state(standins.FAST)


@pytest.fixture(scope="module")
def merged_model(comfy_host, lora):
    path = comfy_host.base / "models" / "checkpoints" / "merged.safetensors"
    return load_model(
        random_weights.save_state(path, merged(standins.checkpoint_state(standins.FAST), lora, STRENGTH))
    )


@pytest.fixture(scope="module")
def merged_result(merged_model, grounding):
    return small_sample(apply(merged_model, grounding))


def test_lora_on_the_model(fast_model, grounding, grounded, lora, merged_result, grounded_result):
    before, _ = comfy.sd.load_lora_for_models(fast_model, None, lora, STRENGTH, 0.0)
    assert difference(small_sample(apply(before, grounding)), merged_result) <= 1e-4
    after, _ = comfy.sd.load_lora_for_models(grounded, None, lora, STRENGTH, 0.0)
    result, calls = record_calls(after, small_sample)
    assert difference(result, merged_result) <= 1e-4
    assert_only_positives_grounded(calls)
    assert differs(merged_result, grounded_result)


@pytest.fixture(scope="module")
def clip_path(comfy_host):
    """CLIP's text encoder in its own file, float16 on disk."""
    path = comfy_host.base / "models" / "text_encoders" / "clip_l.safetensors"
    state = random_weights.draw_weights(standins.clip_shapes(), seed=2)
    return random_weights.save_state(
        path, {name.removeprefix("transformer."): tensor for name, tensor in state.items()}, torch.float16
    )


def load_clip(path):
    return comfy.sd.load_clip([str(path)], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


CLIP_LAYER = "text_model.encoder.layers.3.self_attn.v_proj"


@pytest.fixture(scope="module")
def clip_lora():
    """The half of a LoRA that is on CLIP."""
    generator = torch.Generator().manual_seed(21)
    name = "lora_te_" + CLIP_LAYER.replace(".", "_")
    return {
        f"{name}.lora_down.weight": torch.randn(4, 768, generator=generator) / 768**0.5,
        f"{name}.lora_up.weight": torch.randn(768, 4, generator=generator) / 2,
        f"{name}.alpha": torch.tensor(4.0),
    }


def merged_clip(path, clip_lora):
    """A CLIP whose weights have the LoRA added plainly."""
    down, up, _ = clip_lora.values()
    clip = load_clip(path)
    weight = clip.cond_stage_model.clip_l.transformer.get_submodule(CLIP_LAYER).weight
    with torch.no_grad():
        weight.copy_(weight + STRENGTH * up @ down)
    return clip


def test_lora_on_model_and_clip(fast_model, grounding, lora, clip_lora, merged_model, clip_path):
    """One LoRA file with both halves, against a model and a CLIP whose weights have it added plainly."""
    clip = load_clip(clip_path)
    plain_text = encode(clip, "a mug and a lamp")
    both = lora | clip_lora
    model, lora_clip = comfy.sd.load_lora_for_models(fast_model, clip, both, STRENGTH, STRENGTH)
    text = encode(lora_clip, "a mug and a lamp")
    result = small_sample(apply(model, grounding), positive=text)
    del clip, lora_clip
    merged_text = encode(merged_clip(clip_path, clip_lora), "a mug and a lamp")
    assert difference(text[0][0], merged_text[0][0]) <= 2e-3  # the file's weights are float16
    assert difference(merged_text[0][0], plain_text[0][0]) > 2e-2
    assert difference(result, small_sample(apply(merged_model, grounding), positive=text)) <= 1e-4


def keyframed_hooks(lora, comfy_host):
    """A LoRA that is off in the first half of the schedule and on in the second, by the host's nodes."""
    path = comfy_host.base / "models" / "loras" / "hook.safetensors"
    random_weights.save_state(path, lora)
    hooks = run_node(HOOKS, "CreateHookLoraModelOnly", lora_name=path.name, strength_model=STRENGTH)[0]
    frames = run_node(HOOKS, "CreateHookKeyframe", strength_mult=0.0, start_percent=0.0)[0]
    frames = run_node(HOOKS, "CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=frames)[
        0
    ]
    return run_node(HOOKS, "SetHookKeyframes", hooks=hooks, hook_kf=frames)[0]


def with_hooks(conditioning, hooks):
    return run_node(HOOKS, "SetModelHooksOnCond", conditioning=conditioning, hooks=hooks)[0]


def test_lora_hooks_with_keyframes(grounding, grounded, lora, merged_model, comfy_host):
    """Two steps without the LoRA and two with it: as two samplers after one another, with merged weights."""
    hooks = keyframed_hooks(lora, comfy_host)
    conds = with_hooks(POSITIVE, hooks), with_hooks(NEGATIVE, hooks)
    latent = torch.zeros(1, 4, *SMALL)
    result, calls = record_calls(grounded, lambda model: sample_latent(model, latent, *conds, steps=4))
    assert [call["timesteps"][0] > 499.5 for call in calls] == [True, True, False, False]
    assert_only_positives_grounded(calls)

    first_half = sample_latent(grounded, latent, steps=4, last_step=2)
    second_half = partial(
        sample_latent, latent=first_half, noise=latent, steps=4, start_step=2, disable_noise=True
    )
    assert difference(result, second_half(apply(merged_model, grounding))) <= 1e-4
    assert differs(result, second_half(grounded))


def test_a_hook_on_the_positive_alone(grounded, lora, comfy_host):
    """Entries with other hooks go into calls of their own; each is grounded, or not, as before."""
    hooks = keyframed_hooks(lora, comfy_host)
    result, calls = record_calls(
        grounded, lambda model: small_sample(model, with_hooks(POSITIVE, hooks), steps=4)
    )
    assert [len(call["entries"]) for call in calls] == [1] * 8
    assert_only_positives_grounded(calls)
    assert differs(result, small_sample(grounded, steps=4))


@pytest.fixture(scope="module")
def other_model(comfy_host):
    path = comfy_host.base / "models" / "checkpoints" / "other.safetensors"
    return load_model(random_weights.save_state(path, standins.checkpoint_state(standins.FAST, seed=3)))


def test_a_merged_model_keeps_deig(fast_model, other_model, grounded, grounding, grounded_result):
    def merge(model):
        return run_node(
            "comfy_extras.nodes_model_merging",
            "ModelMergeSimple",
            model1=model,
            model2=other_model,
            ratio=0.7,
        )[0]

    result, calls = record_calls(merge(grounded), small_sample)
    assert_only_positives_grounded(calls)
    assert difference(result, small_sample(apply(merge(fast_model), grounding))) <= 1e-5
    assert differs(result, grounded_result)


def test_the_saved_model_is_the_plain_one(fast_checkpoint, grounded, tmp_path):
    small_sample(grounded)  # the patch is in use, the adapter loaded beside the model
    folder = Path(folder_paths.get_output_directory()) / tmp_path.name
    prefix = f"{tmp_path.name}/saved"
    run_node("comfy_extras.nodes_model_merging", "ModelSave", model=grounded, filename_prefix=prefix)
    (path,) = folder.glob("saved*.safetensors")
    saved, plain = load_file(path), load_file(fast_checkpoint)
    weights = {name: tensor for name, tensor in plain.items() if name.startswith(PREFIX)}
    assert {name for name in saved if name.startswith(PREFIX)} == set(weights)
    assert all(torch.equal(saved[name].float(), weights[name]) for name in weights)
    added = ("fuser", "IDE", "position_net", "scaleu", "scale_u")
    assert not [name for name in saved if any(part in name for part in added)]
