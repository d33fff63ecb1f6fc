"""ControlNets of both families beside EliGen: they see the prompt alone, and what they say reaches the picture."""

import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.flux.controlnet
import comfy.ldm.qwen_image.controlnet
import comfy.model_management
import comfy.ops
import pytest
import torch
from deig_pack.nodes.host.transformers import COND
from deig_pack.tests.host.eligen.helpers import (
    FAMILIES,
    TWO,
    apply,
    calls_of,
    dense_call,
    difference,
    oracle_places,
    prompt,
    sample,
    sight_of,
)
from deig_pack.tests.host.eligen.models import fill, flux_config, qwen_config


def control_of(family):
    """The host's ControlNet for a small model, which hands out one hint for each block."""
    options = {"operations": comfy.ops.disable_weight_init, "device": "cpu", "dtype": torch.float32}
    if family == "flux":
        config = flux_config(256, 96, 48, 2, 2)
        net = comfy.ldm.flux.controlnet.ControlNetFlux(
            latent_input=True, control_latent_channels=16, **options, **config
        )
        latent, extra = comfy.latent_formats.Flux(), ["y", "guidance"]
    else:
        config = qwen_config(256, 96, 3)
        net = comfy.ldm.qwen_image.controlnet.QwenImageControlNetModel(**options, **config)
        latent, extra = comfy.latent_formats.Wan21(), []
    fill(net, 9)
    device = comfy.model_management.get_torch_device()
    control = comfy.controlnet.ControlNet(
        net.eval(), compression_ratio=1, latent_format=latent, load_device=device, extra_conds=extra
    )
    shape = (1, 16, 16, 16) if family == "flux" else (1, 16, 1, 16, 16)
    control.set_cond_hint(torch.zeros(1, 3, 128, 128), 0.5, (0.0, 1.0))
    control.cond_hint_original = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    control.latent_format = None  # the hint above is a latent already
    return control


@pytest.mark.parametrize("family", FAMILIES)
def test_a_controlnet_sees_the_prompt_alone(family, monkeypatch):
    control, contexts = control_of(family), []
    forward = control.control_model.forward

    def spied(*args, **kwargs):
        contexts.append(kwargs["context"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(control.control_model, "forward", spied)
    controlled = [[prompt(family, 1)[0][0], {**prompt(family, 1)[0][1], "control": control}]]
    controlled[0][1]["control_apply_to_uncond"] = False
    model, positive, negative = apply(family, TWO, positive=controlled)
    with calls_of(model) as calls:
        result = sample(model, positive, negative)
    assert set(contexts) == {prompt(family, 1)[0][0].shape[1]}
    texts = positive[0][1]["model_conds"][COND].entities.texts
    acting = [call for call in calls if sight_of(call) is not None]
    assert acting
    for call in acting:
        assert difference(call["out"], dense_call(model, call, texts, oracle_places(TWO, (16, 16)))) <= 1e-4
    model, positive, negative = apply(family, TWO)
    assert difference(result, sample(model, positive, negative)) > 1e-3
