"""Scoring a folder of pictures: the figures of `bench --quality`, tables that say who judged, and runs side by side."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from bench.papers import run
from bench.papers.answers import Answered, Answers, answered, judge_folder, judges_of, painted_words
from bench.papers.entries import DEIG, MIG, Entry, Instance, bench_of
from bench.papers.figures import ALL, Judged, figures_of
from bench.papers.judges import DeigJudge, Verdict
from bench.papers.manifest import Folder
from bench.papers.plan import Painter, painters_of, plan, short_names
from bench.papers.protocol import PROTOCOLS, SHAPES
from bench.papers.shapes import ExactJudge, scene_of, write_shapes
from bench.papers.sheet import mark_of, marked, sheet_of
from bench.papers.tables import Told, record_of, rows_of, tables
from bench.papers.trouble import Trouble
from bench.quality.figures import FULL, Job, Painted
from bench.quality.figures import figures_of as quality_figures_of
from bench.quality.judge import judge
from deig_core.regions.draw import colour_of
from deig_core.regions.layouts import Layout
from demo.server import StartFailed
from small_model.scenes import draw, draw_ground

BENCH = bench_of(write_shapes(layouts=8, kept_out=3))
GOOD, BARE = Painter("deig", "a.safetensors", "b.pth"), Painter("off", "a.safetensors", "b.pth")
NAMES = short_names([GOOD, BARE])


def painted(painter: Painter, entry) -> np.ndarray:
    """What a fairly good model would paint: every third scene without its last shape; or the ground alone."""
    scene = scene_of(entry)
    if painter == BARE:
        return draw_ground(scene.ground, scene.split).astype(np.uint8)
    picture = draw(scene)
    if entry.seed % 3 == 0:
        x0, y0, x1, y1 = (round(128 * edge) for edge in scene.shapes[-1].box)
        picture[y0:y1, x0:x1] = draw_ground(scene.ground, scene.split)[y0:y1, x0:x1]
    return picture


def make_run(path, *painters: Painter, seeds=(0,)) -> Folder:
    """A run's folder as `paint` leaves it."""
    folder = Folder(path)
    folder.begin(BENCH, "shapes")
    for task in plan(BENCH.entries, painters, seeds, SHAPES.sampling):
        file = io.BytesIO()
        Image.fromarray(painted(task.painter, task.entry)).save(file, "PNG")
        folder.add(task.key, file.getvalue(), task.made_with())
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "one", GOOD, BARE)


def test_the_figures_are_those_of_bench_quality(folder):
    judged = judge_folder(folder, BENCH, ExactJudge(0), None, print)
    for painter in (GOOD, BARE):
        ours = figures_of(DEIG, [one.judged for one in judged if one.painter == painter]).sums[ALL]
        jobs = [Job(entry.seed, entry.scene["kept_out"], FULL) for entry in BENCH.entries]
        pictures = [painted(painter, entry) for entry in BENCH.entries]
        pairs = zip(jobs, pictures, strict=True)
        theirs = quality_figures_of(
            Painted(job, picture, judge(picture, job.scene)) for job, picture in pairs
        )
        assert (ours.pictures, ours.instances) == (theirs.layouts, theirs.instances)
        assert round(ours.rate, 4) == theirs.everything
        assert round(ours.iou, 4) == theirs.iou
        assert (painter == GOOD) == (theirs.everything > 0.7)


def test_by_default_a_shape_has_to_be_in_its_place(folder):
    strict = judge_folder(folder, BENCH, ExactJudge(), None, print)
    for one in strict:
        for verdict in one.judged.verdicts:
            assert verdict.placed == (verdict.iou is None or verdict.iou >= 0.5)
            assert not verdict.right or verdict.placed


class Tired(ExactJudge):
    """Judges so many pictures and breaks off, as where its server stops."""

    left = 3

    def look(self, picture, entry):
        if not self.left:
            raise Trouble("no judge answers")
        self.left -= 1
        return super().look(picture, entry)


def test_judging_goes_on_where_it_broke_off(folder):
    with pytest.raises(Trouble, match="no judge answers"):
        judge_folder(folder, BENCH, Tired(), None, print)
    (path,) = folder.path.glob("answers-*.jsonl")
    assert len(path.read_bytes().splitlines()) == 3
    path.write_bytes(path.read_bytes()[:-20])  # the last line is torn
    rest = Tired()
    rest.left = len(folder.records) - 2
    everything = judge_folder(folder, BENCH, rest, None, print)
    assert len(everything) == len(folder.records) and rest.left == 0
    assert judge_folder(folder, BENCH, rest, None, print) == everything


def test_a_picture_that_was_painted_anew_is_judged_anew(folder):
    judge_folder(folder, BENCH, ExactJudge(), None, print)
    key = next(iter(folder.records))
    file = io.BytesIO()
    Image.new("RGB", (128, 128)).save(file, "PNG")
    folder.add(
        key, file.getvalue(), {k: v for k, v in folder.records[key].items() if k not in ("picture", "sha256")}
    )
    assert key not in {one.key for one in answered(folder, BENCH, ExactJudge().name)}
    judged = judge_folder(folder, BENCH, ExactJudge(), None, print)
    (anew,) = (one for one in judged if one.key == key)
    assert not any(verdict.right for verdict in anew.judged.verdicts)


class Brightness:
    """Stands for CLIP."""

    name = "brightness"

    def score(self, picture, words):
        return float(picture.mean())


def test_the_clip_score_is_added_to_what_was_judged(folder):
    judge_folder(folder, BENCH, ExactJudge(), None, print)
    rest = Tired()
    rest.left = 0
    judged = judge_folder(folder, BENCH, rest, Brightness(), print)
    figures = figures_of(DEIG, [one.judged for one in judged if one.painter == BARE])
    grounds = [painted(BARE, entry).mean() for entry in BENCH.entries]
    assert figures.clip == pytest.approx(np.mean(grounds), abs=2)


def scored(*arguments: str):
    run.run(run.parse_arguments([*arguments]))


def test_scores_are_written_as_text_json_and_sheet(folder, capsys):
    scored("--score", str(folder.path))
    text = capsys.readouterr().out
    assert f"Judge: **{ExactJudge().name}**" in text
    (written,) = folder.path.glob("scores-*.json")
    record = json.loads(written.read_text())
    assert [row["painted by"] for row in record["rows"]] == ["deig", "off"]
    assert record["rows"][1]["groups"]["objects"]["rate"] == 0
    assert written.with_suffix(".md").read_text() in text
    sheet = Image.open(written.with_suffix(".png"))
    assert sheet.height > 8 * 384 and sheet.width > 2 * 384


def test_a_box_at_the_pictures_edge_is_drawn_as_thick_as_others():
    picture = Image.new("RGB", (64, 64), "black")
    entry = Entry("1", "", (Instance("a cup", (0.5, 0.5, 1.0, 1.0), "cup", "L1", "red"),), Layout(()))
    seen = np.asarray(marked(picture, entry, [Verdict(False, False, 0.0)])) == ImageColor.getrgb(colour_of(0))
    row, column = seen.all(-1)[300], seen.all(-1)[:, 300]
    for line in (row, column):
        assert line.nonzero()[0].tolist() == [192, 193, 194, 381, 382, 383]


def test_several_seeds_have_a_mean(tmp_path, capsys):
    folder = make_run(tmp_path / "seeds", GOOD, seeds=(0, 1))
    scored("--score", str(folder.path))
    assert "| mean of 2 |" in capsys.readouterr().out


def test_runs_are_compared_side_by_side(tmp_path, capsys):
    with_deig, without = make_run(tmp_path / "with", GOOD), make_run(tmp_path / "without", BARE)
    scored("--score", str(with_deig.path), str(without.path))
    out = tmp_path / "both"
    capsys.readouterr()
    scored("--compare", str(with_deig.path), str(without.path), "--out", str(out))
    text = capsys.readouterr().out
    record = json.loads((out / "compared.json").read_text())
    assert [row["painted by"] for row in record["rows"]] == ["with: deig", "without: off"]
    good = record["rows"][0]["groups"]["all"]
    counts = [0, good["succeeded"], 0, good["instances"] - good["succeeded"]]
    assert "| " + " | ".join(str(count) for count in counts) in " ".join(text.split())
    assert (out / "compared.png").is_file()


def test_different_judges_are_not_compared(tmp_path):
    first, second = make_run(tmp_path / "a", GOOD), make_run(tmp_path / "b", BARE)
    scored("--score", str(first.path))
    scored("--score", str(second.path), "--iou-threshold", "0")
    with pytest.raises(Trouble, match="No judge has judged all"):
        scored("--compare", str(first.path), str(second.path))
    scored("--score", str(first.path), "--iou-threshold", "0")
    scored("--score", str(second.path))
    with pytest.raises(Trouble, match="--judged-by"):
        scored("--compare", str(first.path), str(second.path))
    scored(
        "--compare",
        str(first.path),
        str(second.path),
        "--judged-by",
        "IoU of 0",
        "--out",
        str(tmp_path / "c"),
    )


def test_another_judges_figures_are_not_called_the_papers(folder):
    class Named:
        def __init__(self, name):
            self.name = name

    name = DeigJudge(Named("a detector"), Named("a judge"), any_case=True).name
    judged = judge_folder(folder, BENCH, ExactJudge(), None, print)
    text = tables(Told("deig-bench", DEIG, name, "", 400), rows_of(DEIG, judged, NAMES), judged)
    assert "detector a detector, answers by a judge, answers in any case" in text
    assert "these are not the paper's figures" in text
    assert "A sample: 11 of the benchmark's 400 entries" in text


def test_answers_that_are_neither_yes_nor_no_are_counted(folder):
    judged = judge_folder(folder, BENCH, ExactJudge(), None, print)
    said = [
        Verdict(True, False, 0.8, said="Yes"),
        Verdict(True, True, 0.8, said="yes"),
        Verdict(False, False, 0.1),
    ]
    one = judged[0]
    odd = type(one)(one.key, one.painter, one.seed, type(one.judged)(one.judged.entry, tuple(said)))
    text = tables(Told("deig-bench", DEIG, "j", "", 11), rows_of(DEIG, judged, NAMES), [odd])
    assert "which count as no: 1." in text


RIGHT, WRONG, LOST = Verdict(True, True, 0.8), Verdict(True, False, 0.6), Verdict(False, False, 0.1)


def one(name="1", levels=("L1",), verdicts=(RIGHT,), painter=GOOD, seed=0, clip=None) -> Answered:
    """A judged picture, made up."""
    instances = tuple(Instance("a red cup", (0.1, 0.1, 0.5, 0.5), "cup", level) for level in levels)
    return Answered(name, painter, seed, Judged(Entry(name, "", instances, Layout(())), verdicts, clip))


def cells(text: str, title: str) -> list[list[str]]:
    """The cells of a table, without the line below its head."""
    lines = text.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_a_table_has_a_row_for_each_painter_and_seed_and_their_mean():
    answers = [
        *(
            one("1", ("C1", "L2"), (RIGHT, WRONG), seed=1, clip=20.0),
            one("2", ("L2",), (RIGHT,), seed=1, clip=25.0),
        ),
        one("1", ("C1", "L2"), (LOST, RIGHT), seed=2, clip=30.0),
        one("1", ("C1", "L2"), (RIGHT, RIGHT), painter=BARE, seed=2, clip=31.0),
    ]
    text = tables(Told("mine", DEIG, "j", "c", 2), rows_of(DEIG, answers, NAMES), answers)
    assert cells(text, "Multi-attribute accuracy, %") == [
        ["painted by", "seed", "pictures", "C1", "people", "L2", "objects"],
        ["deig", "1", "2", "100.00", "100.00", "50.00", "50.00"],
        ["deig", "2", "1", "0.00", "0.00", "100.00", "100.00"],
        ["off", "2", "1", "100.00", "100.00", "100.00", "100.00"],
        ["deig", "mean of 2", "", "50.00 ± 70.71", "50.00 ± 70.71", "75.00 ± 35.36", "75.00 ± 35.36"],
    ]
    summary = cells(text, "Mean IoU and success, %")
    assert summary[0] == [
        "painted by",
        "seed",
        "pictures",
        "mIoU",
        "instances right",
        "pictures right",
        "CLIP",
    ]
    assert summary[1][2:] == ["2", "73.33", "66.67", "50.00", "22.50"]
    assert text.startswith(
        "# mine\n\nJudge: **j**. CLIP score: c. The paper's figures were judged by GroundingDINO, Qwen"
    )
    assert "A sample: 1 of the benchmark's 2 entries" in text


def test_mig_benchs_tables_are_by_the_number_of_instances():
    answers = [
        one("1", ("", ""), (RIGHT, WRONG)), one("2", ("", ""), (RIGHT, RIGHT)), 
        one("3", ("",) * 3, (LOST,) * 3, clip=9.0),
    ]  # fmt: skip
    text = tables(Told("mine", MIG, "j", "", 3), rows_of(MIG, answers, NAMES), answers)
    assert cells(text, "Instance success rate, %") == [
        ["painted by", "seed", "pictures", "L2", "L3", "all"], ["deig", "0", "3", "75.00", "0.00", "42.86"],
    ]  # fmt: skip
    assert cells(text, "Mean IoU, %")[1][3:] == ["75.00", "10.00", "47.14", "9.00"]
    assert cells(text, "Pictures with every instance right, %")[1][3:] == ["50.00", "0.00", "33.33"]
    assert "judged by GroundingDINO and SAM" in text and "L2 to L6: pictures" in text
    assert "A sample" not in text and "CLIP score" not in text and "C1 to C3" not in text


def test_a_mean_that_lacks_a_seed_is_not_made():
    answers = [one("1", clip=9.0), one("1", seed=1)]
    text = tables(Told("mine", DEIG, "j", "", 1), rows_of(DEIG, answers, NAMES), answers)
    assert [row[-1] for row in cells(text, "Mean IoU and success, %")] == ["CLIP", "9.00", "", ""]


def test_shapes_stand_beside_bench_quality_alone():
    text = tables(Told("shapes", DEIG, "j", "", 1, of_shapes=True), rows_of(DEIG, [one()], NAMES), [one()])
    assert "stand beside `bench --quality` alone" in text and "The paper's figures were" not in text
    assert "A shape counts as right" in text and "which count as no" not in text
    told = Told("mine", DEIG, "j", "", 1, painted=("Painted so.",))
    assert "\n- Painted so.\n" in tables(told, rows_of(DEIG, [one()], NAMES), [one()])


def test_the_record_is_not_rounded():
    answers = [one("1", ("L1",) * 3, (RIGHT, WRONG, LOST), clip=20.25)]
    record = record_of(Told("mine", DEIG, "j", "c", 400), rows_of(DEIG, answers, NAMES))
    assert (record["bench"], record["judge"], record["entries"]) == ("mine", "j", 400)
    (row,) = record["rows"]
    assert (row["painted by"], row["seed"], row["pictures"], row["clip"]) == ("deig", 0, 1, 20.25)
    group = row["groups"]["L1"]
    assert (group["instances"], group["succeeded"], group["placed"], group["rate"]) == (3, 1, 2, 1 / 3)
    assert row["groups"]["all"]["whole_rate"] == 0


def entry_of(name: str, count: int = 1) -> Entry:
    return Entry(name, "", (Instance("a red cup", (0.1, 0.1, 0.5, 0.5), "cup"),) * count, Layout(()))


@pytest.mark.parametrize("verdict, mark", [(RIGHT, "+"), (WRONG, "o"), (LOST, "-")])
def test_marks_tell_right_from_in_its_place(verdict, mark):
    assert mark_of(verdict) == mark


def test_a_sheet_shows_entries_that_every_column_has_evenly(monkeypatch):
    sheets = []
    monkeypatch.setattr("bench.papers.sheet.draw_sheet", lambda *sheet, cell: sheets.append(sheet))
    entries = {str(i): entry_of(str(i)) for i in range(9)}
    cell = (Image.new("RGB", (8, 8)), (RIGHT,))
    sheet_of(
        {"a": dict.fromkeys(list(entries)[:5], cell), "b": dict.fromkeys(entries, cell)}, entries, rows=3
    )
    sheet_of({"a": {"1": cell}, "b": {"2": (cell[0], (WRONG,))}}, entries, rows=3)
    (_, titles, words), (pictures, _, apart) = sheets
    assert titles == ("a", "b") and [lines[0] for lines in words] == ["0:", "2:", "4:"]
    assert words[0][1] == "++ 1 a red cup"
    assert apart == [["1:", "+  1 a red cup"], ["2:", " o 1 a red cup"]]  # what is missing is blank
    assert pictures[0][1].getextrema() == ((255, 255),) * 3


def test_the_box_that_was_found_is_drawn_in_white():
    verdict = Verdict(False, False, 0.0, found=(0.0, 0.0, 0.25, 1.5))
    seen = np.asarray(marked(Image.new("RGB", (64, 64)), entry_of("1"), [verdict]))
    white = (seen == 255).all(-1)
    assert white[300].nonzero()[0].tolist() == [0, 96] and white[383, :97].all()


def test_pictures_that_are_lost_are_left_out_and_none_are_refused(folder):
    said, keys = [], list(folder.records)
    (folder.path / keys[0]).unlink()
    judged = judge_folder(folder, BENCH, ExactJudge(), None, said.append)
    assert said == ["1 of 22 pictures are missing or not as they were painted; they are left out."]
    assert len(judged) == 21
    for key in keys[1:]:
        (folder.path / key).unlink()
    with pytest.raises(Trouble, match="holds no pictures to judge"):
        judge_folder(folder, BENCH, ExactJudge(), None, said.append)


def test_a_broken_line_of_answers_is_named(folder):
    judge_folder(folder, BENCH, ExactJudge(), None, print)
    (path,) = folder.path.glob("answers-*.jsonl")
    path.write_bytes(path.read_bytes() + b"[]\n")
    with pytest.raises(Trouble, match=f"Line 23 of {path} is broken"):
        list(answered(folder, BENCH, ExactJudge().name))


def test_scores_of_another_clip_are_taken_anew(folder):
    class Other(Brightness):
        name = "another"

        def score(self, picture, words):
            return 7.0

    judge_folder(folder, BENCH, ExactJudge(), Brightness(), print)
    without = judge_folder(folder, BENCH, ExactJudge(), None, print)
    assert {one.judged.clip for one in without} == {None}
    anew = judge_folder(folder, BENCH, ExactJudge(), Other(), print)
    assert {one.judged.clip for one in anew} == {7.0}
    assert [one.judged.verdicts for one in anew] == [one.judged.verdicts for one in without]


def test_it_is_said_how_pictures_were_painted(folder):
    judged = judge_folder(folder, BENCH, ExactJudge(), None, print)
    folder.records[judged[-1].key]["versions"] = {"comfyui": "0.33.0", "pack": "1.0"}
    folder.records[judged[-1].key]["sampling"] |= {"negative": "blurred"}
    sentences = painted_words(folder, judged)
    assert sentences == [
        f"Painted by {painter}: sampler euler ddim_uniform, 16 steps, guidance 4, 128 pixels, {how}."
        for painter, how in (
            (GOOD, "no negative prompt; ComfyUI unknown, this pack unknown"),
            (BARE, "no negative prompt; ComfyUI unknown, this pack unknown"),
            (BARE, "negative prompt 'blurred'; ComfyUI 0.33.0, this pack 1.0"),
        )
    ]


def test_runs_of_other_benchmarks_or_other_pictures_are_not_compared(tmp_path):
    first, other = make_run(tmp_path / "a", GOOD), Folder(tmp_path / "b")
    scored("--score", str(first.path))
    with pytest.raises(Trouble, match="one painter only"):
        scored("--compare", str(first.path), "--out", str(tmp_path / "c"))
    other.begin(bench_of(write_shapes(layouts=2, kept_out=0)), "shapes")
    with pytest.raises(Trouble, match="are of different benchmarks"):
        scored("--compare", str(first.path), str(other.path))
    later = make_run(tmp_path / "d", BARE, seeds=(1,))
    scored("--score", str(later.path))
    with pytest.raises(Trouble, match="no entry in common that was painted from the same seed"):
        scored("--compare", str(first.path), str(later.path))


def test_who_judged_what_is_told_where_nobody_judged_all(tmp_path):
    first, second = make_run(tmp_path / "a", GOOD), make_run(tmp_path / "b", BARE)
    scored("--score", str(first.path))
    with pytest.raises(Trouble, match=f"{first.path}: {ExactJudge().name}; {second.path}: nobody"):
        scored("--compare", str(first.path), str(second.path))


def test_painters_of_one_folder_are_compared_by_their_names_alone(folder, tmp_path):
    scored("--score", str(folder.path))
    scored("--compare", str(folder.path), "--out", str(tmp_path / "c"))
    record = json.loads((tmp_path / "c" / "compared.json").read_text())
    assert [row["painted by"] for row in record["rows"]] == ["deig", "off"]
    assert record["painted"][0].startswith("deig: Painted by deig, a.safetensors, b.pth: ")


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "name a benchmark"),
        (["shapes", "--sample", "0"], "--sample is 0; it is a number of entries, 1 or more"),
        (["shapes", "--way", "none"], "--way"),
    ],
)
def test_commands_that_cannot_be_are_refused(arguments, told, capsys):
    with pytest.raises(SystemExit):
        run.parse_arguments(arguments)
    assert told in capsys.readouterr().err


def test_a_score_without_folders_is_of_what_was_painted(folder):
    scored("--score", "--out", str(folder.path))
    assert list(folder.path.glob("scores-*.json"))


def test_options_change_how_a_benchmark_is_painted_and_nothing_else():
    usual = PROTOCOLS[DEIG].sampling
    assert run.sampling_of(run.parse_arguments(["deig-bench"]), usual) == usual
    more = ["--steps", "5", "--guidance", "0", "--negative", "", "--size", "256"]
    changed = run.sampling_of(run.parse_arguments(["deig-bench", *more]), usual)
    assert changed == replace(usual, steps=5, guidance=0.0, negative="", size=256)
    with pytest.raises(Trouble, match="--sampler euler needs --scheduler too"):
        run.sampling_of(run.parse_arguments(["deig-bench", "--sampler", "euler"]), usual)
    both = run.parse_arguments(["deig-bench", "--sampler", "euler", "--scheduler", "normal"])
    assert run.sampling_of(both, usual).scheduler == "normal"


@pytest.mark.parametrize("named", [["--checkpoint", "a"], ["--adapter", "a"], ["--text-encoder", "a"]])
def test_shapes_are_painted_with_the_small_model_unless_another_is_named(named):
    wanted = run.wanted_of(run.parse_arguments(["shapes"]), BENCH)
    assert wanted.checkpoints == ("small-deig.safetensors",) and wanted.ways == ("deig",)
    other = run.wanted_of(run.parse_arguments(["shapes", "--way", "off", *named]), BENCH)
    assert other.ways == ("off",)
    assert [*other.checkpoints, *other.adapters, *filter(None, [other.text_encoder])] == ["a"]


def test_without_a_server_and_a_host_nothing_is_painted(tmp_path):
    with pytest.raises(Trouble, match="--server, or set COMFYUI_PATH"):
        scored("shapes", "--sample", "1", "--out", str(tmp_path / "run"))


@pytest.mark.parametrize(
    "more, models, cpu", [([], "host/models", False), (["--models", "mine", "--cpu"], "mine", True)]
)
def test_a_server_of_its_own_has_the_hosts_models_or_those_named(more, models, cpu, monkeypatch):
    started = []

    @contextlib.contextmanager
    def own_server(*how):
        started.append(how)
        yield "a server"

    monkeypatch.setattr(run, "own_server", own_server)
    host = Path("host")
    options = run.parse_arguments(["mig-bench", "--host", str(host), *more])
    with run.servers_of(options, replace(BENCH, entries=(entry_of("1"),))) as clients:
        assert clients == ["a server"]
    assert started == [(host, Path(models), cpu)]
    with run.servers_of(run.parse_arguments(["shapes", "--host", str(host)]), BENCH):
        assert started[1] == (host, None, False)  # the small model's


@pytest.mark.parametrize(
    "raised, code, said",
    [(Trouble("no server"), 2, "no server"), (StartFailed("ended"), 2, "ended"),
     (KeyboardInterrupt(), 130, "\nInterrupted. What was painted"), (None, 0, "")],
)  # fmt: skip
def test_the_command_ends_in_words(raised, code, said, monkeypatch, capsys):
    def fails(options):
        if raised:
            raise raised

    monkeypatch.setattr(run, "run", fails)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["run", "shapes"])
    assert run.main() == code and capsys.readouterr().out.startswith(said)


def test_deig_bench_wants_a_judge(tmp_path):
    entry = json.loads(write_shapes(1, 0))["results"][0]
    del entry["scene"], entry["seed"]
    folder = Folder(tmp_path / "run")
    folder.begin(bench_of(json.dumps([entry]).encode()), "mine")
    with pytest.raises(Trouble, match="--judge"):
        scored("--score", str(folder.path))


class Model:
    """Stands for a model that would be loaded by its name."""

    def __init__(self, *named):
        self.name = " of ".join(filter(None, named))


@pytest.mark.parametrize(
    "kind, is_of_shapes, more, wanted",
    [
        (DEIG, True, [], ExactJudge(0.3)),
        (DEIG, True, ["--judge", "there"], "detector dino, answers by there"),
        (DEIG, False, ["--judge", "there", "--judge-model", "m"], "detector dino, answers by there of m"),
        (DEIG, False, ["--judge", "there", "--any-case"], "detector dino, answers by there"),
        (MIG, False, [], "detector dino, masks by sam"),
        (MIG, False, ["--judge", "there"], "detector dino, masks by sam"),
    ],
)
def test_a_benchmark_is_judged_by_the_models_that_are_named(kind, is_of_shapes, more, wanted, monkeypatch):
    for name in ("GroundingDino", "Sam"):
        monkeypatch.setattr(run.detectors, name, Model)
    monkeypatch.setattr(run, "answerer_of", Model)
    named = ["--detector", "dino", "--segmenter", "sam", "--iou-threshold", "0.3", *more]
    bench = BENCH if is_of_shapes else replace(BENCH, kind=kind, entries=(entry_of("1"),))
    judge = run.judge_of(run.parse_arguments(["--score", *named]), bench)
    if isinstance(wanted, str):
        case = ", answers in any case" if "--any-case" in more else ""
        assert judge.name == f"{wanted}, in place from an IoU of 0.3{case}"
        assert isinstance(judge, DeigJudge) == (kind == DEIG) and judge.threshold == 0.3
    else:
        assert judge == wanted


def test_scores_say_which_clip_took_them_and_a_folder_may_be_scored_twice(tmp_path, monkeypatch, capsys):
    class Clip(Brightness):
        def __init__(self, name):
            self.name = name

    bench, folder = bench_of(write_shapes(layouts=1, kept_out=0)), Folder(tmp_path)
    folder.begin(bench, "shapes")
    (task,) = plan(bench.entries, [BARE], [0], SHAPES.sampling)
    file = io.BytesIO()
    Image.fromarray(painted(BARE, task.entry)).save(file, "PNG")
    folder.add(task.key, file.getvalue(), task.made_with())
    monkeypatch.setattr(run.detectors, "Clip", Clip)
    for more, told in (
        (["--clip"], f"CLIP score: {run.detectors.CLIP}."), (["--clip", "mine"], "CLIP score: mine."), ([], None),
    ):  # fmt: skip
        scored("--score", str(folder.path), *more)
        said = capsys.readouterr().out
        assert told in said if told else "CLIP score" not in said


def test_who_began_to_judge_and_was_torn_off_at_once_has_judged_nothing(tmp_path):
    folder = Folder(tmp_path)
    Answers(folder, "somebody").add({"picture": "a", "sha256": "b"})
    assert judges_of(tmp_path) == ["somebody"]
    (path,) = tmp_path.glob("answers-*.jsonl")
    path.write_bytes(path.read_bytes()[:-5])
    assert judges_of(tmp_path) == []
    path.write_bytes(b"")
    assert judges_of(tmp_path) == []


def test_painters_are_called_by_what_tells_them_apart():
    painters = painters_of(("deig", "plain"), ("sd14.ckpt", "own/model.ckpt"), ("model.pth", "new.pth"), "t5")
    assert list(short_names(painters).values()) == [
        *("deig, sd14, model", "deig, sd14, new", "deig, model, model", "deig, model, new"),
        *("plain, sd14", "plain, model"),
    ]
    assert list(short_names(painters[:1]).values()) == ["deig"]
    assert list(short_names([painters[0], painters[4]]).values()) == ["deig", "plain"]
    assert len({painter.folder for painter in painters}) == len(painters) == 6
