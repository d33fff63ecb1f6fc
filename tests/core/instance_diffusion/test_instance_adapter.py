"""The adapter as a whole: sizes, names, and what is said of a file that is not whole."""

from math import prod

import pytest
import torch
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from deig_pack.tests.core.instance_diffusion.goldens import seeded_tensor
from torch import nn

from bench.released_instance_diffusion import PARAMETERS, adapter_shapes

SMALL = adapter_shapes(hidden=8, depths=(1, 1, 2, 1), widths=(4, 8, 8, 768))


def empty(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_the_released_adapter_is_taken_whole():
    shapes = adapter_shapes()
    assert len(shapes) == 272 + 217 + 24
    for part, count in PARAMETERS.items():
        own = sum(prod(shape) for name, shape in shapes.items() if part in name)
        assert own == pytest.approx(count, rel=2e-3)
    adapter = load_instance_diffusion(empty(shapes))
    assert len(adapter.fusers) == 16 and adapter.fuser(("middle", 0, 0)).attn.to_q.in_features == 1280
    assert adapter.fuser(("input", 3, 0)) is None
    assert len(adapter.state_dict()) == len(shapes)


def test_its_weights_are_those_given():
    state = {name: seeded_tensor(name, shape, 0) for name, shape in SMALL.items()}
    adapter = load_instance_diffusion(state)
    assert adapter.scale_u.scaleu_b_7.data_ptr() == state["scaleu_b_7"].data_ptr()
    gamma = adapter.position_net.convnext_tiny_backbone.state_dict()[
        "encoder.stages.2.layers.1.layer_scale_parameter"
    ]
    name = "position_net.convnext_tiny_backbone.stages.2.1.gamma"
    assert gamma.data_ptr() == state[name].data_ptr()
    factors = adapter.scale_u.factors()
    assert [len(one) for one in factors.features] == [1280] * 7 + [640] * 3 + [320] * 2
    assert not any(parameter.requires_grad for parameter in adapter.parameters()) and not adapter.training


class Linear(nn.Linear):
    pass


class Conv2d(nn.Conv2d):
    pass


class LayerNorm(nn.LayerNorm):
    pass


class OfHost:
    """Layers as the host gives them, told apart from torch's own by their class."""

    Linear, Conv2d, LayerNorm = Linear, Conv2d, LayerNorm


def test_its_layers_are_the_hosts():
    """All but those of the ConvNeXt, which is transformers'."""
    adapter = load_instance_diffusion(empty(SMALL), OfHost)
    layers = {
        name: layer
        for name, layer in adapter.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.LayerNorm) and ".convnext_tiny_backbone." not in name
    }
    assert {type(layer) for layer in layers.values()} == {Linear, Conv2d, LayerNorm}
    assert "position_net.in_conv" in layers and sum(name.startswith("fusers.") for name in layers) == 16 * 9


def test_the_file_that_is_not_whole_is_named():
    with pytest.raises(ValueError, match=r"^here/ours\.pth is not a whole InstanceDiffusion adapter"):
        load_instance_diffusion({}, path="here/ours.pth")


@pytest.mark.parametrize(
    "left_out, words",
    [
        (".fuser.", r"lacks its fusers"),
        ("scaleu_", r"lacks ScaleU"),
        (".convnext_tiny_backbone.stages", "lacks the ConvNeXt"),
        ("position_net.linears_list.0.0", r"'position_net.linears_list.0.0.weight' is missing"),
        ("position_net.linears_list.3.2", r"tensors missing: position_net.linears_list.3.2.weight"),
        ("stages.2.1.norm", r"tensors missing: .*convnext"),
        ("scaleu_s_3", r"tensors missing: scaleu_s_3"),
    ],
)
def test_what_is_missing_is_named(left_out, words):
    state = {name: tensor for name, tensor in empty(SMALL).items() if left_out not in name}
    with pytest.raises(ValueError, match=f"{words}.*instancediffusion_sd15.pth"):
        load_instance_diffusion(state)


def test_a_tensor_of_another_shape_is_named():
    state = empty(SMALL | {"position_net.null_point_feature": (63,), "scaleu_s_0": (1280, 1)})
    with pytest.raises(
        ValueError, match=r"scaleu_s_0 \(1280, 1\), expected.*null_point_feature \(63,\), expected \(64,\)"
    ):
        load_instance_diffusion(state)


def test_all_that_is_lacking_is_told_at_once():
    state = {
        name: tensor
        for name, tensor in empty(SMALL).items()
        if ".fuser." not in name and "scaleu_" not in name
    }
    with pytest.raises(ValueError, match=r"lacks its fusers \(\*\.fuser\.\*\) and ScaleU \(scaleu_\*\)"):
        load_instance_diffusion(state)


@pytest.mark.parametrize("stages, told", [(3, "has 3 of its 4 stages"), (1, "has 1 of its 4 stages")])
def test_a_convnext_without_its_last_stages_is_refused(stages, told):
    lost = tuple(f"stages.{stage}." for stage in range(stages, 4))
    state = {name: tensor for name, tensor in empty(SMALL).items() if not any(part in name for part in lost)}
    with pytest.raises(ValueError, match=told):
        load_instance_diffusion(state)


def test_a_convnext_with_a_stage_more_is_refused():
    name = "position_net.convnext_tiny_backbone.stages.4.0.gamma"
    with pytest.raises(ValueError, match=rf"{name}.*numbers there end at 3"):
        load_instance_diffusion(empty(SMALL | {name: (768,)}))


def test_a_convnext_of_another_width_is_refused():
    other = adapter_shapes(hidden=8, depths=(1, 1, 2, 1), widths=(4, 8, 8, 96))
    with pytest.raises(ValueError, match="features 96 wide, and 768 were expected"):
        load_instance_diffusion(empty(other))
