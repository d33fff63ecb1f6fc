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


@pytest.mark.skipif(os.name == "nt", reason="folders of POSIX")
def test_without_a_name_the_cache_lies_where_the_system_keeps_caches(run, monkeypatch, tmp_path):
    monkeypatch.delenv("DEIG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert run.cache_folder() == tmp_path / "caches" / "comfyui-deig"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert run.cache_folder() == run.Path.home() / ".cache" / "comfyui-deig"


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


def test_making_an_environment_is_said_and_that_it_is_there_is_not(run, capsys):
    python = run.environment("a test", ["numpy"], make_python)
    said = capsys.readouterr().out
    assert "for a test in" in said and str(python.parent.parent) in said
    run.environment("a test", ["numpy"], make_python)
    assert capsys.readouterr().out == ""


def test_who_waits_for_another_run_is_told_and_goes_on_when_it_is_done(run, tmp_path, capsys):
    entered, path = threading.Event(), tmp_path / "a.lock"

    def second():
        with run.locked(path):
            entered.set()

    thread = threading.Thread(target=second)
    with run.locked(path):
        assert capsys.readouterr().out == ""
        thread.start()
        said, ends = "", time.monotonic() + 30
        while "waiting" not in said and time.monotonic() < ends:
            said += capsys.readouterr().out
            time.sleep(0.01)
        assert "Another run is making the same environment" in said and not entered.is_set()
    thread.join(30)
    assert entered.is_set()


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


def answering(run, monkeypatch, *failing: str):
    """Let commands be noted down instead of run; those fail that hold one of these words, with 40 lines of output."""
    commands = []

    def quietly(command):
        commands.append(command)
        fails = any(word in command for word in failing)
        return subprocess.CompletedProcess(command, int(fails), "\n".join(f"line {i}" for i in range(40)))

    monkeypatch.setattr(run, "quietly", quietly)
    return commands


@pytest.mark.parametrize(
    "failing, called",
    [
        ((), [["uv"], ["uv", "pip", "install", "--python"]]),
        (("--python",), [["uv"], ["uv", "pip", "install", "--python"], ["-r"]]),
        (("uv",), [["uv"], ["-r"]]),
    ],
    ids=["uv installs all", "uv installs not all", "no uv"],
)
def test_where_uv_fails_pip_installs(run, monkeypatch, tmp_path, failing, called):
    commands = answering(run, monkeypatch, *failing)
    python = tmp_path / "bin" / "python"
    run.install(tmp_path, python, ["numpy", "torch"])
    assert commands[0] == [sys.executable, "-m", "venv", str(tmp_path)]
    starts = [
        [str(python), "-m", *(["pip", "install"] if words[0] == "-r" or words == ["uv"] else []), *words]
        for words in called
    ]
    assert [command[: len(start)] for command, start in zip(commands[1:], starts, strict=True)] == starts
    needs, limits = tmp_path / "requirements.txt", tmp_path / "constraints.txt"
    assert commands[-1][-4:] == ["-r", str(needs), "-c", str(limits)]
    assert all(command[5:7] == ["--python", str(python)] for command in commands if "pip" in command[3:4])
    assert needs.read_text() == "numpy\ntorch\n"
    assert limits.read_text().splitlines() == run.CONSTRAINTS


@pytest.mark.parametrize(
    "failing, told",
    [(("venv",), "install the package python3-venv"), (("-r",), "requirements could not be installed")],
)
def test_what_could_not_be_installed_is_told_with_the_last_lines(run, monkeypatch, tmp_path, failing, told):
    answering(run, monkeypatch, *failing)
    with pytest.raises(run.Failure, match=told) as failure:
        run.install(tmp_path, tmp_path / "python", ["numpy"])
    assert str(failure.value).splitlines()[:-1] == [f"line {i}" for i in range(10, 40)]


def test_commands_that_are_run_quietly_tell_what_they_said(run):
    said = run.quietly([sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"])
    assert (said.returncode, sorted(said.stdout.split())) == (3, ["1", "2"])


def test_requirements_are_read_without_comments_and_blank_lines(run, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# all that it needs\n\ntorch>=2  # large\n  numpy\n")
    assert run.requirement_lines(path) == ["torch>=2", "numpy"]


def noted_environments(run, monkeypatch) -> list[tuple[str, list[str]]]:
    """Let environments be noted down instead of made."""
    noted = []

    def environment(purpose, needs, make):
        noted.append((purpose, needs))
        return Path("python")

    monkeypatch.setattr(run, "environment", environment)
    return noted


def test_a_hosts_environment_has_what_it_and_the_tests_ask_for(run, monkeypatch, tmp_path):
    noted = noted_environments(run, monkeypatch)
    host = make_host(tmp_path / "host")
    (host / "requirements.txt").write_text("of-the-host\n")
    (tmp_path / "more.txt").write_text("of-the-bench\n")
    dev = run.requirement_lines(RUN.parent / "requirements-dev.txt")
    run.host_environment(run.read_host(host), tmp_path / "more.txt")
    assert noted == [("ComfyUI 1.2.3", ["of-the-host", "requests", *dev, "of-the-bench"])]
    run.core_environment()
    assert noted[1][1] == [*run.CORE_REQUIREMENTS, *dev]


@pytest.mark.parametrize("missing", ["main.py", "comfyui_version.py"])
def test_a_folder_that_lacks_a_file_of_comfyuis_is_none(run, tmp_path, missing):
    host = make_host(tmp_path / "host")
    (host / missing).unlink()
    assert run.read_host(host) is None


def test_a_version_that_cannot_be_read_is_unknown(run, tmp_path):
    host = make_host(tmp_path / "host")
    (host / "comfyui_version.py").write_text("__version__ = None\n")
    assert str(run.read_host(host)) == "ComfyUI of unknown version"


def test_a_host_that_is_named_twice_is_used_once(run, monkeypatch, tmp_path):
    host = make_host(tmp_path / "host")
    twice = [str(host), "", str(tmp_path / "other" / ".." / "host")]
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("COMFYUI_PATH", os.pathsep.join(twice))
    assert [found.path for found in run.find_hosts()] == [host]
    assert len(run.host_candidates()) == 2


def test_a_host_may_be_named_from_the_users_own_folder(run, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", os.path.join("~", "comfy"))
    assert run.host_candidates() == [Path(os.path.expanduser("~")) / "comfy"]


def test_a_checkout_that_lies_elsewhere_in_a_host_is_not_its_custom_node(run, monkeypatch, tmp_path):
    enclosing = make_host(tmp_path / "around")
    at_home = make_host(run.Path.home() / "comfy" / "ComfyUI")
    monkeypatch.setattr(run, "ROOT", enclosing / "projects" / "deig")
    assert [host.path for host in run.find_hosts()] == [at_home]


def test_comfy_cli_installs_the_source_alone_where_it_would_by_default(run, monkeypatch):
    place = run.Path.home() / "comfy" / "ComfyUI"
    noted = noted_environments(run, monkeypatch)
    commands = []

    def install(command):
        commands.append(command)
        make_host(place)
        return subprocess.CompletedProcess(command, 0, "")

    monkeypatch.setattr(run, "quietly", install)
    assert run.install_host() == run.Host(place, "1.2.3")
    assert noted == [("comfy-cli", ["comfy-cli"])]
    assert commands == [
        ["python", "-m", "comfy_cli", "--skip-prompt", f"--workspace={place}", "install", "--cpu", "--skip-manager",
         "--skip-torch-or-directml", "--skip-requirement"]
    ]  # fmt: skip


def test_nothing_is_installed_beside_a_host_that_was_named(run, monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    commands = answering(run, monkeypatch)
    with pytest.raises(run.Failure, match="nowhere"):
        run.install_host()
    assert not commands


@pytest.mark.parametrize(
    "found, user, failing, told, ran",
    [
        ({"chromium"}, 1000, (), "", []),
        ({"chromium-browser"}, 1000, (), "", []),
        ({"apt-get"}, 1000, (), "or name one with CHROMIUM", []),
        (set(), 0, (), "or name one with CHROMIUM", []),
        ({"apt-get"}, 0, (), "", ["update", "install"]),
        ({"apt-get"}, 0, ("install",), "line 39\nChromium could not be installed", ["update", "install"]),
    ],
)
def test_chromium_is_installed_where_there_is_none_and_we_may(
    run, monkeypatch, found, user, failing, told, ran
):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(run.shutil, "which", lambda name: name if name in found else None)
    monkeypatch.setattr(run.os, "geteuid", lambda: user, raising=False)
    commands = answering(run, monkeypatch, *failing)
    if told:
        with pytest.raises(run.Failure, match=told):
            run.check_for_chromium()
    else:
        run.check_for_chromium()
    assert [command[:2] for command in commands] == [["apt-get", what] for what in ran]
    monkeypatch.setenv("CHROMIUM", "mine")
    commands.clear()
    run.check_for_chromium()
    assert not commands


def test_the_newer_frontends_files_are_those_of_its_package(run, monkeypatch, tmp_path):
    noted_environments(run, monkeypatch)
    says = subprocess.CompletedProcess([], 0, f"{tmp_path}\n")
    monkeypatch.setattr(run, "quietly", lambda command: says)
    assert run.newer_frontend() == str(tmp_path / "static")


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


def test_browser_tests_run_on_every_host_with_the_packages_that_they_need(run, monkeypatch, tmp_path):
    hosts, needs, calls = [run.Host(tmp_path / name, name) for name in ("1", "2")], [], []

    def environment(host, *more):
        needs.append((host, *more))
        return Path(f"python {host.version}")

    monkeypatch.setattr(run, "check_for_chromium", lambda: None)
    monkeypatch.setattr(run, "host_environment", environment)
    monkeypatch.setattr(run, "newer_frontend", lambda: "newer")
    monkeypatch.setattr(run, "run_pytest", lambda *call, **variables: calls.append(call))
    list(run.run_browser_tests(hosts, ["-x"]))
    assert needs == [(host, run.TESTS / "browser" / "requirements.txt") for host in hosts]
    assert calls == [
        (f"{host} in Chromium", Path(f"python {host.version}"), ["tests/browser", "-x"], host)
        for host in hosts
    ]


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


def test_where_no_host_was_named_none_was_found(run):
    assert "is needed, but none was found." in run.how_to_get_a_host()


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


def test_a_run_that_broke_off_without_failures_says_so(run):
    assert str(run.Outcome("core", 3, seconds=1.6)) == f"  {'core':<44} 3 passed, 0 failed, 0 skipped   2 s"
    assert str(run.Outcome("core", 3, broke=True)).endswith("did not run to its end")
    assert not str(run.Outcome("core", 3, 1, broke=True)).endswith("end")


def test_a_pytest_that_cannot_begin_broke_off(run, tmp_path):
    outcome = run.run_pytest("some", Path(sys.executable), ["--no-such-option"], None)
    assert (outcome.counts(), outcome.broke) == ("0 passed, 0 failed, 0 skipped", True)


def test_tests_are_told_their_host_and_what_else_they_ask_for(run, tmp_path):
    """And where there is no host, none that the user named elsewhere."""
    content = "import os\ndef test_some(): assert os.environ['COMFYUI_PATH'] == {!r} and os.environ['MORE'] == 'more'"
    for host in (run.Host(tmp_path, "1"), None):
        (tmp_path / "test_some.py").write_text(content.format(str(tmp_path) if host else ""))
        outcome = run.run_pytest("some", Path(sys.executable), [str(tmp_path)], host, MORE="more")
        assert (outcome.name, outcome.passed) == ("some", 1)


@pytest.mark.parametrize("failing, failed", [((), 0), (("check",), 1), (("check", "format"), 2)])
def test_ruffs_two_checks_count_as_tests(run, monkeypatch, failing, failed):
    monkeypatch.setattr(run, "run_child", lambda command: int(command[3] in failing))
    outcome = run.check_sources(Path("python"))
    assert (outcome.passed, outcome.failed, outcome.broke) == (2 - failed, failed, False)


def test_sources_are_checked_and_left_as_they_are(run, monkeypatch):
    commands = []
    monkeypatch.setattr(run, "run_child", lambda command: commands.append(command) or 0)
    run.check_sources(Path("python"))
    assert [command[:3] for command in commands] == [["python", "-m", "ruff"]] * 2
    assert [command[3:] for command in commands] == [["check", "."], ["format", "--check", "."]]


@pytest.mark.parametrize(
    "versions, arguments, calls",
    [
        (
            ("1", "2"),
            ["-x"],
            [
                ("1", None, ["tests", "--ignore=tests/host", "-x"]),
                ("1", "1", ["tests/host", "-x"]),
                ("2", "2", ["tests/host", "-x"]),
            ],
        ),
        (("1",), ["tests/core", "-x"], [("1", None, ["tests/core", "-x"])]),
        (("1",), ["tests/host"], [("1", "1", ["tests/host"])]),
        ((), ["-x"], [("core", None, ["tests", "tests/host", "-x"])]),
        ((), ["tests/host"], [("core", None, ["tests/host"])]),
    ],
)
def test_host_tests_run_on_every_host_and_all_others_once(run, monkeypatch, versions, arguments, calls):
    found = []

    def run_pytest(name, python, arguments, host):
        found.append((str(python), host.version if host else None, arguments))
        return run.Outcome(name)

    monkeypatch.setattr(run, "run_pytest", run_pytest)
    monkeypatch.setattr(run, "check_sources", lambda python: run.Outcome("sources"))
    monkeypatch.setattr(run, "host_environment", lambda host: Path(host.version))
    monkeypatch.setattr(run, "core_environment", lambda: Path("core"))
    hosts = [run.Host(RUN.parent / version, version) for version in versions]
    outcomes = list(run.run_tests(hosts, arguments))
    assert found == calls
    assert [outcome.name for outcome in outcomes] == ["sources"] + [
        f"ComfyUI {host}" if host else "tests that need no ComfyUI" for _, host, _ in calls
    ]


def test_long_and_browser_tests_run_where_they_are_asked_for(run, monkeypatch):
    monkeypatch.setenv("DEIG_LONG", "")
    make_host(run.Path.home() / "comfy" / "ComfyUI")
    asked = []

    def note(hosts, arguments):
        asked.append((len(hosts), arguments, os.environ["DEIG_LONG"]))
        return iter([run.Outcome("some", passed=1)])

    monkeypatch.setattr(run, "run_tests", note)
    monkeypatch.setattr(run, "run_browser_tests", note)
    run.test(run.parse_arguments(["test", "-x"]))
    assert asked == [(1, ["-x"], "")]
    run.test(run.parse_arguments(["test", "--browser", "--long", "tests/core", "-x"]))
    assert asked[1:] == [(1, ["-rP", "tests/core", "-x"], "1"), (1, ["-rP", "-x"], "1")]


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


def test_every_run_has_a_line_in_the_summary(run, monkeypatch, capsys):
    make_host(run.Path.home() / "comfy" / "ComfyUI")
    outcomes = [run.Outcome("core", passed=5), run.Outcome("more", failed=2, skipped=1)]
    _, lines = run_test_command(run, monkeypatch, capsys, outcomes)
    assert lines[lines.index("Summary") + 1 :] == [
        *map(str, outcomes), "5 passed, 2 failed, 1 skipped",
    ]  # fmt: skip


def test_without_a_host_there_is_nothing_to_try_in_a_browser(run, monkeypatch, capsys):
    tried = []
    monkeypatch.setattr(run, "run_tests", lambda hosts, arguments: iter([run.Outcome("core", passed=1)]))
    monkeypatch.setattr(run, "run_browser_tests", lambda *call: tried.append(call) or [])
    assert run.test(run.parse_arguments(["test", "--browser"])) == 0 and not tried


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


def run_demo(run, monkeypatch, *arguments: str) -> list[str]:
    """The command that the demo would run, without making environments."""
    commands = []
    monkeypatch.setattr(run, "environment", lambda purpose, needs, make: Path("python"))
    monkeypatch.setattr(run, "run_child", commands.append)
    run.demo(run.parse_arguments(["demo", *arguments]))
    return commands[0]


@pytest.mark.parametrize(
    "arguments, out", [((), RUN.parent / "out" / "demo.png"), (("--out", "a.png"), None)]
)
def test_the_demo_writes_where_it_is_told(run, monkeypatch, tmp_path, arguments, out):
    (make_host(run.Path.home() / "comfy" / "ComfyUI") / "requirements.txt").touch()
    monkeypatch.chdir(tmp_path)
    command = run_demo(run, monkeypatch, *arguments)
    assert command[:3] == ["python", "-m", "demo.show"]
    assert command[-2:] == ["--out", str(out or tmp_path / "a.png")]


@pytest.mark.parametrize("command", ["demo", "ui"])
def test_the_exit_code_is_that_of_what_was_started(run, monkeypatch, command):
    (make_host(run.Path.home() / "comfy" / "ComfyUI") / "requirements.txt").touch()
    monkeypatch.setattr(run, "environment", lambda purpose, needs, make: Path("python"))
    monkeypatch.setattr(run, "run_child", lambda command: 7)
    options = run.parse_arguments([command])
    assert options.run(options) == 7


def test_without_a_host_the_demo_needs_what_the_training_pipeline_does(run, monkeypatch):
    monkeypatch.setattr(run, "demo_host", lambda: None)
    noted = noted_environments(run, monkeypatch)
    monkeypatch.setattr(run, "run_child", lambda command: 0)
    run.demo(run.parse_arguments(["demo"]))
    needs = run.requirement_lines(RUN.parent / "small_model" / "requirements.txt")
    assert noted == [("painting without ComfyUI", needs)]


def run_bench(run, monkeypatch, *arguments: str) -> tuple[list[str], list[str]]:
    """The command that `bench` would run, and what its environment needs."""
    noted, commands = noted_environments(run, monkeypatch), []
    monkeypatch.setattr(run, "run_child", commands.append)
    options = run.parse_arguments(["bench", *arguments])
    options.run(options)
    return commands[0], noted[0][1]


@pytest.mark.parametrize(
    "arguments, module, more",
    [
        (["--quick", "--way", "GLIGEN"], "speed", ["--quick", "--way", "GLIGEN"]),
        (["--quality", "--layouts", "9"], "quality", ["--layouts", "9"]),
        (["--eligen"], "eligen", []),
    ],
)
def test_every_bench_runs_in_the_first_host(run, monkeypatch, tmp_path, arguments, module, more):
    host = make_host(run.Path.home() / "comfy" / "ComfyUI")
    (host / "requirements.txt").write_text("of-the-host\n")
    (make_host(run.Path.home() / "comfy" / "ComfyUI-old") / "requirements.txt").touch()
    command, needs = run_bench(run, monkeypatch, *arguments)
    out = RUN.parent / "out" / "bench"
    assert command == [
        "python", "-m", f"bench.{module}.run", "--host", str(host), "--out", str(out), *more
    ]  # fmt: skip
    assert needs[0] == "of-the-host"
    assert set(run.requirement_lines(RUN.parent / "bench" / "requirements.txt")) <= set(needs)
    monkeypatch.chdir(tmp_path)
    command, _ = run_bench(run, monkeypatch, *arguments, "--out", "here")
    assert command[command.index("--out") + 1] == str(tmp_path / "here")


def test_a_bench_without_a_host_says_how_to_get_one(run, monkeypatch):
    with pytest.raises(run.Failure, match="COMFYUI_PATH"):
        run_bench(run, monkeypatch)


@pytest.mark.parametrize("has_host", [True, False])
def test_the_papers_benchmarks_run_with_a_host_and_without(run, monkeypatch, tmp_path, has_host):
    where = []
    if has_host:
        host = make_host(run.Path.home() / "comfy" / "ComfyUI")
        (host / "requirements.txt").write_text("of-the-host\n")
        where = ["--host", str(host)]
    command, needs = run_bench(run, monkeypatch, "--papers", "shapes", "--server", "there")
    out = ["--out", str(RUN.parent / "out" / "papers")]
    assert command == ["python", "-m", "bench.papers.run", "shapes", *where, *out, "--server", "there"]
    assert ("of-the-host" in needs) == has_host and ("torchvision" in needs) != has_host
    command, _ = run_bench(run, monkeypatch, "--papers", "--out", str(tmp_path), "--score")
    assert command[3:] == [*where, "--out", str(tmp_path), "--score"]


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (lambda run: run.Failure("no network"), 2, "no network\n"),
        (lambda run: KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_the_command_ends_in_words(run, monkeypatch, capsys, raised, code, said):
    def fails(options):
        raise raised(run)

    monkeypatch.setattr(run, "bench", fails)
    monkeypatch.setattr(run, "raise_when_ended", lambda: None)
    monkeypatch.setattr(sys, "argv", ["run.py", "bench"])
    assert run.main() == code
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("command", ["demo", "ui", "bench"])
def test_the_host_that_is_used_is_said(run, monkeypatch, capsys, command):
    host = make_host(run.Path.home() / "comfy" / "ComfyUI")
    (host / "requirements.txt").touch()
    monkeypatch.setattr(run, "environment", lambda purpose, needs, make: Path("python"))
    monkeypatch.setattr(run, "run_child", lambda command: 0)
    options = run.parse_arguments([command])
    options.run(options)
    assert f"Using ComfyUI 1.2.3 in {host}\n" in capsys.readouterr().out


def test_the_demo_paints_in_the_first_host(run, monkeypatch):
    host = make_host(run.Path.home() / "comfy" / "ComfyUI")
    (host / "requirements.txt").touch()
    (make_host(run.Path.home() / "comfy" / "ComfyUI-old") / "requirements.txt").touch()
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


def test_a_port_is_a_number(run, capsys):
    with pytest.raises(SystemExit):
        run.parse_arguments(["ui", "--port", "many"])
    assert "--port" in capsys.readouterr().err
    assert run.parse_arguments(["ui", "--port", "8288"]).port == 8288


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
    (make_host(run.Path.home() / "comfy" / "ComfyUI-old") / "requirements.txt").touch()
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


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_ends_us_is_in_the_exit_code(name):
    code = f"{PARENT.rsplit(chr(10), 2)[0]}; import signal; signal.raise_signal(signal.{name})"
    ended = subprocess.run([sys.executable, "-c", code, str(RUN)], capture_output=True)
    assert ended.returncode == 128 + getattr(signal, name)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_is_heard_where_it_was_ignored_before(tmp_path):
    """As a shell starts what it runs in the background."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(RUN), CHILD, str(tmp_path)],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        while not (tmp_path / "began").exists():
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(signal.SIGINT)
        assert parent.wait(timeout=20) != 0
        assert (tmp_path / "cleaned").exists()
    finally:
        if parent.poll() is None:
            parent.send_signal(signal.SIGTERM)
            parent.wait(timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    "what, code", [("signal.raise_signal(signal.SIGTERM)", 128 + signal.SIGTERM), ("7", 7), ("0", 0)]
)
def test_a_command_ends_with_the_code_of_what_it_did(what, code):
    lines = f"{PARENT.rsplit(chr(10), 3)[0]}\nimport signal\nrun.demo = lambda options: {what}"
    end = "sys.argv[1:] = ['demo']\nsys.exit(run.main())"
    ended = subprocess.run([sys.executable, "-c", f"{lines}\n{end}", str(RUN)], capture_output=True)
    assert ended.returncode == code, ended.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX process groups")
def test_a_child_does_not_get_the_keyboards_ctrl_c_itself(run, tmp_path):
    """A terminal sends it to a whole group of processes; the child gets it from us, once."""
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(os.getpgid(0)))"
    assert run.run_child([sys.executable, "-c", code, str(tmp_path / "group")]) == 0
    assert int((tmp_path / "group").read_text()) != os.getpgid(0)


def test_a_child_runs_in_the_repository_with_what_it_is_told(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code = "import os, pathlib, sys; (pathlib.Path(sys.argv[1]) / 'said').write_text(os.getcwd() + os.environ['TOLD'])"
    assert run.run_child([sys.executable, "-c", code, str(tmp_path)], TOLD="told") == 0
    assert (tmp_path / "said").read_text() == f"{RUN.parent}told"
    assert run.run_child([sys.executable, "-c", "raise SystemExit(5)"]) == 5


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_child_that_does_not_end_is_killed(run, monkeypatch):
    monkeypatch.setattr(run, "END_SECONDS", 0.05)
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        run.end(child)
    assert child.returncode == -signal.SIGKILL
    child.stdout.close()


@pytest.mark.parametrize("arguments", [["--help"], ["ui", "--help"], ["demo", "--help"], ["test", "--help"]])
def test_help_needs_nothing_installed(arguments):
    # -I and -S: no site-packages, so anything but the standard library would fail to import.
    command = [sys.executable, "-I", "-S", str(RUN), *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage: run.py" in shown.stdout
