"""A real ComfyUI server, started, talked to over HTTP and its websocket, and stopped with all it started.

    with ComfyServer(host=Path("~/comfy/ComfyUI").expanduser(), base=folder) as server:
        result = server.run(prompt, on_progress=print)

`base` stands in for ComfyUI's own folder: models, custom nodes, input and output lie below it, and nothing
of the user's is read or written.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PACK, PACK_NAME = Path(__file__).resolve().parent.parent, "comfyui-deig"
START_SECONDS = 180
STOP_SECONDS = 15
LOG_TAIL_LINES = 40
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Prompt = dict[str, dict[str, Any]]


class StartFailed(RuntimeError):
    """The server ended, or did not answer in time; the message has the tail of its log."""


class PromptRejected(RuntimeError):
    """The server refused a graph before running it; one line for each fault, with node and input."""


class ExecutionFailed(RuntimeError):
    """A node raised while the graph ran; the message is the node's own."""


class ExecutionInterrupted(RuntimeError):
    """The run was interrupted, as by `ComfyServer.interrupt`."""


@dataclass(frozen=True)
class Progress:
    """What the server reports while it runs: a node began, or made a step."""

    node_id: str
    node: str
    step: int = 0
    steps: int = 0


@dataclass
class Result:
    """A finished run.

    Args:
        prompt_id: the server's name for the run.
        outputs: what output nodes gave, by node id, as in /history.
        executed: ids of the nodes that ran, in order.
        cached: ids of the nodes whose results were kept from an earlier run.
    """

    prompt_id: str
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)


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


def readable_errors(reply: dict[str, Any]) -> str:
    """One line for each fault in the server's answer to a refused prompt."""
    error = reply.get("error") or {"message": "Some outputs cannot run", "details": ""}
    lines = [f"{error['message']} {error['details']}".strip()]
    for node_id, faults in (reply.get("node_errors") or {}).items():
        for fault in faults["errors"]:
            lines.append(f"{faults['class_type']} (node {node_id}): {fault['message']}: {fault['details']}")
    return "\n".join(lines)


class ComfyServer:
    """A ComfyUI server in a process of its own, on the CPU and a port of 127.0.0.1.

    Args:
        host: ComfyUI's folder, the one with main.py.
        base: a folder for models, custom nodes, input and output; made where it is missing.
        python: the interpreter that has ComfyUI's requirements.
        extra_args: further arguments for main.py.
        port: a free one if None.
    """

    def __init__(
        self,
        host: Path,
        base: Path,
        python: str = sys.executable,
        extra_args: tuple[str, ...] = (),
        port: int | None = None,
    ):
        self.host = host
        self.base = base
        self.python = python
        self.extra_args = extra_args
        self.port = port or free_port()
        self.log_path = base / "server.log"
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

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
        command = [self.python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
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

    def get_bytes(self, path: str, **query: str) -> bytes:
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            return reply.read()

    def get(self, path: str, **query: str) -> Any:
        return json.loads(self.get_bytes(path, **query))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            content = reply.read()
        return json.loads(content) if content else None

    def object_info(self) -> dict[str, Any]:
        """Every node that the server offers, as the frontend sees it."""
        return self.get("/object_info")

    def queue(self, prompt: Prompt, client_id: str = "") -> str:
        """Queue a graph in API form and return its prompt id.

        Raises:
            PromptRejected: naming the nodes and inputs that the server found at fault.
        """
        try:
            reply = self.post("/prompt", {"prompt": prompt, "client_id": client_id})
        except urllib.error.HTTPError as refusal:
            raise PromptRejected(readable_errors(json.load(refusal))) from None
        if reply["node_errors"]:
            # The server would run the outputs that are not at fault and leave the others out.
            self.post("/queue", {"delete": [reply["prompt_id"]]})
            self.interrupt()
            raise PromptRejected(readable_errors(reply))
        return reply["prompt_id"]

    def interrupt(self):
        """Stop the running graph; its `run` raises `ExecutionInterrupted`."""
        self.post("/interrupt", {})

    def view(self, image: dict[str, str]) -> bytes:
        """The file of an image that an output node named in its outputs."""
        return self.get_bytes("/view", **image)

    def run(self, prompt: Prompt, on_progress: Callable[[Progress], None] = lambda _: None) -> Result:
        """Queue a graph, follow it to its end, and return its outputs.

        Raises:
            PromptRejected, ExecutionFailed, ExecutionInterrupted: with what the server says.
        """
        return asyncio.run(self._run(prompt, on_progress))

    async def _run(self, prompt: Prompt, on_progress: Callable[[Progress], None]) -> Result:
        client_id = uuid.uuid4().hex
        url = f"ws://{self.address}/ws?clientId={client_id}"
        # Previews and node outputs may be large: no limit on a message.
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
            result = Result(await asyncio.to_thread(self.queue, prompt, client_id))
            failure = None
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event["data"]
                if data.get("prompt_id") != result.prompt_id:
                    continue
                if kind == "executing" and data["node"] is None:
                    break
                failure = self._failure(kind, data) or failure
                self._note(kind, data, prompt, result, on_progress)
            else:
                raise ExecutionFailed(f"The server closed the connection.\n{self.log_tail()}")
        if failure is not None:
            raise failure
        result.outputs = (await asyncio.to_thread(self.get, f"/history/{result.prompt_id}"))[
            result.prompt_id
        ]["outputs"]
        return result

    @staticmethod
    def _failure(kind: str, data: dict[str, Any]) -> RuntimeError | None:
        if kind == "execution_interrupted":
            return ExecutionInterrupted(f"The run was interrupted at {data['node_type']}.")
        if kind == "execution_error":
            return ExecutionFailed(
                f"{data['node_type']} (node {data['node_id']}): {data['exception_message'].strip()}"
            )
        return None

    @staticmethod
    def _note(
        kind: str,
        data: dict[str, Any],
        prompt: Prompt,
        result: Result,
        on_progress: Callable[[Progress], None],
    ):
        if kind == "execution_cached":
            result.cached += data["nodes"]
        elif kind == "executing":
            result.executed.append(data["node"])
            on_progress(Progress(data["node"], prompt[data["node"]]["class_type"]))
        elif kind == "progress" and data.get("node"):
            node = prompt[data["node"]]["class_type"]
            on_progress(Progress(data["node"], node, int(data["value"]), int(data["max"])))
