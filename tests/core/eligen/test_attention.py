"""Attention by parts and by groups against the dense rule, and the rule against the reference implementation."""

import pytest
import torch
from deig_pack.deig_core.eligen import attention
from deig_pack.deig_core.eligen.attention import attend_by_groups, attend_in_parts, telling_attention
from deig_pack.deig_core.eligen.sight import Sight, text_positions
from deig_pack.tests.core.eligen.oracle import dense_allowed, dense_attention, dense_bias
from deig_pack.tests.core.eligen.test_places import NAMES, read_golden
from torch._subclasses.fake_tensor import FakeTensorMode

PROMPT = 6
TOLERANCE = 1e-5  # float32, with logits of up to 40


def boxes(grid, *places):
    """(N, rows * columns), bool, of boxes (x0, y0, x1, y1) in tokens."""
    rows, columns = grid
    out = torch.zeros(len(places), rows, columns, dtype=torch.bool)
    for place, (x0, y0, x1, y1) in zip(out, places, strict=True):
        place[y0:y1, x0:x1] = True
    return out.flatten(1)


CASES = {
    "one": ((5,), boxes((4, 4), (1, 1, 3, 4)), (1.0,)),
    "three overlapping, not square": (
        (5, 9, 3),
        boxes((6, 9), (0, 0, 6, 4), (3, 1, 9, 5), (4, 2, 7, 6)),
        (1.0, 1.0, 1.0),
    ),
    "strengths": ((5, 9, 3), boxes((6, 9), (0, 0, 6, 4), (3, 1, 9, 5), (4, 2, 7, 6)), (0.3, 1.0, 4.0)),
    "two in the same place, one everywhere": (
        (4, 4, 7),
        boxes((5, 3), (0, 0, 2, 2), (0, 0, 2, 2), (0, 0, 3, 5)),
        (1.0, 2.0, 1.0),
    ),
    "one token": ((8, 2), boxes((5, 7), (6, 4, 7, 5), (0, 0, 7, 2)), (1.0, 1.0)),
    "short texts beside a large image": ((2, 1), boxes((12, 16), (1, 1, 9, 9), (3, 2, 14, 5)), (1.0, 0.5)),
}


def tokens(sight, batch=2, heads=3, width=8, dtype=torch.float32, peaked=3.0):
    """Random q, k and v; q and k scaled up, so that a key too many or too few shows."""
    generator = torch.Generator().manual_seed(sight.length)
    q, k, v = torch.randn(3, batch, heads, sight.length, width, generator=generator).unbind()
    return (q * peaked).to(dtype), (k * peaked).to(dtype), v.to(dtype)


def dense(q, k, v, case):
    lengths, places, strengths = case
    return dense_attention(q, k, v, dense_bias(lengths, PROMPT, places, strengths))


def plain_attend(q, k, v, bias):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


@pytest.mark.parametrize("name", NAMES)
def test_the_rule_is_the_reference(name):
    golden, _ = read_golden(name)
    lengths = [golden[key].shape[1] for key in sorted(golden) if key.startswith("entity_")]
    places = golden["token_masks"].flatten(1)
    allowed = dense_allowed(lengths, golden["prompt"].shape[1], places)
    assert torch.equal(allowed, golden["attention_mask"])
    sight = Sight(tuple(lengths), golden["prompt"].shape[1], places, (1.0,) * len(lengths))
    seen = torch.zeros_like(allowed)
    for group in sight.groups:
        assert not seen[group.queries].any()
        seen[group.queries[:, None], group.keys] = True
    assert torch.equal(seen, golden["attention_mask"])


@pytest.mark.parametrize("rows", [4096, 7], ids=["at once", "in pieces"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_parts_equal_the_dense_rule(case, rows, monkeypatch):
    monkeypatch.setattr(attention, "QUERIES", rows)
    monkeypatch.setattr(attention, "GATHERED", rows * 2 * 3 * 8)
    sight = Sight(case[0], PROMPT, *case[1:])
    q, k, v = tokens(sight)
    given = [t.clone() for t in (q, k, v)]
    out = attend_in_parts(telling_attention(q, k, v), q, k, v, sight)
    assert (out - dense(q, k, v, case)).abs().max() <= TOLERANCE
    assert all(torch.equal(*pair) for pair in zip(given, (q, k, v), strict=True))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_groups_equal_the_dense_rule(case):
    sight = Sight(case[0], PROMPT, *case[1:])
    q, k, v = tokens(sight)
    out = attend_by_groups(plain_attend, q, k, v, sight)
    assert (out - dense(q, k, v, case)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("shape", [(-1, -1), (1, 1, -1, -1), (2, 1, 1, -1), (2, 3, -1, -1)])
def test_groups_add_the_masks_of_others(shape):
    case = CASES["strengths"]
    sight = Sight(case[0], PROMPT, *case[1:])
    q, k, v = tokens(sight)
    mask = torch.randn([sight.length if size == -1 else size for size in shape])
    out = attend_by_groups(plain_attend, q, k, v, sight, mask)
    bias = dense_bias(case[0], PROMPT, *case[1:])
    assert (out - dense_attention(q, k, v, bias + mask)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with a mask of others"])
def test_each_token_asks_once_and_all_in_its_own_precision(others):
    """What an attention of the host's is called with; where there is no prompt nobody asks for it."""
    case = CASES["strengths"]
    sight = Sight(case[0], 0, *case[1:])
    q, k, v = tokens(sight, dtype=torch.half, peaked=1.0)
    mask = torch.randn(sight.length, sight.length, generator=torch.Generator().manual_seed(0))
    asked = []

    def attend(q, k, v, bias):
        asked.append(q.shape[2])
        assert bias is None or (bias.dtype == q.dtype and bias.shape[-2:] == (q.shape[2], k.shape[2]))
        return plain_attend(q, k, v, bias)

    out = attend_by_groups(attend, q, k, v, sight, mask if others else None)
    assert min(asked) > 0 and sum(asked) == sight.length
    bias = dense_bias(case[0], 0, *case[1:]) + (mask if others else 0)
    assert (out - dense_attention(q, k, v, bias)).abs().max() <= 5e-3


def test_the_comparison_tells_who_is_seen():
    """An entity that another token too many sees, or a wrong strength, lies far outside the tolerance."""
    lengths, places, strengths = CASES["three overlapping, not square"]
    sight = Sight(lengths, PROMPT, places, strengths)
    q, k, v = tokens(sight)
    out = attend_in_parts(telling_attention(q, k, v), q, k, v, sight)
    moved = places.clone()
    moved[0, -1] = True
    assert (out - dense(q, k, v, (lengths, moved, strengths))).abs().max() > 1e-3
    assert (out - dense(q, k, v, (lengths, places, (1.0, 1.1, 1.0)))).abs().max() > 1e-3


def test_who_is_absent_or_lacks_a_part_is_refused():
    lengths, places, strengths = CASES["strengths"]
    for left_out in range(3):
        parts = [
            part[1:] if number == left_out else part
            for number, part in enumerate((lengths, places, strengths))
        ]
        with pytest.raises(ValueError, match=" and ".join([r"\d texts, \d places", r"\d strengths"])):
            Sight(parts[0], PROMPT, parts[1], parts[2])
    nowhere = places.clone()
    nowhere[1] = False
    for absent in ((places, (0.3, 0.0, 4.0)), (places, (0.3, -1.0, 4.0)), (nowhere, strengths)):
        with pytest.raises(ValueError, match="leave it out"):
            Sight(lengths, PROMPT, *absent)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_and_no_more(dtype):
    case = CASES["strengths"]
    sight = Sight(case[0], PROMPT, *case[1:])
    q, k, v = tokens(sight, dtype=dtype, peaked=1.0)
    expected = dense(q, k, v, case)
    dense_rounds = (
        (plain_attend(q, k, v, dense_bias(case[0], PROMPT, *case[1:]).to(dtype)) - expected).abs().max()
    )
    out = attend_in_parts(telling_attention(q, k, v), q, k, v, sight)
    assert (out - expected).abs().max() <= 3 * dense_rounds


def test_no_log_sum_exp_where_gradients_are_wanted():
    q = torch.randn(1, 2, 5, 8)
    assert telling_attention(q, q, q) is not None
    assert telling_attention(q, q.clone().requires_grad_(), q) is None


@pytest.mark.parametrize(
    "flash, efficient, tells", [(True, True, "flash"), (False, True, "efficient"), (False, False, None)]
)
def test_on_an_accelerator_the_first_attention_that_there_is(flash, efficient, tells, monkeypatch):
    """Without one: torch makes shapes alone, and is told which attention the device has."""
    monkeypatch.setattr(torch.backends.cuda, "can_use_flash_attention", lambda params: flash)
    monkeypatch.setattr(torch.backends.cuda, "can_use_efficient_attention", lambda params: efficient)
    with FakeTensorMode():
        q, k, v = (torch.empty(1, 2, size, 8, device="cuda", dtype=torch.half) for size in (45, 20, 20))
        tell = telling_attention(q, k, v)
        assert (tells in tell.__name__) if tells else tell is None
        if tells:
            out, sums = tell(q, k, v)
            assert (out.shape, sums.shape) == (q.shape, (1, 2, 45)) and sums.dtype == torch.float32
    assert telling_attention(*torch.empty(3, 1, 2, 45, 8, device="meta")) is None


def test_a_token_is_gathered_at_a_time_where_rows_are_wide(monkeypatch):
    """However large the batch is, at least one is."""
    monkeypatch.setattr(attention, "GATHERED", 10)
    case = CASES["strengths"]
    sight = Sight(case[0], PROMPT, *case[1:])
    q, k, v = tokens(sight)
    out = attend_in_parts(telling_attention(q, k, v), q, k, v, sight)
    assert (out - dense(q, k, v, case)).abs().max() <= TOLERANCE


def test_absent_entities_are_refused():
    places = boxes((4, 4), (0, 0, 2, 2), (1, 1, 1, 1))
    with pytest.raises(ValueError, match="covers no image token or has strength 0"):
        Sight((3, 3), PROMPT, places, (1.0, 1.0))
    with pytest.raises(ValueError, match="leave it out"):
        Sight((3,), PROMPT, places[:1], (0.0,))
    with pytest.raises(ValueError, match="one of each"):
        Sight((3,), PROMPT, places, (1.0,))


def test_every_text_counts_from_the_start():
    assert text_positions((3, 1, 2)).tolist() == [0, 1, 2, 0, 0, 1]
