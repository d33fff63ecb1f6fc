"""The ablation without training: what is painted and judged, what is written when, and what the curve shows."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from bench.quality import ablate
from bench.quality.figures import Figures
from small_model.device import CPU
from small_model.place import WEIGHTS
from small_model.scenes import draw

SOME = Figures(10, 20, 0.5, 0.6, 0.7, 0.4, 0.85, 0.05, 0.01, 4, 0.9)
TWO = {name: ablate.VARIANTS[name] for name in ("16 tokens", "no IDE, mean of the words")}


def test_layouts_are_painted_some_at_once_from_noise_of_their_own_and_judged(monkeypatch):
    calls = []

    def sample(model, scenes, seed, steps, guidance, device):
        calls.append((model, len(scenes), seed, steps, guidance, device))
        return [draw(scene) for scene in scenes]

    def decode(latents):
        assert not torch.is_grad_enabled()
        return latents

    monkeypatch.setattr(ablate, "AT_ONCE", 2)
    monkeypatch.setattr(ablate, "sample", sample)
    monkeypatch.setattr(ablate, "to_uint8", lambda pictures: pictures)
    run = SimpleNamespace(averaged=lambda: "averaged", encoder=SimpleNamespace(decode=decode), device=CPU)
    figures = ablate.judged(run, 3)
    assert calls == [("averaged", 2, 0, 16, 4.0, CPU), ("averaged", 1, 2, 16, 4.0, CPU)]
    # What the code draws is right wherever each picture is held against its own layout.
    assert (figures.layouts, figures.everything) == (3, 1.0)
    assert figures.instances == sum(len(job.scene.shapes) for job in ablate.jobs(3))


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """What is prepared, trained and judged, noted down instead of done; the last with what is written by then."""
    noted = []

    def judged(run, layouts):
        path = tmp_path / "ablation.json"
        written = list(json.loads(path.read_text())["figures"]) if path.exists() else []
        noted.append(("judge", run, layouts, written))
        return replace(SOME, layouts=layouts + len(written))

    def made(place, recipe, device):
        return place, recipe, device

    monkeypatch.setattr(ablate, "prepare", lambda *how: noted.append(("prepare", *how)))
    monkeypatch.setattr(ablate, "train", lambda *how: noted.append(("train", *how)))
    monkeypatch.setattr(ablate, "Run", made)
    monkeypatch.setattr(ablate, "judged", judged)
    return noted


def test_each_variant_learns_in_a_folder_of_its_own_and_is_written_down_when_it_is_judged(trained, tmp_path):
    found = ablate.ablate(tmp_path, Path("stored"), 700, 5, CPU, 3, TWO)
    places = [tmp_path / "16-tokens", tmp_path / "no-IDE-mean-of-the-words"]
    recipes = [ablate.recipe_of(extraction, 700) for extraction in TWO.values()]
    written: list[str] = []
    wanted = []
    for place, recipe, name in zip(places, recipes, TWO, strict=True):
        wanted += [
            ("prepare", place, 0, recipe.seed, CPU, Path("stored")), ("train", place, recipe, CPU, 3),
            ("judge", (place, recipe, CPU), 5, list(written)),
        ]  # fmt: skip
        written.append(name)
    assert trained == wanted
    assert [one.layouts for one in found.values()] == [5, 6]
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert record["samples"] == 700 and list(record["figures"]) == list(TWO)
    assert [figures["layouts"] for figures in record["figures"].values()] == [5, 6]
    rows = (tmp_path / "ablation.md").read_text().splitlines()
    assert rows[0].startswith("| tokens ") and [row.split("|")[1].strip() for row in rows[2:]] == list(TWO)


def test_a_recipe_begins_the_ide_anew_and_has_what_is_told():
    recipe = ablate.recipe_of(TWO["16 tokens"], 700)
    assert (recipe.samples, recipe.extraction, recipe.new_ide) == (700, TWO["16 tokens"], True)
    assert not TWO["no IDE, mean of the words"].ide and TWO["no IDE, mean of the words"].tokens == 1


def started(monkeypatch, *arguments: str, has_matplotlib: bool = True) -> list[tuple]:
    """What the command does, noted down."""
    done: list[tuple] = []
    monkeypatch.setattr(ablate, "find_spec", lambda name: object() if has_matplotlib else None)
    monkeypatch.setattr(ablate, "ablate", lambda *how: done.append(how) or {"16 tokens": SOME})
    monkeypatch.setattr(ablate, "draw_tokens", lambda found, path: done.append((found, path)))
    monkeypatch.setattr(sys, "argv", ["ablate", *arguments])
    ablate.main()
    return done


def test_options_reach_the_ablation_and_its_table_is_shown(monkeypatch, tmp_path, capsys):
    more = ["--samples", "70", "--layouts", "3", "--weights", "mine", "--device", "cpu", "--workers", "2"]
    first, second = started(monkeypatch, "--out", str(tmp_path), *more)
    assert first == (tmp_path, Path("mine"), 70, 3, CPU, 2)
    assert second == ({"16 tokens": SOME}, tmp_path / "ablation.png")
    said = capsys.readouterr().out
    assert "| 16 tokens |" in said and str(tmp_path / "ablation.json") in said
    first, _ = started(monkeypatch, "--out", str(tmp_path), "--device", "cpu")
    assert first == (tmp_path, WEIGHTS, 12_000, 96, CPU, 1)


def test_what_the_curve_needs_is_asked_for_before_the_hours(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        started(monkeypatch, "--out", str(tmp_path), has_matplotlib=False)
    assert "needs matplotlib" in capsys.readouterr().err


class Plot:
    """Stands for matplotlib's figure and axes, and keeps what is drawn."""

    def __init__(self):
        self.lines, self.levels, self.ticks, self.saved = {}, {}, [], []

    def plot(self, x, y, form, label):
        self.lines[label] = (list(x), [round(value, 6) for value in y])

    def axhline(self, y, color, linestyle, label):
        self.levels[label] = (round(y, 6), linestyle)

    def set_xticks(self, ticks, labels):
        self.ticks = [ticks, list(labels)]

    def savefig(self, path, dpi):
        self.saved.append(path)

    def set_xscale(self, *_, **__):
        """Nothing that is looked at."""

    set = legend = set_xscale


def test_the_curve_is_by_tokens_in_percent_with_lines_for_what_has_no_ide(monkeypatch, tmp_path):
    plot = Plot()
    matplotlib, pyplot = ModuleType("matplotlib"), ModuleType("matplotlib.pyplot")
    matplotlib.use, matplotlib.pyplot = (lambda _: None), pyplot
    pyplot.subplots = lambda **_: (plot, plot)
    monkeypatch.setitem(sys.modules, "matplotlib", matplotlib)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    names = ("4 tokens", "no IDE, mean of the words", "16 tokens", "no IDE, the first 8 words")
    figures = {name: replace(SOME, everything=i / 10, colour=0.9) for i, name in enumerate(names)}
    ablate.draw_tokens(figures, tmp_path / "a.png")
    assert plot.lines == {
        "all three": ([4, 16], [0, 20]), "colour": ([4, 16], [90, 90]), "texture": ([4, 16], [70, 70]),
        "shape": ([4, 16], [60, 60]),
    }  # fmt: skip
    assert {label.removesuffix(", all three"): level for label, level in plot.levels.items()} == {
        names[1]: (10, "--"), names[3]: (30, ":"),
    }  # fmt: skip
    assert plot.ticks == [[4, 16], ["4", "16"]] and plot.saved == [tmp_path / "a.png"]
