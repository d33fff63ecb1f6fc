"""The authors' steps and their alpha, counted as their scripts count them."""

import numpy as np
import pytest
from deig_pack.deig_core.deig.paper import counted_schedule, paper_timesteps
from deig_pack.deig_core.fusion.schedule import Schedule

FULL = (1.0, 0.0)
ALPHAS = [
    FULL,
    (0.8, 0.1),
    (0.8, 0.2),
    (0.3, 0.5),
    (0.5, 0.0),
    (0.0, 1.0),
    (0.0, 0.4),
    (0.0, 0.0),
    (0.99, 0.01),
]


def test_forty_steps_are_forty_and_thirty_are_thirty_one():
    assert paper_timesteps(40) == [*range(976, 0, -25), 0] and len(paper_timesteps(40)) == 40 + 1
    assert paper_timesteps(30) == [*range(991, 0, -33), 0] and len(paper_timesteps(30)) == 31 + 1
    assert paper_timesteps(2) == [501, 1, 0]


def test_every_number_of_steps_is_taken_or_refused_with_a_near_one_that_works():
    refused, offered = set(), {}
    for steps in range(2, 501):
        # DDIM's uniform spacing and one on top, of 1000 timesteps that are numbered from 0.
        timesteps = np.arange(0, 1000, 1000 // steps) + 1
        if timesteps.max() < 1000:
            assert paper_timesteps(steps) == [*reversed(timesteps.tolist()), 0]
            continue
        refused.add(steps)
        with pytest.raises(ValueError, match="begin at timestep 1000") as error:
            paper_timesteps(steps)
        near = [int(word) for word in str(error.value).split("Take ")[1].rstrip(".").split(" or ")]
        offered[steps] = near
    taken = [steps for steps in range(2, 501) if steps not in refused]
    for steps, near in offered.items():
        # The next fewer and the next more, whichever there are.
        fewer, more = [n for n in taken if n < steps][-1:], [n for n in taken if n > steps][:1]
        assert near == fewer + more
    assert {3, 9, 27, 37, 111} <= refused and not {20, 25, 28, 30, 35, 40, 50} & refused


@pytest.mark.parametrize("steps", [501, 999, 1000, 1001, 5000])
def test_more_steps_than_there_are_every_other_timestep_are_refused(steps):
    with pytest.raises(ValueError, match=rf"With {steps} steps .* Take 500\.$"):
        paper_timesteps(steps)


def test_a_single_step_is_at_the_last_timestep_but_one():
    assert paper_timesteps(1) == [1, 0]


def counted_alpha(count, full, decay):
    """Alpha by the step's number, after `alpha_generator` of the authors' inference.py."""
    kept, falling = int(full * count), int(decay * count)
    return [1.0] * kept + [1 - (i + 1) / falling for i in range(falling)] + [0.0] * (count - kept - falling)


@pytest.mark.parametrize("full, decay", ALPHAS)
@pytest.mark.parametrize("steps", [2, 20, 30, 40, 50])
def test_a_schedule_by_timestep_is_alpha_by_step(steps, full, decay):
    timesteps = paper_timesteps(steps)[:-1]
    percents = [(999 - timestep) / 999 for timestep in timesteps]
    end_percent, decay_percent = counted_schedule(percents, full, decay)
    schedule = Schedule(1.0, 0.0, end_percent, decay_percent)
    got = [schedule.strength_at(percent) for percent in percents]
    expected = counted_alpha(len(timesteps), full, decay)
    assert got == pytest.approx(expected, abs=1e-12)
    # The fusers are skipped where alpha is 0, not run for nothing.
    assert [value == 0 for value in got] == [value == 0 for value in expected]


@pytest.mark.parametrize(
    "full, decay",
    [(0.8, 0.3), (-0.1, 0.5), (0.5, -0.1), (float("nan"), 0.0), (0.0, float("nan")), (0.9, 0.1 + 1e-6)],
)
def test_parts_that_are_no_parts_are_refused(full, decay):
    with pytest.raises(ValueError, match=f"alpha_full is {full} and alpha_decay {decay};"):
        counted_schedule([0.1, 0.5], full, decay)


def test_parts_that_are_more_than_all_by_rounding_alone_are_taken():
    above = 1 - 0.7 + 1e-15
    assert 0.7 + above > 1
    # Seven of ten, and three over which it falls: to 0 with the last, after 0.3 of the schedule.
    percents = [step / 10 for step in range(10)]
    assert counted_schedule(percents, 0.7, above) == pytest.approx((0.9, 0.3))
    assert counted_schedule(percents, 0.4, 0.2) == pytest.approx((0.5, 0.2))
