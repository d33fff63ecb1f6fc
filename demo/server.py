"""A real ComfyUI server, started, talked to over HTTP and its websocket, and stopped with all it started.

    with ComfyServer(host=Path("~/comfy/ComfyUI").expanduser(), base=folder) as server:
        result = server.run(prompt, on_progress=print)

`base` stands in for ComfyUI's own folder: models, custom nodes, input and output lie below it, and nothing
of the user's is read or written.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .client import ComfyClient

PACK, PACK_NAME = Path(__file__).resolve().parent.parent, "comfyui-deig"
START_SECONDS = 180
STOP_SECONDS = 15
LOG_TAIL_LINES = 40
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class StartFailed(RuntimeError):
    """The server ended, or did not answer in time; the message has the tail of its log."""


def install_pack(base: Path, pack: Path = PACK, name: str = PACK_NAME) -> Path:
    """Put a pack, this one by default, into `base`/custom_nodes: a link where the system allows it, else a copy."""
    place = base / "custom_nodes" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(pack, target_is_directory=True)
    except OSError:  # Windows asks for a privilege
        shutil.copytree(pack, place, ignore=shutil.ignore_patterns(".*", "__pycache__", "out", "tests"))
    return place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ComfyServer(ComfyClient):
    """A ComfyUI server in a process of its own, on a port of 127.0.0.1.

    Args:
        host: ComfyUI's folder, the one with main.py.
        base: a folder for models, custom nodes, input and output; made where it is missing.
        python: the interpreter that has ComfyUI's requirements.
        extra_args: further arguments for main.py.
        port: a free one if None.
        cpu: paint on the CPU, whatever else the machine has.
    """

    def __init__(
        self,
        host: Path,
        base: Path,
        python: str = sys.executable,
        extra_args: tuple[str, ...] = (),
        port: int | None = None,
        cpu: bool = True,
    ):
        self.host = host
        self.base = base
        self.python = python
        self.extra_args = extra_args
        self.port = port or free_port()
        super().__init__(f"127.0.0.1:{self.port}")
        self.cpu = cpu
        self.log_path = base / "server.log"
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "ComfyServer":
        try:
            self._start()
        except BaseException:  # an interrupt too must not leave the server behind
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _start(self):
        for name in ("custom_nodes", "models", "input", "output", "temp", "user", "scratch"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        # PyTorch, too, leaves folders where temporary files go.
        scratch = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.base / "scratch"))
        command = [self.python, "main.py", *(["--cpu"] if self.cpu else [])]
        command += ["--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--disable-auto-launch", "--disable-api-nodes", "--base-directory", str(self.base)]
        command += ["--database-url", "sqlite:///:memory:", *self.extra_args]
        own_group: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.host,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | scratch | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
                **own_group,
            )
        self._wait_until_ready()

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StartFailed(f"ComfyUI ended with code {self.process.returncode}.\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                return
            time.sleep(0.2)
        raise StartFailed(f"ComfyUI did not answer within {START_SECONDS} seconds.\n{self.log_tail()}")

    def stop(self):
        """End the server and every process that it started."""
        process, self.process = self.process, None
        if process is None:
            return
        if os.name == "nt":
            kill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(kill, capture_output=True, check=False)
            process.wait()
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also when the main process is gone: a child of its may not be.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log(self) -> str:
        """What the server has printed so far, without its colours."""
        return COLOUR.sub("", self.log_path.read_text(encoding="utf-8", errors="replace"))

    def log_tail(self) -> str:
        return "\n".join(["The end of its log:", *self.log().splitlines()[-LOG_TAIL_LINES:]])
