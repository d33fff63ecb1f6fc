"""The region editor under a real mouse and keyboard, and what reaches the server."""

import io
import json
import uuid
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

TYPED = "<img src=x onerror=window.pwned=1> & {red|blue}"


def close(actual, expected, within=1e-3):
    assert len(actual) == len(expected)
    assert all(abs(a - e) <= within for a, e in zip(actual, expected, strict=True)), (
        f"{actual} is not {expected}"
    )


def draw_two(editor):
    editor.drag((0.1, 0.2), (0.45, 0.8))
    editor.type_phrase("a corgi with a red scarf")
    editor.drag((0.9, 0.9), (0.55, 0.4))
    editor.type_phrase(TYPED)


def test_from_the_mouse_to_the_server(editor):
    editor.build(768, 512)
    _, _, width, height = editor.box_on_screen()
    assert abs(width / height - 768 / 512) < 0.01, "the canvas has the aspect of width x height"

    draw_two(editor)
    first, second = editor.regions
    assert (first["phrase"], second["phrase"]) == ("a corgi with a red scarf", TYPED)
    close(first["box"], [0.1, 0.2, 0.45, 0.8], 3e-3)
    close(second["box"], [0.55, 0.4, 0.9, 0.9], 3e-3)

    editor.drag((0.3, 0.5), (0.35, 0.4))  # move the first
    moved = editor.regions[0]["box"]
    close(moved, [0.15, 0.1, 0.5, 0.7], 5e-3)
    editor.click((0.7, 0.7))
    _, _, right, bottom = editor.regions[1]["box"]
    editor.drag((right, bottom), (0.8, 0.95))  # resize the second by its corner
    resized = editor.regions[1]["box"]
    close(resized, [0.55, 0.4, 0.8, 0.95], 5e-3)

    editor.undo()
    assert editor.regions[1]["box"] == second["box"], "one undo takes the whole resize back"
    assert editor.regions[0]["box"] == moved, "and nothing else"
    editor.redo()
    assert editor.regions[1]["box"] == resized
    editor.undo()
    editor.screenshot("drawn")

    drawn = editor.regions
    name = save(editor)
    editor.open()
    editor.page.evaluate("app.graph.clear()")
    load(editor, name)
    assert editor.regions == drawn
    got = editor.queue()
    assert [region["phrase"] for region in got] == ["a corgi with a red scarf", TYPED]
    for one, other in zip(got, drawn, strict=True):
        close(one["box"], other["box"])
        assert one["strength"] == other["strength"] == 1
    editor.page.wait_for_timeout(700)
    close(pixel(editor, (0.02, 0.95)), (0x33, 0x66, 0x99), 3)
    assert editor.page.evaluate("window.pwned") is None
    editor.screenshot("after-the-run")


def pixel(editor, point):
    """The colour of the canvas at a point in fractions."""
    return editor.page.evaluate(
        """([x, y]) => {
            const canvas = document.querySelector(".deig-canvas");
            const at = [Math.round(x * canvas.width), Math.round(y * canvas.height)];
            return [...canvas.getContext("2d").getImageData(...at, 1, 1).data.slice(0, 3)];
        }""",
        point,
    )


def save(editor):
    """Save as a user does, by the menu's command and the name dialog."""
    name = f"layout {editor.case} {uuid.uuid4().hex[:8]}"  # a second of the same name would be asked about
    editor.page.evaluate("void app.extensionManager.command.execute('Comfy.SaveWorkflow')")
    field = editor.page.locator('[role="dialog"] input[type="text"]').first
    field.wait_for()
    field.fill(name)
    field.press("Enter")
    editor.page.wait_for_timeout(1500)
    return name


def load(editor, name):
    """Load the saved file from the server's user folder, as the workflow list does."""
    editor.page.evaluate(
        """async (name) => {
            const file = await fetch(`/api/userdata/${encodeURIComponent(`workflows/${name}.json`)}`);
            await app.loadGraphData(await file.json());
        }""",
        name,
    )
    editor.settle()


def test_keys(editor):
    editor.build(768, 512)
    editor.drag((0.25, 0.25), (0.5, 0.5))
    editor.type_phrase("one")
    (start,) = (region["box"] for region in editor.regions)
    editor.press("ArrowRight", "ArrowRight", "Shift+ArrowDown")
    dx, dy = 2 / 768, 8 / 512
    close(editor.regions[0]["box"], [start[0] + dx, start[1] + dy, start[2] + dx, start[3] + dy], 1e-5)
    editor.press("Control+ArrowLeft", "Control+Shift+ArrowUp")
    close(editor.regions[0]["box"][2:], [start[2] + dx - 1 / 768, start[3]], 1e-5)
    editor.undo()
    editor.undo()
    close(editor.regions[0]["box"][2:], [start[2] + dx, start[3] + dy], 1e-5)

    editor.press("Control+d")
    assert [region["phrase"] for region in editor.regions] == ["one", "one"]
    editor.press("F2")
    editor.type_phrase("two")
    editor.press("n")
    editor.type_phrase("three")
    assert [region["phrase"] for region in editor.regions] == ["one", "two", "three"]
    editor.press("Shift+PageDown", "Shift+PageDown")
    assert [region["phrase"] for region in editor.regions] == ["three", "one", "two"]
    editor.press("Shift+PageUp", "PageUp", "Delete")
    assert [region["phrase"] for region in editor.regions] == ["one", "three"]
    assert editor.page.evaluate("app.graph.findNodesByType('DEIG_RegionEditor').length") == 1

    with editor.page.expect_request(lambda request: request.url.endswith("/prompt")):
        editor.press("Control+Enter")
    assert editor.page.locator(".deig-inplace").count() == 0, (
        "Control+Enter queues the graph and types no phrase"
    )

    editor.press("F2")
    editor.page.keyboard.type("never kept")
    editor.press("Escape")
    assert "never kept" not in editor.widget_text()
    before = editor.widget_text()
    x, y, width, height = editor.box_on_screen()
    editor.page.mouse.move(x + 0.02 * width, y + 0.02 * height)
    editor.page.mouse.down()
    editor.page.mouse.move(x + 0.2 * width, y + 0.2 * height, steps=3)
    editor.press("Escape")
    editor.page.mouse.up()
    assert editor.widget_text() == before, "Escape takes back what the mouse had begun"


def test_page_keys_begin_at_the_nearer_end(editor):
    editor.build(512, 512)
    draw_two(editor)
    editor.press("n")
    editor.type_phrase("three")
    editor.press("Escape", "PageDown", "Delete")
    assert [region["phrase"] for region in editor.regions] == ["a corgi with a red scarf", TYPED]
    editor.press("Escape", "PageUp", "Delete")
    assert [region["phrase"] for region in editor.regions] == [TYPED]


def test_an_arrow_key_may_be_let_go_elsewhere(editor):
    editor.build(512, 512)
    draw_two(editor)
    x0, y0, x1, y1 = editor.regions[1]["box"]
    editor.page.keyboard.down("ArrowRight")
    editor.page.get_by_label("Prompt for the whole picture").click()
    editor.page.keyboard.up("ArrowRight")
    close(editor.regions[1]["box"], [x0 + 1 / 512, y0, x1 + 1 / 512, y1], 1e-5)


def test_list(editor):
    editor.build(512, 512)
    draw_two(editor)
    page = editor.page
    page.get_by_label("Strength of region 2").fill("1.5")
    page.get_by_label("Strength of region 2").press("Enter")
    page.get_by_label("End of region 1").fill("0.4")
    page.get_by_label("End of region 1").press("Enter")
    page.get_by_label("Phrase of region 1").fill("<b>a pug</b>")
    page.get_by_label("Phrase of region 1").press("Enter")
    assert (editor.regions[1]["strength"], editor.regions[0]["end_percent"]) == (1.5, 0.4)
    assert editor.regions[0]["phrase"] == "<b>a pug</b>"
    assert page.get_by_label("Phrase of region 1").input_value() == "<b>a pug</b>"

    page.get_by_label("Strength of region 2").fill("")
    page.get_by_label("Strength of region 2").press("Enter")
    assert editor.regions[1]["strength"] == 1, "an emptied field is as it was at first, not 0"
    assert page.get_by_label("Strength of region 2").input_value() == "1"

    page.get_by_label("Start of region 1").fill("0.9")
    page.get_by_label("Start of region 1").press("Enter")
    assert "Region 1 ends before it starts" in editor.message
    assert editor.regions[0]["start_percent"] == 0
    assert page.get_by_label("Start of region 1").input_value() == "0"

    one = page.get_by_label("Region 1, change its order").bounding_box()
    two = page.get_by_label("Region 2, change its order").bounding_box()
    page.mouse.move(one["x"] + 9, one["y"] + 9)
    page.mouse.down()
    page.mouse.move(two["x"] + 9, two["y"] + 9, steps=4)
    page.mouse.up()
    assert [region["phrase"] for region in editor.regions] == [TYPED, "<b>a pug</b>"]
    page.get_by_label("Region 1, change its order").focus()
    editor.press("ArrowDown", "ArrowUp", "ArrowDown")
    assert [region["phrase"] for region in editor.regions] == ["<b>a pug</b>", TYPED], "the keys go with it"

    page.get_by_label("Prompt for the whole picture").fill("two pets")
    page.get_by_label("Prompt for the whole picture").press("Tab")
    assert editor.value["prompt"] == "two pets"
    assert page.locator(".deig-warning:visible").count() == 0
    page.get_by_label("Snap to the 8 pixel grid of the latent").click()
    editor.drag((0.02, 0.02), (0.09, 0.09))
    editor.type_phrase("snapped")
    close([edge * 64 % 1 for edge in editor.regions[2]["box"]], [0, 0, 0, 0], 1e-4)
    page.get_by_label("Snap to the 8 pixel grid of the latent").click()
    editor.drag((0.02, 0.9), (0.035, 0.915), ["Shift"])
    editor.type_phrase("tiny")
    assert page.locator(".deig-warning:visible").count() == 1
    editor.screenshot("list")


def open_menu(editor, item):
    editor.click((0.97, 0.03), button="right")
    editor.page.get_by_role("menuitem", name=item).click()
    editor.page.wait_for_timeout(600)


def test_the_menus_ends_meet(editor):
    editor.build(512, 512)
    editor.click((0.97, 0.03), button="right")
    words = editor.page.get_by_role("menuitem").all_text_contents()
    assert len(set(words)) == len(words) > 2
    focused = []
    for key in ("ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown", "ArrowDown"):
        editor.page.keyboard.press(key)
        focused.append(words.index(editor.page.evaluate("document.activeElement.textContent")))
    last = len(words) - 1
    assert focused == [last, last - 1, last, 0, 1]
    editor.page.keyboard.press("Escape")
    assert editor.page.get_by_role("menuitem").count() == 0


def test_copy_paste_clear(editor):
    editor.build(512, 256)
    draw_two(editor)
    editor.page.fill(".deig-prompt", "a shelf")
    editor.page.locator(".deig-prompt").blur()
    drawn = editor.value
    assert drawn["prompt"] == "a shelf"
    open_menu(editor, "Copy layout")
    assert json.loads(editor.page.evaluate("navigator.clipboard.readText()")) == drawn
    open_menu(editor, "Clear")
    assert editor.regions == [] and editor.value["prompt"] == "a shelf"
    open_menu(editor, "Paste layout")
    assert editor.value == drawn

    editor.page.evaluate("""navigator.clipboard.writeText('{"regions": [{"phrase": "a", "box": [0, 0, 9')""")
    open_menu(editor, "Paste layout")
    assert editor.value == drawn, "broken text leaves the old layout"
    assert "line 1" in editor.message

    instances = {
        "width": 512,
        "height": 256,
        "caption": "",
        "annos": [{"bbox": [64, 64, 128, 64], "caption": "<i>mug"}],
    }
    editor.page.evaluate("(text) => navigator.clipboard.writeText(text)", json.dumps(instances))
    open_menu(editor, "Paste layout")
    (region,) = editor.regions
    assert region["phrase"] == "<i>mug"
    close(region["box"], [0.125, 0.25, 0.375, 0.5], 1e-6)
    editor.undo()
    assert editor.value == drawn
    editor.canvas.focus()
    editor.press("Control+v")
    editor.page.wait_for_timeout(600)
    assert len(editor.regions) == 1


def test_broken_text_in_a_workflow(editor):
    editor.build(512, 512)
    draw_two(editor)
    drawn = editor.value
    editor.page.evaluate(
        """() => { app.graph.findNodesByType("DEIG_RegionEditor")[0]
            .widgets.find((widget) => widget.name === "layout").value = '{"regions": [{"phrase": 7}]}'; }"""
    )
    assert editor.value == drawn
    assert "regions[0].phrase" in editor.message


@pytest.mark.parametrize("zoom", [0.5, 1.6])
def test_zoom(editor, zoom):
    editor.build(512, 768)
    editor.page.evaluate(
        """(zoom) => {
            app.canvas.ds.scale = zoom;
            app.canvas.ds.offset = [-300 + 60 / zoom, 60 / zoom - 60];
            app.canvas.setDirty(true, true);
        }""",
        zoom,
    )
    editor.page.wait_for_timeout(800)
    editor.drag((0.2, 0.1), (0.6, 0.5))
    editor.type_phrase("near or far")
    (region,) = editor.regions
    close(region["box"], [0.2, 0.1, 0.6, 0.5], 6e-3)
    editor.screenshot(f"zoom-{zoom}")


def test_text_wired_into_layout_takes_the_place_of_the_drawing(editor):
    editor.build(512, 512)
    draw_two(editor)
    editor.page.evaluate(
        """() => {
            const text = LiteGraph.createNode("PrimitiveString");
            text.pos = [40, 420];
            app.graph.add(text);
            text.widgets[0].value = "a wired cup: 0.25 0.25 0.5 0.75";
            const editor = app.graph.findNodesByType("DEIG_RegionEditor")[0];
            text.connect(0, editor, editor.findInputSlot("layout"));
        }"""
    )
    editor.page.wait_for_timeout(500)
    (region,) = editor.queue()
    assert region["phrase"] == "a wired cup"
    close(region["box"], [0.25, 0.25, 0.5, 0.75], 1e-6)


def test_an_editor_that_is_gone_draws_no_more(editor):
    """Its stage may stay on the page for a moment, where the host still shows the old node."""
    editor.build(512, 512)
    drawn = editor.page.evaluate("""async () => {
        const sheet = [...document.styleSheets].find((one) => one.href?.endsWith("/editor.css"));
        const { RegionEditor } = await import(sheet.href.replace("/editor.css", "/editor.js"));
        const host = { size: () => ({ width: 512, height: 512 }), isWired: () => false, brush: 0.04, snap: false };
        const gone = new RegionEditor(host);
        let drawn = 0;
        gone.draw = () => drawn++;
        document.body.append(gone.element);
        const resized = async (width) => {
            gone.stage.style.width = width;
            await new Promise((done) => setTimeout(done, 300));
            return drawn;
        };
        const before = [await resized("300px"), await resized("200px")];
        gone.destroy();
        const after = await resized("400px");
        gone.element.remove();
        return [...before, after];
    }""")
    assert 0 < drawn[0] < drawn[1] == drawn[2]


def test_forty_regions(editor):
    editor.build(1024, 1024)
    lines = [f"thing {i}: {i % 8 / 8} {i // 8 / 5} {i % 8 / 8 + 0.11} {i // 8 / 5 + 0.18}" for i in range(40)]
    editor.page.evaluate("(text) => navigator.clipboard.writeText(text)", "\n".join(lines))
    editor.click((0.99, 0.99))
    open_menu(editor, "Paste layout")
    assert len(editor.regions) == 40
    editor.drag((0.05, 0.05), (0.3, 0.3))
    close(editor.regions[0]["box"], [0.25, 0.25, 0.36, 0.43], 5e-3)
    editor.screenshot("forty")


def test_shared_workflow(editor):
    """workflows/deig_editor.json goes through the frontend as it is, and runs to a picture."""
    workflow = json.loads((ROOT / "workflows" / "deig_editor.json").read_text(encoding="utf-8"))
    expected = json.loads((ROOT / "tests" / "host" / "api" / "deig_editor.json").read_text(encoding="utf-8"))
    editor.page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", workflow)
    editor.page.wait_for_timeout(1500)
    editor.page.keyboard.press("Escape")  # the dialog about missing models, where there is one
    sent = editor.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert {key: (node["class_type"], node["inputs"]) for key, node in sent.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in expected.items()
    }
    editor.page.evaluate("() => { app.canvas.ds.scale = 0.55; app.canvas.ds.offset = [90, 120]; }")
    editor.page.wait_for_timeout(600)
    editor.screenshot("workflow")
    # Smaller and shorter: two steps at 128 pixels.
    editor.page.evaluate(
        """() => {
            const set = (type, values) => {
                const [node] = app.graph.findNodesByType(type);
                for (const [name, value] of Object.entries(values)) {
                    node.widgets.find((widget) => widget.name === name).value = value;
                }
            };
            set("DEIG_RegionEditor", { width: 128, height: 128 });
            set("KSampler", { steps: 2 });
        }"""
    )
    run = editor.run()
    images = [image for output in run["outputs"].values() for image in output.get("images", [])]
    assert {image["type"] for image in images} == {"output", "temp"}
    (saved,) = [image for image in images if image["type"] == "output"]
    picture = Image.open(io.BytesIO(editor.server.view(saved)))
    assert picture.size == (128, 128)
    assert len(picture.convert("RGB").getcolors(maxcolors=128 * 128)) > 100


def test_help_pages_are_served(server):
    for name in ("RegionEditor", "RegionsFromText", "RegionsToText", "PreviewRegions"):
        page = server.get_bytes(f"/extensions/comfyui-deig/docs/DEIG_{name}.md").decode()
        assert page.startswith("# DEIG ")
