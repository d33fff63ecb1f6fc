"""What is measured on: the accelerator where torch can use one, else the CPU."""

import os
import platform
import shutil
from pathlib import Path

import torch

from ..host import open_host

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def open_device(host: Path) -> torch.device:
    """Open the host on the accelerator if torch can use one, and say what is measured on."""
    arguments = ["--use-pytorch-cross-attention"]
    if not torch.cuda.is_available():
        arguments.append("--cpu")
        if shutil.which("nvidia-smi"):
            print(
                f"nvidia-smi is here, but torch {torch.__version__} finds no GPU: is the driver too old for it?"
            )
    open_host(host, arguments)
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    print(f"Measuring on {name_of(device)}", flush=True)
    return device


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def dtypes_for(device: torch.device) -> list[str]:
    """Name the precisions that people use on a device."""
    if device.type == "cpu":
        return ["fp32"]
    return ["bf16"] * torch.cuda.is_bf16_supported(including_emulation=False) + ["fp16"]


def machine_of(device: torch.device) -> dict:
    return {
        "device": str(device),
        "name": name_of(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
    }
