"""Figures of how well the small model paints what it is told: sums, the bars they are held against, and tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from small_model.scenes import Scene, deal, off_grid

from ..bars import Bar, Ruling
from .judge import Judgement, Verdict

FULL, NO_DEIG, NO_INSTANCES, NO_MASK = "full", "no DEIG", "no instances", "no mask"
NO_TIME, NO_PLACE = "fixed timestep in the IDE", "no position net"
OFF_GRID = "boxes off the grid"
VARIANTS = {
    FULL: "the whole model",
    OFF_GRID: "the whole model; every box moved by one to four pixels, off the grid that boxes lay on in training",
    NO_MASK: "every image token sees every instance",
    NO_TIME: "the IDE always gets timestep 500",
    NO_PLACE: "the position net always gets the box of the whole picture",
    NO_INSTANCES: "the prompt alone; the fusers run, as they did in training where instances were left out",
    NO_DEIG: "the prompt alone; no fuser runs (strength 0)",
}


@dataclass(frozen=True)
class Job:
    """One picture to paint: the layout's seed, which is the noise's too, and what is taken away."""

    seed: int
    kept_out: bool
    variant: str

    @property
    def scene(self) -> Scene:
        scene = deal(self.seed, kept_out=self.kept_out)
        return off_grid(scene, self.seed) if self.variant == OFF_GRID else scene


@dataclass(frozen=True, eq=False)
class Painted:
    """A job's picture, (128, 128, 3) uint8, and the judgement of it."""

    job: Job
    picture: np.ndarray
    judgement: Judgement

    @property
    def shapes(self) -> tuple[Verdict, ...]:
        """The verdicts on the shapes."""
        return self.judgement.shapes


@dataclass(frozen=True)
class Figures:
    """Of a group of layouts.

    Args:
        layouts, instances: how many.
        colour, shape, texture, everything: shares of the instances that have it right.
        iou: mean IoU of what is painted with its box, over the instances where it can be measured; more than a
            tenth also where nothing fits, since what is painted far away is not counted.
        leak_inside: mean share of a shape's pixels that have the colour of another one of its scene.
        leak_outside: mean share of the pixels outside all boxes that have the colour of a shape.
        grounds: how many of the layouts have a ground of two colours that can be judged.
        ground: share of these with both colours on their sides; None where there is none.
    """

    layouts: int
    instances: int
    colour: float
    shape: float
    texture: float
    everything: float
    iou: float
    leak_inside: float
    leak_outside: float
    grounds: int
    ground: float | None


def figures_of(painted: Iterable[Painted]) -> Figures:
    """Sum up what was painted; at least one picture."""
    painted = list(painted)
    shapes = [shape for one in painted for shape in one.shapes]
    grounds = [one.judgement.ground for one in painted if one.judgement.ground is not None]
    return Figures(
        layouts=len(painted),
        instances=len(shapes),
        colour=_mean(shape.is_colour for shape in shapes),
        shape=_mean(shape.is_kind for shape in shapes),
        texture=_mean(shape.is_texture for shape in shapes),
        everything=_mean(shape.is_all for shape in shapes),
        iou=_mean(shape.iou for shape in shapes if shape.iou is not None),
        leak_inside=_mean(shape.leaked for shape in shapes),
        leak_outside=_mean(one.judgement.outside for one in painted),
        grounds=len(grounds),
        ground=_mean(grounds) if grounds else None,
    )


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)


ALL, ONE_TO_FOUR, KEPT_OUT = "all", "1 to 4", "kept out"


def groups_of(painted: Sequence[Painted]) -> dict[str, list[Painted]]:
    """Group pictures of held-out layouts by their number of instances; kept-out combinations apart."""
    usual = [one for one in painted if not one.job.kept_out]
    groups = {str(n): [one for one in usual if len(one.shapes) == n] for n in range(1, 7)}
    groups[ONE_TO_FOUR] = [one for one in usual if len(one.shapes) <= 4]
    groups[ALL] = usual
    groups[KEPT_OUT] = [one for one in painted if one.job.kept_out]
    return {name: group for name, group in groups.items() if group}


Results = dict[str, dict[str, Figures]]  # variant -> group -> figures

# The full model on the layouts that the others were tried on.
SAME = "full, on the same layouts"


def results_of(painted: Sequence[Painted]) -> Results:
    """Figures of every variant and group."""
    by_variant = {name: [one for one in painted if one.job.variant == name] for name in VARIANTS}
    tried = {(one.job.seed, one.job.kept_out) for one in by_variant[NO_DEIG]}
    by_variant[SAME] = [one for one in by_variant[FULL] if (one.job.seed, one.job.kept_out) in tried]
    return {
        name: {group: figures_of(ones) for group, ones in groups_of(some).items()}
        for name, some in by_variant.items()
    }


def bars_of(results: Results) -> list[Bar]:
    """Hold the figures against what the model was to reach."""
    full, same, no_mask = (results[name] for name in (FULL, SAME, NO_MASK))
    prompt_alone = max(results[name][ALL].colour for name in (NO_INSTANCES, NO_DEIG))

    at_least = Bar.at_least
    points = 100 * (same[ALL].colour - prompt_alone)
    leaks = [100 * figures[ALL].leak_inside for figures in (same, no_mask)]
    return [
        at_least("colour in its box, 1 to 4 instances", full[ONE_TO_FOUR].colour, 0.99),
        at_least("all attributes together", full[ALL].everything, 0.9),
        at_least("mean IoU", full[ALL].iou, 0.85),
        at_least("kept-out combinations, all attributes", full[KEPT_OUT].everything, 0.75),
        at_least("ground of two colours, both on their sides", full[ALL].ground or 0.0, 0.9),
        Bar(
            "without DEIG or instances, colour in its box",
            "40 points lower",
            f"{100 * prompt_alone:.1f} %, {points:.1f} points lower",
            Ruling.of(points >= 40),
        ),
        Bar(
            "without the mask, leakage inside",
            "at least twice",
            f"{leaks[1]:.1f} % instead of {leaks[0]:.1f} %",
            Ruling.of(leaks[1] >= 2 * max(leaks[0], 0.5)),
        ),
    ]


# -- tables -------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


FIGURES_HEAD = (
    *("layouts", "shapes", "colour", "shape", "texture", "all three", "IoU", "leak in", "leak out"),
    "ground",
)


def _cells(figures: Figures) -> list[str]:
    shares = (figures.colour, figures.shape, figures.texture, figures.everything)
    leaks = (figures.leak_inside, figures.leak_outside)
    return [
        str(figures.layouts),
        str(figures.instances),
        *(f"{100 * share:.1f} %" for share in shares),
        f"{figures.iou:.3f}",
        *(f"{100 * leak:.1f} %" for leak in leaks),
        "" if figures.ground is None else f"{100 * figures.ground:.1f} % of {figures.grounds}",
    ]


def figures_table(first: str, figures: Mapping[str, Figures]) -> str:
    """Return a table in markdown with a row for each, `first` being the head of their names."""
    return _table((first, *FIGURES_HEAD), [[name, *_cells(one)] for name, one in figures.items()])


def tables(results: Results, bars: Sequence[Bar]) -> str:
    """Everything as markdown."""
    by_count = figures_table("instances", results[FULL])
    others = [name for name in (SAME, *VARIANTS) if name != FULL]
    parts = figures_table("model", {name: results[name][ALL] for name in others})
    groups = list(results[FULL])
    everything = _table(
        ("all three right", *groups),
        [
            [
                name,
                *(f"{100 * results[name][g].everything:.0f} %" if g in results[name] else "" for g in groups),
            ]
            for name in (FULL, *others)
        ],
    )
    held = _table(
        ("bar", "wanted", "measured", "met"),
        [[bar.what, bar.wanted, bar.measured, "yes" if bar.met else "no"] for bar in bars],
    )
    said = "\n".join(f"- {name}: {what}" for name, what in VARIANTS.items())
    return (
        "\n\n".join(("The whole model:", by_count, "With parts off:", parts, said, everything, held)) + "\n"
    )
