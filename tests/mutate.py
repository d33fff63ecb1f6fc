"""Put faults into the code, one at a time, and see whether a test notices.

    python -m tests.mutate FAULTS.json [--map MAP] [--host COMFYUI] [--only TEXT] [--limit SECONDS] [--out FILE]

FAULTS.json is a list of {"file": ..., "old": ..., "new": ...}; `old` stands exactly once in the file. A fault that
changes nothing that anybody could see has a reason under "equivalent" and is not tried. Who draws a list should not
have read the tests; tests/faults.json was drawn so. Each fault is put into a copy of the repository, where tests run
until one fails: with a map (tests/covering.py makes one) those that run the changed lines, then those that run what
is around them; then those that import the file, of which those come first that need no host, then those in a real
one, then the browser's, and of each the nearest. A test that fails without the fault too does not count. Run it in an
environment of `run.py test` (its Python, with ComfyUI's requirements); a map is read by coverage
(tests/requirements-covering.txt). Tests that are skipped there notice nothing. With --out an interrupted run goes on
where it was: faults that the file has are not tried again.
"""

import argparse
import compileall
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import forking
from .covering import Map, copy_of
from .imports import imported

ROOT = Path(__file__).resolve().parent.parent
WANTED = 0.9  # the share of faults that tests should notice
LIMIT = 60.0  # seconds for the tests of one fault
FIRST = 2.0  # seconds; so much of the covering tests runs before the rest of them is even imported
LONGEST_TEST = 600  # seconds; one that takes longer has noticed a fault by not ending
LONGER = 10  # so many times of what a test took for the map is too long as well, but not below a minute
# What pytest says of tests that a map knows: they are there no more, or their file is skipped as a whole here.
NOT_THERE = r"^ERROR: (?:not found:|found no collectors for) (.+)$"
# What takes long to start; each of these runs in a pytest of its own, when what is quicker has noticed nothing.
SLOW = ("tests/host", "tests/browser")
# Tests of what is not Python, which imports nothing that could be followed.
TESTS_OF = {
    ".js": ("tests/web", "tests/browser"),
    ".css": ("tests/browser",),
    ".json": ("tests/host/test_workflows.py",),
}
# A ComfyUI of its own loads the pack there, which no import tells; they know the pack from outside alone.
SERVER_TESTS = {"nodes": ("tests/host/test_server.py",)}
# Playwright does not bear to be forked. One frontend in one renderer is enough.
BROWSER = "tests/browser"
BROWSER_OPTIONS = ("-k", "not nodes2")
BROWSER_VARIABLES = {"DEIG_FRONTENDS": ""}


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

    def texts(self, root: Path) -> tuple[str, str]:
        """Return the file without and with the fault."""
        text = (root / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {self.old!r} {text.count(self.old)} times instead of once.")
        return text, text.replace(self.old, self.new)

    def put_into(self, root: Path):
        (root / self.file).write_text(self.texts(root)[1], encoding="utf-8")


@dataclass(frozen=True)
class Verdict:
    """What became of a fault.

    Args:
        by: the first test that failed, or nothing.
        ran: how many tests passed with the fault.
        ended: whether all tests that may notice it had time to run.
        seconds: how long it took.
    """

    by: str = ""
    ran: int = 0
    ended: bool = True
    seconds: float = 0.0

    def __str__(self):
        if self.by:
            return f"noticed by {self.by}"
        return f"SURVIVES {self.ran} tests" + ("" if self.ended else " as far as there was time")


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
    tests += [test for test in SERVER_TESTS.get(Path(file).parts[0], ()) if tests and test not in tests]
    return tests or ["tests/test_run.py" if file == "run.py" else "tests"]


def rounds(tests: Sequence[str]) -> list[list[str]]:
    """Split tests into what runs in one pytest each, the quickest first; each keeps its order."""
    split = [[test for test in tests if not test.startswith(SLOW)]]
    split += [[test for test in tests if test.startswith(slow)] for slow in SLOW]
    return [tests for tests in split if tests]


class Trials:
    """Tries faults, each in a copy of a copy of the repository that has none.

    Args:
        root: the repository.
        host: a ComfyUI, or None.
        limit: seconds for the tests of one fault.
        map: which tests run which lines, or None.
    """

    def __init__(self, root: Path, host: Path | None, limit: float = LIMIT, map: Map | None = None):
        self.host, self.limit, self.map = host, limit, map
        self._folder = tempfile.TemporaryDirectory(prefix="deig-mutate-")
        os.chmod(self._folder.name, 0o755)  # some tests become a user without privileges, who reads it too
        self.clean = Path(self._folder.name) / "clean"
        copy_of(root, self.clean)
        compileall.compile_dir(self.clean, quiet=2)
        self._passes: dict[str, bool] = {}  # what is known of tests without a fault

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def verdict(self, fault: Fault) -> Verdict:
        """Return the first test that fails with a fault, if one does, and how much had time to run."""
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            os.chmod(folder, 0o755)
            place = Path(folder) / "pack"
            shutil.copytree(self.clean, place, symlinks=True)
            fault.put_into(place)
            # What is compiled there is told from the source by size and seconds, which a fault may leave as they are.
            shutil.rmtree((place / fault.file).parent / "__pycache__", ignore_errors=True)
            ran, ended = 0, True
            for tests in self.rounds(fault):
                left = started + self.limit - time.monotonic()
                if left <= 0:
                    ended = False
                    break
                chosen = self.map.within(tests, left) if self.map else tests
                found = self.first_failure(place, chosen, left)
                ran, ended = ran + found.ran, ended and found.ended and len(chosen) == len(tests)
                if found.by:
                    return replace(found, ran=ran, seconds=time.monotonic() - started)
        return Verdict("", ran, ended, time.monotonic() - started)

    def rounds(self, fault: Fault) -> Iterator[list[str]]:
        """Yield the tests that may notice a fault, as many as run in one pytest."""
        nearest = nearest_tests(fault.file, self.clean)
        if self.map and fault.file.endswith(".py"):
            covering = self.map.tests_of_change(fault.file, *fault.texts(self.clean))
            covering = self.not_skipped(covering)
            first = self.map.within(covering, FIRST)
            yield from filter(None, (first, covering[len(first) :]))
            nearest = [test for place in nearest for test in self.map.tests_in(place)]
            nearest = [test for test in nearest if test not in set(covering)]
        yield from rounds(self.not_skipped(nearest))

    def not_skipped(self, tests: Sequence[str]) -> list[str]:
        """Leave out what is skipped without a host."""
        return [test for test in tests if self.host or not test.startswith(SLOW)]

    def first_failure(self, place: Path, tests: Sequence[str], seconds: float) -> Verdict:
        """Run tests in a copy until one fails that passes without a fault."""
        ran = 0
        while chosen := [test for test in tests if self.may_pass(test)]:
            ended = self.pytest(place, chosen, seconds)
            if passed := re.search(r"\b(\d+) passed", ended.output):
                ran += int(passed[1])
            if ended.code in (0, 5):  # 5: no tests there
                break
            if ended.code is None:
                return Verdict("pytest, which did not end", ran)
            if found := re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", ended.output, re.MULTILINE):
                known = found[1] in self._passes  # and could not be left out
                if self.passes(found[1]) or known:
                    return Verdict(found[1] if self._passes[found[1]] else "", ran, ended=not known)
            elif "session-timeout" in ended.output:
                return Verdict("", ran, ended=False)
            elif (rest := _without(_missing(ended.output, place), chosen)) != chosen:
                tests = rest
            else:
                self.expect_tests(chosen)
                return Verdict(f"pytest, which ends with {ended.code}", ran)
        return Verdict("", ran)

    def may_pass(self, test: str) -> bool:
        """Whether nothing is known of a test or its file that makes it fail without a fault."""
        return self._passes.get(test, True) and self._passes.get(test.partition("::")[0], True)

    def passes(self, test: str) -> bool:
        """Whether a test passes without a fault; of a file, whether it can be imported."""
        if test not in self._passes:
            more = () if "::" in test else ("--collect-only",)
            code = self.pytest(self.clean, [test], LONGEST_TEST, *more).code
            self._passes[test] = code not in (1, 2, None)  # failed, not imported, killed
            if not self._passes[test]:
                print(f"     {test} fails without a fault too and is left out", flush=True)
        return self._passes[test]

    def expect_tests(self, tests: Sequence[str]):
        """Raise RuntimeError if pytest does not even find tests without a fault."""
        ended = self.pytest(self.clean, tests, LONGEST_TEST, "--collect-only")
        if ended.code not in (0, 5):
            raise RuntimeError(f"pytest ends with {ended.code} without a fault too:\n{ended.output}")

    def pytest(self, place: Path, tests: Sequence[str], seconds: float, *options: str) -> forking.Ended:
        seconds_of = self.map.seconds if self.map else {}
        known = [seconds_of[test] for test in tests if test in seconds_of]
        longest = max(60.0, LONGER * max(known)) if len(known) == len(tests) else LONGEST_TEST
        limits = (f"--timeout={longest:g}", f"--session-timeout={max(seconds, 1e-6):g}")
        left_out = (f"--deselect={test}" for test, passes in self._passes.items() if not passes)
        options = ("-x", "-q", "--tb=no", *limits, *left_out, *options)
        variables = {"COMFYUI_PATH": str(self.host or ""), "TMPDIR": str(place.parent), "COLUMNS": "999"}
        in_browser = tests[0].startswith(BROWSER)
        if in_browser:
            options, variables = (*options, *BROWSER_OPTIONS), variables | BROWSER_VARIABLES
        return forking.run_pytest(
            [*options, *tests], place, os.environ | variables, max(seconds, 0) + longest, fork=not in_browser
        )


def _missing(output: str, place: Path) -> set[str]:
    return {Path(test).relative_to(place).as_posix() for test in re.findall(NOT_THERE, output, re.MULTILINE)}


def _without(missing: set[str], tests: Sequence[str]) -> list[str]:
    """Leave out tests that are there no more. Of a case that is, pytest names the function: all its cases then."""
    names = [function if (function := test.partition("[")[0]) in missing else test for test in tests]
    return [name for name in dict.fromkeys(names) if name not in missing.intersection(tests)]


def report(faults: Sequence[Fault], trials: Trials, out: Path | None = None) -> float:
    """Try faults, print what becomes of each, keep it in the file `out`, and return the share that was noticed."""
    tried = [fault for fault in faults if not fault.equivalent]
    for fault in tried:
        fault.texts(trials.clean)  # complains of what fits nowhere before the first is tried
    known = dict(read_verdicts(out)) if out and out.exists() else {}
    killed = 0
    for number, fault in enumerate(tried, start=1):
        verdict = known.get(fault) or trials.verdict(fault)
        killed += bool(verdict.by)
        change = f"{fault.old.strip()!r} -> {fault.new.strip()!r}"
        print(f"{number:4} {fault.file}: {change}: {verdict}", flush=True)
        if out and fault not in known:
            with out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"fault": asdict(fault), "verdict": asdict(verdict)}) + "\n")
    share = killed / max(len(tried), 1)
    print(f"{killed} of {len(tried)} noticed ({share:.0%}); {len(faults) - len(tried)} equivalent")
    return share


def read_verdicts(out: Path) -> Iterator[tuple[Fault, Verdict]]:
    """Yield the faults that `report` has judged, with what became of them."""
    for line in out.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        yield Fault(**entry["fault"]), Verdict(**entry["verdict"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", type=Path)
    parser.add_argument("--map", type=Path, help="what tests.covering made")
    parser.add_argument("--host", type=Path, help="a ComfyUI; without one the host tests do not count")
    parser.add_argument("--only", default="", help="try the faults in files whose path holds this")
    parser.add_argument("--out", type=Path, help="a file of verdicts, one a line, to go on with")
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help="seconds for the tests of one fault (default: %(default)g)"
    )
    arguments = parser.parse_args()
    faults = [Fault(**entry) for entry in json.loads(arguments.faults.read_text(encoding="utf-8"))]
    chosen = [fault for fault in faults if arguments.only in fault.file]
    host = arguments.host and arguments.host.resolve()
    forking.warm(host)
    with Trials(ROOT, host, arguments.limit, arguments.map and Map(arguments.map)) as trials:
        return int(report(chosen, trials, arguments.out) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
