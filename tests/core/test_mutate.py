"""The driver that puts faults into the code."""

import subprocess

import pytest
from deig_pack.tests.mutate import Fault, nearest_tests, report, rounds

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
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_the_nearest_tests_come_first_and_others_not_at_all(repository):
    assert nearest_tests("pack/one.py", repository) == ["tests/test_near.py", "tests/test_far.py"]
    assert nearest_tests("pack/two.py", repository) == ["tests/test_far.py"]


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


def test_a_fault_is_not_said_to_pass_tests_that_had_no_time(repository, capsys):
    report([Fault("pack/one.py", "2 * x", "3 * x")], repository, None, limit=1e-6)
    assert capsys.readouterr().out.splitlines()[0].endswith("SURVIVES as far as there was time")


def test_what_is_noticed_and_what_survives(repository, capsys):
    faults = [
        Fault("pack/one.py", "2 * x", "2 * x + 1"),
        Fault("pack/one.py", "2 * x", "3 * x"),
        Fault("pack/one.py", "2 * x", "x * 2"),
        Fault("pack/one.py", "2 * x", "x + x", equivalent="the same number"),
    ]
    assert report(faults, repository, None) == pytest.approx(2 / 3)
    lines = capsys.readouterr().out.splitlines()
    ends = ("by tests/test_near.py::test", "by tests/test_far.py::test", "SURVIVES", "1 equivalent")
    assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True))
    assert (repository / "pack/one.py").read_text() == FILES["pack/one.py"]


def test_a_fault_that_fits_nowhere_is_refused(repository):
    with pytest.raises(ValueError, match="0 times instead of once"):
        Fault("pack/one.py", "4 * x", "5 * x").put_into(repository)
