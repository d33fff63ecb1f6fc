"""Is it the IDE, and how many tokens does it take? DEIG's Table 4 (IDE off) and Figure 6, at the small model's scale.

    python -m bench.quality.ablate --out FOLDER --samples 12000 --workers 2

Each variant begins from the stored weights but for its IDE, which begins anew, and trains on the same scenes. All are
judged on the same layouts that none of them saw, painted by the training pipeline from the averaged weights. It can be
stopped and gone on with. Writes ablation.json, ablation.md and ablation.png into the folder. Run it in the environment
of `run.py bench`, which has matplotlib.

What it cannot say: Table 4's other rows. Its captions are written by a language model, and leaving out the mask needs
no training (`python run.py bench --quality`, "no mask").
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch
from tqdm import tqdm

from small_model.autoencoder import to_uint8
from small_model.device import pick_device
from small_model.model import Extraction, sample
from small_model.place import WEIGHTS
from small_model.train import Recipe, Run, prepare, train

from .figures import FULL, Figures, Job, Painted, figures_of, figures_table
from .judge import judge

VARIANTS = {
    "4 tokens": Extraction(4),
    "8 tokens": Extraction(8),
    "16 tokens": Extraction(16),
    "32 tokens": Extraction(32),
    "no IDE, mean of the words": Extraction(1, ide=False),
    "no IDE, the first 8 words": Extraction(8, ide=False),
}
FIRST_SEED = 2_000_000  # held out from training, and from `bench --quality`
STEPS, GUIDANCE = 16, 4.0
AT_ONCE = 16  # pictures


def recipe_of(extraction: Extraction, samples: int) -> Recipe:
    """Return how a variant is trained: all alike but for what makes the tokens."""
    return Recipe(samples=samples, rate=4e-4, extraction=extraction, new_ide=True)


def jobs(layouts: int) -> list[Job]:
    return [Job(FIRST_SEED + number, False, FULL) for number in range(layouts)]


def judged(run: Run, layouts: int) -> Figures:
    """Paint layouts with a run's averaged weights, and judge them."""
    model, painted, todo = run.averaged(), [], jobs(layouts)
    for start in tqdm(range(0, len(todo), AT_ONCE), "judging", unit="batch"):
        some = todo[start : start + AT_ONCE]
        latents = sample(model, [job.scene for job in some], start, STEPS, GUIDANCE, device=run.device)
        with torch.no_grad():
            pictures = to_uint8(run.encoder.decode(latents))
        painted += [
            Painted(job, picture, judge(picture, job.scene))
            for job, picture in zip(some, pictures, strict=True)
        ]
    return figures_of(painted)


def draw_tokens(found: Mapping[str, Figures], path: Path):
    """Draw what is right by the number of tokens, Figure 6's curve, with the variants without the IDE as lines."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with_ide = {VARIANTS[name].tokens: figures for name, figures in found.items() if VARIANTS[name].ide}
    figure, axes = pyplot.subplots(figsize=(8.5, 4), layout="constrained")
    for what in ("everything", "colour", "texture", "shape"):
        label = "all three" if what == "everything" else what
        axes.plot(list(with_ide), [100 * getattr(one, what) for one in with_ide.values()], "o-", label=label)
    for name, style in zip((name for name in found if not VARIANTS[name].ide), ("--", ":"), strict=False):
        axes.axhline(100 * found[name].everything, color="grey", linestyle=style, label=f"{name}, all three")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(with_ide), map(str, with_ide))
    axes.set(xlabel="tokens of a phrase", ylabel="right, % of shapes", ylim=(None, 101))
    figure.legend(fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=120)


def ablate(
    folder: Path,
    weights: Path,
    samples: int,
    layouts: int,
    device: torch.device,
    workers: int = 1,
    variants: Mapping[str, Extraction] = VARIANTS,
) -> dict[str, Figures]:
    """Train and judge every variant, or go on with that; what is found is written after each.

    Args:
        folder: keeps the runs, and gets the figures.
        weights: what all begin from, but for the IDE.
        samples: scenes that each learns from.
        layouts: how many are judged.
        device, workers: as `train` takes them.
        variants: which.
    """
    found: dict[str, Figures] = {}
    for name, extraction in variants.items():
        print(name, flush=True)
        place, recipe = folder / name.replace(" ", "-").replace(",", ""), recipe_of(extraction, samples)
        prepare(place, 0, recipe.seed, device, weights)
        train(place, recipe, device, workers)
        found[name] = judged(Run(place, recipe, device=device), layouts)
        record = {"samples": samples, "figures": {one: asdict(figures) for one, figures in found.items()}}
        (folder / "ablation.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (folder / "ablation.md").write_text(figures_table("tokens", found) + "\n", encoding="utf-8")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder that keeps the runs and gets the figures"
    )
    parser.add_argument("--samples", type=int, default=12_000, help="scenes that each variant learns from")
    parser.add_argument("--layouts", type=int, default=96, help="how many are judged")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="what all begin from, but for the IDE")
    parser.add_argument("--device", help="such as cpu or cuda:1; by default a GPU if there is one")
    parser.add_argument("--workers", type=int, default=1, help="on a CPU: processes of one thread each")
    options = parser.parse_args()
    if find_spec("matplotlib") is None:  # said before the hours, not after them
        parser.error("the curve needs matplotlib, which the environment of `python run.py bench` has.")
    device = pick_device(options.device)
    found = ablate(options.out, options.weights, options.samples, options.layouts, device, options.workers)
    draw_tokens(found, options.out / "ablation.png")
    print(f"\n{figures_table('tokens', found)}\n\nFigures: {options.out / 'ablation.json'}")


if __name__ == "__main__":
    main()
