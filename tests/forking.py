"""Run pytest in a child of this process, which has imported what takes long and is not ours: torch, and a ComfyUI.

The child imports the pack anew, from the folder that it runs in. Where processes cannot be forked (Windows), pytest
starts as usual.
"""

import atexit
import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CAN_FORK = hasattr(os, "fork")
HEAVY = (
    "PIL.ImageDraw",
    "einops",
    "hypothesis.extra.numpy",
    "pytest",
    "safetensors.torch",
    "torch",
    "transformers",
)
# The first as ComfyUI's main.py does, before its nodes.py puts comfy/utils.py in its way.
HEAVY_IN_HOST = ("utils.extra_config", "comfy.sd", "comfy.sample", "comfy_api.latest", "nodes", "server")

# The folders below what the host has for its base: kept as the host made them, and as children leave them.
_bases: list[tuple[Path, Path]] = []


@dataclass(frozen=True)
class Ended:
    """How a pytest ended: its exit code, None if it had to be killed, and what it wrote."""

    code: int | None
    output: str


def warm(host: Path | None):
    """Import what is heavy, so that children need not; with a host that too, as tests/host/conftest.py opens it.

    Torch must not have threads when a process is forked: call this before anything else has imported it.
    """
    if not CAN_FORK:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    _import(HEAVY)
    if host:
        base, kept = Path(tempfile.mkdtemp(prefix="deig-host-")), Path(tempfile.mkdtemp(prefix="deig-kept-"))
        for folder in (base, kept):
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _open_host(host, base)
        shutil.copytree(base, kept, dirs_exist_ok=True)
        _bases.append((kept, base))
    gc.collect()
    gc.freeze()  # so that children share its pages


def _import(names: Sequence[str]):
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:  # not every environment and not every host has all of them
            print(f"{name} is left to the tests: {error}", file=sys.stderr)


def _open_host(host: Path, base: Path):
    """What bench/host.py does, without the pack. Its `open_host` finds the command line parsed, and takes `base`."""
    argv = sys.argv
    sys.path.insert(0, str(host))
    sys.argv = ["main.py", "--base-directory", str(base), "--cpu"]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
    finally:
        sys.argv = argv
    _import(HEAVY_IN_HOST)


def run_pytest(
    arguments: Sequence[str], place: Path, environment: dict[str, str], seconds: float, fork: bool = True
) -> Ended:
    """Run pytest in the folder `place`, forked if that can be, and kill it after `seconds`."""
    if not (fork and CAN_FORK):
        command = [sys.executable, "-m", "pytest", *arguments]
        options = {"cwd": place, "env": environment, "stdin": subprocess.DEVNULL, "timeout": seconds}
        try:
            done = subprocess.run(command, **options, capture_output=True, text=True, errors="replace")
        except subprocess.TimeoutExpired:
            return Ended(None, "")
        return Ended(done.returncode, done.stdout + done.stderr)
    for kept, base in _bases:
        shutil.rmtree(base)
        shutil.copytree(kept, base)
    with tempfile.NamedTemporaryFile() as log:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _be_pytest(arguments, place, environment, log.fileno())
        code = _wait(child, seconds)
        return Ended(code, Path(log.name).read_text(encoding="utf-8", errors="replace"))


def _wait(child: int, seconds: float) -> int | None:
    """Wait for a child and kill what it leaves behind."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                child = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return None
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _be_pytest(arguments: Sequence[str], place: Path, environment: dict[str, str], log: int):
    """Become a pytest that has never seen this repository; it never returns."""
    code = 3  # pytest's for an error of its own
    try:
        for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(place)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # what `environment` says
        sys.argv = ["pytest", *arguments]
        _forget_the_pack()
        import pytest

        code = int(pytest.main(list(arguments)))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _forget_the_pack():
    """Forget this repository: its modules, and that it can be imported from."""
    # Found before any is dropped: where a package without __init__.py lies is asked of its parent.
    for name in [name for name, module in sys.modules.items() if _is_ours(module)]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def _is_ours(module: types.ModuleType) -> bool:
    """Whether a module is the repository's; those in a virtual environment in it are not."""
    held = vars(module)  # not getattr: some of torch's make up any attribute
    places = [held.get("__file__"), *held.get("__path__", ())]
    return any(
        Path(place).is_relative_to(ROOT) and not Path(place).relative_to(ROOT).as_posix().startswith(".venv")
        for place in places
        if isinstance(place, str)
    )
