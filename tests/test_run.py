"""run.py: environments, finding ComfyUI, counting, and ending what it started."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parent.parent / "run.py"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run.py as a module, with a cache and a home of its own."""
    spec = importlib.util.spec_from_file_location("deig_run", RUN)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "deig_run", module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("DEIG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return module


def test_the_cache_may_be_named_from_the_users_own_folder(run, monkeypatch):
    monkeypatch.setenv("DEIG_CACHE", os.path.join("~", "somewhere"))
    assert run.cache_folder() == Path(os.path.expanduser("~")).resolve() / "somewhere"


def make_python(folder: Path, python: Path, requirements: list[str]):
    """Stands in for the minutes of installing: makes the file that must be there afterwards."""
    python.parent.mkdir(parents=True)
    python.write_text("\n".join(requirements))


def make_host(folder: Path, version: str = "1.2.3") -> Path:
    folder.mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def test_environment_is_made_once_for_the_same_requirements(run):
    made = []

    def make(folder, python, requirements):
        made.append(requirements)
        make_python(folder, python, requirements)

    first = run.environment("a test", ["numpy"], make)
    assert run.environment("another", ["numpy"], make) == first
    other = run.environment("a test", ["numpy", "torch"], make)
    assert made == [["numpy"], ["numpy", "torch"]]
    assert other != first and other.read_text() == "numpy\ntorch"


def test_environment_lies_in_the_cache_not_in_the_checkout(run, tmp_path):
    assert run.environment("a test", ["numpy"], make_python).is_relative_to(tmp_path / "cache")


def test_other_versions_that_must_fit_are_another_environment(run, monkeypatch):
    first = run.environment("a test", ["numpy"], make_python)
    monkeypatch.setattr(run, "CONSTRAINTS", ["numpy==1.26.4"])
    assert run.environment("a test", ["numpy"], make_python) != first


def test_another_python_has_an_environment_of_its_own(run, monkeypatch):
    first = run.environment("a test", ["numpy"], make_python)
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    assert run.environment("a test", ["numpy"], make_python) != first


def test_half_made_environment_is_made_anew(run):
    def fail(folder, python, requirements):
        make_python(folder, python, requirements)
        (folder / "half").touch()
        raise run.Failure("no network")

    with pytest.raises(run.Failure, match="no network"):
        run.environment("a test", ["numpy"], fail)
    python = run.environment("a test", ["numpy"], make_python)
    assert python.exists()
    assert not list((run.cache_folder() / "environments").glob("*/half"))


def test_environment_without_its_interpreter_is_made_anew(run):
    python = run.environment("a test", ["numpy"], make_python)
    python.unlink()
    assert run.environment("a test", ["numpy"], make_python).exists()


def test_two_runs_make_one_environment(run):
    made = []

    def make_slowly(folder, python, requirements):
        made.append(folder)
        time.sleep(0.5)
        make_python(folder, python, requirements)

    threads = [
        threading.Thread(target=run.environment, args=("a test", ["numpy"], make_slowly)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_named_hosts_are_used_in_their_order(run, monkeypatch, tmp_path):
    old, new = make_host(tmp_path / "old", "0.3.64"), make_host(tmp_path / "new", "0.33.0")
    make_host(run.Path.home() / "comfy" / "ComfyUI")
    monkeypatch.setenv("COMFYUI_PATH", os.pathsep.join([str(old), str(new)]))
    assert [(host.path, host.version) for host in run.find_hosts()] == [(old, "0.3.64"), (new, "0.33.0")]


def test_the_newer_frontend_is_tried_on_the_newest_host(run, monkeypatch, tmp_path):
    hosts = [run.Host(tmp_path / version, version) for version in ("0.9.2", "0.33.0", "0.3.64")]
    tried = {}
    monkeypatch.setattr(run, "check_for_chromium", lambda: None)
    monkeypatch.setattr(run, "host_environment", lambda host, *more: Path("python"))
    monkeypatch.setattr(run, "newer_frontend", lambda: "newer")
    monkeypatch.setattr(
        run, "run_pytest", lambda *call, **variables: tried.update({call[3].version: variables})
    )
    list(run.run_browser_tests(hosts, []))
    assert [version for version, variables in tried.items() if variables["DEIG_FRONTENDS"]] == ["0.33.0"]


def test_host_around_the_checkout_comes_before_those_at_home(run, monkeypatch, tmp_path):
    enclosing = make_host(tmp_path / "around")
    make_host(run.Path.home() / "comfy" / "ComfyUI")
    monkeypatch.setattr(run, "ROOT", enclosing / "custom_nodes" / "deig")
    assert [host.path for host in run.find_hosts()] == [enclosing]


def test_every_host_at_home_is_found(run):
    comfy = run.Path.home() / "comfy"
    hosts = [make_host(comfy / "ComfyUI"), make_host(comfy / "ComfyUI-0.3.64")]
    (comfy / "ComfyUI-empty").mkdir()
    assert [host.path for host in run.find_hosts()] == hosts


def test_named_folder_without_comfyui_is_told(run, monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    assert run.find_hosts() == []
    advice = run.how_to_get_a_host()
    assert "nowhere" in advice and len(advice.splitlines()) == 2


def test_paths_of_tests_are_told_from_other_arguments(run):
    arguments = [
        "-k",
        "nodes",
        "tests/host/test_patch.py",
        "-x",
        "tests/test_run.py::test_name",
        "tests/core",
    ]
    assert run.split_paths(arguments) == (
        ["tests/test_run.py::test_name", "tests/core"],
        ["tests/host/test_patch.py"],
        ["-k", "nodes", "-x"],
    )


TESTS_OF_EVERY_KIND = """
import pytest

def test_passes(): pass
def test_passes_too(): pass
def test_fails(): assert False
@pytest.fixture
def broken(): raise RuntimeError
def test_breaks_before_it_begins(broken): pass
@pytest.mark.skip
def test_skipped(): pass
"""


@pytest.mark.parametrize(
    "content, counts, broke",
    [
        (TESTS_OF_EVERY_KIND, "2 passed, 2 failed, 1 skipped", True),
        ("def test_passes(): pass", "1 passed, 0 failed, 0 skipped", False),
        (
            "import pytest\npytest.skip('why', allow_module_level=True)",
            "0 passed, 0 failed, 1 skipped",
            False,
        ),
        ("import no_such_module", "0 passed, 1 failed, 0 skipped", True),
        ("", "0 passed, 0 failed, 0 skipped", False),
    ],
)
def test_counts_are_pytests(run, tmp_path, content, counts, broke):
    (tmp_path / "test_some.py").write_text(content)
    outcome = run.run_pytest("some", Path(sys.executable), [str(tmp_path)], None)
    assert outcome.counts() == counts and outcome.broke == broke


def run_test_command(run, monkeypatch, capsys, outcomes) -> tuple[int, list[str]]:
    monkeypatch.setattr(run, "run_tests", lambda hosts, arguments: iter(outcomes))
    code = run.test(run.parse_arguments(["test"]))
    return code, capsys.readouterr().out.splitlines()


def test_without_a_host_the_last_lines_say_so(run, monkeypatch, capsys):
    outcomes = [run.Outcome("core", passed=5), run.Outcome("more", passed=2, skipped=3)]
    code, lines = run_test_command(run, monkeypatch, capsys, outcomes)
    assert code == 0
    assert lines[-1] == "7 passed, 0 failed, 3 skipped"
    assert "SKIPPED" in lines[-3] and "COMFYUI_PATH" in lines[-2]


@pytest.mark.parametrize("bad", [{"failed": 1}, {"broke": True}])
def test_exit_code_tells_of_failures(run, monkeypatch, capsys, bad):
    make_host(run.Path.home() / "comfy" / "ComfyUI")
    outcomes = [run.Outcome("core", passed=5), run.Outcome("more", passed=2, **bad)]
    code, lines = run_test_command(run, monkeypatch, capsys, outcomes)
    assert code == 1
    assert lines[-1] == f"7 passed, {bad.get('failed', 0)} failed, 0 skipped"
    assert not any("SKIPPED" in line for line in lines)


def test_arguments_of_test_go_to_pytest(run):
    assert run.parse_arguments(["test", "-x", "-k", "ide"]).further == ["-x", "-k", "ide"]


def run_demo(run, monkeypatch) -> list[str]:
    """The command that the demo would run, without making environments."""
    commands = []
    monkeypatch.setattr(run, "environment", lambda purpose, needs, make: Path("python"))
    monkeypatch.setattr(run, "run_child", commands.append)
    run.demo(run.parse_arguments(["demo"]))
    return commands[0]


def test_the_demo_paints_in_the_first_host(run, monkeypatch):
    host = make_host(run.Path.home() / "comfy" / "ComfyUI")
    (host / "requirements.txt").touch()
    command = run_demo(run, monkeypatch)
    assert command[command.index("--host") + 1] == str(host)


def test_the_demo_paints_without_a_host_where_none_can_be_installed(run, monkeypatch, capsys):
    monkeypatch.setattr(run, "quietly", lambda command: subprocess.CompletedProcess(command, 1, "no network"))
    assert "--host" not in run_demo(run, monkeypatch)
    assert "without ComfyUI" in capsys.readouterr().out


def test_a_named_host_that_is_not_there_stops_the_demo(run, monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(run.Failure, match="nowhere"):
        run_demo(run, monkeypatch)


def test_a_demo_that_could_not_be_saved_is_refused_before_it_is_painted(run, capsys):
    with pytest.raises(SystemExit):
        run.parse_arguments(["demo", "--out", "pictures/demo"])
    assert "ends in .png" in capsys.readouterr().err
    assert run.parse_arguments(["demo", "--out", "pictures/demo.PNG"]).out == Path("pictures/demo.PNG")


@pytest.mark.parametrize("command", ["demo", "ui"])
def test_unknown_arguments_are_refused(run, capsys, command):
    with pytest.raises(SystemExit):
        run.parse_arguments([command, "--size", "512"])
    assert "--size" in capsys.readouterr().err


def run_ui(run, monkeypatch, *arguments: str) -> list[str]:
    """The command that `ui` would run, without making environments."""
    commands = []
    monkeypatch.setattr(run, "environment", lambda purpose, needs, make: Path("python"))
    monkeypatch.setattr(run, "run_child", commands.append)
    run.ui(run.parse_arguments(["ui", *arguments]))
    return commands[0]


def test_the_ui_opens_in_the_first_host(run, monkeypatch, tmp_path):
    host = make_host(run.Path.home() / "comfy" / "ComfyUI")
    (host / "requirements.txt").touch()
    command = run_ui(run, monkeypatch, "--port", "8288", "--keep", str(tmp_path / "kept"), "--no-browser")
    assert command[1:] == [
        "-m", "demo.play", "--host", str(host), "--port=8288", f"--keep={tmp_path / 'kept'}", "--no-browser",
    ]  # fmt: skip
    assert run_ui(run, monkeypatch)[-2:] == ["--host", str(host)]


def test_the_ui_installs_a_host_where_there_is_none(run, monkeypatch, tmp_path):
    host = make_host(tmp_path / "made")
    (host / "requirements.txt").touch()
    monkeypatch.setattr(run, "install_host", lambda: run.read_host(host))
    assert run_ui(run, monkeypatch)[-1] == str(host)


def test_the_ui_says_what_to_do_where_no_host_can_be_had(run, monkeypatch):
    monkeypatch.setattr(run, "quietly", lambda command: subprocess.CompletedProcess(command, 1, "no network"))
    with pytest.raises(run.Failure, match="(?s)no network.*COMFYUI_PATH"):
        run_ui(run, monkeypatch)


def test_ctrl_c_is_the_way_to_end_the_ui(run, monkeypatch):
    (make_host(run.Path.home() / "comfy" / "ComfyUI") / "requirements.txt").touch()
    monkeypatch.setattr(run, "environment", lambda purpose, needs, make: Path("python"))

    def interrupted(command):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_child", interrupted)
    assert run.ui(run.parse_arguments(["ui"])) == 0


CHILD = """
import pathlib, sys, time
place = pathlib.Path(sys.argv[1])
try:
    (place / "began").touch()
    time.sleep(120)
except KeyboardInterrupt:
    (place / "cleaned").touch()
"""
PARENT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("deig_run", sys.argv[1])
run = importlib.util.module_from_spec(spec)
sys.modules["deig_run"] = run
spec.loader.exec_module(run)
run.raise_when_ended()
run.run_child([sys.executable, "-c", sys.argv[2], sys.argv[3]])
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_child_may_clean_up_when_we_are_ended(tmp_path, number):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(RUN), CHILD, str(tmp_path)])
    while not (tmp_path / "began").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(number)
    assert parent.wait(timeout=60) != 0
    assert (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["ui", "--help"], ["demo", "--help"], ["test", "--help"]])
def test_help_needs_nothing_installed(arguments):
    # -I and -S: no site-packages, so anything but the standard library would fail to import.
    command = [sys.executable, "-I", "-S", str(RUN), *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage: run.py" in shown.stdout
