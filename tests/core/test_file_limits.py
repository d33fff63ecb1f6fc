"""What is read of a file at its limits: the last that is taken, the first that is not, and what a disk refuses."""

import io
import json
import os
import pickle
import re
import struct
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from deig_pack.deig_core.files import tensor_files
from deig_pack.deig_core.files.checkpoint import open_adapter, write_adapter
from deig_pack.deig_core.files.pickles import Foreign, StorageRef, TensorRef, walk_pickle
from deig_pack.deig_core.files.shapes import Shapes
from deig_pack.deig_core.files.tensor_files import open_tensors, read_state_dict
from deig_pack.deig_core.files.windows import OpenFile
from deig_pack.tests.core.test_checkpoint import Runs, packed, same, save
from deig_pack.tests.core.test_hostile_files import legacy

LINUX = sys.platform == "linux"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def walked(opcodes: bytes, protocol: int = 4):
    return walk_pickle(io.BytesIO(b"\x80" + bytes([protocol]) + opcodes + b".")).value


def storage(
    key: bytes = b"0", count: int = 4, kind: bytes = b"FloatStorage", module: bytes = b"torch"
) -> bytes:
    return b"(S'storage'\nc%s\n%s\nS'%s'\nS'cpu'\nI%d\ntQ" % (module, kind, key, count)


# Bytes


def test_of_a_file_no_more_is_read_than_it_has(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    opened = OpenFile(tmp_path / "x")
    assert [opened.read(*place) for place in ((0, 4), (8, 2), (8, 3), (10, 1), (11, 1))] == [
        b"0123",
        b"89",
        b"89",
        b"",
        b"",
    ]
    for passing in (False, True):
        assert bytes(opened.read_numbers(7, 3, passing).numpy()) == b"789"
        with pytest.raises(ValueError, match=r"x ends before byte 11\..*fetch the file again"):
            opened.read_numbers(7, 4, passing)


@pytest.mark.skipif(os.name == "nt", reason="a folder has no descriptor on Windows")
def test_what_the_disk_refuses_to_give_is_said_in_words(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    opened, folder = OpenFile(tmp_path / "x"), os.open(tmp_path, os.O_RDONLY)
    # From here on the system itself refuses each read, as it does for a disk that fails.
    os.dup2(folder, opened.file.fileno())
    os.close(folder)
    for read in (opened.read, opened.read_numbers):
        with pytest.raises(ValueError, match=r"x cannot be read \(Is a directory\)"):
            read(0, 10)


SHORTER = Path("/sys/kernel/uevent_seqnum")  # a page by its size, a number by what it gives


@pytest.mark.skipif(not SHORTER.is_file(), reason="needs a file of the system's that is shorter than it says")
def test_a_file_that_gives_less_than_its_size_is_refused():
    opened = OpenFile(SHORTER)
    assert opened.size > 1000
    for read in (opened.read, opened.read_numbers):
        with pytest.raises(ValueError, match=r"uevent_seqnum ends before byte 1000\."):
            read(10, 990)


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
@pytest.mark.parametrize(
    "content", [b"rubbish of no kind", b"PK\x03\x04" + bytes(100)], ids=["none", "archive"]
)
def test_a_file_that_is_refused_is_closed(tmp_path, content):
    """Even while the error is kept, as whoever reports it does: on Windows an open file can't be replaced."""
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pth") as kept:
        open_tensors(path)
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert kept.value.__traceback__ and os.path.realpath(path) not in opened


# Repeated numbers


@pytest.mark.parametrize("dtype", [None, torch.float16], ids=str)
def test_tensors_may_exceed_their_file_by_so_much_and_no_byte_more(tmp_path, monkeypatch, dtype):
    """A type that takes less room than the file's own gives no leave to repeat more."""
    path = save(
        {"IDE.x": torch.ones(1).expand(1000), "IDE.y": torch.ones(1).expand(2000)}, tmp_path / "x.pth"
    )
    beyond = 3000 * 4 - path.stat().st_size
    monkeypatch.setattr(tensor_files, "_BEYOND_THE_FILE", beyond)
    assert read_state_dict(path, lambda name: True, dtype)["IDE.y"].shape == (2000,)
    monkeypatch.setattr(tensor_files, "_BEYOND_THE_FILE", beyond - 1)
    with pytest.raises(ValueError, match=r"as far as 'IDE\.y' come to"):
        read_state_dict(path, lambda name: True, dtype)


def test_how_much_repeated_tensors_come_to_is_said_in_the_type_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "_BEYOND_THE_FILE", 2**20)
    path = save({"IDE.x": torch.ones(1).half().expand(3_000_000)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth has 0\.0 MB, but .*'IDE\.x' come to 12 MB"):
        read_state_dict(path, lambda name: True, torch.float32)


# Safetensors


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_header_is_eight_mebibytes(tmp_path, more):
    header = {"IDE.x": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}
    text = json.dumps(header).encode().ljust(8 * 2**20 + more)
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"abc")
    if more:
        with pytest.raises(ValueError, match="header .* is 8 MiB long, and at most 8 are read"):
            open_tensors(path)
    else:
        assert open_tensors(path).read("IDE.x").tolist() == list(b"abc")


def test_of_a_type_that_nobody_knows_twenty_characters_are_quoted(tmp_path):
    text = json.dumps({"IDE.x": {"dtype": "Q" * 21, "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"a")
    assert open_tensors(tmp_path / "x.safetensors").entries == {
        "IDE.x": Foreign("the safetensors type " + "Q" * 20)
    }


def test_what_is_needed_on_the_disk_is_said(tmp_path):
    (tmp_path / "deig.safetensors").mkdir()  # which no file can replace
    state = {"IDE.x": torch.ones(1_000_000), "IDE.y": torch.ones(2_000_000, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"deig\.safetensors cannot be written .* 6 MB are needed"):
        write_adapter(state, tmp_path / "deig.safetensors")


# torch.save's files


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_list_of_members_is_eight_mebibytes(tmp_path, more):
    path, longest = tmp_path / "model.pth", 8 * 2**20
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}))
        for number in range(160):
            archive.writestr(zipfile.ZipInfo(f"x/data/{number:03}"), b"")
        infos = archive.filelist
        # 46 bytes, the name and the remark for each of them.
        spare = longest + more - sum(46 + len(info.filename) for info in infos)
        for left, info in zip(range(len(infos), 0, -1), infos, strict=True):
            info.comment = b" " * (spare // left)
            spare -= len(info.comment)
    if more:
        with pytest.raises(ValueError, match=rf"model\.pth.*{longest + 1} bytes long, and at most {longest}"):
            open_tensors(path)
    else:
        assert open_tensors(path).entries == {}


def test_the_pickle_of_an_archive_lies_in_its_one_folder(tmp_path):
    path = save({"IDE.a": torch.ones(2)}, tmp_path / "model.pth")
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    other = pickle.dumps({"wrong": 1}, 2)
    with zipfile.ZipFile(path, "w") as target:
        for name in ("data.pkl", "model/extra/data.pkl", "model/datas.pkl", "model/data.pkl.old"):
            target.writestr(name, other)
        for name, content in members.items():
            target.writestr(name, content)
    assert same(read_state_dict(path, lambda name: True), {"IDE.a": torch.ones(2)})


def test_a_members_header_that_the_end_cuts_is_damage(tmp_path):
    path = save({"IDE.a": torch.ones(2)}, tmp_path / "model.pth")
    packed(path, {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"the start of a header: PK\x03\x04"
    content = bytearray(path.read_bytes())
    place = content.rindex(b"model/data/0") - 46 + 42
    content[place : place + 4] = struct.pack("<I", len(content) - 4)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pth: the archive is damaged at model/data/0"):
        open_tensors(path)


@pytest.mark.parametrize("kind", ["lacking", "compressed", "twice", "cut"])
def test_of_a_long_key_eighty_characters_are_quoted(tmp_path, kind):
    path, key = tmp_path / "model.pth", "k" * 3000
    tensor = TENSOR + b"(%sI0\n(I4\nt(I1\ntI00\nNtR"
    if kind in ("lacking", "compressed"):
        content = b"\x80\x02}S'a'\n" + tensor % storage(key.encode()) + b"s."
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", content)
            if kind == "compressed":
                archive.writestr(f"x/data/{key}", bytes(16), zipfile.ZIP_DEFLATED)
    else:
        both = tensor % storage(key.encode()), tensor % storage(key.encode(), 5)
        put = b"".join(
            b"S'%d'\n" % place + one + b"s" for place, one in enumerate(both[: 1 + (kind == "twice")])
        )
        path.write_bytes(legacy(b"\x80\x02}" + put + b".", [key], struct.pack("<Q", 4) + bytes(15)))
    said = {"lacking": "lacks storage k{80}[^k]", "compressed": "x/data/k{73} is compressed"}
    said |= {"twice": "the storage 'k{80}' is described twice", "cut": "within the storage k{80}[^k]"}
    with pytest.raises(ValueError, match=said[kind]):
        open_tensors(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_of_the_part_asked_for_alone_the_tensors_are_found(tmp_path, form):
    content = {
        "model": {"encoder.a": torch.ones(1), "encoder.b": torch.ones(1)},
        "autoencoder": {"encoder.c": torch.full((2,), 3.0)},
        "nest": {"deep": {"encoder.d": torch.ones(4)}},
        "count": 3,
        "object": Runs(tmp_path / "marker"),
    }
    path = save(content, tmp_path / "model.pth", form)
    found = {part: open_tensors(path, part) for part in (None, *content, "gone")}
    assert {part: list(file.entries) for part, file in found.items()} == {
        None: ["encoder.a", "encoder.b"],
        "model": ["encoder.a", "encoder.b"],
        "autoencoder": ["encoder.c"],
        "nest": ["deep.encoder.d"],
        "count": [],
        "object": [],
        "gone": [],
    }
    assert found["autoencoder"].read("encoder.c").tolist() == [3.0, 3.0]
    assert {part: list(file.around) for part, file in found.items() if file.around} == {"object": [""]}
    whole = save([torch.ones(1)], tmp_path / "list.pth", form)
    assert open_tensors(whole, "model").entries == {} == open_tensors(whole).entries


def test_tensors_are_looked_for_nine_dicts_deep_and_in_each_dict_once(tmp_path):
    shared: dict = {"t": torch.ones(1)}
    shared["itself"] = shared
    nest: dict = {"t": torch.ones(2)}
    for depth in range(10):
        nest = (
            {"t": torch.ones(depth + 3), "n": nest}
            if depth < 9
            else {"one": shared, "two": shared, "n": nest}
        )
    entries = open_tensors(save(nest, tmp_path / "model.pth")).entries
    assert list(entries) == ["one.t", *("n." * depth + "t" for depth in range(1, 9))]
    assert [entry.shape[0] for entry in entries.values()] == [1, *range(11, 3, -1)]


def test_of_names_in_a_nest_the_longest_and_the_largest_are_taken(tmp_path):
    nest = {"x" * 500: torch.ones(1), "x" * 501: torch.ones(1), "foreign": Runs(tmp_path / "marker")}
    nest |= {number: torch.ones(1) for number in (0, 999_999, 1_000_000, -1)}
    entries = open_tensors(save({"nest": nest}, tmp_path / "model.pth")).entries
    assert list(entries) == [f"nest.{name}" for name in ("x" * 500, 0, 999_999)]


# Pickles


@pytest.mark.parametrize("more", [0, 1])
def test_half_a_million_steps_are_the_most(more):
    opcodes = b"N" * (499_999 + more)
    if more:
        with pytest.raises(ValueError, match="more than 500000 steps"):
            walked(opcodes)
    else:
        assert walked(opcodes) is None


@pytest.mark.parametrize("more", [0, 1])
def test_a_pickle_is_shorter_than_32_mebibytes(more):
    length = 2**25 - 1 - 12 + more  # without what stands around the bytes
    opcodes = b"\x8e" + struct.pack("<Q", length) + bytes(length)
    if more:
        with pytest.raises(ValueError, match="longer than 32 MiB"):
            walked(opcodes)
    else:
        assert len(walked(opcodes)) == length


BILLIONS = 2**48


@pytest.mark.parametrize(
    "key, kept",
    [(BILLIONS - 1, True), (BILLIONS, False), (1 - BILLIONS, True), (-BILLIONS, False), ("text", True)],
    ids=str,
)
def test_keys_that_are_numbers_end_where_their_hashes_begin_to_repeat(key, kept):
    assert walk_pickle(io.BytesIO(pickle.dumps({key: 1}))).value == ({key: 1} if kept else {})


def test_memo_indices_end_somewhere():
    assert walked(b"Np%d\ng%d\n" % (BILLIONS - 1, BILLIONS - 1)) is None
    with pytest.raises(ValueError, match="damaged.*memo of index 281474976710656"):
        walked(b"Np%d\n" % BILLIONS)


@pytest.mark.parametrize(
    "size, stride, offset, count, fits",
    [
        (4, 1, 0, 4, True),
        (1, BILLIONS - 1, 0, 4, True),
        (1, BILLIONS, 0, 4, False),
        (0, 1, BILLIONS - 1, 4, True),
        (0, 1, BILLIONS, 4, False),
        (1, 1, BILLIONS - 2, BILLIONS - 1, True),
        (0, 1, 0, 0, True),
    ],
)
def test_what_is_counted_ends_at_the_same_number(size, stride, offset, count, fits):
    made = walked(TENSOR + b"(%sI%d\n(I%d\nt(I%d\ntI00\nNtR" % (storage(count=count), offset, size, stride))
    own = StorageRef("0", torch.float32, count)
    misfit = Foreign("torch._utils._rebuild_tensor_v2 with arguments that do not fit")
    assert made == (TensorRef(own, torch.float32, offset, (size,), (stride,)) if fits else misfit)


@pytest.mark.parametrize("count", [-1, BILLIONS])
def test_a_storage_of_so_many_numbers_is_none(count):
    assert walked(storage(count=count)) == Foreign("torch.FloatStorage")


@pytest.mark.parametrize("count, taken", [(16, True), (17, False)])
def test_a_call_has_sixteen_arguments_at_most(count, taken):
    made = walked(TENSOR + b"(%sI0\n(I4\nt(I1\nt" % storage() + b"N" * (count - 4) + b"tR")
    assert isinstance(made, TensorRef) is taken
    assert taken or made == Foreign("torch._utils._rebuild_tensor_v2")


@pytest.mark.parametrize(
    "opcodes",
    [
        b"c" + b"m" * 150 + b"\n" + b"n" * 150 + b"\n",
        b"\x8c\x96" + b"m" * 150 + b"\x8c\x96" + b"n" * 150 + b"\x93",
    ],
    ids=["global", "stack_global"],
)
def test_of_a_global_200_characters_are_kept(opcodes):
    assert walked(opcodes + b")R") == Foreign("m" * 150 + "." + "n" * 49)


@pytest.mark.parametrize("module", [b"torch", b"torch.storage"])
def test_a_storage_without_a_type_is_one_of_bytes(module):
    assert walked(storage(kind=b"UntypedStorage", module=module)) == StorageRef("0", torch.uint8, 4)


WHOLE = TENSOR + b"(" + storage() + b"I0\n(I4\nt(I1\ntI00\nNtR"
FROM_TYPE = b"ctorch._tensor\n_rebuild_from_type_v2\n"
INNER = b"(" + storage() + b"I0\n(I4\nt(I1\ntI00\nNt"


@pytest.mark.parametrize(
    "opcodes, name",
    [
        (FROM_TYPE + b"(" + TENSOR + b"cmine\nTensor\n" + INNER + b"}tR", "mine.Tensor"),
        (FROM_TYPE + b"(cos\nsystem\nctorch\nTensor\n" + INNER + b"}tR", "torch.Tensor"),
        (FROM_TYPE + b"(" + TENSOR + b"ctorch\nTensor\n" + INNER + b"tR", None),
        (b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage() + b"I0\n(I4\nt(I1\ntI00\nN"
         + b"ctorch\nfloat3\ntR", None),
        (b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage() + b"I0\n(I4\nt(I1\ntI00\nNtR", None),
        (b"ctorch._utils\n_rebuild_parameter\n(N}tR", None),
        (TENSOR + b"(NI0\n(I4\nt(I1\ntI00\nNtR", None),
        (TENSOR + b"(" + storage() + b"I0\n(I4\nI1\nt(I1\ntI00\nNtR", None),
        (b"ccollections\nOrderedDict\n(]tR", None),
        (b"ccollections\nOrderedDict\n]R", "collections.OrderedDict"),
        # What a call gave is no name any more, whatever it is called.
        (b"ccollections\nOrderedDict\n(" + b"N" * 17 + b"tR)R", "collections.OrderedDict"),
        (b"ccollections\nOrderedDict\n(" + b"cos\nsystem\n)R" + b"tR", "os.system"),
    ],
    ids=["own_type", "own_maker", "few", "float3", "no_type", "no_data", "no_storage", "sides", "items", "list",
         "called_twice", "of_a_call"],
)  # fmt: skip
def test_a_call_that_makes_no_tensor_remembers_what_it_would_have_been(opcodes, name):
    recipe = ".".join(opcodes[1:].decode().split("\n")[:2])
    assert walked(opcodes) == Foreign(name or f"{recipe} with arguments that do not fit")


@pytest.mark.parametrize(
    "kind", [b"torch\nTensor", b"torch.nn.parameter\nParameter", b"torch.nn.parameter\nBuffer"]
)
def test_a_tensor_with_attributes_is_the_tensor(kind):
    assert walked(FROM_TYPE + b"(" + TENSOR + b"c" + kind + b"\n" + INNER + b"}tR") == walked(WHOLE)


@pytest.mark.parametrize(
    "opcodes, words",
    [
        (b"]K\x01K\x02s", "TypeError: items set on a list"),
        (b"}K\x01a", "TypeError: values appended to a dict"),
        (b"K\x01)R", "TypeError: a call of a int"),
        (b"(", "TypeError: a mark"),
        (b"(2", "TypeError: a mark"),
        (b"(p0\n", "TypeError: a mark"),
        (b"}(N\x86", "TypeError: a mark"),
        (b"K\x01K\x02\x93", "TypeError: a global whose name is no text"),
        (b"\x8c\x02osK\x02\x93", "TypeError: a global whose name is no text"),
        (b"h\x05", "KeyError: 5"),
        (b"0", "IndexError"),
        (b"", "IndexError"),
        (b"Nt", "IndexError"),
    ],
    ids=str,
)
def test_a_pickle_that_python_cannot_read_either_is_damaged(opcodes, words):
    with pytest.raises(ValueError, match=rf"pickle is damaged \({words}"):
        walked(opcodes)


@pytest.mark.parametrize(
    "opcodes, value",
    [
        (b"\x83\x05\x00", Foreign("copyreg extension 5")),
        (b"\x84\x05\x00\x00\x00", Foreign("copyreg extension 5")),
        (b"\x97\x98", Foreign("a buffer outside the pickle")),
        (b"\x96\x02" + bytes(7) + b"ab", b"ab"),
        (b"\x8e\x02" + bytes(7) + b"ab", b"ab"),
        (b"B\x02\0\0\0ab", b"ab"),
        (b"C\x02ab", b"ab"),
        (b"\x8d\x02" + bytes(7) + b"ab", "ab"),
        (b"X\x02\0\0\0ab", "ab"),
        (b"T\x02\0\0\0ab", "ab"),
        (b"U\x02ab", "ab"),
        (b"S'ab'\n", "ab"),
        (b"Vab\n", "ab"),
        (b"\x8b\x01\0\0\0\x07", 7),
        (b"\x8a\x01\x07", 7),
        (b"L7L\n", 7),
        (b"I7\n", 7),
        (b"J\x07\0\0\0", 7),
        (b"M\x07\0", 7),
        (b"K\x07", 7),
        (b"F7.5\n", 7.5),
        (b"G" + struct.pack(">d", 7.5), 7.5),
        (b"K\x07r\x05\0\0\0K\x08j\x05\0\0\0", 7),
        (b"K\x07q\x05K\x08h\x05", 7),
        (b"K\x07\x94K\x08\x94h\x00", 7),
        # Upon what the file may not make nothing is put, and nothing is wrong with it.
        (b"cos\nsystem\nK\x01a", Foreign("os.system")),
        (b"cos\nsystem\nK\x01K\x02s", Foreign("os.system")),
    ],
    ids=str,
)
def test_each_way_to_write_a_value_is_read(opcodes, value):
    read = walked(opcodes, 5)
    assert read == value or isinstance(read, Foreign) and read.name == value.name


# Sizes


@pytest.mark.parametrize("count, counted", [(0, 0), (1, 1), (100, 100), (101, None)])
def test_a_hundred_in_a_row_are_counted(count, counted):
    shapes = Shapes(
        dict.fromkeys([f"layer.{i}.x" for i in range(count)] + ["other"]), "It is not whole", "Go."
    )
    pattern = re.compile(r"layer\.(\d+)\.")
    if counted is None:
        with pytest.raises(ValueError, match=r"^It is not whole: .*'layer\.100\.x', .* end at 99\. Go\.$"):
            shapes.numbered(pattern)
    else:
        assert shapes.numbered(pattern) == counted


def test_a_tensor_under_two_names_of_which_one_is_expected_is_named_by_the_files_own():
    found = {"a.one": torch.ones(2), "b.one": torch.ones(2), "a.two": torch.ones(3), "a.new": torch.ones(1)}
    expected = {"one": torch.ones(2), "two": torch.ones(4), "three": torch.ones(1)}
    shapes = Shapes(found, "It is not whole", "Go.")
    with pytest.raises(ValueError, match="not whole") as refused:
        shapes.check(expected, lambda name: name[2:], lambda key: f"a.{key}")
    assert str(refused.value) == (
        "It is not whole: tensors missing: a.three; tensors unexpected: b.one, a.new; "
        "tensors of another shape than the rest asks for: a.two (3,), expected (4,). Go."
    )
    del found["b.one"], found["a.new"]
    Shapes(found, "", "").check({"one": torch.ones(2), "two": torch.ones(3)}, lambda name: name[2:])


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_file_without_any_tensor_is_no_part_of_an_adapter(tmp_path, form):
    with pytest.raises(ValueError, match=r"model\.pth has no adapter .*0 tensors \(none\)"):
        open_adapter(save({}, tmp_path / "model.pth", form))
