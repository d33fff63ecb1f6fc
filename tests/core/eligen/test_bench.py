"""The EliGen bench without a host: what is asked, how far the ways lie apart, and what is written."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from bench.bars import Ruling
from bench.eligen import run
from bench.speed import measure
from bench.speed.pairs import FEWEST, Budget
from bench.speed.results import Compared, Once

CPU = torch.device("cpu")
FEW = Budget(pairs=FEWEST)


@pytest.fixture
def made(monkeypatch):
    """Stand-ins for models of full width, whose ways differ in what they multiply and give; notes what is made."""
    noted = []

    def way(side: int, *result: float):
        def forward():
            torch.ones(side, 10) @ torch.ones(10, 10)
            return torch.tensor(result, dtype=torch.bfloat16)

        return forward

    def make(*how):
        noted.append(how)
        # The result's size is that of the square mask's, 8; the two lie 0.5 apart at most.
        plain, eligen, dense = way(10, 9.0, 9.0), way(15, 1.0, -7.5), way(30, 1.25, -8.0)
        return SimpleNamespace(
            plain=plain, eligen=eligen, dense=dense, patcher=SimpleNamespace(load_device=CPU)
        )

    models = ModuleType("bench.eligen.models")
    models.make = make
    monkeypatch.setitem(sys.modules, "bench.eligen.models", models)
    # To look through all of a large process for garbage takes long.
    monkeypatch.setattr(measure, "gc", SimpleNamespace(collect=lambda: 0))
    monkeypatch.setattr(run, "gc", SimpleNamespace(collect=lambda: 0))
    return noted


def test_eligen_and_the_square_mask_are_held_against_the_plain_model_and_each_other(made):
    compared, away = run.measure("FLUX.1", "bf16", FEW)
    assert made == [("FLUX.1", 8, (128, 128), torch.bfloat16)]  # 1024 x 1024 pixels
    assert [(str(one.question), one.question.at_most) for one in compared.answers] == [
        ("EliGen, N = 8, over plain", 1.15), ("square mask, N = 8, over plain", None),
    ]  # fmt: skip
    assert [one.question.counted for one in compared.answers] == [1.5, 3.0]
    assert away == pytest.approx(0.5 / 8)


def test_a_bench_writes_what_every_family_came_to(made, monkeypatch, tmp_path, capsys):
    out = tmp_path / "made" / "here"
    monkeypatch.setattr(
        sys, "argv", ["run", "--host", "there", "--out", str(out), "--pairs", str(FEWEST), "--dtype", "fp32"]
    )
    opened = []
    monkeypatch.setattr(run, "open_device", lambda host: opened.append(host) or CPU)
    run.main()
    assert [how[0] for how in made] == ["FLUX.1", "Qwen-Image"] and made[0][3] is torch.float32
    assert [str(host) for host in opened] == ["there"]
    record, said = json.loads((out / "eligen.json").read_text()), capsys.readouterr().out
    assert record["machine"]["device"] == "cpu"
    assert [(call["where"], call["difference"]) for call in record["calls"]] == [
        ("FLUX.1, fp32", 0.0625), ("Qwen-Image, fp32", 0.0625),
    ]  # fmt: skip
    counts = {name: one["multiplications"] for name, one in record["calls"][1]["once"].items()}
    assert counts == {"EliGen, N = 8": 1500, "plain": 1000, "square mask, N = 8": 3000}
    assert [one["where"] for one in record["answers"]] == ["FLUX.1, fp32"] * 2 + ["Qwen-Image, fp32"] * 2
    assert {len(one["seconds"]) for one in record["answers"]} == {FEWEST}
    differences = [bar for bar in record["bars"] if bar["what"].startswith("difference")]
    assert [(bar["where"], bar["ruling"]) for bar in differences] == [
        ("FLUX.1, fp32", Ruling.NOT_MET), ("Qwen-Image, fp32", Ruling.NOT_MET),
    ]  # fmt: skip
    assert str(out / "eligen.json") in said and "NOT MET" in said


@pytest.mark.parametrize(
    "more, families, dtype",
    [(["--family", "Qwen-Image"], ["Qwen-Image"], torch.bfloat16), ([], ["FLUX.1", "Qwen-Image"], torch.bfloat16)],
)  # fmt: skip
def test_one_precision_is_measured_that_the_device_is_for(made, more, families, dtype, monkeypatch, tmp_path):
    """Of several the first; on a card that would be bf16."""
    monkeypatch.setattr(sys, "argv", ["run", "--host", "there", "--out", str(tmp_path), *more])
    monkeypatch.setattr(run, "open_device", lambda host: CPU)
    monkeypatch.setattr(run, "dtypes_for", lambda device: ["bf16", "fp16"])
    monkeypatch.setattr(run, "compare", lambda makers, *_: look(makers))
    budgets = []
    measured = run.measure
    monkeypatch.setattr(run, "measure", lambda *how: budgets.append(how[2]) or measured(*how))
    run.main()
    assert [(how[0], how[3]) for how in made] == [(family, dtype) for family in families]
    assert set(budgets) == {Budget()}


def look(makers) -> Compared:
    """What a comparison leaves, without timing anything."""
    for make in makers.values():
        make().call()
    return Compared({name: Once(1, None) for name in makers}, ())


def test_what_a_family_took_is_said_by_its_names(capsys):
    once = {run.PLAIN: Once(2_500_000_000, 1_250_000_000), run.ELIGEN: Once(3_000_000_000, None)}
    run.say("FLUX.1", Compared(once, ()))
    plain, eligen = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert plain == "FLUX.1 plain 2.50 G multiplications peak 1.250 GB above the weights"
    assert eligen == "FLUX.1 EliGen, N = 8 3.00 G multiplications"
