"""What EliGen costs: memory against a square mask, time against the plain model. `python run.py bench --eligen` calls
this.

    python -m bench.eligen.run --host COMFYUI --out FOLDER

Models of the host's own classes at full width, with few blocks of random weights: what a block costs does not depend
on how many there are. One call with 8 entities at 1024 x 1024; the plain model gets a prompt as long as all texts
together. The ways take turns, and a ratio is the median of those of the rounds.
"""

import argparse
import gc
import json
import os
from pathlib import Path
from statistics import median

import torch

from ..speed.measure import Measured, measuring
from ..speed.report import GB, Bar, say_bars
from ..speed.run import DTYPES, dtypes_for, name_of, open_device

COUNT = 8
SIZE = (128, 128)  # latent rows and columns of 1024 x 1024 pixels
WAYS = ("plain", "eligen", "dense")
FAMILIES = ("FLUX.1", "Qwen-Image")
ROUNDING = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}  # of the result's size


def measure(family: str, dtype: str, rounds: int, size: tuple[int, int] = SIZE) -> dict:
    """Measure one family.

    Returns:
        seconds and peaks of every way and round, and how far EliGen lies from the square mask's result.
    """
    from .models import make

    on = make(family, COUNT, size, DTYPES[dtype])
    device = on.patcher.load_device
    found, results = {way: Measured() for way in WAYS}, {}
    for number in range(rounds + 1):
        for way in WAYS:
            measured = Measured()
            with measuring(measured, device):
                results[way] = getattr(on, way)()
            if number:  # the first round makes what later steps of a run find ready
                found[way].add(measured)
            print(f"  {family} {way}, round {number}: {measured.seconds[0]:.3f} s", flush=True)
    away = (results["eligen"] - results["dense"]).float().abs().max() / results["dense"].float().abs().max()
    del on
    gc.collect()
    return {
        "family": family,
        "dtype": dtype,
        "seconds": {way: each.seconds for way, each in found.items()},
        "peak": {way: each.peak for way, each in found.items()},
        "difference": away.item(),
    }


def bars_of(figures: dict) -> list[Bar]:
    """Compare one family's figures with what the project promises."""
    where = f"{figures['family']}, {figures['dtype']}"
    seconds, peak = figures["seconds"], figures["peak"]

    def over(way: str, other: str) -> float:
        return median(one / two for one, two in zip(seconds[way], seconds[other], strict=True))

    bars = [
        Bar("EliGen over the plain model of as many tokens", where, over("eligen", "plain"), at_most=1.15),
        Bar(
            "difference to the square mask's result",
            where,
            figures["difference"],
            at_most=ROUNDING[figures["dtype"]],
        ),
    ]
    if None not in peak["plain"]:
        extra, dense_extra = (median(peak[way]) - median(peak["plain"]) for way in ("eligen", "dense"))
        if dense_extra > 0:
            bars.append(
                Bar("extra memory over the square mask's", where, max(extra, 0) / dense_extra, at_most=1 / 4)
            )
    return bars


def say(figures: dict):
    for way in WAYS:
        peaks = figures["peak"][way]
        memory = "" if None in peaks else f"   peak {median(peaks) / GB:.3f} GB above the weights"
        print(f"{figures['family']:12} {way:8} {median(figures['seconds'][way]):9.4f} s{memory}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for eligen.json")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured (default: 3)")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="only this one (default: both)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: what the device is for")
    options = parser.parse_args()
    device = open_device(options.host)
    result = {
        "machine": {
            "device": str(device),
            "name": name_of(device),
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
        "calls": [],
    }
    with torch.inference_mode():
        for dtype in options.dtype or dtypes_for(device)[:1]:
            for family in options.family or FAMILIES:
                result["calls"].append(measure(family, dtype, options.rounds))
    result["bars"] = [bar.as_dict() for figures in result["calls"] for bar in bars_of(figures)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "eligen.json").write_text(json.dumps(result, indent=2) + "\n")
    for figures in result["calls"]:
        say(figures)
    say_bars(result)
    print(f"\nFigures: {options.out / 'eligen.json'}")


if __name__ == "__main__":
    main()
