"""Benchmark files: DEIG-Bench, MIG-Bench, and files of one's own in either form.

An entry is one picture to paint: instances with their places, as `deig_core` reads them, and what the benchmark asks
about each. The files are the authors' and are not in this repository; `find_bench` says where they are looked for.
"""

import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deig_core.regions.layouts import Layout, read_layout

from .colour import RANGES
from .trouble import Trouble

DEIG, MIG = "deig-bench", "mig-bench"
FILES = {DEIG: "deig_bench_coco.json", MIG: "mig_bench_coco.json"}
# DEIG-Bench's levels, by what an object's description has beside its colour: (material, texture).
OBJECT_LEVELS = {(False, False): "L1", (True, False): "L2", (False, True): "L3", (True, True): "L4"}
PERSON_LEVELS = {1: "C1", 2: "C2", 3: "C3"}  # by the number of coloured garments
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Instance:
    """One instance and what is asked about it.

    Args:
        phrase: what is painted there.
        box: (x0, y0, x1, y1), fractions of the picture, as the file has them.
        category: the words that the detector is asked for.
        level: DEIG-Bench's "C1" to "C3" and "L1" to "L4"; "" where the file says none.
        colour: MIG-Bench's one colour; "" elsewhere.
    """

    phrase: str
    box: tuple[float, float, float, float]
    category: str
    level: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Entry:
    """One picture to paint.

    Args:
        name: tells it from the others, and names its picture's file.
        caption: what CLIP compares the picture with; not always what it is painted from.
        layout: its regions and prompt.
        seed: added to the run's own; 0 but in files of shapes.
        scene: what the small model's judge needs; None in other files.
    """

    name: str
    caption: str
    instances: tuple[Instance, ...]
    layout: Layout
    seed: int = 0
    scene: dict[str, Any] | None = None


@dataclass(frozen=True)
class Bench:
    """A benchmark file.

    Args:
        kind: `DEIG` or `MIG`, the form it has and the way it is scored.
        data: the file as it was read.
    """

    kind: str
    entries: tuple[Entry, ...]
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def of_shapes(self) -> bool:
        """Whether it was made from the small model's scenes."""
        return all(entry.scene is not None for entry in self.entries)


def find_bench(name: str) -> Path:
    """Return the file of a benchmark by its name, or a file by its path.

    Raises:
        Trouble: it is nowhere; says where it was looked for.
    """
    if name not in FILES:
        if not Path(name).is_file():
            raise Trouble(f"There is no file {name}. Name one, or a benchmark: {', '.join(FILES)}.")
        return Path(name)
    places = [Path.cwd(), Path.cwd() / "eval"]
    if reference := os.environ.get("DEIG_PATH"):
        places.insert(0, Path(reference) / "eval")
    for place in places:
        if (place / FILES[name]).is_file():
            return place / FILES[name]
    raise Trouble(
        f"{FILES[name]} was not found in {', '.join(map(str, places))}. It belongs to DEIG's authors: get it from "
        "github.com/dushy5/DEIG, folder eval, and give its path instead of the name, or set DEIG_PATH to your "
        "copy of that repository."
    )


def read_bench(path: Path) -> Bench:
    """Read a benchmark file.

    Raises:
        Trouble: it cannot be read as one; says where it is broken.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return bench_of(data)
    except ValueError as error:
        raise Trouble(f"{path} is no benchmark file. {error}") from None


def bench_of(data: bytes) -> Bench:
    """Read a benchmark file's bytes.

    Raises:
        ValueError: where it is broken, and how.
    """
    try:
        parsed = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"It is no JSON: {error}.") from None
    if isinstance(parsed, dict) and isinstance(parsed.get("results"), list):
        parsed = parsed["results"]  # DEIG-Bench as it is released
    if isinstance(parsed, list):
        named = [(_file_stem(entry, number), entry) for number, entry in enumerate(parsed)]
    elif isinstance(parsed, dict):
        named = list(parsed.items())
    else:
        named = []
    kind = _kind_of([entry for _, entry in named])
    read = _deig_entry if kind == DEIG else _mig_entry
    entries = []
    for number, (name, raw) in enumerate(named):
        try:
            _check_name(name)
            entries.append(read(name, raw))
        except ValueError as error:
            raise ValueError(f"Entry {number} ({name!r}): {error}") from None
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Two entries have the name {twin!r}; each needs its own.")
    return Bench(kind, tuple(entries), data)


def _file_stem(entry: Any, number: int) -> str:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return Path(name).stem if isinstance(name, str) and name else str(number)


def _kind_of(entries: Sequence[Any]) -> str:
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            "It should hold entries, objects that have `instances` or `segment`, and holds none."
        )
    for kind, key in ((DEIG, "instances"), (MIG, "segment")):
        if all(key in entry for entry in entries):
            return kind
    raise ValueError("Every entry should have `instances`, as DEIG-Bench's do, or `segment`, as MIG-Bench's.")


def _check_name(name: str):
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError("its name cannot be a file's.")


def _deig_entry(name: str, raw: dict) -> Entry:
    layout = read_layout(json.dumps(raw), DEIG)
    pairs = zip(raw["instances"], layout.regions, strict=True)
    instances = tuple(
        Instance(region.phrase, tuple(each["bbox"]), _text(each, "category", i), _level(each, i))
        for i, (each, region) in enumerate(pairs)
    )
    seed = raw.get("seed", 0)
    if type(seed) is not int:
        raise ValueError(f"seed should be a whole number, but it is {seed!r}.")
    return Entry(name, _caption(raw), instances, layout, seed, raw.get("scene"))


def _level(raw: dict, number: int) -> str:
    """The level that DEIG-Bench's script counts an instance in; "" where it counts it in none."""
    info = raw.get("eval_info") or {}
    try:
        metrics = info.get("eval_metrics", {})
        if info.get("type") == "person":
            return PERSON_LEVELS.get(metrics.get("color", {}).get("num_colors", 0), "")
        if info.get("type") == "object":
            material = bool(metrics.get("material", {}).get("has_material", False))
            return OBJECT_LEVELS[material, bool(metrics.get("texture", {}).get("has_texture", False))]
    except (AttributeError, TypeError):
        raise ValueError(f"instances[{number}].eval_info is not as DEIG-Bench writes it: {info!r}.") from None
    return ""


def _mig_entry(name: str, raw: dict) -> Entry:
    layout = read_layout(json.dumps(raw), MIG)
    instances = []
    for i, (each, region) in enumerate(zip(raw["segment"], layout.regions, strict=True)):
        # As "a red fire hydrant": an article, one colour, and what the detector looks for.
        words = region.phrase.split(" ")
        if len(words) < 3 or words[1] not in RANGES:
            raise ValueError(
                f"segment[{i}].label is {region.phrase!r}; MIG-Bench's are an article, one of the colours "
                f"{', '.join(RANGES)}, and a noun."
            )
        instances.append(Instance(region.phrase, tuple(each["bbox"]), " ".join(words[2:]), colour=words[1]))
    if not 2 <= len(instances) <= 6:
        raise ValueError(f"it has {len(instances)} instances; MIG-Bench's levels are of 2 to 6.")
    return Entry(name, _caption(raw), tuple(instances), layout)


def _text(raw: dict, key: str, number: int) -> str:
    if not isinstance(raw.get(key), str) or not raw[key].strip():
        raise ValueError(f"instances[{number}].{key} should be text, but it is {raw.get(key)!r}.")
    return raw[key]


def _caption(raw: dict) -> str:
    caption = raw.get("caption", "")
    if not isinstance(caption, str):
        raise ValueError(f"caption should be text, but it is {caption!r}.")
    return caption


def sample(entries: Sequence[Entry], count: int | None) -> list[Entry]:
    """Return `count` entries in the file's order, or all of them for None.

    A larger sample holds every smaller one, so that a quick look is no work lost.
    """
    if count is None or count >= len(entries):
        return list(entries)
    order = list(range(len(entries)))
    random.Random(SAMPLE_SEED).shuffle(order)
    return [entries[i] for i in sorted(order[:count])]
