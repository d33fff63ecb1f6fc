"""How many times as long one case takes as another, told on a machine that may be busy with other things.

A machine drifts: what is timed once, a minute after the other, tells the drift. So the two take turns, in both
orders (ours, other, other, ours, ...), and each pair of neighbours gives a ratio. The median of the ratios is the
answer, and an interval that holds the true median in 99 of 100 such runs is its spread; it follows from ranks
alone, whatever the noise looks like. Pairs are added until the spread lies on one side of the bar. Where it never
does, the answer is that it cannot be told here.

Nothing here knows what is timed: a case is a name and a function that returns seconds.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from ..bars import Bar, Ruling

# Of 100 spreads, how many hold the true median. There are many looks at each before it is narrow enough, and at 99
# these together err in fewer than one of twenty runs (`test_a_ruling_is_seldom_wrong`).
TRUST = 0.99
# Fewer ratios than this have no such spread: all of them may lie on one side of their median.
FEWEST = 8
# What a bar that is counted in multiplications leaves for everything that is not one.
MARGIN = 0.04
# Multiplications that one case has beyond another's may be of a faster kind, but hardly so many times faster.
FASTER = 4


@dataclass(frozen=True)
class CaseName:
    """A way of painting, and how many instances (0: none, or it makes no difference)."""

    way: str
    count: int = 0

    def __str__(self) -> str:
        return f"{self.way}, N = {self.count}" if self.count else self.way


@dataclass(frozen=True)
class Question:
    """How many times as long one case takes as another.

    Args:
        ours, other: the two.
        at_most, at_least: the bar, one of the two; with neither the ratio is only told.
        never_below: a ratio below which it cannot be, since `ours` does all that `other` does, and more.
        within: how wide the spread may be, relative to the median; None: as wide as the bar lets it.
        counted: the ratio of multiplications, where it is known.
    """

    ours: CaseName
    other: CaseName
    at_most: float | None = None
    at_least: float | None = None
    never_below: float = 0.0
    within: float | None = None
    counted: float | None = None

    @property
    def has_bar(self) -> bool:
        return self.at_most is not None or self.at_least is not None

    def __str__(self) -> str:
        return f"{self.ours}, over {self.other}"


@dataclass(frozen=True)
class Pairing:
    """A question before anything is counted.

    Args:
        ours, other: the two cases.
        at_most, at_least: a bar of its own.
        by_count: the bar is the ratio of multiplications and MARGIN more.
        includes: `ours` does all that `other` does, and more, so it cannot be as cheap.
        within: as in `Question`.
    """

    ours: CaseName
    other: CaseName
    at_most: float | None = None
    at_least: float | None = None
    by_count: bool = False
    includes: bool = False
    within: float | None = None

    def question(self, counted: Mapping[CaseName, int]) -> Question:
        """Ask it, with the multiplications of both cases."""
        ratio = counted[self.ours] / counted[self.other]
        at_most = ratio * (1 + MARGIN) if self.by_count else self.at_most
        never_below = 1 + max(ratio - 1, 0) / FASTER if self.includes else 0.0
        return Question(self.ours, self.other, at_most, self.at_least, never_below, self.within, ratio)


@dataclass(frozen=True)
class Spread:
    """The median of paired ratios, and the interval that holds the true one in 99 of 100 runs."""

    middle: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.middle:.3f} ({self.low:.3f} to {self.high:.3f}, {self.pairs} pairs)"


def spread_of(ratios: Iterable[float]) -> Spread:
    """Return the median of ratios and its spread.

    As many of them lie below the true median as heads fall in so many tosses of a coin. So the interval from the
    k-th smallest to the k-th largest misses it only where fewer than k heads, or tails, fall.

    Raises:
        ValueError: for fewer than FEWEST ratios.
    """
    ratios = sorted(ratios)
    if len(ratios) < FEWEST:
        raise ValueError(
            f"{len(ratios)} ratios have no spread that can be trusted; it takes {FEWEST} or more."
        )
    tosses, misses, rank = 2 ** len(ratios), 0, 0
    while (misses := misses + math.comb(len(ratios), rank)) <= (1 - TRUST) / 2 * tosses:
        rank += 1
    return Spread(median(ratios), ratios[rank - 1], ratios[-rank], len(ratios))


@dataclass(frozen=True)
class Answer:
    """What was measured for a question: seconds of ours and of the other, pair by pair; FEWEST pairs or more."""

    question: Question
    pairs: tuple[tuple[float, float], ...]

    @cached_property
    def spread(self) -> Spread:
        return spread_of(ours / other for ours, other in self.pairs)

    @property
    def cannot_be(self) -> bool:
        """Whether the median is less than it can be, by more than the margin or by more than the spread."""
        least = self.question.never_below
        return self.spread.middle < least / (1 + MARGIN) or self.spread.high < least

    @property
    def ruling(self) -> Ruling | None:
        """How the ratio stands to its bar; None where it has none."""
        question, spread = self.question, self.spread
        if self.cannot_be:
            return Ruling.CANNOT_BE
        if not question.has_bar:
            return None
        if question.at_least is None:
            is_met, is_missed = spread.high <= question.at_most, spread.low > question.at_most
        else:
            is_met, is_missed = spread.low >= question.at_least, spread.high < question.at_least
        return Ruling.of(is_met) if is_met or is_missed else Ruling.CANNOT_TELL

    @property
    def is_enough(self) -> bool:
        """Whether more pairs would tell nothing that was asked."""
        within = math.inf if self.question.within is None else self.question.within
        is_narrow = self.spread.high - self.spread.low <= within * self.spread.middle
        return is_narrow and self.ruling not in (Ruling.CANNOT_TELL, Ruling.CANNOT_BE)

    def bar(self, where: str = "") -> Bar:
        """Say it as a bar; only where the question has one, or the answer cannot be."""
        question = self.question
        if question.at_most is not None:
            wanted = f"at most {question.at_most:.3f}"
        elif question.at_least is not None:
            wanted = f"at least {question.at_least:g}"
        else:
            wanted = f"not below {question.never_below:.3f}"
        return Bar(str(question), wanted, str(self.spread), self.ruling, where)

    def as_dict(self) -> dict:
        question, spread = self.question, self.spread
        return {
            "ours": str(question.ours),
            "other": str(question.other),
            "median": spread.middle,
            "spread": [spread.low, spread.high],
            "counted": question.counted,
            "at_most": question.at_most,
            "at_least": question.at_least,
            "never_below": question.never_below,
            "ruling": self.ruling,
            "seconds": [list(pair) for pair in self.pairs],
        }


@dataclass(frozen=True)
class Budget:
    """How long a question may take: after so many pairs, or so many seconds, no more are added to FEWEST."""

    pairs: int = 40
    seconds: float = math.inf


Timer = Callable[[], float]


def ask(
    question: Question, ours: Timer, other: Timer, budget: Budget, clock: Timer = time.monotonic
) -> Answer:
    """Time two cases in turns until the question is answered or the budget is spent.

    Args:
        ours, other: run a case once, and return its seconds. What a first run alone has to do is done before.
        clock: seconds, for the budget.
    """
    began, pairs = clock(), []
    while True:
        first = ours(), other()
        second = tuple(reversed((other(), ours())))
        pairs += [first, second]
        if len(pairs) < FEWEST:
            continue
        answer = Answer(question, tuple(pairs))
        if answer.is_enough or len(pairs) >= budget.pairs or clock() - began >= budget.seconds:
            return answer


def ask_all(
    questions: Sequence[Question],
    timers: Mapping[CaseName, Timer],
    budget: Budget,
    clock: Timer = time.monotonic,
) -> Iterator[Answer]:
    """Ask one question after another; seconds that one leaves over go to those behind it.

    Args:
        timers: of all cases that are asked for.
        budget: the most pairs of each question, and the seconds of all of them together.
    """
    ends = clock() + budget.seconds
    for number, question in enumerate(questions):
        share = max(ends - clock(), 0) / (len(questions) - number)
        ours, other = timers[question.ours], timers[question.other]
        yield ask(question, ours, other, Budget(budget.pairs, share), clock)
