"""A sheet of pictures side by side: a row for each entry, the boxes asked for and the boxes found on each."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from deig_core.regions.draw import colour_of
from small_model.sheet import draw_sheet

from .entries import Entry
from .judges import Verdict

ROWS = 12
SIDE = 384  # of a picture on the sheet, pixels

Cell = tuple[Image.Image, Sequence[Verdict]]
BLANK: Cell = (Image.new("RGB", (1, 1), "white"), ())


def sheet_of(
    columns: Mapping[str, Mapping[str, Cell]], entries: Mapping[str, Entry], rows: int = ROWS
) -> Image.Image:
    """Draw a sheet.

    Args:
        columns: by title, a picture and its verdicts for each entry's name.
        entries: by name.
        rows: how many entries are shown, evenly out of those that every column has; where there are none, out of
            those that any has, and what is missing is blank.
    """
    fitting = [
        [name for name in entries if test(name in cells for cells in columns.values())] for test in (all, any)
    ]
    named = fitting[0] or fitting[1]
    chosen = [named[round(i)] for i in np.linspace(0, len(named) - 1, min(rows, len(named)))]
    pictures, words = [], []
    for name in chosen:
        cells = [cells.get(name, BLANK) for cells in columns.values()]
        pictures.append([marked(picture, entries[name], verdicts) for picture, verdicts in cells])
        words.append([f"{name}:", *_words(entries[name], [verdicts for _, verdicts in cells])])
    return draw_sheet(pictures, tuple(columns), words, cell=SIDE)


def _words(entry: Entry, verdicts: Sequence[Sequence[Verdict]]) -> list[str]:
    """A line for each instance: a mark for each column, its number and its phrase."""
    return [
        f"{''.join(mark_of(column[i]) if column else ' ' for column in verdicts)} {i + 1} {instance.phrase}"
        for i, instance in enumerate(entry.instances)
    ]


def mark_of(verdict: Verdict) -> str:
    """+ right in its place, o in its place and not right, - not in its place."""
    return "+" if verdict.succeeds else "o" if verdict.placed else "-"


def marked(picture: Image.Image, entry: Entry, verdicts: Sequence[Verdict]) -> Image.Image:
    """Draw each box that was asked for, with number and mark, in its colour; the box found in thin white."""
    shown = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(shown)
    for index, (instance, verdict) in enumerate(zip(entry.instances, verdicts, strict=False)):
        if verdict.found:
            draw.rectangle(_pixels(verdict.found), outline="white", width=1)
        x0, y0, x1, y1 = _pixels(instance.box)
        draw.rectangle((x0, y0, x1, y1), outline=colour_of(index), width=3)
        label = f"{index + 1}{mark_of(verdict)}"
        draw.rectangle((x0, y0, x0 + 8 * len(label) + 4, y0 + 14), fill=colour_of(index))
        draw.text((x0 + 3, y0 + 1), label, fill="black")
    return shown


def _pixels(box: Sequence[float]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (min(max(round(edge * SIDE), 0), SIDE - 1) for edge in box)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
