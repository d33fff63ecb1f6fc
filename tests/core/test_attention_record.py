"""Recorded attention against a dense computation from the fuser's weights, token by token."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deig_pack.deig_core.fusion import attention_record
from deig_pack.deig_core.fusion.attention_pictures import (
    SCALES,
    attention_masks,
    heat_pictures,
    leakage_picture,
)
from deig_pack.deig_core.fusion.attention_record import AttentionRecord, RecordSettings, Sums, Watched
from deig_pack.deig_core.fusion.block_choice import BlockChoice
from deig_pack.deig_core.fusion.grounding import CallGrounding, GroundedRows
from deig_pack.deig_core.fusion.leakage import bar_of, leakage, report
from deig_pack.deig_core.fusion.placement import Placement
from deig_pack.deig_core.regions.heat import draw_heat, draw_heats, draw_parts
from deig_pack.deig_core.regions.raster import spread_tokens, token_places
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests.core.oracle import dense_mask, dense_places
from deig_pack.tests.core.test_fusion import CONTEXT, TOKENS, WIDTH, latent_sizes, make_fuser, valid_boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

NAMES = tuple("abc")
BLOCK = ("input", 1, 0)
LEFT, RIGHT = Region("left", (0, 0, 0.5, 1)), Region("right", (0.5, 0, 1, 1))
BOTH = Region("both", (0.25, 0.25, 0.75, 0.75))


def dense_weights(fuser, x, objs, mask):
    """Softmax of all logits of all tokens, the mean over heads: (Q + S, the same)."""
    w = fuser.state_dict()
    tokens = torch.cat((x, F.linear(objs.flatten(0, 1), w["linear.weight"], w["linear.bias"])))
    n = F.layer_norm(tokens, x.shape[1:], w["norm1.weight"], w["norm1.bias"])
    q, k = n @ w["attn.to_q.weight"].T, n @ w["attn.to_k.weight"].T
    size = WIDTH // 8
    heads = [
        torch.softmax(q[:, at : at + size] @ k[:, at : at + size].T / math.sqrt(size) + mask, dim=1)
        for at in range(0, WIDTH, size)
    ]
    return torch.stack(heads).mean(0)


def dense_shares(weights, places):
    """Go through the image tokens of each place and ask of each token that they attend to whose it is."""
    count, visual = places.shape
    shares = torch.zeros(count, 2 * count + 2)
    for one in range(count):
        rows = weights[:visual][places[one]].mean(0)
        for token, weight in enumerate(rows.tolist()):
            owners = [n for n in range(count) if token < visual and places[n, token]]
            if token >= visual:
                shares[one, (token - visual) // TOKENS] += weight
            elif one in owners:
                shares[one, count + one] += weight
            elif owners:
                for owner in owners:
                    shares[one, count + owner] += weight / len(owners)
            else:
                shares[one, 2 * count] += weight
    return shares


class Adapter:
    """An adapter with the same fuser for every block."""

    def __init__(self, fuser):
        self.fuser = lambda block: fuser


def record_of(regions, latent_size, **options):
    return AttentionRecord(tuple(regions), latent_size, options.pop("pictures", 1), NAMES, **options)


def run(record, x, objs, grid, chosen=None, area=None, front=False, block=BLOCK, fuser=None, first=0):
    """One call of one block, as a model with DEIG makes it; returns what the fuser gives."""
    chosen = tuple(range(len(record.regions))) if chosen is None else chosen
    placement = Placement(record.regions, record.latent_size, area, front)
    rows = GroundedRows(len(x), 1.0, placement, chosen, objs)
    watched = [Watched(record, first, area)] if record is not None else ()
    return CallGrounding(Adapter(fuser or make_fuser()), [rows], watched).fuse(x, block, grid)


def example(regions, latent_size=(8, 8), grid=(8, 8), seed=0, rows=1, **options):
    """A record of one call, and what went in."""
    torch.manual_seed(seed)
    x, objs = torch.randn(rows, math.prod(grid), WIDTH), torch.randn(len(regions), TOKENS, CONTEXT)
    record = record_of(regions, latent_size, pictures=rows, **options)
    run(record, x, objs, grid)
    return record, x, objs


weighted = st.tuples(valid_boxes(), st.sampled_from([1.0, 1.0, 0.25, 3.0]))


@given(
    st.tuples(st.integers(8, 20), st.integers(8, 20)),
    st.integers(0, 3),
    st.lists(weighted, min_size=1, max_size=5),
    st.integers(0, 1000),
    st.sampled_from([1, 500, 2**22]),
)
@settings(max_examples=40, deadline=None)
def test_maps_and_shares_equal_the_oracle(latent_size, halvings, instances, seed, chunk):
    grid = tuple(math.ceil(size / 2**halvings) for size in latent_size)
    regions = [Region("thing", box, strength) for box, strength in instances]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_record, "CHUNK", chunk)
        record, x, objs = example(regions, latent_size, grid, seed)

    places = torch.stack([torch.as_tensor(dense_places(r.box, latent_size, grid)).flatten() for r in regions])
    mask = dense_mask(places, [r.strength for r in regions], TOKENS, slots=len(regions))
    weights = dense_weights(make_fuser(), x[0], objs, mask)
    told = weights[: math.prod(grid), math.prod(grid) :].T.reshape(len(regions), TOKENS, *grid)
    ((key, sums),) = record.sums.items()
    assert key == (grid, None)
    assert (sums.tokens[0].unflatten(-1, grid) - told).abs().max() <= 1e-5
    assert (record.shares(0) - dense_shares(weights, places)).abs().max() <= 1e-5


@given(latent_sizes, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_tokens_are_spread_over_their_own_cells(latent_size, halvings):
    grid = tuple(math.ceil(size / 2**halvings) for size in latent_size)
    values = torch.rand(2, *grid)
    cells = spread_tokens(values, latent_size)
    assert cells.shape == (2, *latent_size)
    stride = 2**halvings
    for row in range(latent_size[0]):
        for column in range(latent_size[1]):
            assert torch.equal(cells[:, row, column], values[:, row // stride, column // stride])


def test_a_grid_that_is_no_halving_is_spread_by_fractions():
    values = torch.arange(43).expand(43, 43)
    assert spread_tokens(values, (64, 64))[0].tolist() == [column * 43 // 64 for column in range(64)]


@pytest.mark.parametrize("grid", [(16, 16), (8, 8), (4, 4), (2, 2)])
def test_a_map_is_zero_outside_the_place_and_not_inside(grid):
    record, *_ = example((LEFT, BOTH), (16, 16), grid)
    places = token_places(Placement(record.regions, (16, 16)).cells, (16, 16), grid)
    for instance, place in enumerate(spread_tokens(places, (16, 16))):
        found = record.maps(0, instance).sum(0)
        assert torch.equal(found > 0, place > 0)
        for scale in SCALES:
            (mask,) = attention_masks(record, 0, (instance,), False, scale, (128, 128))[0]
            assert torch.equal(mask > 0, place.repeat_interleave(8, 0).repeat_interleave(8, 1) > 0)
            assert mask.max() <= 1


def test_what_is_recorded_is_the_mean_over_calls_and_blocks():
    torch.manual_seed(3)
    calls = [(torch.randn(1, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT)) for _ in range(3)]
    together, alone = record_of((LEFT, BOTH), (8, 8)), []
    for number, (x, objs) in enumerate(calls):
        run(together, x, objs, (8, 8), block=("input", 1 + number % 2, 0))
        alone.append(record_of((LEFT, BOTH), (8, 8)))
        run(alone[-1], x, objs, (8, 8))
    for instance in range(2):
        mean = torch.stack([one.maps(0, instance) for one in alone]).mean(0)
        assert torch.allclose(together.maps(0, instance), mean, atol=1e-6)
    assert torch.allclose(
        together.shares(0), torch.stack([one.shares(0) for one in alone]).mean(0), atol=1e-6
    )
    assert together.seen == {("input", 1, 0): 2, ("input", 2, 0): 1}


def test_blocks_of_all_grids_count_the_same():
    fine, x, objs = example((LEFT, BOTH), grid=(8, 8))
    coarse = record_of((LEFT, BOTH), (8, 8))
    both = record_of((LEFT, BOTH), (8, 8))
    small = torch.randn(1, 16, WIDTH)
    run(coarse, small, objs, (4, 4))
    run(both, x, objs, (8, 8))
    run(both, small, objs, (4, 4))
    for instance in range(2):
        mean = (fine.maps(0, instance) + coarse.maps(0, instance)) / 2
        assert torch.allclose(both.maps(0, instance), mean, atol=1e-6)


def test_what_is_kept_does_not_grow_with_calls():
    record, x, objs = example((LEFT, BOTH))
    size = record.size()
    for number in range(5):
        run(record, x, objs, (8, 8), block=("output", number, 0))
    assert record.size() == size == 4 * (2 * TOKENS * 64 + 2 * 6)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


def test_no_more_weights_are_there_at_once_than_said(monkeypatch):
    monkeypatch.setattr(attention_record, "CHUNK", 2**15)
    torch.manual_seed(0)
    x, objs = torch.randn(1, 256, WIDTH), torch.randn(2, TOKENS, CONTEXT)
    record = record_of((LEFT, BOTH), (16, 16))
    rows = GroundedRows(1, 1.0, Placement(record.regions, (16, 16)), (0, 1), objs)
    group = rows.at((16, 16), x)
    with Largest() as largest:
        record.see(make_fuser(), x, group, rows.owners(), Watched(record, 0, None), BLOCK, (16, 16))
    assert 2**14 < largest.numbers <= 2**15 < 8 * 256 * 262


def test_an_instance_is_averaged_over_its_own_time():
    record, x, objs = example((LEFT, BOTH))
    alone = record_of((LEFT, BOTH), (8, 8))
    run(alone, x, objs, (8, 8))
    run(alone, x.flip(1), objs[:1], (8, 8), chosen=(0,))  # the second has ended
    assert torch.allclose(alone.maps(0, 1), record.maps(0, 1))
    assert not torch.allclose(alone.maps(0, 0), record.maps(0, 0), atol=1e-3)
    assert torch.allclose(alone.shares(0).sum(1), torch.ones(2))


def test_each_picture_of_a_batch_has_its_own():
    record, x, objs = example((LEFT, BOTH), rows=3)
    for picture in range(3):
        alone = record_of((LEFT, BOTH), (8, 8))
        run(alone, x[picture : picture + 1], objs, (8, 8))
        assert torch.allclose(record.maps(picture, 1), alone.maps(0, 1), atol=1e-6)
        assert torch.allclose(record.shares(picture), alone.shares(0), atol=1e-6)
        told = [f"picture {picture + 1}", *report(alone).splitlines()[2:]]
        assert "\n".join(told) in report(record)
    assert len(set(report(record).splitlines())) == 2 + 3 + 3 * 2, "the pictures differ"
    late = record_of((LEFT, BOTH), (8, 8), pictures=3)
    run(late, x[2:], objs, (8, 8), first=2)
    assert torch.allclose(late.maps(2, 0), record.maps(2, 0), atol=1e-6)
    assert not late.maps(0, 0).any() and not late.shares(0).any()


def test_rows_beyond_the_batch_are_parts_of_its_pictures():
    """A wrapper that cuts two pictures into two tiles each calls the model with four rows."""
    _, x, objs = example((LEFT, BOTH), rows=4)
    record = record_of((LEFT, BOTH), (8, 8), pictures=2)
    run(record, x, objs, (8, 8))
    alone = record_of((LEFT, BOTH), (8, 8))
    run(alone, x[1:2], objs, (8, 8))
    run(alone, x[3:], objs, (8, 8))
    assert torch.allclose(record.maps(1, 0), alone.maps(0, 0), atol=1e-6)


def test_a_crop_is_recorded_where_it_lies():
    """The right half by itself: its left half has the middle's region."""
    area = (8, 4, 0, 4)
    record = record_of((LEFT, Region("middle", (0.25, 0, 0.75, 1))), (8, 8))
    torch.manual_seed(0)
    run(record, torch.randn(1, 32, WIDTH), torch.randn(1, TOKENS, CONTEXT), (8, 4), chosen=(1,), area=area)
    found = record.maps(0, 1).sum(0) > 0
    assert found[:, 4:6].all() and not found[:, :4].any() and not found[:, 6:].any()
    assert not record.maps(0, 0).any()


def test_where_crops_overlap_a_map_is_their_mean():
    """The left and the right three quarters of a picture, each by itself."""
    regions = (Region("whole", (0, 0, 1, 1)), LEFT)
    areas = {(8, 6, 0, 0): slice(0, 6), (8, 6, 0, 2): slice(2, 8)}
    torch.manual_seed(0)
    objs = torch.randn(2, TOKENS, CONTEXT)
    both, alone = record_of(regions, (8, 8)), []
    for area in areas:
        x = torch.randn(1, 48, WIDTH)
        alone.append(record_of(regions, (8, 8)))
        for record in (both, alone[-1]):
            run(record, x, objs, (8, 6), area=area)
    first, second = (record.maps(0, 0) for record in alone)
    assert not torch.allclose(first[..., 2:6], second[..., 2:6], atol=1e-2)
    expected = torch.cat((first[..., :2], (first + second)[..., 2:6] / 2, second[..., 6:]), dim=-1)
    assert torch.allclose(both.maps(0, 0), expected, atol=1e-6)


def test_in_a_crop_blocks_are_chosen_by_the_crops_own_cells():
    """The same grid of tokens is 16 pixels wide on the crop, and 32 on the whole picture."""
    record = record_of((LEFT,), (16, 16), settings=RecordSettings(BlockChoice.read("16")))
    torch.manual_seed(0)
    x, objs = torch.randn(1, 16, WIDTH), torch.randn(1, TOKENS, CONTEXT)
    run(record, x, objs, (4, 4), area=(8, 8, 0, 0))
    assert list(record.sums) == [((4, 4), (8, 8, 0, 0))]
    run(record, x, objs, (4, 4))
    assert list(record.seen.values()) == [1], "on the whole they are 32 wide"


def test_tokens_of_no_instance_are_told_apart():
    """The last instance's belong to nobody, as null tokens do."""
    torch.manual_seed(0)
    x, objs = torch.randn(1, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT)
    rows = GroundedRows(1, 1.0, Placement((LEFT, BOTH), (8, 8)), (0, 1), objs)
    known, unknown = record_of((LEFT, BOTH), (8, 8)), record_of((LEFT, BOTH), (8, 8))
    group, owners = rows.at((8, 8), x), rows.owners()
    for record, whose in ((known, owners), (unknown, (*owners[:TOKENS], *[None] * TOKENS))):
        record.see(make_fuser(), x, group, whose, Watched(record, 0, None), BLOCK, (8, 8))
    before, after = known.shares(0), unknown.shares(0)
    assert before[0, 1] > 0.01 and after[0, 1] == 0 and not after[1].any()
    assert after[0, 5] == pytest.approx(before[0, 1].item(), abs=1e-6)
    # Nor is its place anybody's: what lies there and not in the first's is background.
    assert after[0, 4] == pytest.approx((before[0, 3] + before[0, 4]).item(), abs=1e-6)
    assert torch.allclose(known.maps(0, 0), unknown.maps(0, 0), atol=1e-6)
    assert known.maps(0, 1).any() and not unknown.maps(0, 1).any()


@pytest.mark.parametrize("chunk", [1, 2000, 2**22])
def test_what_hides_image_tokens_from_each_other_is_seen(monkeypatch, chunk):
    monkeypatch.setattr(attention_record, "CHUNK", chunk)
    torch.manual_seed(0)
    q, keys = torch.randn(2, 20, 4), torch.randn(2, 26, 4)
    bias, image_bias = torch.randn(20, 6), torch.randn(20, 20).where(torch.rand(20, 20) < 0.6, -torch.inf)
    places = (torch.rand(3, 20) < 0.5).float()
    told, seen = attention_record.attend(q, keys, bias, image_bias, places)
    logits = torch.einsum("hqd,hkd->hqk", q, keys) / 2 + torch.cat((image_bias, bias), dim=1)
    weights = logits.softmax(-1).mean(0)
    assert torch.allclose(told, weights[:, 20:].T, atol=1e-6)
    for place, found in zip(places, seen, strict=True):
        assert torch.allclose(found, weights[place > 0].mean(0), atol=1e-6)


def test_a_record_in_half_precision_is_close_and_wide():
    torch.manual_seed(0)
    x, objs = torch.randn(1, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT)
    wide, narrow = record_of((LEFT, BOTH), (8, 8)), record_of((LEFT, BOTH), (8, 8))
    run(wide, x, objs, (8, 8))
    run(narrow, x.half(), objs.half(), (8, 8), fuser=make_fuser().half())
    found = narrow.maps(0, 0)
    assert found.dtype == narrow.shares(0).dtype == torch.float32
    assert (found - wide.maps(0, 0)).abs().max() < 0.02 and found.any()


def test_in_front_the_area_is_what_is_left():
    record, *_ = example((LEFT, BOTH), front=False)
    hidden = record_of((LEFT, BOTH), (8, 8), front=True)
    torch.manual_seed(0)
    run(hidden, torch.randn(1, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT), (8, 8), front=True)
    assert record.shares(0)[0, 1] > 0, "where they overlap the left sees the other's words"
    assert hidden.shares(0)[0, 1] == 0
    assert not hidden.maps(0, 0)[:, 2:6, 2:4].any() and record.maps(0, 0)[:, 2:6, 2:4].all()


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_a_fuser_gives_the_same_with_a_record(strength):
    torch.manual_seed(1)
    x, objs = torch.randn(2, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT)
    rows = GroundedRows(2, strength, Placement((LEFT, BOTH), (8, 8)), (0, 1), objs)
    record = record_of((LEFT, BOTH), (8, 8), pictures=2)
    plain, seen = (
        CallGrounding(Adapter(make_fuser()), [rows], watched).fuse(x, BLOCK, (8, 8))
        for watched in ((), [Watched(record, 0, None)])
    )
    assert torch.equal(plain, seen) and not record.is_empty


def test_nothing_is_computed_without_a_record(monkeypatch):
    monkeypatch.setattr(attention_record, "attend", None)
    rows = GroundedRows(1, 1.0, Placement((LEFT,), (8, 8)), (0,), torch.randn(1, TOKENS, CONTEXT))
    call = CallGrounding(Adapter(make_fuser()), [rows, GroundedRows(1)])
    call.fuse(torch.randn(2, 64, WIDTH), BLOCK, (8, 8))


def test_rows_without_instances_are_left_out():
    record = record_of((LEFT,), (8, 8))
    rows = [
        GroundedRows(1),
        GroundedRows(1, 1.0, Placement((LEFT,), (8, 8)), (0,), torch.randn(1, TOKENS, CONTEXT)),
    ]
    x = torch.randn(2, 64, WIDTH)
    CallGrounding(Adapter(make_fuser()), rows, [None, Watched(record, 0, None)]).fuse(x, BLOCK, (8, 8))
    alone = record_of((LEFT,), (8, 8))
    run(alone, x[1:], rows[1].objs, (8, 8))
    assert torch.allclose(record.maps(0, 0), alone.maps(0, 0), atol=1e-6)


# -- which blocks -------------------------------------------------------------------------------------------

BLOCKS = {("input", 1, 0): 8, ("input", 4, 0): 16, ("middle", 0, 0): 64, ("output", 4, 0): 32}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("all", set(BLOCKS)),
        ("", set(BLOCKS)),
        ("16, all", set(BLOCKS)),
        ("16", {("input", 4, 0)}),
        (" 8 ,64", {("input", 1, 0), ("middle", 0, 0)}),
        ("Input", {("input", 1, 0), ("input", 4, 0)}),
        ("input.4", {("input", 4, 0)}),
        ("middle\noutput", {("middle", 0, 0), ("output", 4, 0)}),
        ("128", set()),
    ],
)
def test_blocks_are_chosen_by_size_and_name(text, expected):
    choice = BlockChoice.read(text)
    assert {block for block, pixels in BLOCKS.items() if choice.has(block, pixels)} == expected
    choice.check(BLOCKS)


@pytest.mark.parametrize("text", ["fine", "input.", "up.1", "16px", "input.1.0", "-8"])
def test_words_that_choose_no_block_are_refused(text):
    with pytest.raises(ValueError, match="no blocks"):
        BlockChoice.read(f"middle, {text}")


def test_a_block_that_the_model_has_not_is_refused():
    with pytest.raises(ValueError, match=r"no blocks input\.2\. It has input, input\.1, .*output\.4"):
        BlockChoice.read("input.2, 8").check(BLOCKS)


def test_only_chosen_blocks_are_recorded():
    record, x, objs = example((LEFT,), settings=RecordSettings(BlockChoice.read("16")))
    assert record.is_empty and not record.sums
    run(record, x[:, :16], objs, (4, 4))
    assert list(record.seen.values()) == [1] and list(record.sums) == [((4, 4), None)]


def test_a_part_of_the_schedule():
    record = record_of((LEFT,), (8, 8), settings=RecordSettings(start_percent=0.2, end_percent=0.6))
    assert [record.watches(percent) for percent in (0.1, 0.2, 0.59, 0.6, 1.0)] == [
        False,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("start, end", [(0.6, 0.2), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)])
def test_a_part_that_is_none_is_refused(start, end):
    with pytest.raises(ValueError, match=f"start_percent is {start} and end_percent {end};"):
        RecordSettings(start_percent=start, end_percent=end)


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0])
def test_a_part_may_be_a_moment_and_without_one_all_is_recorded(moment):
    assert RecordSettings(start_percent=moment, end_percent=moment).blocks.has(BLOCK, 8)
    assert record_of((LEFT,), (8, 8)).watches(moment)


# -- masks --------------------------------------------------------------------------------------------------


def test_masks_are_scaled_as_asked():
    record, *_ = example((LEFT, Region("weak", (0.5, 0, 1, 1), strength=1e-6)))

    def masks(scale, by_token=False):
        return attention_masks(record, 0, (0, 1), by_token, scale, (8, 8))

    each, together, raw = map(masks, SCALES)
    assert each.amax((1, 2, 3)).tolist() == [1, 1]
    assert together.max() == 1 and together[1].max() < 0.1
    assert torch.allclose(raw[0, 0], record.maps(0, 0).sum(0))
    assert torch.allclose(together * raw.max(), raw, atol=1e-6)
    tokens = masks(SCALES[2], by_token=True)
    assert tokens.shape == (2, TOKENS, 8, 8) and torch.allclose(tokens.sum(1, keepdim=True), raw, atol=1e-6)
    assert torch.allclose(masks(SCALES[0], by_token=True).amax((2, 3)), torch.ones(2, TOKENS)), (
        "every token's own"
    )
    (second,) = attention_masks(record, 0, (1,), False, SCALES[0], (16, 24))
    assert second.shape == (1, 16, 24) and second.max() == 1


def record_of_tokens(tokens, region=LEFT):
    """One call's attention to each token of an instance, (L, height, width)."""
    grid = tuple(tokens.shape[1:])
    record = AttentionRecord((region,), grid, 1, tuple(map(str, range(len(tokens)))))
    record.seen[BLOCK] = 1
    record.sums[grid, None] = Sums(tokens.flatten(1)[None, None], torch.zeros(1, 1, 4), torch.ones(1, 1))
    return record


def test_masks_are_smooth_between_cells_and_end_at_the_edge_of_the_place():
    """Two pixels to a cell: each is three quarters of its own cell and one of the next."""
    row = torch.tensor([0.8, 0.4, 0.0, 0.0])
    (mask,) = attention_masks(record_of_tokens(row.expand(1, 4, 4)), 0, (0,), False, SCALES[2], (8, 8))[0]
    expected = torch.tensor([0.8, 0.7, 0.5, 0.3, 0, 0, 0, 0])
    assert torch.allclose(mask, expected.expand(8, 8), atol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_a_mask_is_never_above_one(scale):
    """The parts of all tokens, rounded, may add up to a hair more."""
    tokens = torch.full((3, 2, 2), 1 / 3)
    tokens[0, 0, 0] += 1e-4
    masks = attention_masks(record_of_tokens(tokens), 0, (0,), False, scale, (4, 4))
    assert masks.max() == 1 and masks.min() >= 0


@pytest.mark.parametrize("scale", SCALES)
def test_a_region_that_took_no_part_has_an_empty_mask(scale):
    record = record_of((LEFT, RIGHT), (8, 8))
    run(record, torch.randn(1, 64, WIDTH), torch.randn(1, TOKENS, CONTEXT), (8, 8), chosen=(0,))
    present, absent = attention_masks(record, 0, (0, 1), False, scale, (16, 16))
    assert present.any() and present.min() >= 0 and present.max() <= 1
    assert torch.equal(absent, torch.zeros(1, 16, 16))
    nobody = attention_masks(record_of((LEFT,), (8, 8)), 0, (0,), False, scale, (16, 16))
    assert torch.equal(nobody, torch.zeros(1, 1, 16, 16))


def test_heat_is_drawn_of_the_region_chosen_over_the_picture():
    regions = (Region("left", LEFT.box), Region("right", RIGHT.box))
    record, *_ = example(regions, (8, 12), (8, 12))
    masks = attention_masks(record, 0, (1, 0), False, "each", (64, 96))
    image = np.full((64, 96, 3), 0.5, np.float32)
    right, left = heat_pictures(record, (1, 0), masks, image)
    (alone,) = heat_pictures(record, (1,), masks[:1], image)
    assert np.array_equal(right, alone) and right.shape == left.shape
    assert right.shape[0] / right.shape[1] == pytest.approx(64 / 96)
    drawn = draw_heat(masks[0, 0].numpy(), 1, regions[1], 96, 64, image)
    assert np.array_equal(right, np.asarray(drawn)) and not np.array_equal(right, left)
    by_token = attention_masks(record, 0, (1,), True, "each", (64, 96))
    (tokens,) = heat_pictures(record, (1,), by_token, image)
    assert np.array_equal(tokens, np.asarray(draw_heats(by_token[0].numpy(), NAMES, 96, 64, image)))


def test_the_leakage_picture_has_all_heat_on_one_scale_and_a_bar_for_each():
    record, *_ = example((LEFT, Region("weak", RIGHT.box, strength=1e-6)), (8, 12), (8, 12))
    drawn = leakage_picture(record, 0, (64, 96))
    weights = attention_masks(record, 0, (0, 1), False, "together", (64, 96))[:, 0].numpy()
    bars = [bar_of(leak, index) for index, leak in enumerate(leakage(record.shares(0)))]
    assert np.array_equal(drawn, np.asarray(draw_parts(weights, bars, record.regions, 96, 64, None)))


def test_a_record_that_has_ended_keeps_the_sums_alone():
    record, *_ = example((LEFT, RIGHT), rows=2)
    before, held = record.maps(1, 0), record.size()
    assert held == 4 * 2 * (2 * TOKENS * 64 + 2 * 6)
    record.finish()
    assert torch.equal(record.maps(1, 0), before) and record.size() == held
    assert not record._placements and not record._wheres


# -- leakage ------------------------------------------------------------------------------------------------


def test_the_report_divides_what_each_area_attends_to():
    shares = torch.tensor(
        [
            [0.2, 0.05, 0.0, 0.3, 0.05, 0.1, 0.25, 0.05],
            [0.0, 0.4, 0.0, 0.2, 0.3, 0.0, 0.1, 0.0],
            [0.0] * 8,
        ]
    )
    first, second, third = leakage(shares)
    assert first.words == pytest.approx(0.2) and first.area == pytest.approx(0.3)
    assert first.others == pytest.approx((0, 0.1, 0.1)) and first.background == pytest.approx(0.3)
    assert second.others == pytest.approx((0.2, 0, 0)) and not third.took_part
    for index, leak in enumerate((first, second)):
        assert sum(part.length for part in bar_of(leak, index)) == pytest.approx(1)
    assert [part.region for part in bar_of(first, 0)] == [0, 0, 1, 2, None]
    assert [part.pale for part in bar_of(first, 0)] == [False, True, False, False, False]
    assert [part.region for part in bar_of(second, 1)] == [1, 1, 0, None], "nothing of what got nothing"


@pytest.mark.parametrize(
    "phrase, shown",
    [
        ("a mug\n on a  shelf", "a mug on a shelf"),
        ("m" * 60, "m" * 60),
        ("m" * 61, "m" * 57 + "..."),
    ],
)
def test_the_report_shows_a_phrase_on_one_line_and_not_too_long(phrase, shown):
    record, *_ = example((Region(phrase, LEFT.box), RIGHT))
    assert report(record).splitlines()[2].startswith(f"1 {shown}: itself ")


def test_the_report_gives_every_share_in_per_cent():
    """A region of which three others take different parts."""
    regions = tuple(Region(name, (0, 0, 1, 1)) for name in "abcd")
    record = record_of(regions, (8, 8))
    shares = torch.zeros(4, 10)
    shares[0, :4] = torch.tensor([0.11, 0.02, 0.2, 0.0])
    shares[0, 4:8] = torch.tensor([0.3, 0.05, 0.0, 0.001])
    shares[0, 8:] = torch.tensor([0.25, 0.069])
    shares[1, [1, 0, 8]] = torch.tensor([0.5, 0.004, 0.496])
    record.seen = {("output", 4, 0): 2, ("input", 1, 0): 3}
    record.sums = {((8, 8), None): Sums(torch.zeros(1, 4, 3, 64), shares[None], torch.ones(1, 4))}
    first, _, *lines = report(record).splitlines()
    assert first == "Recorded 3 times in the blocks input.1, output.4."
    assert lines == [
        "1 a: itself 41 (its words 11, its area 30), others 27 (most to 3: 20), background 32",
        "2 b: itself 50 (its words 50, its area 0), others 0, background 50",
        "3 c: took no part",
        "4 d: took no part",
    ]


def test_the_report_counts_pictures_from_one_and_names_none_of_a_single_one():
    single, *_ = example((LEFT, RIGHT))
    assert "picture" not in report(single)
    two, *_ = example((LEFT, RIGHT), rows=2)
    lines = report(two).splitlines()[2:]
    assert [lines[0], lines[3]] == ["picture 1", "picture 2"]
    assert [line[:3] for line in lines if not line.startswith("picture")] == ["1 l", "2 r"] * 2


def test_the_report_says_it_in_words():
    record, *_ = example((LEFT, BOTH, Region("absent", (0, 0, 1, 1), strength=0.0)))
    record = record_of((LEFT, BOTH, Region("absent", (0, 0, 1, 1), strength=0.0)), (8, 8))
    assert report(record).startswith("Nothing was recorded")
    torch.manual_seed(0)
    run(record, torch.randn(1, 64, WIDTH), torch.randn(2, TOKENS, CONTEXT), (8, 8), chosen=(0, 1))
    first, _, *lines = report(record).splitlines()
    assert first == "Recorded 1 times in the blocks input.1."
    leaks = leakage(record.shares(0))
    words, area = (round(100 * part) for part in leaks[0][:2])
    assert lines[0].startswith("1 left: itself ") and f"its words {words}, its area {area}" in lines[0]
    assert "(most to 2: " in lines[0] and lines[2] == "3 absent: took no part"


def test_attention_to_nothing_but_ones_own_leaks_nothing():
    """Two halves that hardly look at each other, and one picture full of a region: there is no background."""
    record, *_ = example((LEFT, RIGHT))
    for leak in leakage(record.shares(0)):
        assert leak.background == 0 and leak.words + leak.area + sum(leak.others) == pytest.approx(1)
    whole, *_ = example((Region("whole", (0, 0, 1, 1)),))
    (leak,) = leakage(whole.shares(0))
    assert leak.words + leak.area == pytest.approx(1) and leak.background == 0 and leak.others == (0,)
