"""A fuser's parts and a call of all fusers: what is remembered, computed piece by piece, trained, and told apart."""

import math

import pytest
import torch
from deig_pack.deig_core.fusion import fuser as fuser_module
from deig_pack.deig_core.fusion.attention_record import Watched
from deig_pack.deig_core.fusion.fuser import Fuser, Grounded
from deig_pack.deig_core.fusion.fusers import Fusers, FuserSizes, block_id, inner_name, outer_name
from deig_pack.deig_core.fusion.grounding import CallGrounding, GroundedRows
from deig_pack.deig_core.fusion.placement import Placement
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests.core.oracle import dense_attention, dense_feed_forward
from deig_pack.tests.core.test_attention_record import BLOCK, BOTH, LEFT, Adapter, record_of
from deig_pack.tests.core.test_fusion import CONTEXT, TOKENS, WIDTH, make_fuser

VISUAL = 36
WEIGHTS = ["attn.to_q.weight", "attn.to_k.weight", "attn.to_v.weight", "linear.weight", "attn.to_out.0.bias"]


def inputs(rows=1, instances=2, seed=0):
    """Image tokens, instance tokens, and a bias that hides some of them from some."""
    torch.manual_seed(seed)
    bias = (torch.rand(instances, VISUAL) < 0.6).float().log()
    return torch.randn(rows, VISUAL, WIDTH), torch.randn(instances, TOKENS, CONTEXT), bias


def hidden_from_some(seed=5):
    """Between image tokens: some hidden from others, none from itself, some only weakened."""
    torch.manual_seed(seed)
    bias = torch.randn(VISUAL, VISUAL).where(torch.rand(VISUAL, VISUAL) < 0.5, torch.tensor(-math.inf))
    return bias.fill_diagonal_(0.3)


def by_the_equation(fuser, x, objs, bias, image_bias):
    """One row, from the fuser's weights: softmax over image and instance tokens with all biases added."""
    w = fuser.state_dict()
    told = objs.flatten(0, 1) @ w["linear.weight"].T + w["linear.bias"]
    n = torch.nn.functional.layer_norm(torch.cat((x, told)), x.shape[1:], w["norm1.weight"], w["norm1.bias"])
    mask = torch.cat((image_bias, bias.T.repeat_interleave(TOKENS, dim=1)), dim=1)
    x = x + math.tanh(w["alpha_attn"]) * dense_attention(n[: len(x)], n, w, mask)
    n = torch.nn.functional.layer_norm(x, x.shape[1:], w["norm2.weight"], w["norm2.bias"])
    return x + math.tanh(w["alpha_dense"]) * dense_feed_forward(n, w)


def test_a_new_fuser_leaves_image_tokens_as_they_are():
    x, objs, bias = inputs()
    assert torch.equal(Fuser(WIDTH, CONTEXT)(x, [Grounded(1, objs, bias)]), x)


@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_image_tokens_may_be_hidden_from_each_other(own, with_gradients):
    """With instances that all rows share, and with each row's own."""
    fuser, image_bias = make_fuser(), hidden_from_some()
    x, objs, bias = inputs(rows=2)
    each = [(objs, bias), (objs.flip(0), bias.flip(1))] if own else [(objs, bias)] * 2
    group = (torch.stack([o for o, _ in each]), torch.stack([b for _, b in each])) if own else (objs, bias)
    out = fuser(x.clone().requires_grad_(with_gradients), [Grounded(2, *group, image_bias)])
    for row, one, (o, b) in zip(x, out, each, strict=True):
        assert (one - by_the_equation(fuser, row, o, b, image_bias)).abs().max() <= 1e-5
    seeing_all = fuser(x, [Grounded(2, *group)])
    assert (out - seeing_all).abs().max() > 1e-2


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_that_is_trained_alone_gets_its_gradient(name):
    x, objs, bias = inputs()

    def gradient(trained):
        fuser = make_fuser()
        for key, weight in fuser.named_parameters():
            weight.requires_grad_(key in trained)
        (fuser(x, [Grounded(1, objs, bias)]) * torch.linspace(-1, 1, VISUAL)[:, None]).sum().backward()
        return dict(fuser.named_parameters())[name].grad

    together = gradient(WEIGHTS)
    assert together.abs().max() > 1e-3
    assert torch.allclose(gradient([name]), together, atol=1e-4 * together.abs().max().item())


def test_where_the_cpus_own_attention_is_not_there_the_result_is_the_same(monkeypatch):
    fuser, (x, objs, bias) = make_fuser(), inputs(rows=2)
    groups = [Grounded(1, objs, bias, hidden_from_some()), Grounded(1, objs, bias)]
    expected = fuser(x, groups)
    monkeypatch.setattr(fuser_module, "_cpu_attention", None)
    assert torch.allclose(fuser(x, groups), expected, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_is_close(masked):
    fuser, (x, objs, bias) = make_fuser(), inputs()
    image_bias = hidden_from_some() if masked else None
    wide = fuser(x, [Grounded(1, objs, bias, image_bias)])
    narrow = fuser.half()(x.half(), [Grounded(1, objs.half(), bias, image_bias)])
    assert narrow.dtype == torch.float16 and (narrow.float() - wide).abs().max() < 0.03


@pytest.mark.parametrize("chunk, at_once", [(1, 1), (127, 1), (128, 2), (50 * 64, 50), (10**9, 72)])
def test_the_feed_forward_net_is_computed_some_rows_at_once(monkeypatch, chunk, at_once):
    """It is 64 wide inside, and two pictures of 36 tokens are 72 rows."""
    fuser, (x, objs, bias) = make_fuser(), inputs(rows=2)
    expected = fuser(x, [Grounded(2, objs, bias)])
    monkeypatch.setattr(fuser_module, "CHUNK", chunk)
    sizes = []
    fuser.ff.register_forward_pre_hook(lambda _, given: sizes.append(given[0].numel() // WIDTH))
    assert torch.allclose(fuser(x, [Grounded(2, objs, bias)]), expected, atol=1e-6)
    assert sum(sizes) == 72 and max(sizes) == at_once


def test_keys_and_values_that_are_left_are_each_fusers_own_in_each_type():
    x, objs, bias = inputs()
    one, other = make_fuser(0), make_fuser(1)
    left = {}
    for _ in range(2):
        for fuser in (one, other):
            assert torch.equal(
                fuser(x, [Grounded(1, objs, bias, None, left)]), fuser(x, [Grounded(1, objs, bias)])
            )
    assert len(left) == 2
    wide = other.double()
    found = wide(x.double(), [Grounded(1, objs.double(), bias, None, left)])
    assert found.dtype == torch.float64 and len(left) == 3
    # What is left is taken, not computed again.
    before = one(x, [Grounded(1, objs, bias, None, left)])
    one.linear.weight.zero_()
    assert torch.equal(one(x, [Grounded(1, objs, bias, None, left)]), before)
    assert not torch.allclose(one(x, [Grounded(1, objs, bias)]), before, atol=1e-3)


# -- one call of the model ----------------------------------------------------------------------------------


def rows_of(rows, strength, objs, regions=(LEFT, BOTH)):
    return GroundedRows(rows, strength, Placement(regions, (8, 8)), (0, 1), objs)


def test_each_rows_strength_is_its_groups():
    torch.manual_seed(0)
    x, objs = torch.randn(4, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT)
    groups = [rows_of(2, 0.3, objs), GroundedRows(1, 0.9), rows_of(1, 0.0, objs)]
    fuser = make_fuser()
    out = CallGrounding(Adapter(fuser), groups).fuse(x, BLOCK, (8, 8))
    row = 0
    for group in groups:
        part = slice(row, row + group.rows)
        alone = CallGrounding(Adapter(fuser), [group]).fuse(x[part], BLOCK, (8, 8))
        assert torch.allclose(out[part], alone, atol=1e-6)
        row += group.rows
    assert torch.equal(out[3], x[3]) and not torch.allclose(out[2], x[2], atol=1e-2)


def test_blocks_of_other_grids_in_one_call_have_their_own_places():
    """Also where they have as many tokens in another shape."""
    torch.manual_seed(0)
    objs, x = torch.randn(2, TOKENS, CONTEXT), torch.randn(1, 64, WIDTH)
    regions = (LEFT, Region("top", (0, 0, 1, 0.5)))
    adapter = Adapter(make_fuser())
    call = CallGrounding(adapter, [rows_of(1, 1.0, objs, regions)])
    for grid in ((8, 8), (4, 4), (4, 16), (16, 4), (8, 8)):
        image = x[:, : math.prod(grid)]
        fresh = CallGrounding(adapter, [rows_of(1, 1.0, objs, regions)])
        assert torch.equal(call.fuse(image, BLOCK, grid), fresh.fuse(image, BLOCK, grid))


def test_a_watched_group_without_instances_records_nothing():
    torch.manual_seed(0)
    record = record_of((LEFT, BOTH), (8, 8))
    call = CallGrounding(Adapter(make_fuser()), [GroundedRows(1)], [Watched(record, 0, None)])
    call.fuse(torch.randn(1, 64, WIDTH), BLOCK, (8, 8))
    assert record.is_empty


def test_rows_of_another_type_than_the_tokens_are_fused_in_theirs():
    torch.manual_seed(0)
    x, objs = torch.randn(2, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT)
    groups = [rows_of(1, 0.5, objs), rows_of(1, 0.7, objs)]
    expected = CallGrounding(Adapter(make_fuser()), groups).fuse(x, BLOCK, (8, 8))
    out = CallGrounding(Adapter(make_fuser().double()), groups).fuse(x.double(), BLOCK, (8, 8))
    assert out.dtype == torch.float64 and torch.allclose(out.float(), expected, atol=1e-5)


# -- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, block",
    [
        ("input_blocks.1.1.transformer_blocks.0", ("input", 1, 0)),
        ("input_blocks.4.1.transformer_blocks.3", ("input", 4, 3)),
        ("middle_block.1.transformer_blocks.0", ("middle", 0, 0)),
        ("middle_block.1.transformer_blocks.2", ("middle", 0, 2)),
        ("output_blocks.11.1.transformer_blocks.0", ("output", 11, 0)),
    ],
)
def test_a_blocks_path_is_its_name_while_the_model_runs(path, block):
    assert block_id(path) == block
    fusers = Fusers([FuserSizes("input_blocks.7.1.transformer_blocks.0", 8, 8), FuserSizes(path, 16, 24)], 12)
    assert fusers.of(block).linear.weight.shape == (16, 12)
    assert fusers.of(block).ff.net["2"].weight.shape == (16, 24)
    assert fusers.of((block[0], block[1] + 1, block[2])) is None
    key = f"{path}.fuser.attn.to_out.0.weight"
    assert (
        outer_name(inner_name(key)) == key and inner_name(key).removeprefix("fusers.") in fusers.state_dict()
    )


@pytest.mark.parametrize(
    "key", ["IDE.connector.latents", "position_net.linears.0.weight", "down.input_blocks.1.1.x.0.fuser.a"]
)
def test_names_of_other_tensors_are_left(key):
    assert inner_name(key) == key == outer_name(key)
