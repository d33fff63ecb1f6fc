"""Places of any shape, drawn with brush, eraser, stroke and point; and what a wire brings, edited on the canvas."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from deig_pack.deig_core.regions.layouts import read_layout
from deig_pack.deig_core.regions.masks import region_masks
from deig_pack.tests.browser.test_editor import close, load, pixel, save
from PIL import Image

from bench.quality.judge import NAMES, labels
from demo.graph import PICTURE, Scene, demo_graph
from small_model.place import SMALL

# Three quarters of a square: a fat L, which no box is.
L_SHAPE = [(0.3, 0.25), (0.3, 0.7), (0.7, 0.7)]


def regions_of(editor):
    """The layout as the server reads it."""
    return read_layout(editor.widget_text(), "deig").regions


def drawn_mask(editor, index=0, size=(128, 128)):
    return region_masks(regions_of(editor), size)[index].numpy() > 0.5


def set_brush(editor, radius):
    editor.page.evaluate(
        """(radius) => { app.graph.findNodesByType("DEIG_RegionEditor")[0].properties.deig_brush = radius; }""",
        radius,
    )


def draw_l(editor):
    set_brush(editor, 0.14)
    editor.tool("Brush")
    editor.draw_along(L_SHAPE)
    editor.type_phrase("a plain red square")


def test_brushed_saved_loaded_and_painted(editor):
    editor.build(128, 128)
    draw_l(editor)
    (region,) = editor.regions
    close(region["box"], [0.16, 0.11, 0.84, 0.84], 0.02)
    mask = drawn_mask(editor)
    assert mask[40, 38] and mask[90, 90] and not mask[40, 90]
    assert len(editor.widget_text()) < 4000
    tinted, bare = np.array(pixel(editor, (0.3, 0.5))), np.array(pixel(editor, (0.7, 0.3)))
    assert np.abs(tinted - bare).max() > 40, "what is painted is tinted, the rest of the box is not"
    editor.screenshot("brushed")

    text = editor.widget_text()
    name = save(editor)
    editor.open()
    editor.page.evaluate("app.graph.clear()")
    load(editor, name)
    assert editor.widget_text() == text

    sent = editor.page.evaluate("async () => (await app.graphToPrompt()).output")
    (drawn,) = [node for node in sent.values() if node["class_type"] == "DEIG_RegionEditor"]
    graph = demo_graph(SMALL, Scene("shapes on a grey ground", "", (), 128, 8))
    inputs = {name: value for name, value in drawn["inputs"].items() if name != "background"}
    graph["region"] = {"class_type": "DEIG_RegionEditor", "inputs": inputs}
    # In a thread of its own: this one has the browser's event loop.
    with ThreadPoolExecutor() as threads:
        outputs = threads.submit(editor.server.run, graph).result().outputs
    picture = Image.open(io.BytesIO(editor.server.view(outputs[PICTURE]["images"][0]))).convert("RGB")
    red = labels(np.asarray(picture)) == NAMES.index("red")
    corner = np.zeros_like(mask)
    corner[22:62, 66:104] = True  # in the box, not in the mask
    assert red[mask].mean() > 0.55
    assert red[corner & ~mask].mean() < 0.25
    assert red[~mask].mean() < red[mask].mean() / 2


def test_a_place_takes_the_colour_of_its_new_number(editor):
    """A copy is number 2, and number 1 when the first is gone."""
    editor.build(128, 128)
    draw_l(editor)
    first = np.array(pixel(editor, (0.3, 0.5)))
    editor.press("Control+d", "PageUp", "Delete")
    (copy,) = editor.regions
    assert copy["mask"]
    assert np.abs(np.array(pixel(editor, (0.3, 0.5))) - first).max() < 15


def test_a_stroke_of_the_brush_is_one_step_of_undo(editor):
    editor.build(512, 512)
    draw_l(editor)
    before = editor.widget_text()
    first = drawn_mask(editor)
    editor.tool("Eraser")
    editor.draw_along([(0.3, 0.3), (0.3, 0.5), (0.35, 0.5)])
    erased = drawn_mask(editor)
    assert (
        first[50, 38] and not erased[50, 38] and (first & ~erased).sum() > 500 and not (erased & ~first).any()
    )
    assert len(editor.regions) == 1, "the eraser works on the selected region"
    editor.undo()
    assert editor.widget_text() == before
    editor.redo()
    assert np.array_equal(drawn_mask(editor), erased)


def test_a_mask_moves_and_scales_with_its_box(editor):
    editor.build(512, 512)
    draw_l(editor)
    start = drawn_mask(editor)
    editor.tool("Box")
    editor.drag((0.3, 0.5), (0.2, 0.42))
    moved = drawn_mask(editor)
    shifted = np.roll(start, (round(-0.08 * 128), round(-0.1 * 128)), (0, 1))
    assert (moved ^ shifted).mean() < 0.02
    _, _, right, bottom = editor.regions[0]["box"]
    editor.drag((right, bottom), (right - 0.3, bottom - 0.3))
    (region,) = regions_of(editor)
    close(region.mask.bounding_box(), region.box, 0.01)
    assert drawn_mask(editor).sum() < 0.5 * moved.sum()
    assert editor.message == ""


def test_shift_begins_another_place_and_a_click_is_a_dab(editor):
    editor.build(512, 512)
    draw_l(editor)
    set_brush(editor, 0.05)
    editor.page.keyboard.down("Shift")
    editor.click((0.8, 0.2))
    editor.page.keyboard.up("Shift")
    editor.type_phrase("a dab")
    assert [region["phrase"] for region in editor.regions] == ["a plain red square", "a dab"]
    close(editor.regions[1]["box"], [0.75, 0.15, 0.85, 0.25], 0.01)


def test_stroke_and_point(editor):
    editor.build(768, 512)
    set_brush(editor, 0.03)
    editor.tool("Stroke")
    editor.draw_along([(0.2, 0.8), (0.5, 0.6), (0.8, 0.8)])
    editor.type_phrase("a river")
    editor.tool("Point")
    editor.page.keyboard.down("Shift")
    editor.click((0.5, 0.25))
    editor.page.keyboard.up("Shift")
    editor.type_phrase("the moon")
    river, moon = editor.regions
    assert river["radius"] == 0.03 and len(river["scribble"]) > 5 and "mask" not in river
    close(river["scribble"][0], [0.2, 0.8], 5e-3)
    close(moon["point"], [0.5, 0.25], 5e-3)
    close(moon["box"], [0.5 - 0.125 * 512 / 768, 0.125, 0.5 + 0.125 * 512 / 768, 0.375], 5e-3)
    assert drawn_mask(editor, 0)[round(0.6 * 128), 64] and drawn_mask(editor, 1, (512, 768))[128, 384]
    near, far = (np.array(pixel(editor, (0.5, y))) for y in (0.62, 0.72))
    assert np.abs(near - far).max() > 20, "the stroke is drawn as wide as it reaches, 0.03 to each side"
    editor.screenshot("stroke-and-point")


def test_the_keys_draw_too(editor):
    editor.build(512, 512)
    editor.canvas.focus()
    editor.press("b")
    assert editor.page.locator(".deig-toolbar [aria-pressed=true]").first.text_content() == "Brush"
    before = editor.page.evaluate(
        "app.graph.findNodesByType('DEIG_RegionEditor')[0].properties.deig_brush ?? 0.04"
    )
    editor.press("]", "]", "[")
    after = editor.page.evaluate("app.graph.findNodesByType('DEIG_RegionEditor')[0].properties.deig_brush")
    assert abs(after / before - 1.25) < 0.01
    editor.press("ArrowLeft", "Shift+ArrowUp", " ", *["Shift+ArrowRight"] * 4, " ")
    editor.type_phrase("a line")
    (region,) = editor.regions
    middle = 0.5 - 32 / 512
    close(region["box"], [0.5 - 4 / 512 - 0.05, middle - 0.05, 0.5 + 124 / 512 + 0.05, middle + 0.05], 0.01)
    drawn = editor.widget_text()
    editor.press("e", " ", "ArrowLeft", "Escape")
    assert editor.widget_text() == drawn, "Escape takes back what the tool had begun"
    editor.press("r", "ArrowRight")
    close(editor.regions[0]["box"][:1], [region["box"][0] + 1 / 512], 1e-3)


def test_a_pen_presses_a_finer_line(editor):
    editor.build(512, 512)
    set_brush(editor, 0.08)
    editor.tool("Brush")
    editor.draw_along([(0.2, 0.3), (0.5, 0.3), (0.8, 0.3)], force=0.1)
    editor.type_phrase("a hair")
    (region,) = editor.regions
    assert 0.03 < region["box"][3] - region["box"][1] < 0.08, "a light hand: about a third of the brush"
    assert region["box"][2] - region["box"][0] > 0.55


def test_a_pens_other_end_erases_whatever_tool_is_chosen(editor):
    """Chromium's tools press no eraser, so the mouse's events are made a turned pen's on their way."""
    editor.build(128, 128)
    draw_l(editor)
    editor.tool("Box")
    editor.canvas.focus()
    before = drawn_mask(editor)
    editor.page.evaluate("""() => {
        const turned = (event) => {
            Object.defineProperty(event, "pointerType", { value: "pen" });
            if (event.type !== "pointermove") Object.defineProperty(event, "button", { value: 5 });
        };
        for (const type of ["pointerdown", "pointermove", "pointerup"]) window.addEventListener(type, turned, true);
    }""")
    editor.draw_along([(0.3, 0.3), (0.3, 0.45), (0.3, 0.6)])
    editor.page.wait_for_timeout(200)
    after = drawn_mask(editor)
    assert before[64, 38] and not after[40:76, 38].any() and after[90, 90], "along the whole of its way"
    assert len(editor.regions) == 1


def wire(editor, kind, values, target):
    editor.page.evaluate(
        """([kind, values, target]) => {
            const node = LiteGraph.createNode(kind);
            node.pos = [40, 420];
            app.graph.add(node);
            node.widgets.forEach((widget, at) => values[at] === undefined || (widget.value = values[at]));
            const editor = app.graph.findNodesByType("DEIG_RegionEditor")[0];
            node.connect(0, editor, editor.findInputSlot(target));
        }""",
        [kind, values, target],
    )
    editor.page.wait_for_timeout(300)


def set_text(editor, text):
    editor.page.evaluate(
        """(text) => { app.graph.findNodesByType("PrimitiveString")[0].widgets[0].value = text; }""", text
    )


def test_what_comes_in_by_the_wire_is_edited_here(editor):
    editor.build(512, 512)
    wire(editor, "PrimitiveString", ["a wired cup: 0.25 0.25 0.5 0.75"], "incoming")
    (region,) = editor.queue()
    assert region["phrase"] == "a wired cup", "it is used at once"
    assert [region["phrase"] for region in editor.regions] == ["a wired cup"], "and shown"
    assert "came in by the wire" in editor.message

    editor.drag((0.4, 0.5), (0.6, 0.5))
    moved = editor.regions[0]["box"]
    close(moved, [0.45, 0.25, 0.7, 0.75], 5e-3)
    (region,) = editor.queue()
    close(region["box"], moved), "the user's change wins"
    close(editor.regions[0]["box"], moved)

    set_text(editor, "a jug: 0 0 0.5 0.5")
    (region,) = editor.queue()
    assert region["phrase"] == "a jug", "until something else comes in"
    assert [region["phrase"] for region in editor.regions] == ["a jug"]
    editor.canvas.focus()
    editor.undo()
    close(editor.regions[0]["box"], moved)
    assert editor.regions[0]["phrase"] == "a wired cup"


def test_what_comes_in_leaves_the_prompt_and_what_is_pasted_after_it(editor):
    editor.build(512, 512)
    editor.page.get_by_label("Prompt for the whole picture").fill("on a table")
    editor.page.get_by_label("Prompt for the whole picture").press("Tab")
    wire(editor, "PrimitiveString", ["a wired cup: 0.25 0.25 0.5 0.75"], "incoming")
    editor.queue()
    assert (editor.value["prompt"], editor.regions[0]["phrase"]) == ("on a table", "a wired cup")

    editor.page.evaluate("navigator.clipboard.writeText('a bowl: 0.5 0.5 1 1')")
    editor.canvas.focus()
    editor.press("Control+v")
    editor.page.wait_for_timeout(600)
    (region,) = editor.queue()
    assert region["phrase"] == "a bowl", "the wire brings nothing new"
    assert [region["phrase"] for region in editor.regions] == ["a bowl"]


def test_the_canvas_has_the_size_that_is_wired_as_long_as_it_is(editor):
    editor.build(512, 512)
    wire(editor, "PrimitiveInt", [256], "width")
    editor.drag((0.2, 0.2), (0.6, 0.6))
    editor.type_phrase("a cup")
    editor.queue()
    editor.page.wait_for_timeout(300)
    _, _, width, height = editor.box_on_screen()
    assert abs(width / height - 256 / 512) < 0.01
    editor.page.evaluate(
        """() => {
            const [node] = app.graph.findNodesByType("DEIG_RegionEditor");
            node.disconnectInput(node.findInputSlot("width"));
        }"""
    )
    editor.page.wait_for_timeout(300)
    _, _, width, height = editor.box_on_screen()
    assert abs(width / height - 1) < 0.01


def test_chained_mask_regions_are_seen(editor):
    editor.build(512, 512)
    before = pixel(editor, (0.5, 0.5))
    wire(editor, "SolidMask", [1, 64, 64], "background")  # replaced below; it only adds the node
    editor.page.evaluate(
        """() => {
            const [mask] = app.graph.findNodesByType("SolidMask");
            const region = LiteGraph.createNode("DEIG_MaskRegion");
            region.pos = [40, 560];
            app.graph.add(region);
            region.widgets.find((one) => one.name === "phrase").value = "fog";
            mask.connect(0, region, region.findInputSlot("mask"));
            const editor = app.graph.findNodesByType("DEIG_RegionEditor")[0];
            region.connect(0, editor, editor.findInputSlot("regions"));
        }"""
    )
    editor.drag((0.6, 0.6), (0.9, 0.9))
    editor.type_phrase("a dog")
    phrases = [region["phrase"] for region in editor.queue()]
    assert phrases == ["fog", "a dog"]
    assert [region["phrase"] for region in editor.regions] == ["a dog"], "it is not part of the drawing"
    editor.page.wait_for_timeout(500)
    assert np.abs(np.array(pixel(editor, (0.3, 0.3))) - before).max() > 30
    editor.screenshot("wired")
    editor.page.evaluate(
        """() => {
            const [node] = app.graph.findNodesByType("DEIG_RegionEditor");
            node.disconnectInput(node.findInputSlot("regions"));
        }"""
    )
    editor.queue()
    editor.page.wait_for_timeout(500)
    assert list(pixel(editor, (0.3, 0.3))) == [0x33, 0x66, 0x99], (
        "it goes with its wire; the background is there"
    )
