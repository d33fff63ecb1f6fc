"""The figures of the small model: how they are summed up, and that parts are taken away and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from deig_pack.deig_core.regions.raster import cell_places
from deig_pack.deig_core.regions.region import Mask, Region

from bench.quality.figures import (
    FULL,
    KEPT_OUT,
    NO_DEIG,
    NO_INSTANCES,
    NO_MASK,
    VARIANTS,
    Job,
    Painted,
    bars_of,
    figures_of,
    results_of,
    tables,
)
from bench.quality.judge import judge
from bench.quality.run import box_mask, jobs_of, sheet_of
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


def test_a_place_without_its_box_is_the_same_place():
    """The mask that stands in for a box, when the position net is not told it, is just that box."""
    for seed in range(30):
        for shape in deal(seed).shapes:
            masked = Region(shape.phrase, (0, 0, 1, 1), mask=Mask(box_mask(shape.box)))
            places = cell_places([Region(shape.phrase, shape.box), masked], (16, 16))
            assert torch.equal(places[0], places[1])
