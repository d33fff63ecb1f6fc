"""Files that change while they are read, that ask for more than they have, and bytes at random."""

import argparse
import collections
import io
import json
import logging
import os
import pickle
import random
import re
import shutil
import struct
import subprocess
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.text_encoder import find_encoders, load_encoder
from deig_pack.deig_core.files import encoder_files, tensor_files
from deig_pack.deig_core.files.checkpoint import open_adapter, read_state_dict, write_adapter
from deig_pack.deig_core.files.encoder_files import EncoderFiles, read_config
from deig_pack.deig_core.files.pickles import Foreign, StorageRef, walk_pickle
from deig_pack.deig_core.files.tensor_files import open_tensors
from deig_pack.deig_core.files.windows import shown, shown_list
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from deig_pack.tests import standins
from deig_pack.tests.core.test_text_encoder import (
    add_tokenizer,
    encoder_state,
    small_t5,
    spiece,
    tokenizer_folder,
    write_config,
    write_sharded,
)
from deig_pack.tests.effort import examples
from deig_pack.tests.rubbish import fill_with_rubbish
from deig_pack.tests.unprivileged import unprivileged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from bench.released_instance_diffusion import adapter_shapes

__all__ = ["spiece", "tokenizer_folder"]  # fixtures

FORMS = ("zip", "legacy", "safetensors")
bounded = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=not os.environ.get("DEIG_LONG"),
)


def save(state, path: Path, form: str) -> Path:
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    return path


def everything(path: Path) -> dict[str, torch.Tensor]:
    return read_state_dict(path, lambda name: True)


def full(value: float) -> dict[str, torch.Tensor]:
    return {f"IDE.{i}": torch.full((50_000,), float(value)) for i in range(4)}


# Changes while a file is read


@pytest.mark.parametrize("form", FORMS)
def test_a_file_replaced_meanwhile_is_read_as_it_was_opened(tmp_path, form):
    source = open_adapter(save(full(1), tmp_path / "deig", form))
    first = source.read("IDE.0")
    save(full(2), tmp_path / "new", form).replace(tmp_path / "deig")
    for tensor in (first, *(source.read(f"IDE.{i}") for i in range(1, 4))):
        assert (tensor == 1).all()
    assert (everything(tmp_path / "deig")["IDE.3"] == 2).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "change, words",
    [
        ("cut", "its size was {size} bytes and is 1000"),
        ("grown", "its size was {size} bytes and is {grown}"),
        ("overwritten", "it was written to"),
    ],
    ids=lambda value: value.split()[0],
)
def test_a_file_changed_in_place_is_an_error_that_says_so(tmp_path, form, change, words):
    path = save(full(1), tmp_path / "deig", form)
    source = open_adapter(path)
    source.read("IDE.0")
    before = path.stat()
    if change == "cut":
        os.truncate(path, 1000)  # a mapped file ends the process here
    else:
        with path.open("r+b" if change == "overwritten" else "ab") as file:
            file.write(bytes(100))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    words = words.format(size=before.st_size, grown=before.st_size + 100)
    with pytest.raises(ValueError, match=f"deig changed while it was read: {words}.*load it again"):
        source.read("IDE.3")


def test_a_file_that_may_not_be_read_is_named():
    with unprivileged() as folder:
        path = save(full(1), folder / "deig.safetensors", "safetensors")
        path.chmod(0)
        with pytest.raises(ValueError, match=r"deig\.safetensors cannot be opened \(Permission denied\)"):
            open_tensors(path)


def test_a_folder_in_which_nothing_may_be_written_is_named():
    with unprivileged() as folder:
        (folder / "locked").mkdir(0o500)
        with pytest.raises(ValueError, match=r"deig\.safetensors cannot be written \(Permission denied\)"):
            write_adapter(full(1), folder / "locked" / "deig.safetensors")


def test_a_file_is_closed_when_its_tensors_are_read(tmp_path):
    path = save(full(1), tmp_path / "deig", "safetensors")
    opened = open_tensors(path).opened
    assert opened.file.closed is False
    file = opened.file
    del opened
    assert file.closed
    with open_tensors(path) as tensors:
        tensors.read("IDE.0")
    assert tensors.opened.file.closed


# Asking for more than there is


def legacy(content: bytes, keys: list[str], storages: bytes) -> bytes:
    """torch.save's older form around a pickle written by hand."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(part, 2) for part in parts) + content + pickle.dumps(keys, 2) + storages


def storage(count: int) -> bytes:
    number = b"I%d\n" % count
    return b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n" + number + b"tQ"


def test_a_storage_described_twice_with_different_sizes_is_refused(tmp_path):
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(%sI0\n(I%d\nt(I1\ntI00\nNtR"
    large, small = (tensor % (storage(count), count) for count in (2**31, 4))
    content = b"\x80\x02}(S'IDE.a'\n" + large + b"S'IDE.b'\n" + small + b"u."
    path = tmp_path / "model.pth"
    path.write_bytes(legacy(content, ["0"], struct.pack("<Q", 4) + bytes(16)))
    with pytest.raises(ValueError, match=r"model\.pth.*described twice"):
        open_tensors(path)
    content = b"\x80\x02}(S'IDE.b'\n" + small + b"u."
    path.write_bytes(legacy(content, ["0"], struct.pack("<Q", 4) + bytes(16)))
    assert torch.equal(everything(path)["IDE.b"], torch.zeros(4))


@pytest.mark.parametrize(
    "size, stride, offset, fits",
    [
        *(
            (4, 1, 0, True),
            (5, 1, 0, False),
            (2, 3, 0, True),
            (2, 4, 0, False),
            (3, 1, 1, True),
            (4, 1, 1, False),
        ),
        *((4, -1, 3, False), (2, 1, -1, False), (1, 1, 3, True), (1, 1, 4, False)),
    ],
)
def test_a_tensor_ends_within_its_storage(tmp_path, size, stride, offset, fits):
    """The number behind it is another tensor's, or none's."""
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(%sI%d\n(I%d\nt(I%d\ntI00\nNtR" % (
        storage(4),
        offset,
        size,
        stride,
    )
    path = tmp_path / "model.pth"
    numbers = struct.pack("<Q4f", 4, 0, 1, 2, 3)
    path.write_bytes(legacy(b"\x80\x02}(S'IDE.a'\n" + tensor + b"u.", ["0"], numbers + bytes(100)))
    if fits:
        assert torch.equal(everything(path)["IDE.a"], torch.arange(4.0)[offset::stride][:size])
    else:
        with pytest.raises(ValueError, match=r"model\.pth.*IDE\.a"):
            everything(path)


@pytest.mark.parametrize(
    "recipe, rest",
    [("_rebuild_tensor", b""), ("_rebuild_tensor_v2", b"I00\nN"), ("_rebuild_tensor_v2", b"I00\nN}")],
    ids=["oldest", "plain", "with_flags"],
)
def test_a_tensor_of_each_of_torchs_makers_is_read(tmp_path, recipe, rest):
    tensor = b"ctorch._utils\n%s\n(%sI1\n(I2\nt(I2\nt%stR" % (recipe.encode(), storage(4), rest)
    path = tmp_path / "model.pth"
    numbers = struct.pack("<Q4f", 4, 0, 1, 2, 3)
    path.write_bytes(legacy(b"\x80\x02}(S'IDE.a'\n" + tensor + b"u.", ["0"], numbers))
    assert torch.equal(everything(path)["IDE.a"], torch.tensor([1.0, 3.0]))


@pytest.mark.parametrize(
    "identity, asked",
    [
        (b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\nNt", None),
        (b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\n(S'1'\nI0\nI4\ntt", "torch.FloatStorage"),
        (b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI-4\nt", "torch.FloatStorage"),
        (b"(S'storage'\nctorch\nQInt8Storage\nS'0'\nS'cpu'\nI4\nt", "torch.QInt8Storage"),
        (b"(S'module'\nctorch\nFloatStorage\nS'0'\nt", "a persistent id that torch.save does not write"),
    ],
    ids=["whole", "view", "negative", "quantised", "other"],
)
def test_a_storage_is_read_only_if_it_is_a_whole_one_of_plain_numbers(identity, asked):
    walked = walk_pickle(io.BytesIO(b"\x80\x02" + identity + b"Q."))
    if asked is None:
        assert walked.value == StorageRef("0", torch.float32, 4) and walked.storages == {"0": walked.value}
    else:
        assert walked.value == Foreign(asked) and walked.storages == {}


@pytest.mark.parametrize(
    "keys, counts, words",
    [
        (["1"], [4], "list of storages does not fit the tensors"),
        (None, [4], "list of storages does not fit the tensors"),
        (["0", "1"], [4, 4], "storages in it do not fit what is said of them"),
        (["0", 5], [4, 4], "storages in it do not fit what is said of them"),
        (["0", ["1"]], [4, 4], "storages in it do not fit what is said of them"),
        (["0"], [3], "storages in it do not fit what is said of them"),
        (["0"], [5], "cut short within the storage 0"),
    ],
    ids=["another", "no_list", "one_too_many", "a_number", "a_list", "too_short", "beyond_the_end"],
)
def test_a_list_of_storages_that_does_not_fit_is_refused(tmp_path, keys, counts, words):
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(%sI0\n(I4\nt(I1\ntI00\nNtR" % storage(4)
    path = tmp_path / "model.pth"
    numbers = b"".join(struct.pack("<Q", count) + bytes(16) for count in counts)
    path.write_bytes(legacy(b"\x80\x02}(S'IDE.a'\n" + tensor + b"u.", keys, numbers))
    with pytest.raises(ValueError, match=rf"model\.pth.*{words}.*fetch the file again"):
        open_tensors(path)


def write_header(path: Path, entries: dict, numbers: int = 64):
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(numbers))


def entry(begin: int, end: int, shape=None, kind="F32") -> dict:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def test_an_empty_tensor_hides_no_other_that_lies_over_one(tmp_path):
    path = tmp_path / "x.safetensors"
    write_header(path, {"IDE.a": entry(0, 64), "IDE.none": entry(32, 32, [0]), "IDE.b": entry(48, 64)})
    with pytest.raises(ValueError, match=r"'IDE\.b' lies over another"):
        open_tensors(path)


@pytest.mark.parametrize("second", [(0, 64), (60, 64), (16, 32)])
def test_safetensors_that_lie_over_one_another_are_refused(tmp_path, second):
    path = tmp_path / "x.safetensors"
    write_header(path, {"IDE.a": entry(0, 64), "IDE.b": entry(*second)})
    with pytest.raises(ValueError, match=r"'IDE\.b' lies over another"):
        open_tensors(path)
    write_header(path, {"IDE.c": entry(64, 64), "IDE.b": entry(32, 64), "IDE.a": entry(0, 32)})
    assert list(open_tensors(path).entries) == ["IDE.c", "IDE.b", "IDE.a"]


def test_a_header_longer_than_any_is_not_even_read(tmp_path):
    path = tmp_path / "x.safetensors"
    text = json.dumps({f"t{i:07}": entry(0, 0) for i in range(150_000)}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"x\.safetensors.*header.*MiB long"):
            open_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[0, 2**47, 2**47], [0, 2**30, 2**30], [2**60], [0] * 70, [True], [-1]])
def test_a_shape_that_torch_cannot_have_is_refused(tmp_path, shape):
    write_header(tmp_path / "x.safetensors", {"IDE.a": entry(0, 0, shape)})
    with pytest.raises(ValueError, match=r"x\.safetensors.*'IDE\.a'"):
        everything(tmp_path / "x.safetensors")


@pytest.mark.parametrize("shape", [[0] * 64, [0, 2**48 - 1], [0, 2**47, 2**8]], ids=["axes", "side", "count"])
def test_the_largest_shape_that_torch_can_have_is_read(tmp_path, shape):
    write_header(tmp_path / "x.safetensors", {"IDE.a": entry(0, 0, shape)})
    assert everything(tmp_path / "x.safetensors")["IDE.a"].shape == torch.Size(shape)
    larger = [*shape, 0] if len(shape) == 64 else [*shape[:-1], shape[-1] * 2]
    write_header(tmp_path / "x.safetensors", {"IDE.a": entry(0, 0, larger)})
    with pytest.raises(ValueError, match=r"x\.safetensors.*'IDE\.a'"):
        open_tensors(tmp_path / "x.safetensors")


def test_a_tensor_of_an_unknown_type_costs_itself_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    write_header(path, {"IDE.a": entry(0, 64), "IDE.b": entry(64, 68, [8], "I4")}, 68)
    with open_tensors(path) as tensors:
        assert torch.equal(tensors.read("IDE.a"), torch.zeros(16))
        with pytest.raises(
            ValueError, match="'IDE.b' is no plain tensor but asks for 'the safetensors type I4'"
        ):
            tensors.read("IDE.b")


def test_a_safetensors_file_has_no_parts(tmp_path):
    save_file({"encoder.x": torch.ones(1)}, tmp_path / "x.safetensors")
    assert open_tensors(tmp_path / "x.safetensors", part="autoencoder").entries == {}


def test_a_line_of_a_pickle_is_not_quoted_whole(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02F" + b"1x" * 5000 + b"\n.")
    with pytest.raises(
        ValueError, match=r"model\.pth: the pickle in it cannot be read \(.*\.\.\.\)"
    ) as refused:
        open_tensors(path)
    assert len(str(refused.value)) < 500 + len(str(path))


def test_a_list_of_an_archives_members_longer_than_any_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(45):
            archive.writestr(zipfile.ZipInfo(f"x/data/{i}"), b"")
        # Each member may carry 64 KB of whatever in the list alone.
        for info in archive.filelist:
            info.extra = struct.pack("<HH", 0x7075, 60_000) + bytes(60_000)
        archive.writestr("x/data.pkl", pickle.dumps({}))
    assert open_tensors(path).entries == {}
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(100, 205):
            archive.writestr(zipfile.ZipInfo(f"x/data/{i}"), b"")
        for info in archive.filelist:
            info.extra = struct.pack("<HH", 0x7075, 60_000) + bytes(60_000)
    with pytest.raises(ValueError, match=r"model\.pth.*archive cannot be read.*at most"):
        open_tensors(path)


START = b"\x80\x04"
MANY = 80_000
ONE_HASH = b"".join(
    b"\x8a\x0d" + (i * (2**61 - 1)).to_bytes(13, "little") + b"N" for i in range(1, MANY // 2)
)


@pytest.mark.parametrize(
    "opcodes, words",
    [
        (b"}" * 600_000, "steps"),
        (b"]" * 600_000, "steps"),
        (b"\x8e" + struct.pack("<Q", 40 * 2**20) + bytes(40 * 2**20), "MiB"),
        (b"S'" + b"a" * (40 * 2**20) + b"'\n", "MiB"),
        (b"}(" + ONE_HASH + b"u", None),
        (b"cposix\nsystem\n\x94(" + b"N" * MANY + b"t\x94" + b"h\0h\1R0" * MANY, None),
        (b"(" + b"N" * MANY + b"t\x94" + b"h\0Q0" * MANY, None),
        (b"(S'storage'\n" + b"N" * MANY + b"t\x94" + b"h\0Q0" * MANY, None),
        (b"X" + struct.pack("<I", MANY) + b"a" * MANY + b"\x94" + b"h\0h\0\x93" * MANY, None),
        (b"c" + b"a" * MANY + b"\nb\n\x94" + b"h\0)R" * MANY, None),
        (b"ctorch._utils\n_rebuild_tensor\n\x94(" + storage(1) + b"I0\n(" + b"N" * MANY + b"tN"
         + b"t\x94" + b"h\0h\1R0" * MANY, None),
        (b"Np" + b"9" * 400 + b"\n", "memo"),
        (b"Np-1\n", "memo"),
    ],
    ids=["dicts", "lists", "bytes", "line", "one_hash", "arguments", "storage", "long_storage", "names", "calls",
         "shape", "large_memo", "negative_memo"],
)  # fmt: skip
def test_a_pickle_costs_no_more_than_a_list_of_weights_may(opcodes, words):
    """Each takes minutes, or gigabytes, where it is not bounded."""
    tracemalloc.start()
    try:
        if words:
            with pytest.raises(ValueError, match=words):
                walk_pickle(io.BytesIO(START + opcodes + b"."))
        else:
            walk_pickle(io.BytesIO(START + opcodes + b"N."))
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path):
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if not mount or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        path = tmp_path / "deig.safetensors"
        write_adapter({"IDE.x": torch.ones(4)}, path)
        with pytest.raises(
            ValueError, match=r"deig\.safetensors cannot be written \(No space left.*8 MB are needed"
        ):
            write_adapter({"IDE.x": torch.ones(1_000_000), "IDE.y": torch.ones(1_000_000)}, path)
        assert list(tmp_path.iterdir()) == [path] and everything(path)["IDE.x"].sum() == 4
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# Tensors that are no plain blocks of numbers


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_tensor_that_repeats_its_numbers_is_read(tmp_path, form):
    x = torch.arange(6.0).view(2, 3)
    state = {
        "rows": x[:1].expand(100, 3),
        "columns": x[:, :1].expand(2, 5),
        "one": torch.ones(1).expand(4, 4),
    }
    got = everything(save(state, tmp_path / "model.pth", form))
    assert got.keys() == state.keys()
    for name, tensor in got.items():
        assert torch.equal(tensor, state[name]) and tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_repeating_ends_somewhere(tmp_path, form, monkeypatch):
    path = save({"IDE.x": torch.ones(1).expand(2**20, 2**20)}, tmp_path / "model.pth", form)
    with pytest.raises(ValueError, match=r"model\.pth has .* MB, but its tensors.*'IDE\.x'.*repeat"):
        everything(path)
    monkeypatch.setattr(tensor_files, "_BEYOND_THE_FILE", 2**20)
    shared = torch.ones(2**18)
    path = save({f"IDE.{i}": shared for i in range(50)}, tmp_path / "model.pth", form)
    with pytest.raises(ValueError, match=r"'IDE\.2' come to 3 MB"):
        everything(path)
    with open_tensors(path) as tensors:
        for _ in range(10):
            assert tensors.read("IDE.0").sum() == 2**18


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float16], ids=str)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_repeating_ends_by_what_it_takes_in_the_type_asked_for(tmp_path, form, kind, monkeypatch):
    monkeypatch.setattr(tensor_files, "_BEYOND_THE_FILE", 2**20)
    repeated = torch.ones(1).to(kind).expand(2**11, 384 // kind.itemsize)
    path = save({"IDE.x": repeated}, tmp_path / "model.pth", form)
    everything(path)
    with pytest.raises(ValueError, match=r"model\.pth has .*'IDE\.x' come to .* MB, since they repeat"):
        read_state_dict(path, lambda name: True, torch.float32)
    # What is there once may be asked for in any type.
    whole = save({"IDE.x": torch.ones(2**20).to(kind)}, tmp_path / "whole.pth", form)
    assert read_state_dict(whole, lambda name: True, torch.float32)["IDE.x"].nbytes == 2**22


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("part", [lambda x: x.conj(), lambda x: x.conj().imag], ids=["conj", "neg"])
def test_numbers_that_are_to_be_negated_are_refused(tmp_path, form, part):
    numbers = torch.randn(4, dtype=torch.cfloat)
    path = save({"IDE.x": part(numbers), "IDE.y": torch.ones(2)}, tmp_path / "model.pth", form)
    with pytest.raises(ValueError, match=r"'IDE\.x'.*negated or conjugated.*Nothing"):
        everything(path)
    assert torch.equal(read_state_dict(path, lambda name: name == "IDE.y")["IDE.y"], torch.ones(2))


class Call:
    """Pickles as a call with these arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("offset, count", [(0, 4), (1, 3), (4, 0), (0, 5), (1, 4), (0, 16)])
def test_a_tensor_of_bytes_ends_within_its_storage(tmp_path, form, offset, count):
    """Types without a storage class of their own are saved as bytes, and a storage's length is counted in these."""
    numbers = torch.arange(4).to(torch.uint32)
    arguments = numbers.untyped_storage(), offset, (count,), (1,), False, {}, torch.uint32
    made = Call(torch._utils._rebuild_tensor_v3, *arguments)
    path = save({"IDE.x": made, "IDE.y": torch.ones(99)}, tmp_path / "model.pth", form)
    if offset + count <= 4:
        assert torch.equal(everything(path)["IDE.x"], numbers[offset : offset + count])
    else:
        with pytest.raises(ValueError, match=r"'IDE\.x'.*_rebuild_tensor_v3 with arguments that do not fit"):
            everything(path)


def test_an_encrypted_archive_says_how_to_save_it_again(tmp_path):
    path = save({"IDE.x": torch.ones(5)}, tmp_path / "model.pth", "zip")
    content = bytearray(path.read_bytes())
    # The flag of every entry in the archive's list, two bytes each.
    for match in re.finditer(b"PK\x01\x02", bytes(content)):
        content[match.start() + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted.*save it again"):
        open_tensors(path)


# A folder full of rubbish


def test_of_rubbish_nothing_is_listed_and_everything_is_named(tmp_path, tokenizer_folder, caplog):
    folder = tmp_path / "text_encoders"
    warned = fill_with_rubbish(folder)
    save_file(encoder_state(small_t5()), folder / "good.safetensors")
    with caplog.at_level(logging.WARNING):
        found = find_encoders([folder, tmp_path / "gone", folder / "empty.safetensors"])
    # The folder without weights is a T5 by its config.json, and says what it lacks when it is chosen.
    assert found.keys() == {"good.safetensors", "config_no_weights"}
    for name in warned:
        assert any(str(folder / name) in message for message in caplog.messages), name
    for message in caplog.messages:
        message.encode()
    assert not any(str(tmp_path / "gone") in message for message in caplog.messages)


@pytest.mark.parametrize("mode", [0o644, 0o000], ids=oct)
def test_a_folder_that_may_not_be_entered_costs_itself_alone(mode, caplog):
    """Of one that may be read and not entered the names of folders are seen, and nothing else."""
    state, t5 = encoder_state(small_t5()), small_t5()
    with unprivileged() as folder:
        (folder / "locked" / "inner").mkdir(parents=True)
        write_config(folder / "good", t5)
        save_file(state, folder / "single.safetensors")
        save_file(state, folder / "locked" / "hidden.safetensors")
        (folder / "locked").chmod(mode)
        with caplog.at_level(logging.WARNING):
            assert set(find_encoders([folder])) == {"good", "single.safetensors"}
        trouble = "entered" if mode else "read"
        assert caplog.messages == [
            f"Left out of the list of text encoders: {folder / 'locked'} cannot be {trouble} (Permission denied)"
        ]
        # The host asks for the list again and again.
        assert set(find_encoders([folder])) == {"good", "single.safetensors"} and len(caplog.messages) == 1


def test_a_header_that_cannot_be_read_is_not_read_again_and_again(tmp_path, monkeypatch):
    (tmp_path / "broken.safetensors").write_bytes(b"\x10" + bytes(7) + b"{nonsense")
    opened = []
    monkeypatch.setattr(encoder_files, "open_tensors", lambda path: opened.append(path) or open_tensors(path))
    for _ in range(3):
        assert find_encoders([tmp_path]) == {}
    assert len(opened) == 1
    save_file(encoder_state(small_t5()), tmp_path / "broken.safetensors")
    assert list(find_encoders([tmp_path])) == ["broken.safetensors"]


@pytest.mark.parametrize("longer, later", [("", 1), ("x" * 40, 0)], ids=["of one size", "of one time"])
def test_a_file_that_was_written_anew_is_looked_at_again(tmp_path, longer, later):
    path = tmp_path / "flan.safetensors"
    for name, time, found in ((f"{KEY[:-1]}x{longer}", 0, []), (KEY, later, [path.name])):
        save_file({name: ones(1)}, path)
        os.utime(path, (1e9 + time, 1e9 + time))
        assert list(find_encoders([tmp_path])) == found


def test_a_folder_that_cannot_be_one_costs_itself_alone(tmp_path, caplog):
    write_config(tmp_path / "good", small_t5())
    with caplog.at_level(logging.WARNING):
        assert list(find_encoders([Path("no\0folder"), tmp_path])) == ["good"]
    assert "ValueError: embedded null byte" in caplog.text


def test_any_error_at_all_costs_one_entry(tmp_path, monkeypatch, caplog):
    for name in ("bad", "good"):
        write_config(tmp_path / name, small_t5())

    def breaks(config):
        if config["d_model"] == 7:
            raise KeyError("something that nobody thought of")
        return True

    write_config(tmp_path / "bad", small_t5(), d_model=7)
    monkeypatch.setattr(encoder_files, "is_t5", breaks)
    with caplog.at_level(logging.WARNING):
        assert list(find_encoders([tmp_path])) == ["good"]
    assert (
        "KeyError: 'something that nobody thought of'" in caplog.text and str(tmp_path / "bad") in caplog.text
    )


# Encoders that cannot be


def test_encoders_whose_sizes_cannot_be_are_refused_by_name(tmp_path, tokenizer_folder):
    state = encoder_state(small_t5())
    attention = "encoder.block.0.layer.0.SelfAttention"
    bias, query = f"{attention}.relative_attention_bias.weight", f"{attention}.q.weight"
    cases = [
        ({bias: torch.ones(32, 0)}, r"relative_attention_bias\.weight' has the shape \(32, 0\)"),
        ({bias: torch.ones(32, 5)}, "32 distances for 5 heads"),
        ({bias: torch.ones(2, 3)}, "2 distances for 3 heads"),
        ({query: torch.tensor(1.0)}, r"q\.weight' has the shape \(\)"),
        ({"shared.weight": torch.ones(64)}, r"shared\.weight' has the shape \(64,\)"),
        ({"shared.weight": torch.ones(0, 32)}, r"shared\.weight' has the shape \(0, 32\)"),
        ({"encoder.block.0.layer.1.DenseReluDense.wi_0.weight": torch.tensor(1.0)}, r"wi_0\.weight'"),
        ({"encoder.block.5000.y": torch.ones(1)}, "4 layers, the last of them 5000, and no layer 3"),
        ({f"encoder.block.{i}.y": torch.ones(1) for i in range(3, 300)}, "300 layers.*more than 100"),
        ({f"encoder.block.{'9' * 400}.y": torch.ones(1)}, "no layer 3"),
    ]
    path = tmp_path / "flan.safetensors"
    for changes, words in cases:
        save_file(state | changes, path)
        with pytest.raises(ValueError, match=rf"flan\.safetensors.*{words}"):
            load_encoder(EncoderFiles("flan", path), torch.float32, tokenizer_folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_norm_epsilon": "small"},
        {"layer_norm_epsilon": float("nan")},
        {"layer_norm_epsilon": 0.0},
        {"layer_norm_epsilon": 1.0},
        {"layer_norm_epsilon": 1},
        {"relative_attention_max_distance": True},
        {"relative_attention_max_distance": 8},
        {"relative_attention_max_distance": 2**31},
        {"relative_attention_max_distance": 0},
        {"relative_attention_max_distance": 2.5},
    ],
    ids=str,
)
def test_numbers_with_which_no_t5_computes_are_refused(tmp_path, tokenizer_folder, changes):
    write_config(tmp_path / "flan", small_t5(), **changes)
    save_file(encoder_state(small_t5()), tmp_path / "flan" / "model.safetensors")
    with pytest.raises(ValueError, match=rf"flan.config\.json has {next(iter(changes))}"):
        load_encoder(EncoderFiles("flan", tmp_path / "flan"), torch.float32, tokenizer_folder)


def test_tokenizers_that_are_none_are_refused_by_name(tmp_path, tokenizer_folder):
    path = tmp_path / "flan"
    write_config(path, small_t5())
    save_file(encoder_state(small_t5()), path / "model.safetensors")
    tokenizer = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    beyond = json.loads(json.dumps(tokenizer).replace('"ids": [1]', '"ids": [70]'))
    assert beyond != tokenizer
    endless = tokenizer | {"post_processor": None}
    cases = [
        (("tokenizer.json", b"{"), r"tokenizer\.json cannot be read"),
        (
            ("tokenizer.json", b'{"model": {"type": "Unigram", "vocab": 5}}'),
            r"tokenizer\.json cannot be read",
        ),
        (("tokenizer.json", json.dumps(endless).encode()), "makes .* of an empty phrase"),
        (("tokenizer.json", json.dumps(beyond).encode()), r"makes \[70\] of an empty phrase"),
        (("spiece.model", b"rubbish"), r"spiece\.model cannot be read"),
    ]
    for (name, content), words in cases:
        (path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            load_encoder(EncoderFiles("flan", path), torch.float32)
        (path / name).unlink()


# Adapters that cannot be

LATENTS, PROJECTION = "IDE.connector.latents", "IDE.connector.proj_in.weight"
LAYER, GAMMA = "IDE.connector.perceiver_blocks", "position_net.convnext_tiny_backbone.stages"
FUSER = "middle_block.1.transformer_blocks.0.fuser"
OF_DEIG = standins.adapter_shapes(standins.transformer_names(standins.FULL_DEPTH), 64, 2)
OF_INSTANCE_DIFFUSION = adapter_shapes(hidden=8, depths=(1, 1, 2, 1), widths=(4, 8, 8, 768))


def ones(*shape) -> torch.Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({PROJECTION: ones(64)}, r"proj_in\.weight' has the shape \(64,\), and 2 sides above 0"),
        ({f"{FUSER}.ff.net.2.weight": ones(64)}, r"'middle_block.*ff\.net\.2\.weight' has the shape \(64,\)"),
        ({f"{FUSER}.linear.weight": ones()}, r"'middle_block.*linear\.weight' has the shape \(\)"),
        ({f"{FUSER}.linear.weight": ones(1276, 768)}, "fuser of middle_block.* 1276 wide.*8 heads"),
        ({f"{FUSER}.alpha_attn": ones(1)}, r"fuser\.alpha_attn \(1,\), expected \(\)"),
        ({f"{LAYER}.0.attn.in_proj_weight": ones()}, r"attn\.in_proj_weight \(\), expected \(\d+, \d+\)"),
        (
            {f"{LAYER}.1.cross_attn.in_proj_bias": ones(4)},
            r"cross_attn\.in_proj_bias \(4,\), expected \(\d+,\)",
        ),
        ({LATENTS: ones(16, 0)}, r"latents' has the shape \(16, 0\)"),
        ({LATENTS: ones()}, r"latents' has the shape \(\)"),
        ({LATENTS: ones(16, 20)}, "latents' is 20 wide, which 8 heads"),
        ({"IDE.time_embedding.linear_1.weight": ones(64, 9)}, "linear_1.weight' takes 9 numbers"),
        ({"position_net.linears.4.weight": ones(768)}, r"linears\.4\.weight' has the shape \(768,\)"),
        ({f"{LAYER}.0.mlp.c_fc.weight": ones(1, 1, 1)}, r"c_fc\.weight' has the shape \(1, 1, 1\)"),
        ({f"{LAYER}.2.y": ones(1)}, r"missing: IDE\.connector\.perceiver_blocks\.2\.attn.* more"),
        ({f"{LAYER}.100.y": ones(1)}, r"'IDE\.connector\.perceiver_blocks\.100\.y', but none with number 2"),
        ({f"{LAYER}.{'9' * 400}.y": ones(1)}, "perceiver_blocks.99999.*none with number 2"),
        ({f"{LAYER}.{i}.y": ones(1) for i in range(300)}, r"perceiver_blocks\.299\.y'.*end at 99"),
        ({f"IDE.surprise.{i}": ones(1) for i in range(9000)}, "unexpected: IDE.surprise.0, .* and 8995 more"),
        ({f"IDE.{'x' * 450}": ones(1)}, r"unexpected: IDE\.x+\.\.\."),
        (
            {FUSER.replace(".1.", ".2.") + f".{n}.weight": ones(8, 8) for n in ("linear", "ff.net.2")},
            "more than one UNet",
        ),
        (
            {f"input_blocks.{i}.1.transformer_blocks.0.fuser.linear.weight": ones(8, 8) for i in range(9000)},
            "more than one UNet",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_adapters_whose_sizes_cannot_be_are_refused_by_name(changes, words):
    check_refused(OF_DEIG, changes, load_adapter, words)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({f"{GAMMA}.200000.0.gamma": ones(8)}, r"stages\.200000\.0\.gamma', but none with number 4"),
        ({f"{GAMMA}.{10**9}.0.gamma": ones(8)}, r"stages\.1000000000\.0\.gamma', but none with number 4"),
        ({f"{GAMMA}.4.0.gamma": ones(8)}, r"stages\.4\.0\.gamma', and numbers there end at 3"),
        ({f"{GAMMA}.0.{10**9}.gamma": ones(8)}, r"stages\.0\.1000000000\.gamma', but none with number"),
        ({f"{GAMMA}.0.{i}.gamma": ones(8) for i in range(300)}, r"stages\.0\.299\.gamma'.*end at 99"),
        ({f"{GAMMA}.1.0.gamma": ones()}, r"stages\.1\.0\.gamma' has the shape \(\)"),
        ({f"{GAMMA}.3.0.gamma": ones(64)}, "ConvNeXt gives features 64 wide, and 768"),
        ({"scaleu_b_3": ones()}, r"'scaleu_b_3' has the shape \(\), and 1 side above 0 were"),
        ({f"scaleu_b_{10**9}": ones(4)}, r"'scaleu_b_1000000000', but none with number"),
        ({"scaleu_s_0": ones()}, r"scaleu_s_0 \(\), expected \(1,\)"),
        (
            {"position_net.linears_list.0.0.weight": ones(4)},
            r"linears_list\.0\.0\.weight' has the shape \(4,\)",
        ),
        ({"position_net.null_positive_feature": ones()}, r"null_positive_feature' has the shape \(\)"),
        ({f"{FUSER}.linear.weight": ones()}, r"'middle_block.*linear\.weight' has the shape \(\)"),
        (
            {"position_net.convnext_tiny_backbone.encoder.stages.0.layers.0.layer_scale_parameter": ones(4)},
            "unexpected: position_net.convnext_tiny_backbone.encoder",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_instance_diffusions_whose_sizes_cannot_be_are_refused_by_name(changes, words):
    check_refused(OF_INSTANCE_DIFFUSION, changes, load_instance_diffusion, words)


def check_refused(shapes, changes, load, words: str):
    """In few words that name the file, and without building what it asks for."""
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    load(state)
    built = []
    with pytest.MonkeyPatch.context() as patch:
        make = torch.nn.Linear.__init__
        patch.setattr(torch.nn.Linear, "__init__", lambda *a, **k: built.append(1) or make(*a, **k))
        with pytest.raises(ValueError, match=rf"^a/deig\.pth is not a whole .*{words}") as refused:
            load(state | changes, path="a/deig.pth")
    assert len(str(refused.value)) < 2500 and len(built) < 1000


# What a refusal quotes

KEY = "encoder.block.0.layer.0.SelfAttention.q.weight"


@pytest.mark.parametrize(
    "names, words",
    [
        ([f"copy{i}.{'x' * 60}.IDE.a" for i in range(3000)], r"prefixes 'copy0\.x.* and 2995 more"),
        ([f"{c * 480}.IDE.a" for c in "ab"], r"prefixes 'a+\.\.\.', 'b+\.\.\.'\. Keep"),
        ([f"{c * 490}" for c in "abcde"], r"has 5 tensors \(a+\.\.\., b+\.\.\., c+\.\.\. and 2 more\)"),
        ([f"line\n{'x' * 490}"], r"has 1 tensors \('line\\nx+\.\.\.'\)"),
    ],
    ids=["prefixes", "long_prefixes", "names", "line_break"],
)
def test_a_file_without_one_adapter_is_refused_in_few_words(tmp_path, names, words):
    save_file({name: ones(1) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=rf"x\.safetensors .*{words}") as refused:
        open_adapter(tmp_path / "x.safetensors")
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    "table, words",
    [
        ({KEY: ["model.safetensors"]}, rf"'{KEY}' lies in \"\['model\.safetensors'\]\", which is no name"),
        ({KEY: {"a": "x" * 5000}}, r"lies in .*\.\.\..*which is no name"),
        ({KEY: 7}, "lies in '7', which is no name"),
        ({KEY: "x" * 300}, r"flan lacks x+\.\.\., which model"),
        ({KEY: "\0"}, r"flan lacks '\\x00', which model"),
        ({KEY: "\ud800"}, r"flan lacks '\\ud800', which model"),
        (
            {f"encoder.{i}": f"part-{i:05}.safetensors" for i in range(20_000)},
            r"flan lacks part-00000.* and 19995 more, which",
        ),
    ],
    ids=["list", "dict", "number", "long", "zero", "surrogate", "many"],
)
def test_an_index_that_names_no_parts_is_refused_in_few_words(tmp_path, table, words):
    write_config(tmp_path / "flan", small_t5())
    index = tmp_path / "flan" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    with pytest.raises(ValueError, match=words) as refused:
        load_encoder(EncoderFiles("flan", tmp_path / "flan"), torch.float32)
    assert len(str(refused.value)) < 2000
    assert "flan" in find_encoders([tmp_path])


@pytest.mark.parametrize("content", ['{"metadata": {}}', '{"weight_map": []}'], ids=["none", "list"])
def test_an_index_without_a_table_is_refused(tmp_path, content):
    write_config(tmp_path / "flan", small_t5())
    (tmp_path / "flan" / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json has no weight_map"):
        load_encoder(EncoderFiles("flan", tmp_path / "flan"), torch.float32)


def test_a_configuration_longer_than_any_is_not_read(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(8 * 2**20 + 1)
    with pytest.raises(ValueError, match=r"config\.json has 8388609 bytes, and at most 8388608 are read"):
        read_config(path)
    with pytest.raises(ValueError, match="is not there, or no file"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "names, said",
    [
        (["a", "b"], "a, b"),
        (list("abcde"), "a, b, c, d, e"),
        (list("abcdef"), "a, b, c, d, e and 1 more"),
        (["a\nb"], r"'a\nb'"),
        (["x" * 160], "x" * 160),
        (["x" * 161], "x" * 160 + "..."),
    ],
    ids=["two", "five", "six", "line_break", "long", "too_long"],
)
def test_names_out_of_a_file_are_listed_as_far_as_five(names, said):
    assert shown_list(names) == said


def test_what_is_quoted_is_cut_at_eighty_characters():
    assert (shown("x" * 80), shown("x" * 81)) == (f"'{'x' * 80}'", f"'{'x' * 80}...'")


def test_what_a_folder_says_of_its_tokenizer_is_quoted_in_few_words(tmp_path, tokenizer_folder):
    write_config(tmp_path / "flan", small_t5())
    save_file(encoder_state(small_t5()), tmp_path / "flan" / "model.safetensors")
    add_tokenizer(tmp_path / "flan", tokenizer_folder)
    settings = {"tokenizer_class": "Llama" * 60_000}
    (tmp_path / "flan" / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"flan has a 'Llama.*\.\.\.', not T5's") as refused:
        load_encoder(EncoderFiles("flan", tmp_path / "flan"), torch.float32)
    assert len(str(refused.value)) < 2000


def test_a_tokenizer_that_makes_its_library_panic_is_refused(tmp_path, tokenizer_folder):
    """A panic of Rust is no Exception: it would pass by whoever catches those, and end the host's worker."""
    write_config(tmp_path / "flan", small_t5())
    save_file(encoder_state(small_t5()), tmp_path / "flan" / "model.safetensors")
    add_tokenizer(tmp_path / "flan", tokenizer_folder)
    path = tmp_path / "flan" / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["post_processor"]["special_tokens"] = {}
    path.write_text(json.dumps(settings))
    with pytest.raises(
        ValueError, match=r"tokenizer\.json breaks the library that reads it .*Fetch it again"
    ):
        load_encoder(EncoderFiles("flan", tmp_path / "flan"), torch.float32)


def test_a_tokenizer_that_lacks_the_end_is_refused(tmp_path, spiece):
    write_config(tmp_path / "flan", small_t5())
    save_file(encoder_state(small_t5()), tmp_path / "flan" / "model.safetensors")
    whole = (spiece / "spiece.model").read_bytes()
    (tmp_path / "flan" / "spiece.model").write_bytes(whole.replace(b"</s>", b"</t>", 1))
    with pytest.raises(ValueError, match=r"tokenizer in .*flan makes \[-1\] of an empty phrase"):
        load_encoder(EncoderFiles("flan", tmp_path / "flan"), torch.float32)


@pytest.mark.parametrize("name", ["x" * 300, f"gone/{'x' * 300}/y"])
def test_a_file_whose_name_is_too_long_is_not_there(tmp_path, name):
    with pytest.raises(ValueError, match="There is no file"):
        open_tensors(tmp_path / name)


# Bytes at random


def mutated(data: st.DataObject, whole: bytes) -> bytes:
    """Bytes changed, put in, taken out, doubled or moved, mostly where a format keeps its bookkeeping."""
    chance = random.Random(data.draw(st.integers(0, 2**32), label="seed"))
    changed = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        near = chance.choice((min(len(changed), 400), min(len(changed), 4000), len(changed), -600))
        at = (
            chance.randrange(near)
            if near > 0
            else chance.randrange(max(len(changed) + near, 0), len(changed))
        )
        length = chance.choice((1, 2, 4, 8, 40))
        piece = chance.choice(
            (
                bytes(changed[at : at + length]),
                bytes(chance.randrange(256) for _ in range(length)),
                b"\xff" * length,
                bytes(length),
                chance.choice(
                    (b"9" * 20, b"-1", b"[", b"{", b'"', b"null", b"1e999", b"\\ud800", b"t", b"R", b"h\0")
                ),
            )
        )
        match chance.randrange(4):
            case 0:
                changed[at : at + len(piece)] = piece
            case 1:
                changed[at:at] = piece
            case 2:
                del changed[at : at + length]
            case 3:
                other = chance.randrange(len(changed) + 1)
                changed[other : other + length] = piece
        if not changed:
            return b""
    return bytes(changed)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of a small good adapter in each form, with what training leaves beside it."""
    folder = tmp_path_factory.mktemp("whole")
    generator = torch.Generator().manual_seed(0)
    state = {f"IDE.layer.{i}": torch.rand(2, 3, generator=generator) for i in range(6)}
    around = {"config": argparse.Namespace(a=[1, {2}]), "counts": collections.Counter("ab"), 3: (1, None)}
    return {
        form: save(
            state if form == "safetensors" else {"model": state} | around, folder / form, form
        ).read_bytes()
        for form in FORMS
    }


@pytest.mark.parametrize("form", FORMS)
@settings(bounded, max_examples=examples(2000))
@given(data=st.data())
def test_mutated_checkpoints_give_tensors_or_a_refusal_in_words(whole_files, tmp_path, form, data):
    path = tmp_path / "mutated"
    path.write_bytes(mutated(data, whole_files[form]))
    size = path.stat().st_size
    try:
        got = everything(path)
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 1000 + len(str(path))
    else:
        assert sum(tensor.nbytes for tensor in got.values()) <= size + tensor_files._BEYOND_THE_FILE


KINDS = (
    "config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "spiece.model",
    "model-00001-of-00002.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory, tokenizer_folder, spiece) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "flan"
    t5 = small_t5(num_layers=1)
    write_config(folder, t5)
    write_sharded(folder, encoder_state(t5))
    add_tokenizer(folder, tokenizer_folder)
    shutil.copy(spiece / "spiece.model", folder)
    return folder


@pytest.fixture
def own_encoder_folder(kind, encoder_folder, tmp_path) -> Path:
    """A folder in which a kind of file may be overwritten, and is the one that is read."""
    folder = shutil.copytree(encoder_folder, tmp_path / "encoders" / "flan")
    if kind == "spiece.model":
        (folder / "tokenizer.json").unlink()  # which would be taken first
    return folder


@pytest.mark.parametrize("kind", KINDS)
@settings(bounded, max_examples=examples(2000))
@given(data=st.data())
def test_a_mutated_file_of_an_encoder_gives_an_encoder_or_a_refusal_in_words(
    encoder_folder, own_encoder_folder, kind, data
):
    """The list never fails; the loader or what it loads does in words, or reads."""
    (own_encoder_folder / kind).write_bytes(mutated(data, (encoder_folder / kind).read_bytes()))
    find_encoders([own_encoder_folder.parent])
    try:
        encoder = load_encoder(EncoderFiles("flan", own_encoder_folder), torch.float32)
        features = encoder.encode(["a red mug"])
    except ValueError as error:
        assert str(own_encoder_folder) in str(error)
    else:
        assert features.shape == (1, 128, encoder.width)
