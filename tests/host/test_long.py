"""What takes minutes: many prompts, many interrupts, two adapters by turns, a disk that is full.

Only `python run.py test --long` runs these. What they count goes to standard output (`-rP` shows it) and into README's
"What it withstands".
"""

import copy
import io
import random
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from deig_pack.tests import standins
from deig_pack.tests.effort import LONG
from PIL import Image

from bench.random_weights import save_state
from demo.client import ExecutionFailed, ExecutionInterrupted
from demo.graph import PICTURE, Models, Scene, demo_graph
from demo.server import ComfyServer, install_pack

pytestmark = [
    pytest.mark.skipif(not LONG, reason="takes minutes: python run.py test --long"),
    pytest.mark.timeout(3600),
]

MODELS = Models("v1-5-pruned-emaonly-fp16.safetensors", "model.pth", "small-t5")
PROMPTS, INTERRUPTS, TURNS = 1000, 100, 20
# Steps of the runs that are interrupted, and those before which each is: what comes late still finds it running.
INTERRUPTED_STEPS, LAST_INTERRUPT = 150, 120
# Prompts before memory is first looked at: by then the text encoder remembers its 256 phrases and, since each takes so
# many steps, the adapter its 2048 tokens of a phrase at a time.
WARM_UP, WARM_UP_STEPS = 300, 8
THINGS = ("mug", "lamp", "book", "chair", "hat", "clock", "shoe", "kite")
COLOURS = ("red", "green", "blue", "white", "black", "yellow")


def graph_of(number: int, steps: int = 1, seed: int | None = None) -> dict:
    """A graph of one to four regions, its words and boxes following from a number."""
    rng = random.Random(number)
    instances = tuple(
        (f"a {rng.choice(COLOURS)} {rng.choice(THINGS)}", rng.random() / 2, rng.random() / 2, 0.4, 0.4)
        for _ in range(rng.randint(1, 4))
    )
    scene = Scene(
        f"a shelf, number {number}", "", instances, size=64, steps=steps, cfg=4.0, seed=seed or number
    )
    return copy.deepcopy(demo_graph(MODELS, scene))


def picture_of(server: ComfyServer, graph: dict, **options) -> bytes:
    """Run a graph and return the picture's pixels, without what the file says of the graph."""
    (image,) = server.run(graph, **options).outputs[PICTURE]["images"]
    return Image.open(io.BytesIO(server.view(image))).convert("RGB").tobytes()


def memory_of(server: ComfyServer) -> int:
    return psutil.Process(server.process.pid).memory_info().rss


def memory_without_history(server: ComfyServer) -> int:
    """The host keeps the graphs of 10,000 prompts, to show them again, unless it is told to forget them."""
    server.post("/history", {"clear": True})
    return memory_of(server)


def server_beside(server: ComfyServer, host: Path, base: Path, *arguments: str) -> ComfyServer:
    """Another server with the same models; its folder has an output folder of its own, unless it is made before."""
    base.mkdir(exist_ok=True)
    (base / "models").symlink_to(server.base / "models")
    install_pack(base)
    return ComfyServer(host, base, extra_args=arguments)


def test_a_thousand_prompts_leave_memory_as_it_was(comfy_server, comfy_host, tmp_path):
    """With the host's cache of the last prompt alone: by default a new one keeps what all have made, while there is
    room, and grows by that."""
    with server_beside(comfy_server, comfy_host.path, tmp_path / "base", "--cache-classic") as server:
        for number in range(WARM_UP):
            server.run(graph_of(number, WARM_UP_STEPS))
        before = memory_without_history(server)
        for number in range(WARM_UP, WARM_UP + PROMPTS):
            server.run(graph_of(number))
        after = memory_without_history(server)
    print(f"{PROMPTS} prompts: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    assert after < 1.01 * before


def test_after_each_interrupt_the_next_run_is_the_same_to_the_bit(comfy_server):
    rng, steps = random.Random(0), 6
    expected = picture_of(comfy_server, graph_of(1, steps, seed=5000))
    stopped = []
    for number in range(INTERRUPTS):
        at, seen = rng.randint(1, LAST_INTERRUPT), []

        # The server does not report every step of a fast run.
        def interrupt(progress, at=at, seen=seen):
            if progress.node == "KSampler":
                seen.append(progress.step)
                if progress.step >= at:
                    comfy_server.interrupt()

        with pytest.raises(ExecutionInterrupted):
            comfy_server.run(graph_of(1, INTERRUPTED_STEPS, seed=6000 + number), interrupt)
        assert at <= seen[-1] < INTERRUPTED_STEPS
        stopped.append(seen[-1])
        # Another seed in between, so that this one is sampled and not remembered.
        comfy_server.run(graph_of(1, 1, seed=7000 + number))
        again = []
        picture = picture_of(comfy_server, graph_of(1, steps, seed=5000), on_progress=again.append)
        assert any(progress.node == "KSampler" for progress in again)
        assert picture == expected
    print(
        f"{len(stopped)} interrupts in steps {min(stopped)} to {max(stopped)} of {INTERRUPTED_STEPS}, each followed "
        "by the same picture"
    )


def test_two_adapters_by_turns(comfy_server):
    """Each paints as it does alone, and changing between them takes no more memory in the end."""
    folder = comfy_server.base / "models" / "deig"
    save_state(folder / "other.safetensors", standins.adapter_state(standins.FAST, seed=77))
    try:
        graphs = []
        for name in ("model.pth", "other.safetensors"):
            graph = graph_of(3, 2, seed=8000)
            graph["adapter"]["inputs"]["adapter_name"] = name
            graphs.append(graph)
        expected = [picture_of(comfy_server, graph) for graph in graphs]
        assert expected[0] != expected[1]
        before = memory_of(comfy_server)
        for turn in range(TURNS):
            for graph, picture in zip(graphs, expected, strict=True):
                # Another seed first, so that each turn samples.
                other = copy.deepcopy(graph)
                other["sampler"]["inputs"]["seed"] = 8001 + turn
                comfy_server.run(other)
                assert picture_of(comfy_server, graph) == picture
        after = memory_of(comfy_server)
        print(f"{TURNS} turns of two adapters: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        assert after < 1.05 * before
    finally:
        (folder / "other.safetensors").unlink()


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of a few MB, filled to the last byte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_in_words_and_the_server_goes_on(comfy_server, comfy_host, full_disk, tmp_path):
    """The output folder is full: the run fails, and with room again the same graph is saved."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "output").symlink_to(full_disk)
    with server_beside(comfy_server, comfy_host.path, base) as server:
        ballast = full_disk / "ballast"
        with ballast.open("wb") as file, pytest.raises(OSError):
            while True:
                file.write(bytes(2**16))
                file.flush()
        assert shutil.disk_usage(full_disk).free == 0
        with pytest.raises(ExecutionFailed, match="No space left"):
            server.run(graph_of(4))
        ballast.unlink()
        assert server.run(graph_of(4)).outputs[PICTURE]["images"]
