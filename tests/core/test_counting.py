"""Multiplications are those of the formulas, on every path that a model takes on a CPU; and what becomes of figures."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from bench import checkpoint_memory
from bench.bars import Ruling
from bench.eligen import run as eligen
from bench.random_weights import QK_GAIN, clip_conditioning, draw_weights, save_state
from bench.speed import device
from bench.speed import run as speed
from bench.speed.counting import count_multiplications
from bench.speed.measure import timing
from bench.speed.pairs import Answer, Budget, CaseName, Question
from bench.speed.questions import PAIRINGS, QUICK
from bench.speed.report import say_bars, say_rest, say_table
from bench.speed.results import Compared, Once, bars_of, record_of, rows_of, tokens_bar


def attention(mask=None):
    q, k = torch.randn(2, 8, 100, 40), torch.randn(2, 8, 50, 40)
    return lambda: F.scaled_dot_product_attention(q, k, k, attn_mask=mask)


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (lambda: F.linear(torch.randn(3, 5, 7), torch.randn(11, 7)), 3 * 5 * 7 * 11),
        (
            lambda: torch.einsum("bhid,bhjd->bhij", torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5)),
            6 * 24 * 5,
        ),
        (lambda: F.conv2d(torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), padding=1), 2 * 64 * 4 * 27),
        (attention(), 2 * 16 * 100 * 50 * 40),
        (attention(torch.zeros(100, 50)), 2 * 16 * 100 * 50 * 40),
        (lambda: torch.randn(10) * torch.randn(10), 0),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_counts_are_those_of_the_formulas(call, count, inference):
    with torch.inference_mode(inference), torch.no_grad():
        assert count_multiplications(call) == count


PLAIN, DEIG, DENSE, MOST = CaseName("plain"), CaseName("DEIG", 3), CaseName("dense", 3), CaseName("DEIG", 30)


def answer(ours: CaseName, other: CaseName, seconds: float, **question) -> Answer:
    """An answer of ten pairs, the other of which takes two seconds."""
    return Answer(Question(ours, other, **question), ((seconds, 2.0),) * 9 + ((10 * seconds, 2.0),))


COMPARED = Compared(
    {PLAIN: Once(100, 1000), DEIG: Once(150, 1500), DENSE: Once(900, 9000), MOST: Once(300, None)},
    (
        answer(DEIG, PLAIN, 3.0, counted=1.5, within=0.1), answer(DENSE, DEIG, 8.0, at_least=2),
        answer(MOST, PLAIN, 5.0, at_most=2.0, counted=3.0),
    ),
)  # fmt: skip


def test_rows_are_of_what_was_compared_with_the_plain_call():
    first, second = rows_of(COMPARED, "512x512", "fp32")
    assert first == {
        "size": "512x512", "dtype": "fp32", "way": "DEIG", "count": 3, "seconds": 3.0, "over_plain": 1.5,
        "spread": [1.5, 15.0], "pairs": 10, "counted": 1.5, "peak": 1500, "peak_over_plain": 500,
    }  # fmt: skip
    assert (second["count"], second["peak"], second["peak_over_plain"]) == (30, None, None)
    only_others = Compared({DEIG: Once(1, 1), DENSE: Once(1, 1)}, COMPARED.answers[1:2])
    assert rows_of(only_others, "512x512", "fp32") == []


def test_bars_are_of_answers_that_have_one_and_of_the_memory_beside_the_dense_formulation():
    bars = bars_of(COMPARED, "512x512, fp32")
    assert [bar.what for bar in bars] == [
        *("dense, N = 3, over DEIG, N = 3", "DEIG, N = 30, over plain"),
        "extra memory over the dense formulation's, N = 3",
    ]
    assert [bar.ruling for bar in bars] == [Ruling.MET, Ruling.NOT_MET, Ruling.MET]
    assert bars[2].measured == "0.0625" and bars[2].wanted == "at most 0.125"
    for missing in (PLAIN, DEIG, DENSE):
        once = COMPARED.once | {missing: Once(1, None)}
        assert len(bars_of(Compared(once, COMPARED.answers), "")) == 2
    less = COMPARED.once | {DEIG: Once(150, 900)}
    assert bars_of(Compared(less, COMPARED.answers), "")[2].measured == "0"


def test_tokens_are_held_against_a_call_of_the_most_instances():
    (bar,) = tokens_bar(0.4, COMPARED, "here")
    assert (bar.measured, bar.wanted, bar.met, bar.where) == ("0.08", "at most 0.08", True, "here")
    assert not tokens_bar(0.41, COMPARED, "")[0].met
    assert tokens_bar(0.4, Compared(COMPARED.once, COMPARED.answers[:2]), "") == []


MACHINE = {"device": "cpu", "name": "x86", "threads": 2, "cores": 8, "load": 1.25, "torch": "2.11"}


def test_the_record_says_where_everything_is_from(capsys):
    (extra,) = tokens_bar(0.4, COMPARED, "here")
    record = record_of(MACHINE, [("512x512", "fp32", COMPARED)], [extra])
    assert [one["where"] for one in record["answers"]] == ["512x512, fp32"] * 3
    assert [bar["where"] for bar in record["bars"]] == ["512x512, fp32"] * 3 + ["here"]
    assert json.loads(json.dumps(record))["bars"][1]["ruling"] == "not met"
    say_table(record)
    text = capsys.readouterr().out
    assert "cpu x86, 2 threads of 8 cores, load 1.2, torch 2.11" in text
    lines = [line.split() for line in text.splitlines() if line.startswith("512x512")]
    assert " ".join(lines[0]) == "512x512 fp32 DEIG 3 3.0000 1.50 1.50 to 15.00 10 1.50 0.00 GB 0.00 GB"
    say_bars(record)
    ends = [line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [end.removeprefix("at least 2").strip() for end in ends] == ["met", "NOT MET", "met", "met"]
    say_table(record_of(MACHINE | {"load": None}, []))
    assert "8 cores, torch" in capsys.readouterr().out


def test_what_is_measured_once_is_said_in_gigabytes(capsys):
    mode = {"unet": 1.5e9, "adapter": 0, "text_encoder": 2e9, "peak": None, "difference": 0.0}
    text = {"cold": {"encoded": 10, "seconds": 1.5}}
    say_rest({"text": text, "low_memory": {"--novram": mode}})
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["--novram", "1.50", "0.00", "2.00", "0.0e+00"]
    assert lines[2].split() == ["cold", "10", "encoded", "1.500", "s"]


@pytest.mark.parametrize(
    "more, asked",
    [([], PAIRINGS), (["--quick"], QUICK), (["--quick", "--way", "dense"], None), (["--way", "dense"], None)],
)
def test_a_way_is_asked_about_wherever_it_takes_part(more, asked, monkeypatch):
    monkeypatch.setattr("sys.argv", ["run", "--host", "there", "--out", "here", *more])
    pairings = speed.parse_arguments().pairings
    if asked is None:
        assert {tuple(sorted((one.ours.way, one.other.way))) for one in pairings} == {
            ("DEIG", "dense"),
            ("dense", "plain"),
        }
    else:
        assert pairings == asked


@pytest.mark.parametrize(
    "more, told",
    [
        (["--quick", "--size", "512x512"], "leave --size out"),
        (
            ["--way", "none"],
            "--way is 'none'; it takes one of: DEIG, GLIGEN, InstanceDiffusion, areas, dense, ",
        ),
    ],
)
def test_questions_that_nobody_can_ask_are_refused(more, told, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run", "--host", "there", "--out", "here", *more])
    with pytest.raises(SystemExit):
        speed.parse_arguments()
    assert told in capsys.readouterr().err


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "more", [["--quick", "--pairs", "9"], ["--only-pairs", "--size", "768x512", "--minutes", "2"]]
)
def test_options_of_the_speed_bench_reach_it(more, monkeypatch, tmp_path, threads):
    calls, is_quick = [], "--quick" in more
    record = record_of(MACHINE, [])

    def measured(*how):
        calls.append(how)
        return record

    torch.set_num_threads(2)
    out = tmp_path / "made" / "here"
    monkeypatch.setattr("sys.argv", ["run", "--host", "there", "--out", str(out), *more])
    monkeypatch.setattr(speed, "open_device", lambda host: torch.device("cpu"))
    for name in ("look_quickly", "measure"):
        monkeypatch.setattr(speed, name, measured)
    curves = []
    monkeypatch.setattr(speed, "write_curves", lambda result, path: curves.append(path))
    speed.main()
    (call,) = calls
    if is_quick:
        assert call == (torch.device("cpu"), "fp32", QUICK, Budget(9, 30.0))
    else:
        assert (call[1:5], call[6]) == ((["768x512"], ["fp32"], PAIRINGS, Budget(40, 120.0)), None)
    assert torch.get_num_threads() == (1 if is_quick else 2)
    assert json.loads((out / "speed.json").read_text()) == record
    assert curves == ([] if is_quick else [out / "speed.png"])


def test_a_cpu_is_measured_in_full_precision_and_told():
    cpu = torch.device("cpu")
    assert device.dtypes_for(cpu) == ["fp32"]
    told = device.machine_of(cpu)
    assert (
        told["device"] == "cpu"
        and told["threads"] == torch.get_num_threads()
        and told["torch"] == torch.__version__
    )


def test_one_thread_is_timed_by_its_cpu_seconds(monkeypatch, threads):
    ticks = {"process_time": iter([1.0, 3.0]), "perf_counter": iter([10.0, 15.0])}
    for name, clock in ticks.items():
        monkeypatch.setattr(f"bench.speed.measure.time.{name}", lambda clock=clock: next(clock))
    seconds = []
    for count in (1, 2):
        torch.set_num_threads(count)
        with timing(seconds, torch.device("cpu")):
            pass
    assert seconds == [2.0, 5.0]


def test_random_weights_keep_what_goes_through_them_of_one_size():
    shapes = {
        "a.alpha_attn": (1000,), "a.norm.weight": (1000,), "a.norm.bias": (1000,), "a.latents": (50, 50),
        "a.weight": (300, 400),
        "conv.weight": (300, 40, 3, 3), "attn.to_q.weight": (300, 400), "attn.to_v.weight": (300, 400),
        "attn.in_proj_weight": (300, 400),
    }  # fmt: skip
    drawn = draw_weights(shapes, seed=3)
    assert {name: tuple(tensor.shape) for name, tensor in drawn.items()} == shapes
    assert 0.5 < drawn["a.alpha_attn"].min() < 0.6 and 0.9 < drawn["a.alpha_attn"].max() < 1
    assert drawn["a.norm.weight"].mean() == pytest.approx(1, abs=0.02)
    assert drawn["a.norm.bias"].mean() == pytest.approx(0, abs=0.02)
    for name, expected in (
        ("a.norm.bias", 0.1),
        ("a.latents", 1),
        ("a.weight", 400**-0.5),
        ("conv.weight", 360**-0.5),
    ):
        assert drawn[name].std() == pytest.approx(expected, rel=0.1), name
    assert drawn["attn.to_q.weight"].std() == pytest.approx(QK_GAIN * 400**-0.5, rel=0.05)
    assert drawn["attn.to_v.weight"].std() == pytest.approx(400**-0.5, rel=0.05)
    stds = [part.std().item() * 20 for part in drawn["attn.in_proj_weight"].chunk(3)]
    assert stds == pytest.approx([QK_GAIN, QK_GAIN, 1], rel=0.05)
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in draw_weights(shapes, seed=3).items())
    assert not torch.equal(draw_weights(shapes, seed=4)["a.weight"], drawn["a.weight"])


def test_made_up_conditioning_is_that_of_its_seed_and_has_what_goes_with_it():
    ((tensor, options),) = clip_conditioning(5, strength=0.5)
    assert tensor.shape == (1, 77, 768) and options == {"strength": 0.5}
    assert torch.equal(tensor, clip_conditioning(5)[0][0]) and not torch.equal(
        tensor, clip_conditioning(6)[0][0]
    )


def test_weights_are_written_in_the_precision_that_is_asked_for(tmp_path):
    path = save_state(tmp_path / "made" / "a.safetensors", {"a": torch.randn(3, 4).T}, torch.float16)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in load_file(path).items()} == {
        "a": ((4, 3), torch.float16)
    }


def test_a_sparse_file_reads_as_what_was_written(tmp_path):
    file = checkpoint_memory.Sparse(tmp_path / "a")
    parts = [b"head", bytes(2**17), b"middle" * 20_000, bytes(9), bytes(2**16)]
    assert [file.write(memoryview(part)) for part in parts] == [len(part) for part in parts]
    file.close()
    assert (tmp_path / "a").read_bytes() == b"".join(parts)


def test_what_takes_too_much_memory_is_said(monkeypatch, capsys):
    sizes = {"": 1e9, "fits": 1e9 + 1e8 + 299e6, "does not": 1e9 + 1e8 + 301e6}
    found = iter(["", "fits", "does not", *["fits"] * 4])
    monkeypatch.setattr(checkpoint_memory, "measure", lambda body: {"peak": sizes[next(found)], "size": 1e8})
    checkpoint_memory.report(Path("model.pth"), Path("folder"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-2:] == ["1000", "MB"]
    assert ["TOO MUCH" in line for line in lines[1:]] == [False, True, False, False, False, False]
    assert lines[1].endswith("1399 MB,    399 above it; within 100 + 300")


def test_eligens_memory_is_held_against_the_square_masks():
    names = (eligen.PLAIN, eligen.ELIGEN, eligen.DENSE)

    def bars(peaks, away=0.0):
        once = {name: Once(1, peak) for name, peak in zip(names, peaks, strict=True)}
        return eligen.bars_of(
            Compared(once, (answer(eligen.ELIGEN, eligen.PLAIN, 2.0, at_most=1.15),)), away, "bf16", "here"
        )

    first, difference, memory = bars((1000, 1500, 3000), 0.05)
    assert first.where == "here" and (difference.met, difference.wanted) == (True, "at most 0.05")
    assert (memory.measured, memory.met) == ("0.25", True)
    assert not bars((1000, 1501, 3000), 0.051)[1].met and not bars((1000, 1501, 3000))[2].met
    assert bars((1000, 900, 3000))[2].measured == "0"
    assert len(bars((1000, None, 3000))) == len(bars((1000, 1100, 1000))) == 2


def test_a_way_runs_so_many_steps_and_its_fastest_counts(monkeypatch):
    ticks = iter([0.0, 3.0, 3.0, 4.0, 4.0, 9.0])
    for name in ("process_time", "perf_counter"):
        monkeypatch.setattr(f"bench.speed.measure.time.{name}", lambda: next(ticks))
    results = iter("abcde")
    way = eligen.Way(lambda: next(results), torch.device("cpu"))
    assert way.seconds(3) == 1.0 and way.results == ["c"]
    way.call(2)
    assert way.results == ["e"]
