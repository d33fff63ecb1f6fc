"""What training learns from, drawn by number: in the same process on a CPU, ahead in others for a GPU."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

MOST_PROCESSES = 8  # draw more than a GPU learns from


def _spare_cores() -> int:
    """Return how many cores this process may use besides the one that it has."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable - 1


@dataclass(frozen=True)
class _Drawings(Dataset):
    draw: Callable
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int):
        return self.draw(self.numbers[place])


def drawn_ahead(draw: Callable, numbers: Sequence[int], device: torch.device) -> DataLoader:
    """Return what `draw` draws of each number, in order.

    A GPU would wait for a drawing longer than it learns from it, so other processes draw for it. A CPU has nobody
    to hand that to.

    Args:
        draw: takes a number and gives a drawing; can be pickled. The same number always gives the same.
        numbers: which to draw.
        device: what learns from the drawings; they themselves come in the CPU's memory.
    """
    processes = 0 if device.type == "cpu" or not numbers else min(max(_spare_cores(), 1), MOST_PROCESSES)
    return DataLoader(_Drawings(draw, numbers), batch_size=None, num_workers=processes)
