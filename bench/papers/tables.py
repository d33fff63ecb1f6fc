"""Scores as Markdown and JSON: a row for each painter and seed, and one for the mean of several seeds.

Every table says which models judged. Only the paper's own judges make the paper's figures, and also those only where
the rest is the paper's; so nothing here is called the paper's.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .answers import Answered
from .entries import DEIG, MIG
from .figures import ALL, COUNT_GROUPS, OBJECT_GROUPS, OBJECTS, PEOPLE, PEOPLE_GROUPS, Figures, figures_of
from .plan import Painter
from .protocol import is_unclear

PAPERS_JUDGES = {DEIG: "GroundingDINO, Qwen2.5-VL and InternVL3", MIG: "GroundingDINO and SAM"}

Show = Callable[[Figures], float | None]
Column = tuple[str, Show]


@dataclass(frozen=True)
class Row:
    """Figures of one painter from one seed.

    Args:
        name: of the painter.
        seed: of the run.
    """

    name: str
    seed: int
    pictures: int
    figures: Figures


@dataclass(frozen=True)
class Told:
    """What a table says of where its figures are from.

    Args:
        bench, kind: the benchmark's name, and the way it is scored.
        judge: with which models.
        clip: the model of the CLIP score; "" where it was not taken.
        entries: how many the benchmark has.
        of_shapes: whether they are the small model's.
        painted: how, in sentences.
    """

    bench: str
    kind: str
    judge: str
    clip: str
    entries: int
    of_shapes: bool = False
    painted: tuple[str, ...] = ()


def rows_of(kind: str, answered: Sequence[Answered], names: Mapping[Painter, str]) -> list[Row]:
    """Sum up by painter and seed, in the order in which they come.

    Args:
        names: what the painters are called.
    """
    groups: dict[tuple[Painter, int], list[Answered]] = {}
    for one in answered:
        groups.setdefault((one.painter, one.seed), []).append(one)
    return [
        Row(names[painter], seed, len(ones), figures_of(kind, [one.judged for one in ones]))
        for (painter, seed), ones in groups.items()
    ]


def tables(told: Told, rows: Sequence[Row], answered: Iterable[Answered]) -> str:
    """Return everything as Markdown."""
    parts = [f"# {told.bench}", _heading(told)]
    for title, columns in _columns(told.kind):
        parts.append(f"## {title}\n\n{_table(rows, columns)}")
    parts.append("\n".join(f"- {note}" for note in _notes(told, rows, answered)))
    return "\n\n".join(parts) + "\n"


def _heading(told: Told) -> str:
    words = f"Judge: **{told.judge}**." + (f" CLIP score: {told.clip}." if told.clip else "")
    if told.of_shapes:
        return (
            words + " The pictures are of the small model's shapes, and stand beside `bench --quality` alone."
        )
    return (
        words
        + f" The paper's figures were judged by {PAPERS_JUDGES[told.kind]}, in its authors' own programs; these "
        "are not the paper's figures."
    )


def _columns(kind: str) -> list[tuple[str, list[Column]]]:
    """The tables: titles, and for each column its head and the number that it shows."""

    def rate(name: str) -> Show:
        return lambda figures: _percent(figures.sums[name].rate)

    def iou(name: str) -> Show:
        return lambda figures: _percent(figures.sums[name].iou)

    def whole(name: str) -> Show:
        return lambda figures: _percent(figures.sums[name].whole_rate)

    clip: Column = ("CLIP", lambda figures: figures.clip)
    if kind == MIG:
        heads = {name: name for name in COUNT_GROUPS} | {ALL: "all"}
        return [
            (title, [(head, of(name)) for name, head in heads.items()] + more)
            for title, of, more in (
                ("Instance success rate, %", rate, []),
                ("Mean IoU, %", iou, [clip]),
                ("Pictures with every instance right, %", whole, []),
            )
        ]
    levels = [*PEOPLE_GROUPS, PEOPLE, *OBJECT_GROUPS, OBJECTS]
    summary = [("mIoU", iou(ALL)), ("instances right", rate(ALL)), ("pictures right", whole(ALL)), clip]
    return [
        ("Multi-attribute accuracy, %", [(name, rate(name)) for name in levels]),
        ("Mean IoU and success, %", summary),
    ]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Columns in which nothing stands are left out."""
    columns = [column for column in columns if any(column[1](row.figures) is not None for row in rows)]
    cells = [["painted by", "seed", "pictures", *(head for head, _ in columns)]]
    for row in rows:
        values = [show(row.figures) for _, show in columns]
        cells.append(
            [row.name, str(row.seed), str(row.pictures), *("" if v is None else f"{v:.2f}" for v in values)]
        )
    for name in dict.fromkeys(row.name for row in rows):
        seeds = [row for row in rows if row.name == name]
        if len(seeds) > 1:
            means = [_mean([show(row.figures) for row in seeds]) for _, show in columns]
            cells.append([name, f"mean of {len(seeds)}", "", *means])
    return markdown_table(cells)


def _mean(values: Sequence[float | None]) -> str:
    """Mean over seeds, and how far one seed lies from it (standard deviation)."""
    if None in values:
        return ""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Return rows of text, the head first, as a Markdown table."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _notes(told: Told, rows: Sequence[Row], answered: Iterable[Answered]) -> list[str]:
    notes = list(told.painted)
    fewest = min(row.pictures for row in rows)
    if fewest < told.entries:
        notes.append(f"A sample: {fewest} of the benchmark's {told.entries} entries, not the whole.")
    if told.kind == DEIG:
        levels = (
            "L1: shapes of a colour alone; L3: with a texture or pattern. A shape"
            if told.of_shapes
            else "C1 to C3: people with one to three coloured garments. L1: objects of a colour alone; L2: with a "
            "material too; L3: with a texture or pattern; L4: with both. An instance"
        )
        notes.append(
            f"{levels} counts as right where it is found in its place and the answer is yes; people and objects are "
            "means over instances."
        )
        if not told.of_shapes:
            unclear = sum(
                verdict.placed and is_unclear(verdict.said)
                for one in answered
                for verdict in one.judged.verdicts
            )
            notes.append(
                f'Answers with neither "yes" nor "no" in small letters, which count as no: {unclear}.'
            )
    else:
        notes.append("L2 to L6: pictures of two to six instances; all: the mean over instances.")
    notes.append(
        "On the sheet: boxes in colour were asked for, thin white ones found. + is right, o in its place and not "
        "right, - not in its place."
    )
    return notes


def record_of(told: Told, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the same for JSON, not rounded."""
    return {
        **asdict(told),
        "rows": [
            {
                "painted by": row.name,
                "seed": row.seed,
                "pictures": row.pictures,
                "clip": row.figures.clip,
                "groups": {
                    name: asdict(sums) | {"rate": sums.rate, "whole_rate": sums.whole_rate}
                    for name, sums in row.figures.sums.items()
                },
            }
            for row in rows
        ],
    }
