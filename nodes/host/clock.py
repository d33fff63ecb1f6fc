"""How far the schedule is at a sigma."""

from copy import deepcopy
from functools import cached_property

import torch


class Clock:
    """Turns sigmas into points of the schedule: the host's `percent_to_sigma` backwards.

    Args:
        model_sampling: the host's, which knows what a sigma means.
    """

    def __init__(self, model_sampling: torch.nn.Module):
        self.model_sampling = model_sampling
        self._percents: dict[float, float] = {}

    @cached_property
    def _at_hand(self) -> torch.nn.Module:
        # On the device each of the many questions below would be waited for.
        return deepcopy(self.model_sampling).cpu()

    def percent(self, sigma: float) -> float:
        """Return the point of the schedule, 0 to 1, that a sigma stands for."""
        if sigma not in self._percents:
            low, high = 0.0, 1.0
            for _ in range(32):
                middle = (low + high) / 2
                if float(self._at_hand.percent_to_sigma(middle)) >= sigma:
                    low = middle
                else:
                    high = middle
            self._percents[sigma] = low
        return self._percents[sigma]
