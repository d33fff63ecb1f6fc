"""Scoring a folder of pictures: the figures of `bench --quality`, tables that say who judged, and runs side by side."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageColor

from bench.papers import run
from bench.papers.answers import answered, judge_folder
from bench.papers.entries import DEIG, Entry, Instance, bench_of
from bench.papers.figures import ALL, figures_of
from bench.papers.judges import DeigJudge, Verdict
from bench.papers.manifest import Folder
from bench.papers.plan import Painter, painters_of, plan, short_names
from bench.papers.protocol import SHAPES
from bench.papers.shapes import ExactJudge, scene_of, write_shapes
from bench.papers.sheet import marked
from bench.papers.tables import Told, rows_of, tables
from bench.papers.trouble import Trouble
from bench.quality.figures import FULL, Job, Painted
from bench.quality.figures import figures_of as quality_figures_of
from bench.quality.judge import judge
from deig_core.regions.draw import colour_of
from deig_core.regions.layouts import Layout
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


def test_deig_bench_wants_a_judge(tmp_path):
    entry = json.loads(write_shapes(1, 0))["results"][0]
    del entry["scene"], entry["seed"]
    folder = Folder(tmp_path / "run")
    folder.begin(bench_of(json.dumps([entry]).encode()), "mine")
    with pytest.raises(Trouble, match="--judge"):
        scored("--score", str(folder.path))


def test_painters_are_called_by_what_tells_them_apart():
    painters = painters_of(("deig", "plain"), ("sd14.ckpt", "own/model.ckpt"), ("model.pth", "new.pth"), "t5")
    assert list(short_names(painters).values()) == [
        *("deig, sd14, model", "deig, sd14, new", "deig, model, model", "deig, model, new"),
        *("plain, sd14", "plain, model"),
    ]
    assert list(short_names(painters[:1]).values()) == ["deig"]
    assert list(short_names([painters[0], painters[4]]).values()) == ["deig", "plain"]
    assert len({painter.folder for painter in painters}) == len(painters) == 6
