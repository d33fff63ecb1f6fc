"""What torch.save writes: since 1.6 a zip archive, before it bare pickles one after the other.

Not read with torch.load. Measured with 2.11: `weights_only=True, mmap=True` refuses bare pickles and whatever holds
an object that torch does not know, as InstanceDiffusion's checkpoint does; a file that shrinks while it is mapped
ends the process (SIGBUS); and before torch 2.6 `weights_only` could be made to run code (CVE-2025-32434), while
the host asks for no version.
"""

import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from .pickles import Foreign, StorageRef, TensorRef, Walked, walk_pickle
from .windows import DOWNLOAD_AGAIN, LONGEST_NAME, SAVE_AGAIN, OpenFile, Window, cut

Entries = dict[str, Window | Foreign]
Around = dict[str, Foreign]

# zipfile lets several of its parts' own errors through when an archive is damaged.
_ZIP_ERRORS = (zipfile.BadZipFile, struct.error, NotImplementedError, OverflowError, ValueError, OSError)
# Of an archive's list of members, which zipfile reads whole: room for 50,000 tensors.
_LONGEST_LIST = 8 * 2**20

# How many dicts may lie in one another around a tensor.
_DEEPEST = 8

# What torch.save wrote before 1.6: this number, 1001, a description of the machine, the object, the keys of
# the storages, then each storage as an element count and its bytes.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class _Stream:
    """An open file as what reads a stream wants it, one read never longer than `longest`."""

    def __init__(self, opened: OpenFile, longest: int):
        self.opened = opened
        self.longest = longest

    def read(self, count: int = -1) -> bytes:
        position = self.tell()
        count = self.opened.size - position if count is None or count < 0 else count
        if count > self.longest:
            raise ValueError(f"a part of it is {count} bytes long, and at most {self.longest} are read")
        return self.opened.read(position, count)

    def readline(self, longest: int) -> bytes:
        return self.opened.file.readline(longest)

    def seek(self, position: int, whence: int = 0) -> int:
        return self.opened.file.seek(position, whence)

    def tell(self) -> int:
        return self.opened.file.tell()

    def seekable(self) -> bool:
        return True


# Since 1.6: nothing compressed, NAME/data.pkl, NAME/data/KEY for each storage.


def zip_entries(opened: OpenFile, part: str | None = None) -> tuple[Entries, Around]:
    """Return where each tensor of torch.save's archive lies, and what is around them.

    Args:
        part: as for `open_tensors`.

    Raises:
        ValueError: for an archive that is damaged, or of another make.
    """
    path = opened.path
    try:
        archive = zipfile.ZipFile(_Stream(opened, _LONGEST_LIST))
        members = {info.filename: info for info in archive.infolist()}
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"{path}: the archive cannot be read ({cut(error, 200)}). {DOWNLOAD_AGAIN}"
        ) from error
    pickle_name = next((name for name in members if re.fullmatch("[^/]+/data[.]pkl", name)), None)
    if pickle_name is None:
        raise ValueError(f"{path} is a zip archive that torch.save did not write: it has no data.pkl in it.")
    folder = pickle_name.removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order and opened.read(_member_position(opened, order), 6) != b"little":
        raise ValueError(f"{path} was written on a big-endian machine. {SAVE_AGAIN}")
    stream = _Stream(opened, opened.size)
    stream.seek(_member_position(opened, members[pickle_name]))
    contents = _walk(opened, stream)

    def position_of(storage: StorageRef) -> int:
        info = members.get(f"{folder}data/{storage.key}")
        if info is None or info.file_size < storage.count * storage.dtype.itemsize:
            raise ValueError(f"{path}: the archive lacks storage {storage.key[:80]}. {DOWNLOAD_AGAIN}")
        return _member_position(opened, info)

    return _placed(contents.value, part, position_of)


def _member_position(opened: OpenFile, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin. The local header repeats the name and may have other extra fields."""
    path, name = opened.path, info.filename[:80]
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(
            f"{path}: {name} is compressed or encrypted within the archive, as torch.save never leaves it. "
            f"{SAVE_AGAIN}"
        )
    # zipfile works the offset out from what the file says of itself, so it may be anything.
    inside = 0 <= info.header_offset < opened.size
    local = opened.read(info.header_offset, 30) if inside else b""
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise ValueError(f"{path}: the archive is damaged at {name}. {DOWNLOAD_AGAIN}")
    position = info.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))
    if position + info.file_size > opened.size:
        raise ValueError(f"{path}: the archive ends within {name}. {DOWNLOAD_AGAIN}")
    return position


# Before 1.6


def legacy_entries(opened: OpenFile, part: str | None = None) -> tuple[Entries, Around]:
    """Return where each tensor of torch.save's bare pickles lies, and what is around them.

    Args:
        part: as for `open_tensors`.

    Raises:
        ValueError: for a file that is damaged, or of another make.
    """
    path = opened.path
    stream = _Stream(opened, opened.size)
    stream.seek(0)
    if _walk(opened, stream).value != _LEGACY_MAGIC:
        raise ValueError(f"{path} is a pickle that torch.save did not write. {SAVE_AGAIN}")
    match (_walk(opened, stream).value, _walk(opened, stream).value):
        case (1001, {"little_endian": True}):
            pass
        case _:
            raise ValueError(f"{path} is in a form of torch.save that is not read here. {SAVE_AGAIN}")
    contents, keys = _walk(opened, stream), _walk(opened, stream).value
    positions = _legacy_positions(opened, stream.tell(), keys, contents.storages)
    return _placed(contents.value, part, lambda storage: positions[storage.key])


def _legacy_positions(
    opened: OpenFile, position: int, keys: Any, storages: dict[str, StorageRef]
) -> dict[str, int]:
    """Where each storage's numbers begin: they follow one another, each behind its element count."""
    path = opened.path
    if not isinstance(keys, list) or set(storages) - {key for key in keys if isinstance(key, str)}:
        raise ValueError(f"{path}: the list of storages does not fit the tensors. {DOWNLOAD_AGAIN}")
    positions = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        count = int.from_bytes(opened.read(position, 8), "little")
        if storage is None or count < storage.count:
            raise ValueError(f"{path}: the storages in it do not fit what is said of them. {DOWNLOAD_AGAIN}")
        positions[key] = position + 8
        position += 8 + count * storage.dtype.itemsize
        if position > opened.size:
            raise ValueError(f"{path} is cut short within the storage {key[:80]}. {DOWNLOAD_AGAIN}")
    return positions


def _walk(opened: OpenFile, stream: _Stream) -> Walked:
    try:
        return walk_pickle(stream)
    except ValueError as error:
        raise ValueError(
            f"{opened.path}: the pickle in it cannot be read ({cut(error, 200)}). {DOWNLOAD_AGAIN}"
        ) from error


# What both forms hold


def _placed(
    contents: Any, part: str | None, position_of: Callable[[StorageRef], int]
) -> tuple[Entries, Around]:
    def placed(value: TensorRef | Foreign) -> Window | Foreign:
        if isinstance(value, Foreign):
            return value
        position = position_of(value.storage) + value.offset * value.dtype.itemsize
        return Window(position, value.dtype, value.shape, value.stride)

    if part is not None:
        contents = contents.get(part, {}) if isinstance(contents, dict) else {}
    nests = {"": contents}
    if part is None and isinstance(contents, dict):
        # Of two of one size the first: what training averaged goes before its last step.
        nests |= {name: contents[name] for name in ("ema", "model", "state_dict") if name in contents}
    tables = [_tensors_of(nest) for nest in nests.values() if isinstance(nest, dict)]
    state_dict = max(tables, key=len, default={}) or dict(_nested_tensors(contents))
    around = {name: nest for name, nest in nests.items() if isinstance(nest, Foreign)}
    return {name: placed(value) for name, value in state_dict.items()}, around


def _tensors_of(nest: dict) -> dict[str, TensorRef | Foreign]:
    return {
        name: value
        for name, value in nest.items()
        if isinstance(name, str) and len(name) <= LONGEST_NAME and isinstance(value, (TensorRef, Foreign))
    }


def _nested_tensors(
    nest: Any, path: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, TensorRef]]:
    """Find tensors in dicts within dicts, in order, each dict once; their names are joined by dots."""
    seen = set() if seen is None else seen
    if not isinstance(nest, dict) or id(nest) in seen or path.count(".") > _DEEPEST:
        return
    seen.add(id(nest))
    for name, value in nest.items():
        if not (isinstance(name, str) and len(name) <= LONGEST_NAME or type(name) is int and 0 <= name < 1e6):
            continue
        if isinstance(value, TensorRef):
            yield f"{path}{name}", value
        else:
            yield from _nested_tensors(value, f"{path}{name}.", seen)
