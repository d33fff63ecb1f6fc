"""The driver that puts faults into the code, and the map of which tests run which lines."""

import json
import shutil
import subprocess

import pytest
from deig_pack.tests import covering, forking
from deig_pack.tests.covering import Map, rings
from deig_pack.tests.mutate import ROOT, Fault, Trials, nearest_tests, report, rounds

FILES = {
    "pack/one.py": "def double(x):\n    return 2 * x\n",
    "pack/two.py": "from .one import double\n\n\ndef quadruple(x):\n    return double(double(x))\n",
    "pack/__init__.py": "",
    "tests/test_far.py": "from pack.two import quadruple\n\n\ndef test():\n    assert quadruple(3) == 12\n",
    "tests/test_near.py": "from pack import one\n\n\ndef test():\n    assert one.double(0) == 0\n",
    "tests/test_other.py": "def test():\n    assert True\n",
    "conftest.py": "import sys\nfrom pathlib import Path\n\nsys.path.insert(0, str(Path(__file__).parent))\n",
}


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


@pytest.fixture
def trials(repository):
    with Trials(repository, None) as trials:
        yield trials


def test_the_nearest_tests_come_first_and_others_not_at_all(repository):
    assert nearest_tests("pack/one.py", repository) == ["tests/test_near.py", "tests/test_far.py"]
    assert nearest_tests("pack/two.py", repository) == ["tests/test_far.py"]


def test_what_a_server_loads_is_tested_in_one_at_last():
    found = nearest_tests("nodes/layout_route.py", ROOT)
    assert found[-1] == "tests/host/test_server.py" and found.count(found[-1]) == 1
    assert found[-1] not in nearest_tests("small_model/widen.py", ROOT)


def test_what_starts_quickly_runs_before_what_does_not():
    tests = [
        "tests/browser/test_a.py",
        "tests/host/test_b.py",
        "tests/core/test_c.py",
        "tests/host/test_a.py",
    ]
    assert rounds(tests) == [
        ["tests/core/test_c.py"],
        ["tests/host/test_b.py", "tests/host/test_a.py"],
        ["tests/browser/test_a.py"],
    ]


def test_a_fault_is_not_said_to_pass_tests_that_had_no_time(repository):
    with Trials(repository, None, limit=1e-6) as trials:
        verdict = trials.verdict(Fault("pack/one.py", "2 * x", "3 * x"))
    assert str(verdict).endswith("as far as there was time")


@pytest.mark.parametrize("can_fork", [forking.CAN_FORK, False])
def test_what_is_noticed_and_what_survives(repository, trials, capsys, monkeypatch, can_fork):
    monkeypatch.setattr(forking, "CAN_FORK", can_fork)
    faults = [
        Fault("pack/one.py", "2 * x", "2 * x + 1"),
        Fault("pack/one.py", "2 * x", "3 * x"),
        Fault("pack/one.py", "2 * x", "x * 2"),
        Fault("pack/one.py", "2 * x", "x + x", equivalent="the same number"),
    ]
    assert report(faults, trials) == pytest.approx(2 / 3)
    lines = capsys.readouterr().out.splitlines()
    ends = ("by tests/test_near.py::test", "by tests/test_far.py::test", "SURVIVES 2 tests", "1 equivalent")
    assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True))
    assert (repository / "pack/one.py").read_text() == FILES["pack/one.py"]


def test_a_test_that_fails_without_the_fault_too_is_left_out(repository, capsys):
    (repository / "tests/test_near.py").write_text(
        "from pack import one\n\n\ndef test():\n    assert False\n"
    )
    with Trials(repository, None) as trials:
        assert trials.verdict(Fault("pack/one.py", "2 * x", "3 * x")).by == "tests/test_far.py::test"
    assert "tests/test_near.py::test fails without a fault too" in capsys.readouterr().out


def test_tests_that_are_not_there_are_passed_over(repository):
    skipped = "import pytest\n\npytest.skip('not here', allow_module_level=True)\n"
    (repository / "tests/test_skipped.py").write_text(skipped)
    cases = "import pytest\n\n\n@pytest.mark.parametrize('case', [1, 2])\ndef test(case):\n    pass\n"
    (repository / "tests/test_cases.py").write_text(cases)
    tests = ["tests/test_near.py::gone", "tests/test_skipped.py::test", "tests/test_near.py::test"]
    tests += [
        "tests/test_near.py::gone[1]",
        "tests/test_cases.py::test[1]",
        "tests/test_cases.py::test[gone]",
    ]
    with Trials(repository, None) as trials:
        found = trials.first_failure(trials.clean, tests, 60)
    assert (found.by, found.ran, found.ended) == ("", 3, True), "of a case that is gone all others run"


def test_a_fault_that_fits_nowhere_is_refused(repository, trials):
    with pytest.raises(ValueError, match="0 times instead of once"):
        Fault("pack/one.py", "4 * x", "5 * x").put_into(repository)
    with pytest.raises(ValueError, match="0 times instead of once"):
        report([Fault("pack/one.py", "4 * x", "5 * x")], trials)


def test_an_interrupted_run_goes_on(trials, tmp_path, monkeypatch):
    faults = [Fault("pack/one.py", "2 * x", new) for new in ("3 * x", "x * 2", "2 * x + 1")]
    out = tmp_path / "verdicts"
    report(faults[:2], trials, out)
    tried, judge = [], trials.verdict
    monkeypatch.setattr(trials, "verdict", lambda fault: tried.append(fault) or judge(fault))
    assert report(faults, trials, out) == pytest.approx(2 / 3)
    assert tried == faults[2:]
    assert [json.loads(line)["fault"]["new"] for line in out.read_text().splitlines()] == [
        fault.new for fault in faults
    ]


@pytest.mark.parametrize("can_fork", [forking.CAN_FORK, False])
def test_a_pytest_that_does_not_end_is_killed(tmp_path, monkeypatch, can_fork):
    monkeypatch.setattr(forking, "CAN_FORK", can_fork)
    (tmp_path / "test_a.py").write_text("import time\n\n\ndef test():\n    time.sleep(600)\n")
    assert forking.run_pytest(["test_a.py"], tmp_path, dict(forking.os.environ), 3).code is None


BEFORE = """LIMIT = 3
OTHER = 4


@decorated
def short(text):
    if (
        len(text) > LIMIT
    ):
        return False
    return True


def other():
    return OTHER
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return False", "return None", [{10}, set(), {5, 6, 7, 8, 9, 10, 11}]),
        ("> LIMIT", ">= LIMIT", [{7, 8, 9}, set(), {5, 6, 7, 8, 9, 10, 11}]),
        ("@decorated\n", "", [{5, 6}, set(), {5, 6, 7, 8, 9, 10, 11}]),
        ("LIMIT = 3", "LIMIT = 4", [{1}, {1, 8}]),
        ("return OTHER", "pass\n    return OTHER", [{15}, set(), {14, 15}]),
    ],
)
def test_lines_ever_farther_from_a_change(old, new, expected):
    found = list(rings(BEFORE, BEFORE.replace(old, new)))
    assert found[: len(expected)] == expected
    assert found[-1] >= set(range(1, 16))


def test_quick_tests_and_other_functions_come_first(tmp_path):
    seconds = {"a.py::quick[1]": 0.01, "a.py::quick[2]": 0.02, "a.py::other": 0.05, "a.py::slow": 5.0}
    (tmp_path / "core.seconds").write_text(json.dumps({test: {"": taken} for test, taken in seconds.items()}))
    order = ["a.py::quick[1]", "a.py::other", "a.py::quick[2]", "a.py::slow"]
    assert Map(tmp_path).in_turn(seconds) == order
    assert Map(tmp_path).tests_in("a.py") == order
    assert Map(tmp_path).tests_in("b.py") == ["b.py"]


def test_a_fixture_of_several_tests_is_made_once(tmp_path):
    taken = {name: {"": 1.0, "server": 30.0} for name in ("a.py::one", "a.py::two", "a.py::three")}
    (tmp_path / "host.seconds").write_text(json.dumps(taken))
    made = Map(tmp_path)
    assert made.seconds["a.py::one"] == 31
    assert made.within(list(taken), 32.5) == list(taken)
    assert made.within(list(taken), 31.5) == ["a.py::one", "a.py::two"]
    assert made.within(list(taken), 0) == ["a.py::one"]


def test_a_map_names_the_tests_that_run_a_line(repository, tmp_path, monkeypatch):
    pytest.importorskip("pytest_cov", reason="needs coverage and pytest-cov, for maps only")
    monkeypatch.setattr(covering, "SUITES", {"core": ("tests",)})
    shutil.copyfile(covering.__file__, repository / "tests/covering.py")  # it is pytest's plugin there
    (repository / "pack/one.py").write_text("def half(x):\n    return x / 2\n\n\n" + FILES["pack/one.py"])
    folder = tmp_path / "map"
    covering.make_map(folder, repository, None)
    made = Map(folder)
    both = {"tests/test_near.py::test", "tests/test_far.py::test"}
    assert set(made.seconds) == both | {"tests/test_other.py::test"}
    assert made.tests_by_line("pack/one.py", (folder / "source/pack/one.py").read_text()) == {6: both}
    # Lines are found where they have moved to since.
    assert made.tests_by_line("pack/one.py", FILES["pack/one.py"]) == {2: both}

    # What the map gives runs first, then what imports the file; a test that is there no more is passed over.
    (folder / "core.seconds").write_text(
        json.dumps(dict.fromkeys(both | {"tests/test_near.py::gone"}, {"": 0.0}))
    )
    with Trials(repository, None, map=made) as trials:
        fault = Fault("pack/one.py", "2 * x", "x * 2")
        assert str(trials.verdict(fault)) == "SURVIVES 2 tests"
        assert trials.verdict(Fault("pack/one.py", "2 * x", "2 * x + 1")).by in both
