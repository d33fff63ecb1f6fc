"""Benchmark files are read, or refused with the place where they are broken."""

import json

import pytest

from bench.papers.entries import DEIG, MIG, bench_of, find_bench, read_bench, sample
from bench.papers.shapes import scene_of, write_shapes
from bench.papers.trouble import Trouble
from small_model.scenes import deal

PERSON = {
    "category": "person",
    "bbox": [0.1, 0.2, 0.5, 0.9],
    "description": "a person wearing a red hat and blue pants",
    "eval_info": {"type": "person", "eval_metrics": {"color": {"num_colors": 2}}},
}


def thing(material: bool, texture: bool) -> dict:
    metrics = {"material": {"has_material": material}, "texture": {"has_texture": texture}}
    info = {"type": "object", "eval_metrics": metrics}
    return PERSON | {"category": "cup", "description": "a cup", "eval_info": info}


def deig(*instances: dict, **more) -> bytes:
    entry = {"file_name": "000000000139.jpg", "caption": "a street", "instances": list(instances)} | more
    return json.dumps({"results": [entry]}).encode()


def mig(label: str = "a red fire hydrant", count: int = 2, **more) -> bytes:
    segment = [{"bbox": [0.1, 0.1, 0.4, 0.4], "label": label} | more] * count
    return json.dumps({"17": {"caption": "a photo", "segment": segment}}).encode()


def test_deig_bench_is_read():
    bench = bench_of(deig(PERSON, *(thing(m, t) for m in (False, True) for t in (False, True))))
    (entry,) = bench.entries
    assert (bench.kind, entry.name, entry.caption) == (DEIG, "000000000139", "a street")
    assert [instance.level for instance in entry.instances] == ["C2", "L1", "L3", "L2", "L4"]
    assert entry.instances[0].box == (0.1, 0.2, 0.5, 0.9)
    assert entry.instances[0].category == "person"
    # What the script paints from is not the caption.
    assert entry.layout.prompt == "a person wearing a red hat and blue pants" + ", a cup" * 4
    assert not bench.of_shapes


def test_instances_of_no_level_are_counted_in_none():
    four = {"type": "person", "eval_metrics": {"color": {"num_colors": 4}}}
    bench = bench_of(
        deig(PERSON | {"eval_info": four}, PERSON | {"eval_info": {}}, PERSON | {"eval_info": None})
    )
    assert [instance.level for instance in bench.entries[0].instances] == ["", "", ""]


def test_mig_bench_is_read():
    bench = bench_of(mig())
    (entry,) = bench.entries
    assert (bench.kind, entry.name, entry.layout.prompt) == (MIG, "17", "a photo")
    assert {(i.category, i.colour, i.phrase) for i in entry.instances} == {
        ("fire hydrant", "red", "a red fire hydrant")
    }


BROKEN = {
    "no JSON": (b"{", "no JSON"),
    "no entries": (b"[]", "holds none"),
    "something else": (b'[{"a": 1}]', "`instances`"),
    "two kinds": (deig(PERSON)[:-2] + b', {"segment": []}]}', "`instances`"),
    "a box of three": (
        deig(PERSON | {"bbox": [0, 0, 1]}),
        r"Entry 0 \('000000000139'\): instances\[0\].bbox",
    ),
    "a box outside": (deig(PERSON | {"bbox": [0, 0, 1, 2]}), r"Entry 0 .*instances\[0\]"),
    "no category": (deig(PERSON | {"category": ""}), r"instances\[0\].category"),
    "odd levels": (deig(PERSON | {"eval_info": {"eval_metrics": [], "type": "person"}}), "eval_info"),
    "a colour of none": (mig("a mauve cup"), r"Entry 0 \('17'\): segment\[0\].label is 'a mauve cup'"),
    "too many": (mig(count=7), "7 instances"),
    "a name that leaves the folder": (deig(PERSON, file_name=".."), "name"),
    "a seed of text": (deig(PERSON, seed="1"), "seed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_told(tmp_path, name):
    data, words = BROKEN[name]
    path = tmp_path / "bench.json"
    path.write_bytes(data)
    with pytest.raises(Trouble, match=f"bench.json is no benchmark file. .*{words}"):
        read_bench(path)


def test_names_are_told_apart():
    twice = json.loads(deig(PERSON))["results"] * 2
    with pytest.raises(ValueError, match="Two entries have the name '000000000139'"):
        bench_of(json.dumps(twice).encode())


def test_files_are_found_by_name_where_the_authors_have_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEIG_PATH", raising=False)
    with pytest.raises(Trouble, match="github.com/dushy5/DEIG"):
        find_bench(DEIG)
    with pytest.raises(Trouble, match="no file nothing.json"):
        find_bench("nothing.json")
    place = tmp_path / "theirs" / "eval" / "mig_bench_coco.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(mig())
    monkeypatch.setenv("DEIG_PATH", str(tmp_path / "theirs"))
    assert find_bench(MIG) == place


def test_a_larger_sample_holds_the_smaller_one():
    entries = bench_of(write_shapes(layouts=40, kept_out=0)).entries
    few, more = sample(entries, 5), sample(entries, 12)
    assert len(few) == 5 and len(more) == 12
    assert {e.name for e in few} < {e.name for e in more}
    assert [e.seed for e in more] == sorted(e.seed for e in more)  # in the file's order
    assert sample(entries, None) == sample(entries, 99) == list(entries)


def test_shapes_are_those_of_the_scenes():
    bench = bench_of(write_shapes(layouts=6, kept_out=2))
    assert bench.of_shapes and len(bench.entries) == 8
    for number, entry in enumerate(bench.entries):
        scene = deal(1_000_000 + number % 6, kept_out=number >= 6)
        assert scene_of(entry) == scene and entry.layout.prompt == scene.prompt
        assert [region.box for region in entry.layout.regions] == [shape.box for shape in scene.shapes]
        levels = ["L1" if shape.texture == "plain" else "L3" for shape in scene.shapes]
        assert [instance.level for instance in entry.instances] == levels
