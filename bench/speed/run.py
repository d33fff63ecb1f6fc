"""What DEIG costs, against what it replaces. `python run.py bench` calls this.

    python -m bench.speed.run --host COMFYUI --out FOLDER [--quick]

Everything is measured in one run: the same host, the same random weights, the same boxes, one denoising of
positive and negative together. What is compared takes turns (`pairs`), so that a machine that slows down slows
both, and bars follow from counted multiplications (`counting`). An accelerator takes some steps each time and
leaves the first out, in which a run sends what it needs to the device. A CPU of one thread is timed by its CPU
seconds (`measure.timing`), so a quick look tells something where a machine is busy, too.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from ..bars import Bar
from .device import DTYPES, dtypes_for, machine_of, open_device
from .pairs import Budget, Pairing
from .questions import PAIRINGS, QUICK
from .report import say_bars, say_rest, say_table, write_curves
from .results import Compared, record_of, tokens_bar

SIZES = {"512x512": (64, 64), "768x512": (64, 96)}  # latent rows and columns
QUICK_SIZE, QUICK_CELLS = "192x192, shallow", (24, 24)
QUICK_SECONDS = 30.0  # for the pairs; to make the models and to count takes about as long
STEPS = 6  # of a timed run on an accelerator; on a CPU 1, in which a run's beginning does not show


def compare_ways(
    on,
    size: tuple[int, int],
    pairings: Sequence[Pairing],
    budget: Budget,
    name: str,
    keep: Callable[[Compared], None] = lambda _: None,
) -> Compared:
    from .cases import makers
    from .compare import compare

    steps = 1 if on.unet.load_device.type == "cpu" else STEPS
    return compare(makers(on, size), pairings, budget, name, steps, keep)


def look_quickly(device: torch.device, dtype: str, pairings: Sequence[Pairing], budget: Budget) -> dict:
    """Ask of shallow models and a small picture, whose ratios are near those of full ones."""
    from .cases import Models
    from .models import SHALLOW

    print(f"Making shallow models, {dtype} ...", flush=True)
    on = Models(DTYPES[dtype], SHALLOW)
    compared = compare_ways(on, QUICK_CELLS, pairings, budget, QUICK_SIZE)
    return record_of(machine_of(device), [(QUICK_SIZE, dtype, compared)])


def measure(
    device: torch.device,
    sizes: Sequence[str],
    dtypes: Sequence[str],
    pairings: Sequence[Pairing],
    budget: Budget,
    keep: Callable[[dict], None],
    host: Path | None,
) -> dict:
    """Ask of models of full size.

    Args:
        keep: called with what is measured so far, after each answer.
        host: where what is no comparison is measured too, `rest.measure_rest`; None: it is left out.
    """
    import comfy.model_management

    from .cases import Models
    from .rest import count_second_seed, measure_rest, measure_tokens

    machine, found, bars, second_seed, on = machine_of(device), [], [], 0, None

    def keep_so_far(size: str, dtype: str, compared: Compared):
        keep(record_of(machine, [*found, (size, dtype, compared)], bars))

    for dtype in dtypes:
        del on  # there is no room for two
        print(f"Making models of full size, {dtype} ...", flush=True)
        on = Models(DTYPES[dtype])
        for size in sizes:
            so_far = partial(keep_so_far, size, dtype)
            compared = compare_ways(on, SIZES[size], pairings, budget, f"{size}, {dtype}", so_far)
            found.append((size, dtype, compared))
            bars += tokens_bar(measure_tokens(on), compared, f"{size}, {dtype}")
        second_seed += count_second_seed(on)
        comfy.model_management.unload_all_models()
    bars.append(Bar.at_most("IDE evaluations for a second seed", second_seed, 0))
    further = {}
    if host is not None:
        further, further_bars = measure_rest(host, on, SIZES[sizes[0]], f"{sizes[0]}, {dtypes[-1]}")
        bars += further_bars
    return record_of(machine, found, bars) | further


def with_ways(ways: Sequence[str]) -> list[Pairing]:
    """Return the questions in which one of these ways of painting takes part.

    Raises:
        ValueError: where nothing is asked about a way.
    """
    known = {case.way for pairing in PAIRINGS for case in (pairing.ours, pairing.other)}
    for way in ways:
        if way not in known:
            raise ValueError(f"--way is {way!r}; it takes one of: {', '.join(sorted(known))}.")
    return [pairing for pairing in PAIRINGS if {pairing.ours.way, pairing.other.way} & set(ways)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for speed.json and speed.png")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a look of about a minute: a few blocks, 192 x 192, one thread, three questions (or those of --way)",
    )
    parser.add_argument("--size", choices=SIZES, action="append", help="only this size (default: both)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: what the device is for")
    parser.add_argument(
        "--way", action="append", help="only comparisons with this way of painting, as GLIGEN"
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=Budget.pairs,
        help="the most pairs of a comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="of the pairs of a size and precision together; a comparison gets its share, and 8 pairs in any case "
        "(default: as long as it takes)",
    )
    parser.add_argument(
        "--one-thread",
        action="store_true",
        help="on a CPU: use one thread, and its CPU seconds, in which other work on the machine hardly shows",
    )
    parser.add_argument(
        "--only-pairs",
        action="store_true",
        help="leave out the text encoder, the low-memory modes and loading, which need 6 GB more",
    )
    options = parser.parse_args()
    if options.quick and options.size:
        parser.error("--quick has a size of its own: leave --size out.")
    try:
        options.pairings = with_ways(options.way) if options.way else QUICK if options.quick else PAIRINGS
    except ValueError as error:
        parser.error(str(error))
    return options


def main():
    options = parse_arguments()

    def keep(result: dict):
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "speed.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

    device = open_device(options.host)
    if options.one_thread or options.quick:
        torch.set_num_threads(1)
    dtypes = options.dtype or dtypes_for(device)
    with torch.inference_mode():
        if options.quick:
            result = look_quickly(device, dtypes[0], options.pairings, Budget(options.pairs, QUICK_SECONDS))
        else:
            host = None if options.only_pairs else options.host
            sizes, budget = options.size or list(SIZES), Budget(options.pairs, 60 * options.minutes)
            result = measure(device, sizes, dtypes, options.pairings, budget, keep, host)
    keep(result)
    say_table(result)
    if "text" in result:
        say_rest(result)
    say_bars(result)
    print(f"\nFigures: {options.out / 'speed.json'}")
    if not options.quick:
        write_curves(result, options.out / "speed.png")
        print(f"Curves:  {options.out / 'speed.png'}")


if __name__ == "__main__":
    main()
