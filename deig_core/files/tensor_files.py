"""Files of tensors: where each tensor lies, and reading one at a time.

Three formats come down to the same description, a window of bytes per tensor: safetensors, torch.save's zip
archive, and torch.save's older bare pickles. Reading copies one window, so a file of any size costs no more memory
than the tensors that were asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .pickles import Foreign
from .safetensors_files import safetensors_entries, write_safetensors
from .torch_files import legacy_entries, zip_entries
from .windows import DOWNLOAD_AGAIN, OpenFile, Window, shown

__all__ = [
    "TensorFile",
    "Window",
    "cast_of",
    "open_tensors",
    "read_state_dict",
    "write_safetensors",
]

# What the tensors that are read may take beyond the file's own size: tensors that share their numbers, or
# repeat them, are read each by itself.
_BEYOND_THE_FILE = 256 * 2**20


@dataclass(frozen=True)
class TensorFile:
    """The tensors of one open file by name. A name may hold a `Foreign`: something that is no tensor.

    The file is closed when this is let go, or by `with`.

    Args:
        opened: the file.
        entries: name -> where the tensor lies, in the file's own order.
        around: what stands beside or in place of the state dict and is neither tensor nor container, by
            where it stands, for example `model`.
    """

    opened: OpenFile
    entries: dict[str, Window | Foreign]
    around: dict[str, Foreign]
    _read: set[str] = field(default_factory=set, repr=False)

    @property
    def path(self) -> Path:
        return self.opened.path

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, *_):
        self.opened.close()

    def window(self, name: str) -> Window:
        """Raises ValueError where the entry is no tensor, naming what the file asked for instead."""
        entry = self.entries[name]
        if isinstance(entry, Foreign):
            raise ValueError(
                f"{self.path}: the entry {shown(name)} is no plain tensor but asks for {shown(entry.name)}. Nothing "
                "in the file was run. Take the file from its original source, or save it again as safetensors."
            )
        return entry

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Read one tensor, copied out of the file, contiguous, in `dtype` if one is given.

        Raises:
            ValueError: where the entry is no tensor, the file changed since it was opened, or what was read from it
                comes to much more than it holds.
        """
        window = self.window(name)
        self._account(name, window, dtype or window.dtype)
        if not window.count:
            return torch.empty(window.shape, dtype=dtype or window.dtype)
        cast = dtype is not None and dtype != window.dtype
        numbers = self.opened.read_numbers(window.position, window.reach, passing=cast).view(window.dtype)
        # In this order: a change of type keeps the order of axes in memory.
        return numbers.as_strided(window.shape, window.stride).to(dtype or window.dtype).contiguous()

    def _account(self, name: str, window: Window, dtype: torch.dtype):
        if name in self._read:
            return
        self._read.add(name)
        self.opened.taken += window.count * window.dtype.itemsize
        # What is asked for in a wider type may take as many times the file's size; what is repeated may not.
        wider = max(dtype.itemsize / window.dtype.itemsize, 1)
        if (self.opened.taken - self.opened.size) * wider > _BEYOND_THE_FILE:
            raise ValueError(
                f"{self.path} has {self.opened.size / 1e6:.1f} MB, but its tensors as far as {shown(name)} come to "
                f"{self.opened.taken * wider / 1e6:.0f} MB, since they repeat their numbers. No adapter or text "
                "encoder does so; take the file from its original source."
            )


def open_tensors(path: str | Path, part: str | None = None) -> TensorFile:
    """Find out which tensors a file has and where they lie; reads none of them.

    Args:
        part: of what torch.save wrote, the entry whose tensors are meant, none where it is not there; None: its
            largest state dict. A safetensors file has no parts.

    Raises:
        ValueError: for a missing, truncated, damaged or unknown file, saying what to do.
    """
    opened = OpenFile(Path(path))
    try:
        return TensorFile(opened, *_entries(opened, part))
    except BaseException:
        opened.close()
        raise


def _entries(opened: OpenFile, part: str | None) -> tuple[dict[str, Window | Foreign], dict[str, Foreign]]:
    start = opened.read(0, 16)
    # First, since the length that a safetensors file begins with may look like either of the others.
    if start[8:9] == b"{":
        return ({} if part else safetensors_entries(opened)), {}
    if start[:2] == b"PK":
        return zip_entries(opened, part)
    if start[:1] == b"\x80":
        return legacy_entries(opened, part)
    raise ValueError(f"{opened.path} holds no tensors that can be read: {_what_it_may_be(start)}")


def read_state_dict(
    path: str | Path, wanted: Callable[[str], bool], dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """The tensors whose names `wanted` picks, from safetensors or from what torch.save wrote.

    Args:
        dtype: what floating-point tensors are cast to; others stay as they are. None keeps the file's own.
    """
    with open_tensors(path) as tensors:
        names = [name for name in tensors.entries if wanted(name)]
        return {name: tensors.read(name, cast_of(tensors, name, dtype)) for name in names}


def cast_of(tensors: TensorFile, name: str, dtype: torch.dtype | None) -> torch.dtype:
    """The type in which a tensor is to be read: `dtype` for floating-point ones, else the file's own."""
    own = tensors.window(name).dtype
    return dtype if dtype is not None and own.is_floating_point else own


def _what_it_may_be(start: bytes) -> str:
    if start.startswith(b"version https://"):
        return "it is a Git LFS pointer. Download the file itself, for example with `git lfs pull`."
    if start.lstrip()[:1] == b"<":
        return "it is a web page. Download the file itself, not the page that shows it."
    known = "neither safetensors nor what torch.save writes"
    return f"it begins with {start[:8]!r}, which is {known}. {DOWNLOAD_AGAIN}"
