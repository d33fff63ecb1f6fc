"""Multi-instance sampling as InstanceDiffusion does it, and ScaleU among other patches of the decoder."""

import comfy.sample
import comfy.samplers
import pytest
import torch
from deig_pack.deig_core.fusion.merging import merge_latents
from deig_pack.nodes.host.unet import KEY
from deig_pack.tests.host.composition.helpers import run_node
from deig_pack.tests.host.instance_diffusion.helpers import (
    ALL_KINDS,
    DenseInstanceDiffusion,
    apply,
    dense_tokens,
    make_grounding,
    read,
)
from deig_pack.tests.host.test_multi_instance import apart
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, calls_of, difference, sample, second_step

TWO = ALL_KINDS[:2]
SIZE = (8, 8)


def run_stretch(model, sigmas, positive=POSITIVE, latent=None):
    """Sample a stretch of a schedule: from noise, or on from a latent that still holds its noise."""
    empty = torch.zeros(1, 4, *SIZE)
    noise = comfy.sample.prepare_noise(empty, 0) if latent is None else torch.zeros_like(empty)
    return comfy.sample.sample_custom(
        model,
        noise,
        5.0,
        comfy.samplers.sampler_object("euler"),
        sigmas,
        positive,
        NEGATIVE,
        empty if latent is None else latent,
        disable_pbar=True,
        seed=0,
    )


def test_each_instance_alone_has_its_phrase_as_the_prompt(fast_model, fast_state):
    """And it is in the first slot, with its mask in the first channel. 0.45 of 4 steps are one: cut off."""
    steps, alone_for = 4, 1
    patched = apply(fast_model, make_grounding(fast_state, TWO, "scribble"))
    sampling = fast_model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
    whole = run_stretch(patched, sigmas[: alone_for + 1])
    alone = []
    for region in TWO:
        own = apply(fast_model, make_grounding(fast_state, (region,), "scribble"))
        alone.append(run_stretch(own, sigmas[: alone_for + 1], [[read(region.phrase).contexts, {}]]))
    merged = merge_latents(whole, torch.stack(alone))
    expected = run_stretch(patched, sigmas[alone_for:], latent=merged)
    result = sample(apart(patched, percent=0.45), steps=steps, size=SIZE)
    assert difference(result, expected) <= 1e-4
    assert difference(sample(patched, steps=steps, size=SIZE), expected) > 1e-3


def test_a_long_prompt_keeps_its_length(fast_model, fast_state):
    """Twice 77 tokens: the phrases' are written out twice, which is the same to attention."""
    patched = apply(fast_model, make_grounding(fast_state, TWO))
    long = [[torch.cat((POSITIVE[0][0], NEGATIVE[0][0]), 1), {}]]
    model = apart(patched, percent=0.5)
    with calls_of(model) as calls:
        sample(model, positive=long, size=SIZE)
    call = calls[0]
    first = call["entries"].index(0) * 3
    assert call["context"].shape[1] == 154
    own = read(*(region.phrase for region in TWO)).contexts
    assert torch.equal(call["context"][first + 1 : first + 3], own.repeat(1, 2, 1))
    odd = [[POSITIVE[0][0][:, :50], {}]]
    with pytest.raises(ValueError, match="50 tokens long"):
        sample(model, positive=odd, negative=odd, size=SIZE)


class DensePatched(DenseInstanceDiffusion):
    """ScaleU, and then what another patch makes of what the model as it was trained gives."""

    def enter_decoder(self, number, hidden, skip):
        hidden, skip = super().enter_decoder(number, hidden, skip)
        return self.other(hidden, skip)


@pytest.mark.parametrize("first", ["the other", "InstanceDiffusion"])
def test_scale_u_comes_before_other_patches_of_the_decoder(fast_model, fast_state, first):
    """As FreeU V2 does, this one scales features by what they are, so that the order shows."""

    def measured(h, skip):
        return h * (1 + h.mean(1, keepdim=True).abs()), 0.5 * skip

    def patch(h, skip, options):
        return measured(h, skip)

    grounding = make_grounding(fast_state)
    if first == "the other":
        model = fast_model.clone()
        model.set_model_output_block_patch(patch)
        model = apply(model, grounding)
    else:
        model = apply(fast_model, grounding)
        model.set_model_output_block_patch(patch)
    call = second_step(model, SIZE)
    dense = DensePatched(model.model.diffusion_model, fast_state)
    dense.other = measured
    tokens = {0: dense_tokens(fast_state, grounding.regions), 1: dense_tokens(fast_state, ())}
    for row, entry in enumerate(call["entries"]):
        expected = dense(call["x"][row], call["timesteps"][row], call["context"][row], tokens[entry])
        assert difference(call["out"][row], expected) <= 1e-4


def test_merging_models_keeps_it(fast_model, fast_state):
    """Of two models of the same weights any mean is the same again, with what patches the first has."""
    patched = apply(fast_model, make_grounding(fast_state))
    merged = run_node(
        "comfy_extras.nodes_model_merging", "ModelMergeSimple", model1=patched, model2=fast_model, ratio=0.5
    )[0]
    assert merged.get_additional_models_with_key(KEY)
    assert difference(sample(merged, size=SIZE), sample(patched, size=SIZE)) <= 1e-5
