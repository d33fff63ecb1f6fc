"""What is measured once and compared with nothing: tokens, the text encoder, the low-memory modes, loading."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import comfy.model_management
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.nodes.host.unet import ide_dtype
from deig_pack.nodes.types import LoadedTextEncoder

from ..bars import Bar
from .cases import Case, Models, Size, deig
from .low_memory import MODES, measure_low_memory
from .measure import Measured, measuring
from .models import grounding
from .questions import COUNTS, DENSE_COUNT
from .text import measure_text, random_encoder

TIMESTEP = 421.0  # any
BUDGET = 10**9  # bytes free on the device in the low-memory modes, of 2 to 5 GB of weights


def measure_tokens(on: Models) -> float:
    """Seconds to compute the tokens of the most instances for a timestep that was not met before."""
    device, dtype = on.adapter.load_device, ide_dtype(on.unet.model)
    comfy.model_management.load_models_gpu([on.adapter])
    text = grounding(on.refiner, max(COUNTS)).instances.text.to(device, dtype)
    measured = Measured()
    for _ in range(5):
        forgetful = Refiner(on.refiner.adapter)
        with measuring(measured, device):
            forgetful.tokens(text, TIMESTEP, device, dtype)
    return min(measured.seconds)


def count_second_seed(on: Models) -> int:
    """IDE evaluations that a second seed makes, over four steps of a small picture."""
    case = deig(on, (16, 16), DENSE_COUNT)
    case.call(seed=1, steps=4)
    before = on.refiner.evaluated
    case.call(seed=2, steps=4)
    return on.refiner.evaluated - before


def probe(name: str, host: Path) -> dict:
    """Measure in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "bench.speed.probes", name, "--host", str(host)],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    return json.loads(run.stdout.splitlines()[-1])


def read_and_make(on: Models, encoder: LoadedTextEncoder, size: Size) -> Case:
    """A case of DEIG with the text encoder on the device, as it is when phrases were read."""
    comfy.model_management.load_models_gpu([encoder.patcher], force_full_load=True)
    return deig(on, size, DENSE_COUNT)


def low_memory_bars(modes: dict[str, dict], where: str) -> list[Bar]:
    difference = max(figures["difference"] for figures in modes.values())
    reading = max(figures["text_encoder"] for name, figures in modes.items() if not MODES[name].is_roomy)
    return [
        Bar.at_most("largest difference in a low-memory mode", difference, 1e-3, where),
        Bar.at_most("bytes of the text encoder there while sampling", reading, 0, where),
    ]


def measure_rest(host: Path, on: Models, size: Size, where: str) -> tuple[dict, list[Bar]]:
    """Measure the text encoder, the low-memory modes, and loading.

    Args:
        size, where: of the pictures that the low-memory modes paint, and what to call it.
    """
    print("Encoding phrases at Flan-T5-XL's size ...", flush=True)
    encoder = random_encoder()
    text = measure_text(encoder)
    print("Painting in the low-memory modes ...", flush=True)
    parts = {"unet": on.unet, "adapter": on.adapter, "text_encoder": encoder.patcher}
    modes = measure_low_memory(partial(read_and_make, on, encoder, size), parts, BUDGET)
    imported, adapter = probe("import", host), probe("adapter", host)
    bars = [
        *low_memory_bars(modes, where),
        Bar.at_most("phrases encoded after a box was moved", text["a box moved"]["encoded"], 0, "of 10"),
        Bar.at_most("phrases encoded after one changed", text["a phrase changed"]["encoded"], 1, "of 10"),
        Bar.at_most("importing the pack, ms", imported["seconds"] * 1000, 150),
        Bar.at_most("transformers imported with it", imported["transformers"], 0),
    ]
    if adapter["peak"] is not None:
        above = (adapter["peak"] - adapter["size"]) / 1e6
        bars.append(Bar.at_most("loading the adapter, MB above its size", above, 300, "fp16"))
    return {"text": text, "low_memory": modes, "import": imported, "adapter": adapter}, bars
