"""A real Chromium before a real ComfyUI server, for each frontend and renderer that is at hand.

`COMFYUI_PATH` names the host. Its own frontend is always tried; `DEIG_FRONTENDS` may name more, as `static`
folders of unpacked comfyui-frontend-package wheels, joined by the system's path separator. `CHROMIUM` may name
the browser. Where anything is missing, every test here is skipped and says what.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "out" / "screenshots"
HOST = Path(os.environ.get("COMFYUI_PATH") or ".comfyui-path-not-set")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
RUN_SECONDS = 120
# Older frontends show no DOM widgets in the new renderer, which they only try out.
FIRST_WITH_NODES_2 = (1, 40)


def why_skipped() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return "needs playwright: pip install -r tests/browser/requirements.txt"
    if CHROMIUM is None:
        return "needs Chromium (Debian: apt-get install chromium), on the PATH or named by CHROMIUM"
    if not (HOST / "main.py").is_file():
        return "needs a real ComfyUI: set COMFYUI_PATH to the folder with its main.py"
    return None


@dataclass(frozen=True)
class Case:
    """One frontend in one renderer; `folder` is None for the host's own."""

    version: str
    folder: Path | None
    nodes_2: bool

    def __str__(self):
        return f"{self.version}-{'nodes2' if self.nodes_2 else 'classic'}"


def cases() -> list[Case]:
    if why_skipped():
        return []
    frontends = [(importlib.metadata.version("comfyui-frontend-package"), None)]
    for entry in filter(None, os.environ.get("DEIG_FRONTENDS", "").split(os.pathsep)):
        (info,) = Path(entry).parent.parent.glob("comfyui_frontend_package-*.dist-info")
        frontends.append((info.name.split("-")[1].removesuffix(".dist"), Path(entry)))
    found = []
    for version, folder in frontends:
        has_nodes_2 = tuple(int(part) for part in version.split(".")[:2]) >= FIRST_WITH_NODES_2
        found += [Case(version, folder, nodes_2) for nodes_2 in (False, True)[: 1 + has_nodes_2]]
    return found


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        reason = why_skipped()
        values = cases() or [pytest.param(None, marks=pytest.mark.skip(reason=str(reason)), id="skipped")]
        metafunc.parametrize("case", values, ids=str, scope="session")


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.browser)


def write_models(models: Path):
    """Stand-ins with random weights, under the names that workflows/deig_editor.json asks for."""
    import torch
    from deig_pack.tests import standins

    from bench import random_weights
    from small_model.place import place_weights

    checkpoint = standins.checkpoint_state(standins.FAST, with_clip=True)
    random_weights.save_state(models / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors", checkpoint)
    (models / "deig").mkdir()
    torch.save({"model": standins.adapter_state(standins.FAST)}, models / "deig" / "model.pth")
    tokenizer = HOST / "comfy" / "text_encoders" / "t5_tokenizer"
    folder = standins.write_t5_folder(models / "text_encoders" / "small-t5", tokenizer)
    shutil.copy(folder / "model.safetensors", folder.parent / "flan-t5-xl-encoder.safetensors")
    place_weights(models)


@pytest.fixture(scope="session")
def server(case, tmp_path_factory):
    from demo.server import ComfyServer, install_pack

    base = tmp_path_factory.mktemp(str(case))
    install_pack(base)
    write_models(base / "models")
    extra = () if case.folder is None else ("--front-end-root", str(case.folder))
    with ComfyServer(HOST, base, sys.executable, extra) as started:
        started.post(
            "/settings",
            {
                "Comfy.VueNodes.Enabled": case.nodes_2,
                "Comfy.VueNodes.AutoScaleLayout": False,
                "Comfy.TutorialCompleted": True,
                "Comfy.InstalledVersion": case.version,
                "Comfy.Minimap.Visible": False,
                "Comfy.OnboardingCoachmarks.Seen": ["appMode", "firstRun"],
            },
        )
        yield started


@pytest.fixture(scope="session")
def chromium(case):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def editor(case, server, chromium):
    context = chromium.new_context(viewport={"width": 1500, "height": 1050})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    opened = EditorPage(page, server, case)
    opened.open()
    yield opened
    context.close()
    assert not opened.faults, "\n".join(opened.faults)


class EditorPage:
    """The page with one region editor in its graph, worked as a user works it."""

    def __init__(self, page, server, case):
        self.page, self.server, self.case = page, server, case
        self.faults: list[str] = []
        page.on("pageerror", self._note_fault)

    def _note_fault(self, error):
        if "comfyui-deig" in (error.stack or ""):
            self.faults.append(f"{error}\n{error.stack}")

    def open(self):
        self.page.goto(f"http://{self.server.address}")
        self.page.wait_for_function(
            "window.app?.isGraphReady ?? Boolean(window.app?.graph && window.app.canvas)"
        )
        self.page.wait_for_function("LiteGraph.registered_node_types.DEIG_RegionEditor !== undefined")
        self.page.wait_for_function("document.querySelector('#graph-canvas')?.clientWidth > 300")
        # The page goes on restoring the last workflow for a while; what is cleared too early comes back.
        self.page.wait_for_timeout(2000)

    def build(self, width=768, height=512):
        """An empty image behind the editor, and its regions as text: what the server made of them."""
        self.page.evaluate(
            """([width, height]) => {
                app.graph.clear();
                const add = (type, at, values) => {
                    const node = LiteGraph.createNode(type);
                    node.pos = at;
                    app.graph.add(node);
                    for (const [name, value] of Object.entries(values)) {
                        const widget = node.widgets.find((one) => one.name === name);
                        widget.value = value;
                        widget.callback?.(value);
                    }
                    return node;
                };
                const image = add("EmptyImage", [40, 100], { width: 96, height: 64, color: 0x336699 });
                const editor = add("DEIG_RegionEditor", [330, 60], { width, height });
                const text = add("DEIG_RegionsToText", [830, 60], {});
                const shown = add("PreviewAny", [830, 330], {});
                image.connect(0, editor, editor.findInputSlot("background"));
                editor.connect(0, text, text.findInputSlot("regions"));
                text.connect(0, shown, 0);
                app.canvas.ds.scale = 1;
                app.canvas.ds.offset = [40, 40];
                app.canvas.setDirty(true, true);
            }""",
            [width, height],
        )
        self.settle()

    def settle(self):
        self.page.wait_for_selector(".deig-canvas", state="visible")
        self.page.wait_for_timeout(500)

    @property
    def canvas(self):
        return self.page.locator(".deig-canvas")

    def box_on_screen(self):
        """The canvas on the screen: x, y, width, height in pixels of the page."""
        box = self.canvas.bounding_box()
        return box["x"], box["y"], box["width"], box["height"]

    def drag(self, start, end, modifiers=()):
        """Drag from one point to another, both in fractions of the canvas."""
        x, y, width, height = self.box_on_screen()
        mouse, keyboard = self.page.mouse, self.page.keyboard
        for key in modifiers:
            keyboard.down(key)
        mouse.move(x + start[0] * width, y + start[1] * height)
        mouse.down()
        mouse.move(x + end[0] * width, y + end[1] * height, steps=7)
        mouse.up()
        for key in modifiers:
            keyboard.up(key)

    def draw_along(self, points, force=None):
        """Draw through points, in fractions of the canvas; with a `force`, by a pen that is pressed so hard."""
        x, y, width, height = self.box_on_screen()
        places = [(x + fx * width, y + fy * height) for fx, fy in points]
        if force is None:
            self.page.mouse.move(*places[0])
            self.page.mouse.down()
            for place in places[1:]:
                self.page.mouse.move(*place, steps=4)
            self.page.mouse.up()
            return
        session = self.page.context.new_cdp_session(self.page)

        def pen(kind, place, **more):
            session.send(
                "Input.dispatchMouseEvent",
                {"type": kind, "x": place[0], "y": place[1], "pointerType": "pen", **more},
            )

        pen("mousePressed", places[0], button="left", buttons=1, clickCount=1, force=force)
        for place in places[1:]:
            pen("mouseMoved", place, button="left", buttons=1, force=force)
        pen("mouseReleased", places[-1], button="left", buttons=0, clickCount=1)
        session.detach()

    def tool(self, label):
        self.page.locator(".deig-toolbar button", has_text=label).first.click()

    def click(self, point, **options):
        x, y, width, height = self.box_on_screen()
        self.page.mouse.click(x + point[0] * width, y + point[1] * height, **options)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(60)

    def type_phrase(self, phrase):
        self.page.wait_for_selector(".deig-inplace")
        self.page.keyboard.type(phrase)
        self.press("Enter")

    def undo(self):
        self._press_and_wait("Control+z")

    def redo(self):
        self._press_and_wait("Control+y")

    def _press_and_wait(self, key):
        """Press a key that loads another state of the graph, which takes a while."""
        before = self.widget_text()
        self.page.keyboard.press(key)
        deadline = time.monotonic() + 10
        while self.widget_text() == before:
            assert time.monotonic() < deadline, f"{key} changed nothing"
            self.page.wait_for_timeout(50)
        self.page.wait_for_timeout(600)

    @property
    def value(self):
        """The widget's value, parsed: what the workflow stores."""
        return json.loads(self.widget_text())

    def widget_text(self):
        return self.page.evaluate(
            """() => app.graph.findNodesByType("DEIG_RegionEditor")[0]
                ?.widgets.find((widget) => widget.name === "layout").value"""
        )

    @property
    def regions(self):
        return self.value["regions"]

    @property
    def message(self):
        return self.page.locator(".deig-message").text_content()

    def run(self):
        """Press Run and return what the server's history says of the run."""
        known = set(self.server.get("/history"))
        self.page.get_by_role("button", name="Run", exact=True).first.click()
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            new = {key: run for key, run in self.server.get("/history").items() if key not in known}
            if new:
                (run,) = new.values()
                assert run["status"]["status_str"] == "success", run["status"]
                self.page.wait_for_timeout(500)
                return run
            self.page.wait_for_timeout(200)
        raise AssertionError("The server did not finish the run: " + self.server.log_tail())

    def queue(self):
        """Press Run and return the regions that the server had after reading them."""
        (text,) = [output["text"][0] for output in self.run()["outputs"].values() if "text" in output]
        return json.loads(text)["regions"]

    def screenshot(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{self.case}-{name}.png")
