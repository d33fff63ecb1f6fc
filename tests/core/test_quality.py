"""The figures of the small model: how they are summed up, and that parts are taken away and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from deig_pack.deig_core.regions.raster import cell_places
from deig_pack.deig_core.regions.region import Mask, Region

from bench.papers import protocol, shapes
from bench.quality import run as quality
from bench.quality.figures import (
    ALL,
    FULL,
    KEPT_OUT,
    NO_DEIG,
    NO_INSTANCES,
    NO_MASK,
    ONE_TO_FOUR,
    SAME,
    VARIANTS,
    Figures,
    Job,
    Painted,
    bars_of,
    figures_of,
    figures_table,
    groups_of,
    results_of,
    tables,
)
from bench.quality.judge import judge
from bench.quality.run import box_mask, host_version, jobs_of, sheet_of, write_results
from small_model.scenes import GROUNDS, SIZE, deal, draw, draw_ground

JOBS = jobs_of(layouts=30, tried=8, kept_out=8)


def painted_by_code(job: Job) -> Painted:
    """What a perfect model would paint, and without DEIG a perfect ground alone."""
    scene = job.scene
    picture = draw(scene)
    if job.variant in (NO_DEIG, NO_INSTANCES):
        picture = draw_ground(scene.ground, scene.split).astype(np.uint8)
    if job.variant == NO_MASK and len(scene.shapes) > 1:  # every shape in the colours of another
        shapes = scene.shapes
        others = [
            replace(a, colours=b.colours * 2) for a, b in zip(shapes, shapes[1:] + shapes[:1], strict=True)
        ]
        picture = draw(replace(scene, shapes=tuple(others)))
    return Painted(job, picture, judge(picture, scene))


@pytest.fixture(scope="module")
def painted():
    return [painted_by_code(job) for job in JOBS]


def test_every_variant_paints_the_same_layouts():
    full = {(job.seed, job.kept_out) for job in JOBS if job.variant == FULL}
    assert len(full) == 38
    for variant in VARIANTS:
        tried = {(job.seed, job.kept_out) for job in JOBS if job.variant == variant}
        assert tried == full or (tried < full and len(tried) == 10)


def test_a_perfect_model_meets_every_bar(painted):
    results = results_of(painted)
    assert all(bar.met for bar in bars_of(results))
    assert results[FULL][KEPT_OUT].layouts == 8
    counts = [figures.instances for group, figures in results[FULL].items() if group.isdigit()]
    assert (
        sum(counts)
        == results[FULL]["all"].instances
        == sum(len(deal(1_000_000 + i).shapes) for i in range(30))
    )


def test_a_model_that_paints_nothing_meets_none(painted):
    grey = np.full((SIZE, SIZE, 3), GROUNDS["grey"], dtype=np.uint8)
    bare = [one.job for one in painted if one.job.variant == NO_DEIG]
    same = [Painted(replace(job, variant=v), grey, judge(grey, job.scene)) for job in bare for v in VARIANTS]
    results = results_of(same)
    assert not any(bar.met for bar in bars_of(results))
    two = [job for job in bare if not job.kept_out and job.scene.split != "plain"]
    assert (results[FULL]["all"].ground, results[FULL]["all"].grounds) == (0, len(two)) and two


def test_grounds_of_two_colours_alone_count(painted):
    """A ground right and one wrong make a half, whatever grounds of one colour are like."""
    full = [one for one in painted if one.job.variant == FULL]
    two = [one for one in full if one.job.scene.split != "plain"]
    plain = [one for one in full if one.job.scene.split == "plain"]
    wrong = replace(two[1], judgement=replace(two[1].judgement, ground=False))
    figures = figures_of([two[0], wrong, *plain])
    assert (figures.ground, figures.grounds) == (0.5, 2)
    assert (figures_of(plain).ground, figures_of(plain).grounds) == (None, 0)


def test_tables_and_sheet_show_everything(painted):
    results = results_of(painted)
    text = tables(results, bars_of(results))
    assert all(name in text for name in (*VARIANTS, *results[FULL]))
    assert f"100.0 % of {results[FULL]['all'].grounds}" in text
    rows = (
        len({len(one.shapes) for one in painted if one.job.variant == NO_DEIG and not one.job.kept_out}) + 1
    )
    assert sheet_of(painted).height > rows * 256


SOME = Figures(10, 20, 0.99, 0.9, 0.8, 0.9, 0.85, 0.05, 0.01, 4, 0.9)


def results(**changes) -> dict:
    """Results that meet every bar just so, changed for one variant and group: full_all={...}."""
    same = {ONE_TO_FOUR: SOME, ALL: SOME, KEPT_OUT: replace(SOME, everything=0.75)}
    untold = {ALL: replace(SOME, colour=0.59)}
    found = {FULL: same, SAME: {ALL: SOME}, NO_MASK: {ALL: replace(SOME, leak_inside=0.1)}}
    found |= {NO_INSTANCES: untold, NO_DEIG: untold}
    for name, change in changes.items():
        variant, group = name.rsplit("__", 1)
        variant = {"full": FULL, "same": SAME, "no_mask": NO_MASK, "no_deig": NO_DEIG, "bare": NO_INSTANCES}[
            variant
        ]
        group = {"all": ALL, "four": ONE_TO_FOUR, "kept": KEPT_OUT}[group]
        found[variant] = found[variant] | {group: replace(found[variant][group], **change)}
    return found


@pytest.mark.parametrize(
    "change, missed",
    [
        ({}, None),
        ({"full__four": {"colour": 0.9899}}, 0), ({"full__all": {"everything": 0.8999}}, 1),
        ({"full__all": {"iou": 0.8499}}, 2), ({"full__kept": {"everything": 0.7499}}, 3),
        ({"full__all": {"ground": 0.8999}}, 4), ({"full__all": {"ground": None}}, 4),
        ({"no_deig__all": {"colour": 0.6}}, 5), ({"bare__all": {"colour": 0.6}}, 5),
        ({"same__all": {"colour": 0.98}}, 5),
        ({"no_mask__all": {"leak_inside": 0.0999}}, 6), ({"same__all": {"leak_inside": 0.0501}}, 6),
    ],
)  # fmt: skip
def test_every_bar_is_held_to_its_own_figure(change, missed):
    bars = bars_of(results(**change))
    assert [number for number, bar in enumerate(bars) if not bar.met] == ([] if missed is None else [missed])


def test_of_a_model_that_hardly_leaks_a_percent_is_twice():
    for leak, met in ((0.01, True), (0.0099, False)):
        bars = bars_of(results(same__all={"leak_inside": 0.0}, no_mask__all={"leak_inside": leak}))
        assert bars[6].met == met
        assert bars[6].measured == f"{100 * leak:.1f} % instead of 0.0 %"


def test_a_table_shows_every_figure_of_a_row():
    lines = figures_table(
        "model", {"a": replace(SOME, leak_inside=0.05), "b": replace(SOME, ground=None)}
    ).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][:3] == ["model", "layouts", "shapes"]
    assert rows[2] == [
        "a", "10", "20", "99.0 %", "90.0 %", "80.0 %", "90.0 %", "0.850", "5.0 %", "1.0 %", "90.0 % of 4"
    ]  # fmt: skip
    assert rows[3][-1] == "" and len({len(line) for line in lines}) == 1


def test_groups_are_by_the_number_of_shapes_and_kept_out_ones_apart(painted):
    full = [one for one in painted if one.job.variant == FULL]
    groups = groups_of(full)
    usual = [one for one in full if not one.job.kept_out]
    assert groups[ALL] == usual and groups[KEPT_OUT] == [one for one in full if one.job.kept_out]
    assert groups[ONE_TO_FOUR] == [one for one in usual if len(one.shapes) <= 4]
    for name, group in groups.items():
        assert group and (not name.isdigit() or {len(one.shapes) for one in group} == {int(name)})
    assert "6" not in groups_of([one for one in full if len(one.shapes) < 6])


def test_the_full_model_is_compared_on_the_layouts_that_the_others_were_tried_on(painted):
    found = results_of(painted)
    assert found[SAME][ALL].layouts == found[NO_DEIG][ALL].layouts == 8 < found[FULL][ALL].layouts
    assert found[SAME][KEPT_OUT].layouts == 2


@pytest.mark.parametrize("layouts, tried, kept_out, full, others", [(4, 60, 9, 13, 6), (4, 2, 3, 7, 2)])
def test_no_more_is_tried_than_there_is(layouts, tried, kept_out, full, others):
    jobs = jobs_of(layouts, tried, kept_out, first_seed=50)
    counts = {variant: sum(job.variant == variant for job in jobs) for variant in VARIANTS}
    assert counts == {variant: full if variant == FULL else others for variant in VARIANTS}
    assert min(job.seed for job in jobs) == 50


def test_everything_is_written_down(painted, tmp_path):
    text = write_results(tmp_path / "made", painted, {"first_seed": 5})
    folder = tmp_path / "made"
    assert (folder / "quality.md").read_text() == text
    record = json.loads((folder / "quality.json").read_text())
    assert record["first_seed"] == 5 and record["variants"] == VARIANTS
    assert record["figures"][FULL][KEPT_OUT]["layouts"] == 8
    assert {bar["ruling"] for bar in record["bars"]} == {"met"} and len(record["bars"]) == 7
    assert (folder / "sheet.png").is_file()
    assert "| yes |" in text and "| no  |" not in text


def test_the_command_paints_what_it_is_told_and_says_with_what(painted, tmp_path, monkeypatch, capsys):
    host, out, asked = tmp_path / "host", tmp_path / "out", []
    host.mkdir()
    (host / "comfyui_version.py").write_text('__version__ = "0.33.0"\n')

    def paint_all(*how):
        asked.append(how)
        return painted

    monkeypatch.setattr(quality, "paint_all", paint_all)
    sizes = ["--layouts", "30", "--tried", "8", "--kept-out", "8"]
    more = ["--steps", "9", "--guidance", "2.5", "--workers", "3", "--weights", "mine"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run", "--host", "host", "--out", "out", *sizes, *more])
    quality.main()
    assert asked == [(JOBS, host, tmp_path / "mine", quality.Sampling(9, 2.5), 3)]
    record = json.loads((out / "quality.json").read_text())
    assert record["host"] == "ComfyUI 0.33.0" and record["first_seed"] == 1_000_000
    assert (record["sampling"]["steps"], record["sampling"]["guidance"]) == (9, 2.5)
    said = capsys.readouterr().out
    assert (out / "quality.md").read_text() in said and f"{len(JOBS)} pictures in" in said


def test_by_default_it_paints_the_layouts_that_the_file_of_shapes_has(monkeypatch):
    monkeypatch.setattr("sys.argv", ["run", "--host", "there", "--out", "here"])
    options = quality.parse_arguments()
    assert (options.layouts, options.kept_out) == (shapes.LAYOUTS, shapes.KEPT_OUT)
    assert options.first_seed == json.loads(shapes.write_shapes(1, 0))["results"][0]["seed"]
    # And as shapes are painted there.
    sampling = protocol.SHAPES.sampling
    assert (options.steps, options.guidance) == (sampling.steps, sampling.guidance)
    monkeypatch.setattr("sys.argv", ["run", "--host", "there", "--out", "here", "--first-seed", "5"])
    assert quality.parse_arguments().first_seed == 5


def test_the_hosts_version_is_read(tmp_path):
    (tmp_path / "comfyui_version.py").write_text('# of it\n__version__ = "0.33.0"\n')
    assert host_version(tmp_path) == "0.33.0"


def test_a_place_without_its_box_is_the_same_place():
    """The mask that stands in for a box, when the position net is not told it, is just that box."""
    for seed in range(30):
        for shape in deal(seed).shapes:
            masked = Region(shape.phrase, (0, 0, 1, 1), mask=Mask(box_mask(shape.box)))
            places = cell_places([Region(shape.phrase, shape.box), masked], (16, 16))
            assert torch.equal(places[0], places[1])
