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
