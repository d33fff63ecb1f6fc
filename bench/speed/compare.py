"""Answers questions about cases in the host: counts and looks at each once, then times them in pairs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from tqdm import tqdm

from .counting import count_multiplications
from .measure import Measured, measuring
from .pairs import Budget, CaseName, Pairing, Timer, ask_all
from .results import Compared, Once


class CanBeTimed(Protocol):
    """A case; `cases.Case` at one size of picture."""

    def call(self, steps: int = 1, meter=None) -> object:
        """Sample; each step runs in a meter, as `measure.timing` is one."""

    def seconds(self, steps: int) -> float:
        """Sample, and return the seconds of a step."""


def look_at(case: CanBeTimed, steps: int) -> Once:
    """Run a case until it remembers what it will, then count its multiplications and see its peak."""
    case.call(steps=steps)
    measured = Measured()
    count = count_multiplications(partial(case.call, meter=partial(measuring, measured)))
    return Once(count, measured.peak[0])


def compare(
    makers: Mapping[CaseName, Callable[[], CanBeTimed]],
    pairings: Sequence[Pairing],
    budget: Budget,
    name: str,
    steps: int = 1,
    keep: Callable[[Compared], None] = lambda _: None,
) -> Compared:
    """Ask pairings of cases.

    Args:
        makers: of each case that is asked for, and maybe of others.
        budget: of all questions together, as `ask_all` takes it.
        name: of the whole, for the progress bar.
        steps: of each run that is timed; of several the first is left out.
        keep: called after each answer with all that is known: hours of them are lost by nothing.
    """
    cases, once = {}, {}
    wanted = dict.fromkeys(case for pairing in pairings for case in (pairing.ours, pairing.other))
    with tqdm(wanted, desc=f"{name}: counting", unit="case") as bar:
        for case in bar:
            bar.set_postfix_str(str(case))
            try:
                cases[case] = makers[case]()
                once[case] = look_at(cases[case], steps)
            except torch.OutOfMemoryError:
                bar.write(f"{case} at {name} is more than this device's memory holds; it is left out.")
    counted = {case: one.multiplications for case, one in once.items()}
    questions = [
        pairing.question(counted) for pairing in pairings if {pairing.ours, pairing.other} <= once.keys()
    ]
    timers: dict[CaseName, Timer] = {case: partial(cases[case].seconds, steps) for case in once}
    answers = []
    with tqdm(total=len(questions), desc=f"{name}: in pairs", unit="question") as bar:
        for answer in ask_all(questions, timers, budget):
            bar.update()
            bar.write(f"  {answer.question}: {answer.spread}")
            answers.append(answer)
            keep(Compared(once, tuple(answers)))
    return Compared(once, tuple(answers))
