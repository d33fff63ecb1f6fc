"""DEIG with networks that steer a model from outside: ControlNet, T2I-Adapter, IP-Adapter's kind and GLIGEN."""

from functools import partial

import comfy.controlnet
import comfy.sd
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from deig_pack.tests import standins
from deig_pack.tests.host.composition.helpers import (
    SMALL,
    TWO,
    assert_only_positives_grounded,
    count_fuser_runs,
    differs,
    grounded_rows,
    record_calls,
    run_node,
    small_sample,
)
from deig_pack.tests.host.conftest import load_model
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, apply, clip, difference, make_grounding, t5

from bench import random_weights

HINT = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))  # the picture that steers
FUSERS = 7  # of `fast_model`


def conv(name, out, into, kernel):
    return {f"{name}.weight": (out, into, kernel, kernel), f"{name}.bias": (out,)}


@pytest.fixture(scope="module")
def controlnet(comfy_host):
    path = comfy_host.base / "models" / "controlnet" / "small.safetensors"
    return comfy.controlnet.load_controlnet(str(random_weights.save_state(path, standins.controlnet_state())))


def with_control(control, positive=POSITIVE, negative=NEGATIVE, strength=1.0):
    """Positive and negative after ControlNetApplyAdvanced."""
    return run_node(
        "nodes",
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=negative,
        control_net=control,
        image=HINT,
        strength=strength,
        start_percent=0.0,
        end_percent=1.0,
    )


def record_features(model, run, patch):
    """Return the features that the UNet hands from its encoder, or to it, in the first call, in order."""
    spied = model.clone()
    features = []

    def output_block(h, skip, transformer_options):
        features.append(skip.clone())
        return h, skip

    def input_block(h, transformer_options):
        features.append(h.clone())
        return h

    if patch == "output":
        spied.set_model_output_block_patch(output_block)
    else:
        spied.set_model_input_block_patch(input_block)
    run(spied)
    return features


def test_controlnet_sees_clip_text_and_no_fusers(grounded, grounding, controlnet):
    """With a T5 prompt: the UNet reads 16 tokens of it, the ControlNet the CLIP text beside it."""
    positive, negative = with_control(controlnet, t5("a table", seed=1), t5("", seed=2))
    contexts = []

    def spy(module, args, kwargs):
        contexts.append(kwargs["context"].clone())

    spying = controlnet.control_model.register_forward_pre_hook(spy, with_kwargs=True)
    runs, counting = count_fuser_runs(grounding.adapter)
    try:
        _, calls = record_calls(grounded, lambda model: small_sample(model, positive, negative))
    finally:
        for hook in [spying, *counting]:
            hook.remove()
    assert len(contexts) == len(calls) == 2
    texts = {0: POSITIVE[0][0][0], 1: NEGATIVE[0][0][0]}
    for context, call in zip(contexts, calls, strict=True):
        assert call["context"].shape[1] == 16
        assert torch.equal(context, torch.stack([texts[entry] for entry in call["entries"]]))
    assert len(runs) == FUSERS * len(calls)  # the ControlNet's own transformers ran none


def test_controlnet_adds_what_it_computed(fast_model, grounded, grounded_result, controlnet):
    positive, negative = with_control(controlnet, strength=0.5)
    outputs = []

    def spy(module, args, kwargs, out):
        outputs.append([feature.clone() for feature in out["output"]])

    spying = controlnet.control_model.register_forward_hook(spy, with_kwargs=True)
    try:
        steered = record_features(
            grounded, partial(small_sample, positive=positive, negative=negative), "output"
        )
    finally:
        spying.remove()
    free = record_features(grounded, small_sample, "output")
    added = outputs[0][::-1]  # the decoder takes the last first
    for with_it, without, feature in zip(steered, free[: len(added)], added, strict=False):
        assert difference(with_it - without, 0.5 * feature) <= 1e-4

    both, calls = record_calls(grounded, lambda model: small_sample(model, positive, negative))
    assert_only_positives_grounded(calls)
    assert differs(both, grounded_result) and differs(both, small_sample(fast_model, positive, negative))


def test_controlnet_at_strength_zero_of_deig_is_the_plain_model(fast_model, grounding, controlnet):
    conds = with_control(controlnet)
    off = apply(fast_model, grounding, strength=0.0)
    assert torch.equal(small_sample(off, *conds), small_sample(fast_model, *conds))


ONE_LEVEL = standins.UNetSize(levels=1, blocks=2, attention_levels=1)


@pytest.fixture(scope="module")
def one_level_model(comfy_host):
    """A model of one level with two blocks, as SD1.x' first level: there T2I-Adapter's first feature goes."""
    path = comfy_host.base / "models" / "checkpoints" / "one_level.safetensors"
    return load_model(random_weights.save_state(path, standins.checkpoint_state(ONE_LEVEL)))


@pytest.fixture(scope="module")
def one_level_grounding():
    return make_grounding(standins.adapter_state(ONE_LEVEL), TWO)


@pytest.fixture(scope="module")
def t2i_adapter(comfy_host):
    """T2I-Adapter's light layout; its widths are fixed in the host."""
    shapes = {}
    into = 3 * 64
    for i, width in enumerate([320, 640, 1280, 1280]):
        inner = width // 4
        shapes |= conv(f"body.{i}.in_conv", inner, into, 1) | conv(f"body.{i}.out_conv", width, inner, 1)
        for j in range(4):
            shapes |= conv(f"body.{i}.body.{j}.block1", inner, inner, 3)
            shapes |= conv(f"body.{i}.body.{j}.block2", inner, inner, 3)
        into = width
    path = comfy_host.base / "models" / "controlnet" / "t2i.safetensors"
    return comfy.controlnet.load_controlnet(
        str(random_weights.save_state(path, random_weights.draw_weights(shapes, seed=41)))
    )


def test_t2i_adapter_adds_what_it_computed(one_level_model, one_level_grounding, t2i_adapter):
    model, grounding = one_level_model, one_level_grounding
    grounded = apply(model, grounding)
    conds = with_control(t2i_adapter, strength=0.5)
    computed = []
    spying = t2i_adapter.t2i_model.register_forward_hook(lambda *run: computed.append(run[-1]["input"]))
    runs, counting = count_fuser_runs(grounding.adapter)
    try:
        both, calls = record_calls(grounded, lambda spied: small_sample(spied, *conds))
    finally:
        for hook in [spying, *counting]:
            hook.remove()
    assert len(computed) == 1 and len(runs) == 6 * len(calls)
    assert_only_positives_grounded(calls)
    assert differs(both, small_sample(grounded)) and differs(both, small_sample(model, *conds))

    steered = record_features(grounded, lambda spied: small_sample(spied, *conds), "input")
    free = record_features(grounded, small_sample, "input")
    feature = computed[0][-3]  # the first level's, for the third block
    assert difference(steered[2] - free[2], 0.5 * feature.expand_as(free[2])) <= 1e-4


def with_image_attention(model, weight):
    """Replace every cross-attention as IP-Adapter does: text as before, plus keys and values of an image."""
    generator = torch.Generator().manual_seed(6)
    image = torch.randn(1, 4, 768, generator=generator)
    to_k, to_v = (torch.randn(768, 320, generator=generator) / 768**0.5 for _ in "kv")

    def attend(q, k, v, extra_options):
        heads = extra_options["n_heads"]
        keys, values = ((image @ w).expand(len(q), -1, -1) for w in (to_k, to_v))
        return optimized_attention(q, k, v, heads) + weight * optimized_attention(q, keys, values, heads)

    patched = model.clone()
    for block in [("input", 1), ("input", 3), ("middle", 0), *(("output", i) for i in range(4))]:
        patched.set_model_attn2_replace(attend, *block)
    return patched


def test_ip_adapters_kind_of_patch(fast_model, grounded, grounded_result):
    both, calls = record_calls(with_image_attention(grounded, 1.0), small_sample)
    assert_only_positives_grounded(calls)
    assert differs(both, grounded_result)
    assert differs(both, small_sample(with_image_attention(fast_model, 1.0)))
    # The replacement itself, with the image weighed by 0, changes nothing.
    assert difference(small_sample(with_image_attention(grounded, 0.0)), grounded_result) <= 1e-5


@pytest.fixture(scope="module")
def gligen(comfy_host):
    """A GLIGEN model: its fusers and position net have the names and shapes of an adapter's."""
    state = {
        name: tensor
        for name, tensor in standins.adapter_state(standins.FAST, seed=50).items()
        if not name.startswith("IDE.")
    }
    path = comfy_host.base / "models" / "gligen" / "small.safetensors"
    return comfy.sd.load_gligen(str(random_weights.save_state(path, state)))


def with_gligen(gligen, text=POSITIVE):
    """What GLIGENTextBoxApply leaves in an entry: one phrase at the lower right quarter."""
    pooled = torch.randn(1, 768, generator=torch.Generator().manual_seed(8))
    height, width = SMALL
    box = (pooled, height // 2, width // 2, height // 2, width // 2)
    return [[context, {**options, "gligen": ("position", gligen, [box])}] for context, options in text]


def test_gligen_warns_and_both_run(fast_model, grounded, grounding, grounded_result, gligen, caplog):
    positive = with_gligen(gligen)
    passes = []
    hooks = [fuser.register_forward_hook(lambda *_: passes.append(1)) for fuser in gligen.model.module_list]
    runs, counting = count_fuser_runs(grounding.adapter)
    try:
        both, calls = record_calls(grounded, lambda model: small_sample(model, positive))
    finally:
        for hook in [*hooks, *counting]:
            hook.remove()
    warnings = [record.getMessage() for record in caplog.records if "GLIGEN" in record.getMessage()]
    assert len(warnings) == 1 and "both" in warnings[0] and "separate" in warnings[0]
    # Positive and negative go one by one; each has both kinds of fusers in every block.
    assert [len(call["entries"]) for call in calls] == [1] * 4
    assert len(runs) == len(passes) == FUSERS * 4
    assert_only_positives_grounded(calls)
    assert differs(both, grounded_result) and differs(both, small_sample(fast_model, positive))


def test_without_gligen_no_warning(grounded, caplog):
    _, calls = record_calls(grounded, partial(small_sample, steps=1, positive=clip(3)))
    assert grounded_rows(calls[0])
    assert not [record for record in caplog.records if "GLIGEN" in record.getMessage()]
