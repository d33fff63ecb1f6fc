"""What a figure should be, and how it stands to that."""

from dataclasses import dataclass
from enum import Enum


class Ruling(str, Enum):
    """How a figure stands to its bar."""

    MET = "met"
    NOT_MET = "not met"
    CANNOT_TELL = "cannot tell here"
    CANNOT_BE = "cannot be"

    @classmethod
    def of(cls, is_met: bool) -> "Ruling":
        return cls.MET if is_met else cls.NOT_MET


@dataclass(frozen=True)
class Bar:
    """A figure and what it should be, as words.

    Args:
        what: of what it is the figure.
        wanted, measured: what it should be, and what it is.
        ruling: how the one stands to the other.
        where: at which size and precision, where there is more than one.
    """

    what: str
    wanted: str
    measured: str
    ruling: Ruling
    where: str = ""

    @classmethod
    def at_most(cls, what: str, value: float, limit: float, where: str = "") -> "Bar":
        return cls(what, f"at most {limit:g}", f"{value:.4g}", Ruling.of(value <= limit), where)

    @classmethod
    def at_least(cls, what: str, value: float, limit: float, where: str = "") -> "Bar":
        return cls(what, f"at least {limit:g}", f"{value:.4g}", Ruling.of(value >= limit), where)

    @property
    def met(self) -> bool:
        return self.ruling is Ruling.MET
