"""Choosing some of the regions by their number or by words of their phrase."""

import re

from .region import Regions

NUMBERS = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


def chosen(regions: Regions, choice: str) -> tuple[int, ...]:
    """Return the indices of the regions that a choice names, back to front, each once.

    Args:
        choice: "" for all; else numbers from 1, ranges "2-4" and words of phrases, separated by commas. Words match
            in any case, as whole words, one behind the other.

    Raises:
        ValueError: a part of the choice names no region, or there is nothing to choose from.
    """
    if not regions:
        raise ValueError("There are no regions to choose from. Connect regions, or draw one in the editor.")
    parts = [part.strip() for part in re.split(r"[,\n]", choice) if part.strip()]
    if not parts:
        return tuple(range(len(regions)))
    return tuple(sorted({index for part in parts for index in _named(regions, part)}))


def _named(regions: Regions, part: str) -> list[int]:
    numbers = NUMBERS.fullmatch(part)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if not 1 <= first <= last <= len(regions):
            raise ValueError(f"There is no region {part}: they are numbered 1 to {len(regions)}.")
        return list(range(first - 1, last))
    words = part.strip("\"'").split()
    pattern = re.compile(
        r"(?<!\w)" + r"\s+".join(re.escape(word) for word in words) + r"(?!\w)", re.IGNORECASE
    )
    found = [index for index, region in enumerate(regions) if words and pattern.search(region.phrase)]
    if not found:
        raise ValueError(f"No region's phrase has {part!r} in it. There are: {_listed(regions)}.")
    return found


def _listed(regions: Regions) -> str:
    shown = [f"{index} {region.phrase[:40]!r}" for index, region in enumerate(regions[:10], start=1)]
    return ", ".join(shown) + (f" and {len(regions) - 10} more" if len(regions) > 10 else "")
