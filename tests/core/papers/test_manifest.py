"""A run's folder: a picture counts when it is whole and in the manifest, whatever happened before."""

import json

import pytest

from bench.papers.entries import bench_of
from bench.papers.manifest import BENCH, MANIFEST, RUN, Folder
from bench.papers.shapes import write_shapes
from bench.papers.trouble import Trouble

DATA = write_shapes(layouts=3, kept_out=0)
BENCH_OF_SHAPES = bench_of(DATA)
MADE = {"entry": "a", "seed": 1, "graph": "0123"}
KEYS = ["pictures/deig/1/a.png", "pictures/deig/1/b.png"]


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path / "run")
    folder.begin(BENCH_OF_SHAPES, "shapes")
    for key in KEYS:
        folder.add(key, key.encode(), MADE)
    return folder


def reopened(folder: Folder) -> Folder:
    again = Folder(folder.path)
    again.begin(BENCH_OF_SHAPES, "shapes")
    return again


def test_what_was_added_is_there_again(folder):
    again = reopened(folder)
    assert [again.has(key) for key in KEYS] == [True, True]
    assert again.records == folder.records
    again.check(KEYS[0], MADE)
    assert Folder(folder.path).open().entries == BENCH_OF_SHAPES.entries


def test_a_torn_last_line_is_cut_off_and_its_picture_does_not_count(folder):
    path = folder.path / MANIFEST
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    again = reopened(folder)
    assert [again.has(key) for key in KEYS] == [True, False]
    again.add(KEYS[1], b"anew", MADE)
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["picture"] for line in lines] == KEYS
    assert reopened(folder).has(KEYS[1])


def test_a_broken_line_in_the_middle_is_told(folder):
    path = folder.path / MANIFEST
    path.write_bytes(b"{oops\n" + path.read_bytes())
    with pytest.raises(Trouble, match="Line 1 .* broken: .*oops"):
        reopened(folder)


@pytest.mark.parametrize("data", [b"", b"other"])
def test_a_picture_that_is_not_what_was_painted_does_not_count(folder, data):
    (folder.path / KEYS[0]).write_bytes(data)
    assert [folder.has(key) for key in KEYS] == [False, True]
    (folder.path / KEYS[0]).unlink()
    assert not folder.has(KEYS[0])


def test_pictures_made_otherwise_are_refused(folder):
    with pytest.raises(Trouble, match="its seed is 1, and would be 2"):
        folder.check(KEYS[0], MADE | {"seed": 2})


def test_what_differs_within_is_named_too(folder):
    made = MADE | {"sampling": {"steps": 30, "negative": "x" * 300}}
    folder.add(KEYS[0], b"", made | {"server": "there"})
    folder.check(KEYS[0], made)
    other = made | {"sampling": {"steps": 40, "negative": "x" * 300}}
    with pytest.raises(
        Trouble, match=f"{KEYS[0]} was made otherwise: its sampling.steps is 30, and would be 40 now"
    ):
        folder.check(KEYS[0], other)
    with pytest.raises(Trouble, match='its sampling.negative is "x{156}..., and would be "" now') as trouble:
        folder.check(KEYS[0], made | {"sampling": {"steps": 30, "negative": ""}})
    assert len(str(trouble.value)) < 500
    with pytest.raises(Trouble, match="its painter is null, and would be"):
        folder.check(KEYS[0], made | {"painter": "deig"})


def test_the_benchmarks_name_is_kept_and_nothing_half_written(folder):
    assert Folder(folder.path).bench_name == "shapes"
    assert (folder.path / BENCH).read_bytes() == DATA
    assert not list(folder.path.rglob("*.part"))


def test_a_picture_without_a_line_does_not_count(folder):
    (folder.path / "pictures/deig/1/c.png").write_bytes(b"c")
    assert not reopened(folder).has("pictures/deig/1/c.png")


def test_an_empty_folder_may_be_begun_in(tmp_path):
    Folder(tmp_path).begin(BENCH_OF_SHAPES, "shapes")
    assert Folder(tmp_path).open().digest == BENCH_OF_SHAPES.digest


def test_a_benchmark_that_was_changed_since_is_told(folder):
    (folder.path / BENCH).write_bytes(write_shapes(layouts=2, kept_out=0))
    with pytest.raises(Trouble, match="is not the file that the pictures were painted from"):
        Folder(folder.path).open()


@pytest.mark.parametrize("held", ["[]", '{"bench": "shapes", "kind": "deig-bench"}'])
def test_a_run_that_lacks_what_it_should_say_is_broken(folder, held):
    (folder.path / RUN).write_text(held)
    with pytest.raises(Trouble, match="run.json is broken: .*--out"):
        Folder(folder.path).begin(BENCH_OF_SHAPES, "shapes")


def test_a_folder_of_something_else_is_left_alone(folder, tmp_path):
    other = bench_of(write_shapes(layouts=2, kept_out=0))
    with pytest.raises(Trouble, match="another benchmark, shapes"):
        Folder(folder.path).begin(other, "shapes")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(Trouble, match="not empty"):
        Folder(tmp_path / "mine").begin(other, "shapes")
    with pytest.raises(Trouble, match="holds no run"):
        Folder(tmp_path / "mine").open()


@pytest.mark.parametrize("name", [RUN, BENCH])
def test_broken_files_of_a_run_are_named(folder, name):
    (folder.path / name).write_bytes(b"{")
    with pytest.raises(Trouble, match=name):
        Folder(folder.path).open()
