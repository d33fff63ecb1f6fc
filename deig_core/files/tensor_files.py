"""Files of tensors: where each tensor lies, and reading one at a time.

Three formats come down to the same description, a window of bytes per tensor: safetensors, torch.save's zip
archive, and torch.save's older bare pickles. Reading maps one window, copies it out and lets it go, so a file
of any size costs no more memory than the tensors that were asked for.
"""

import json
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .pickles import DTYPES, MOST_AXES, Foreign, StorageRef, TensorRef, Walked, walk_pickle

SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
# The limit that the safetensors library sets itself.
_LONGEST_HEADER = 100_000_000

# zipfile lets several of its parts' own errors through when an archive is damaged.
_ZIP_ERRORS = (zipfile.BadZipFile, struct.error, NotImplementedError, OverflowError, ValueError, OSError)

# What torch.save wrote before 1.6: this number, 1001, a description of the machine, the object, the keys of
# the storages, then each storage as an element count and its bytes.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_DOWNLOAD_AGAIN = "The download was probably cut short; fetch the file again and compare its size."
_SAVE_AGAIN = "Where you trust it, load it with torch and save it again as safetensors."


@dataclass(frozen=True)
class Window:
    """Where one tensor lies: `position` in bytes from the start of the file, `stride` in elements."""

    position: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class TensorFile:
    """The tensors of one file by name. A name may hold a `Foreign`: something that is no tensor.

    Args:
        entries: name -> where the tensor lies, in the file's own order.
        around: what stands beside or in place of the state dict and is neither tensor nor container, by
            where it stands, for example `model`.
    """

    path: Path
    entries: dict[str, Window | Foreign]
    around: dict[str, Foreign]

    def window(self, name: str) -> Window:
        """Raises ValueError where the entry is no tensor, naming what the file asked for instead."""
        entry = self.entries[name]
        if isinstance(entry, Foreign):
            raise ValueError(
                f"{self.path}: the entry {name!r} is no plain tensor but asks for {entry.name!r}. Nothing in "
                "the file was run. Take the file from its original source, or save it again as safetensors."
            )
        return entry

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One tensor, copied out of the file, contiguous, in `dtype` if one is given."""
        window = self.window(name)
        if not window.count:
            return torch.empty(window.shape, dtype=dtype or window.dtype)
        with self.path.open("rb") as file:
            return _view(file, window).to(
                dtype or window.dtype, copy=True, memory_format=torch.contiguous_format
            )


def open_tensors(path: str | Path) -> TensorFile:
    """Find out which tensors a file has and where they lie; reads none of them.

    Raises:
        ValueError: for a missing, truncated, damaged or unknown file, saying what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}. Check the name and the folder.")
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(0)
        # First, since the length that a safetensors file begins with may look like either of the others.
        if start[8:9] == b"{":
            return TensorFile(path, _safetensors_entries(path, file), {})
        if start[:2] == b"PK":
            return _open_zip(path, file)
        if start[:1] == b"\x80":
            return _open_legacy(path, file)
    raise ValueError(f"{path} holds no tensors that can be read: {_what_it_may_be(start)}")


def read_state_dict(
    path: str | Path, wanted: Callable[[str], bool], dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """The tensors whose names `wanted` picks, from safetensors or from what torch.save wrote.

    Args:
        dtype: what floating-point tensors are cast to; others stay as they are. None keeps the file's own.
    """
    tensors = open_tensors(path)
    names = [name for name in tensors.entries if wanted(name)]
    return {name: tensors.read(name, cast_of(tensors, name, dtype)) for name in names}


def cast_of(tensors: TensorFile, name: str, dtype: torch.dtype | None) -> torch.dtype:
    """The type in which a tensor is to be read: `dtype` for floating-point ones, else the file's own."""
    own = tensors.window(name).dtype
    return dtype if dtype is not None and own.is_floating_point else own


def _view(file: BinaryIO, window: Window) -> torch.Tensor:
    """The tensor as it lies in the file, over memory that goes back to the system when the tensor goes."""
    reach = 1 + sum((size - 1) * step for size, step in zip(window.shape, window.stride, strict=True))
    length = reach * window.dtype.itemsize
    shift = window.position % mmap.ALLOCATIONGRANULARITY
    if shift % window.dtype.itemsize:
        # torch wants its numbers aligned, and the older format of torch.save does not care.
        memory, shift = mmap.mmap(-1, length), 0
        file.seek(window.position)
        file.readinto(memory)
    else:
        # A private mapping, which torch may take for writable; the file itself is never written.
        memory = mmap.mmap(
            file.fileno(), shift + length, access=mmap.ACCESS_COPY, offset=window.position - shift
        )
    raw = torch.frombuffer(memory, dtype=torch.uint8)[shift:]
    return raw.view(window.dtype).as_strided(window.shape, window.stride)


def _what_it_may_be(start: bytes) -> str:
    if start.startswith(b"version https://"):
        return "it is a Git LFS pointer. Download the file itself, for example with `git lfs pull`."
    if start.lstrip()[:1] == b"<":
        return "it is a web page. Download the file itself, not the page that shows it."
    known = "neither safetensors nor what torch.save writes"
    return f"it begins with {start[:8]!r}, which is {known}. {_DOWNLOAD_AGAIN}"


# safetensors: 8 bytes with the header's length, the header in JSON, the data.


def _safetensors_entries(path: Path, file: BinaryIO) -> dict[str, Window | Foreign]:
    size = path.stat().st_size
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"{path}: the header of the safetensors file is not whole. {_DOWNLOAD_AGAIN}")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header of the safetensors file cannot be read ({error}).") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header of the safetensors file is no table of tensors.")
    header.pop("__metadata__", None)
    return {name: _safetensors_window(path, name, entry, 8 + length, size) for name, entry in header.items()}


def _safetensors_window(path: Path, name: str, entry: Any, data: int, size: int) -> Window | Foreign:
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if len(
            shape
        ) <= MOST_AXES and all(type(side) is int and 0 <= side < 2**48 for side in shape):
            pass
        case _:
            raise ValueError(f"{path}: the header says nothing usable about the tensor {name!r}.")
    dtype = DTYPES.get(SAFETENSORS_DTYPES.get(kind, ""))
    if dtype is None:
        return Foreign(f"the safetensors type {kind}")
    if begin < 0 or end - begin != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{path}: {kind} {shape} of the tensor {name!r} does not fit in {end - begin} bytes."
        )
    if data + end > size:
        raise ValueError(
            f"{path} is cut short: the tensor {name!r} ends at byte {data + end}, the file at {size}. "
            f"{_DOWNLOAD_AGAIN}"
        )
    return Window(data + begin, dtype, tuple(shape), _contiguous(shape))


def _contiguous(shape: list[int]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


# torch.save since 1.6: a zip archive, nothing compressed: NAME/data.pkl, NAME/data/KEY for each storage.


def _open_zip(path: Path, file: BinaryIO) -> TensorFile:
    try:
        members = {info.filename: info for info in zipfile.ZipFile(file).infolist()}
    except _ZIP_ERRORS as error:
        raise ValueError(f"{path}: the archive cannot be read ({error}). {_DOWNLOAD_AGAIN}") from error
    pickle_name = next((name for name in members if re.fullmatch("[^/]+/data.pkl", name)), None)
    if pickle_name is None:
        raise ValueError(f"{path} is a zip archive that torch.save did not write: it has no data.pkl in it.")
    folder = pickle_name.removesuffix("data.pkl")
    _check_byte_order(path, file, members.get(f"{folder}byteorder"))
    contents = _walk(path, BytesIO(_member_bytes(path, file, members[pickle_name])))

    def position_of(storage: StorageRef) -> int:
        info = members.get(f"{folder}data/{storage.key}")
        if info is None or info.file_size < storage.count * storage.dtype.itemsize:
            raise ValueError(f"{path}: the archive lacks storage {storage.key}. {_DOWNLOAD_AGAIN}")
        return _member_position(path, file, info)

    return _place(path, contents.value, position_of)


def _member_position(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin. The local header repeats the name and may have other extra fields."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(
            f"{path}: {info.filename} is compressed or encrypted within the archive, as torch.save never "
            f"leaves it. {_SAVE_AGAIN}"
        )
    size = path.stat().st_size
    # zipfile works the offset out from what the file says of itself, so it may be anything.
    inside = 0 <= info.header_offset < size
    file.seek(info.header_offset if inside else size)
    local = file.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise ValueError(f"{path}: the archive is damaged at {info.filename}. {_DOWNLOAD_AGAIN}")
    position = info.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))
    if position + info.file_size > size:
        raise ValueError(f"{path}: the archive ends within {info.filename}. {_DOWNLOAD_AGAIN}")
    return position


def _member_bytes(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    file.seek(_member_position(path, file, info))
    return file.read(info.file_size)


def _check_byte_order(path: Path, file: BinaryIO, info: zipfile.ZipInfo | None):
    if info is not None and _member_bytes(path, file, info) != b"little":
        raise ValueError(f"{path} was written on a big-endian machine. {_SAVE_AGAIN}")


# torch.save before 1.6


def _open_legacy(path: Path, file: BinaryIO) -> TensorFile:
    # Mapped, so that a length given in the pickle can never ask for more than the file has.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if _walk(path, mapped).value != _LEGACY_MAGIC:
            raise ValueError(f"{path} is a pickle that torch.save did not write. {_SAVE_AGAIN}")
        match (_walk(path, mapped).value, _walk(path, mapped).value):
            case (1001, {"little_endian": True}):
                pass
            case _:
                raise ValueError(f"{path} is in a form of torch.save that is not read here. {_SAVE_AGAIN}")
        contents, keys = _walk(path, mapped), _walk(path, mapped).value
        positions = _legacy_positions(path, mapped, keys, contents.storages)
    return _place(path, contents.value, lambda storage: positions[storage.key])


def _legacy_positions(
    path: Path, mapped: mmap.mmap, keys: Any, storages: dict[str, StorageRef]
) -> dict[str, int]:
    """Where each storage's numbers begin: they follow one another, each behind its element count."""
    if not isinstance(keys, list) or set(storages) - {key for key in keys if isinstance(key, str)}:
        raise ValueError(f"{path}: the list of storages does not fit the tensors. {_DOWNLOAD_AGAIN}")
    positions, position = {}, mapped.tell()
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        count = int.from_bytes(mapped[position : position + 8], "little")
        if storage is None or count < storage.count:
            raise ValueError(f"{path}: the storages in it do not fit what is said of them. {_DOWNLOAD_AGAIN}")
        positions[key] = position + 8
        position += 8 + count * storage.dtype.itemsize
        if position > len(mapped):
            raise ValueError(f"{path} is cut short within the storage {key}. {_DOWNLOAD_AGAIN}")
    return positions


def _walk(path: Path, file: BinaryIO | mmap.mmap) -> Walked:
    try:
        return walk_pickle(file)
    except ValueError as error:
        raise ValueError(f"{path}: the pickle in it cannot be read ({error}). {_DOWNLOAD_AGAIN}") from error


# What both forms of torch.save hold


def _place(path: Path, contents: Any, position_of: Callable[[StorageRef], int]) -> TensorFile:
    def placed(value: TensorRef | Foreign) -> Window | Foreign:
        if isinstance(value, Foreign):
            return value
        position = position_of(value.storage) + value.offset * value.dtype.itemsize
        return Window(position, value.dtype, value.shape, value.stride)

    nests = {"": contents}
    if isinstance(contents, dict):
        nests |= {name: contents[name] for name in ("model", "state_dict") if name in contents}
    tables = [_tensors_of(nest) for nest in nests.values() if isinstance(nest, dict)]
    state_dict = max(tables, key=len, default={})
    around = {name: nest for name, nest in nests.items() if isinstance(nest, Foreign)}
    return TensorFile(path, {name: placed(value) for name, value in state_dict.items()}, around)


def _tensors_of(nest: dict) -> dict[str, TensorRef | Foreign]:
    return {
        name: value
        for name, value in nest.items()
        if isinstance(name, str) and isinstance(value, (TensorRef, Foreign))
    }


# Writing


def write_safetensors(
    destination: Path,
    layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    read: Callable[[str], torch.Tensor],
    metadata: Mapping[str, str],
):
    """Write a safetensors file tensor by tensor. It takes its name only once it is whole.

    Args:
        layout: name -> type and shape of each tensor.
        read: gives the tensor of that name, in that type and shape, when its turn comes.
    """
    kinds = {DTYPES[name]: kind for kind, name in SAFETENSORS_DTYPES.items() if name in DTYPES}
    # The widest first, so that each tensor begins at a multiple of its element size.
    names = sorted(layout, key=lambda name: -layout[name][0].itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        dtype, shape = layout[name]
        begin, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": kinds[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            for name in names:
                tensor = read(name)
                assert (tensor.dtype, tuple(tensor.shape)) == layout[name]
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
