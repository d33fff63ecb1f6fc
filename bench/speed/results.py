"""What was measured, as rows of a table, bars, and the record that is kept."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from ..bars import Bar
from .pairs import Answer, CaseName
from .questions import COUNTS, DEIG, DENSE, DENSE_COUNT, PLAIN


@dataclass(frozen=True)
class Once:
    """What one look at a case tells.

    Args:
        multiplications: of a step.
        peak: bytes that a step adds at most to what is loaded; None where that cannot be told.
    """

    multiplications: int
    peak: int | None


@dataclass(frozen=True)
class Compared:
    """The cases that were compared, and the answers.

    Args:
        once: what one look at each case told.
        answers: in the order of the pairings; without those of which a case did not fit.
    """

    once: dict[CaseName, Once]
    answers: tuple[Answer, ...]


def rows_of(compared: Compared, size: str, dtype: str) -> list[dict]:
    """What is known of each case that was compared with the plain call."""
    plain = CaseName(PLAIN)
    over_plain = {
        answer.question.ours: answer for answer in compared.answers if answer.question.other == plain
    }
    peak = compared.once[plain].peak if over_plain else None
    rows = []
    for case, answer in over_plain.items():
        once = compared.once[case]
        rows.append(
            {
                "size": size,
                "dtype": dtype,
                "way": case.way,
                "count": case.count,
                "seconds": median(ours for ours, _ in answer.pairs),
                "over_plain": answer.spread.middle,
                "spread": [answer.spread.low, answer.spread.high],
                "pairs": answer.spread.pairs,
                "counted": answer.question.counted,
                "peak": once.peak,
                "peak_over_plain": None if once.peak is None else once.peak - peak,
            }
        )
    return rows


def bars_of(compared: Compared, where: str) -> list[Bar]:
    """The bars of the answers, and of what else is known of their cases."""
    bars = [answer.bar(where) for answer in compared.answers if answer.ruling is not None]
    extra, dense_extra = (_peak_over_plain(compared, CaseName(way, DENSE_COUNT)) for way in (DEIG, DENSE))
    if extra is not None and dense_extra is not None:
        name = f"extra memory over the dense formulation's, N = {DENSE_COUNT}"
        bars.append(Bar.at_most(name, max(extra, 0) / dense_extra, 1 / 8, where))
    return bars


def _peak_over_plain(compared: Compared, case: CaseName) -> int | None:
    peaks = [compared.once[name].peak for name in (case, CaseName(PLAIN)) if name in compared.once]
    return peaks[0] - peaks[1] if len(peaks) == 2 and None not in peaks else None


def tokens_bar(seconds: float, compared: Compared, where: str) -> list[Bar]:
    """What tokens cost of a call of the most instances, where that was timed."""
    times = [
        pair[0]
        for answer in compared.answers
        if answer.question.ours == CaseName(DEIG, max(COUNTS))
        for pair in answer.pairs
    ]
    name = f"tokens of {max(COUNTS)} instances, uncached, of a call"
    return [Bar.at_most(name, seconds / median(times), 0.08, where)] if times else []


def record_of(machine: dict, found: Sequence[tuple[str, str, Compared]], bars: Sequence[Bar] = ()) -> dict:
    """Put together what is kept.

    Args:
        machine: as `device.machine_of` says it.
        found: what was compared, with the names of the size and of the precision.
        bars: others than those of what was compared.
    """
    record = {"machine": machine, "calls": [], "answers": [], "bars": []}
    for size, dtype, compared in found:
        where = f"{size}, {dtype}"
        record["calls"] += rows_of(compared, size, dtype)
        record["answers"] += [{"where": where, **answer.as_dict()} for answer in compared.answers]
        record["bars"] += [asdict(bar) for bar in bars_of(compared, where)]
    record["bars"] += [asdict(bar) for bar in bars]
    return record
