"""What DEIG costs, against what it replaces. `python run.py bench` calls this.

    python -m bench.speed.run --host COMFYUI --out FOLDER

Everything is measured in one run: the same host, the same random weights at full size, the same boxes, one
denoising of positive and negative together. Cases take turns, so that a machine that slows down slows all of
them, and the best of a case's calls counts. An accelerator takes some steps each time and leaves the first out,
in which a run sends what it needs to the device.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ..host import open_host
from .measure import Measured, measuring
from .report import Bar, say_bars, say_table, write_curves

COUNTS = (1, 8, 30)
DENSE_COUNT = 3  # at which the dense formulation is compared
AREA_COUNT = 8  # at which regional prompting is
SIZES = {"512x512": (64, 64), "768x512": (64, 96)}  # latent rows and columns
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TIMESTEP = 421.0  # any
STEPS, ROUNDS = 6, 4  # on an accelerator; on a CPU 1, in which a run's beginning does not show, and 2
BUDGET = 10**9  # bytes free on the device in the low-memory modes, of 2 to 5 GB of weights


def measure_calls(on, latent_size: tuple[int, int], rounds: int, name: str) -> list:
    from .cases import DEIG, all_cases

    is_cpu = on.unet.load_device.type == "cpu"
    steps = 1 if is_cpu else STEPS
    cases = list(all_cases(on, latent_size, COUNTS, DENSE_COUNT, AREA_COUNT))
    # Later runs remember the tokens that these compute; an accelerator's first run of anything is slow.
    runs = [(case, Measured()) for case in cases if case.way == DEIG or not is_cpu]
    runs += [(case, case.calls) for _ in range(rounds) for case in cases]
    too_large = set()
    with tqdm(runs, desc=name, unit="run") as bar:
        for case, measured in bar:
            bar.set_postfix_str(str(case))
            if str(case) in too_large:
                continue
            try:
                found = Measured()
                case.call(latent_size, steps=steps, into=found)
                measured.add(found, first=steps > 1)
            except torch.OutOfMemoryError:
                too_large.add(str(case))
                bar.write(f"{case} at {name} is more than this device's memory holds; it is left out.")
    return [case for case in cases if str(case) not in too_large]


def measure_tokens(on) -> float:
    """Seconds to compute the tokens of the most instances for a timestep that was not met before."""
    import comfy.model_management
    from deig_pack.deig_core.deig.refiner import Refiner
    from deig_pack.nodes.host.unet import ide_dtype

    from .models import grounding

    device, dtype = on.adapter.load_device, ide_dtype(on.unet.model)
    comfy.model_management.load_models_gpu([on.adapter])
    text = grounding(on.refiner, max(COUNTS)).instances.text.to(device, dtype)
    measured = Measured()
    for _ in range(5):
        forgetful = Refiner(on.refiner.adapter)
        with measuring(measured, device):
            forgetful.tokens(text, TIMESTEP, device, dtype)
    return min(measured.seconds)


def count_second_seed(on) -> int:
    """IDE evaluations that a second seed makes, over four steps of a small picture."""
    from .cases import deig

    case = deig(on, DENSE_COUNT)
    case.call((16, 16), seed=1, steps=4)
    before = on.refiner.evaluated
    case.call((16, 16), seed=2, steps=4)
    return on.refiner.evaluated - before


def probe(name: str, host: Path) -> dict:
    run = subprocess.run(
        [sys.executable, "-m", "bench.speed.probes", name, "--host", str(host)],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    return json.loads(run.stdout.splitlines()[-1])


def rows_of(cases: list, size: str, dtype: str) -> list[dict]:
    by_way = {(case.way, case.count): case for case in cases}
    plain = by_way["plain", 0]
    return [
        {
            "size": size,
            "dtype": dtype,
            "way": case.way,
            "count": case.count,
            "seconds": case.seconds,
            "over_plain": case.seconds / plain.seconds,
            "peak": case.peak,
            "peak_over_plain": None if case.peak is None else case.peak - plain.peak,
        }
        for case in cases
    ]


def bars_of(rows: list[dict], size: str, dtype: str, tokens: float) -> list[Bar]:
    """Compare one size's figures with what the project promises."""
    found = {(row["way"], row["count"]): row for row in rows if (row["size"], row["dtype"]) == (size, dtype)}

    def over(way, count, other, other_count) -> float | None:
        if (way, count) not in found or (other, other_count) not in found:
            return None
        return found[way, count]["seconds"] / found[other, other_count]["seconds"]

    where = f"{size}, {dtype}"
    bars = [
        Bar("DEIG, N = 1, over the plain call", where, over("DEIG", 1, "plain", 0), at_most=1.55),
        Bar(
            "DEIG, N = 1, over the fusers with no instances", where, over("DEIG", 1, "DEIG", 0), at_most=1.08
        ),
        Bar("DEIG, N = 30 over N = 1", where, over("DEIG", 30, "DEIG", 1), at_most=1.05),
        *(
            Bar(
                f"InstanceDiffusion over DEIG, N = {count}",
                where,
                over("InstanceDiffusion", count, "DEIG", count),
                at_most=1.05,
            )
            for count in COUNTS
        ),
        Bar("dense formulation over DEIG, N = 3", where, over("dense", 3, "DEIG", 3), at_least=2),
        *(
            Bar(f"DEIG over GLIGEN, N = {count}", where, over("DEIG", count, "GLIGEN", count), at_most=1)
            for count in COUNTS
        ),
        Bar("area conditionings over DEIG, N = 8", where, over("areas", 8, "DEIG", 8), at_least=4),
        Bar("masked conditionings over DEIG, N = 8", where, over("masks", 8, "DEIG", 8), at_least=4),
    ]
    if ("DEIG", 30) in found:
        share = tokens / found["DEIG", 30]["seconds"]
        bars.append(Bar("tokens of 30 instances, uncached, of a call", where, share, at_most=0.08))
    extra, dense_extra = (found.get((way, 3), {}).get("peak_over_plain") for way in ("DEIG", "dense"))
    if extra is not None and dense_extra is not None:
        share = max(extra, 0) / dense_extra
        bars.append(Bar("extra memory over the dense formulation's, N = 3", where, share, at_most=1 / 8))
    return [bar for bar in bars if bar.value is not None]  # None: one of the two did not fit


def read_and_make(on, encoder):
    """A case of DEIG with the text encoder on the device, as it is when phrases were read."""
    import comfy.model_management

    from .cases import deig

    comfy.model_management.load_models_gpu([encoder.patcher], force_full_load=True)
    return deig(on, DENSE_COUNT)


def low_memory_bars(modes: dict[str, dict], where: str) -> list[Bar]:
    from .low_memory import MODES

    difference = max(figures["difference"] for figures in modes.values())
    reading = max(figures["text_encoder"] for name, figures in modes.items() if not MODES[name].is_roomy)
    return [
        Bar("largest difference in a low-memory mode", where, difference, at_most=1e-3),
        Bar("bytes of the text encoder there while sampling", where, reading, at_most=0),
    ]


def open_device(host: Path) -> torch.device:
    """Open the host on the accelerator if torch can use one, and say what is measured on."""
    arguments = ["--use-pytorch-cross-attention"]
    if not torch.cuda.is_available():
        arguments.append("--cpu")
        if shutil.which("nvidia-smi"):
            print(
                f"nvidia-smi is here, but torch {torch.__version__} finds no GPU: is the driver too old for it?"
            )
    open_host(host, arguments)
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    print(f"Measuring on {name_of(device)}", flush=True)
    return device


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def dtypes_for(device: torch.device) -> list[str]:
    """Name the precisions that people use on a device."""
    if device.type == "cpu":
        return ["fp32"]
    return ["bf16"] * torch.cuda.is_bf16_supported(including_emulation=False) + ["fp16"]


def measure(options: argparse.Namespace, keep: Callable[[dict], None]) -> dict:
    """Measure everything.

    Args:
        options: of the command.
        keep: called with what is measured so far, whenever a size is done.
    """
    device = open_device(options.host)
    import comfy.model_management

    from .cases import Models
    from .low_memory import measure_low_memory
    from .text import measure_text, random_encoder

    rounds = options.rounds or (2 if device.type == "cpu" else ROUNDS)
    machine = {
        "device": str(device),
        "name": name_of(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "rounds": rounds,
    }
    rows, bars, second_seed, on = [], [], 0, None
    for dtype in options.dtype or dtypes_for(device):
        del on  # there is no room for two
        print(f"Making models of full size, {dtype} ...", flush=True)
        on = Models(DTYPES[dtype])
        for size in options.size or SIZES:
            cases = measure_calls(on, SIZES[size], rounds, f"{size}, {dtype}")
            rows += rows_of(cases, size, dtype)
            bars += bars_of(rows, size, dtype, measure_tokens(on))
            keep({"machine": machine, "calls": rows, "bars": [bar.as_dict() for bar in bars]})
            del cases
        second_seed += count_second_seed(on)
        comfy.model_management.unload_all_models()
    print("Encoding phrases at Flan-T5-XL's size ...", flush=True)
    encoder = random_encoder()
    text = measure_text(encoder)
    print("Painting in the low-memory modes ...", flush=True)
    size = (options.size or list(SIZES))[0]
    parts = {"unet": on.unet, "adapter": on.adapter, "text_encoder": encoder.patcher}
    modes = measure_low_memory(partial(read_and_make, on, encoder), parts, SIZES[size], BUDGET)
    bars += low_memory_bars(modes, f"{size}, {dtype}")
    del on, encoder, parts
    imported, adapter = probe("import", options.host), probe("adapter", options.host)
    bars += [
        Bar("IDE evaluations for a second seed", "", second_seed, at_most=0),
        Bar("phrases encoded after a box was moved", "of 10", text["a box moved"]["encoded"], at_most=0),
        Bar("phrases encoded after one changed", "of 10", text["a phrase changed"]["encoded"], at_most=1),
        Bar("importing the pack, ms", "", imported["seconds"] * 1000, at_most=150),
        Bar("transformers imported with it", "", imported["transformers"], at_most=0),
    ]
    if adapter["peak"] is not None:
        above = (adapter["peak"] - adapter["size"]) / 1e6
        bars.append(Bar("loading the adapter, MB above its size", "fp16", above, at_most=300))
    return {
        "machine": machine,
        "calls": rows,
        "text": text,
        "low_memory": modes,
        "import": imported,
        "adapter": adapter,
        "bars": [bar.as_dict() for bar in bars],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for speed.json and speed.png")
    parser.add_argument("--rounds", type=int, help="how often each case is measured (default: 2, on a GPU 4)")
    parser.add_argument("--size", choices=SIZES, action="append", help="only this size (default: both)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: what the device is for")
    options = parser.parse_args()

    def keep(result: dict):
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "speed.json").write_text(json.dumps(result, indent=2) + "\n")

    with torch.inference_mode():
        result = measure(options, keep)
    keep(result)
    write_curves(result, options.out / "speed.png")
    say_table(result)
    say_bars(result)
    print(f"\nFigures: {options.out / 'speed.json'}\nCurves:  {options.out / 'speed.png'}")


if __name__ == "__main__":
    main()
