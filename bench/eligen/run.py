"""What EliGen costs: memory against a square mask, time against the plain model. `python run.py bench --eligen` calls
this.

    python -m bench.eligen.run --host COMFYUI --out FOLDER

Models of the host's own classes at full width, with few blocks of random weights: what a block costs does not depend
on how many there are. One call with 8 entities at 1024 x 1024; the plain model gets a prompt as long as all texts
together. The ways are timed in pairs (`bench.speed.pairs`).
"""

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

from ..bars import Bar
from ..speed.compare import compare
from ..speed.device import DTYPES, dtypes_for, machine_of, open_device
from ..speed.measure import timing
from ..speed.pairs import Budget, CaseName, Pairing
from ..speed.report import GB, say_bars
from ..speed.results import Compared

COUNT = 8
SIZE = (128, 128)  # latent rows and columns of 1024 x 1024 pixels
PLAIN, ELIGEN, DENSE = CaseName("plain"), CaseName("EliGen", COUNT), CaseName("square mask", COUNT)
PAIRINGS = (Pairing(ELIGEN, PLAIN, at_most=1.15), Pairing(DENSE, PLAIN, within=0.1))
FAMILIES = ("FLUX.1", "Qwen-Image")
ROUNDING = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}  # of the result's size


@dataclass(eq=False)
class Way:
    """One of a transformer's ways to be called, as `bench.speed.compare` takes it; a step is a call.

    Args:
        forward: calls it, and returns the result.
        device: where.
        results: what its calls gave, the last one.
    """

    forward: Callable[[], torch.Tensor]
    device: torch.device
    results: list[torch.Tensor] = field(default_factory=list)

    def call(self, steps: int = 1, meter=None):
        for _ in range(steps):
            if meter is None:
                self.results[:] = [self.forward()]
            else:
                with meter(self.device):
                    self.results[:] = [self.forward()]

    def seconds(self, steps: int = 1) -> float:
        found: list[float] = []
        self.call(steps, partial(timing, found))
        return min(found)


def measure(family: str, dtype: str, budget: Budget, size: tuple[int, int] = SIZE) -> tuple[Compared, float]:
    """Measure one family.

    Returns:
        what its ways were compared to, and how far EliGen lies from the square mask's result.
    """
    from .models import make

    on = make(family, COUNT, size, DTYPES[dtype])
    forwards = {PLAIN: on.plain, ELIGEN: on.eligen, DENSE: on.dense}
    ways = {name: Way(forward, on.patcher.load_device) for name, forward in forwards.items()}
    makers = {name: partial(ways.get, name) for name in ways}
    compared = compare(makers, PAIRINGS, budget, f"{family}, {dtype}")
    del on, forwards, makers
    eligen, dense = (ways[name].results[0].float() for name in (ELIGEN, DENSE))
    away = (eligen - dense).abs().max() / dense.abs().max()
    del ways
    gc.collect()
    return compared, away.item()


def bars_of(compared: Compared, away: float, dtype: str, where: str) -> list[Bar]:
    """Compare one family's figures with what the project promises."""
    bars = [answer.bar(where) for answer in compared.answers if answer.ruling is not None]
    bars.append(Bar.at_most("difference to the square mask's result", away, ROUNDING[dtype], where))
    peaks = [compared.once[name].peak for name in (PLAIN, ELIGEN, DENSE)]
    if None not in peaks and peaks[2] > peaks[0]:
        share = max(peaks[1] - peaks[0], 0) / (peaks[2] - peaks[0])
        bars.append(Bar.at_most("extra memory over the square mask's", share, 1 / 4, where))
    return bars


def say(family: str, compared: Compared):
    for answer in compared.answers:
        print(f"{family:12} {answer.question!s:32} {answer.spread}")
    for name, once in compared.once.items():
        memory = "" if once.peak is None else f"   peak {once.peak / GB:.3f} GB above the weights"
        print(f"{family:12} {name!s:32} {once.multiplications / 1e9:9.2f} G multiplications{memory}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for eligen.json")
    parser.add_argument(
        "--pairs",
        type=int,
        default=Budget.pairs,
        help="the most pairs of a comparison (default: %(default)s)",
    )
    parser.add_argument("--family", choices=FAMILIES, action="append", help="only this one (default: both)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: what the device is for")
    options = parser.parse_args()
    device = open_device(options.host)
    result = {"machine": machine_of(device), "calls": [], "answers": [], "bars": []}
    with torch.inference_mode():
        for dtype in options.dtype or dtypes_for(device)[:1]:
            for family in options.family or FAMILIES:
                where = f"{family}, {dtype}"
                compared, away = measure(family, dtype, Budget(options.pairs))
                say(family, compared)
                once = {str(name): asdict(one) for name, one in compared.once.items()}
                result["calls"].append({"where": where, "once": once, "difference": away})
                result["answers"] += [{"where": where, **answer.as_dict()} for answer in compared.answers]
                result["bars"] += [asdict(bar) for bar in bars_of(compared, away, dtype, where)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "eligen.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say_bars(result)
    print(f"\nFigures: {options.out / 'eligen.json'}")


if __name__ == "__main__":
    main()
