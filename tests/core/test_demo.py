"""The demo: its graphs, a server in a folder of its own and what it says, workflows as they are sent, and pictures."""

import io
import json
import os
import signal
import sys
import urllib.error
from pathlib import Path

import pytest
from PIL import Image

from demo import pictures, play, server, show, workflows
from demo.client import ComfyClient, ExecutionFailed, ExecutionInterrupted, PromptRejected, readable_errors
from demo.graph import LAYOUT, PICTURE, PLAIN, Scene, comparing_graph, node, region_chain
from demo.server import ComfyServer, StartFailed, install_pack
from small_model.place import SMALL

SCENE = Scene(
    "a shelf", "blurred", (("a cup", 0.1, 0.2, 0.3, 0.4), ("a lamp", 0.5, 0.4, 0.2, 0.1)), 192, 9, 3.5, 7
)


def test_regions_are_chained_in_order_and_the_last_is_the_region():
    chain = region_chain(SCENE)
    assert list(chain) == ["region 1", "region"]
    first, last = (one["inputs"] for one in chain.values())
    keys = ("phrase", "x", "y", "width", "height")
    assert [tuple(one[key] for key in keys) for one in (first, last)] == list(SCENE.instances)
    assert "regions" not in first and last["regions"] == ["region 1", 0]
    assert [first[key] for key in ("strength", "start_percent", "end_percent")] == [1.0, 0.0, 1.0]


def test_the_plain_picture_differs_by_deig_alone():
    graph = comparing_graph(SMALL, SCENE)
    with_deig, plain = graph["sampler"]["inputs"], graph["plain sampler"]["inputs"]
    assert plain == with_deig | {"model": ["plain model", 0]}
    assert graph["plain model"]["inputs"] == graph["model"]["inputs"] | {"strength": 0.0}
    assert [graph[name]["inputs"]["images"][0] for name in (PICTURE, PLAIN, LAYOUT)] == [
        "image",
        "plain image",
        "drawing",
    ]
    assert graph["plain image"]["inputs"]["samples"] == ["plain sampler", 0]
    assert [with_deig[key] for key in ("seed", "steps", "cfg")] == [7, 9, 3.5]
    assert [graph[name]["inputs"]["text"] for name in ("positive", "negative")] == ["a shelf", "blurred"]
    for name in ("latent", "drawing"):
        assert (graph[name]["inputs"]["width"], graph[name]["inputs"]["height"]) == (192, 192)


@pytest.mark.parametrize(
    "address, url",
    [
        ("127.0.0.1:8188", "http://127.0.0.1:8188"), ("https://there/comfy/", "https://there/comfy"),
        ("http://there", "http://there"), ("there/", "http://there"),
    ],
)  # fmt: skip
def test_an_address_may_be_a_url(address, url):
    assert ComfyClient(address).url == url


def test_every_fault_of_a_refused_graph_has_a_line():
    fault = {"message": "Too large", "details": "x is 2"}
    errors = {"3": {"class_type": "Box", "errors": [fault, fault | {"details": "y is 3"}]}}
    assert readable_errors({"error": {"message": "Refused", "details": ""}, "node_errors": errors}).splitlines() == [
        "Refused", "Box (node 3): Too large: x is 2", "Box (node 3): Too large: y is 3",
    ]  # fmt: skip
    assert readable_errors({"node_errors": errors}).startswith("Some outputs cannot run\nBox")
    assert (
        readable_errors({"error": {"message": "No graph", "details": "is here"}, "node_errors": None})
        == "No graph is here"
    )


class Answers(ComfyClient):
    """A server that answers what it is given, and remembers what it was sent."""

    def __init__(self, **answers):
        super().__init__("there")
        self.answers, self.sent = answers, []

    def get(self, path, **query):
        return self.answers[path.strip("/").replace("/", "_")]

    def post(self, path, body):
        self.sent.append((path, body))
        answer = self.answers.get(path.strip("/"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_graph_that_is_good_in_part_is_taken_back():
    client = Answers(prompt={"prompt_id": "p", "node_errors": {}})
    assert client.queue({"a": 1}, "me") == "p"
    assert client.sent == [("/prompt", {"prompt": {"a": 1}, "client_id": "me"})]
    fault = {"class_type": "Box", "errors": [{"message": "Too large", "details": "x"}]}
    client = Answers(prompt={"prompt_id": "p", "node_errors": {"3": fault}})
    with pytest.raises(PromptRejected, match="Box .node 3.: Too large: x"):
        client.queue({})
    assert client.sent[1:] == [("/queue", {"delete": ["p"]}), ("/interrupt", {})]


def test_a_refusal_is_told_in_the_servers_words():
    body = io.BytesIO(json.dumps({"error": {"message": "Refused", "details": "why"}}).encode())
    client = Answers(prompt=urllib.error.HTTPError("there", 400, "Bad Request", {}, body))
    with pytest.raises(PromptRejected, match="^Refused why$"):
        client.queue({})


@pytest.mark.parametrize("running, interrupts", [([[0, "p"]], 1), ([[0, "other"]], 0), ([], 0)])
def test_only_its_own_graph_is_cancelled(running, interrupts):
    client = Answers(queue={"queue_running": running, "queue_pending": []})
    client.cancel()
    assert not client.sent
    client.running = "p"
    client.answers["queue"] = {"queue_running": running}
    client.cancel()
    assert client.sent == [("/queue", {"delete": ["p"]}), *[("/interrupt", {})] * interrupts]


def test_a_graph_that_is_neither_queued_nor_done_was_taken_out():
    queue = {"queue_running": [[0, "runs"]], "queue_pending": [[1, "waits"]]}
    client = Answers(
        queue=queue, history_runs={}, history_waits={}, history_done={"done": {}}, history_gone={}
    )
    for prompt in ("runs", "waits", "done"):
        client._check_queue(prompt)
    with pytest.raises(ExecutionInterrupted, match="taken out of the queue of there"):
        client._check_queue("gone")


def test_what_ended_a_run_is_told():
    data = {"node_type": "KSampler", "node_id": "3", "exception_message": " out of memory\n"}
    interrupted = ComfyClient._failure("execution_interrupted", data)
    assert isinstance(interrupted, ExecutionInterrupted) and "at KSampler" in str(interrupted)
    failed = ComfyClient._failure("execution_error", data)
    assert isinstance(failed, ExecutionFailed) and str(failed) == "KSampler (node 3): out of memory"
    assert ComfyClient._failure("progress", data) is None


INFO = {
    "input_order": {"required": ["image", "seed"], "optional": ["mode", "model"]},
    "input": {
        "required": {
            "image": [["a.png"], {"image_upload": True}],
            "seed": ["INT", {"control_after_generate": True}],
        },
        "optional": {"mode": ["COMBO"], "model": ["MODEL", {}]},
    },
}
STORED = {
    "type": "a node",
    "id": 3,
    "widgets_values": ["a.png", "image", 7, "randomize", "soft"],
    "inputs": [],
}


def test_stored_values_are_told_by_their_inputs():
    assert workflows.widget_values(STORED, INFO) == {"image": "a.png", "seed": 7, "mode": "soft"}


@pytest.mark.parametrize(
    "values, told",
    [
        (["a.png", "image", 7, "fixed"], "a node has 5 values of widgets, but here are 4"),
        (["a.png", "image", 7, "fixed", "soft", 1], "but here are 6"),
        (
            ["a.png", "other", 7, "fixed", "soft"],
            "a node.image is followed by one of .'image'., not by 'other'",
        ),
        (["a.png", "image", 7, 8, "soft"], "a node.seed is followed by one of .*, not by 8"),
    ],
)
def test_values_that_are_not_those_of_the_widgets_are_refused(values, told):
    with pytest.raises(ValueError, match=told):
        workflows.widget_values(STORED | {"widgets_values": values}, INFO)


def test_notes_are_not_sent_and_links_are():
    sockets = [{"name": "model", "link": 5}, {"name": "seed", "link": None}]
    notes = [{"type": kind, "id": 9} for kind in ("Note", "MarkdownNote")]
    workflow = {"links": [[5, 1, 2, 3, 0, "MODEL"]], "nodes": [STORED | {"inputs": sockets}, *notes]}
    values = {"image": "a.png", "seed": 7, "mode": "soft", "model": ["1", 2]}
    assert workflows.to_api_form(workflow, {"a node": INFO}) == {
        "3": {"class_type": "a node", "inputs": values}
    }


def test_a_layout_is_drawn_without_any_model():
    graph = {
        "loader": node("Loader", name="a"),
        "first": node("DEIG_BoxRegion", phrase="a"),
        "editor": node(
            "DEIG_RegionEditor", width=640, height=384, background=["loader", 0], incoming=["loader", 0],
            regions=["first", 0],
        ),
        "encode": node("DEIG_EncodeRegions", text_encoder=["loader", 1], regions=["editor", 0]),
        "latent": node("EmptyLatentImage", width=["editor", 1], height=["editor", 2]),
    }  # fmt: skip
    drawn = pictures.layout_graph(graph)
    assert set(drawn) == {"editor", "first", "drawing", pictures.SHOWN}
    assert drawn["drawing"]["inputs"] == {"regions": ["editor", 0], "width": 640, "height": 384}
    assert set(drawn["editor"]["inputs"]) == {"width", "height", "regions"}
    graph["preview"] = node("DEIG_PreviewRegions", regions=["first", 0], width=["editor", 1], height=96)
    drawn = pictures.layout_graph(graph)
    assert drawn["drawing"]["inputs"] == graph["preview"]["inputs"] and "preview" not in drawn
    assert graph["editor"]["inputs"]["background"] == ["loader", 0]  # what was given stays as it was


def test_of_what_is_looked_inside_one_output_is_shown():
    layout = json.dumps({"size": [1, 1], "regions": [{"phrase": str(i)} for i in range(4)]})
    graph = {
        "model": node("DEIG_ApplyToModel"), "1": node("KSampler", model=["model", 0], seed=3),
        "2": node("VAEDecode", samples=["1", 0]), "3": node("SaveImage", images=["2", 0]),
        "4": node("DEIG_RegionEditor", layout=layout),
    }  # fmt: skip
    inside = pictures.looking_inside(graph, "tokens", 2)
    assert "3" not in inside and inside["1"]["inputs"] == {"model": ["record", 0], "seed": 3}
    assert inside["record"]["inputs"]["model"] == ["model", 0]
    shown = inside["maps"]["inputs"]
    assert [shown[key] for key in ("recording", "samples", "image", "show")] == [
        ["record", 1],
        ["1", 0],
        ["2", 0],
        "tokens",
    ]
    assert inside[pictures.SHOWN]["inputs"]["images"] == ["maps", 2]
    kept = json.loads(inside["4"]["inputs"]["layout"])
    assert [region["phrase"] for region in kept["regions"]] == ["0", "1", "2"] and kept["size"] == [1, 1]
    assert graph["4"]["inputs"]["layout"] == layout


@pytest.mark.parametrize(
    "size, saved", [((128, 64), (384, 192)), ((840, 420), (420, 210)), ((100, 500), (84, 420))]
)
def test_thumbnails_are_no_larger_than_a_card_needs_and_small_ones_whole_times_as_large(
    size, saved, monkeypatch, tmp_path
):
    monkeypatch.setattr(pictures, "WORKFLOWS", tmp_path)
    monkeypatch.setattr(pictures, "workflow_names", lambda: ["a"])
    monkeypatch.setattr(pictures, "template_picture", lambda *_: Image.new("RGB", size))
    (place,) = pictures.thumbnails(Answers(object_info={}))
    assert place == tmp_path / "a.jpg" and Image.open(place).size == saved


@pytest.mark.parametrize("size, saved", [((120, 60), (60, 30)), ((60, 90), (60, 90)), ((90, 61), (60, 41))])
def test_drawings_are_saved_no_wider_than_they_may_be(size, saved, tmp_path):
    place = pictures.save_small(Image.new("RGBA", size), tmp_path / "a.png", 60)
    picture = Image.open(place)
    assert (picture.size, picture.mode) == (saved, "RGB")


@pytest.mark.parametrize(
    "platform, has, screen",
    [
        ("linux", [], False), ("linux", ["DISPLAY"], True), ("linux", ["WAYLAND_DISPLAY"], True),
        ("linux", ["BROWSER"], True), ("freebsd14", [], False), ("darwin", [], True), ("win32", [], True),
    ],
)  # fmt: skip
def test_a_browser_opens_where_there_is_a_screen(platform, has, screen, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name in has:
        monkeypatch.setenv(name, "it")
    monkeypatch.setattr(sys, "platform", platform)
    assert play.has_screen() == screen


@pytest.mark.parametrize("code, ours", [(0, 1), (3, 3), (None, 1)])
def test_a_server_that_ends_by_itself_is_told(code, ours, capsys, monkeypatch):
    class Process:
        def poll(self):
            return code

    server = Answers()
    server.process = Process()
    monkeypatch.setattr(play.os, "getppid", lambda: 7)
    assert play.wait_for_its_end(server, 7 if code is not None else 8) == ours
    assert (f"ended by itself, with code {code}" in capsys.readouterr().out) == (code is not None)


@pytest.mark.parametrize(
    "command, raised, code, said",
    [
        (play, StartFailed("no answer"), 1, "no answer\n"), (play, KeyboardInterrupt(), 0, "\nComfyUI has ended.\n"),
        (show, StartFailed("no answer"), 1, "no answer\n"), (show, KeyboardInterrupt(), 130, ""),
    ],
)  # fmt: skip
def test_the_demos_end_in_words(command, raised, code, said, monkeypatch, capsys, tmp_path):
    def fails(*_):
        raise raised

    monkeypatch.setattr(command, "play" if command is play else "paint_in_host", fails)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    out = [] if command is play else ["--out", str(tmp_path / "a.png")]
    monkeypatch.setattr(sys, "argv", ["demo", "--host", "there", *out])
    assert command.main() == code and capsys.readouterr().out == said
    assert not (tmp_path / "a.png").exists()


def test_a_demo_is_saved_beside_its_layout(monkeypatch, capsys, tmp_path):
    painted = [Image.new("RGB", (128, 128), colour) for colour in ("red", "green", "blue")]
    monkeypatch.setattr(show, "paint_in_host", lambda host, weights: painted)
    monkeypatch.setattr(show.signal, "signal", lambda *_: None)
    out = tmp_path / "made" / "a.png"
    monkeypatch.setattr(sys, "argv", ["show", "--host", "there", "--out", str(out)])
    assert show.main() == 0
    with Image.open(out) as sheet:
        colours = [sheet.getpixel((16 + 200 + i * 400, 200)) for i in range(3)]
    assert colours == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    said = capsys.readouterr().out
    assert "Painted by ComfyUI in there" in said and str(out) in said


HOST = r"""
import http.server, json, os, pathlib, sys
base = pathlib.Path(sys.argv[sys.argv.index("--base-directory") + 1])
variables = {name: os.environ.get(name) for name in ("TMPDIR", "HF_HUB_OFFLINE")}
folders = sorted(place.name for place in base.iterdir() if place.is_dir())
(base / "told.json").write_text(json.dumps([sys.argv[1:], variables, os.getcwd(), folders]))
print("\x1b[31mred\x1b[0m", *range(50), sep="\n", flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_): pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.mark.parametrize("cpu", [True, False])
def test_a_server_lives_in_a_folder_of_its_own(tmp_path, cpu):
    host, base = tmp_path / "host", tmp_path / "base"
    host.mkdir()
    (host / "main.py").write_text(HOST)
    with ComfyServer(host, base, extra_args=("--more", "x"), cpu=cpu) as server:
        arguments, variables, folder, folders = json.loads((base / "told.json").read_text())
        assert server.log().startswith("red\n0\n")
        assert server.log_tail().splitlines() == ["The end of its log:", *map(str, range(10, 50))]
    assert server.process is None
    assert ("--cpu" in arguments) == cpu and arguments[-2:] == ["--more", "x"]
    assert (
        arguments[arguments.index("--listen") + 1] == "127.0.0.1"
        and server.address == f"127.0.0.1:{server.port}"
    )
    assert variables == {"TMPDIR": str(base / "scratch"), "HF_HUB_OFFLINE": "1"} and folder == str(host)
    assert folders == ["custom_nodes", "input", "models", "output", "scratch", "temp", "user"]


@pytest.mark.skipif(os.name == "nt", reason="there all of a process's children are ended at once")
def test_a_server_that_will_not_end_is_ended_with_its_children(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    host, base = tmp_path / "host", tmp_path / "base"
    host.mkdir()
    # The file is locked as long as the host or its child has it open.
    stubborn = """
import fcntl, signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
subprocess.Popen(["sleep", "20"], pass_fds=[lock.fileno()])
"""
    (host / "main.py").write_text(stubborn + HOST)
    with ComfyServer(host, base) as running, (host / "lock").open() as lock:
        process = running.process
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        running.stop()
        assert process.returncode == -signal.SIGKILL
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_a_pack_is_copied_without_what_it_does_not_need_where_no_link_can_be_made(tmp_path, monkeypatch):
    pack = tmp_path / "pack"
    for name in (
        "a.py",
        ".git/config",
        "out/a.png",
        "tests/test_a.py",
        "nodes/a.py",
        "nodes/__pycache__/a.pyc",
    ):
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        (pack / name).touch()

    def refused(*_, **__):
        raise OSError("no privilege")

    linked = install_pack(tmp_path / "one", pack, "mine")
    assert linked == tmp_path / "one" / "custom_nodes" / "mine" and linked.resolve() == pack
    monkeypatch.setattr(Path, "symlink_to", refused)
    copied = install_pack(tmp_path / "other", pack, "mine")
    found = sorted(str(place.relative_to(copied)) for place in copied.rglob("*") if place.is_file())
    assert found == ["a.py", "nodes/a.py"]
