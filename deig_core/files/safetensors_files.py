"""Safetensors: 8 bytes with the header's length, the header in JSON, the data.

Not read with the safetensors library, which maps the file. Measured with `safe_open` of 0.8.0: a file that shrinks
while it is read ends the process (SIGBUS) where here it is an error in words; 400 MB out of a file of 1.6 GB take
770 MB at their peak, since the mapped pages count, where here they take 407; a header of 1.6 million names takes 40 s
and 1 GB where here it is refused. Nor is it written with the library, which wants all tensors at once, not one.
"""

import json
import os
import struct
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from .pickles import DTYPES, Foreign
from .windows import DOWNLOAD_AGAIN, LONGEST_NAME, OpenFile, Window, cut, is_shape, shown

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
# Room for 60,000 tensors. JSON read whole takes up to 30 times its length.
LONGEST_HEADER = 8 * 2**20


def safetensors_entries(opened: OpenFile) -> dict[str, Window | Foreign]:
    """Return where each tensor lies, in the order of the header.

    Raises:
        ValueError: for a header that is cut, too long, no JSON, or says of tensors what cannot be.
    """
    path = opened.path
    (length,) = struct.unpack("<Q", opened.read(0, 8))
    if length > opened.size - 8:
        raise ValueError(f"{path}: the header of the safetensors file is not whole. {DOWNLOAD_AGAIN}")
    if length > LONGEST_HEADER:
        raise ValueError(
            f"{path}: the header of the safetensors file is {length / 2**20:.0f} MiB long, and at most "
            f"{LONGEST_HEADER // 2**20} are read. No adapter or text encoder has so many tensors."
        )
    try:
        header = json.loads(opened.read(8, length))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: the header of the safetensors file cannot be read ({cut(error, 200)})."
        ) from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header of the safetensors file is no table of tensors.")
    header.pop("__metadata__", None)
    entries = {name: _window(opened, name, entry, 8 + length) for name, entry in header.items()}
    _check_apart(path, entries)
    return entries


def _window(opened: OpenFile, name: str, entry: Any, data: int) -> Window | Foreign:
    path = opened.path
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if (
            is_shape(shape) and len(name) <= LONGEST_NAME
        ):
            pass
        case _:
            raise ValueError(f"{path}: the header says nothing usable about the tensor {shown(name)}.")
    dtype = DTYPES.get(SAFETENSORS_DTYPES.get(kind, ""))
    if dtype is None:
        return Foreign(f"the safetensors type {kind[:20]}")
    if begin < 0 or end - begin != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{path}: {kind} {shape} of the tensor {shown(name)} does not fit in {end - begin} bytes."
        )
    if data + end > opened.size:
        raise ValueError(
            f"{path} is cut short: the tensor {shown(name)} ends at byte {data + end}, the file at {opened.size}. "
            f"{DOWNLOAD_AGAIN}"
        )
    return Window(data + begin, dtype, tuple(shape), _contiguous(shape))


def _contiguous(shape: list[int]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _check_apart(path: Path, entries: Mapping[str, Window | Foreign]):
    """A few megabytes under many names would be read once for each."""
    end = 0
    spans = [
        (entry.position, entry.reach, name) for name, entry in entries.items() if isinstance(entry, Window)
    ]
    for position, length, name in sorted(spans):
        if length and position < end:
            raise ValueError(
                f"{path}: the tensor {shown(name)} lies over another one, as safetensors never have it. "
                "Take the file from its original source."
            )
        end = max(end, position + length)


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

    Raises:
        ValueError: where the disk is full, or nothing may be written.
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
    except OSError as error:
        raise ValueError(
            f"{destination} cannot be written ({error.strerror}). {end / 1e6:.0f} MB are needed there; what was "
            "written of it is taken away again, and a file that had the name is as it was."
        ) from error
    finally:
        part.unlink(missing_ok=True)
