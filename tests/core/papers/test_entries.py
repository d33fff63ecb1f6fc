"""Benchmark files are read, or refused with the place where they are broken."""

import json

import pytest

from bench.papers import shapes
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


def test_entries_without_a_file_are_called_by_their_number_or_their_key():
    entry = {"instances": [PERSON]}
    names = {
        json.dumps([entry, entry | {"file_name": "b.png"}, entry | {"file_name": ""}]): ["0", "b", "2"],
        json.dumps({"results": {"a": 1}, "x": 2}): None,
        json.dumps({"first": entry, "second": entry | {"file_name": "b.png"}}): ["first", "second"],
    }
    for data, expected in names.items():
        if expected is None:
            with pytest.raises(ValueError, match="holds none"):
                bench_of(data.encode())
        else:
            assert [entry.name for entry in bench_of(data.encode()).entries] == expected


def test_a_seed_of_an_entrys_own_is_read():
    (entry,), (other,) = (bench_of(data).entries for data in (deig(PERSON), deig(PERSON, seed=7)))
    assert (entry.seed, other.seed) == (0, 7)


def test_a_file_of_which_one_entry_is_no_scene_is_not_of_shapes():
    results = json.loads(write_shapes(layouts=2, kept_out=0))["results"]
    del results[1]["scene"]
    assert not bench_of(json.dumps(results).encode()).of_shapes


def test_a_description_that_says_nothing_of_material_and_texture_is_of_a_colour_alone():
    info = {"type": "object", "eval_metrics": {}}
    one, other = PERSON | {"eval_info": info}, PERSON | {"eval_info": {"type": "object"}}
    assert [i.level for i in bench_of(deig(one, other)).entries[0].instances] == ["L1", "L1"]


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
    "too few": (mig(count=1), "1 instances"),
    "no noun": (mig("a red"), r"segment\[0\].label is 'a red'"),
    "no article": (mig("red fire hydrant"), r"segment\[0\].label is 'red fire hydrant'"),
    "a category of blanks": (
        deig(PERSON, PERSON | {"category": " "}),
        r"instances\[1\].category should be text",
    ),
    "a caption of no text": (deig(PERSON, caption=3), "caption should be text, but it is 3"),
    "a hidden name": (deig(PERSON, file_name=".a.png"), "name"),
    "a key that leaves the folder": (
        json.dumps({"b/a": {"instances": [PERSON]}}).encode(),
        "cannot be a file's",
    ),
    "a key of nothing": (json.dumps({"": {"instances": [PERSON]}}).encode(), "cannot be a file's"),
    "a seed of truth": (deig(PERSON, seed=True), "seed should be a whole number, but it is True"),
    "an entry of none": (b"[3]", "holds none"),
    "the second entry": (
        json.dumps([{"instances": [PERSON]}, {"instances": [PERSON | {"category": 3}]}]).encode(),
        r"Entry 1 \('1'\): instances\[0\].category",
    ),
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
    for here in (tmp_path / "eval", tmp_path):  # the folder that we are in comes before its eval
        here.mkdir(exist_ok=True)
        (here / "deig_bench_coco.json").write_bytes(deig(PERSON))
        assert find_bench(DEIG) == here / "deig_bench_coco.json"
        (here / "mig_bench_coco.json").write_bytes(mig())
        assert find_bench(MIG) == place
    assert find_bench(str(place)) == place


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(Trouble, match=f"{tmp_path.name} cannot be read: "):
        read_bench(tmp_path)


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
        assert [instance.category for instance in entry.instances] == [shape.kind for shape in scene.shapes]
        assert (entry.seed, entry.caption) == (1_000_000 + number % 6, scene.prompt)
        assert entry.name == f"{'kept-out' if number >= 6 else 'shapes'}-{entry.seed}"
    drawn = [shape for entry in bench.entries for shape in scene_of(entry).shapes]
    written = [raw for entry in json.loads(bench.data)["results"] for raw in entry["instances"]]
    for shape, raw in zip(drawn, written, strict=True):
        x0, y0, x1, y1 = shape.box
        assert raw["relative_area"] == pytest.approx((x1 - x0) * (y1 - y0))
        texture = "" if shape.texture == "plain" else shape.texture
        assert raw["eval_info"]["eval_metrics"]["texture"]["texture"] == texture


def test_a_file_of_shapes_is_written_where_it_is_wanted(tmp_path, monkeypatch):
    path = tmp_path / "made" / "shapes.json"
    size = ["--layouts", "2", "--kept-out", "1"]
    monkeypatch.setattr("sys.argv", ["shapes", "--out", str(path), *size])
    shapes.main()
    assert path.read_bytes() == write_shapes(layouts=2, kept_out=1)
