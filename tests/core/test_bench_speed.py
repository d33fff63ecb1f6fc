"""The speed bench without a host: how cases are run, counted and timed, what is asked, and what is drawn of it."""

import contextlib
import gc
import json
import math
import os
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from bench import checkpoint_memory, released, released_instance_diffusion
from bench.bars import Bar, Ruling
from bench.speed import device, measure, run
from bench.speed.compare import compare, look_at
from bench.speed.measure import Measured, measuring
from bench.speed.pairs import FEWEST, Answer, Budget, CaseName, Pairing
from bench.speed.questions import PAIRINGS, QUICK
from bench.speed.report import GB, _draw

CPU = torch.device("cpu")
PLAIN, ONE, EIGHT, MOST = CaseName("plain"), *(CaseName("DEIG", count) for count in (1, 8, 30))


class Multiplies:
    """A case of so many hundreds of multiplications a step, which notes how it was run; it takes what it is told."""

    def __init__(self, hundreds: int, took: float = 1.0):
        self.hundreds, self.took, self.calls = hundreds, took, []

    def call(self, steps=1, meter=None):
        self.calls.append((steps, meter is not None))
        for _ in range(steps):
            with meter(CPU) if meter else contextlib.nullcontext():
                torch.ones(self.hundreds, 10) @ torch.ones(10, 10)

    def seconds(self, steps):
        self.calls.append(steps)
        return self.took


@pytest.fixture
def no_garbage(monkeypatch):
    """Where no memory is looked at: to search all of a large process for garbage takes a second each time."""
    monkeypatch.setattr(measure, "gc", SimpleNamespace(collect=lambda: 0))


class TooLarge(Multiplies):
    def call(self, steps=1, meter=None):
        raise torch.OutOfMemoryError("as torch says it")


# -- counting and comparing ---------------------------------------------------------------------------------


def test_a_case_runs_as_it_will_be_timed_before_one_step_of_it_is_counted(no_garbage):
    case = Multiplies(7)
    once = look_at(case, 6)
    assert case.calls == [(6, False), (1, True)]
    assert once.multiplications == 700
    assert (once.peak is not None) == os.access(measure.CLEAR, os.W_OK)


def test_cases_are_made_once_counted_and_timed_in_turns(no_garbage):
    made = []

    def maker(name, *how):
        made.append((name, Multiplies(*how)))
        return made[-1][1]

    names = (PLAIN, ONE, EIGHT, MOST)
    makers = {name: partial(maker, name, 4 + i, 1 + i / 2) for i, name in enumerate(names)}
    pairings = [Pairing(ONE, PLAIN, by_count=True), Pairing(EIGHT, ONE), Pairing(EIGHT, PLAIN, at_least=2)]
    kept = []
    compared = compare(makers, pairings, Budget(pairs=FEWEST), "here", 3, kept.append)
    assert [name for name, _ in made] == [ONE, PLAIN, EIGHT]  # the fourth is asked for by nobody
    assert {name: once.multiplications for name, once in compared.once.items()} == {
        ONE: 500, PLAIN: 400, EIGHT: 600,
    }  # fmt: skip
    assert [(str(answer.question), answer.pairs) for answer in compared.answers] == [
        ("DEIG, N = 1, over plain", ((1.5, 1.0),) * FEWEST),
        ("DEIG, N = 8, over DEIG, N = 1", ((2.0, 1.5),) * FEWEST),
        ("DEIG, N = 8, over plain", ((2.0, 1.0),) * FEWEST),
    ]
    assert [answer.question.counted for answer in compared.answers] == [1.25, 1.2, 1.5]
    assert [answer.ruling for answer in compared.answers] == [Ruling.NOT_MET, None, Ruling.MET]
    for _, case in made:
        assert case.calls[:2] == [(3, False), (1, True)] and set(case.calls[2:]) == {3}
    assert [one.answers for one in kept] == [compared.answers[: i + 1] for i in range(3)]
    assert all(one.once == compared.once for one in kept)


@pytest.mark.parametrize("fails", ["when it is made", "when it runs"])
def test_questions_about_what_does_not_fit_are_left_out_and_that_is_said(fails, capsys, no_garbage):
    def too_large():
        if fails == "when it is made":
            raise torch.OutOfMemoryError("as torch says it")
        return TooLarge(1)

    makers = {PLAIN: partial(Multiplies, 1), ONE: partial(Multiplies, 2), MOST: too_large}
    pairings = [Pairing(MOST, PLAIN), Pairing(ONE, PLAIN), Pairing(ONE, MOST)]
    compared = compare(makers, pairings, Budget(pairs=FEWEST), "512x512, fp32")
    assert set(compared.once) == {PLAIN, ONE}
    assert [answer.question.ours for answer in compared.answers] == [ONE]
    said = capsys.readouterr()
    assert "DEIG, N = 30 at 512x512, fp32 is more than this device's memory holds" in said.out + said.err


# -- measuring ----------------------------------------------------------------------------------------------

MIB = 2**20
can_tell = pytest.mark.skipif(not os.access(measure.CLEAR, os.W_OK), reason="peaks are told on Linux alone")


def mebibytes(count: int) -> torch.Tensor:
    return torch.ones(count * MIB // 4)


@can_tell
def test_a_process_holds_as_many_bytes_as_the_kernel_counts_pages():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert measure._status("VmRSS") == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.01)


@can_tell
def test_a_case_is_told_with_the_memory_of_its_step(no_garbage):
    class Large(Multiplies):
        def call(self, steps=1, meter=None):
            with meter(CPU) if meter else contextlib.nullcontext():
                mebibytes(32)

    assert 30 * MIB < look_at(Large(1), 1).peak < 48 * MIB


def pieces() -> list[bytes]:
    return [bytes(20_000) for _ in range(4000)]


@can_tell
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_peak_is_what_is_added_at_most_whatever_was_there(is_kept):
    mebibytes(150)  # a peak before
    there = mebibytes(40) if is_kept else None
    measured = Measured()
    with measuring(measured, CPU):
        mebibytes(64)
        mebibytes(8)
    assert len(measured.seconds) == 1 and measured.seconds[0] > 0
    (peak,) = measured.peak
    assert 60 * MIB < peak < 80 * MIB
    del there


@can_tell
def test_what_nobody_holds_any_more_is_not_there_when_measuring_begins():
    measured = Measured()
    circle = [mebibytes(64)]
    circle.append(circle)
    gc.disable()
    try:
        del circle
        with measuring(measured, CPU):
            gc.collect()
            mebibytes(64)
        # Nor what the allocator keeps: pieces below the size for which it asks the system.
        held = pieces()
        last = bytes(20_000)
        del held
        with measuring(measured, CPU):
            pieces()
    finally:
        gc.enable()
    assert len(last) and measured.peak[0] > 60 * MIB and measured.peak[1] > 60 * MIB


def test_where_a_peak_cannot_be_told_the_time_is(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "CLEAR", tmp_path / "nothing")
    measured = Measured()
    with measuring(measured, CPU):
        pass
    assert measured.peak == [None] and len(measured.seconds) == 1


@pytest.mark.parametrize("has_bf16, emulated", [(True, True), (False, True), (False, False)])
def test_an_accelerator_is_measured_in_bf16_where_it_has_that_itself(has_bf16, emulated, monkeypatch):
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: has_bf16 or including_emulation and emulated,
    )
    assert device.dtypes_for(torch.device("cuda")) == ["bf16"] * has_bf16 + ["fp16"]
    assert {name: torch.finfo(dtype).bits for name, dtype in device.DTYPES.items()} == {
        "fp32": 32, "bf16": 16, "fp16": 16,
    }  # fmt: skip
    assert torch.finfo(device.DTYPES["bf16"]).max > torch.finfo(device.DTYPES["fp16"]).max


def test_the_machine_is_told_with_its_load(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 2.5, 3.5), raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a card at {device}")
    told = device.machine_of(torch.device("cuda:1"))
    assert (told["device"], told["name"], told["load"]) == ("cuda:1", "a card at cuda:1", 1.5)
    assert told["cores"] == os.cpu_count()
    monkeypatch.delattr(os, "getloadavg")  # as on Windows
    assert device.machine_of(CPU)["load"] is None


# -- what is asked ------------------------------------------------------------------------------------------


def ruling(pairings, ours: str, other: str, ratio: float):
    """How a ratio without any noise is ruled on; all but the plain call make 1.41 times its multiplications."""
    (pairing,) = (one for one in pairings if (str(one.ours), str(one.other)) == (ours, other))
    counted = {case: 1000 if case.way == "plain" else 1410 for case in (pairing.ours, pairing.other)}
    return Answer(pairing.question(counted), ((ratio, 1.0),) * FEWEST).ruling


@pytest.mark.parametrize(
    "ours, other, met, not_met",
    [
        ("DEIG, N = 1", "plain", 1.466, 1.467),  # the README: 1.41 by multiplications and 4 % more
        *((f"DEIG, N = {count}", f"GLIGEN, N = {count}", 1.039, 1.041) for count in (1, 8, 30)),
        *((f"InstanceDiffusion, N = {count}", f"DEIG, N = {count}", 1.05, 1.051) for count in (1, 8, 30)),
        ("DEIG, N = 30", "DEIG, N = 1", 1.039, 1.041),
        ("DEIG, N = 1", "DEIG", 1.039, 1.041),
        ("masks, N = 8", "DEIG, N = 8", 4, 3.99),
        ("dense, N = 3", "DEIG, N = 3", 2, 1.99),
    ],
)
def test_bars_are_where_the_readme_has_them(ours, other, met, not_met):
    assert ruling(PAIRINGS, ours, other, met) is Ruling.MET
    assert ruling(PAIRINGS, ours, other, not_met) is Ruling.NOT_MET


def test_what_does_all_that_the_other_does_and_more_cannot_take_less():
    for pairings, ours, other in (
        (PAIRINGS, "DEIG, N = 30", "DEIG, N = 1"),
        (PAIRINGS, "DEIG, N = 1", "DEIG"),
        (QUICK, "DEIG, N = 30", "DEIG, N = 1"),
    ):
        assert ruling(pairings, ours, other, 0.95) is Ruling.CANNOT_BE
    assert ruling(PAIRINGS, "GLIGEN, N = 8", "plain", 1.0) is Ruling.CANNOT_BE
    assert ruling(QUICK, "DEIG, N = 1", "plain", 1.0) is Ruling.CANNOT_BE
    for pairings in (PAIRINGS, QUICK):  # GLIGEN does other things
        assert ruling(pairings, "DEIG, N = 8", "GLIGEN, N = 8", 0.5) is Ruling.MET


def test_the_table_has_every_way_over_the_plain_call_as_narrow_as_a_tenth():
    rows = [pairing for pairing in PAIRINGS if pairing.other == PLAIN]
    assert sorted(str(pairing.ours) for pairing in rows) == sorted(
        [
            *(f"{way}, N = {n}" for way in ("DEIG", "InstanceDiffusion", "GLIGEN", "areas") for n in (1, 8, 30)),
            *("masks, N = 8", "dense, N = 3", "dense, fused kernel, N = 3"),
        ]
    )  # fmt: skip
    assert {pairing.within for pairing in rows} == {0.1}
    assert len({(pairing.ours, pairing.other) for pairing in PAIRINGS}) == len(PAIRINGS)


# -- the command, with stand-ins for what needs a host ------------------------------------------------------


@pytest.fixture
def host(monkeypatch, no_garbage):
    """Modules that import ComfyUI, with the same names in them; notes what they are asked for."""
    noted = SimpleNamespace(made=[], sizes=[], rest=[], tokens=[], unloaded=0, cases=[], device=CPU)

    class Models:
        def __init__(self, dtype, config="full"):
            noted.made.append((dtype, config))
            self.unet = SimpleNamespace(load_device=noted.device)

    def makers(on, size):
        noted.sizes.append(size)
        noted.cases.append({PLAIN: Multiplies(4), MOST: Multiplies(5, 1.25)})
        assert isinstance(on, Models)
        return {name: partial(noted.cases[-1].get, name) for name in (PLAIN, MOST)}

    def measure_rest(*how):
        noted.rest.append(how)
        return {"text": "more"}, [Bar.at_most("the rest", 1, 2, how[-1])]

    def measure_tokens(on):
        noted.tokens.append(on)
        return 0.1

    def unload():
        noted.unloaded += 1

    contents = {
        "bench.speed.cases": {"Models": Models, "makers": makers},
        "bench.speed.models": {"SHALLOW": "shallow"},
        "bench.speed.rest": {
            "count_second_seed": lambda on: 2,
            "measure_rest": measure_rest,
            "measure_tokens": measure_tokens,
        },
        "comfy.model_management": {"unload_all_models": unload},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    comfy = ModuleType("comfy")
    comfy.model_management = sys.modules["comfy.model_management"]
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    return noted


ASKED = [Pairing(MOST, PLAIN, at_most=1.3), Pairing(PLAIN, MOST)]
FEW = Budget(pairs=FEWEST)


@pytest.mark.parametrize("kind, steps", [("cpu", 1), ("cuda", 6)])
def test_every_size_is_asked_about_in_every_precision_and_all_is_kept_so_far(host, kind, steps):
    host.device, kept = torch.device(kind), []
    sizes, dtypes = ["768x512", "512x512"], ["fp32", "bf16"]
    result = run.measure(CPU, sizes, dtypes, ASKED, FEW, kept.append, None)
    assert host.made == [(torch.float32, "full"), (torch.bfloat16, "full")]
    assert host.sizes == [(64, 96), (64, 64)] * 2  # rows and columns of cells of 8 pixels
    assert {call for cases in host.cases for case in cases.values() for call in case.calls} == {
        *((steps, False), (1, True), steps)
    }
    places = [f"{size}, {dtype}" for dtype in dtypes for size in sizes]
    assert [one["where"] for one in result["answers"]] == [place for place in places for _ in ASKED]
    assert [(row["size"], row["dtype"], row["over_plain"]) for row in result["calls"]] == [
        (*place.split(", "), 1.25) for place in places
    ]
    assert [len(one["answers"]) for one in kept] == list(range(1, 9))
    assert all(one["answers"] == result["answers"][: i + 1] for i, one in enumerate(kept))
    assert json.dumps(kept[-1]) and kept[-1]["machine"].keys() == result["machine"].keys()
    # The tokens take 0.1 of 1.25 seconds; each of two models was asked for a second seed.
    *_, first, second, third, fourth, seed = result["bars"]
    assert [(bar["measured"], bar["where"]) for bar in (first, second, third, fourth)] == [
        ("0.08", place) for place in places
    ]
    assert [bar["where"] for bar in kept[-1]["bars"]][-3:] == places[:3]
    assert (seed["measured"], seed["ruling"]) == ("4", Ruling.NOT_MET)
    assert host.unloaded == 2 and not host.rest and "text" not in result
    assert [on.unet.load_device.type for on in host.tokens] == [kind] * 4


def test_what_is_no_comparison_is_measured_at_the_end_with_the_last_model(host, tmp_path):
    result = run.measure(CPU, ["768x512", "512x512"], ["fp32", "fp16"], ASKED, FEW, lambda _: None, tmp_path)
    ((path, on, size, where),) = host.rest
    assert (path, size, where) == (tmp_path, (64, 96), "768x512, fp16") and on is host.tokens[-1]
    assert result["text"] == "more"
    assert (result["bars"][-1]["what"], result["bars"][-1]["where"]) == ("the rest", where)


def test_a_quick_look_is_at_shallow_models_and_a_small_picture(host):
    result = run.look_quickly(CPU, "fp32", ASKED, FEW)
    assert host.made == [(torch.float32, "shallow")] and host.unloaded == 0
    (row,) = result["calls"]
    assert (row["way"], row["count"], row["dtype"]) == ("DEIG", 30, "fp32")
    ((rows, columns),) = host.sizes
    assert row["size"].startswith(f"{8 * columns}x{8 * rows},") and rows == 24
    assert len(result["answers"]) == 2 and result["machine"]["device"] == "cpu"


# -- curves -------------------------------------------------------------------------------------------------


class Axis:
    """Notes what is drawn on it."""

    def __init__(self):
        self.drawn = []

    def plot(self, x, y, *form, **how):
        what = (x, y) if isinstance(x, int) else (list(x), list(y))
        self.drawn.append((*what, how.get("label") or how.get("linewidth")))


def row(way: str, count: int, over_plain: float, peak: float) -> dict:
    spread = [over_plain - 0.1, over_plain + 0.1]
    return {"way": way, "count": count, "over_plain": over_plain, "spread": spread, "peak_over_plain": peak}


def test_curves_go_by_the_number_of_instances_and_have_their_spread():
    rows = [row("DEIG", 30, 1.6, 2e9), row("DEIG", 1, 1.5, 1e9), row("masks", 8, 5.0, 4e9)]
    time, memory = Axis(), Axis()
    _draw(time, rows, "over_plain", 1)
    _draw(memory, rows, "peak_over_plain", GB)
    assert time.drawn == [
        ([1, 30], [1.5, 1.6], "DEIG"), ([30, 30], rows[0]["spread"], 1), ([1, 1], rows[1]["spread"], 1),
        (8, 5.0, "masks"),
    ]  # fmt: skip
    assert memory.drawn == [([1, 30], [1.0, 2.0], "DEIG"), (8, 4.0, "masks")]


# -- reading and converting a checkpoint --------------------------------------------------------------------


def test_what_is_measured_reads_and_converts_in_the_precision_that_it_is_called_by(
    tmp_path, monkeypatch, capsys
):
    """Each case is run here instead of in a process of its own, on an adapter of small tensors."""
    shapes = released.adapter_shapes()
    state = {name: torch.rand([min(side, 4) for side in shape]) for name, shape in shapes.items()}
    torch.save({"model": state}, tmp_path / "model.pth")
    whole, sizes = sum(tensor.nbytes for tensor in state.values()), []

    def run_here(body: str) -> dict[str, int]:
        exec(body, {"torch": torch})  # which `measure` imports first
        said = [line.split() for line in capsys.readouterr().out.splitlines()]
        sizes.extend(int(line[1]) for line in said if line[0] == "size")
        return {"peak": 0, "size": 0}

    monkeypatch.setattr(checkpoint_memory, "measure", run_here)
    checkpoint_memory.report(tmp_path / "model.pth", tmp_path)
    head = 80_000  # of a safetensors file: 409 names
    read, to_fp16, kept, converted, again, widened = sizes
    assert (read, to_fp16, again, widened) == (whole, whole / 2, whole / 2, whole)
    assert whole < kept < whole + head and whole / 2 < converted < whole / 2 + head
    assert (tmp_path / "whole.safetensors").stat().st_size == kept


@can_tell
def test_a_measured_process_tells_its_size_and_its_peak_or_what_went_wrong(tmp_path, monkeypatch):
    """With a module in place of torch, which takes seconds to import and memory of its own."""
    (tmp_path / "torch.py").write_text("def set_num_threads(number):\n    print('threads', number)\n")
    monkeypatch.setattr(checkpoint_memory, "ROOT", tmp_path)
    told = checkpoint_memory.measure("held = b'1' * 2**26\nprint('size', 5)\n")
    assert told.keys() == {"size", "peak"} and told["size"] == 5
    assert 2**26 < told["peak"] < 2**27
    with pytest.raises(SystemExit, match="it is broken"):
        checkpoint_memory.measure("raise ValueError('it is broken')\n")


@pytest.mark.parametrize(
    "more, made, named",
    [([], ["deig"], None), (["--instance-diffusion"], ["instance diffusion"], None),
     (["--checkpoint", "mine.pth"], [], "mine.pth")],
)  # fmt: skip
def test_a_checkpoint_is_made_where_none_is_named_and_goes_again(more, made, named, tmp_path, monkeypatch):
    done, reported = [], []
    monkeypatch.setattr(checkpoint_memory, "make_checkpoint", lambda path: done.append(("deig", path)))
    monkeypatch.setattr(
        checkpoint_memory,
        "make_instance_diffusion_checkpoint",
        lambda path: done.append(("instance diffusion", path)),
    )
    monkeypatch.setattr(checkpoint_memory, "report", lambda *how: reported.append((*how, how[1].is_dir())))
    monkeypatch.setattr(sys, "argv", ["checkpoint_memory", "--folder", str(tmp_path), *more])
    checkpoint_memory.main()
    ((checkpoint, folder, was_there),) = reported
    assert [name for name, _ in done] == made and all(path == checkpoint for _, path in done)
    assert was_there and folder.parent == tmp_path and not folder.exists()
    assert str(checkpoint) == (named or str(folder / "model.pth"))


def test_the_sizes_of_the_checkpoints_are_those_that_are_told():
    own = released_instance_diffusion.adapter_shapes()
    counted = {part: 0 for part in released_instance_diffusion.PARAMETERS}
    for name, shape in own.items():
        part = (
            "fuser"
            if ".fuser." in name
            else name.split(".")[0].split("_")[0].replace("position", "position_net")
        )
        counted[part] += math.prod(shape)
    assert len(own) == 513 and counted["scaleu"] == released_instance_diffusion.PARAMETERS["scaleu"]
    for part, count in released_instance_diffusion.PARAMETERS.items():
        assert counted[part] == pytest.approx(count, rel=5e-4), part
    unet = released.unet_shapes()
    assert len(unet) == 686
    assert sum(map(math.prod, unet.values())) == pytest.approx(released.UNET_PARAMETERS, rel=2e-3)


def test_a_generated_checkpoint_has_the_adapter_among_the_unet(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(released, "adapter_shapes", lambda: {"adapter": (3, 4)})
    monkeypatch.setattr(released, "unet_shapes", lambda: {"unet": (500, 1000)})
    path = tmp_path / "model.pth"
    checkpoint_memory.make_checkpoint(path)
    state = torch.load(path, weights_only=True)["model"]
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "adapter": (3, 4), "unet": (500, 1000),
    }  # fmt: skip
    assert state["unet"].std() > 0.2
    assert "2 tensors, 1 M parameters, 0.00 GB" in capsys.readouterr().out  # 500,012, rounded
