"""The host's low-memory modes: what lies on the device while DEIG paints, and that the picture is the same.

Without an accelerator the device is `cpu:0`, which the host takes for another one than `cpu`: what these modes do
to a model needs no more. How much of a device is free is what a mode says, and nothing is kept back beside the
weights, so that small models are as short of room as large ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple
from unittest import mock

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from .cases import Case
from .measure import Measured, measuring

OFFLOAD = torch.device("cpu")


class Mode(NamedTuple):
    """How the host was started, and whether everything fits on the device."""

    state: management.VRAMState
    is_roomy: bool


MODES = {
    "all of it free": Mode(management.VRAMState.NORMAL_VRAM, True),
    "little free": Mode(management.VRAMState.NORMAL_VRAM, False),
    "--lowvram": Mode(management.VRAMState.LOW_VRAM, False),
    "--novram": Mode(management.VRAMState.NO_VRAM, False),
}


def device() -> torch.device:
    """The accelerator, or what stands in for one."""
    found = management.get_torch_device()
    return torch.device("cpu", 0) if found.type == "cpu" else found


@contextmanager
def low_memory(mode: Mode, budget: int) -> Iterator[None]:
    """Let the host work in a mode, with so many bytes free unless the mode is roomy; then unload everything."""
    free = 10**12 if mode.is_roomy else budget

    def free_memory(device=None, torch_free_too=False):
        return (free, free) if torch_free_too else free

    with mock.patch.multiple(
        management,
        vram_state=mode.state,
        is_device_cpu=lambda device: device == OFFLOAD,
        get_free_memory=free_memory,
        minimum_inference_memory=lambda: 0,
        extra_reserved_memory=lambda: 0,
    ):
        try:
            yield
        finally:
            # Old hosts' unload_all_models looks at their own device only.
            management.free_memory(1e30, device())
            if hasattr(management, "reset_cast_buffers"):  # new hosts' room for streamed weights
                management.reset_cast_buffers()


def measure_low_memory(
    make_case: Callable[[], Case], parts: dict[str, ModelPatcher], budget: int
) -> dict[str, dict[str, float | None]]:
    """Make and paint one call in every mode.

    Args:
        make_case: called in each mode; it has the text encoder loaded, as reading phrases does.
        parts: the models of which to say how much lies on the device; they are told that device here.
        budget: bytes that are free on the device in all modes but the first.

    Returns:
        For each mode, in bytes: of every part the weights on the device while the UNet paints; "peak", these and
        what the call adds (None where that cannot be told; without an accelerator it is what the process grows
        by); and "difference", how far the picture is from the first mode's, relative to its largest value.
    """
    management.unload_all_models()
    for patcher in parts.values():
        patcher.load_device, patcher.offload_device = device(), OFFLOAD
    figures, pictures = {}, []
    for name, mode in MODES.items():
        measured, there = Measured(), {}

        def look(executor, *args, there=there, **kwargs):
            loaded = {id(one.model): one.loaded_size() for one in management.loaded_models() if one}
            there.update({part: loaded.get(id(patcher.model), 0) for part, patcher in parts.items()})
            return executor(*args, **kwargs)

        with low_memory(mode, budget):
            case = make_case()
            case.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
            pictures.append(case.call(meter=partial(measuring, measured)))
        added = measured.peak[0]
        difference = (pictures[-1] - pictures[0]).abs().max() / pictures[0].abs().max()
        difference = difference.nan_to_num(nan=torch.inf)  # of NaN and 0 Python's max takes the first
        figures[name] = there | {
            "peak": None if added is None else sum(there.values()) + added,
            "difference": difference.item(),
        }
    return figures
