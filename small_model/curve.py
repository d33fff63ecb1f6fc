"""The loss curve of a training run, drawn as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1000, 560
LEFT, TOP, RIGHT, BOTTOM = 90, 60, 970, 490  # the plot within the picture
SMOOTHED_OVER = 50  # the smoothed line's share of the run: a fiftieth
MOST_DOTS = 4000

INK, GRID, DOTS, LINE = "#222222", "#e0e0e0", "#b9cfe8", "#1f4e9c"

# (step, seconds since the start, error)
Point = tuple[int, float, float]


def draw_curve(curve: Sequence[Point], path: Path):
    """Draw the error of every step and its running mean over the steps, and save the picture.

    Args:
        curve: the run's steps in order; at least two.
        path: where to, a PNG.
    """
    steps = np.array([step for step, *_ in curve], dtype=float)
    errors = np.array([error for *_, error in curve], dtype=float)
    smooth = _running_mean(errors, max(len(errors) // SMOOTHED_OVER, 1))
    low, high = np.log10(np.percentile(errors, 0.5) * 0.9), np.log10(np.percentile(errors, 99.5) * 1.1)

    def place(step, error):
        across = (step - steps[0]) / (steps[-1] - steps[0])
        up = np.clip((np.log10(error) - low) / (high - low), 0, 1)
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    _draw_axes(draw, place, steps, (10**low, 10**high))
    some = slice(None, None, -(-len(steps) // MOST_DOTS))
    for x, y in zip(*place(steps[some], errors[some]), strict=True):
        draw.rectangle((x, y, x + 1, y + 1), fill=DOTS)
    draw.line(list(zip(*place(steps, smooth), strict=True)), fill=LINE, width=3, joint="curve")
    hours = curve[-1][1] / 3600
    title = (
        f"Training of the small DEIG: error of the predicted noise, {steps[-1]:.0f} steps in {hours:.1f} h"
    )
    draw.text((LEFT, 18), title, font=_font(20), fill=INK)
    _draw_legend(draw)
    picture.save(path)


def _running_mean(values: np.ndarray, over: int) -> np.ndarray:
    """Mean of each value and those around it, fewer at the ends."""
    sums = np.concatenate([[0], np.cumsum(values)])
    middle = np.arange(len(values))
    start, end = np.maximum(middle - over // 2, 0), np.minimum(middle + over // 2 + 1, len(values))
    return (sums[end] - sums[start]) / (end - start)


def _ticks(low: float, high: float, about: int) -> np.ndarray:
    """Round numbers from low to high, about so many."""
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * by for by in (1, 2, 5, 10) if size * by >= raw)
    return np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step


def _draw_axes(draw: ImageDraw.ImageDraw, place, steps: np.ndarray, errors: tuple[float, float]):
    small, middle = _font(14), _font(16)
    for step in _ticks(steps[0], steps[-1], 8):
        x, _ = place(step, errors[0])
        draw.line((x, TOP, x, BOTTOM), fill=GRID)
        draw.text((x, BOTTOM + 8), f"{step:.0f}", font=small, fill=INK, anchor="mt")
    nice = [factor * 10.0**power for power in range(-4, 2) for factor in (1, 2, 3, 5, 7)]
    for error in (value for value in nice if errors[0] <= value <= errors[1]):
        _, y = place(steps[0], error)
        draw.line((LEFT, y, RIGHT, y), fill=GRID)
        draw.text((LEFT - 8, y), f"{error:g}", font=small, fill=INK, anchor="rm")
    draw.rectangle((LEFT, TOP, RIGHT, BOTTOM), outline=INK)
    draw.text(((LEFT + RIGHT) / 2, BOTTOM + 36), "step", font=middle, fill=INK, anchor="mt")
    label = Image.new("L", (320, 24), 0)
    ImageDraw.Draw(label).text(
        (160, 12), "mean squared error (log scale)", font=middle, fill=255, anchor="mm"
    )
    draw.bitmap((14, (TOP + BOTTOM) // 2 - 160), label.rotate(90, expand=True), fill=INK)


def _draw_legend(draw: ImageDraw.ImageDraw):
    x, y, font = RIGHT - 220, TOP + 14, _font(14)
    draw.rectangle((x - 12, y - 8, RIGHT - 8, y + 44), fill="white", outline=GRID)
    draw.rectangle((x + 12, y + 7, x + 15, y + 10), fill=DOTS)
    draw.text((x + 40, y), "one step", font=font, fill=INK)
    draw.line((x, y + 30, x + 28, y + 30), fill=LINE, width=3)
    draw.text((x + 40, y + 22), f"mean over 1/{SMOOTHED_OVER} of the run", font=font, fill=INK)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)
