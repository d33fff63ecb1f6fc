"""Entities: regions whose phrases were read by the model's own text encoder, and when they act."""

from dataclasses import dataclass

import torch

from ..fusion.schedule import Schedule, is_active
from ..regions.region import Regions


@dataclass(frozen=True, eq=False)
class Entities:
    """What one conditioning entry has to paint, beside its prompt.

    Args:
        regions: N regions.
        texts: N texts as the text encoder gave them, (1, tokens, width) each.
        schedule: when all of them act, and how strongly.

    Raises:
        ValueError: if there is not one text for each region.
    """

    regions: Regions
    texts: tuple[torch.Tensor, ...]
    schedule: Schedule = Schedule()

    def __post_init__(self):
        if len(self.regions) != len(self.texts):
            raise ValueError(
                f"{len(self.regions)} regions and {len(self.texts)} texts; each region takes one."
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens each text has."""
        return tuple(text.shape[1] for text in self.texts)

    @property
    def is_timed(self) -> bool:
        """Whether it makes a difference how far the schedule is."""
        acting = (self.schedule, *self.regions)
        return self.schedule.decay_percent > 0 or any(
            (one.start_percent, one.end_percent) != (0, 1) for one in acting
        )

    def strengths_at(self, percent: float) -> dict[int, float]:
        """Return the entities that act at a point of the schedule, and how much image tokens attend to each."""
        overall = self.schedule.strength_at(percent)
        return {
            i: overall * region.strength
            for i, region in enumerate(self.regions)
            if overall * region.strength > 0 and is_active(region.start_percent, region.end_percent, percent)
        }
