"""Keep which tests run which lines of the pack, and look up the tests that may notice a change.

    python -m tests.covering MAP [TESTS ...] [--host COMFYUI]

makes the folder MAP: the tests (without names all, but the browser's) run once in a copy of the repository, the host's
in a pytest of their own. Run it in an environment of `run.py test`, with what tests/requirements-covering.txt names.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("small_model/weights",)  # large, and no fault is put there
# Tests that need no host, and tests that do.
SUITES = {"core": ("tests/core", "tests/web", "tests/test_run.py"), "host": ("tests/host",)}
# relative_files: the copy may be moved. ctrace: what is newer knows no contexts.
SETTINGS = "[run]\nrelative_files = true\ncore = ctrace\nomit = tests/*\n"
WHERE_SECONDS = "DEIG_SECONDS_OF_TESTS"
SHORT = 0.05  # seconds; fixtures that take no longer are not counted
AGAIN = 0.1  # another case of a function tells less than another function: it waits as if it took so many seconds more


def copy_of(root: Path, place: Path):
    """Copy what git knows of a repository; large folders are linked."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if not name.startswith(LINKED) and (root / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, place / name)
    for name in LINKED:
        if (root / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(root / name)


def make_map(folder: Path, root: Path, host: Path | None, tests: Iterable[str] = ()):
    """Run tests and keep in `folder` what they cover: the copy they ran in, and two files for each suite."""
    source, folder = folder.resolve() / "source", folder.resolve()
    copy_of(root, source)
    (folder / "settings").write_text(SETTINGS)
    for suite, paths in SUITES.items():
        chosen = [test for test in tests if test.startswith(paths)] if tests else list(paths)
        if not chosen or (suite == "host" and not host):
            continue
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "COMFYUI_PATH": str(host if suite == "host" else ""),
            "COVERAGE_FILE": str(folder / f"{suite}.coverage"),
            WHERE_SECONDS: str(folder / f"{suite}.seconds"),
        }
        options = ("--cov=.", "--cov-context=test", f"--cov-config={folder / 'settings'}", "--cov-report=")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.covering", *options, *chosen]
        subprocess.run(command, cwd=source, env=environment, check=False)


_of_tests: dict[str, float] = {}
_of_fixtures: dict[str, float] = {}


def pytest_runtest_logreport(report):
    if report.when == "call":
        _of_tests[report.nodeid] = report.duration


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    started = time.monotonic()
    try:
        return (yield)
    finally:
        taken = time.monotonic() - started
        _of_fixtures[fixturedef.argname] = max(taken, _of_fixtures.get(fixturedef.argname, 0.0))


def pytest_sessionfinish(session):
    """Write for each test what takes how long: itself, under "", and the slow ones of its fixtures."""
    if place := os.environ.get(WHERE_SECONDS):
        taken = {
            item.nodeid: {"": _of_tests[item.nodeid]}
            | {name: _of_fixtures[name] for name in item.fixturenames if _of_fixtures.get(name, 0.0) > SHORT}
            for item in session.items
            if item.nodeid in _of_tests
        }
        Path(place).write_text(json.dumps(taken))


class Map:
    """What `make_map` has kept in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def parts(self) -> dict[str, dict[str, float]]:
        """For each test what took how many seconds: itself, under "", and its fixtures."""
        files = sorted(self.folder.glob("*.seconds"))
        return {test: parts for file in files for test, parts in json.loads(file.read_text()).items()}

    @cached_property
    def seconds(self) -> dict[str, float]:
        """How long each test takes alone."""
        return {test: sum(parts.values()) for test, parts in self.parts.items()}

    def within(self, tests: Sequence[str], seconds: float) -> list[str]:
        """Return as many tests, but at least one, as end in time together, as far as that is known."""
        made: set[str] = set()  # fixtures, which are there for all tests that follow
        for number, test in enumerate(tests):
            parts = self.parts.get(test, {})
            seconds -= sum(taken for name, taken in parts.items() if name not in made)
            made |= parts.keys() - {""}
            if seconds < 0:
                return list(tests[: number + 1])
        return list(tests)

    @cached_property
    def _data(self) -> list:
        from coverage import CoverageData

        found = [CoverageData(str(file)) for file in sorted(self.folder.glob("*.coverage"))]
        for data in found:
            data.read()
        return found

    def tests_by_line(self, file: str, text: str) -> dict[int, set[str]]:
        """Return for each line of `text` the tests that ran it, where it stands in the file as it was then too."""
        then = self.folder / "source" / file
        if not then.is_file():
            return {}
        matcher = SequenceMatcher(
            None, then.read_text("utf-8").splitlines(), text.splitlines(), autojunk=False
        )
        now = {a + i + 1: b + i + 1 for a, b, size in matcher.get_matching_blocks() for i in range(size)}
        found: dict[int, set[str]] = {}
        for data in self._data:
            for line, contexts in data.contexts_by_lineno(file).items():
                # A context is a test and its phase, as in "tests/core/test_a.py::test|run", or empty.
                tests = {context.rpartition("|")[0] for context in contexts} - {""}
                if line in now and tests:
                    found.setdefault(now[line], set()).update(tests)
        return found

    def tests_of_change(self, file: str, before: str, after: str) -> list[str]:
        """Return the tests that run a Python file, those first that run what has changed."""
        by_line, found = self.tests_by_line(file, before), []
        for ring in rings(before, after):
            tests = set().union(*(by_line.get(line, ()) for line in ring)) - set(found)
            found += self.in_turn(tests)
        return found

    def in_turn(self, tests: Iterable[str]) -> list[str]:
        """Sort tests, the quickest first, but one case of each function before another case of it."""
        cases: Counter[str] = Counter()
        waits = {}
        for test in sorted(tests, key=lambda test: (self.seconds.get(test, 0.0), test)):
            function = test.partition("[")[0]
            waits[test] = self.seconds.get(test, 0.0) + AGAIN * cases[function]
            cases[function] += 1
        return sorted(waits, key=waits.get)

    def tests_in(self, place: str) -> list[str]:
        """Return the tests in a file or folder, or the place itself if the map knows none there."""
        return self.in_turn(
            test for test in self.seconds if test.startswith((f"{place}::", f"{place}/"))
        ) or [place]


def rings(before: str, after: str) -> Iterator[set[int]]:
    """Yield lines of a Python file, ever farther from a change.

    They are the statements that change; what uses a name that they give (a constant, a field); their functions or
    classes; the file. Of a statement with a body only its head counts: the test of an `if`, the line of a `def`.
    """
    tree, changed = ast.parse(before), changed_lines(before, after)
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]  # the outer before the inner
    whole = set(range(1, len(before.splitlines()) + 2))
    lines, names, scopes = set(changed), set(), set()
    for line in changed:
        around = [node for node in statements if _first_line(node) <= line <= node.end_lineno]
        defined = [
            node for node in around if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        ]
        if around:
            lines |= _head(around[-1])
        if around and all(isinstance(node, ast.ClassDef) for node in defined):
            stored = (node for node in ast.walk(around[-1]) if isinstance(node, ast.Name))
            names |= {node.id for node in stored if isinstance(node.ctx, ast.Store)}
        scopes |= set(range(_first_line(defined[-1]), defined[-1].end_lineno + 1)) if defined else whole
    yield lines
    yield {
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id in names)
        or (isinstance(node, ast.Attribute) and node.attr in names)
    }
    yield scopes
    yield whole


def changed_lines(before: str, after: str) -> set[int]:
    """Return the lines of `before` that differ, counted from 1; of what is only put in, the line that follows."""
    matcher = SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    spans = [(start, end) for tag, start, end, *_ in matcher.get_opcodes() if tag != "equal"]
    return {line + 1 for start, end in spans for line in range(start, max(end, start + 1))}


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _head(node: ast.stmt) -> set[int]:
    body = getattr(node, "body", None)
    end = max(node.lineno, _first_line(body[0]) - 1) if body else node.end_lineno
    return set(range(_first_line(node), end + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", type=Path, help="a folder that is not there yet")
    parser.add_argument("tests", nargs="*", help="files or folders (default: all but the browser's)")
    parser.add_argument("--host", type=Path, help="a ComfyUI; without one the host tests are left out")
    arguments = parser.parse_args()
    arguments.map.mkdir(parents=True)
    host = arguments.host and arguments.host.resolve()
    make_map(arguments.map, ROOT, host, arguments.tests)


if __name__ == "__main__":
    main()
