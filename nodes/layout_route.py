"""The editor's way to the layout readers: POST /deig/read_layout turns any form of layout into the pack's JSON."""

from aiohttp import web

from ..deig_core.regions.layouts import read_layout, write_layout


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
        asked = await request.json()
        layout = read_layout(str(asked["text"]), "auto", float(asked["width"]), float(asked["height"]))
        return web.json_response({"layout": write_layout(layout)})
    except (ValueError, KeyError, TypeError) as error:
        return web.json_response({"error": str(error)}, status=400)
