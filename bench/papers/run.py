"""The papers' benchmarks, painted and scored. `python run.py bench --papers ...` calls this.

python -m bench.papers.run deig-bench --server 127.0.0.1:8188 --out FOLDER      paint
python -m bench.papers.run --score FOLDER --judge http://127.0.0.1:8000         score
python -m bench.papers.run --compare FOLDER OTHER                               compare
"""

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from demo.client import ComfyClient
from demo.server import StartFailed
from demo.show import leave

from . import detectors
from .answerers import answerer_of
from .answers import judge_folder, painted_words, slug_of
from .compare import compare, picture_of
from .entries import DEIG, FILES, MIG, Bench, bench_of, find_bench, read_bench, sample
from .graph import DEIG_WAY, WAYS
from .judges import DeigJudge, Judge, MigJudge
from .manifest import Folder
from .paint import paint
from .plan import plan, short_names
from .protocol import IOU_THRESHOLD, PAPER, Sampling, protocol_of
from .servers import Wanted, clients_of, own_server, small_model, usable
from .shapes import NAME as SHAPES
from .shapes import ExactJudge, write_shapes
from .sheet import sheet_of
from .tables import Told, record_of, rows_of, tables
from .trouble import Trouble


def say(text: str):
    print(text, flush=True)


# -- painting -----------------------------------------------------------------------------------------------


def paint_bench(options: argparse.Namespace):
    """Paint what is missing of a benchmark into the run's folder."""
    bench = bench_of(write_shapes()) if options.bench == SHAPES else read_bench(find_bench(options.bench))
    protocol = protocol_of(bench)
    sampling = sampling_of(options, protocol.sampling)
    if sampling != protocol.sampling:
        say("Painted otherwise than the benchmark's script does: the figures will not be the paper's.")
    entries = sample(bench.entries, options.sample)
    folder = Folder(options.out)
    folder.begin(bench, options.bench)
    with servers_of(options, bench) as clients:
        servers, painters = usable(clients, wanted_of(options, bench), sampling, say)
        tasks = plan(entries, painters, options.seeds or [protocol.seed], sampling)
        say(
            f"{len(entries)} entries, {len(tasks)} pictures, on {', '.join(server.address for server in servers)}"
        )
        painted = paint(folder, tasks, servers, say)
    say(f"{painted} pictures painted, {len(tasks)} are there: {folder.path}")


def sampling_of(options: argparse.Namespace, usual: Sampling) -> Sampling:
    """Return the benchmark's way of sampling, with what the options change."""
    changed = {name: getattr(options, name, None) for name in asdict(usual)}
    sampling = replace(usual, **{name: value for name, value in changed.items() if value is not None})
    if sampling.sampler != PAPER and not sampling.scheduler:
        raise Trouble(f"--sampler {sampling.sampler} needs --scheduler too, for example ddim_uniform.")
    return sampling


def wanted_of(options: argparse.Namespace, bench: Bench) -> Wanted:
    """Return what to paint with."""
    named = options.checkpoint or options.adapter or options.text_encoder
    if bench.of_shapes and not named:
        return small_model(options.way)
    return Wanted(
        tuple(options.way), tuple(options.checkpoint), tuple(options.adapter), options.text_encoder or ""
    )


@contextlib.contextmanager
def servers_of(options: argparse.Namespace, bench: Bench):
    """Give the servers that are named, or start one."""
    if options.server:
        yield clients_of(options.server)
        return
    if options.host is None:
        raise Trouble(
            "No server is named, and there is no ComfyUI to start. Name one with --server, or set COMFYUI_PATH."
        )
    models = options.models or (None if bench.of_shapes else options.host / "models")
    say("Starting ComfyUI ...")
    with own_server(options.host, models, options.cpu) as server:
        clients: list[ComfyClient] = [server]
        yield clients


# -- scoring ------------------------------------------------------------------------------------------------


def judge_of(options: argparse.Namespace, bench: Bench) -> Judge:
    """Return the judge of a benchmark, with its models loaded."""
    threshold = options.iou_threshold
    if bench.of_shapes and not options.judge:
        return ExactJudge(threshold)
    if bench.kind == DEIG and not options.judge:
        raise Trouble(
            "DEIG-Bench's accuracy needs a model that looks at pictures and answers. Name one with --judge: the "
            "address of a server with the chat-completions interface, as http://127.0.0.1:8000, or a model's folder."
        )
    detector = detectors.GroundingDino(options.detector)
    if bench.kind == MIG:
        return MigJudge(detector, detectors.Sam(options.segmenter), threshold)
    return DeigJudge(detector, answerer_of(options.judge, options.judge_model), threshold, options.any_case)


def score(path: Path, options: argparse.Namespace):
    """Judge a folder's pictures and write tables and a sheet beside them."""
    folder = Folder(path)
    bench = folder.open()
    judge = judge_of(options, bench)
    clip = detectors.Clip(options.clip) if options.clip else None
    answered = judge_folder(folder, bench, judge, clip, say)
    told = Told(
        *(folder.bench_name, bench.kind, judge.name, clip.name if clip else ""),
        *(len(bench.entries), bench.of_shapes),
        tuple(painted_words(folder, answered)),
    )
    names = short_names([one.painter for one in answered])
    rows = rows_of(bench.kind, answered, names)
    text, name = tables(told, rows, answered), f"scores-{slug_of(judge.name)}"
    columns: dict[str, dict] = {}
    for one in answered:
        column = columns.setdefault(f"{names[one.painter]}, seed {one.seed}", {})
        column[one.judged.entry.name] = (picture_of(folder, one), one.judged.verdicts)
    sheet = sheet_of(columns, {entry.name: entry for entry in bench.entries})
    write(path, name, text, record_of(told, rows), sheet)


def write(folder: Path, name: str, text: str, record: dict, sheet):
    """Write what was found as text, as JSON and as a sheet, and say it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sheet.save(folder / f"{name}.png")
    say(text)
    say(f"{name}.md, {name}.json and {name}.png: {folder}")


# -- command ------------------------------------------------------------------------------------------------


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "bench", nargs="?", help=f"{', '.join(FILES)}, {SHAPES}, or a file in the form of one of them"
    )
    parser.add_argument("--host", type=Path, help="a ComfyUI to start where no server is named")
    parser.add_argument("--out", type=Path, default=Path("out/papers"), help="the run's folder")

    servers = parser.add_argument_group("with what to paint")
    servers.add_argument(
        "--server", nargs="+", default=[], metavar="ADDRESS", help="ComfyUIs, as 127.0.0.1:8188"
    )
    servers.add_argument(
        "--models", type=Path, help="models for a ComfyUI that is started (default: its own)"
    )
    servers.add_argument(
        "--cpu", action="store_true", help="start it on the CPU though there is an accelerator"
    )
    servers.add_argument(
        "--way",
        nargs="+",
        choices=WAYS,
        default=[DEIG_WAY],
        help="; ".join(f"{k}: {v}" for k, v in WAYS.items()),
    )
    servers.add_argument("--checkpoint", nargs="+", default=[], help="as the servers list them")
    servers.add_argument("--adapter", nargs="+", default=[], help="as the servers list them")
    servers.add_argument("--text-encoder", help="as the servers list it")

    how = parser.add_argument_group("how to paint; by default as the benchmark's script does")
    how.add_argument("--seeds", nargs="+", type=int, help="one picture of each entry from each seed")
    how.add_argument(
        "--sample", type=int, help="paint so many entries only; a larger sample holds a smaller one"
    )
    how.add_argument("--steps", type=int)
    how.add_argument("--guidance", type=float)
    how.add_argument("--negative", help="the negative prompt")
    how.add_argument("--size", type=int, help="side of the picture, pixels")
    how.add_argument("--sampler", help=f"the host's, with --scheduler; or {PAPER}, the authors' own")
    how.add_argument("--scheduler")

    judging = parser.add_argument_group("scoring")
    judging.add_argument(
        "--score",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="score runs; what was painted, if none is named",
    )
    judging.add_argument("--judge", help="who answers: http://127.0.0.1:8000, or a model for transformers")
    judging.add_argument("--judge-model", default="", help="its name there, where it has several")
    judging.add_argument("--detector", default=detectors.DETECTOR)
    judging.add_argument("--segmenter", default=detectors.SEGMENTER, help="MIG-Bench's masks")
    judging.add_argument(
        "--clip", nargs="?", const=detectors.CLIP, help="take the CLIP score too, with this model"
    )
    judging.add_argument("--iou-threshold", type=float, default=IOU_THRESHOLD, help="0.5 in the papers")
    judging.add_argument(
        "--any-case", action="store_true", help='take "Yes" for yes, which the script does not'
    )
    judging.add_argument(
        "--compare", nargs="+", type=Path, metavar="FOLDER", help="compare scored runs, side by side"
    )
    judging.add_argument("--judged-by", default="", help="a part of the judge's name, where several judged")
    options = parser.parse_args(arguments)
    if options.bench is None and options.score is None and not options.compare:
        parser.error(
            f"name a benchmark ({', '.join(FILES)}, {SHAPES}, or a file), or use --score or --compare"
        )
    if options.sample is not None and options.sample < 1:
        parser.error(f"--sample is {options.sample}; it is a number of entries, 1 or more")
    return options


def run(options: argparse.Namespace):
    """Do what the options say: paint, score, compare, in this order."""
    if options.bench:
        paint_bench(options)
    if options.score is not None:
        for path in options.score or [options.out]:
            score(path, options)
    if options.compare:
        compared = compare(options.compare, options.judged_by)
        write(options.out, "compared", compared.text, compared.record, compared.sheet)


def main() -> int:
    options = parse_arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, leave)
    try:
        run(options)
    except (Trouble, StartFailed) as trouble:
        print(trouble)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. What was painted and judged is kept: the same command goes on from there.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
