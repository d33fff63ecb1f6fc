"""The layout nodes as the host runs them, in this process, and the editor's route to the readers."""

import asyncio
import collections
import gc
import json
import threading

import folder_paths
import numpy as np
import pytest
import torch
from aiohttp import ClientError, web
from aiohttp.test_utils import TestClient, TestServer
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.nodes import layout_route
from deig_pack.nodes.layout import EMPTY_LAYOUT, PreviewRegions, RegionEditor, RegionsFromText, RegionsToText
from deig_pack.nodes.layout_route import answer
from PIL import Image

CUP = Region("a cup", (0.25, 0.5, 0.75, 1.0))


def test_text_to_regions_and_back():
    regions, prompt, report = RegionsFromText.execute(
        'Sure!\n```json\n[{"label": "a cup", "bbox": [128, 128, 256, 128]}]\n```', "auto", 512, 256
    )
    assert regions == (CUP,) and prompt == "" and report == ""
    (text,) = RegionsToText.execute(regions, "a table", 640, 480, "coco").args
    assert json.loads(text)["annotations"][0]["bbox"] == [160, 240, 320, 240]
    assert tuple(RegionsFromText.execute(text, "coco", 1, 1)) == ((CUP,), "a table", "")


def test_one_of_many_layouts_is_chosen_and_cut(caplog):
    file = json.dumps(
        {
            "results": [
                {"instances": []},
                {
                    "instances": [{"bbox": [0.25, 0.5, 0.75, 1.5], "description": "a cup"}],
                    "caption": "people",
                },
            ]
        }
    )
    assert tuple(RegionsFromText.execute(file, "auto", 8, 8, 1, "clip")) == (
        (CUP,),
        "a cup",
        "1 box was cut at the picture's edge.",
    )
    assert "1 box was cut" in caplog.text
    with pytest.raises(ValueError, match="Layout 1: .*outside"):
        RegionsFromText.execute(file, "auto", 8, 8, 1)
    assert RegionsFromText.execute(file, "auto", 8, 8, 0).args[0] == ()
    with pytest.raises(ValueError, match="holds 2 layouts.*index, 0 to 1"):
        RegionsFromText.execute(file, "auto", 8, 8)


def test_colours_are_added_if_asked():
    elements = '[{"bbox": [500, 250, 1000, 750], "desc": "a cup", "color_palette": ["#ff0000"]}]'
    assert RegionsFromText.execute(elements, "auto", 8, 8).args[0] == (CUP,)
    (region,) = RegionsFromText.execute(elements, "auto", 8, 8, colours=True).args[0]
    assert region.phrase == "a cup, in red"


def test_bad_text_is_refused_with_place_and_reason():
    with pytest.raises(ValueError, match=r"annos\[0\].bbox"):
        RegionsFromText.execute(
            '{"annos": [{"bbox": 3, "caption": "a"}], "width": 8, "height": 8}', "auto", 8, 8
        )


def test_of_a_batch_the_first_picture_lies_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path))
    batch = torch.stack([torch.full((8, 8, 4), shade) for shade in (0.2, 0.8)])
    (shown,) = RegionEditor.execute(EMPTY_LAYOUT, 768, 512, background=batch).ui["deig_background"]
    picture = np.asarray(Image.open(tmp_path / shown["subfolder"] / shown["filename"]))
    assert picture.shape == (8, 8, 3) and (picture == 51).all()


def test_the_editor_begins_empty_and_gives_its_size():
    output = RegionEditor.execute(EMPTY_LAYOUT, 768, 512)
    assert output.args == ((), "", 768, 512)
    assert output.ui == {"deig_size": [768, 512]}


def test_the_editor_takes_any_form_from_a_wire():
    assert RegionEditor.execute("a cup: 0.25 0.5 0.75 1", 512, 512).args[0] == (CUP,)


def test_pixels_of_the_editor_are_those_of_its_own_width_and_height():
    pixels = "a cup: 128 128 384 256"
    for texts in ({"layout": pixels}, {"layout": EMPTY_LAYOUT, "incoming": pixels}):
        output = RegionEditor.execute(**texts, width=512, height=256)
        assert output.args == ((CUP,), "", 512, 256)
    (sent,) = output.ui["deig_incoming"]
    assert json.loads(sent["layout"])["regions"][0]["box"] == [0.25, 0.5, 0.75, 1]


def test_what_comes_in_is_used_until_the_canvas_went_on_from_it():
    first = RegionEditor.execute(
        '{"prompt": "a table", "regions": []}', 512, 512, incoming="a cup: 0.25 0.5 0.75 1"
    )
    assert first.args[:2] == ((CUP,), "a table"), "a text without a prompt leaves the typed one"
    (sent,) = first.ui["deig_incoming"]
    drawn = json.loads(sent["layout"]) | {"incoming": sent["digest"], "prompt": "a shelf"}
    drawn["regions"][0]["phrase"] = "a mug"
    edited = RegionEditor.execute(json.dumps(drawn), 512, 512, incoming="a cup: 0.25 0.5 0.75 1")
    assert edited.args[0][0].phrase == "a mug" and edited.args[1] == "a shelf"
    other = RegionEditor.execute(json.dumps(drawn), 512, 512, incoming="a jug: 0.25 0.5 0.75 1")
    assert other.args[0][0].phrase == "a jug", "until something else comes in"
    unwired = RegionEditor.execute(json.dumps(drawn), 512, 512)
    assert unwired.args[0] == edited.args[0] and "deig_incoming" not in unwired.ui


def test_chained_regions_come_first_as_they_are_and_are_shown():
    soft = Region("haze", (0, 0, 1, 1), mask=Mask(np.full((8, 8), 0.25, np.float32)))
    output = RegionEditor.execute(
        '[{"phrase": "a cup", "box": [0.25, 0.5, 0.75, 1]}]', 512, 512, regions=(soft,)
    )
    assert output.args[0] == (soft, CUP)
    (shown,) = output.ui["deig_wired"]
    assert json.loads(shown)["regions"][0]["mask"]["size"] == [8, 8]


def test_the_preview_is_an_image_over_what_is_wired(comfy_host):
    (plain,) = PreviewRegions.execute((CUP,), 512, 640).args
    assert plain.shape == (1, 640, 512, 3) and plain.dtype == torch.float32
    batch = torch.zeros(2, 600, 800, 4)
    batch[1, ..., 2] = 1
    (over,) = PreviewRegions.execute((CUP,), 512, 640, batch).args
    assert over.shape == (2, 600, 800, 3)
    assert over[0, 5, 5].tolist() == [0, 0, 0] and over[1, 5, 5].tolist() == [0, 0, 1]
    assert np.isclose(over.max(), 1)


@pytest.mark.parametrize(
    "shape, side",
    [
        ((1, 16, 16), 512),
        ((64, 16, 16), 512),
        ((65, 16, 16), 496),
        ((400, 16, 32), 144),
        ((200, 300, 300), 300),
    ],
    ids=str,
)
def test_all_pictures_of_a_batch_are_enlarged_within_one_bound(shape, side):
    """1000 of 16 x 16, each enlarged to 512, would take 3 GB. What is not enlarged stays as large as it came."""
    batch = torch.zeros(*shape, 3)
    batch[-1, ..., 1] = 1
    (drawn,) = PreviewRegions.execute((CUP,), 512, 512, batch).args
    count, height, width = shape
    assert drawn.shape == (count, side, side * width // height, 3)
    assert not drawn[:-1, 1, 1].any() and drawn[-1, 1, 1].tolist() == [0, 1, 0]
    assert drawn.shape[:3].numel() <= max(2**24, batch[..., 0].numel())


async def asked_of(client, body, **headers):
    reply = await client.post("/deig/read_layout", data=body, headers=headers)
    return reply.status, await reply.json()


def with_route(work, *middlewares):
    """Run `await work(client)` against the route in a server of its own."""

    async def run():
        # As large as the host has it by default.
        app = web.Application(client_max_size=100 << 20, middlewares=middlewares)
        app.router.add_post("/deig/read_layout", answer)
        async with TestClient(TestServer(app)) as client:
            return await work(client)

    return asyncio.run(run())


def ask(body, **headers):
    return with_route(lambda client: asked_of(client, body, **headers))


def test_the_route_reads_any_form():
    status, reply = ask(json.dumps({"text": "a cup: 128 128 384 256", "width": 512, "height": 256}))
    assert status == 200
    assert json.loads(reply["layout"])["regions"][0]["box"] == [0.25, 0.5, 0.75, 1.0]


def asking(text):
    return json.dumps({"text": text, "width": 8, "height": 8})


JSON = "application/json"


@pytest.mark.parametrize(
    "body, told",
    [
        ("{", "no JSON"),
        ("", "no JSON"),
        ("[]", "object with text, width and height"),
        ("{}", "text should be a layout as text, but it is missing"),
        (asking(5), "text should be a layout as text, but it is 5"),
        (asking("a cup"), "line 1 should read"),
        ('{"text": "a: 0 0 1 1", "width": null, "height": 8}', "width should be a number, but it is missing"),
        ('{"text": "a: 0 0 1 1", "width": true, "height": 8}', "width should be a number, but it is True"),
        (
            '{"text": "a: 0 0 1 1", "width": 8, "height": 1%s}' % ("0" * 400),
            "height is a number of very many",
        ),
        ('{"text": "a: 0 0 1 1", "width": 8, "height": 1%s}' % ("0" * 9000), "too many digits"),
        ('{"text": "a: 0 0 1 1", "width": 8, "height": NaN}', "height is nan"),
        ('{"text": "a: 0 0 1 1", "width": 0, "height": 8}', "more than 0 pixels"),
        ("[" * 20_000, "nested too deeply"),
        ("[" * 200_000, "more than 20000 brackets"),
        (asking("[" * 19_000), "line 1 should read"),
        (asking('{"a":' * 19_000), "nested too deeply"),
        (b"\xff\xfe{}", "no UTF-8"),
        (asking("a" * 5_000_000), "too long for the editor"),
    ],
    ids=range(18),
)
def test_the_route_says_what_is_wrong(body, told):
    status, reply = ask(body)
    assert status == 400 and told in reply["error"]
    assert len(reply["error"]) < 400, "a message is for a person"


def test_the_route_takes_utf_8_alone():
    body = json.dumps({"text": "a cup: 0 0 1 1", "width": 8, "height": 8})
    for charset in ("klingon", "utf-16"):
        status, reply = ask(body, **{"Content-Type": f"{JSON}; charset={charset}"})
        assert status == 400 and charset in reply["error"]
    assert ask(body, **{"Content-Type": f"{JSON}; charset=UTF-8"})[0] == 200
    status, reply = ask(body.encode(), **{"Content-Type": JSON, "Content-Encoding": "gzip"})
    assert status == 400


def test_a_body_of_unknown_length_ends_at_the_limit():
    taken = []

    async def endless():
        for _ in range(100):
            taken.append(1)
            yield b" " * (1 << 20)
            await asyncio.sleep(0)

    async def work(client):
        try:
            return await asked_of(client, endless())
        except (ClientError, ConnectionError):
            return 400, {"error": "too long for the editor"}  # the server may hang up before all was sent

    status, reply = with_route(work)
    assert status == 400 and "too long for the editor" in reply["error"]
    assert len(taken) < 60


def test_one_client_is_read_for_one_at_a_time_and_others_go_on(monkeypatch):
    """While a layout is read, the loop answers, and another client is read for; the same client's next waits."""
    inside, most, go = collections.Counter(), collections.Counter(), threading.Event()

    def slow(body):
        who = json.loads(body)
        inside[who] += 1
        most[who] = max(most[who], inside[who])
        assert go.wait(30)
        inside[who] -= 1
        return "{}"

    # All connections here come from one address.
    @web.middleware
    async def as_from(request, handler):
        return await handler(request.clone(remote=request.headers["From"]))

    async def ask(client, who):
        return await asked_of(client, json.dumps(who).encode(), From=who)

    async def work(client):
        asks = [asyncio.ensure_future(ask(client, who)) for who in ("10.0.0.1", "10.0.0.2") for _ in range(3)]
        for _ in range(1000):
            if len(+inside) == 2:
                break
            await asyncio.sleep(0.01)
        met = dict(+inside)
        # The loop is free: a request that is refused before it is read is answered meanwhile.
        refused = await asked_of(
            client, b"{}", **{"From": "10.0.0.1", "Content-Type": f"{JSON}; charset=klingon"}
        )
        go.set()
        return met, refused[0], await asyncio.gather(*asks)

    monkeypatch.setattr(layout_route, "_read", slow)
    assert with_route(work, as_from) == ({"10.0.0.1": 1, "10.0.0.2": 1}, 400, [(200, {})] * 6)
    assert most == {"10.0.0.1": 1, "10.0.0.2": 1}
    gc.collect()
    assert not layout_route._turns, "a client that asks no more is forgotten"
