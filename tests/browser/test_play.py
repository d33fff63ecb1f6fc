"""What `run.py ui` opens: the small model's workflow, its editor, and a picture of what is drawn there."""

import io
import sys

import pytest
from deig_pack.tests.browser.conftest import HOST, EditorPage
from PIL import Image

WAIT = 60_000  # milliseconds, on a busy machine


@pytest.fixture(scope="module")
def played(case, tmp_path_factory):
    from demo.play import furnish
    from demo.server import ComfyServer
    from small_model.place import WEIGHTS

    base = tmp_path_factory.mktemp(f"play-{case}")
    furnish(base, WEIGHTS)
    extra = () if case.folder is None else ("--front-end-root", str(case.folder))
    with ComfyServer(HOST, base, sys.executable, extra) as started:
        started.post("/settings", {"Comfy.VueNodes.Enabled": case.nodes_2})
        yield started


def test_the_address_opens_the_workflow_which_paints(case, played, chromium):
    from demo.play import page as address

    context = chromium.new_context(viewport={"width": 1500, "height": 1050})
    editor = EditorPage(context.new_page(), played, case)
    editor.page.goto(address(played))
    editor.page.wait_for_selector(".deig-canvas", state="visible", timeout=WAIT)
    editor.settle()
    assert len(editor.regions) == 4

    # Between the four shapes is room for a fifth.
    editor.drag((0.36, 0.36), (0.64, 0.64), ["Shift"])
    editor.type_phrase("a black cross")
    assert [region["phrase"] for region in editor.regions][-1] == "a black cross"
    editor.screenshot("play-drawn")

    (run,) = [editor.run()]
    (saved,) = [image for output in run["outputs"].values() for image in output.get("images", ())]
    picture = Image.open(io.BytesIO(played.view(saved))).convert("RGB")
    assert picture.size == (128, 128)
    red, green, blue = picture.getpixel((64, 64))
    assert max(red, green, blue) < 90, "black in the middle of the cross"
    editor.page.wait_for_timeout(1000)
    editor.screenshot("play-painted")

    # Opened again, the page has what was drawn, not the template once more.
    editor.page.wait_for_timeout(1500)
    editor.page.reload()
    editor.page.wait_for_selector(".deig-canvas", state="visible", timeout=WAIT)
    editor.settle()
    assert len(editor.regions) == 5
    context.close()
    assert not editor.faults
