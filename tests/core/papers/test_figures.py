"""Sums over judged pictures: worked out by hand, and as the authors' scripts make them of all their entries."""

import random

import pytest
import torch
from deig_pack.tests.core.papers import reference

from bench.papers.entries import DEIG, MIG, Entry, Instance, read_bench
from bench.papers.figures import ALL, OBJECTS, PEOPLE, Judged, Sums, figures_of
from bench.papers.judges import Verdict
from deig_core.regions.layouts import Layout

BOX = (0.1, 0.1, 0.5, 0.5)
RIGHT, WRONG, LOST = Verdict(True, True, 0.8), Verdict(True, False, 0.6), Verdict(False, False, 0.1)


def entry(*levels: str) -> Entry:
    instances = tuple(Instance("a red cup", BOX, "cup", level, "red") for level in levels)
    return Entry("1", "", instances, Layout(()))


def test_levels_are_summed_up_by_instances():
    judged = [
        Judged(entry("C1", "C3", "L2"), (RIGHT, WRONG, RIGHT), 20.0),
        Judged(entry("C1", "L4", ""), (LOST, WRONG, RIGHT), 26.0),
        Judged(entry("L2"), (RIGHT,), 29.0),
    ]
    figures = figures_of(DEIG, judged)
    assert {name: sums.rate for name, sums in figures.sums.items()} == {
        **{"C1": 1 / 2, "C2": None, "C3": 0, PEOPLE: 1 / 3},
        **{"L1": None, "L2": 1, "L3": None, "L4": 0, OBJECTS: 2 / 3, ALL: 4 / 7},
    }
    assert figures.sums[ALL].iou == pytest.approx((0.8 * 4 + 0.6 * 2 + 0.1) / 7)
    assert (figures.sums[ALL].pictures, figures.sums[ALL].whole) == (3, 1)
    assert figures.sums["C1"] == Sums(2, 1, 1, pytest.approx(0.45))
    assert figures.clip == 25


def test_mig_bench_is_summed_up_by_the_number_of_instances():
    judged = [Judged(entry("", ""), (RIGHT, LOST)), Judged(entry("", "", ""), (RIGHT, RIGHT, RIGHT))]
    figures = figures_of(MIG, judged)
    assert [figures.sums[name].rate for name in ("L2", "L3", "L4", ALL)] == [1 / 2, 1, None, 4 / 5]
    assert [figures.sums[name].whole_rate for name in ("L2", "L3", "L4", ALL)] == [0, 1, None, 1 / 2]
    assert figures.clip is None


def test_what_cannot_be_measured_is_left_out_of_the_mean():
    judged = [Judged(entry("L1", "L1"), (Verdict(True, True, None), Verdict(True, True, 0.5)))]
    sums = figures_of(DEIG, judged).sums["L1"]
    assert (sums.iou, sums.rate) == (0.5, 1)


class Answers:
    """Answers about every instance of a benchmark file, made up, for a script and for us."""

    def __init__(self, kind: str, seed: int = 0):
        self.bench = read_bench(reference.FILES[kind])
        rng = random.Random(seed)
        self.clips = {entry.name: rng.uniform(10, 40) for entry in self.bench.entries}
        self.verdicts = {
            entry.name: tuple(self._verdict(rng, kind) for _ in entry.instances)
            for entry in self.bench.entries
        }

    @staticmethod
    def _verdict(rng: random.Random, kind: str) -> Verdict:
        iou = rng.random()
        if iou < 0.3:
            return Verdict(False, False, 0.0 if iou < 0.1 else iou)
        right = rng.random() < 0.7
        return Verdict(True, right, 0.0 if kind == MIG and not right else iou)

    def figures(self):
        pairs = ((entry, self.verdicts[entry.name]) for entry in self.bench.entries)
        return figures_of(
            self.bench.kind, [Judged(entry, verdicts, self.clips[entry.name]) for entry, verdicts in pairs]
        )


@reference.needs_reference
def test_deig_bench_is_summed_up_as_its_script_does(tmp_path, monkeypatch):
    answers = Answers(DEIG)
    entries = iter(answers.bench.entries)
    verdicts, instances = iter(()), iter(())

    def clip_score(image, caption):
        nonlocal verdicts, instances
        current = next(entries)  # the script begins a picture with it
        assert caption == current.caption
        verdicts, instances = iter(answers.verdicts[current.name]), iter(current.instances)
        return torch.tensor(answers.clips[current.name], dtype=torch.float64)

    def check(image, label, prompt, gt_bbox, attr, miou_threshold):
        instance, verdict = next(instances), next(verdicts)
        assert (label, prompt, list(gt_bbox / 512)) == (
            instance.category,
            instance.phrase,
            list(instance.box),
        )
        return int(verdict.placed), int(verdict.right), verdict.iou

    names = [entry.name for entry in answers.bench.entries]
    assert len(names) == 400
    (tmp_path / "pictures").mkdir()
    theirs = reference.evaluated(DEIG, tmp_path / "pictures", names, check, clip_score, monkeypatch)
    ours = answers.figures()
    sums = ours.sums
    for person, number in (("C1", "1"), ("C2", "2"), ("C3", "3")):
        counts = theirs["person_color_stats"][number]
        assert (counts["total"], counts["correct"]) == (sums[person].instances, sums[person].succeeded)
        assert theirs["person_accuracy"][person] == round(sums[person].rate, 4)
    for level, counts in zip(("L1", "L2", "L3", "L4"), theirs["object_strategy_stats"].values(), strict=True):
        assert (counts["total"], counts["correct"]) == (sums[level].instances, sums[level].succeeded)
        assert theirs["object_accuracy"][level] == round(sums[level].rate, 4)
    overall = theirs["overall_accuracies"]
    assert (overall["person_total"], overall["object_total"]) == (599, 813)
    assert overall["person_color_accuracy"] == round(sums[PEOPLE].rate, 4)
    assert overall["object_strategy_accuracy"] == round(sums[OBJECTS].rate, 4)
    assert theirs["inst_sucess_ratio"] == sums[ALL].rate
    assert theirs["sucess_ratio"] == sums[ALL].whole_rate
    assert theirs["miou"] == pytest.approx(sums[ALL].iou, abs=1e-12)
    assert theirs["clip_score"] == pytest.approx(ours.clip, abs=1e-12)


@reference.needs_reference
def test_mig_bench_is_summed_up_as_its_script_does(tmp_path, monkeypatch):
    answers = Answers(MIG)
    by_name = {entry.name: entry for entry in answers.bench.entries}
    asked: dict[str, int] = {}
    captions: list[str] = []

    def check(image, label, gt_bbox, attr, miou_threshold, args, image_path):
        name = image_path.removesuffix(".jpg")
        number = asked[name] = asked.get(name, -1) + 1
        instance, verdict = by_name[name].instances[number], answers.verdicts[name][number]
        assert (label, attr, list(gt_bbox / 512)) == (instance.category, instance.colour, list(instance.box))
        return int(verdict.placed), int(verdict.right), verdict.iou

    def clip_score(image, caption):
        captions.append(caption)
        return torch.tensor(25.0)

    (tmp_path / "pictures").mkdir()
    theirs = reference.evaluated(MIG, tmp_path / "pictures", list(by_name), check, clip_score, monkeypatch)
    assert len(by_name) == 800 and sum(asked.values()) + len(asked) == 3200
    assert sorted(captions) == sorted(entry.caption for entry in by_name.values())
    sums = answers.figures().sums
    levels = [sums[name] for name in ("L2", "L3", "L4", "L5", "L6")]
    assert theirs["inst_sucess_ratio"] == sums[ALL].rate
    assert theirs["inst_level_sucess_ratio"] == [level.rate for level in levels]
    assert theirs["sucess_ratio"] == sums[ALL].whole_rate
    assert theirs["success_level_ratio"] == [level.whole_rate for level in levels]
    assert theirs["miou"] == pytest.approx(sums[ALL].iou, abs=1e-12)
    assert theirs["miou_level"] == pytest.approx([level.iou for level in levels], abs=1e-12)
