"""A sheet of pictures with titles above the columns and words beside the rows."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 16
TITLE = 34
WORDS = 330  # width of the words beside a row
LINE = 20

INK, PAPER = "#222222", "white"


def draw_sheet(
    rows: Sequence[Sequence[np.ndarray | Image.Image]],
    titles: Sequence[str],
    words: Sequence[Sequence[str]],
    cell: int = 256,
) -> Image.Image:
    """Lay out pictures.

    Args:
        rows: of pictures, each (H, W, 3) uint8 or an image, all of one shape of side.
        titles: one for each column.
        words: for each row the lines that stand beside it; a line that is too long is wrapped.
        cell: pixels that a picture is high on the sheet.
    """
    pictures = [[_scaled(picture, cell) for picture in row] for row in rows]
    widths = [max(row[i].width for row in pictures) for i in range(len(titles))]
    left = [GAP + sum(widths[:i]) + i * GAP for i in range(len(widths) + 1)]
    height = TITLE + len(rows) * (cell + GAP) + GAP
    sheet = Image.new("RGB", (left[-1] + WORDS, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for x, title in zip(left, titles, strict=False):
        draw.text((x, TITLE - 8), title, font=_font(18), fill=INK, anchor="ls")
    for number, (row, lines) in enumerate(zip(pictures, words, strict=True)):
        top = TITLE + number * (cell + GAP)
        for x, picture in zip(left, row, strict=False):
            sheet.paste(picture, (x, top))
        wrapped = [part for line in lines for part in _wrap(line, WORDS - GAP)]
        for place, line in enumerate(wrapped[: cell // LINE]):
            draw.text((left[-1], top + place * LINE), line, font=_font(15), fill=INK)
    return sheet


def _scaled(picture: np.ndarray | Image.Image, height: int) -> Image.Image:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return image.resize((image.width * height // image.height, height), Image.Resampling.BICUBIC)


def _wrap(text: str, width: int) -> list[str]:
    font, lines = _font(15), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(f"   {word}")
        else:
            lines[-1] = longer if not lines[-1].startswith("   ") else f"{lines[-1]} {word}"
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)
