"""A folder of pictures and what each was made with.

run.json           which benchmark; `bench.json` beside it is its file
manifest.jsonl     a line for each picture that is whole
pictures/...       the pictures

A picture counts when its file is whole and its line is in the manifest: the file is written under another name and
moved, then the line is added, so an interruption at any time loses at most the picture that was being written.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .entries import Bench, read_bench
from .trouble import Trouble

RUN, BENCH, MANIFEST = "run.json", "bench.json", "manifest.jsonl"
Record = dict[str, Any]


class Folder:
    """A run's folder.

    Args:
        path: it need not be there yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self.records: dict[str, Record] = {}  # by the picture's path below the folder

    def begin(self, bench: Bench, name: str):
        """Open the folder for a benchmark, new or to go on with.

        Raises:
            Trouble: it holds another benchmark's pictures, or something else.
        """
        if (self.path / RUN).is_file():
            held = self._run()
            if held["digest"] != bench.digest:
                raise Trouble(
                    f"{self.path} holds pictures of another benchmark, {held['bench']}. Name another folder with --out."
                )
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise Trouble(f"{self.path} is not empty, and no run of this. Name another folder with --out.")
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.path / BENCH, bench.data)
            write_whole(self.path / RUN, _dumped({"bench": name, "kind": bench.kind, "digest": bench.digest}))
        self._read_manifest()

    def open(self) -> Bench:
        """Open the folder of a run that was made before, and return its benchmark.

        Raises:
            Trouble: there is none, or its files are broken.
        """
        if not (self.path / RUN).is_file():
            raise Trouble(f"{self.path} holds no run: it has no {RUN}. Paint one there first, with --out.")
        bench = read_bench(self.path / BENCH)
        if self._run()["digest"] != bench.digest:
            raise Trouble(
                f"{self.path / BENCH} is not the file that the pictures were painted from any more."
            )
        self._read_manifest()
        return bench

    @property
    def bench_name(self) -> str:
        """What the benchmark was called when the run began."""
        return self._run()["bench"]

    def _run(self) -> dict[str, str]:
        try:
            held = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            return {key: str(held[key]) for key in ("bench", "kind", "digest")}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Trouble(
                f"{self.path / RUN} is broken: {error!r}. Name another folder with --out."
            ) from None

    def _read_manifest(self):
        """Read the lines. The picture of one that was torn is painted anew."""
        path = self.path / MANIFEST
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                record = json.loads(line)
                self.records[record["picture"]] = record
            except (ValueError, TypeError, KeyError):
                raise Trouble(
                    f"Line {number} of {path} is broken: {line[:80]!r}. Take the line out; its picture is painted anew."
                ) from None

    def has(self, key: str) -> bool:
        """Whether a picture is there and whole."""
        record, path = self.records.get(key), self.path / key
        return record is not None and path.is_file() and digest(path.read_bytes()) == record["sha256"]

    def check(self, key: str, made_with: Record):
        """See that a picture that is there was made as it would be now.

        Raises:
            Trouble: it was not; names what differs.
        """
        held, wanted = _flat(self.records[key]), _flat(made_with)
        for name, value in wanted.items():
            if held.get(name) != value:
                raise Trouble(
                    f"{self.path / key} was made otherwise: its {name} is {_short(held.get(name))}, and would be "
                    f"{_short(value)} now. Name another folder with --out."
                )

    def add(self, key: str, data: bytes, record: Record):
        """Keep a picture and what it was made with."""
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        record = {"picture": key, "sha256": digest(data), **record}
        append_line(self.path / MANIFEST, record)
        self.records[key] = record


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, data: bytes):
    """Write a file so that it is there whole or not at all."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that `append_line` wrote; none where there is no file.

    The last one may be torn by an interruption: it is cut off the file.
    """
    data = path.read_bytes() if path.exists() else b""
    *lines, torn = data.split(b"\n")
    if torn:
        write_whole(path, data[: len(data) - len(torn)])
    return lines


def append_line(path: Path, record: Record):
    """Add a line of JSON to a file; it is on the disk when this returns."""
    with path.open("ab") as file:
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _dumped(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _flat(record: Record) -> Record:
    """Return a record with what lies in its records beside the rest: "sampling.steps"."""
    flat: Record = {}
    for name, value in record.items():
        flat |= (
            {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."
