"""One open file, and windows on the tensors in it.

A file is opened once for a load and read by copying. What was opened stays what is read, whatever takes its name
meanwhile, and a file that shrinks is an error; a mapped one would end the process (SIGBUS).
"""

import mmap
import os
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

import torch

DOWNLOAD_AGAIN = "The download was probably cut short; fetch the file again and compare its size."
SAVE_AGAIN = "Where you trust it, load it with torch and save it again as safetensors."

# As many as torch has. Without a limit a file could have numbers multiplied for hours.
MOST_AXES = 64
# Of a tensor's name. Nothing is called so, and patterns are searched for in names.
LONGEST_NAME = 500


def cut(name: object, length: int = 80) -> str:
    """What came out of a file as an error message says it: cut where it is long."""
    text = str(name)
    return text if len(text) <= length else f"{text[:length]}..."


def unforeseen(error: BaseException, length: int = 200) -> str:
    """An error that is not this pack's own, as a message says it: its kind, and its words cut where they are long."""
    return f"{type(error).__name__}: {cut(error, length)}"


def shown(name: object, length: int = 80) -> str:
    """The same, in quotes."""
    return repr(cut(name, length))


def shown_list(names: Collection[object], most: int = 5) -> str:
    """Some names out of a file, one after the other, and how many more there are."""
    some = [cut(name, 160) if str(name).isprintable() else shown(name, 160) for name in islice(names, most)]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(some) + more


class OpenFile:
    """A file opened once, that says so when it changes while it is read.

    Raises:
        ValueError: where there is no such file, or it cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        if not os.path.isfile(path):  # Path.is_file raises where a name is too long or a folder is locked
            raise ValueError(f"There is no file {path}. Check the name and the folder.")
        try:
            self.file = path.open("rb")
        except OSError as error:
            raise ValueError(f"{path} cannot be opened ({error.strerror}).") from error
        # Whoever holds tensors of the file need not think of closing it.
        self._closed = weakref.finalize(self, self.file.close)
        self._state = self._now()
        self.size = self._state[0]
        self.taken = 0  # bytes of the tensors that were read, whether or not they share their numbers

    def close(self):
        self._closed()

    def _now(self) -> tuple[int, int]:
        state = os.fstat(self.file.fileno())
        return state.st_size, state.st_mtime_ns

    def check_unchanged(self):
        """Raises ValueError if the file was written to since it was opened."""
        if (now := self._now()) != self._state:
            grown = (
                f"its size was {self.size} bytes and is {now[0]}"
                if now[0] != self.size
                else "it was written to"
            )
            raise ValueError(
                f"{self.path} changed while it was read: {grown}. Wait until whatever writes it is done, then load "
                "it again."
            )

    def read(self, position: int, count: int) -> bytes:
        """Read `count` bytes, or as many as there are from there to the end."""
        return bytes(self._fill(position, bytearray(min(count, max(self.size - position, 0)))))

    def read_numbers(self, position: int, count: int, passing: bool = False) -> torch.Tensor:
        """Read `count` bytes, (count,), uint8.

        Args:
            passing: they are needed for a moment only; their memory goes back to the system when they go. From
                torch's own it would come in pieces between tensors that stay, and be kept.
        """
        if position + count > self.size:
            raise ValueError(f"{self.path} ends before byte {position + count}. {DOWNLOAD_AGAIN}")
        if passing:
            numbers = torch.frombuffer(mmap.mmap(-1, count), dtype=torch.uint8)
        else:
            numbers = torch.empty(count, dtype=torch.uint8)
        self._fill(position, numbers.numpy())
        return numbers

    def _fill(self, position: int, room):
        try:
            self.file.seek(position)
            got = self.file.readinto(room)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read ({error.strerror}).") from error
        self.check_unchanged()
        if got != len(room):
            raise ValueError(f"{self.path} ends before byte {position + len(room)}. {DOWNLOAD_AGAIN}")
        return room


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

    @property
    def reach(self) -> int:
        """How many bytes lie between its first number and its last, these included."""
        if not self.count:
            return 0
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return (1 + last) * self.dtype.itemsize


def is_shape(shape: tuple | list) -> bool:
    """Tell whether torch can have a tensor of that shape, empty or not."""
    return (
        len(shape) <= MOST_AXES
        and all(type(side) is int and 0 <= side < 2**48 for side in shape)
        # torch multiplies the sides of an empty tensor too, in 64 bits.
        and prod(side or 1 for side in shape) < 2**56
    )
