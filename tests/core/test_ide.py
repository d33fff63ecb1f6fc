"""The adapter's own modules beyond the golden numbers: types, devices, layers of the host, sizes that all differ."""

import math

import pytest
import torch
import torch.nn.functional as F
from deig_pack.deig_core.deig.adapter import Adapter, AdapterSizes, load_adapter
from deig_pack.deig_core.deig.ide import AdaLayerNorm, Connector, IDESizes, sinusoid
from deig_pack.deig_core.deig.position_net import PositionNet, fourier_features
from deig_pack.deig_core.fusion.fuser import Grounded
from torch import nn

# No two widths alike.
SIZES = AdapterSizes(
    IDESizes(text_width=10, width=16, tokens=3, layers=2, time_channels=8, time_width=12, mlp_width=24),
    position_hidden_width=20,
    context_width=28,
    fusers=(
        ("input_blocks.1.1.transformer_blocks.0", 32, 64),
        ("output_blocks.3.1.transformer_blocks.1", 40, 72),
    ),
)
BLOCK = ("output", 3, 1)


class Host:
    """Layers as a host has them: they keep their weights in one type, and compute in that of what comes in."""

    class Linear(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight.to(x), None if self.bias is None else self.bias.to(x))

    class LayerNorm(nn.LayerNorm):
        def forward(self, x):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x), self.bias.to(x), self.eps)


def seeded_state():
    torch.manual_seed(0)
    adapter = Adapter(SIZES)
    for fuser in adapter.fusers.values():
        nn.init.constant_(fuser.alpha_attn, 0.7)
        nn.init.constant_(fuser.alpha_dense, -0.4)
    return {key: tensor.detach() for key, tensor in adapter.checkpoint_state().items()}


def test_an_adapter_whose_widths_all_differ_is_read_as_it_was_written():
    state = seeded_state()
    again = load_adapter(state)
    assert again.sizes == SIZES
    assert again.checkpoint_state().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in again.checkpoint_state().items())


def test_a_loaded_adapter_takes_the_tensors_given_and_copies_none():
    state = seeded_state()
    held = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    for name, weight in load_adapter(state).named_parameters():
        assert weight.untyped_storage().data_ptr() in held, name


def test_a_refused_file_is_named():
    state = seeded_state()
    del state["IDE.connector.latents"]
    with pytest.raises(ValueError, match=r"^my\.pth is not a whole DEIG adapter.*IDE\.connector\.latents"):
        load_adapter(state, path="my.pth")
    with pytest.raises(ValueError, match="^This file is not"):
        load_adapter(state)


def test_every_layer_is_of_the_hosts():
    for module in load_adapter(seeded_state(), Host).modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            assert type(module) in (Host.Linear, Host.LayerNorm)


def test_every_weight_is_of_the_type_and_on_the_device_asked_for():
    for name, weight in Adapter(SIZES, device="meta", dtype=torch.float16).named_parameters():
        assert weight.is_meta and weight.dtype == torch.float16, name
    net = PositionNet(8, 4, device="meta", dtype=torch.float16)
    assert all(weight.is_meta and weight.dtype == torch.float16 for weight in net.parameters())


@pytest.mark.parametrize("kept", [torch.float32, torch.float64])
@pytest.mark.parametrize("present", [None, (True, False)])
def test_weights_kept_in_another_type_compute_in_that_of_what_comes_in(present, kept):
    """A host keeps them in one and computes in another, wider or narrower."""
    adapter = load_adapter(seeded_state(), Host).to(kept)
    nn.init.uniform_(adapter.position_net.null_positive_feature)
    nn.init.uniform_(adapter.position_net.null_position_feature)
    torch.manual_seed(1)
    features, x = torch.randn(2, 6, 10), torch.randn(1, 16, 40)
    boxes, bias = torch.rand(2, 4), (torch.rand(2, 16) < 0.7).float().log()
    present = None if present is None else torch.tensor(present)

    def run(dtype):
        tokens = adapter.IDE(features.to(dtype), torch.tensor([500, 20]))
        objs = adapter.position_net(tokens, boxes, present)
        return tokens, objs, adapter.fuser(BLOCK)(x.to(dtype), [Grounded(1, objs, bias)])

    for wide, narrow in zip(run(torch.float64), run(torch.float32), strict=True):
        assert (wide.dtype, narrow.dtype) == (torch.float64, torch.float32)
        assert torch.allclose(wide.float(), narrow, atol=1e-4)


def test_absent_instances_have_the_null_vectors_and_present_ones_their_own():
    torch.manual_seed(0)
    net = PositionNet(8, 4, 16)
    nn.init.uniform_(net.null_positive_feature)
    nn.init.uniform_(net.null_position_feature)
    tokens, boxes = torch.randn(2, 3, 8), torch.rand(2, 4)
    here, absent = net(tokens, boxes, torch.tensor([True, False]))
    nulls = torch.cat((net.null_positive_feature, net.null_position_feature))
    assert torch.allclose(absent, net.linears(nulls).expand(3, -1), atol=1e-6)
    assert torch.allclose(here, net(tokens[:1], boxes[:1])[0], atol=1e-6)


def test_a_box_is_sines_and_cosines_of_its_edges_at_eight_frequencies():
    box = (0.1, 0.35, 0.8, 0.95)
    expected = [
        function(100 ** (k / 8) * edge) for k in range(8) for function in (math.sin, math.cos) for edge in box
    ]
    assert fourier_features(torch.tensor([box, box]))[1].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_timestep_is_cosines_then_sines_of_falling_frequency():
    angles = [7 * 10000 ** (-k / 4) for k in range(4)]
    expected = [*map(math.cos, angles), *map(math.sin, angles)]
    assert sinusoid(torch.tensor([3, 7]), 8)[1].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_norm_is_of_small_numbers_too_and_then_shifted_and_scaled():
    """Their variance is as large as what is added to it."""
    norm = AdaLayerNorm(4, 1)
    nn.init.zeros_(norm.linear.weight)
    with torch.no_grad():
        norm.linear.bias.copy_(torch.tensor([5.0, 6, 7, 8, 0, 1, 2, 3]))
    found = norm(torch.tensor([[[1e-3, -1e-3, 1e-3, -1e-3]]]), torch.zeros(1, 1))
    root = 1 / math.sqrt(2)
    assert found.flatten().tolist() == pytest.approx(
        [5 + root, 6 - 2 * root, 7 + 3 * root, 8 - 4 * root], abs=1e-3
    )


def test_new_queries_are_about_one_long():
    torch.manual_seed(0)
    connector = Connector(IDESizes(8, 256, 16, 0, 8, 8, 8))
    assert connector.latents.norm(dim=1).mean().item() == pytest.approx(1, abs=0.05)
