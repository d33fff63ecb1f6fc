"""The papers' benchmarks on servers: shared out, gone on with, and end to end with the small model."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from deig_pack.tests.host.small_comfy import SmallComfy
from PIL import Image

from bench.papers import run
from bench.papers.graph import WAYS, graph_of
from bench.papers.manifest import MANIFEST, Folder
from bench.papers.protocol import SHAPES, Sampling
from bench.papers.servers import small_model, usable, versions_of
from bench.papers.shapes import write_shapes
from bench.papers.trouble import Trouble
from bench.quality.figures import FULL, Job, Painted, figures_of
from bench.quality.judge import judge
from deig_core.regions.layouts import read_layout
from demo.client import ComfyClient, ExecutionInterrupted
from demo.server import ComfyServer, free_port, install_pack
from small_model.place import CHECKPOINT, WEIGHTS, place_weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench_file(tmp_path) -> Path:
    """A file of three entries in MIG-Bench's form."""
    segment = [
        {"bbox": [0.1, 0.1, 0.4, 0.4], "label": "a red cup"},
        {"bbox": [0.5, 0.5, 0.9, 0.9], "label": "a blue car"},
    ]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({str(i): {"caption": f"picture {i}", "segment": segment} for i in range(3)}))
    return path


def painted(bench: Path | str, *servers: str, out: Path, more: tuple[str, ...] = ()):
    """Run the command."""
    run.run(run.parse_arguments([str(bench), "--server", *servers, "--out", str(out), *more]))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]


# -- small servers ------------------------------------------------------------------------------------------


def test_work_is_shared_out_and_everything_is_written_down(bench_file, tmp_path):
    with SmallComfy(seconds=0.3) as one, SmallComfy(seconds=0.3) as other:
        more = ("--seeds", "1", "2", "--way", "deig", "plain")
        painted(bench_file, one.address, f"http://{other.address}/", out=tmp_path / "run", more=more)
        assert min(len(one.graphs), len(other.graphs)) >= 3
    records = lines(tmp_path / "run")
    assert len(records) == 12 == len(one.graphs) + len(other.graphs)
    assert {record["server"] for record in records} == {one.address, f"http://{other.address}"}
    record = records[0]
    assert record["versions"]["comfyui"] == "9.9.9" and record["sampling"]["guidance"] == 7.5
    assert (
        record["painter"]["checkpoint"] == "sd14.safetensors" and record["painter"]["adapter"] == "model.pth"
    )
    assert {(r["entry"], r["seed"], r["painter"]["way"]) for r in records} == {
        (str(entry), seed, way) for entry in range(3) for seed in (1, 2) for way in ("deig", "plain")
    }
    assert Image.open(tmp_path / "run" / record["picture"]).size == (512, 512)


def test_the_others_do_the_work_of_one_that_stops(bench_file, tmp_path, capfd):
    with SmallComfy(stops_after=1, seconds=0.1) as short, SmallComfy(seconds=0.4) as lasting:
        painted(bench_file, short.address, lasting.address, out=tmp_path / "run", more=("--seeds", "1", "2"))
    records = lines(tmp_path / "run")
    assert len(records) == 6 and [r["server"] for r in records].count(short.address) == 1
    assert f"Left out, its work goes to the others: {short.address}" in "".join(capfd.readouterr())


def test_where_none_is_left_the_painted_ones_are_kept_and_the_rest_is_painted_later(bench_file, tmp_path):
    out = tmp_path / "run"
    with (
        SmallComfy(stops_after=2) as one,
        SmallComfy(fails=True) as other,
        pytest.raises(
            Trouble, match="(?s)No server is left; 1 .*127.0.0.1:[0-9]+: KSampler.*out of memory"
        ) as told,
    ):
        painted(bench_file, one.address, other.address, out=out)
    assert one.address in str(told.value)
    assert len(lines(out)) == 2
    with SmallComfy() as later:
        painted(bench_file, later.address, out=out)
        assert len(later.graphs) == 1
        painted(bench_file, later.address, out=out)
        assert len(later.graphs) == 1  # nothing is left to paint
        with pytest.raises(Trouble, match="was made otherwise: its sampling.steps is 40, and would be 3"):
            painted(bench_file, later.address, out=out, more=("--steps", "3"))
        painted(bench_file, later.address, out=out, more=("--seeds", "123", "5"))
        assert len(later.graphs) == 4


def test_a_sample_grows(bench_file, tmp_path):
    with SmallComfy() as server:
        painted(bench_file, server.address, out=tmp_path / "run", more=("--sample", "1"))
        painted(bench_file, server.address, out=tmp_path / "run")
        assert len(server.graphs) == 3


def test_servers_that_cannot_paint_are_told_in_words(bench_file, tmp_path, capfd):
    nowhere = f"127.0.0.1:{free_port()}"
    with (
        SmallComfy(checkpoints=["other.safetensors"]) as other,
        SmallComfy(has_pack=False) as bare,
        SmallComfy() as good,
    ):
        named = ("--checkpoint", "sd14.safetensors", "--adapter", "model.pth", "--text-encoder", "t5")
        servers = (nowhere, other.address, bare.address, good.address)
        painted(bench_file, *servers, out=tmp_path / "run", more=named)
        said = "".join(capfd.readouterr())
        assert f"Left out: No ComfyUI answers at {nowhere}" in said
        assert f"{other.address} has no checkpoint 'sd14.safetensors'. It has other.safetensors." in said
        assert f"{bare.address} has no node DEIG_" in said and "Install this pack, as it is here" in said
        with pytest.raises(Trouble, match="(?s)no server to paint with.*No ComfyUI answers"):
            painted(bench_file, nowhere, out=tmp_path / "none", more=named)
        with (
            SmallComfy(checkpoints=["a.ckpt", "b.ckpt"]) as several,
            pytest.raises(
                Trouble, match="Which checkpoint.* has 2: a.ckpt, b.ckpt. Name one with --checkpoint"
            ),
        ):
            painted(bench_file, several.address, out=tmp_path / "some")


@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent to one process alone on Windows")
def test_ctrl_c_stops_what_runs_and_the_same_command_goes_on(bench_file, tmp_path):
    with SmallComfy(seconds=3) as server:
        out = tmp_path / "run"
        named = [str(bench_file), "--server", server.address, "--out", str(out)]
        command = [sys.executable, "-m", "bench.papers.run", *named]
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            for _ in range(600):
                if (out / MANIFEST).exists():
                    break
                time.sleep(0.1)
            child.send_signal(signal.SIGINT)
            said, _ = child.communicate(timeout=60)
        finally:
            child.kill()
        assert child.returncode == 130 and "the same command goes on from there" in said
        assert server.interrupted == 1
        there = len(lines(out))
        assert there in (1, 2)
        server.seconds, before = 0.01, len(server.graphs)
        painted(bench_file, server.address, out=out)
        assert len(server.graphs) - before == 3 - there


# -- real servers -------------------------------------------------------------------------------------------

has_small_model = pytest.mark.skipif(
    not (WEIGHTS / CHECKPOINT).exists(), reason=f"the small model is not there: {WEIGHTS}"
)


@pytest.fixture(scope="module")
def second_server(comfy_host, tmp_path_factory):
    """Another ComfyUI with the small model, which may be stopped."""
    base = tmp_path_factory.mktemp("second")
    place_weights(base / "models")
    install_pack(base)
    with ComfyServer(comfy_host.path, base) as server:
        yield server


def quality_of(folder: Folder, bench):
    """What `bench --quality` makes of a run's pictures."""
    pictures = []
    for key, record in folder.records.items():
        entry = next(entry for entry in bench.entries if entry.name == record["entry"])
        job = Job(entry.seed, entry.scene["kept_out"], FULL)
        picture = np.asarray(Image.open(folder.path / key).convert("RGB"))
        pictures.append(Painted(job, picture, judge(picture, job.scene)))
    return figures_of(pictures)


@has_small_model
def test_the_small_model_end_to_end_on_two_servers_one_of_which_stops(
    comfy_server, second_server, comfy_host, tmp_path, capfd
):
    """The figures are those of `bench --quality`, which paints the same layouts in one process."""
    data = write_shapes(layouts=4, kept_out=2)
    (tmp_path / "shapes.json").write_bytes(data)
    out = tmp_path / "run"

    def stop_when_it_paints():
        while not second_server.get("/queue")["queue_running"]:
            time.sleep(0.02)
        second_server.stop()

    threading.Thread(target=stop_when_it_paints, daemon=True).start()
    painted(tmp_path / "shapes.json", second_server.address, comfy_server.address, out=out)
    assert "Left out, its work goes to the others" in "".join(capfd.readouterr())
    records = lines(out)
    assert len(records) == 6 and {record["server"] for record in records} == {comfy_server.address}

    run.run(run.parse_arguments(["--score", str(out), "--iou-threshold", "0"]))
    (written,) = out.glob("scores-*.json")
    scores = json.loads(written.read_text())["rows"][0]["groups"]["all"]
    folder = Folder(out)
    bench = folder.open()
    theirs = quality_of(folder, bench)
    assert round(scores["rate"], 4) == theirs.everything and round(scores["iou"], 4) == theirs.iou
    assert (scores["pictures"], scores["instances"]) == (theirs.layouts, theirs.instances)

    from bench.quality.run import Sampling as QualitySampling
    from bench.quality.run import Variants

    assert asdict(QualitySampling()) == {"steps": SHAPES.sampling.steps, "guidance": SHAPES.sampling.guidance}
    variants = Variants(WEIGHTS, QualitySampling())
    jobs = [Job(entry.seed, entry.scene["kept_out"], FULL) for entry in bench.entries]
    in_process = {(job.seed, job.kept_out): variants.paint(job) for job in jobs}
    figures = figures_of(in_process.values())
    assert figures.everything == theirs.everything
    assert figures.iou == pytest.approx(theirs.iou, abs=0.005)
    for key, record in folder.records.items():
        entry = next(entry for entry in bench.entries if entry.name == record["entry"])
        ours = np.asarray(Image.open(out / key).convert("RGB")).astype(int)
        other = in_process[entry.seed, entry.scene["kept_out"]].picture.astype(int)
        assert np.abs(ours - other).max() <= 2  # the host cuts off where it saves, and rounding differs


@pytest.mark.parametrize("sampler", ["euler", "paper"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_a_graph_that_the_host_takes(comfy_server, way, sampler):
    entry = {"instances": [{"bbox": [0.1, 0.1, 0.5, 0.5], "description": "a red cup"}]}
    layout = read_layout(json.dumps(entry), "deig-bench")
    adapter = "instancediffusion_sd15.pth" if way == "instancediffusion" else "model.pth"
    models = ("v1-5-pruned-emaonly-fp16.safetensors", adapter, "small-t5")
    graph = graph_of(way, models, Sampling(4, 7.5, "", 64, sampler), layout, 1)
    result = comfy_server.run(graph)
    assert comfy_server.view(result.outputs["picture"]["images"][0])[:4] == b"\x89PNG"


def test_a_real_server_lists_what_it_has(comfy_server):
    wanted = small_model(["deig", "off"])
    servers, painters = usable([comfy_server], wanted, SHAPES.sampling, print)
    assert servers[comfy_server] == versions_of(comfy_server)
    assert re.fullmatch(r"[\d.]+", servers[comfy_server].comfyui)
    assert [painter.way for painter in painters] == ["deig", "off"]
    odd = type(wanted)(("deig",), ("nowhere.safetensors",), wanted.adapters, wanted.text_encoder)
    with pytest.raises(Trouble, match="has no checkpoint 'nowhere.safetensors'. It has .*small-deig"):
        usable([comfy_server], odd, SHAPES.sampling, print)


def wait_until(condition, seconds=180):
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.05)


def test_a_graph_taken_out_of_the_queue_is_noticed(comfy_server, monkeypatch):
    """And what runs meanwhile, somebody else's, goes on."""
    monkeypatch.setattr("demo.client.LOOK_SECONDS", 0.1)
    layout = read_layout('{"regions": [{"phrase": "a", "box": [0, 0, 1, 1]}]}')
    models = ("v1-5-pruned-emaonly-fp16.safetensors", "model.pth", "small-t5")
    theirs, ours = ComfyClient(comfy_server.address), ComfyClient(comfy_server.address)
    ended, steps = {}, []

    def follow(client, sampling, seed, on_progress=lambda progress: None):
        try:
            client.run(graph_of("plain", models, sampling, layout, seed), on_progress)
        except ExecutionInterrupted as interrupted:
            ended[client] = str(interrupted)

    def note(progress):
        if progress.node == "KSampler":
            steps.append(progress.step)

    blocking = threading.Thread(target=follow, args=(theirs, Sampling(400, 7.5, "", 256), 1, note))
    waiting = threading.Thread(target=follow, args=(ours, Sampling(2, 7.5, "", 64), 2))
    blocking.start()
    try:
        wait_until(lambda: len(steps) > 1)
        waiting.start()
        wait_until(lambda: ours.running)
        before = len(steps)
        wait_until(lambda: len(steps) > before + 2 or ours in ended)
        assert ours not in ended, "it waits for its turn"
        ours.cancel()
        waiting.join(180)
        assert "taken out of the queue" in ended[ours]
        before = len(steps)
        wait_until(lambda: len(steps) > before + 2 or theirs in ended)
        assert theirs not in ended
    finally:
        theirs.cancel()
        blocking.join(180)
    assert "interrupted at" in ended[theirs]
