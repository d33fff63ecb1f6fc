"""Put faults into the code, one at a time, and see whether a test notices.

    python -m tests.mutate FAULTS.json [--host COMFYUI] [--only TEXT] [--limit SECONDS]

FAULTS.json is a list of {"file": ..., "old": ..., "new": ...}; `old` stands exactly once in the file. A fault that
changes nothing that anybody could see has a reason under "equivalent" and is not tried. Who draws a list should not
have read the tests. Each fault is put into a copy of the repository; of its tests those that import the file run until
one fails: those that need no host, then those in a real one, then the browser's, and of each the nearest first. Run it
in an environment of `run.py test` (its Python, with ComfyUI's requirements); tests that it skips notice nothing.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .imports import imported

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("small_model/weights",)  # large, and no fault is put there
WANTED = 0.9  # the share of faults that tests should notice
LIMIT = 1200.0  # seconds for one pytest
LONGEST_TEST = 600  # seconds; one that takes longer has noticed a fault by not ending
# What takes long to start; each of these runs in a pytest of its own, when what is quicker has noticed nothing.
SLOW = ("tests/host", "tests/browser")
# Tests of what is not Python, which imports nothing that could be followed.
TESTS_OF = {
    ".js": ("tests/web", "tests/browser"),
    ".css": ("tests/browser",),
    ".json": ("tests/host/test_workflows.py",),
}


@dataclass(frozen=True)
class Fault:
    """A change of one place in one file.

    Raises:
        ValueError: if the file does not hold the old text exactly once.
    """

    file: str
    old: str
    new: str
    equivalent: str = ""

    def put_into(self, root: Path):
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {self.old!r} {text.count(self.old)} times instead of once.")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def importers(root: Path) -> dict[str, set[str]]:
    """Return for each Python file below `root`, as a path without its ending, the files that import it."""
    files = [path for path in root.rglob("*.py") if ".git" not in path.parts]
    names = {str(path.relative_to(root).with_suffix("")).removesuffix("/__init__"): path for path in files}
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for target in imported(path, root):
            # `from a.b import c` names a module c of a.b, or something that a/b.py holds.
            for module in (target, target.rpartition("/")[0]):
                if module in found:
                    found[module].add(name)
                    break
    return found


def nearest_tests(file: str, root: Path) -> list[str]:
    """Return the tests that import a file, directly or not, the nearest first; all tests where none does."""
    if (suffix := Path(file).suffix) != ".py":
        return list(TESTS_OF.get(suffix, ("tests",)))
    graph, seen = importers(root), [file.removesuffix(".py").removesuffix("/__init__")]
    for name in seen:  # grows while it is walked through, which makes it breadth first
        seen += sorted(graph.get(name, set()) - set(seen))
    # run.py is read by its path and not imported.
    tests = [f"{name}.py" for name in seen if Path(name).name.startswith("test_")]
    return tests or ["tests/test_run.py" if file == "run.py" else "tests"]


def copy_of(root: Path, place: Path):
    """Copy what git knows of a repository; large folders are linked."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if not name.startswith(LINKED) and (root / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, place / name)
    for name in LINKED:
        if (root / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(root / name)


def rounds(tests: Sequence[str]) -> list[list[str]]:
    """Split tests into what runs in one pytest each, the quickest first; each keeps its order."""
    split = [[test for test in tests if not test.startswith(SLOW)]]
    split += [[test for test in tests if test.startswith(slow)] for slow in SLOW]
    return [tests for tests in split if tests]


def noticed(fault: Fault, root: Path, host: Path | None, limit: float) -> tuple[str, bool]:
    """Return the first test that fails with a fault, or nothing, and whether all tests had time to run."""
    with tempfile.TemporaryDirectory(prefix="deig-mutate-") as folder:
        place = Path(folder)
        copy_of(root, place)
        tests = nearest_tests(fault.file, place)
        fault.put_into(place)
        environment = os.environ | {"COMFYUI_PATH": str(host or "")}
        ended = True
        for chosen in rounds(tests):
            limits = (f"--timeout={LONGEST_TEST}", f"--session-timeout={limit}")
            command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", *limits, *chosen]
            done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
            if done.returncode in (0, 5):  # 5: no tests there
                continue
            if found := re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE):
                return found[1], True
            if "session-timeout" not in done.stdout:
                return f"pytest, which ends with {done.returncode}", True
            ended = False
    return "", ended


def report(faults: Sequence[Fault], root: Path, host: Path | None, limit: float = LIMIT) -> float:
    """Try faults, print what becomes of each, and return the share that was noticed."""
    tried = [fault for fault in faults if not fault.equivalent]
    killed = 0
    for number, fault in enumerate(tried, start=1):
        by, ended = noticed(fault, root, host, limit)
        killed += bool(by)
        survives = "SURVIVES" if ended else "SURVIVES as far as there was time"
        verdict = f"noticed by {by}" if by else survives
        print(
            f"{number:4} {fault.file}: {fault.old.strip()!r} -> {fault.new.strip()!r}: {verdict}", flush=True
        )
    share = killed / max(len(tried), 1)
    print(f"{killed} of {len(tried)} noticed ({share:.0%}); {len(faults) - len(tried)} equivalent")
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", type=Path)
    parser.add_argument("--host", type=Path, help="a ComfyUI; without one the host tests do not count")
    parser.add_argument("--only", default="", help="try the faults in files whose path holds this")
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help="seconds for one pytest (default: %(default)g)"
    )
    arguments = parser.parse_args()
    faults = [Fault(**entry) for entry in json.loads(arguments.faults.read_text(encoding="utf-8"))]
    chosen = [fault for fault in faults if arguments.only in fault.file]
    return int(report(chosen, ROOT, arguments.host, arguments.limit) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
