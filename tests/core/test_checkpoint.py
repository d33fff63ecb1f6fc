"""Reading an adapter out of a checkpoint without running it, and writing a small one."""

import argparse
import collections
import contextlib
import copyreg
import json
import math
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import safetensors
import torch
from deig_pack.deig_core.files import pickles
from deig_pack.deig_core.files.checkpoint import (
    main,
    open_adapter,
    read_adapter,
    read_state_dict,
    write_adapter,
)
from deig_pack.deig_core.files.pickles import Foreign, walk_pickle
from deig_pack.deig_core.files.tensor_files import open_tensors
from deig_pack.tests.core.instance_diffusion import test_instance_files as instance_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bench import released

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("zip", "legacy", "safetensors")
LEGACY = 0x1950A86A20F9469CFC6C  # what torch.save began with before 1.6
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)

tmp_is_reused = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def small_adapter() -> dict[str, torch.Tensor]:
    """All of the adapter's 409 names, with every side cut to 4."""
    generator = torch.Generator().manual_seed(0)
    shapes = released.adapter_shapes()
    return {
        name: torch.rand([min(side, 4) for side in shape], generator=generator)
        for name, shape in shapes.items()
    }


def base_unet() -> dict[str, torch.Tensor]:
    return {
        "input_blocks.0.0.weight": torch.ones(2, 2),
        "out.2.bias": torch.zeros(3),
        "time_embed.0.bias": torch.ones(1),
    }


def save(content, path: Path, form: str = "zip") -> Path:
    if form == "safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


def same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return got.keys() == expected.keys() and all(
        got[name].dtype == tensor.dtype
        and got[name].shape == tensor.shape
        and bits(got[name]) == bits(tensor)
        for name, tensor in expected.items()
    )


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class Runs:
    """Pickles as a call of os.system that leaves a file behind."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo ran > '{self.marker}'",)


class TensorFromCall:
    """Pickles as a tensor one of whose arguments is the result of a call."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        storage = torch.rand(4).untyped_storage()
        typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
        return torch._utils._rebuild_tensor_v2, (typed, 0, (4,), (1,), False, Runs(self.marker))


# Reading


def test_the_released_layout_is_what_the_design_says():
    shapes = released.adapter_shapes()
    assert len(shapes) == released.TENSORS
    assert sum(map(math.prod, shapes.values())) == released.PARAMETERS


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize(
    "nest",
    [
        lambda state: {"model": state, "iters": 5000},
        lambda state: state,
        lambda state: {"state_dict": collections.OrderedDict(state), "epoch": 3},
        lambda state: {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()},
        lambda state: {
            "model": {f"module.{name}": torch.nn.Parameter(tensor) for name, tensor in state.items()}
        },
    ],
    ids=["model entry", "top level", "state_dict entry", "prefix", "parameters of a wrapped module"],
)
def test_reads_exactly_the_adapter(tmp_path, form, nest):
    adapter = small_adapter()
    path = save(nest(base_unet() | adapter), tmp_path / "model.pth", form)
    assert same(read_adapter(path), adapter)


def test_reads_the_adapter_from_safetensors(tmp_path):
    adapter = small_adapter()
    path = save(base_unet() | adapter, tmp_path / "model.safetensors", "safetensors")
    assert same(read_adapter(path), adapter)


@pytest.mark.parametrize("form", FORMATS)
def test_casts_to_the_type_asked_for(tmp_path, form):
    adapter = small_adapter()
    path = save(adapter, tmp_path / "model", form)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        expected = {name: tensor.to(dtype) for name, tensor in adapter.items()}
        assert same(read_adapter(path, dtype), expected)


def test_reads_around_what_training_leaves_in_a_checkpoint(tmp_path):
    adapter = small_adapter()
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    content = {
        "model": adapter,
        "opt": optimizer.state_dict(),
        "config": argparse.Namespace(lr=1e-4, betas=(0.9, 0.99), names={"a", "b"}),
        "counts": collections.Counter("abc"),
        "where": Path("here"),
        "device": torch.device("cpu"),
        "kind": torch.float16,
        "module": torch.nn.Linear(2, 2),
    }
    for form in ("zip", "legacy"):
        assert same(read_adapter(save(content, tmp_path / f"{form}.pth", form)), adapter)


def test_what_is_read_does_not_hang_on_the_file(tmp_path):
    adapter = small_adapter()
    path = save({"model": adapter}, tmp_path / "model.pth")
    got = read_adapter(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert same(got, adapter)
    got["IDE.connector.latents"].zero_()
    assert not path.read_bytes().strip(b"\0")


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    tensor = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    tensor = tensor.to(dtype)
    if shape and draw(st.booleans()):
        tensor = tensor.movedim(0, -1)[1:] if shape[0] > 1 and len(shape) > 1 else tensor[1:]
    return tensor


@tmp_is_reused
@given(state=st.dictionaries(st.text(max_size=20), tensors(), max_size=5), form=st.sampled_from(FORMATS))
def test_any_tensors_come_back_as_they_were_saved(tmp_path, state, form):
    state.pop("__metadata__", None)
    content = (
        {name: tensor.contiguous() for name, tensor in state.items()} if form == "safetensors" else state
    )
    got = read_state_dict(save(content, tmp_path / "any", form), lambda name: True)
    assert same(got, content)
    assert all(tensor.is_contiguous() for tensor in got.values())


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_counted_is_not_cast(tmp_path, form):
    state = {"w": torch.rand(3), "steps": torch.tensor([2**40 + 1]), "seen": torch.tensor([True, False])}
    got = read_state_dict(save(state, tmp_path / "any", form), lambda name: True, torch.float16)
    assert same(got, state | {"w": state["w"].half()})


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_every_pickle_protocol(tmp_path, form, protocol):
    adapter = small_adapter()
    torch.save(
        {"model": adapter},
        tmp_path / "model.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=form == "zip",
    )
    assert same(read_adapter(tmp_path / "model.pth"), adapter)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_reads_types_that_torch_saves_in_a_way_of_their_own(tmp_path, form):
    state = {
        "f8": torch.linspace(-3, 3, 7).to(torch.float8_e4m3fn),
        "shared": torch.arange(6.0).view(2, 3).T,
    }
    state["same memory"] = state["shared"][1:]
    state["wide, behind others"] = torch.arange(9, dtype=torch.int32).to(torch.uint16)[3:]
    state["attribute"] = torch.nn.Parameter(torch.ones(2))
    state["attribute"].note = "kept on the tensor by whoever trained it"
    state["attribute of a plain one"] = torch.ones(3)
    state["attribute of a plain one"].note = "kept"
    assert same(read_state_dict(save(state, tmp_path / "model", form), lambda name: True), state)


@pytest.mark.parametrize(
    "form, dtype",
    [
        (form, dtype)
        for form in FORMATS
        for dtype in pickles.DTYPES.values()
        if form != "safetensors" or not (dtype.is_complex or "fnuz" in str(dtype))
    ],
    ids=str,
)
def test_every_type_of_numbers_is_read(tmp_path, form, dtype):
    state = {"x": torch.tensor([1, 0, 3, 100]).to(dtype)}
    assert same(read_state_dict(save(state, tmp_path / "any", form), lambda name: True), state)


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_tensor_is_cast_too(tmp_path, form):
    path = save({"none": torch.ones(0, 3), "one": torch.ones(1)}, tmp_path / "any", form)
    with open_tensors(path) as tensors:
        got = tensors.read("none", torch.float16)
    assert got.shape == (0, 3) and got.dtype == torch.float16


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_of_500_characters_is_the_longest(tmp_path, form):
    path = save({"x" * 500: torch.ones(2)}, tmp_path / "any", form)
    assert list(open_tensors(path).entries) == ["x" * 500]
    path = save({"x" * 501: torch.ones(2)}, tmp_path / "any", form)
    if form == "safetensors":
        with pytest.raises(ValueError, match="says nothing usable about the tensor 'xxx"):
            open_tensors(path)
    else:
        assert open_tensors(path).entries == {}


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".sft", ".pth", ".pt", ".bin"])
def test_instancediffusions_split_files_may_have_any_suffix_of_tensors(tmp_path, suffix):
    state = {name: torch.zeros(*shape[:1], 1) for name, shape in instance_files.SHAPES.items()}
    paths = instance_files.save_split(tmp_path, state)
    for path in paths[1:]:
        path.rename(path.with_suffix(suffix))
    assert open_adapter(paths[0]).places.keys() == state.keys()


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize(
    "sizes, taken",
    [
        ({"model": 3, "ema": 2}, "model"),
        ({"model": 2, "ema": 2}, "ema"),
        ({"model": 2, "state_dict": 3}, "state_dict"),
        ({"state_dict": 2, "model": 2}, "model"),
        ({"ema": 2, "": 2}, ""),
        ({"model": 3, "optimizer": 5}, "model"),
        ({"model": 2, "": 3}, ""),
        ({"model": 3, "": 2}, "model"),
    ],
    ids=str,
)
def test_of_several_state_dicts_the_largest_is_read(tmp_path, form, sizes, taken):
    states = {
        place: {f"IDE.{number}": torch.full((2,), float(number)) + len(place) for number in range(size)}
        for place, size in sizes.items()
    }
    content = {place: state for place, state in states.items() if place} | states.get("", {})
    assert same(read_adapter(save(content, tmp_path / "model.pth", form)), states[taken])


def test_tensors_in_lists_of_blocks_are_named_by_their_numbers(tmp_path):
    nest = {"blocks": {0: {"w": torch.ones(1)}, 12: {"w": torch.ones(2)}, -1: {"w": torch.ones(3)}}}
    got = read_state_dict(save(nest, tmp_path / "model.pth"), lambda name: True)
    assert same(got, {"blocks.0.w": torch.ones(1), "blocks.12.w": torch.ones(2)})


@pytest.mark.parametrize("protocol", range(6))
def test_plain_objects_are_read_from_any_protocol(protocol):
    again = ["twice"]
    whole = {
        "numbers": [1, -2, 300, 70_000, 2**40, -(2**40), 2**600, 2.5, True, False, None],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ("a", (2, ["b"]))],
        "texts": ["", "a", "ä€\U0001f600", "x" * 300],
        "dicts": [{}, {"one": 1}, {3: {"a": 1, "b": 2}}],
        "again": [again, again, {"more": again}],
        "counted": collections.OrderedDict([("z", 1), ("a", 2)]),
        "made": collections.defaultdict(list, a=[1]),
    }
    if protocol >= 3:
        whole["bytes"] = [b"", b"a", b"x" * 300]
    got = walk_pickle(BytesIO(pickle.dumps(whole, protocol))).value
    assert got == whole and list(got["counted"]) == ["z", "a"]
    assert [type(number) for number in got["numbers"][-3:]] == [bool, bool, type(None)]
    assert got["again"][0] is got["again"][1] is got["again"][2]["more"]


@pytest.mark.parametrize(
    "opcodes, value",
    [
        (b"K\x01K\x022\x87", (1, 2, 2)),
        (b"K\x01K\x020", 1),
        (b"K\x01(K\x02K\x031", 1),
        (b"(K\x01K\x02l", [1, 2]),
        (b"(K\x01K\x02t", (1, 2)),
        (b"(K\x01K\x02K\x03K\x04d", {1: 2, 3: 4}),
        (b"}K\x01K\x02s", {1: 2}),
        (b"}(K\x01K\x02K\x03K\x04u", {1: 2, 3: 4}),
        (b"](K\x01K\x02e", [1, 2]),
        (b"K\x01p5\n0K\x02p6\n0g5\n", 1),
        (b"(K\x01K\x02\x91", Foreign("builtins.frozenset")),
        (b"\x8f(K\x01\x90", Foreign("builtins.set")),
        (b"}(K\x01K\x02\x88K\x03u", {1: 2}),
        (b"}K\x01b", {}),
        (b"Pabc\n", Foreign("a persistent id in text")),
        (b"\x82\x05", Foreign("copyreg extension 5")),
        (b"\x97", Foreign("a buffer outside the pickle")),
        (b"cos\nsystem\n)R", Foreign("os.system")),
        (b"\x8c\x02os\x8c\x06system\x93)R", Foreign("os.system")),
        (b"(K\x01ios\nsystem\n", Foreign("os.system")),
        (b"(cos\nsystem\nK\x01o", Foreign("os.system")),
        (b"cos\nsystem\n)}\x92", Foreign("os.system")),
    ],
    ids=[
        *(
            "dup",
            "pop",
            "pop_mark",
            "list",
            "tuple",
            "dict",
            "setitem",
            "setitems",
            "appends",
            "memo",
            "frozenset",
        ),
        *(
            "set",
            "bool_key",
            "build",
            "persid",
            "extension",
            "buffer",
            "global",
            "stack_global",
            "inst",
            "obj",
        ),
        "newobj_ex",
    ],
)
def test_each_opcode_does_to_the_stack_what_pickle_does(opcodes, value):
    assert walk_pickle(BytesIO(b"\x80\x04" + opcodes + b".")).value == value


# Nothing is executed


def test_the_payload_of_these_tests_is_live(tmp_path):
    path = save({"x": Runs(tmp_path / "marker")}, tmp_path / "model.pth")
    torch.load(path, weights_only=False)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_payload_beside_the_adapter_is_read_around(tmp_path, form):
    adapter, runs = small_adapter(), Runs(tmp_path / "marker")
    content = {
        "first": runs,
        "model": {"a": runs, **adapter, "input_blocks.0.0.weight": runs},
        "list": [runs, {"deep": TensorFromCall(tmp_path / "marker")}],
    }
    assert same(read_adapter(save(content, tmp_path / "model.pth", form)), adapter)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize(
    "content",
    [
        lambda payload, adapter: payload(),
        lambda payload, adapter: {"model": payload()},
        lambda payload, adapter: {"model": {**adapter, "IDE.connector.latents": payload()}},
    ],
    ids=["the whole file", "the model entry", "one tensor"],
)
@pytest.mark.parametrize("kind", [Runs, TensorFromCall], ids=["a call", "a call within a tensor"])
def test_a_payload_in_the_adapter_is_refused_by_name(tmp_path, form, content, kind):
    path = save(content(lambda: kind(tmp_path / "marker"), small_adapter()), tmp_path / "model.pth", form)
    with pytest.raises(ValueError, match=rf"{os.name if os.name == 'nt' else 'posix'}\.system"):
        read_adapter(path)
    assert not (tmp_path / "marker").exists()


def test_a_whole_pickled_model_is_refused_by_name(tmp_path):
    path = save({"model": torch.nn.Linear(2, 2)}, tmp_path / "model.pth")
    with pytest.raises(
        ValueError, match=r"'model' is no state dict but asks for 'torch\.nn\.modules\.linear\.Linear'"
    ):
        read_adapter(path)


SYSTEM = b"cposix\nsystem\n"


@pytest.mark.parametrize(
    "opcodes",
    [
        SYSTEM + b"(S'touch {marker}'\ntR",
        b"(S'touch {marker}'\niposix\nsystem\n",
        b"(" + SYSTEM + b"S'touch {marker}'\no",
        SYSTEM + b"(S'touch {marker}'\nt\x81",
        SYSTEM + b"(S'touch {marker}'\nt}\x92",
        b"\x8c\x05posix\x8c\x06system\x93(S'touch {marker}'\ntR",
        b"\x82\xf0(S'touch {marker}'\ntR",
        b'cbuiltins\neval\n(S\'__import__("os").system("touch {marker}")\'\ntR',
        b"cbuiltins\ngetattr\n(cos\npath\nS'os'\ntR(S'system'\ntR(S'touch {marker}'\ntR",
        b"ctorch\nload\n(S'{marker}'\ntR",
        # State set on what a name stands for: a class, a recipe, a container.
        b"ctorch._utils\n_rebuild_tensor_v2\n}(S'__call__'\n" + SYSTEM + b"ub(S'touch {marker}'\ntR",
        b"ccollections\nOrderedDict\nN}(S'__setstate__'\n" + SYSTEM + b"u\x86b)R}S'touch {marker}'\nb",
        b"ccollections\nOrderedDict\n)R}(S'__class__'\n" + SYSTEM + b"S'items'\n" + SYSTEM + b"ub",
    ],
    ids=[
        "reduce",
        "inst",
        "obj",
        "newobj",
        "newobj_ex",
        "stack_global",
        "extension",
        "eval",
        "getattr",
        "load",
        "build_recipe",
        "build_class",
        "build",
    ],
)
def test_no_opcode_runs_anything(tmp_path, opcodes):
    marker = tmp_path / "marker"
    copyreg.add_extension("posix", "system", 0xF0)
    # Python keeps what an extension code stands for, and then asks nobody before it hands it out.
    copyreg._extension_cache[0xF0] = os.system
    try:
        pickled = b"\x80\x05" + opcodes.replace(b"{marker}", str(marker).encode()) + b"."
        walked = walk_pickle(BytesIO(pickled)).value
    finally:
        copyreg.remove_extension("posix", "system", 0xF0)
        copyreg._extension_cache.pop(0xF0, None)
    assert not marker.exists()
    assert isinstance(walked, (Foreign, dict))
    assert collections.OrderedDict([(1, 2)]) == {1: 2}
    assert walk_pickle(BytesIO(pickle.dumps(collections.OrderedDict(a=1)))).value == {"a": 1}


@pytest.mark.parametrize("opcodes", [b"}(K\x01K\x02K\x03u", b"(K\x01K\x02K\x03d"], ids=["SETITEMS", "DICT"])
def test_a_key_without_a_value_is_damage(opcodes):
    with pytest.raises(ValueError, match="shorter"):
        walk_pickle(BytesIO(b"\x80\x05" + opcodes + b"."))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"Nr\xf0\xff\xff\x7f",
        b"\x96" + struct.pack("<Q", 2**40) + b"x",
        b"\x8e" + struct.pack("<Q", 2**62) + b"x",
        b"\x8b" + struct.pack("<I", 2**31 - 1) + b"x",
        b"N\x85" + b"2\x86" * 100 + b"}\x94h\x00" + b"0" + b"N",
        b"}N\x85" + b"2\x86" * 100 + b"Ns",
        b"(" * 100_000,
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nNK\x01tQK\x00"
        + b"("
        + b"J\xff\xff\xff\x7f" * 50_000
        + b"t\x94h\x00tR",
        b"]\x85" * 20_000,
    ],
    ids=["memo", "bytearray", "bytes", "long", "shared_tuples", "exponential_hash", "marks", "axes", "depth"],
)
def test_a_pickle_made_to_exhaust_memory_or_time_does_neither(opcodes):
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            walk_pickle(BytesIO(b"\x80\x05" + opcodes + b"."))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


# Files that cannot be read


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of a good file in each format."""
    folder = tmp_path_factory.mktemp("whole")
    adapter = {name: tensor for name, tensor in small_adapter().items() if name.startswith(("IDE", "mid"))}
    content = {
        "zip": {"model": adapter, "config": argparse.Namespace(a=[1, {2}])},
        "legacy": {"model": adapter, "config": argparse.Namespace(a=[1, {2}])},
        "safetensors": adapter,
    }
    return {form: save(content[form], folder / form, form).read_bytes() for form in FORMATS}


@settings(tmp_is_reused, max_examples=150)
@given(form=st.sampled_from(FORMATS), kept=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(whole_files, tmp_path, form, kept):
    whole = whole_files[form]
    path = tmp_path / "cut"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=r"cut|download|no tensors|fetch|damaged"):
        read_adapter(path)


@settings(tmp_is_reused, max_examples=300)
@given(
    form=st.sampled_from(FORMATS),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
    ),
    early=st.booleans(),
)
def test_damaged_bytes_give_tensors_or_a_plain_refusal(whole_files, tmp_path, form, changes, early):
    changed = bytearray(whole_files[form])
    for place, byte in changes:
        changed[int(place * (min(len(changed), 3000) if early else len(changed)))] = byte
    path = tmp_path / "damaged"
    path.write_bytes(changed)
    try:
        got = read_adapter(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in got.values())


@tmp_is_reused
@given(
    content=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x20" + b"\0" * 7 + b"{"]),
)
def test_any_bytes_are_refused(tmp_path, content, start):
    path = tmp_path / "bytes"
    path.write_bytes(start + content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as refused:
        read_adapter(path)
    # Says what to do: get it anew, or what to take instead.
    assert re.search(
        r"fetch the file again|Take |save it again|Download the file|cannot be read", str(refused.value)
    )


@pytest.mark.parametrize(
    "content, words",
    [
        (pickle.dumps({"a": 1}), "a pickle that torch.save did not write.*save it again"),
        (b"".join(pickle.dumps(part, 2) for part in (LEGACY, 1002, {"little_endian": True})), "a form of"),
        (b"".join(pickle.dumps(part, 2) for part in (LEGACY, 1001, {"little_endian": False})), "a form of"),
    ],
    ids=["plain", "version", "big_endian"],
)
def test_a_pickle_of_another_make_is_refused(tmp_path, content, words):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.pth is {'in ' if words == 'a form of' else ''}{words}"):
        read_adapter(tmp_path / "model.pth")


def packed(path: Path, changes: dict[str, bytes | None]) -> Path:
    """The archive with some of its members changed, or taken out."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    folder = next(iter(members)).split("/")[0]
    members |= {f"{folder}/{name}": content for name, content in changes.items()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members.items():
            if content is not None:
                target.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"byteorder": b"big"}, "big-endian machine.*save it again"),
        ({"data/1": None}, "lacks storage 1.*fetch the file again"),
        ({"data/1": bytes(11)}, "lacks storage 1.*fetch the file again"),
    ],
    ids=["byte_order", "missing", "short"],
)
def test_an_archive_that_is_not_whole_says_what_it_lacks(tmp_path, changes, words):
    path = save({"IDE.a": torch.ones(2), "IDE.b": torch.ones(3)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"model\.pth.*{words}"):
        open_tensors(packed(path, changes))


@pytest.mark.parametrize(
    "which, at, changed, words",
    [
        ("index", -30, b"XX", "archive is damaged at model/data/0"),
        ("rindex", -46 + 24, struct.pack("<I", 10**6), "archive ends within model/data/0"),
        ("rindex", -46 + 42, struct.pack("<I", 10**6), "archive is damaged at model/data/0"),
    ],
    ids=["header", "size", "offset"],
)
def test_an_archive_whose_list_does_not_fit_is_refused(tmp_path, which, at, changed, words):
    """The name stands in the header of the member itself, and in the archive's list."""
    path = save({"IDE.a": torch.ones(2)}, tmp_path / "model.pth")
    content = bytearray(path.read_bytes())
    start = getattr(content, which)(b"model/data/0") + at
    content[start : start + len(changed)] = changed
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.pth: the {words}.*fetch the file again"):
        open_tensors(path)


@pytest.mark.parametrize("changes", [{"byteorder": None}, {"data/1": bytes(13)}], ids=["older", "longer"])
def test_an_archive_without_what_it_may_lack_is_read(tmp_path, changes):
    path = save({"IDE.a": torch.ones(2), "IDE.b": torch.zeros(3)}, tmp_path / "model.pth")
    got = read_adapter(packed(path, changes))
    assert same(got, {"IDE.a": torch.ones(2), "IDE.b": torch.zeros(3)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*nothing\.pth"):
        read_adapter(tmp_path / "nothing.pth")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\r\n  <html></html>", "web page"),
        (b"GIF89a, not this", r"begins with b'GIF89a, ', which is neither.*fetch the file again"),
    ],
)
def test_what_came_instead_of_the_file_is_said(tmp_path, content, words):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_adapter(tmp_path / "model.pth")


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02"], ids=["as a zip", "as a pickle"])
def test_a_safetensors_whose_length_begins_as_another_format_is_read(tmp_path, start):
    path = save(small_adapter(), tmp_path / "adapter.safetensors", "safetensors")
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    padded = next(n for n in range(length, length + 2**17) if struct.pack("<Q", n).startswith(start))
    path.write_bytes(
        struct.pack("<Q", padded) + content[8 : 8 + length].ljust(padded) + content[8 + length :]
    )
    assert same(read_adapter(path), small_adapter())


def test_a_safetensors_cut_short_says_so(tmp_path):
    path = save(small_adapter(), tmp_path / "adapter.safetensors", "safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut short.*fetch the file again"):
        open_tensors(path)  # by its header, before anything is read


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [0, 2**60], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]},
        {"dtype": "I4", "shape": [8], "data_offsets": [0, 4]},
        [],
    ],
)
def test_a_header_that_says_nonsense_is_refused(tmp_path, entry):
    header = json.dumps({"IDE.x": entry}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(ValueError, match=r"IDE\.x"):
        read_adapter(tmp_path / "x.safetensors")


def test_a_compressed_archive_says_how_to_save_it_again(tmp_path):
    path, packed = save({"model": small_adapter()}, tmp_path / "model.pth"), tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="compressed.*save it again"):
        read_adapter(packed)


def test_a_foreign_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="no data.pkl"):
        read_adapter(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "names, words",
    [
        (
            ["conditioner.embedders.0.x", "model.diffusion_model.input_blocks.0.0.weight"],
            "an SDXL checkpoint",
        ),
        (["model.diffusion_model.input_blocks.0.0.weight"], "a plain Stable Diffusion checkpoint"),
        (["lora_unet_input_blocks_1_1.lora_down.weight"], "a LoRA"),
        (["unet.to_q.lora.up.weight"], "a LoRA"),
        (["unet.to_q.hada_w1_a"], "a LoRA"),
        (["label_emb.0.0.weight", "input_blocks.0.0.weight"], "an SDXL checkpoint"),
        (["model.diffusion_model.joint_blocks.0.x"], "a Flux or SD3 model"),
        (["zero_convs.0.0.weight", "input_blocks.0.0.weight"], "a ControlNet"),
        (["controlnet_cond_embedding.conv_in.weight"], "a ControlNet"),
        (["text_model.encoder.layers.0.x"], "a CLIP text encoder"),
        (["image_proj.norm.weight"], "an IP-Adapter"),
        (["ip_adapter.1.to_k_ip.weight"], "an IP-Adapter"),
        (["down_blocks.0.attentions.0.norm.weight"], "a UNet in the layout of diffusers"),
        (["up_blocks.1.attentions.0.norm.weight"], "a UNet in the layout of diffusers"),
        (["cond_stage_model.x"], "a plain Stable Diffusion checkpoint"),
        (
            [
                "model.diffusion_model.input_blocks.0.0.weight",
                "cond_stage_model.transformer.text_model.encoder.layers.0.layer_norm1.bias",
                "first_stage_model.decoder.conv_in.weight",
            ],
            "looks like a plain Stable Diffusion checkpoint",
        ),
        (["encoder.conv_in.weight"], "a VAE"),
        (["first_stage_model.decoder.conv_in.weight"], "a VAE"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight"], "a T5 text encoder"),
        (["double_blocks.0.img_mod.lin.weight"], "a Flux or SD3 model"),
        (["model.diffusion_model.label_emb.0.0.weight"], "an SDXL checkpoint"),
        (["text_model.encoder.layers.0.lora_linear_layer.up.weight"], "a LoRA"),
        (["transformer.double_blocks.0.img_mod.lin.weight"], "a Flux or SD3 model"),
        (["model.control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["t5.encoder.block.0.layer.0.x"], "a T5 text encoder"),
        (["clip.text_model.encoder.x"], "a CLIP text encoder"),
        (["vae.encoder.conv_in.weight"], "a VAE"),
        (["myconditioner.embedders.0.x", "explora_x", "mycontrol_model.x"], "it has 3 tensors"),
        (["something.else"], r"it has 1 tensors \(something\.else"),
        (
            ["middle_block.1.transformer_blocks.0.fuser.x", "position_net.x"],
            "neither an Instance Detail Extractor.*GLIGEN",
        ),
    ],
)
def test_a_file_without_an_adapter_is_called_what_it_looks_like(tmp_path, names, words):
    content = {name: torch.ones(1) for name in names}
    path = save(content, tmp_path / "x.safetensors", "safetensors")
    with pytest.raises(ValueError, match=f"{words}.*deig_core.files.checkpoint"):
        read_adapter(path)


def test_a_quantised_adapter_is_refused(tmp_path):
    adapter = small_adapter()
    adapter["IDE.connector.latents"] = torch.ones(4, 4, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"IDE\.connector\.latents.*torch\.int8.*quantised"):
        read_adapter(save({"model": adapter}, tmp_path / "model.pth"))


def test_a_file_that_is_an_object_as_a_whole_is_named_as_such(tmp_path):
    path = save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth: the file is no state dict but asks for 'torch\.nn"):
        read_adapter(path)


def test_two_adapters_in_one_file_are_refused(tmp_path):
    adapter = small_adapter()
    content = adapter | {f"ema.{name}": tensor for name, tensor in adapter.items()}
    with pytest.raises(ValueError, match=r"more than one adapter.*'', 'ema\.'"):
        read_adapter(save(content, tmp_path / "model.pth"))


# Writing


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_what_is_written_is_a_safetensors_of_the_adapter_alone(tmp_path, dtype):
    adapter = small_adapter()
    source = save({"model": base_unet() | adapter}, tmp_path / "model.pth")
    target, told = tmp_path / "deig.safetensors", []
    write_adapter(open_adapter(source), target, dtype, lambda done, total: told.append((done, total)))
    expected = {name: tensor.to(dtype or tensor.dtype) for name, tensor in adapter.items()}
    assert same(load_file(target), expected)
    assert same(read_adapter(target), expected)
    assert told == [(done, 409) for done in range(1, 410)]
    with safetensors.safe_open(target, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "what": "DEIG adapter",
            "source": "model.pth",
            "tensors": "409",
        }


@tmp_is_reused
@given(state=st.dictionaries(st.text(max_size=20), tensors(), min_size=1, max_size=5))
def test_any_tensors_are_written_as_safetensors_reads_them(tmp_path, state):
    state.pop("__metadata__", None)
    write_adapter(state, tmp_path / "any.safetensors")
    assert same(load_file(tmp_path / "any.safetensors"), state)


@pytest.mark.parametrize("numbers", [[0.0, 1e6], [-1e6, 0.0], [0.0, float("nan"), 1.0]], ids=str)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, numbers):
    target = tmp_path / "deig.safetensors"
    write_adapter({"IDE.x": torch.ones(3)}, target)
    before = target.read_bytes()
    state = {"IDE.x": torch.ones(3), "IDE.y": torch.tensor(numbers)}
    with pytest.raises(ValueError, match=r"'IDE\.y'.*not finite in torch\.float16.*bf16"):
        write_adapter(state, target, torch.float16)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_numbers_are_written_as_they_are_where_no_type_is_asked_for(tmp_path):
    state = {"IDE.x": torch.tensor([float("nan"), float("inf")])}
    write_adapter(state, tmp_path / "deig.safetensors")
    assert same(load_file(tmp_path / "deig.safetensors"), state)


def test_an_empty_tensor_is_written_in_the_type_asked_for(tmp_path):
    write_adapter({"IDE.x": torch.ones(0, 3)}, tmp_path / "deig.safetensors", torch.float16)
    assert same(load_file(tmp_path / "deig.safetensors"), {"IDE.x": torch.ones(0, 3).half()})


def test_tensors_in_memory_are_written_as_such(tmp_path):
    write_adapter({"IDE.x": torch.ones(3)}, tmp_path / "deig.safetensors")
    with safetensors.safe_open(tmp_path / "deig.safetensors", "pt") as file:
        assert file.metadata()["source"] == "tensors in memory" and file.metadata()["what"] == "DEIG adapter"


def test_each_tensor_begins_at_a_multiple_of_its_element_size(tmp_path):
    """As whoever maps the file needs it."""
    for length in range(1, 9):
        state = {
            "x" * length: torch.ones(3, dtype=torch.uint8),
            "half": torch.ones(3).half(),
            "wide": torch.ones(1, dtype=torch.float64),
            "usual": torch.ones(1),
        }
        write_adapter(state, tmp_path / "deig.safetensors")
        for window in open_tensors(tmp_path / "deig.safetensors").entries.values():
            assert window.position % window.dtype.itemsize == 0


def test_a_folder_that_has_the_name_is_left_alone(tmp_path):
    (tmp_path / "deig.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"deig\.safetensors cannot be written \(.*0 MB are needed"):
        write_adapter({"IDE.x": torch.ones(3)}, tmp_path / "deig.safetensors")
    assert list(tmp_path.iterdir()) == [tmp_path / "deig.safetensors"]


def test_a_target_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must end so"):
        write_adapter({}, tmp_path / "deig.pth")
    with pytest.raises(ValueError, match="no folder"):
        write_adapter({}, tmp_path / "none" / "deig.safetensors")


# The command


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "deig_core.files.checkpoint", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def test_the_command_converts_and_says_what_it_kept(tmp_path):
    adapter = small_adapter()
    source = save({"model": base_unet() | adapter}, tmp_path / "model.pth")
    target = tmp_path / "deig.safetensors"
    done = command(source, target, "--dtype", "fp16")
    assert done.returncode == 0, done.stderr
    assert "409/409" in done.stderr
    last = done.stdout.splitlines()[-1]
    parameters, size = sum(tensor.numel() for tensor in adapter.values()) / 1e6, target.stat().st_size / 1e6
    assert last == f"Kept 409 of 412 tensors, {parameters:.1f} M parameters, {size:.1f} MB, float16: {target}"
    assert same(load_file(target), {name: tensor.half() for name, tensor in adapter.items()})


def test_the_command_says_how_much_it_kept_and_in_which_types(tmp_path):
    content = {
        "IDE.x": torch.zeros(1500, 1000),
        "IDE.y": torch.zeros(700, 1000).half(),
        "out.x": torch.ones(1),
    }
    content |= {"IDE.z": torch.zeros(1).bfloat16(), "IDE.w": torch.zeros(1).double()}
    target = tmp_path / "deig.safetensors"
    said = main([str(save(content, tmp_path / "model.pth")), str(target)])
    kinds = "bfloat16 and float16 and float32 and float64"
    assert said == f"Kept 4 of 5 tensors, 2.2 M parameters, 7.4 MB, {kinds}: {target}"


def test_the_command_does_not_replace_a_file_unasked(tmp_path):
    source = save({"model": small_adapter()}, tmp_path / "model.pth")
    target = tmp_path / "deig.safetensors"
    target.write_text("mine")
    with pytest.raises(ValueError, match="--force"):
        main([str(source), str(target)])
    assert target.read_text() == "mine"
    main([str(source), str(target), "--force"])
    assert same(load_file(target), small_adapter())


def test_the_command_fails_in_plain_words(tmp_path):
    done = command(tmp_path / "nothing.pth", tmp_path / "deig.safetensors")
    assert done.returncode == 1
    assert "There is no file" in done.stderr and "Traceback" not in done.stderr


# Memory

PEAK = """
import sys, torch
from deig_core.files.checkpoint import main, read_adapter
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
main([*sys.argv[1:], "--dtype", "fp16"])
converted = peak()
tensors = read_adapter(sys.argv[1], torch.float16)
print(converted - before, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_memory_is_the_adapters_own_and_not_the_files(tmp_path, form):
    # 400 MB of UNet, 200 MB of adapter that become 100 MB; bench/checkpoint_memory.py does it at full size.
    unet = {f"input_blocks.{i}.0.weight": torch.ones(25, 1_000_000) for i in range(4)}
    adapter = {f"IDE.layer.{i}.weight": torch.ones(5, 1_000_000) for i in range(10)}
    path = save(unet | adapter, tmp_path / "model.pth", form)
    del unet, adapter
    line = [sys.executable, "-c", PEAK, str(path), str(tmp_path / "deig.safetensors")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    converting, reading = map(float, done.stdout.splitlines()[-1].split())
    assert converting < 100
    assert reading < 100 + 100
