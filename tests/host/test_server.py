"""The pack in a real server, over HTTP as the frontend speaks to it; and the server's own ending."""

import copy
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from demo.client import ExecutionFailed, ExecutionInterrupted, PromptRejected
from demo.graph import LAYOUT, PICTURE, Models, Scene, demo_graph
from demo.graph import node as graph_node
from demo.server import ComfyServer, StartFailed
from small_model.place import SMALL, WEIGHTS

MODELS = Models("v1-5-pruned-emaonly-fp16.safetensors", "model.pth", "small-t5")
SCENE = Scene(
    prompt="a shelf",
    negative="",
    instances=(("a red mug", 0.1, 0.1, 0.3, 0.4), ("a blue lamp", 0.5, 0.4, 0.4, 0.5)),
    size=128,
    steps=2,
)


@pytest.fixture
def graph():
    return copy.deepcopy(demo_graph(MODELS, SCENE))


@pytest.fixture(scope="module")
def deig_nodes(comfy_server):
    return {name: node for name, node in comfy_server.object_info().items() if name.startswith("DEIG_")}


def test_every_node_is_listed_and_has_its_help_page(deig_nodes):
    """The ids themselves are held by test_nodes.py."""
    assert set(deig_nodes) == {page.stem for page in (ROOT / "web" / "docs").glob("DEIG_*.md")}


def test_every_node_input_and_output_is_explained(deig_nodes):
    unexplained = []
    for name, node in deig_nodes.items():
        assert node["category"] == "DEIG"
        tooltips = {"the node": node["description"]}
        for section in ("required", "optional"):
            inputs = node["input"].get(section, {})
            tooltips |= {f"input {key}": spec[1].get("tooltip") for key, spec in inputs.items()}
        outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
        tooltips |= {f"output {key}": tooltip for key, tooltip in outputs}
        unexplained += [f"{name}: {what}" for what, tooltip in tooltips.items() if not tooltip]
    assert not unexplained


def test_server_log_is_clean(comfy_server):
    log = comfy_server.log()
    assert "comfyui-deig" in log
    assert "Traceback" not in log
    assert "IMPORT FAILED" not in log and "Cannot import" not in log


def test_adapter_folder_is_known(comfy_server):
    assert {"model.pth", SMALL.adapter} <= set(comfy_server.get("/models/deig"))


def test_missing_connection_is_refused_by_name(comfy_server, graph):
    del graph["model"]["inputs"]["grounding"]
    with pytest.raises(PromptRejected, match=r"DEIG_ApplyToModel \(node model\): .*grounding"):
        comfy_server.run(graph)


def test_out_of_range_value_is_refused_by_name(comfy_server, graph):
    graph["region"]["inputs"]["x"] = 1.5
    with pytest.raises(PromptRejected, match=r"DEIG_BoxRegion \(node region\): .*x"):
        comfy_server.run(graph)


def test_graph_that_is_good_in_part_is_refused_too(comfy_server, graph):
    # The layout's output stays valid, so the server alone would run that and say nothing of the picture.
    graph["sampler"]["inputs"]["sampler_name"] = "no such sampler"
    with pytest.raises(PromptRejected, match=r"KSampler \(node sampler\)"):
        comfy_server.run(graph)


def test_box_beyond_the_image_fails_in_plain_words(comfy_server, graph):
    graph["region"]["inputs"] |= {"x": 0.8, "width": 0.5}
    with pytest.raises(ExecutionFailed, match=r"DEIG_BoxRegion .*'a blue lamp' lies outside the image"):
        comfy_server.run(graph)


def test_empty_phrase_fails_in_plain_words(comfy_server, graph):
    graph["region"]["inputs"]["phrase"] = "  "
    with pytest.raises(ExecutionFailed, match="A region needs a phrase"):
        comfy_server.run(graph)


def test_second_seed_runs_only_what_depends_on_it(comfy_server, graph):
    graph["sampler"]["inputs"]["seed"] = 1001
    first = comfy_server.run(graph)
    graph["sampler"]["inputs"]["seed"] = 1002
    second = comfy_server.run(graph)
    assert set(second.executed) == {"sampler", "image", PICTURE}
    assert set(second.cached) == set(graph) - {"sampler", "image", PICTURE}
    pictures = [comfy_server.view(run.outputs[PICTURE]["images"][0]) for run in (first, second)]
    assert pictures[0] != pictures[1]


def test_attention_is_of_the_picture_wherever_its_latent_comes_from(comfy_server, graph):
    """Two seeds and the first again: newer hosts take its latent from the cache, while the last run was another's."""
    graph["record"] = graph_node(
        "DEIG_RecordAttention", model=["model", 0], blocks="all", start_percent=0.0, end_percent=1.0
    )
    graph["sampler"]["inputs"]["model"] = ["record", 0]
    graph["maps"] = graph_node(
        "DEIG_AttentionMaps",
        recording=["record", 1],
        samples=["sampler", 0],
        image=["image", 0],
        choose="",
        show="instances",
        scale="each",
    )
    graph["maps shown"] = graph_node("SaveImage", images=["maps", 0], filename_prefix="maps")
    graph["report"] = graph_node("PreviewAny", source=["maps", 2])
    del graph[PICTURE]  # by nothing but its own inputs the maps' node comes after the sampler
    runs = []
    for seed, scale in ((3001, "each"), (3002, "each"), (3001, "together"), (3001, "as it is")):
        graph["sampler"]["inputs"]["seed"] = seed
        graph["maps"]["inputs"]["scale"] = scale
        runs.append(comfy_server.run(graph))
    assert "sampler" in runs[3].cached and "record" in runs[2].cached and "maps" in runs[3].executed
    reports = [run.outputs["report"]["text"][0] for run in runs]
    assert reports[0].startswith("Recorded 2 times") and len(reports[0].splitlines()) == 4
    assert reports[0] != reports[1] and reports[0] == reports[2] == reports[3]
    maps = [[comfy_server.view(image) for image in run.outputs["maps shown"]["images"]] for run in runs]
    assert [len(one) for one in maps] == [2] * 4 and maps[0] != maps[1]


def test_progress_names_nodes_and_steps(comfy_server, graph):
    graph["sampler"]["inputs"] |= {"seed": 2001, "steps": 3}
    reports = []
    comfy_server.run(graph, reports.append)
    steps = [(report.step, report.steps) for report in reports if report.node == "KSampler"]
    assert steps == [(0, 0), (1, 3), (2, 3), (3, 3)]


def test_interrupting_stops_the_run_and_leaves_the_server_well(comfy_server, graph):
    graph["sampler"]["inputs"] |= {"seed": 3001, "steps": 200}
    steps = []

    def interrupt_at_first_step(progress):
        if progress.node == "KSampler" and progress.steps:
            steps.append(progress.step)
            if progress.step == 1:
                comfy_server.interrupt()

    with pytest.raises(ExecutionInterrupted, match="KSampler"):
        comfy_server.run(graph, interrupt_at_first_step)
    assert max(steps) < 200

    graph["sampler"]["inputs"]["steps"] = 1
    assert set(comfy_server.run(graph).outputs) == {PICTURE, LAYOUT}


# What held the server up once, or broke the route: each a body for POST /deig/read_layout.
def asking(text, **size):
    return json.dumps({"text": text, "width": 512, "height": 512} | size).encode()


HARD_TO_READ = {
    "blanks after a pair": asking('("a",(1)' + " " * 32_000 + "x"),
    "a million blanks": asking('("a",(1)' + " " * 1_000_000 + "x"),
    "pairs by the line": asking('("a",[0,0,1,1])\n' * 54_000),
    "image ids": asking(
        json.dumps({"annotations": [{"image_id": i} for i in range(45_000)], "categories": []})
    ),
    "image ids that are lists": asking(
        json.dumps({"annotations": [{"image_id": [i]} for i in range(40_000)], "categories": []})
    ),
    "a width of 400 digits": asking("a: 0 0 1 1", width=10**400),
    "brackets": b"[" * 200_000,
    "brackets in the text": asking("[" * 200_000),
    "too long": asking("a" * 20_000_000),
    "as many regions as fit": asking("a cup: 0 0 1 1\n" * 60_000),
    "as much JSON as fits": asking("[" + "[]," * 19_000 + '{"label": "a", "bbox": [0, 0, 9, 9]}]'),
    "as many numbers as fit": asking('{"regions": [' + "1," * 500_000 + "1]}"),
    "more than fits": asking("a cup: 0 0 1 1\n" * 80_000),
    "masks": asking(
        json.dumps(
            [{"phrase": "a", "box": [0, 0, 1, 1], "mask": {"size": [8192, 8192], "counts": [0, 8192 * 8192]}}]
            * 16
        )
    ),
}


def time_of_an_answer(server) -> float:
    before = time.monotonic()
    server.get("/system_stats")
    return time.monotonic() - before


def longest_answer(server, name, body, headers=None):
    """The longest time, in seconds, that another route takes while the server reads a body; and its status."""
    request = urllib.request.Request(f"http://{server.address}/deig/read_layout", body, headers or {})

    def asked():
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code
        except (urllib.error.URLError, ConnectionError):
            return "hung up"  # before it took a body that is too long

    times = []
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asked)
        while not asking.done() or not times:
            times.append(time_of_an_answer(server))
        print(
            f"{name}: {len(body)} bytes, answered {asking.result()}; another route took {max(times):.3f} s at most"
        )
        return max(times), asking.result()


@pytest.mark.parametrize("name", HARD_TO_READ)
def test_reading_a_layout_holds_nobody_up(comfy_server, name):
    calm = max(time_of_an_answer(comfy_server) for _ in range(10))
    waited, status = longest_answer(comfy_server, name, HARD_TO_READ[name])
    # A second where nothing else runs; as many times longer where the machine has other work.
    assert waited <= max(1, 20 * calm)
    assert status in (200, 400) or (name in ("too long", "more than fits") and status == "hung up")


def test_an_unknown_charset_is_refused_in_words(comfy_server):
    headers = {"Content-Type": "application/json; charset=klingon"}
    assert longest_answer(comfy_server, "an unknown charset", asking("a: 0 0 1 1"), headers)[1] == 400


FAILING_HOST = "import sys; print('no such option'); sys.exit(3)"
# Answers as ComfyUI does when it is up, and has a child, as ComfyUI may.
FORKING_HOST = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def server_of(script: str, folder: Path) -> ComfyServer:
    host = folder / "host"
    host.mkdir()
    (host / "main.py").write_text(script)
    return ComfyServer(host, folder / "base")


def test_failed_start_shows_the_log(tmp_path):
    server = server_of(FAILING_HOST, tmp_path)
    with pytest.raises(StartFailed, match="(?s)ended with code 3.*no such option"), server:
        pass


def test_stopping_ends_the_servers_children_too(tmp_path):
    server = server_of(FORKING_HOST, tmp_path)
    with server:
        child = int(server.log().split("child")[1].split()[0])
        parent = server.process.pid
        assert psutil.pid_exists(child) and psutil.pid_exists(parent)
    assert end_soon([child, parent])


def is_running(pid: int) -> bool:
    try:
        # A killed grandchild may stay a zombie until init takes note of it.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_soon(pids: list[int], seconds: float = 10) -> bool:
    """Whether all processes are gone, given the moment that a busy system takes to end a killed one."""
    for _ in range(round(10 * seconds)):
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


DEMO = [sys.executable, "-m", "demo.show"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not WEIGHTS.exists(), reason=f"the small model is not there: {WEIGHTS}")
@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent to one process alone on Windows")
def test_interrupted_demo_leaves_no_process(comfy_host, tmp_path):
    command = [*DEMO, "--host", str(comfy_host.path), "--out", str(tmp_path / "demo.png")]
    demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        for line in demo.stdout:
            if "KSampler" in line:
                break
        started = psutil.Process(demo.pid).children(recursive=True)
        assert any("main.py" in process.cmdline() for process in started)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == 130
    assert end_soon([process.pid for process in started])
    assert not (tmp_path / "demo.png").exists()
