"""The benchmark compares ways of painting that give the same picture where they should, and counts what they do."""

import json
import math

import pytest
import torch
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.nodes.host.unet import patch_model
from deig_pack.tests.host.test_patch import adapter_patcher, difference, make_grounding, sample

from bench.bars import Ruling
from bench.speed import rest, text
from bench.speed.cases import Models, makers
from bench.speed.compare import compare, look_at
from bench.speed.dense import patch_dense
from bench.speed.models import SD15
from bench.speed.pairs import FEWEST, Budget, CaseName
from bench.speed.questions import DEIG, GLIGEN, MASKS, PAIRINGS, PLAIN, QUICK
from bench.speed.results import record_of

# One level of one block: transformers at input 1, in the middle, and at output 0 and 1, all 320 wide.
TINY = SD15 | {
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}
TINY_BLOCKS, WIDTH, CELLS = 4, 320, (8, 12)


def test_the_dense_formulation_paints_the_same(fast_model, fast_adapter_state):
    grounding = make_grounding(fast_adapter_state)
    adapter = adapter_patcher(grounding.adapter)
    expected = sample(patch_model(fast_model, adapter, grounding, Schedule()))
    plain = sample(fast_model)
    assert difference(plain, expected) > 0.01
    for fused_kernel in (False, True):
        with torch.inference_mode():
            dense = sample(patch_dense(fast_model, adapter, grounding, fused_kernel))
        assert difference(dense, expected) <= 1e-4


@pytest.fixture(scope="module")
def tiny_models():
    with torch.inference_mode():
        return Models(torch.float32, TINY)


def deig_multiplications(instances: int) -> int:
    """What DEIG multiplies in a call of two rows, the positive one with instances of 16 tokens: eqs. 4 to 8."""
    image, tokens = math.prod(CELLS), 16 * instances
    layers = 4 * WIDTH**2 + 12 * WIDTH**2  # q, k, v, out; the gated feed-forward net of 4 times the width
    rows = 2 * (image * layers + 2 * image**2 * WIDTH)
    return TINY_BLOCKS * (rows + tokens * (768 * WIDTH + 2 * WIDTH**2) + 2 * image * tokens * WIDTH)


def position_multiplications(instances: int) -> int:
    return 16 * instances * (832 * 512 + 512 * 512 + 512 * 768)


def test_every_way_is_counted(tiny_models):
    cases = makers(tiny_models, CELLS)
    assert set(cases) == {case for pairing in PAIRINGS for case in (pairing.ours, pairing.other)}
    wanted = (CaseName(PLAIN), *(CaseName(DEIG, n) for n in (0, 8)), CaseName(GLIGEN, 8), CaseName(MASKS, 8))
    with torch.inference_mode():
        plain, none, eight, gligen, masks = (look_at(cases[name](), 1).multiplications for name in wanted)
    # To have no instances is to have one that no row is told.
    assert none - plain == deig_multiplications(0) + position_multiplications(1)
    assert eight - plain == deig_multiplications(8) + position_multiplications(8)
    assert gligen == pytest.approx(eight, rel=0.1)  # 30 tokens for both rows, where DEIG has 128 for one
    assert masks / plain == pytest.approx(
        5, rel=0.01
    )  # the prompt, 8 more and the negative are 10 rows, not 2


def test_ways_are_compared_in_pairs(tiny_models):
    names = [(CaseName(DEIG, 1), CaseName(PLAIN)), (CaseName(DEIG, 8), CaseName(GLIGEN, 8))]
    pairings = [pairing for pairing in PAIRINGS if (pairing.ours, pairing.other) in names]
    kept = []
    with torch.inference_mode():
        compared = compare(
            makers(tiny_models, CELLS), pairings, Budget(pairs=FEWEST), "tiny", keep=kept.append
        )
    # Who ends it after an hour has what was answered.
    assert [one.answers for one in kept] == [compared.answers[:1], compared.answers]
    assert json.dumps(record_of({}, [("tiny", "fp32", kept[0])]))
    assert [(answer.question.ours, answer.question.other) for answer in compared.answers] == names
    for answer in compared.answers:
        assert len(answer.pairs) == FEWEST
        assert all(seconds > 0 for pair in answer.pairs for seconds in pair)
    record = json.loads(json.dumps(record_of({}, [("tiny", "fp32", compared)])))
    assert [row["way"] for row in record["calls"]] == [DEIG]  # the other is not over the plain call
    assert {bar["ruling"] for bar in record["bars"]} <= {ruling.value for ruling in Ruling}
    assert [bar["what"] for bar in record["bars"]][:2] == [
        str(answer.question) for answer in compared.answers
    ]


def test_what_does_not_fit_is_left_out(tiny_models):
    """An accelerator's memory may be too small for one of the cases: the others are compared."""

    def too_large():
        raise torch.OutOfMemoryError("as torch says it")

    cases = makers(tiny_models, CELLS) | {CaseName(DEIG, 30): too_large}
    with torch.inference_mode():
        compared = compare(cases, QUICK[1:], Budget(pairs=FEWEST), "tiny")
    assert CaseName(DEIG, 30) not in compared.once
    assert [answer.question.ours for answer in compared.answers] == [CaseName(DEIG, 8)]


def test_tokens_are_computed_anew_each_time_and_once_for_two_seeds(tiny_models, monkeypatch):
    monkeypatch.setattr(rest, "COUNTS", (2, 1))
    read = []
    ide = tiny_models.refiner.adapter.IDE
    hook = ide.register_forward_hook(lambda module, given, tokens: read.append(tokens.shape))
    with torch.inference_mode():
        assert rest.measure_tokens(tiny_models) > 0
        assert len(read) == 5 and {shape[0] for shape in read} == {2}
        assert rest.count_second_seed(tiny_models) == 0 and len(read) > 5
    hook.remove()


def test_the_text_encoder_is_measured_as_the_node_loads_it(monkeypatch):
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    monkeypatch.setattr(text, "FLAN_T5_XL", text.FLAN_T5_XL | sizes)
    asked = []
    monkeypatch.setattr(text, "pick_dtype", lambda *asks: asked.append(asks) or torch.bfloat16)
    with torch.inference_mode():
        encoder = text.random_encoder()
        kinds = {parameter.dtype for parameter in encoder.patcher.model.parameters()}
        assert kinds == {torch.bfloat16} and asked == [("auto", encoder.patcher.load_device)]
        measured = text.measure_text(encoder, 3)
    assert {name: figures["encoded"] for name, figures in measured.items()} == {
        "cold": 3,
        "a box moved": 0,
        "a phrase changed": 1,
    }
