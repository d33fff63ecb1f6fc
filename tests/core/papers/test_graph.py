"""The graph that paints an entry: what tells two pictures of one entry apart."""

import json
from dataclasses import replace

import pytest

from bench.papers.entries import DEIG, MIG, bench_of
from bench.papers.graph import WAYS, graph_of
from bench.papers.plan import Painter, Task, graph_digest, painters_of, plan
from bench.papers.protocol import PAPER, PROTOCOLS, SHAPES, Sampling, protocol_of
from bench.papers.shapes import write_shapes
from deig_core.regions.layouts import read_layout

LAYOUT = read_layout('{"prompt": "a shelf", "regions": [{"phrase": "a red cup", "box": [0, 0, 1, 1]}]}')


@pytest.mark.parametrize("sampler", ["euler", PAPER])
@pytest.mark.parametrize("way", WAYS)
def test_another_seed_is_another_seed_and_nothing_else(way, sampler):
    one, other = (
        json.dumps(graph_of(way, ("base", "deig", "t5"), Sampling(4, 7.5, "", 64, sampler), LAYOUT, seed))
        for seed in (70001, 70002)
    )
    assert one != other and one.replace("70001", "70002") == other


def graph_by(way: str, sampler: str = "euler", scheduler: str = "karras") -> dict[str, dict]:
    sampling = Sampling(11, 3.5, "blurred", 192, sampler, scheduler)
    return graph_of(way, ("base", "deig", "t5"), sampling, LAYOUT, 5)


def inputs(graph: dict, name: str, *keys: str) -> list:
    return [graph[name]["inputs"][key] for key in keys]


@pytest.mark.parametrize("sampler", ["euler", PAPER])
@pytest.mark.parametrize(
    "way, strength, end", [("deig", 1.0, 1.0), ("off", 0.0, 1.0), ("instancediffusion", 1.0, 0.75)]
)
def test_what_tells_the_ways_with_an_adapter_apart(way, strength, end, sampler):
    graph = graph_by(way, sampler)
    applied = inputs(graph, "model", "strength", "start_percent", "end_percent", "decay_percent")
    assert applied == [strength, 0.0, end, 0.0]
    assert graph["adapter"]["inputs"]["adapter_name"] == "deig"
    sampled = graph["guider" if sampler == PAPER else "sampler"]["inputs"]["model"]
    assert sampled == ["model", 0]
    reader = ["checkpoint", 1] if way == "instancediffusion" else ["encoder", 0]
    assert inputs(graph, "instances", "text_encoder", "regions") == [reader, ["regions", 0]]
    assert ("encoder" in graph) == (way != "instancediffusion")


@pytest.mark.parametrize("sampler", ["euler", PAPER])
def test_the_checkpoint_alone_is_told_of_no_instances(sampler):
    graph = graph_by("plain", sampler)
    assert not {"regions", "adapter", "model", "encoder"} & set(graph)
    assert graph["guider" if sampler == PAPER else "sampler"]["inputs"]["model"] == ["checkpoint", 0]


@pytest.mark.parametrize("way", WAYS)
def test_prompts_go_where_they_belong(way):
    graph = graph_by(way)
    kind, reader, key = (
        ("DEIG_EncodePrompt", ["encoder", 0], "text_encoder")
        if way in ("deig", "off")
        else ("CLIPTextEncode", ["checkpoint", 1], "clip")
    )
    for name, text in (("positive", "a shelf"), ("negative", "blurred")):
        assert graph[name] == {"class_type": kind, "inputs": {key: reader, "text": text}}
        assert graph["sampler"]["inputs"][name] == [name, 0]


def test_a_picture_is_sampled_as_it_is_asked_for():
    graph = graph_by("deig")
    keys = ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    assert inputs(graph, "sampler", *keys) == [5, 11, 3.5, "euler", "karras", 1.0]
    assert graph["latent"]["inputs"] == {"width": 192, "height": 192, "batch_size": 1}
    assert graph["checkpoint"]["inputs"]["ckpt_name"] == "base"
    assert graph["encoder"]["inputs"]["encoder_name"] == "t5"
    assert graph["picture"]["class_type"] == "PreviewImage"  # it leaves nothing on the server


def test_the_authors_sampling_goes_through_their_node():
    graph = graph_by("deig", PAPER)
    assert inputs(graph, "paper", "steps", "alpha_full", "alpha_decay", "noise_seed") == [11, 1.0, 0.0, 5]
    assert inputs(graph, "guider", "cfg", "positive", "negative") == [3.5, ["positive", 0], ["negative", 0]]
    assert inputs(graph, "sampler", "noise", "guider", "sampler", "sigmas") == [
        *(["paper", 0], ["guider", 0], ["paper", 1], ["paper", 2])
    ]


def test_regions_are_told_as_they_stand():
    given = graph_by("deig")["regions"]["inputs"]
    assert (given["width"], given["height"], given["edges"]) == (192, 192, "refuse")
    assert read_layout(given["text"], given["format"]) == LAYOUT


ENTRY = bench_of(write_shapes(layouts=1, kept_out=0)).entries[0]


def test_a_seed_beyond_the_largest_begins_anew():
    entry = replace(ENTRY, seed=7)
    for seed, expected in ((3, 10), (2**64 - 8, 2**64 - 1), (2**64 - 7, 0)):
        assert (
            Task(Painter("plain", "a"), seed, entry, SHAPES.sampling).graph()["sampler"]["inputs"]["seed"]
            == expected
        )


def test_a_task_is_painted_with_its_painters_files():
    graph = Task(Painter("deig", "a", "b", "c"), 0, ENTRY, SHAPES.sampling).graph()
    names = [("checkpoint", "ckpt_name"), ("adapter", "adapter_name"), ("encoder", "encoder_name")]
    assert [graph[name]["inputs"][key] for name, key in names] == ["a", "b", "c"]


def test_all_of_a_painter_are_painted_before_the_next():
    painters, entries = [Painter("plain", "a"), Painter("plain", "b")], [ENTRY, replace(ENTRY, name="second")]
    tasks = plan(entries, painters, [3, 4], SHAPES.sampling)
    assert [(task.painter.checkpoint, task.seed, task.entry.name) for task in tasks] == [
        (painter, seed, name) for painter in "ab" for seed in (3, 4) for name in (ENTRY.name, "second")
    ]
    assert tasks[-1].key == f"pictures/{painters[1].folder}/4/second.png"


def test_what_a_picture_hangs_on_is_written_down():
    task = Task(Painter("deig", "a", "b", "c"), 3, ENTRY, SHAPES.sampling)
    made = task.made_with()
    assert (made["entry"], made["seed"]) == (ENTRY.name, 3)
    assert made["painter"] == {"way": "deig", "checkpoint": "a", "adapter": "b", "text_encoder": "c"}
    assert made["sampling"]["steps"] == 16 and made["graph"] == graph_digest(task.graph())
    other = replace(task, entry=replace(ENTRY, layout=LAYOUT))
    assert other.made_with() == made | {"graph": graph_digest(other.graph())} != made


def test_a_graph_is_the_same_in_another_order():
    graph = graph_by("deig")
    turned = {name: {"inputs": dict(reversed(node["inputs"].items())), "class_type": node["class_type"]}
              for name, node in reversed(graph.items())}  # fmt: skip
    assert graph_digest(turned) == graph_digest(graph) != graph_digest(graph_by("off"))


def test_a_painters_folder_is_a_folder_and_its_own():
    painters = [
        Painter("deig", name, adapter) for name in ("own/sd 14.ckpt", "own\\sd 14.ckpt") for adapter in "ab"
    ]
    folders = [painter.folder for painter in painters]
    assert len(set(folders)) == 4 and all(folder.startswith("deig-sd-14-") for folder in folders)
    assert len(Painter("plain", "x" * 300).folder) == 67
    assert str(painters[0]) == "deig, own/sd 14.ckpt, a"


def test_every_way_is_painted_with_what_it_takes_and_once():
    painters = painters_of(("deig", "plain", "instancediffusion"), ("a",), ("b", "c"), "t5")
    assert [(painter.way, *painter.files) for painter in painters] == [
        *(("deig", "a", "b", "t5"), ("deig", "a", "c", "t5"), ("plain", "a", "", "")),
        *(("instancediffusion", "a", "b", ""), ("instancediffusion", "a", "c", "")),
    ]
    assert painters_of(("plain",), ("a",), (), "") == [Painter("plain", "a")]


def test_benchmarks_are_painted_as_their_scripts_do():
    deig, mig = PROTOCOLS[DEIG], PROTOCOLS[MIG]
    assert [(one.sampling.steps, one.sampling.guidance, one.seed) for one in (deig, mig, SHAPES)] == [
        (30, 7.5, 42), (40, 7.5, 123), (16, 4.0, 0),
    ]  # fmt: skip
    assert [(one.sampling.size, one.sampling.sampler) for one in (deig, mig, SHAPES)] == [
        (512, PAPER), (512, PAPER), (128, "euler"),
    ]  # fmt: skip
    assert deig.sampling.negative == mig.sampling.negative != SHAPES.sampling.negative == ""
    shapes = bench_of(write_shapes(layouts=1, kept_out=0))
    assert protocol_of(shapes) == SHAPES
    assert protocol_of(replace(shapes, entries=(replace(ENTRY, scene=None),))) == deig
