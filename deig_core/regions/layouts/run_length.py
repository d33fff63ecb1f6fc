"""Binary masks as COCO's run lengths: what `mask` and `segmentation` hold in annotation files.

The runs go down the columns, outside and inside by turns, and begin outside. As text each run, from the fourth
on less the run two before it, becomes groups of five bits, lowest first, with 32 for "more follow" and 48 to
make it a printable character.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..region import Mask, RunLengthMask
from .fields import numbers, shown

# 8192 x 8192: more than any picture here, and small enough to make without thought.
MOST_PIXELS = 1 << 26
# All masks of one layout together: 64 of 2048 x 2048, or 256 of 1024 x 1024.
MOST_PIXELS_IN_ALL = 1 << 28


def read_mask(value: Any, place: str) -> RunLengthMask:
    """Read {"size": [height, width], "counts": run lengths as text or as a list}. It stays run lengths."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} should be a mask with size and counts, but it is {shown(value)}.")
    sides = numbers(value.get("size"), 2, "height, width", f"{place}.size")
    if any(side != int(side) for side in sides):
        raise ValueError(f"{place}.size should be whole numbers of pixels, but it is {shown(value['size'])}.")
    height, width = (int(side) for side in sides)
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"{place}.size is {height} x {width}; it takes 1 to {MOST_PIXELS} pixels in all.")
    counts = value.get("counts")
    if isinstance(counts, str):
        counts = _runs_from_text(counts, f"{place}.counts")
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise ValueError(f"{place}.counts should be run lengths, as a list or as COCO's text.")
    if sum(counts) != height * width:
        raise ValueError(f"{place}.counts cover {shown(sum(counts))} pixels of {height} x {width}.")
    if not any(counts[1::2]):
        raise ValueError(f"{place} is empty: no pixel of it lies inside.")
    return RunLengthMask((height, width), np.array(counts, dtype=np.int64))


def limit_in_all(masks: Iterable[Mask | RunLengthMask]):
    """Refuse masks that are each in bounds, but together take more memory than a layout should."""
    pixels = sum(height * width for height, width in (mask.size for mask in masks))
    if pixels > MOST_PIXELS_IN_ALL:
        raise ValueError(
            f"The layout's masks have {pixels} pixels together; {MOST_PIXELS_IN_ALL} are the most. A mask may be "
            "smaller than the picture: it is laid over the whole of it at any size."
        )


def write_mask(mask: Mask | RunLengthMask) -> dict:
    if isinstance(mask, RunLengthMask):
        return {"size": list(mask.size), "counts": _runs_to_text(mask.runs.tolist())}
    values = np.asarray(mask.values)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            "A soft mask cannot be written: run lengths hold only inside and outside. "
            "Make it hard with a threshold first."
        )
    flat = values.T.reshape(-1).astype(bool)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [not flat[-1]]))))
    runs = np.diff(np.concatenate(([0], edges))).tolist()
    return {"size": list(values.shape), "counts": _runs_to_text(runs)}


def _runs_from_text(written: str, place: str) -> list[int]:
    runs: list[int] = []
    value, shift = 0, 0
    for position, character in enumerate(written):
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"{place} is no COCO run length text: {character!r} at character {position}.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError(f"{place} ends in the middle of a run length.")
    return runs


def _runs_to_text(runs: list[int]) -> str:
    written = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            written.append(chr(48 + (bits | 32 if more else bits)))
    return "".join(written)
