"""Judging the pictures of a folder, one after the other; what was judged already is not judged again."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from .entries import Bench, Entry
from .figures import Judged
from .judges import Judge, Verdict
from .manifest import Folder, Record, append_line, whole_lines
from .plan import Painter
from .protocol import as_judged
from .trouble import Trouble


class ClipScore(Protocol):
    """Says how well a picture and words go together."""

    name: str

    def score(self, picture: np.ndarray, words: str) -> float:
        """Return the score of a picture (H, W, 3), uint8, RGB."""


@dataclass(frozen=True)
class Answered:
    """A judged picture.

    Args:
        key: its path below the run's folder.
        painter, seed: what painted it, from which seed.
    """

    key: str
    painter: Painter
    seed: int
    judged: Judged


def slug_of(judge: str) -> str:
    """Return a part of a file's name that tells judges apart."""
    return hashlib.sha256(judge.encode()).hexdigest()[:8]


class Answers:
    """The file of a judge's answers in a run's folder: a line for each picture, the last one of a picture holds."""

    def __init__(self, folder: Folder, judge: str):
        self.path = folder.path / f"answers-{slug_of(judge)}.jsonl"
        self._judge = judge
        self._lines: dict[str, Record] = {}
        self._read()

    def _read(self):
        for number, line in enumerate(whole_lines(self.path), start=1):
            try:
                record = json.loads(line)
                if record["judge"] == self._judge:
                    self._lines[record["picture"]] = record
            except (ValueError, TypeError, KeyError):
                raise Trouble(f"Line {number} of {self.path} is broken; take it out.") from None

    def of(self, key: str, sha256: str) -> Record | None:
        """Return what was answered about a picture as it is now; None where nothing was."""
        record = self._lines.get(key)
        return record if record and record["sha256"] == sha256 else None

    def add(self, record: Record):
        """Keep what was answered."""
        record = {"judge": self._judge, **record}
        append_line(self.path, record)
        self._lines[record["picture"]] = record


def judge_folder(
    folder: Folder, bench: Bench, judge: Judge, clip: ClipScore | None, say: Callable[[str], None]
) -> list[Answered]:
    """Judge every picture that a folder holds whole, and return them in the manifest's order.

    Args:
        clip: takes the CLIP score too.

    Raises:
        Trouble: there are none; or the judge's, and what was judged before is kept.
    """
    entries = {entry.name: entry for entry in bench.entries}
    answers = Answers(folder, judge.name)
    keys = [key for key in folder.records if folder.has(key)]
    if lost := len(folder.records) - len(keys):
        say(
            f"{lost} of {len(folder.records)} pictures are missing or not as they were painted; they are left out."
        )
    if not keys:
        raise Trouble(f"{folder.path} holds no pictures to judge.")
    for key in tqdm(keys, desc="judging", unit="picture", smoothing=0.1):
        _answer(folder, key, entries, judge, clip, answers)
    return list(answered(folder, bench, judge.name, clip is not None))


def _answer(
    folder: Folder,
    key: str,
    entries: dict[str, Entry],
    judge: Judge,
    clip: ClipScore | None,
    answers: Answers,
):
    record = folder.records[key]
    entry = entries[record["entry"]]
    known = answers.of(key, record["sha256"]) or {}
    if known and (clip is None or known.get("clip_by") == clip.name):
        return
    picture = Image.open(io.BytesIO((folder.path / key).read_bytes()))
    told: dict[str, Any] = {"picture": key, "sha256": record["sha256"]}
    told["verdicts"] = known.get("verdicts") or [asdict(verdict) for verdict in judge.look(picture, entry)]
    if clip is not None:
        told |= {"clip": clip.score(as_judged(picture), entry.caption), "clip_by": clip.name}
    answers.add(told)


def answered(folder: Folder, bench: Bench, judge: str, with_clip: bool = False) -> Iterator[Answered]:
    """Yield what a judge, by its name, has answered about the pictures of a folder."""
    entries = {entry.name: entry for entry in bench.entries}
    answers = Answers(folder, judge)
    for key, record in folder.records.items():
        told = answers.of(key, record["sha256"])
        if told is None:
            continue
        verdicts = tuple(_verdict(verdict) for verdict in told["verdicts"])
        clip = told.get("clip") if with_clip else None
        judged = Judged(entries[record["entry"]], verdicts, clip)
        yield Answered(key, Painter(**record["painter"]), record["seed"], judged)


def _verdict(told: dict[str, Any]) -> Verdict:
    return Verdict(**told | {"found": tuple(told["found"]) if told["found"] else None})


def painted_words(folder: Folder, answers: Sequence[Answered]) -> list[str]:
    """Say how pictures were painted, a sentence for each way that it was done."""
    sentences = []
    for one in answers:
        record = folder.records[one.key]
        how, versions = record["sampling"], record.get("versions", {})
        negative = f"negative prompt {how['negative']!r}" if how["negative"] else "no negative prompt"
        sampler = " ".join(filter(None, (how["sampler"], how["scheduler"])))
        comfyui, pack = (versions.get(name, "unknown") for name in ("comfyui", "pack"))
        sentences.append(
            f"Painted by {one.painter}: sampler {sampler}, {how['steps']} steps, guidance {how['guidance']:g}, "
            f"{how['size']} pixels, {negative}; ComfyUI {comfyui}, this pack {pack}."
        )
    return list(dict.fromkeys(sentences))


def judges_of(folder: Path) -> list[str]:
    """Return the names of the judges who answered about a folder."""
    names = []
    for path in sorted(folder.glob("answers-*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            names += [json.loads(line)["judge"] for line in [next(lines, "")] if line.endswith("\n")]
    return names
