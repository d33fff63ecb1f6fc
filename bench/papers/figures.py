"""Sums over judged pictures, as the papers' scripts make them.

MAA (multi-attribute accuracy) of a level is the share of its instances that succeed: found in their place and answered
with yes. The paper says "correctly identified by the VLM"; that an instance has to be in its place first is the
script's. The instance success rate of MIG-Bench is the same share, by how many instances the picture has. Averages are
over instances, not over levels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .entries import MIG, OBJECT_LEVELS, PERSON_LEVELS, Entry, Instance
from .judges import Verdict

ALL, PEOPLE, OBJECTS = "all", "people", "objects"
PEOPLE_GROUPS, OBJECT_GROUPS = tuple(PERSON_LEVELS.values()), ("L1", "L2", "L3", "L4")
COUNT_GROUPS = ("L2", "L3", "L4", "L5", "L6")  # MIG-Bench: by the number of instances
assert set(OBJECT_GROUPS) == set(OBJECT_LEVELS.values())


@dataclass(frozen=True)
class Judged:
    """A picture's entry, the verdicts on its instances, and its CLIP score where that was taken."""

    entry: Entry
    verdicts: tuple[Verdict, ...]
    clip: float | None = None


@dataclass(frozen=True)
class Sums:
    """Of a group of instances.

    Args:
        instances: how many.
        succeeded: how many of them succeed.
        placed: how many of them are in their place.
        iou: mean IoU over those where it was measured; None where there is none.
        pictures: how many pictures they are of, where the group is of whole pictures; else 0.
        whole: how many of these pictures have every instance succeed.
    """

    instances: int
    succeeded: int
    placed: int
    iou: float | None
    pictures: int = 0
    whole: int = 0

    @property
    def rate(self) -> float | None:
        """Share of the instances that succeed: MAA, or the instance success rate."""
        return self.succeeded / self.instances if self.instances else None

    @property
    def whole_rate(self) -> float | None:
        """Share of the pictures with every instance right: the scripts' success ratio."""
        return self.whole / self.pictures if self.pictures else None


@dataclass(frozen=True)
class Figures:
    """Of a group of pictures: sums by group, and the mean CLIP score, 100 times the cosine; None where not taken."""

    sums: dict[str, Sums]
    clip: float | None


def figures_of(kind: str, judged: Sequence[Judged]) -> Figures:
    """Sum up judged pictures of a benchmark of a kind."""
    parts: dict[str, list[Verdict]] = {name: [] for name in groups_of(kind)}
    pictures: dict[str, list[bool]] = {}
    for one in judged:
        for instance, verdict in zip(one.entry.instances, one.verdicts, strict=True):
            for name in _groups(kind, one.entry, instance):
                parts[name].append(verdict)
        is_whole = all(verdict.succeeds for verdict in one.verdicts)
        for name in _picture_groups(kind, one.entry):
            pictures.setdefault(name, []).append(is_whole)
    scores = [one.clip for one in judged if one.clip is not None]
    sums = {name: _sums(verdicts, pictures.get(name, ())) for name, verdicts in parts.items()}
    return Figures(sums, _mean(scores))


def groups_of(kind: str) -> tuple[str, ...]:
    """Return the names of a benchmark's groups, in the order of the paper's tables."""
    if kind == MIG:
        return (*COUNT_GROUPS, ALL)
    return (*PEOPLE_GROUPS, PEOPLE, *OBJECT_GROUPS, OBJECTS, ALL)


def _groups(kind: str, entry: Entry, instance: Instance) -> Iterator[str]:
    yield from _picture_groups(kind, entry)
    if instance.level:
        yield instance.level
        yield PEOPLE if instance.level in PEOPLE_GROUPS else OBJECTS


def _picture_groups(kind: str, entry: Entry) -> Iterator[str]:
    yield ALL
    if kind == MIG:
        yield f"L{len(entry.instances)}"


def _sums(verdicts: Sequence[Verdict], wholes: Sequence[bool]) -> Sums:
    return Sums(
        len(verdicts),
        sum(verdict.succeeds for verdict in verdicts),
        sum(verdict.placed for verdict in verdicts),
        _mean(verdict.iou for verdict in verdicts if verdict.iou is not None),
        len(wholes),
        sum(wholes),
    )


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
