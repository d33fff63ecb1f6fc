"""The editor's way to the layout readers: POST /deig/read_layout turns any form of layout into the pack's JSON.

Nothing here may hold up the server's one event loop: the body is taken up to a limit, and what is slow (parsing JSON
that may hold anything, reading the layout, writing it) happens in a thread, one for each client at a time.
"""

import asyncio
import json
from weakref import WeakValueDictionary

from aiohttp import web

from ..deig_core.regions.layouts import fields, read_layout, write_layout

# Room for thousands of regions. Python parses JSON in one go, during which nothing else in the process runs, so what
# the server takes from a stranger is less than what a node reads; and many objects made at once set off the garbage
# collector, which goes through all that the server holds.
LONGEST_BODY = 1 << 20
MOST_BRACKETS = 20_000

UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")

# One lock for each client that waits or is read for; a lock that nobody holds goes by itself.
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def add_layout_route():
    """Add the route to the running server; where there is none (tests, scripts), nothing needs it."""
    # Imported here, since it brings the whole server with it.
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.post("/deig/read_layout")(answer)


async def answer(request: web.Request) -> web.Response:
    """Answer {"text": ..., "width": ..., "height": ...} with {"layout": JSON}, or 400 and {"error": why}."""
    try:
        body = await _body_of(request)
        async with _turns.setdefault(request.remote or "", asyncio.Lock()):
            written = await asyncio.to_thread(_read, body)
        return web.Response(text=written, content_type="application/json")
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)


async def _body_of(request: web.Request) -> bytes:
    if (request.charset or "utf-8").lower() not in UTF_8:
        raise ValueError(f"The request is in {fields.shown(request.charset)}; a layout is sent as UTF-8.")
    body = bytearray()
    try:
        if (request.content_length or 0) <= LONGEST_BODY:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > LONGEST_BODY:
                    break
    except web.RequestPayloadError as error:
        raise ValueError(f"The request breaks off: {error}.") from None
    if (request.content_length or len(body)) > LONGEST_BODY or len(body) > LONGEST_BODY:
        raise ValueError(
            f"The text is too long for the editor, which reads up to {LONGEST_BODY >> 20} MiB. "
            "Give it to DEIG Regions From Text, or keep what is one layout."
        )
    return bytes(body)


def _read(body: bytes) -> str:
    """The answer's JSON to a request's; in a thread."""
    if body.count(b"[") + body.count(b"{") > MOST_BRACKETS:
        raise ValueError(f"The request has more than {MOST_BRACKETS} brackets, which is no layout.")
    try:
        asked = json.loads(body.decode())
    except UnicodeDecodeError:
        raise ValueError("The request is no UTF-8 text.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"The request is no JSON: {error}.") from None
    except RecursionError:
        raise ValueError("The request's brackets are nested too deeply.") from None
    except ValueError:  # a whole number of more digits than Python turns into one
        raise ValueError("The request holds a number of too many digits.") from None
    if not isinstance(asked, dict):
        raise ValueError(
            f"The request should be an object with text, width and height, not {fields.shown(asked)}."
        )
    text = asked.get("text")
    if not isinstance(text, str):
        raise ValueError(f"The request's text should be a layout as text, but it is {fields.shown(text)}.")
    width, height = (fields.number(asked.get(side), f"The request's {side}") for side in ("width", "height"))
    return json.dumps({"layout": write_layout(read_layout(text, "auto", width, height))})
