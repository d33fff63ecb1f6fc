#!/usr/bin/env python3
"""The commands of this repository, with nothing needed but Python 3.10 or later.

    python run.py ui      open a real ComfyUI with this pack and the small model, to play with
    python run.py demo    paint one picture with the small model, in a real ComfyUI
    python run.py test    check the sources and run the tests, on every ComfyUI that is found
    python run.py bench   measure what DEIG costs; with --quality, how well the small model paints; with --papers,
                          paint and score the papers' own benchmarks

Each makes the environments it needs in your cache folder (set DEIG_CACHE to have them elsewhere) and uses
them again while the requirements stand unchanged. Delete the folder to be rid of them.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TESTS = ROOT / "tests"

# What ComfyUI supplies to the pack, for the tests that need no ComfyUI.
CORE_REQUIREMENTS = [
    "torch",
    "numpy",
    "einops",
    "transformers",
    "safetensors",
    "sentencepiece",
    "pillow",
    "tqdm",
    "aiohttp",
]
# What the papers' benchmarks need beside these, where there is no ComfyUI.
PAPERS_REQUIREMENTS = ["torchvision"]
# ComfyUI 0.3.64 imports it without asking for it.
HOST_EXTRAS = ["requests"]
# Besides the frontends that the hosts bring, the editor is tried in this one, on the newest host.
NEWER_FRONTEND = "comfyui-frontend-package==1.58.1"
# Hosts ask for any version of these three, which must fit each other.
CONSTRAINTS = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]

COMFY_CLI_PLACE = Path("comfy") / "ComfyUI"  # below the home folder
END_SECONDS = 40  # more than the tests and the demo take to end a server
NO_TESTS_COLLECTED = 5  # pytest's exit code
LOG_TAIL_LINES = 30


class Failure(Exception):
    """Something that the user has to see to; its text says what."""


def say(text: str):
    print(text, flush=True)


# Environments


def cache_folder() -> Path:
    """Where environments are kept, for this user."""
    if chosen := os.environ.get("DEIG_CACHE"):
        return Path(chosen).expanduser().resolve()
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "comfyui-deig"


def environment_key(requirements: str) -> str:
    """A name that changes when the requirements or the interpreter do."""
    interpreter = f"{sys.implementation.cache_tag} {sys.platform} {sys.base_prefix}"
    return hashlib.sha256(f"{interpreter}\n{requirements}".encode()).hexdigest()[:16]


def environment(purpose: str, requirements: list[str], make: Callable[[Path, Path, list[str]], None]) -> Path:
    """Return the Python of an environment that has `requirements`, making it where it is missing.

    A file written last marks an environment as whole: without it what is there is made anew. A lock keeps
    two runs from making the same one at once.

    Args:
        purpose: what the environment is for, in words for the user.
        requirements: as pip takes them, one each.
        make: called with the folder, the Python to put there, and the requirements.
    """
    text = "\n".join([*requirements, *CONSTRAINTS]) + "\n"
    folder = cache_folder() / "environments" / environment_key(text)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    marker = folder / "complete.txt"

    def is_whole() -> bool:
        # The interpreter is a link, which breaks when the Python it was made from is removed.
        return marker.exists() and python.exists()

    if not is_whole():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")):
            if not is_whole():
                started = time.monotonic()
                say(f"Making an environment for {purpose} in {folder} ...")
                shutil.rmtree(folder, ignore_errors=True)
                make(folder, python, requirements)
                marker.write_text(text, encoding="utf-8")
                say(f"  done in {time.monotonic() - started:.0f} s; later runs use it again")
    return python


def install(folder: Path, python: Path, requirements: list[str]):
    """Make a virtual environment in `folder` and install `requirements` into it."""
    made = quietly([sys.executable, "-m", "venv", str(folder)])
    if made.returncode:
        raise Failure(
            f"{tail(made.stdout)}\nPython could not make a virtual environment (see above). On Debian and "
            "Ubuntu, install the package python3-venv."
        )
    needs, limits = folder / "requirements.txt", folder / "constraints.txt"
    needs.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    limits.write_text("\n".join(CONSTRAINTS) + "\n", encoding="utf-8")
    pip = [str(python), "-m", "pip", "install"]
    files = ["-r", str(needs), "-c", str(limits)]
    # uv is many times faster, but reads none of pip's settings: where it fails, pip may yet know the way.
    if quietly([*pip, "uv"]).returncode == 0:
        if (
            quietly([str(python), "-m", "uv", "pip", "install", "--python", str(python), *files]).returncode
            == 0
        ):
            return
        say("  uv could not install everything; trying pip, which takes longer")
    installed = quietly([*pip, *files])
    if installed.returncode:
        raise Failure(f"{tail(installed.stdout)}\nThe requirements could not be installed (see above).")


def quietly(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def tail(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file. The system lets go of it when this process ends, however it ends."""
    with path.open("a+") as file:
        if not take_lock(file.fileno()):
            say("Another run is making the same environment; waiting for it ...")
            while not take_lock(file.fileno()):
                time.sleep(1)
        yield


def take_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# Hosts


@dataclass(frozen=True)
class Host:
    """A ComfyUI's source folder and its version."""

    path: Path
    version: str

    def __str__(self) -> str:
        return f"ComfyUI {self.version}"


def read_host(path: Path) -> Host | None:
    """The ComfyUI in a folder, or None where there is none."""
    version_file = path / "comfyui_version.py"
    if not (path / "main.py").is_file() or not version_file.is_file():
        return None
    version = re.search(r'__version__ = "(.+?)"', version_file.read_text(encoding="utf-8"))
    return Host(path.resolve(), version.group(1) if version else "of unknown version")


def host_candidates() -> list[Path]:
    """Folders that may hold a ComfyUI: those named, else the one we lie in, else those in ~/comfy."""
    if named := os.environ.get("COMFYUI_PATH"):
        return [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    enclosing = ROOT.parent.parent
    if ROOT.parent.name == "custom_nodes" and read_host(enclosing):
        return [enclosing]
    return sorted((Path.home() / COMFY_CLI_PLACE.parent).glob("ComfyUI*"))


def find_hosts() -> list[Host]:
    hosts = [host for path in host_candidates() if (host := read_host(path))]
    return list(dict.fromkeys(hosts))


def how_to_get_a_host() -> str:
    named = os.environ.get("COMFYUI_PATH")
    found = f"COMFYUI_PATH is {named!r}, which holds none" if named else "none was found"
    return (
        f"A ComfyUI of 0.3.64 or later is needed, but {found}.\n"
        "Set COMFYUI_PATH to a ComfyUI folder (the one with main.py), or clone ComfyUI into ~/comfy/ComfyUI."
    )


def install_host() -> Host:
    """Install ComfyUI's source with comfy-cli, where comfy-cli puts it by default."""
    if os.environ.get("COMFYUI_PATH"):
        # Whoever names a place does not want another one to be made.
        raise Failure(how_to_get_a_host())
    place = Path.home() / COMFY_CLI_PLACE
    python = environment("comfy-cli", ["comfy-cli"], install)
    say(f"Installing ComfyUI with comfy-cli into {place} ...")
    options = ["--cpu", "--skip-manager", "--skip-torch-or-directml", "--skip-requirement"]
    command = [str(python), "-m", "comfy_cli", "--skip-prompt", f"--workspace={place}", "install", *options]
    installed = quietly(command)
    host = read_host(place)
    if host is None:
        raise Failure(
            f"{tail(installed.stdout)}\ncomfy-cli could not install it (see above).\n{how_to_get_a_host()}"
        )
    return host


def requirement_lines(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def host_environment(host: Host, *more: Path) -> Path:
    """The environment with what a host asks for, with what the tests need, and with `more` requirement files."""
    needs = [*requirement_lines(host.path / "requirements.txt"), *HOST_EXTRAS]
    files = (ROOT / "requirements-dev.txt", *more)
    return environment(
        str(host), needs + [line for file in files for line in requirement_lines(file)], install
    )


def core_environment() -> Path:
    needs = CORE_REQUIREMENTS + requirement_lines(ROOT / "requirements-dev.txt")
    return environment("the tests that need no ComfyUI", needs, install)


# The browser


def check_for_chromium():
    """Install Debian's Chromium where there is none and we may; else say what to do."""
    if os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser"):
        return
    advice = "Install Chromium (Debian: apt-get install chromium), or name one with CHROMIUM."
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Failure(f"The browser tests need Chromium, but none was found.\n{advice}")
    say("Installing Debian's Chromium ...")
    quietly(["apt-get", "update"])
    installed = quietly(["apt-get", "install", "-y", "chromium"])
    if installed.returncode:
        raise Failure(f"{tail(installed.stdout)}\nChromium could not be installed (see above).\n{advice}")


def newer_frontend() -> str:
    """The folder of the newer frontend's files."""
    python = environment("a newer frontend", [NEWER_FRONTEND], install)
    where = "import comfyui_frontend_package as package; print(package.__path__[0])"
    return str(Path(quietly([str(python), "-c", where]).stdout.strip()) / "static")


def run_browser_tests(hosts: list[Host], arguments: list[str]) -> Iterator["Outcome"]:
    check_for_chromium()
    newest = max(hosts, key=lambda host: [int(part) for part in re.findall(r"\d+", host.version)])
    for host in hosts:
        python = host_environment(host, TESTS / "browser" / "requirements.txt")
        frontends = newer_frontend() if host == newest else ""
        say(f"\nTests in Chromium, {host}, {host.path}")
        name = f"{host} in Chromium"
        yield run_pytest(name, python, ["tests/browser", *arguments], host, DEIG_FRONTENDS=frontends)


# Child processes


def run_child(command: list[str], **variables: str) -> int:
    """Run a command to its end in this repository. When we are interrupted, it is, and may clean up.

    It gets a process group of its own, so that one Ctrl-C arrives there once, from us.
    """
    new_group = os.name != "nt"
    child = subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, start_new_session=new_group)
    try:
        return child.wait()
    finally:
        end(child)


def end(child: subprocess.Popen):
    if child.poll() is not None:
        return
    if os.name != "nt":  # on Windows the console has told the child already
        child.send_signal(signal.SIGINT)
    try:
        child.wait(END_SECONDS)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def raise_when_ended():
    """Let SIGTERM and a closed terminal unwind the stack as Ctrl-C does, so that nothing is left behind."""

    def leave(number, _):
        raise SystemExit(128 + number)

    # Said outright, because a shell starts background jobs with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, leave)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, leave)


# demo


def png(name: str) -> Path:
    """The path of a picture to write, asked for before minutes are spent on it."""
    if Path(name).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{name} is to be a PNG, so give it a name that ends in .png.")
    return Path(name)


def demo_host() -> Host | None:
    """A ComfyUI to paint in, installed where there is none; None where that fails."""
    hosts = find_hosts()
    try:
        return hosts[0] if hosts else install_host()
    except Failure:
        if os.environ.get("COMFYUI_PATH"):
            raise  # whoever names a ComfyUI wants that one
        say(f"comfy-cli could not install ComfyUI.\n{how_to_get_a_host()}")
        return None


def demo(options: argparse.Namespace) -> int:
    host = demo_host()
    if host:
        say(f"Using {host} in {host.path}")
        python, where = host_environment(host), ["--host", str(host.path)]
    else:
        say("Painting without ComfyUI, through the training pipeline.")
        needs = requirement_lines(ROOT / "small_model" / "requirements.txt")
        python, where = environment("painting without ComfyUI", needs, install), []
    return run_child([str(python), "-m", "demo.show", *where, "--out", str(options.out.resolve())])


# ui


def ui(options: argparse.Namespace) -> int:
    hosts = find_hosts()
    host = hosts[0] if hosts else install_host()
    say(f"Using {host} in {host.path}")
    command = [str(host_environment(host)), "-m", "demo.play", "--host", str(host.path)]
    command += [f"--port={options.port}"] if options.port else []
    command += [f"--keep={options.keep.resolve()}"] if options.keep else []
    command += [] if options.browser else ["--no-browser"]
    try:
        return run_child(command)
    except KeyboardInterrupt:
        return 0  # the way to end it; the child says that it has


# bench


def bench_papers(options: argparse.Namespace) -> int:
    """The papers' benchmarks. With a server named, or to score, there need be no ComfyUI here."""
    hosts = find_hosts()
    if hosts:
        python, where = host_environment(hosts[0]), ["--host", str(hosts[0].path)]
    else:
        needs = [*CORE_REQUIREMENTS, *PAPERS_REQUIREMENTS]
        python, where = environment("the papers' benchmarks", needs, install), []
    out = options.out or ROOT / "out" / "papers"
    named = [options.papers] if options.papers else []
    command = [str(python), "-m", "bench.papers.run", *named, *where, "--out", str(out.resolve())]
    return run_child([*command, *options.further])


def bench(options: argparse.Namespace) -> int:
    if options.papers is not None:
        return bench_papers(options)
    hosts = find_hosts()
    if not hosts:
        raise Failure(how_to_get_a_host())
    say(f"Using {hosts[0]} in {hosts[0].path}")
    python = host_environment(hosts[0], ROOT / "bench" / "requirements.txt")
    kind = "quality" if options.quality else "eligen" if options.eligen else "speed"
    out = options.out or ROOT / "out" / "bench"
    places = ["--host", str(hosts[0].path), "--out", str(out.resolve())]
    return run_child([str(python), "-m", f"bench.{kind}.run", *places, *options.further])


# test


@dataclass(frozen=True)
class Outcome:
    """What one run of checks or tests came to."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    broke: bool = False

    def counts(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def __str__(self) -> str:
        note = "   did not run to its end" if self.broke and not self.failed else ""
        return f"  {self.name:<44} {self.counts()}   {self.seconds:.0f} s{note}"


def check_sources(python: Path) -> Outcome:
    """ruff's two checks, counted as tests."""
    started = time.monotonic()
    checks = (["check", "."], ["format", "--check", "."])
    codes = [run_child([str(python), "-m", "ruff", *check]) for check in checks]
    failed = sum(code != 0 for code in codes)
    return Outcome("sources (ruff)", len(codes) - failed, failed, 0, time.monotonic() - started)


def lies_in(argument: str, folder: Path) -> bool:
    """Whether an argument of pytest's is a path below `folder`, as tests/core/test_ide.py::test_name is."""
    path = (ROOT / argument.split("::")[0]).resolve()
    return path.exists() and path.is_relative_to(folder)


def split_paths(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split pytest's arguments into tests that need no host, tests that do, and the rest."""
    paths = [argument for argument in arguments if lies_in(argument, TESTS)]
    host_paths = [path for path in paths if lies_in(path, TESTS / "host")]
    core_paths = [path for path in paths if path not in host_paths]
    rest = [argument for argument in arguments if argument not in paths]
    return core_paths, host_paths, rest


def run_pytest(name: str, python: Path, arguments: list[str], host: Host | None, **variables: str) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deig-test-") as folder:
        report = Path(folder) / "report.xml"
        command = [str(python), "-m", "pytest", f"--junitxml={report}", *arguments]
        code = run_child(command, COMFYUI_PATH=str(host.path) if host else "", **variables)
        total = passed = failed = skipped = 0
        if report.exists():
            for suite in ElementTree.parse(report).iter("testsuite"):
                total += int(suite.get("tests"))
                failed += int(suite.get("failures")) + int(suite.get("errors"))
                skipped += int(suite.get("skipped"))
            passed = max(total - failed - skipped, 0)
    seconds = time.monotonic() - started
    return Outcome(name, passed, failed, skipped, seconds, broke=code not in (0, NO_TESTS_COLLECTED))


def run_tests(hosts: list[Host], arguments: list[str]) -> Iterator[Outcome]:
    """The sources, then the tests that need no host once, then the host tests on every host."""
    python = host_environment(hosts[0]) if hosts else core_environment()
    yield check_sources(python)

    core_paths, host_paths, rest = split_paths(arguments)
    if not core_paths and not host_paths:
        core_paths, host_paths = ["tests", "--ignore=tests/host"], ["tests/host"]
    if not hosts:
        # They stay in the one run there is, where each says that it was skipped and why.
        core_paths = [path for path in core_paths if path != "--ignore=tests/host"] + host_paths
    if core_paths:
        say("\nTests that need no ComfyUI")
        yield run_pytest("tests that need no ComfyUI", python, [*core_paths, *rest], None)
    for host in hosts if host_paths else []:
        python = host_environment(host)
        say(f"\nTests in {host}, {host.path}")
        yield run_pytest(str(host), python, [*host_paths, *rest], host)


def test(options: argparse.Namespace) -> int:
    hosts = find_hosts()
    further = options.further
    if options.long:
        os.environ["DEIG_LONG"] = "1"
        further = ["-rP", *further]  # what the long tests count
    outcomes = list(run_tests(hosts, further))
    if options.browser and hosts:
        outcomes += run_browser_tests(hosts, split_paths(further)[2])
    say("\nSummary")
    for outcome in outcomes:
        say(str(outcome))
    if not hosts:
        say(f"The tests in a real ComfyUI were SKIPPED. {how_to_get_a_host()}")
    total = Outcome(
        "all",
        passed=sum(outcome.passed for outcome in outcomes),
        failed=sum(outcome.failed for outcome in outcomes),
        skipped=sum(outcome.skipped for outcome in outcomes),
    )
    say(total.counts())
    return int(total.failed > 0 or any(outcome.broke for outcome in outcomes))


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser(
        "demo",
        help="paint one picture with the small model, in a real ComfyUI",
        description="Starts a ComfyUI server of its own, paints with the small model of small_model/weights, and saves "
        "the layout, the picture, and the same seed without DEIG side by side. Where no ComfyUI can be had, it paints "
        "the same through the training pipeline.",
    )
    demo_parser.add_argument(
        "--out", type=png, default=ROOT / "out" / "demo.png", help="the PNG to write (default: out/demo.png)"
    )
    demo_parser.set_defaults(run=demo)
    ui_parser = commands.add_parser(
        "ui",
        help="open a real ComfyUI with this pack and the small model, to play with",
        description="Starts a ComfyUI server of its own on 127.0.0.1, with the small model in its places and a "
        "workflow open that paints with it, and opens the browser where there is one. Ctrl-C ends it; nothing is left "
        "behind.",
    )
    ui_parser.add_argument("--port", type=int, help="the port on 127.0.0.1 (default: a free one)")
    ui_parser.add_argument(
        "--keep", type=Path, help="a folder for the pictures, which are thrown away otherwise"
    )
    ui_parser.add_argument("--no-browser", dest="browser", action="store_false", help="open no browser")
    ui_parser.set_defaults(run=ui)
    test_parser = commands.add_parser(
        "test",
        help="check the sources and run the tests, on every ComfyUI that is found",
        description="Runs ruff, the tests that need no ComfyUI once, and the host tests on every ComfyUI found: "
        "those in COMFYUI_PATH, else the one this checkout lies in, else ~/comfy/ComfyUI*. "
        "Further arguments go to pytest, for example: run.py test -x -k regions",
    )
    test_parser.add_argument(
        "--browser",
        action="store_true",
        help="also test the region editor in a real Chromium, which is installed where this is Debian",
    )
    test_parser.add_argument(
        "--long",
        action="store_true",
        help="look a hundred times as long for input that breaks a reader, and run what takes minutes: a thousand "
        "prompts, a hundred interrupts, a full disk. Hours on two cores",
    )
    test_parser.set_defaults(run=test)
    bench_parser = commands.add_parser(
        "bench",
        help="measure what DEIG costs; with --quality, how well the small model paints; with --papers, the papers' own "
        "benchmarks",
        description="Measures time and memory of full-size models with random weights, against the plain model and "
        "what DEIG replaces, in the first ComfyUI found: cases take turns, pair by pair, until the spread of their "
        "ratio tells, or it says that it cannot be told here. About two hours on two quiet CPU cores. Further "
        "arguments go to the benchmark: --quick takes about a minute, --size 512x512 half of the time, --way GLIGEN "
        "asks only about that way of painting, --one-thread counts CPU seconds, for a machine that is busy; --pairs, "
        "--dtype and --only-pairs are said by python -m bench.speed.run --help.",
    )
    bench_parser.add_argument(
        "--quality", action="store_true", help="paint held-out layouts with the small model and judge them"
    )
    bench_parser.add_argument(
        "--eligen",
        action="store_true",
        help="measure EliGen in FLUX.1 and Qwen-Image of full width and few blocks",
    )
    bench_parser.add_argument(
        "--papers",
        nargs="?",
        const="",
        metavar="BENCH",
        help="paint deig-bench, mig-bench, shapes or a file on ComfyUIs that --server names, or one started here; "
        "--score and --compare what was painted. Its further arguments are said by python -m bench.papers.run --help",
    )
    bench_parser.add_argument(
        "--out", type=Path, help="the folder to write to (default: out/bench; with --papers, out/papers)"
    )
    bench_parser.set_defaults(run=bench)
    options, further = parser.parse_known_args(arguments)
    if further and options.command in ("demo", "ui"):
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    options.further = further
    return options


def main() -> int:
    options = parse_arguments(sys.argv[1:])
    raise_when_ended()
    try:
        return options.run(options)
    except Failure as failure:
        say(f"{failure}")
        return 2
    except KeyboardInterrupt:
        say("Interrupted.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
