"""A small server on 127.0.0.1 that speaks as ComfyUI does, paints one colour, and stops or fails when it is told to.

It stands for servers of other machines: real HTTP and a real websocket, and no model to load.
"""

import asyncio
import io
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from PIL import Image

from demo.server import free_port

CHECKPOINTS = ["sd14.safetensors"]


@dataclass
class SmallComfy:
    """The server, in a thread of its own.

    Args:
        stops_after: pictures after which its connections break and nobody answers any more.
        fails: every graph fails as a node that raises does.
        checkpoints: what it lists.
        has_pack: whether it knows the pack's nodes.
        seconds: that it takes for a picture.
    """

    stops_after: int | None = None
    fails: bool = False
    checkpoints: list[str] = field(default_factory=lambda: list(CHECKPOINTS))
    has_pack: bool = True
    seconds: float = 0.01

    def __post_init__(self):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.graphs: dict[str, Any] = {}  # by prompt id, in the order in which they came
        self.interrupted, self._sockets, self._transports = 0, [], []
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()

    def __enter__(self) -> "SmallComfy":
        threading.Thread(target=self._serve, daemon=True).start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.add_routes(
            [
                web.get("/system_stats", self._stats),
                web.get("/object_info/{node}", self._object_info),
                web.get("/ws", self._socket),
                web.post("/prompt", self._prompt),
                web.get("/history/{id}", self._history),
                web.get("/view", self._view),
                web.get("/queue", self._queue),
                web.post("/queue", self._done),
                web.post("/interrupt", self._interrupt),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(self._runner.setup())
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        self._loop.run_until_complete(self._site.start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _stats(self, _):
        system = {"comfyui_version": "9.9.9", "pytorch_version": "0.0"}
        return web.json_response({"system": system, "devices": [{"name": "small"}]})

    async def _object_info(self, request):
        node = request.match_info["node"]
        lists = {
            "CheckpointLoaderSimple": ("ckpt_name", self.checkpoints),
            "DEIG_LoadAdapter": ("adapter_name", ["model.pth"]),
            "DEIG_LoadTextEncoder": ("encoder_name", ["t5"]),
        }
        if node.startswith("DEIG") and not self.has_pack:
            return web.json_response({})
        name, files = lists.get(node, ("model", []))
        # Older nodes list files themselves, newer ones among the options of a COMBO.
        spec = [files] if node == "CheckpointLoaderSimple" else ["COMBO", {"options": files}]
        return web.json_response({node: {"input": {"required": {name: spec}}}})

    async def _socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        self._transports.append(request.transport)
        async for _ in socket:
            pass
        return socket

    async def _prompt(self, request):
        if self.stops_after is not None and len(self.graphs) >= self.stops_after:
            await self._site.stop()
            for transport in (*self._transports, request.transport):
                transport.abort()
            return web.Response()
        name = uuid.uuid4().hex
        self.graphs[name] = (await request.json())["prompt"]
        asyncio.ensure_future(self._run(name))
        return web.json_response({"prompt_id": name, "node_errors": {}})

    async def _run(self, name):
        await asyncio.sleep(self.seconds)
        if self.fails:
            said = {"node_type": "KSampler", "node_id": "sampler", "exception_message": "out of memory"}
            await self._say("execution_error", {"prompt_id": name, **said})
        await self._say("executing", {"prompt_id": name, "node": None})

    async def _say(self, kind, data):
        for socket in self._sockets:
            if not socket.closed:
                await socket.send_json({"type": kind, "data": data})

    async def _history(self, request):
        name = request.match_info["id"]
        images = [{"filename": name, "subfolder": "", "type": "temp"}]
        return web.json_response({name: {"outputs": {"picture": {"images": images}}}})

    async def _view(self, request):
        graph = self.graphs[request.query["filename"]]
        size = graph["latent"]["inputs"]["width"]
        file = io.BytesIO()
        Image.new("RGB", (size, size), (200, 30, 30)).save(file, "PNG")
        return web.Response(body=file.getvalue())

    async def _queue(self, _):
        running = [[0, name] for name in list(self.graphs)[-1:]]
        return web.json_response({"queue_running": running, "queue_pending": []})

    async def _done(self, _):
        return web.Response()

    async def _interrupt(self, _):
        self.interrupted += 1
        return web.Response()
