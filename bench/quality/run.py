"""Does it paint what it is told? `python run.py bench --quality` calls this.

    python -m bench.quality.run --host COMFYUI --weights small_model/weights --out FOLDER

Paints layouts that training never saw, with fixed seeds, in the real host, and judges every shape. Then takes
parts away, one at a time. Writes quality.json, quality.md and sheet.png.
"""

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from small_model.place import WEIGHTS
from small_model.scenes import Scene, draw, pixel_box
from small_model.sheet import draw_sheet

from .figures import (
    ALL,
    FULL,
    NO_DEIG,
    NO_INSTANCES,
    NO_MASK,
    NO_PLACE,
    NO_TIME,
    ONE_TO_FOUR,
    VARIANTS,
    Job,
    Painted,
    bars_of,
    groups_of,
    results_of,
    tables,
)
from .judge import judge

# Of the layouts held out: above those that the vocabulary was made from, below those of training (scenes.FIRST_SCENE).
FIRST_SEED = 1_000_000
FIXED_TIMESTEP = 500.0
LEAST = 1e-30  # strength of a region that no image token attends to, though the fusers run


@dataclass(frozen=True)
class Sampling:
    """How pictures are painted: Euler on the host's ddim_uniform schedule."""

    steps: int = 16
    guidance: float = 4.0


# -- painting, in processes of their own --------------------------------------------------------------------


class Variants:
    """The small model in the host, whole and with parts taken away. The pack itself has no option for that."""

    def __init__(self, weights: Path, sampling: Sampling):
        from deig_pack.deig_core.deig.grounding import Grounding
        from deig_pack.deig_core.deig.refiner import Refiner
        from deig_pack.deig_core.regions import region

        from .painter import Painter

        class TimelessRefiner(Refiner):
            """Extracts detail for one timestep, whichever is denoised."""

            def tokens(self, text, timestep, device, dtype):
                return super().tokens(text, FIXED_TIMESTEP, device, dtype)

        self.painter = Painter(weights)
        self.sampling = sampling
        self._region, self._mask, self._grounding = region.Region, region.Mask, Grounding
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
        return Painted(job, picture, judgement)


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


def jobs_of(layouts: int, tried: int, kept_out: int, first_seed: int = FIRST_SEED) -> list[Job]:
    """List what to paint: the full model on all layouts, each other on the first `tried`; kept-out ones too."""
    jobs = []
    for variant in VARIANTS:
        usual, unusual = (layouts, kept_out) if variant == FULL else (min(tried, layouts), kept_out // 4)
        jobs += [Job(first_seed + i, False, variant) for i in range(usual)]
        jobs += [Job(first_seed + i, True, variant) for i in range(unusual)]
    return jobs


def host_version(host: Path) -> str:
    return re.search(r'__version__ = "(.+?)"', (host / "comfyui_version.py").read_text()).group(1)


def write_results(folder: Path, painted: Sequence[Painted], settings: dict) -> str:
    """Write quality.json, quality.md and sheet.png into a folder, and return the tables."""
    results = results_of(painted)
    bars = bars_of(results)
    figures = {
        name: {group: asdict(figures) for group, figures in groups.items()}
        for name, groups in results.items()
    }
    record = {**settings, "variants": VARIANTS, "figures": figures, "bars": [asdict(bar) for bar in bars]}
    text = tables(results, bars)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quality.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / "quality.md").write_text(text, encoding="utf-8")
    sheet_of(painted).save(folder / "sheet.png")
    return text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder, the one with main.py")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="what small_model.export wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--layouts", type=int, default=200, help="held-out layouts")
    parser.add_argument("--tried", type=int, default=60, help="of these, how many are painted with parts off")
    parser.add_argument(
        "--kept-out", type=int, default=80, help="layouts of combinations training never showed"
    )
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="choose others to try settings on")
    parser.add_argument("--steps", type=int, default=Sampling.steps)
    parser.add_argument("--guidance", type=float, default=Sampling.guidance)
    parser.add_argument("--workers", type=int, default=2, help="processes that paint at once")
    return parser.parse_args()


def main():
    options = parse_arguments()
    started = time.monotonic()
    jobs = jobs_of(options.layouts, options.tried, options.kept_out, options.first_seed)
    sampling = Sampling(options.steps, options.guidance)
    painted = paint_all(jobs, options.host.resolve(), options.weights.resolve(), sampling, options.workers)
    seconds = round(time.monotonic() - started)
    settings = {
        "host": f"ComfyUI {host_version(options.host)}",
        "sampling": {"sampler": "euler", "scheduler": "ddim_uniform", **asdict(sampling)},
        "first_seed": options.first_seed,
        "seconds": seconds,
    }
    print(write_results(options.out, painted, settings))
    print(f"{len(jobs)} pictures in {seconds} s; quality.json, quality.md and sheet.png: {options.out}")


if __name__ == "__main__":
    main()
