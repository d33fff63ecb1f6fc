"""Grounding: an adapter, a list of instances, and what happens where they overlap."""

from dataclasses import dataclass

from ..fusion.instances import EncodedText, Instances
from ..fusion.schedule import is_active
from .adapter import Adapter
from .refiner import Refiner

TRAINED_INSTANCES = 30


@dataclass(frozen=True, eq=False)
class Grounding:
    """Instances, the adapter that paints them, and what happens where they overlap.

    Args:
        refiner: the adapter with its memory of tokens.
        instances: what goes where.
        front: where places overlap the later region gets the tokens, instead of all sharing them.

    Raises:
        ValueError: if the phrases were encoded at another width than the adapter reads.
    """

    refiner: Refiner
    instances: Instances
    front: bool = False

    def __post_init__(self):
        check_width(self.refiner.adapter, self.instances.text)

    def active(self, percent: float) -> tuple[int, ...]:
        """Return the regions that act at a point of the schedule; those of strength 0 never do."""
        return tuple(
            i
            for i, region in enumerate(self.instances.regions)
            if region.strength > 0 and is_active(region.start_percent, region.end_percent, percent)
        )


def check_width(adapter: Adapter, text: EncodedText):
    """Refuse features of another width than the adapter's IDE reads.

    Raises:
        ValueError: naming both widths.
    """
    given, wanted = text.features.shape[-1], adapter.sizes.ide.text_width
    if given != wanted:
        released = " (Flan-T5-XL)" if wanted == 2048 else ""
        raise ValueError(
            f"The text encoder '{text.encoder}' gives features {given} wide, but this adapter reads features "
            f"{wanted} wide{released}. In 'DEIG Load Text Encoder' choose the encoder that the adapter was "
            "trained with, or load another adapter."
        )
