"""The layout nodes as the host runs them, in this process, and the editor's route to the readers."""

import asyncio
import json

import numpy as np
import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.layout import EMPTY_LAYOUT, PreviewRegions, RegionEditor, RegionsFromText, RegionsToText
from deig_pack.nodes.layout_route import answer

CUP = Region("a cup", (0.25, 0.5, 0.75, 1.0))


def test_text_to_regions_and_back():
    regions, prompt = RegionsFromText.execute(
        'Sure!\n```json\n[{"label": "a cup", "bbox": [128, 128, 256, 128]}]\n```', "auto", 512, 256
    )
    assert regions == (CUP,) and prompt == ""
    (text,) = RegionsToText.execute(regions, "a table", 640, 480, "coco").args
    assert json.loads(text)["annotations"][0]["bbox"] == [160, 240, 320, 240]
    assert tuple(RegionsFromText.execute(text, "coco", 1, 1)) == ((CUP,), "a table")


def test_bad_text_is_refused_with_place_and_reason():
    with pytest.raises(ValueError, match=r"annos\[0\].bbox"):
        RegionsFromText.execute(
            '{"annos": [{"bbox": 3, "caption": "a"}], "width": 8, "height": 8}', "auto", 8, 8
        )


def test_the_editor_begins_empty_and_gives_its_size():
    output = RegionEditor.execute(EMPTY_LAYOUT, 768, 512)
    assert output.args == ((), "", 768, 512)
    assert output.ui == {"deig_size": [768, 512]}


def test_the_editor_takes_any_form_from_a_wire():
    assert RegionEditor.execute("a cup: 0.25 0.5 0.75 1", 512, 512).args[0] == (CUP,)


def test_the_preview_is_an_image_over_what_is_wired(comfy_host):
    (plain,) = PreviewRegions.execute((CUP,), 512, 640).args
    assert plain.shape == (1, 640, 512, 3) and plain.dtype == torch.float32
    batch = torch.zeros(2, 600, 800, 4)
    batch[1, ..., 2] = 1
    (over,) = PreviewRegions.execute((CUP,), 512, 640, batch).args
    assert over.shape == (2, 600, 800, 3)
    assert over[0, 5, 5].tolist() == [0, 0, 0] and over[1, 5, 5].tolist() == [0, 0, 1]
    assert np.isclose(over.max(), 1)


def ask(body):
    async def asked():
        app = web.Application()
        app.router.add_post("/deig/read_layout", answer)
        async with TestClient(TestServer(app)) as client:
            reply = await client.post("/deig/read_layout", data=body)
            return reply.status, await reply.json()

    return asyncio.run(asked())


def test_the_route_reads_any_form():
    status, reply = ask(json.dumps({"text": "a cup: 128 128 384 256", "width": 512, "height": 256}))
    assert status == 200
    assert json.loads(reply["layout"])["regions"][0]["box"] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "{}",
        '{"text": "a cup", "width": 8, "height": 8}',
        '{"text": "", "width": null, "height": 8}',
    ],
)
def test_the_route_says_what_is_wrong(body):
    status, reply = ask(body)
    assert status == 400 and reply["error"]
