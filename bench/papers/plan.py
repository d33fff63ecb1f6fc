"""What there is to paint: every entry, by every painter, from every seed."""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.graph import Prompt

from .entries import Entry
from .graph import DEIG_WAYS, GROUNDED, graph_of
from .protocol import Sampling


@dataclass(frozen=True)
class Painter:
    """A way of painting with its models, by their names on the servers; "" where the way needs none."""

    way: str
    checkpoint: str
    adapter: str = ""
    text_encoder: str = ""

    @property
    def files(self) -> tuple[str, str, str]:
        """Checkpoint, adapter and text encoder."""
        return self.checkpoint, self.adapter, self.text_encoder

    @property
    def folder(self) -> str:
        """Its folder of pictures. A hash tells painters apart whose names are alike."""
        plain = re.sub(r"[^\w.-]+", "-", f"{self.way}-{_stem(self.checkpoint)}")
        return f"{plain[:60]}-{hashlib.sha256(repr(self).encode()).hexdigest()[:6]}"

    def __str__(self) -> str:
        """What it paints with."""
        return ", ".join([self.way, *filter(None, self.files)])


def _stem(file: str) -> str:
    return Path(file.replace("\\", "/")).stem


def short_names(painters: Sequence[Painter]) -> dict[Painter, str]:
    """Return what painters are called beside each other: the way, and those of their files in which they differ."""
    painters = list(dict.fromkeys(painters))
    named = [painter for painter in painters if painter.way in GROUNDED]
    differing = [
        number
        for number in range(3)
        if len({painter.files[number] for painter in (painters if number == 0 else named)} - {""}) > 1
    ]
    return {
        painter: ", ".join([painter.way, *(_stem(painter.files[i]) for i in differing if painter.files[i])])
        for painter in painters
    }


def painters_of(
    ways: Sequence[str], checkpoints: Sequence[str], adapters: Sequence[str], text_encoder: str
) -> list[Painter]:
    """Return every way with every checkpoint, and with every adapter where it takes one, each once."""
    painters = [
        Painter(way, checkpoint, adapter if way in GROUNDED else "", text_encoder if way in DEIG_WAYS else "")
        for way, checkpoint, adapter in itertools.product(ways, checkpoints, adapters or [""])
    ]
    return list(dict.fromkeys(painters))


@dataclass(frozen=True)
class Task:
    """One picture to paint."""

    painter: Painter
    seed: int
    entry: Entry
    sampling: Sampling

    @property
    def key(self) -> str:
        """Where its picture lies, below the run's folder."""
        return f"pictures/{self.painter.folder}/{self.seed}/{self.entry.name}.png"

    def graph(self) -> Prompt:
        """Return the graph that paints it."""
        seed = (self.seed + self.entry.seed) % 2**64
        painter = self.painter
        return graph_of(
            painter.way,
            (painter.checkpoint, painter.adapter, painter.text_encoder),
            self.sampling,
            self.entry.layout,
            seed,
        )

    def made_with(self) -> dict[str, Any]:
        """Return all that the picture hangs on, but for the files themselves and the versions."""
        return {
            "entry": self.entry.name,
            "seed": self.seed,
            "painter": asdict(self.painter),
            "sampling": asdict(self.sampling),
            "graph": graph_digest(self.graph()),
        }


def graph_digest(graph: Prompt) -> str:
    """SHA-256 of a graph, whatever the order of its nodes and inputs."""
    return hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest()


def plan(
    entries: Sequence[Entry], painters: Sequence[Painter], seeds: Sequence[int], sampling: Sampling
) -> list[Task]:
    """List the tasks: one painter after the other, so that a server need not change its models often."""
    return [
        Task(painter, seed, entry, sampling)
        for painter, seed, entry in itertools.product(painters, seeds, entries)
    ]
