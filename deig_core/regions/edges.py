"""Boxes that reach beyond the picture: refused, or cut at its edge and counted."""

from dataclasses import dataclass, field

from .region import EDGE_TOLERANCE, LEAST_SIDE

Box = tuple[float, float, float, float]

EDGES = ("refuse", "clip")


@dataclass
class EdgeCutter:
    """One choice for all boxes that come in together, and the count of what it did to them.

    Args:
        edges: "refuse" leaves every box as it is, so that the region that is made of it refuses it; "clip" cuts.
    """

    edges: str = "refuse"
    cut: int = 0
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self):
        if self.edges not in EDGES:
            raise ValueError(f"edges is {self.edges!r}; it is one of {', '.join(EDGES)}.")

    def fit(self, box: Box, place: str) -> Box | None:
        """Return the box, xyxy in fractions, cut at the picture's edge if that is the choice.

        None: nothing of it lies inside the picture, or it has no area. `place` names it in `told`.
        """
        if self.edges == "refuse":
            return box
        x0, y0, x1, y1 = fitted = tuple(min(max(edge, 0.0), 1.0) for edge in box)
        if min(x1 - x0, y1 - y0) < LEAST_SIDE:
            self.left_out.append(place)
            return None
        self.cut += any(abs(a - b) > EDGE_TOLERANCE for a, b in zip(box, fitted, strict=True))
        return fitted

    def told(self) -> str:
        """What was cut and left out, in one sentence; "" if nothing was."""
        said = []
        if self.cut:
            boxes, were = ("box", "was") if self.cut == 1 else ("boxes", "were")
            said.append(f"{self.cut} {boxes} {were} cut at the picture's edge")
        if self.left_out:
            named = ", ".join(self.left_out[:5]) + (", ..." if len(self.left_out) > 5 else "")
            said.append(f"{len(self.left_out)} without area inside the picture left out ({named})")
        return "; ".join(said) + "." if said else ""
