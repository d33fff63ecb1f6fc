"""Two runs side by side: with and without DEIG, two checkpoints, DEIG and InstanceDiffusion.

Only pictures of the same entries from the same seeds, judged by the same judge, are compared.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .answers import Answered, answered, judges_of, painted_words
from .entries import Bench
from .manifest import Folder
from .plan import short_names
from .sheet import sheet_of
from .tables import Told, markdown_table, record_of, rows_of, tables
from .trouble import Trouble


@dataclass(frozen=True)
class Compared:
    """What a comparison gives: text for people, a record for programs, and the sheet."""

    text: str
    record: dict
    sheet: Image.Image


@dataclass(frozen=True)
class _Side:
    """One painter of one run; `title` tells it from the others."""

    title: str
    folder: Folder
    answers: tuple[Answered, ...]


def compare(paths: Sequence[Path], judge: str = "") -> Compared:
    """Compare what the painters of several folders painted.

    Args:
        paths: folders that were scored.
        judge: by whom, in part; "" where there is one who judged all.

    Raises:
        Trouble: they are of different benchmarks, or nobody judged all of them, or they share no picture.
    """
    folders = [Folder(path) for path in paths]
    benches = [folder.open() for folder in folders]
    if len({bench.digest for bench in benches}) > 1:
        raise Trouble(
            f"{' and '.join(map(str, paths))} are of different benchmarks, which cannot be compared."
        )
    bench, judge = benches[0], _common_judge(paths, judge)
    sides = _common([side for folder in folders for side in _sides(folder, bench, judge, len(paths) > 1)])
    told = Told(
        *(folders[0].bench_name, bench.kind, judge, "", len(bench.entries), bench.of_shapes),
        tuple(
            f"{side.title}: {words}" for side in sides for words in painted_words(side.folder, side.answers)
        ),
    )
    rows = [
        row
        for side in sides
        for row in rows_of(bench.kind, side.answers, {side.answers[0].painter: side.title})
    ]
    everything = [one for side in sides for one in side.answers]
    text = tables(told, rows, everything) + "\n## Instance by instance\n\n" + _flips(sides) + "\n"
    return Compared(text, record_of(told, rows), _sheet(sides, bench))


def _common_judge(paths: Sequence[Path], wanted: str) -> str:
    judged = [judges_of(path) for path in paths]
    common = [name for name in judged[0] if wanted in name and all(name in names for names in judged)]
    if len(common) == 1:
        return common[0]
    who = "; ".join(
        f"{path}: {' | '.join(names) or 'nobody'}" for path, names in zip(paths, judged, strict=True)
    )
    if not common:
        raise Trouble(f"No judge has judged all of these, so they cannot be compared. Judged by: {who}.")
    raise Trouble(f"Several judges have judged all of these. Name one with --judged-by. Judged by: {who}.")


def _sides(folder: Folder, bench: Bench, judge: str, is_named: bool) -> list[_Side]:
    by_painter: dict = {}
    for one in answered(folder, bench, judge):
        by_painter.setdefault(one.painter, []).append(one)
    prefix = f"{folder.path.name}: " if is_named else ""
    names = short_names(list(by_painter))
    return [_Side(prefix + names[painter], folder, tuple(ones)) for painter, ones in by_painter.items()]


def _common(sides: Sequence[_Side]) -> list[_Side]:
    """Return the sides with the pictures that all of them have, in one order."""
    if len(sides) < 2:
        raise Trouble("There is one painter only, and nothing to compare it with. Name two folders.")
    shared = set.intersection(*({_place(one) for one in side.answers} for side in sides))
    if not shared:
        raise Trouble("The runs have no entry in common that was painted from the same seed.")
    return [
        _Side(
            side.title,
            side.folder,
            tuple(sorted((one for one in side.answers if _place(one) in shared), key=_place)),
        )
        for side in sides
    ]


def _place(one: Answered) -> tuple[str, int]:
    return one.judged.entry.name, one.seed


def _flips(sides: Sequence[_Side]) -> str:
    """How often the first side and each other one are right about the same instance."""
    first = _successes(sides[0])
    cells = [["", "both right", "only the first", "only this one", "neither"]]
    for side in sides[1:]:
        pairs = list(zip(first, _successes(side), strict=True))
        counts = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
        cells.append([f"{sides[0].title} and {side.title}", *map(str, counts)])
    return markdown_table(cells)


def _successes(side: _Side) -> list[bool]:
    return [verdict.succeeds for one in side.answers for verdict in one.judged.verdicts]


def _sheet(sides: Sequence[_Side], bench: Bench) -> Image.Image:
    seed = sides[0].answers[0].seed
    columns = {
        side.title: {
            one.judged.entry.name: (picture_of(side.folder, one), one.judged.verdicts)
            for one in side.answers
            if one.seed == seed
        }
        for side in sides
    }
    return sheet_of(columns, {entry.name: entry for entry in bench.entries})


def picture_of(folder: Folder, one: Answered) -> Image.Image:
    """Read a judged picture."""
    return Image.open(io.BytesIO((folder.path / one.key).read_bytes()))
