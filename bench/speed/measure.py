"""How long a call takes and how much memory it adds at its peak, on the CPU or on an accelerator."""

import ctypes
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Measured:
    """Of each call: seconds, and bytes at the peak above what was there when it began (None: cannot be told)."""

    seconds: list[float] = field(default_factory=list)
    peak: list[int | None] = field(default_factory=list)


@contextmanager
def timing(seconds: list[float], device: torch.device) -> Iterator[None]:
    """Time what runs inside, to the end of its work on the device.

    Where torch has one thread, its CPU seconds count: the same as a clock's, but for the time in which something
    else had the core.
    """
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    else:
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        yield
        seconds.append(clock() - start)


@contextmanager
def measuring(into: Measured, device: torch.device) -> Iterator[None]:
    """Measure what runs inside: time, and memory at its peak. To see a peak slows a call down a little."""
    before = _start_peak(device)
    with timing(into.seconds, device):
        yield
    into.peak.append(_end_peak(device, before))


def _start_peak(device: torch.device) -> int | None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not os.access(CLEAR, os.W_OK):
        return None  # only Linux tells a process's peak anew, and not everywhere
    ctypes.CDLL(None).malloc_trim(0)  # else freed pages still count as ours
    CLEAR.write_text("5")
    return _status("VmRSS")


def _end_peak(device: torch.device, before: int | None) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) - before
    return None if before is None else _status("VmHWM") - before


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
