"""How strongly something acts where, drawn over a picture: heat of one region, of all of them, and in parts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .draw import colour_of, draw_box, draw_label, fitted, font_of, ground_of, pixel_box
from .region import Region, Regions

# From nothing to all, ever lighter, so that it reads without colours too (the stops are inferno's, of Smith and van
# der Walt 2015).
RAMP = ("#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4")
DIMMED = 0.45  # how much is left of the picture's light where nothing acts
COVER = 0.8  # how much of the picture the strongest of a region's own colour hides
STRIP = "#22242a"
NOWHERE = "#6b6f78"  # what belongs to no region, in the bars
PALE = 0.45  # how much of a colour is left where it means the second of two things

Picture = Image.Image | np.ndarray | None


class Part(NamedTuple):
    """A part of a bar: its length, 0 to 1; its region's number in the list, None: of none; and whether it is pale."""

    length: float
    region: int | None
    pale: bool = False


def draw_heat(
    weights: np.ndarray, index: int, region: Region, width: int, height: int, image: Picture = None
) -> Image.Image:
    """Draw one region's heat over a picture, with its box and phrase.

    Args:
        weights: (h, w), 0 to 1, of any size: it is laid over the whole picture.
        index: the region's number in the list, which is its colour.
        region: the region.
        width, height, image: as `draw_regions` takes them.

    Returns:
        An RGB picture, of the size that `draw_regions` gives.
    """
    canvas = _warmed(ground_of(width, height, image), weights)
    line = max(2, round(min(canvas.size) / 256))
    box = pixel_box(region, canvas.size, line)
    draw_box(ImageDraw.Draw(canvas), box, index, line)
    draw_label(canvas, box, index, region.phrase, line)
    return canvas


def draw_heats(
    weights: np.ndarray, names: Sequence[str], width: int, height: int, image: Picture = None
) -> Image.Image:
    """Draw several heats, each over the same picture, side by side in rows with their names.

    Args:
        weights: (L, h, w), 0 to 1, of any size.
        names: L of them.
        width, height, image: as `draw_regions` takes them.

    Returns:
        An RGB picture; each tile's sides are half those of the picture that `draw_regions` gives.
    """
    ground = ground_of(width, height, image)
    columns = math.isqrt(len(weights) - 1) + 1
    rows = -(-len(weights) // columns)
    tile = ground.resize((-(-ground.width // 2), -(-ground.height // 2)), Image.LANCZOS)
    gap = 2
    sheet = Image.new("RGB", (columns * (tile.width + gap) - gap, rows * (tile.height + gap) - gap), STRIP)
    font = font_of(12 + min(tile.size) // 64)
    for number, (one, name) in enumerate(zip(weights, names, strict=True)):
        left, top = (number % columns) * (tile.width + gap), (number // columns) * (tile.height + gap)
        sheet.paste(_warmed(tile, one), (left, top))
        layer = ImageDraw.Draw(sheet, "RGBA")
        layer.rectangle(
            (left, top, left + round(font.getlength(name)) + 8, top + sum(font.getmetrics())),
            fill=(0, 0, 0, 190),
        )
        layer.text((left + 4, top), name, font=font, fill="white")
    return sheet


def draw_parts(
    weights: np.ndarray,
    bars: Sequence[Sequence[Part]],
    regions: Regions,
    width: int,
    height: int,
    image: Picture = None,
) -> Image.Image:
    """Draw the heat of all regions in their colours over a picture, and below it a bar of parts for each.

    Args:
        weights: (N, h, w), 0 to 1, of any size.
        bars: for each region the parts of its bar.
        regions: the N regions.
        width, height, image: as `draw_regions` takes them.

    Returns:
        An RGB picture, as wide as that of `draw_regions` and higher.
    """
    picture = _dimmed(ground_of(width, height, image))
    for index, one in enumerate(weights):
        picture.paste(colour_of(index), mask=_mask(one * COVER, picture.size))
    line = max(2, round(min(picture.size) / 256))
    draw = ImageDraw.Draw(picture)
    for index, region in enumerate(regions):
        draw_box(draw, pixel_box(region, picture.size, line), index, line)

    font = font_of(12 + min(picture.size) // 128)
    row = sum(font.getmetrics()) + 2 * line
    canvas = Image.new("RGB", (picture.width, picture.height + len(bars) * 2 * row + line), STRIP)
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for index, (region, parts) in enumerate(zip(regions, bars, strict=True)):
        top = picture.height + line + index * 2 * row
        badge = round(font.getlength(str(index + 1))) + 4 * line
        draw.rectangle((0, top, badge - 1, top + row - 1), fill=colour_of(index))
        draw.text((2 * line, top), str(index + 1), font=font, fill="black")
        words = fitted(" ".join(region.phrase.split()), font, canvas.width - badge - 4 * line)
        draw.text((badge + 2 * line, top), words, font=font, fill="white")
        _draw_bar(draw, parts, top + row, row - 2 * line, canvas.width, font)
    return canvas


def _draw_bar(draw: ImageDraw.ImageDraw, parts: Sequence[Part], top: int, height: int, width: int, font):
    position = 0.0
    for part in parts:
        start, position = round(position * width), position + part.length
        end = round(position * width)
        if end <= start:
            continue
        colour = NOWHERE if part.region is None else colour_of(part.region)
        draw.rectangle(
            (start, top, end - 1, top + height), fill=_mixed(colour, STRIP, PALE) if part.pale else colour
        )
        words = f"{100 * part.length:.0f}"
        if font.getlength(words) + 4 < end - start:
            # Pale colours are dark, on which black cannot be read.
            draw.text((start + 2, top - 1), words, font=font, fill="white" if part.pale else "black")
        draw.line((end - 1, top, end - 1, top + height), fill=STRIP)


def _mixed(colour: str, other: str, share: float) -> tuple[int, ...]:
    return tuple(
        round(int(colour[at : at + 2], 16) * share + int(other[at : at + 2], 16) * (1 - share))
        for at in (1, 3, 5)
    )


def _dimmed(picture: Image.Image) -> Image.Image:
    return picture.point(lambda light: light * DIMMED)


def _mask(weights: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """(h, w), 0 to 1 -> a mask of a picture's size."""
    bytes_of = (np.asarray(weights, np.float32).clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(bytes_of).resize(size, Image.BILINEAR)


def _warmed(picture: Image.Image, weights: np.ndarray) -> Image.Image:
    """Lay the ramp's colours over a dimmed picture, the more of them the warmer it is."""
    heat = np.asarray(_mask(weights, picture.size), np.float32) / 255
    stops = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in RAMP], np.float32)
    places = np.linspace(0, 1, len(RAMP))
    colours = np.stack([np.interp(heat, places, channel) for channel in stops.T], -1)
    cover = np.sqrt(heat)[..., None]  # soon, so that what is weak has its colour and not the picture's
    mixed = np.asarray(_dimmed(picture), np.float32) * (1 - cover) + colours * cover
    return Image.fromarray(mixed.round().astype(np.uint8))
