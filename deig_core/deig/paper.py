"""Sampling as DEIG's authors do it: which timesteps are taken, and how alpha, the strength of the fusers, is counted.

After `ldm/models/diffusion/euler.py` and `inference.py` of their repository: timesteps in DDIM's uniform spacing plus
one, alpha by the number of the step. Everywhere else in this pack a schedule follows the timestep; on this spacing the
two agree, and `counted_schedule` says with which numbers.
"""

from collections.abc import Sequence

TIMESTEPS = 1000  # of Stable Diffusion's training


def paper_timesteps(steps: int) -> list[int]:
    """Return the timesteps that are denoised, noisiest first, and 0, at which sampling ends.

    The spacing is a whole number, so more steps than were asked for may be taken: 40 for 40, 31 for 30.

    Args:
        steps: how many are asked for, 1 or more.

    Raises:
        ValueError: where the first timestep would be 1000, which the model does not have.
    """
    stride = TIMESTEPS // steps
    taken = range(1, TIMESTEPS + 1, stride) if stride else ()
    if not taken or taken[-1] == TIMESTEPS:
        fitting = [count for count in range(2, TIMESTEPS // 2 + 1) if (TIMESTEPS - 1) % (TIMESTEPS // count)]
        below = max((count for count in fitting if count < steps), default=None)
        above = min((count for count in fitting if count > steps), default=None)
        near = " or ".join(str(count) for count in (below, above) if count)
        raise ValueError(
            f"With {steps} steps the authors' spacing would begin at timestep {TIMESTEPS}, and the model has 0 to "
            f"{TIMESTEPS - 1}. Take {near}."
        )
    return [*reversed(taken), 0]


def counted_schedule(percents: Sequence[float], full: float, decay: float) -> tuple[float, float]:
    """Return the (end_percent, decay_percent) of a `Schedule` whose strength is the authors' alpha at every step.

    Alpha is 1 for the first int(full * n) of n steps, falls over the next d = int(decay * n), whose values are
    (d - 1) / d, ..., 1 / d, 0, and is 0 from there on: it falls below 1 with the first of these steps, and is 0 with
    the last of them.

    Args:
        percents: the points of the schedule, 0 to 1, at which the steps lie, evenly spaced and rising; two or more.
        full, decay: for which part of the steps alpha is 1, and over which it falls, each 0 to 1.

    Raises:
        ValueError: where the two are more than all steps.
    """
    if not (full >= 0 and decay >= 0 and full + decay <= 1 + 1e-9):
        raise ValueError(
            f"alpha_full is {full} and alpha_decay {decay}; each takes 0 or more, and both together at most 1: what "
            "is left of the steps is without DEIG."
        )
    count = len(percents)
    kept, falling = int(full * count), int(decay * count)
    if kept == count:
        return 1.0, 0.0
    if not falling:
        return percents[kept], 0.0
    spacing = (percents[-1] - percents[0]) / (count - 1)
    return percents[kept + falling - 1], falling * spacing
