"""What training computes on, and in which precision: a GPU where there is one, else the CPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
STORED = torch.float8_e4m3fn  # what the weights are stored as, and held to at the end of training


def pick_device(name: str | None = None) -> torch.device:
    """Return the device to train on.

    Args:
        name: as torch calls it ("cpu", "cuda:1", "xpu"); None: NVIDIA's or AMD's GPU if there is one, else the CPU.

    Raises:
        ValueError: if the device named is not there, or does not know 8-bit floats.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        # To the end of training it would come late.
        torch.zeros(1, device=device).to(STORED).float()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"Training cannot run on '{name}' ({reason}). 'cpu' always works.") from error
    return device


@contextmanager
def half_precision(device: torch.device, active: bool = True) -> Iterator[None]:
    """Compute in bfloat16 what loses nothing by it; not `active`, or on a device without bfloat16: in float32."""
    active = active and _computes_in_bfloat16(device)
    with ExitStack() as stack:
        if active:
            stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
        if active and device.type == "cpu":
            stack.enter_context(_FloatAttention())
        yield


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Elsewhere torch imitates it: with AVX2 a convolution takes sixty times as long as in float32.
        return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return True


class _FloatAttention(TorchFunctionMode):
    """Attends in float32: on a CPU, torch's attention in bfloat16 takes five times as long when training."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function is not F.scaled_dot_product_attention:
            return function(*arguments, **(options or {}))
        with torch.autocast("cpu", enabled=False):
            options = {name: _as_float(value) for name, value in (options or {}).items()}
            return function(*map(_as_float, arguments), **options)


def _as_float(value):
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
