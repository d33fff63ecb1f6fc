"""Does it paint what it is told? `python -m demo.quality --host COMFYUI --weights demo/weights --out FOLDER`

Paints layouts that training never saw, with fixed seeds, in the real host, and judges every shape. Then takes
parts away, one at a time. Writes quality.json, quality.md and sheet.png.
"""

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .judge import Verdict, judge
from .place import WEIGHTS
from .scenes import FIRST_SCENE, Scene, deal, draw, pixel_box
from .sheet import draw_sheet

FIRST_SEED = 1_000_000  # of the layouts held out: far from those that the vocabulary was made from
assert FIRST_SEED + 1_000_000 < FIRST_SCENE

FULL, NO_DEIG, NO_INSTANCES, NO_MASK = "full", "no DEIG", "no instances", "no mask"
NO_TIME, NO_PLACE = "fixed timestep in the IDE", "no position net"
VARIANTS = {
    FULL: "the whole model",
    NO_MASK: "every image token sees every instance",
    NO_TIME: "the IDE always gets timestep 500",
    NO_PLACE: "the position net always gets the box of the whole picture",
    NO_INSTANCES: "the prompt alone; the fusers run, as they did in training where instances were left out",
    NO_DEIG: "the prompt alone; no fuser runs (strength 0)",
}
FIXED_TIMESTEP = 500.0
LEAST = 1e-30  # strength of a region that no image token attends to, though the fusers run


@dataclass(frozen=True)
class Job:
    """One picture to paint: the layout's seed, which is the noise's too, and what is taken away."""

    seed: int
    kept_out: bool
    variant: str

    @property
    def scene(self) -> Scene:
        return deal(self.seed, kept_out=self.kept_out)


@dataclass(frozen=True, eq=False)
class Painted:
    """A job's picture, (128, 128, 3) uint8, and the verdicts on it."""

    job: Job
    picture: np.ndarray
    shapes: tuple[Verdict, ...]
    outside: float


@dataclass(frozen=True)
class Sampling:
    """How pictures are painted: Euler on the host's ddim_uniform schedule."""

    steps: int = 16
    guidance: float = 3.0


# -- painting, in processes of their own --------------------------------------------------------------------


class Variants:
    """The small model in the host, whole and with parts taken away. The pack itself has no option for that."""

    def __init__(self, weights: Path, sampling: Sampling):
        from deig_pack.deig_core import grounding, regions

        from .painter import Painter

        class TimelessRefiner(grounding.Refiner):
            """Extracts detail for one timestep, whichever is denoised."""

            def tokens(self, text, timestep, device, dtype):
                return super().tokens(text, FIXED_TIMESTEP, device, dtype)

        self.painter = Painter(weights)
        self.sampling = sampling
        self._region, self._mask, self._grounding = regions.Region, regions.Mask, grounding.Grounding
        self._timeless = TimelessRefiner(self.painter.adapter.refiner.adapter)

    def regions(self, scene: Scene, variant: str) -> tuple:
        """Return a scene's regions. A mask decides where an image token may look, a box what it is told."""
        if variant == NO_MASK:
            everywhere = self._mask(np.ones((1, 1), dtype=np.float32))
            return tuple(self._region(shape.phrase, shape.box, mask=everywhere) for shape in scene.shapes)
        if variant == NO_PLACE:
            places = [self._mask(box_mask(shape.box)) for shape in scene.shapes]
            pairs = zip(scene.shapes, places, strict=True)
            return tuple(self._region(shape.phrase, (0, 0, 1, 1), mask=place) for shape, place in pairs)
        strength = LEAST if variant == NO_INSTANCES else 1.0
        return tuple(self._region(shape.phrase, shape.box, strength) for shape in scene.shapes)

    def paint(self, job: Job) -> Painted:
        scene = job.scene
        grounding = self.painter.ground(self.regions(scene, job.variant))
        if job.variant == NO_TIME:
            inner = self._grounding(self._timeless, grounding.grounding.instances)
            grounding = type(grounding)(grounding.adapter, inner)
        model = self.painter.patched(grounding, strength=0.0 if job.variant == NO_DEIG else 1.0)
        latent = self.painter.paint(model, scene.prompt, job.seed, **asdict(self.sampling))
        picture = self.painter.decode(latent)
        judgement = judge(picture, scene)
        return Painted(job, picture, judgement.shapes, judgement.outside)


def box_mask(box: tuple[float, float, float, float], side: int = 128) -> np.ndarray:
    """Return the pixels of a box, (side, side), 0 or 1."""
    mask = np.zeros((side, side), dtype=np.float32)
    x0, y0, x1, y1 = pixel_box(box, side, side)
    mask[y0:y1, x0:x1] = 1
    return mask


_variants: Variants | None = None  # of a worker process


def _start_worker(host: Path, weights: Path, sampling: Sampling, threads: int):
    global _variants
    from bench.host import open_host

    open_host(host, ["--cpu", "--verbose", "ERROR"])
    import torch

    torch.set_num_threads(threads)
    _variants = Variants(weights, sampling)


def _paint(job: Job) -> Painted:
    return _variants.paint(job)


def paint_all(
    jobs: Sequence[Job], host: Path, weights: Path, sampling: Sampling, workers: int
) -> list[Painted]:
    """Paint jobs in worker processes: a picture is too small to keep several cores busy."""
    threads = max((multiprocessing.cpu_count() or 1) // workers, 1)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(workers, _start_worker, (host, weights, sampling, threads)) as pool:
        return list(tqdm(pool.imap(_paint, jobs), total=len(jobs), desc="painting", unit="picture"))


# -- figures ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """Of a group of layouts.

    Args:
        layouts, instances: how many.
        colour, shape, texture, everything: shares of the instances that have it right.
        iou: mean IoU of what is painted with its box, over the instances where it can be measured.
        leak_inside: mean share of a shape's pixels that have the colour of another one of its scene.
        leak_outside: mean share of the pixels outside all boxes that have the colour of a shape.
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


def figures_of(painted: Iterable[Painted]) -> Figures:
    """Sum up what was painted; at least one picture."""
    painted = list(painted)
    shapes = [shape for one in painted for shape in one.shapes]
    return Figures(
        layouts=len(painted),
        instances=len(shapes),
        colour=_mean(shape.is_colour for shape in shapes),
        shape=_mean(shape.is_kind for shape in shapes),
        texture=_mean(shape.is_texture for shape in shapes),
        everything=_mean(shape.is_all for shape in shapes),
        iou=_mean(shape.iou for shape in shapes if shape.iou is not None),
        leak_inside=_mean(shape.leaked for shape in shapes),
        leak_outside=_mean(one.outside for one in painted),
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


@dataclass(frozen=True)
class Bar:
    """What was asked for, what was measured, and whether it is met."""

    what: str
    wanted: str
    measured: str
    met: bool


def bars_of(results: Results) -> list[Bar]:
    """Hold the figures against what the model was to reach."""
    full, same, no_mask = (results[name] for name in (FULL, SAME, NO_MASK))
    prompt_alone = max(results[name][ALL].colour for name in (NO_INSTANCES, NO_DEIG))

    def at_least(what: str, value: float, wanted: float) -> Bar:
        return Bar(what, f">= {wanted:g}", f"{value:.3f}", value >= wanted)

    points = 100 * (same[ALL].colour - prompt_alone)
    leaks = [100 * figures[ALL].leak_inside for figures in (same, no_mask)]
    return [
        at_least("colour in its box, 1 to 4 instances", full[ONE_TO_FOUR].colour, 0.99),
        at_least("all attributes together", full[ALL].everything, 0.9),
        at_least("mean IoU", full[ALL].iou, 0.85),
        at_least("kept-out combinations, all attributes", full[KEPT_OUT].everything, 0.75),
        Bar(
            "without DEIG or instances, colour in its box",
            "40 points lower",
            f"{100 * prompt_alone:.1f} %, {points:.1f} points lower",
            points >= 40,
        ),
        Bar(
            "without the mask, leakage inside",
            "at least twice",
            f"{leaks[1]:.1f} % instead of {leaks[0]:.1f} %",
            leaks[1] >= 2 * max(leaks[0], 0.5),
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


FIGURES_HEAD = ("layouts", "shapes", "colour", "shape", "texture", "all three", "IoU", "leak in", "leak out")


def _cells(figures: Figures) -> list[str]:
    shares = (figures.colour, figures.shape, figures.texture, figures.everything)
    leaks = (figures.leak_inside, figures.leak_outside)
    return [
        str(figures.layouts),
        str(figures.instances),
        *(f"{100 * share:.1f} %" for share in shares),
        f"{figures.iou:.3f}",
        *(f"{100 * leak:.1f} %" for leak in leaks),
    ]


def tables(results: Results, bars: Sequence[Bar]) -> str:
    """Everything as markdown."""
    by_count = _table(
        ("instances", *FIGURES_HEAD),
        [[group, *_cells(figures)] for group, figures in results[FULL].items()],
    )
    others = [name for name in (SAME, *VARIANTS) if name != FULL]
    parts = _table(
        ("model", *FIGURES_HEAD),
        [[name, *_cells(results[name][ALL])] for name in others],
    )
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


# -- the sheet ----------------------------------------------------------------------------------------------


def sheet_of(painted: Sequence[Painted]):
    """Draw the first layout of each number of instances, and the first of kept-out combinations."""
    by_job = {one.job: one for one in painted}
    bare = [one for one in painted if one.job.variant == NO_DEIG]
    chosen = [group[0].job for name, group in groups_of(bare).items() if name not in (ONE_TO_FOUR, ALL)]
    rows, words = [], []
    for job in chosen:
        scene = job.scene
        full = by_job[Job(job.seed, job.kept_out, FULL)]
        rows.append([draw(scene), full.picture, by_job[job].picture])
        heading = "combinations kept out of training:" if job.kept_out else ""
        marks = ["+" if verdict.is_all else "-" for verdict in full.shapes]
        phrases = [f"{mark} {shape.phrase}" for mark, shape in zip(marks, scene.shapes, strict=True)]
        words.append([*([heading] if heading else []), *phrases, f"prompt: {scene.prompt}"])
    return draw_sheet(rows, ("to be painted", "painted with DEIG", "same seed without DEIG"), words)


# -- command ------------------------------------------------------------------------------------------------


def jobs_of(layouts: int, tried: int, kept_out: int) -> list[Job]:
    """List what to paint: the full model on all layouts, each other on the first `tried`; kept-out ones too."""
    jobs = []
    for variant in VARIANTS:
        usual, unusual = (layouts, kept_out) if variant == FULL else (min(tried, layouts), kept_out // 4)
        jobs += [Job(FIRST_SEED + i, False, variant) for i in range(usual)]
        jobs += [Job(FIRST_SEED + i, True, variant) for i in range(unusual)]
    return jobs


def host_version(host: Path) -> str:
    return re.search(r'__version__ = "(.+?)"', (host / "comfyui_version.py").read_text()).group(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder, the one with main.py")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="what demo.export wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--layouts", type=int, default=200, help="held-out layouts")
    parser.add_argument("--tried", type=int, default=60, help="of these, how many are painted with parts off")
    parser.add_argument(
        "--kept-out", type=int, default=80, help="layouts of combinations kept out of training"
    )
    parser.add_argument("--steps", type=int, default=Sampling.steps)
    parser.add_argument("--guidance", type=float, default=Sampling.guidance)
    parser.add_argument("--workers", type=int, default=2, help="processes that paint at once")
    options = parser.parse_args()

    started = time.monotonic()
    jobs = jobs_of(options.layouts, options.tried, options.kept_out)
    sampling = Sampling(options.steps, options.guidance)
    painted = paint_all(jobs, options.host.resolve(), options.weights.resolve(), sampling, options.workers)
    results = results_of(painted)
    bars = bars_of(results)

    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "host": f"ComfyUI {host_version(options.host)}",
        "sampling": {"sampler": "euler", "scheduler": "ddim_uniform", **asdict(sampling)},
        "first_seed": FIRST_SEED,
        "seconds": round(time.monotonic() - started),
        "variants": VARIANTS,
        "figures": {
            name: {group: asdict(figures) for group, figures in groups.items()}
            for name, groups in results.items()
        },
        "bars": [asdict(bar) for bar in bars],
    }
    (options.out / "quality.json").write_text(json.dumps(record, indent=2) + "\n")
    text = tables(results, bars)
    (options.out / "quality.md").write_text(text)
    sheet_of(painted).save(options.out / "sheet.png")
    print(text)
    print(
        f"{len(jobs)} pictures in {record['seconds']} s; quality.json, quality.md and sheet.png: {options.out}"
    )


if __name__ == "__main__":
    main()
