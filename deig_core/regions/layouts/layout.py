"""What a layout is, and what it is made of: entries as a text gives them, before they are known to fit."""

from dataclasses import dataclass, field
from typing import Any

from ..colours import coloured
from ..edges import EdgeCutter
from ..region import Regions
from . import fields
from .run_length import limit_in_all


@dataclass(frozen=True)
class Layout:
    """Regions with the prompt of the whole picture.

    Args:
        regions: back to front.
        prompt: what the whole picture shows; "" where the text has none.
        width, height: the picture's size in pixels; None where the text does not give it.
        report: what was cut at the picture's edge and left out; "" if nothing was.
    """

    regions: Regions
    prompt: str = ""
    width: float | None = None
    height: float | None = None
    report: str = ""


@dataclass(frozen=True)
class Entry:
    """One region as its text gives it.

    Args:
        place: where it stands in the text, for messages: "annos[2]".
        box: xyxy, fractions of the image; it may reach beyond it, or have no area.
        others: the region's other values by their names in `Region`.
        palette: the colours that it names beside its phrase, as they stand there.
    """

    place: str
    phrase: str
    box: fields.Box
    others: dict = field(default_factory=dict)
    palette: Any = None


@dataclass(frozen=True)
class Draft:
    """What a reader found: a layout whose boxes have not met the picture's edges yet."""

    entries: tuple[Entry, ...]
    prompt: str = ""
    width: float | None = None
    height: float | None = None

    def finished(self, edges: str, colours: bool) -> Layout:
        """Make the layout.

        Args:
            edges: whether boxes that reach beyond the picture are refused or cut: one of edges.EDGES.
            colours: whether the words of an entry's palette go into its phrase.
        """
        limit_in_all(entry.others["mask"] for entry in self.entries if "mask" in entry.others)
        cutter = EdgeCutter(edges)
        regions = []
        for entry in self.entries:
            box = cutter.fit(tuple(fields.on_edge(edge) for edge in entry.box), entry.place)
            if box is not None:
                phrase = entry.phrase
                if colours:
                    phrase = coloured(phrase, entry.palette, f"{entry.place}, its palette")
                regions.append(fields.region(phrase, box, entry.place, **entry.others))
        return Layout(tuple(regions), self.prompt, self.width, self.height, cutter.told())
