"""The leakage report: of what each instance's place attended to, how much was its own.

The attention of each image token sums to 1. The report's numbers are its mean over the image tokens that lie in an
instance's place, over heads, and over the blocks and calls that were recorded, divided into:

    itself        the instance's own tokens (its words), and the image tokens in its place (its area)
    others        the tokens of other instances, which the fusers' mask lets it see only where places overlap, and the
                  image tokens in others' places that are not in its own
    background    image tokens where no instance lies, and tokens of none (InstanceDiffusion's null and mask tokens)
"""

from typing import NamedTuple

import torch

from ..regions.heat import Part
from ..regions.region import Regions
from .attention_record import AttentionRecord

MOST_WORDS = 60  # letters of a phrase in the report


class Leakage(NamedTuple):
    """What one instance's place attended to, as shares of 1.

    Args:
        words: its own tokens.
        area: the image tokens in its place.
        others: (N,), to each other instance, its tokens and its place together; 0 for itself.
        background: image tokens where no instance lies, and tokens of none.
    """

    words: float
    area: float
    others: tuple[float, ...]
    background: float

    @property
    def took_part(self) -> bool:
        """Whether the instance was there at all while it was recorded."""
        return self.words + self.area + self.background + sum(self.others) > 0


def leakage(shares: torch.Tensor) -> list[Leakage]:
    """(N, 2 N + 2), as `AttentionRecord.shares` gives them -> N."""
    count = len(shares)
    tokens, places = shares[:, :count], shares[:, count : 2 * count]
    others = (tokens + places).fill_diagonal_(0)
    ground = shares[:, 2 * count :].sum(1)
    return [
        Leakage(float(tokens[n, n]), float(places[n, n]), tuple(others[n].tolist()), float(ground[n]))
        for n in range(count)
    ]


def bar_of(leak: Leakage, index: int) -> list[Part]:
    """Return a leakage as the parts of a bar: its words, its area (pale), each of the others, the background."""
    others = [Part(share, other) for other, share in enumerate(leak.others) if share > 0]
    return [Part(leak.words, index), Part(leak.area, index, pale=True), *others, Part(leak.background, None)]


def report(record: AttentionRecord) -> str:
    """Return the leakage of all instances in all pictures as text, in per cent."""
    if record.is_empty:
        return (
            "Nothing was recorded: none of the chosen blocks ran DEIG's fusers in the chosen part of the schedule. Is "
            "the strength of 'DEIG Apply to Model' above 0, and do both nodes' start_percent and end_percent meet?"
        )
    lines = [_what_was_recorded(record), "What each instance's area attended to, in %:"]
    for picture in range(record.pictures):
        if record.pictures > 1:
            lines.append(f"picture {picture + 1}")
        leaks = leakage(record.shares(picture))
        lines += [_line(record.regions, index, leak) for index, leak in enumerate(leaks)]
    return "\n".join(lines)


def _what_was_recorded(record: AttentionRecord) -> str:
    blocks = ", ".join(f"{section}.{number}" for section, number, _ in sorted(record.seen))
    return f"Recorded {max(record.seen.values())} times in the blocks {blocks}."


def _line(regions: Regions, index: int, leak: Leakage) -> str:
    phrase = " ".join(regions[index].phrase.split())
    name = f"{index + 1} {phrase if len(phrase) <= MOST_WORDS else phrase[: MOST_WORDS - 3] + '...'}"
    if not leak.took_part:
        return f"{name}: took no part"
    most = max(range(len(leak.others)), key=lambda other: leak.others[other])
    named = f" (most to {most + 1}: {100 * leak.others[most]:.0f})" if leak.others[most] >= 0.005 else ""
    return (
        f"{name}: itself {100 * (leak.words + leak.area):.0f} (its words {100 * leak.words:.0f}, its area "
        f"{100 * leak.area:.0f}), others {100 * sum(leak.others):.0f}{named}, background {100 * leak.background:.0f}"
    )
