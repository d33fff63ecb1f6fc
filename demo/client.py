"""A ComfyUI that answers at an address: graphs go there, pictures come back.

result = ComfyClient("127.0.0.1:8188").run(prompt, on_progress=print)
"""

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from .graph import Prompt

# How often a silent server is asked whether it is there; it has half as long to answer.
HEARTBEAT_SECONDS = 120
# How often it is asked whether a graph is still in its queue: who takes one out is not told to us.
LOOK_SECONDS = 30

ENDED = (
    *(aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED),
    aiohttp.WSMsgType.ERROR,
)


class ServerLost(RuntimeError):
    """The server does not answer, or stopped answering while it ran a graph."""


class PromptRejected(RuntimeError):
    """The server refused a graph before running it; one line for each fault, with node and input."""


class ExecutionFailed(RuntimeError):
    """A node raised while the graph ran; the message is the node's own."""


class ExecutionInterrupted(RuntimeError):
    """The run was interrupted, as by `ComfyClient.interrupt`, or taken out of the queue."""


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


def readable_errors(reply: dict[str, Any]) -> str:
    """One line for each fault in the server's answer to a refused prompt."""
    error = reply.get("error") or {"message": "Some outputs cannot run", "details": ""}
    lines = [f"{error['message']} {error['details']}".strip()]
    for node_id, faults in (reply.get("node_errors") or {}).items():
        for fault in faults["errors"]:
            lines.append(f"{faults['class_type']} (node {node_id}): {fault['message']}: {fault['details']}")
    return "\n".join(lines)


class ComfyClient:
    """A ComfyUI server that somebody runs.

    Args:
        address: "127.0.0.1:8188", or with http:// or https:// before it and a path after it.
    """

    def __init__(self, address: str):
        self.address = address
        self.running: str | None = None  # the prompt id of the graph that `run` waits for

    @property
    def url(self) -> str:
        """The address as a URL, without a slash at its end."""
        url = self.address if "://" in self.address else f"http://{self.address}"
        return url.rstrip("/")

    def get_bytes(self, path: str, **query: str) -> bytes:
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            return reply.read()

    def get(self, path: str, **query: str) -> Any:
        return json.loads(self.get_bytes(path, **query))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}",
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
            ServerLost: it says nothing any more.
        """
        return asyncio.run(self._run(prompt, on_progress))

    async def _run(self, prompt: Prompt, on_progress: Callable[[Progress], None]) -> Result:
        client_id = uuid.uuid4().hex
        url = f"ws{self.url.removeprefix('http')}/ws?clientId={client_id}"
        # Previews and node outputs may be large: no limit on a message.
        options = {"max_msg_size": 0, "heartbeat": HEARTBEAT_SECONDS}
        try:
            async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as socket:
                result = Result(await asyncio.to_thread(self.queue, prompt, client_id))
                self.running = result.prompt_id
                await self._follow(socket, prompt, result, on_progress)
            history = await asyncio.to_thread(self.get, f"/history/{result.prompt_id}")
        except (OSError, aiohttp.ClientError) as error:
            raise ServerLost(f"{self.address} does not answer: {error}\n{self.log_tail()}".rstrip()) from None
        finally:
            self.running = None
        if result.prompt_id not in history:
            raise ExecutionInterrupted(f"{self.address} ran the graph, and its history was cleared at once.")
        result.outputs = history[result.prompt_id]["outputs"]
        return result

    async def _follow(self, socket, prompt: Prompt, result: Result, on_progress: Callable[[Progress], None]):
        """Take note of what the server says of a graph until it has run."""
        failure, clock = None, asyncio.get_running_loop().time
        look = clock() + LOOK_SECONDS
        while True:
            try:
                message = await socket.receive(max(look - clock(), 0.01))
            except asyncio.TimeoutError:
                await asyncio.to_thread(self._check_queue, result.prompt_id)
                look = clock() + LOOK_SECONDS
                continue
            if message.type in ENDED:
                raise ServerLost(f"{self.address} closed the connection.\n{self.log_tail()}".rstrip())
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
        if failure is not None:
            raise failure

    def _check_queue(self, prompt_id: str):
        """Raise where a graph is neither in the queue nor done."""
        queue = self.get("/queue")
        waiting = {entry[1] for name in ("queue_running", "queue_pending") for entry in queue[name]}
        if prompt_id not in waiting and prompt_id not in self.get(f"/history/{prompt_id}"):
            raise ExecutionInterrupted(f"The graph was taken out of the queue of {self.address}.")

    def cancel(self):
        """Take the graph that `run` waits for out of the queue, or interrupt it where it is the one that runs."""
        prompt_id = self.running
        if prompt_id is None:
            return
        self.post("/queue", {"delete": [prompt_id]})
        if any(entry[1] == prompt_id for entry in self.get("/queue")["queue_running"]):
            self.interrupt()

    def log_tail(self) -> str:
        """The end of the server's log, for messages; "" where it is not ours to read."""
        return ""

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
