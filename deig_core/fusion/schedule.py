"""When something acts within a sampling run, and how strongly."""

from dataclasses import dataclass

from ..regions.region import Regions


@dataclass(frozen=True)
class Schedule:
    """When DEIG acts on a picture and how strongly: full strength, then a linear decay, then off.

    Args:
        strength: multiplies both gates of every fuser while it acts, 0 or more.
        start_percent: where in the sampling schedule it begins, 0 to 1.
        end_percent: where it ends, 0 to 1.
        decay_percent: over how much of the schedule before the end the strength falls linearly to 0; 0 or more.
            What would begin before the start never reaches full strength.

    Raises:
        ValueError: naming the value that does not fit.
    """

    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    decay_percent: float = 0.0

    def __post_init__(self):
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength is {self.strength}; it takes 0 or more.")
        if not 0 <= self.start_percent <= self.end_percent <= 1:
            raise ValueError(
                f"start_percent is {self.start_percent} and end_percent {self.end_percent}; both take 0 to 1, "
                "and the start must not come after the end."
            )
        if not 0 <= self.decay_percent < float("inf"):
            raise ValueError(f"decay_percent is {self.decay_percent}; it takes 0 or more.")

    def strength_at(self, percent: float) -> float:
        """Return the strength at a point of the schedule, 0 (noise) to 1 (clean)."""
        if not is_active(self.start_percent, self.end_percent, percent):
            return 0.0
        remaining = self.end_percent - percent
        return (
            self.strength
            if remaining >= self.decay_percent
            else self.strength * remaining / self.decay_percent
        )


def is_active(start_percent: float, end_percent: float, percent: float) -> bool:
    """Tell whether a point of the schedule lies in [start, end); the schedule's own last point is in too."""
    return start_percent <= percent and (percent < end_percent or end_percent == 1.0)


def active_regions(regions: Regions, percent: float) -> tuple[int, ...]:
    """Return which regions act at a point of the schedule; those of strength 0 never do."""
    return tuple(
        i
        for i, region in enumerate(regions)
        if region.strength > 0 and is_active(region.start_percent, region.end_percent, percent)
    )
