"""What a layout is."""

from dataclasses import dataclass

from ..region import Regions


@dataclass(frozen=True)
class Layout:
    """Regions with the prompt of the whole picture.

    Args:
        regions: back to front.
        prompt: what the whole picture shows; "" where the text has none.
        width, height: the picture's size in pixels; None where the text does not give it.
    """

    regions: Regions
    prompt: str = ""
    width: float | None = None
    height: float | None = None
