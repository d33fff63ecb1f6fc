"""A GPU that is not there: torch works out devices, shapes and types as on a real one, and computes no numbers.

Within `pretended_gpu` it refuses, as it would there, what has tensors of two devices, and what has to wait for the
device to know a value. `Copies` notes what goes to the device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)


@contextmanager
def pretended_gpu(allow_real: bool = False) -> Iterator[FakeTensorMode]:
    """Let tensors be on `GPU`; with `allow_real`, those of the CPU may be there from before and have values."""
    with (
        FakeTensorMode(allow_non_fake_inputs=allow_real) as mode,
        # Else autocast would turn itself off.
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        mock.patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: True),
    ):
        yield mode


def put_on_gpu(model: nn.Module):
    """Put a model's parameters on the pretended GPU; within `pretended_gpu`."""
    assert not list(model.buffers())
    there = {}
    for part in model.modules():
        for name, parameter in part._parameters.items():
            if parameter is None:
                continue
            if parameter not in there:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=GPU)
                there[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            part._parameters[name] = there[parameter]


class Copies(TorchDispatchMode):
    """Notes what is copied from the CPU's memory to the pretended GPU; within `pretended_gpu`."""

    COPYING = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)

    def __init__(self):
        super().__init__()
        self.found: list[tuple[int, ...]] = []  # the shapes

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        if function in self.COPYING and out.device.type == GPU.type:
            self.found += [
                tuple(source.shape)
                for source in arguments
                if isinstance(source, torch.Tensor) and source.device.type == "cpu"
            ]
        return out
