"""The adapter's file: reading it from the released checkpoint, and writing a small one.

    python -m deig_core.files.checkpoint model.pth deig.safetensors --dtype fp16
    python -m deig_core.files.checkpoint instancediffusion_sd15.pth instancediffusion.safetensors --dtype fp16

The released `model.pth` of DEIG holds a whole UNet beside the adapter, and InstanceDiffusion's two of them and all
that its training needs to go on. The UNet's own weights were frozen in training, so the fusers, the position net and
the IDE are all that DEIG needs, and the fusers, the position net and ScaleU all that InstanceDiffusion needs.
InstanceDiffusion's three split files count as one, whichever of them is named.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from .split_files import split_adapter
from .tensor_files import TensorFile, open_tensors, read_state_dict, write_safetensors
from .windows import shown, shown_list

__all__ = ["AdapterSource", "open_adapter", "read_adapter", "read_state_dict", "write_adapter"]

# An adapter's tensor, with whatever prefix a training framework or a merged checkpoint put before the name.
ADAPTER_KEY = re.compile(
    r"(?P<prefix>(?:.*?\.)?)"
    r"(?P<name>(?:(?:input_blocks|middle_block|output_blocks)\.(?:\d+\.)*transformer_blocks\.\d+\.fuser"
    r"|position_net|IDE)\..+|scaleu_[bs]_\d+)"
)

# What a file without an adapter may be, by a name in it; the first that fits is said.
_LOOKS = (
    (r"(^|\.)conditioner\.embedders\.|(^|\.)label_emb\.", "an SDXL checkpoint"),
    (r"(^|\.)lora_|\.lora_|\.lora\.|\.hada_w", "a LoRA"),
    (r"^double_blocks\.|\.double_blocks\.|\.joint_blocks\.", "a Flux or SD3 model"),
    (r"(^|\.)control_model\.|(^|\.)zero_convs\.|^controlnet_", "a ControlNet"),
    (r"(^|\.)encoder\.block\.\d+\.layer\.", "a T5 text encoder, which belongs in models/text_encoders"),
    # Before its own text encoder and autoencoder.
    (r"^cond_stage_model\.|(^|\.)input_blocks\.\d+\.", "a plain Stable Diffusion checkpoint"),
    (r"(^|\.)text_model\.encoder\.", "a CLIP text encoder"),
    (r"(^|\.)image_proj\.|(^|\.)ip_adapter\.", "an IP-Adapter"),
    (r"(^|\.)(down_blocks|up_blocks)\.\d+\.attentions\.", "a UNet in the layout of diffusers"),
    (r"(^|\.)decoder\.conv_in\.|(^|\.)encoder\.conv_in\.", "a VAE"),
)

_WHAT_TO_GET = (
    "Take DEIG's released model.pth, InstanceDiffusion's instancediffusion_sd15.pth or its three split files, or a "
    ".safetensors made from any of them with `python -m deig_core.files.checkpoint`."
)

DEIG, INSTANCE_DIFFUSION = "DEIG", "InstanceDiffusion"


DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class AdapterSource:
    """An adapter's tensors as they lie in its file, or its files.

    Args:
        system: whose adapter it is, DEIG or INSTANCE_DIFFUSION.
        path: the file that was asked for.
        places: for the adapter's name of each tensor, the file it lies in and its name there.
    """

    system: str
    path: Path
    places: dict[str, tuple[TensorFile, str]]

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        file, key = self.places[name]
        return file.read(key, dtype)

    def read_all(self, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        return {name: self.read(name, dtype) for name in self.places}

    def layout(self, dtype: torch.dtype | None = None) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """name -> type (`dtype`, or else the file's own) and shape."""
        windows = {name: file.window(key) for name, (file, key) in self.places.items()}
        return {name: (dtype or window.dtype, window.shape) for name, window in windows.items()}

    @property
    def total(self) -> int:
        """How many tensors its files have."""
        return sum(
            len(file.entries) for file in {file.path: file for file, _ in self.places.values()}.values()
        )


def open_adapter(path: str | Path) -> AdapterSource:
    """Find the adapter's tensors in a file without reading them.

    Raises:
        ValueError: where the file cannot be read or has no adapter in it, saying what it looks like.
    """
    file = open_tensors(path)
    places = split_adapter(file)
    system = INSTANCE_DIFFUSION
    if places is None:
        names = _adapter_names(file)
        system = _system_of(names, file)
        places = {name: (file, key) for name, key in names.items()}
    for name, (own, key) in places.items():
        _check_float(own, name, key)
    return AdapterSource(system, file.path, places)


def _adapter_names(file: TensorFile) -> dict[str, str]:
    """Return the file's names by the adapter's."""
    found: dict[str, dict[str, str]] = {}
    for key in file.entries:
        if match := ADAPTER_KEY.fullmatch(key):
            found.setdefault(match["prefix"], {})[match["name"]] = key
    if not found:
        raise ValueError(_no_adapter(file))
    if len(found) > 1:
        raise ValueError(
            f"{file.path} holds more than one adapter, under the prefixes "
            f"{shown_list([shown(prefix) for prefix in sorted(found)])}. Keep one of them."
        )
    return next(iter(found.values()))


def _system_of(names: dict[str, str], file: TensorFile) -> str:
    if any(name.startswith("IDE.") for name in names):
        return DEIG
    if any(name.startswith(("scaleu_", "position_net.linears_list.")) for name in names):
        return INSTANCE_DIFFUSION
    raise ValueError(
        f"{file.path} has {len(names)} grounding tensors but neither an Instance Detail Extractor (IDE.*), which "
        f"DEIG has, nor InstanceDiffusion's UniFusion: it looks like a GLIGEN checkpoint. {_WHAT_TO_GET}"
    )


def read_adapter(path: str | Path, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """The adapter's tensors by name, as in the released checkpoint and without any prefix.

    Each is copied out of the file in turn, so the memory used is the adapter's own, in `dtype`, and one
    tensor. Nothing in the file is executed.

    Args:
        path: a released checkpoint, one of InstanceDiffusion's split files (the other two are found beside it), or a
            `.safetensors` that has the adapter's tensors.
        dtype: a floating-point type to cast to; None keeps the file's own.

    Raises:
        ValueError: as `open_adapter`.
    """
    return open_adapter(path).read_all(dtype)


def _check_float(file: TensorFile, name: str, key: str):
    dtype = file.window(key).dtype
    if not dtype.is_floating_point:
        raise ValueError(
            f"{file.path}: the adapter's tensor {shown(name)} is {dtype}, and floating-point numbers were "
            f"expected; a quantised adapter cannot be used. {_WHAT_TO_GET}"
        )


def _no_adapter(file: TensorFile) -> str:
    if file.around:
        where, foreign = next(iter(file.around.items()))
        return (
            f"{file.path}: {f'the entry {where!r}' if where else 'the file'} is no state dict but asks for "
            f"{shown(foreign.name)}. Nothing in the file was run. {_WHAT_TO_GET}"
        )
    looks = (words for pattern, words in _LOOKS if any(re.search(pattern, key) for key in file.entries))
    looks = next(looks, None)
    some = shown_list(file.entries, 3) or "none"
    seen = f"it looks like {looks}" if looks else f"it has {len(file.entries)} tensors ({some})"
    return f"{file.path} has no adapter of DEIG or InstanceDiffusion in it: {seen}. {_WHAT_TO_GET}"


def write_adapter(
    source: AdapterSource | Mapping[str, torch.Tensor],
    destination: str | Path,
    dtype: torch.dtype | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
):
    """Write an adapter as safetensors, one tensor at a time; a file of that name is replaced when done.

    Args:
        source: an adapter within a file (`open_adapter`), or its tensors by name.
        dtype: a floating-point type to cast to; None keeps each tensor's own.
        progress: told after each tensor how many of how many are written.

    Raises:
        ValueError: where the destination cannot be, or a number does not fit into `dtype`.
    """
    if isinstance(source, AdapterSource):
        layout, origin, system = source.layout(dtype), source.path.name, source.system
    else:
        layout = {name: (dtype or tensor.dtype, tuple(tensor.shape)) for name, tensor in source.items()}
        origin, system = "tensors in memory", DEIG

    def read(name: str) -> torch.Tensor:
        return in_dtype(
            name, source.read(name, dtype) if isinstance(source, AdapterSource) else source[name], dtype
        )

    write_tensors(destination, layout, read, {"what": f"{system} adapter", "source": origin}, progress)


def write_tensors(
    destination: str | Path,
    layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    read: Callable[[str], torch.Tensor],
    metadata: Mapping[str, str],
    progress: Callable[[int, int], None] = lambda done, total: None,
):
    """Write tensors as safetensors, one at a time; a file of that name is replaced when done.

    Args:
        layout: name -> type and shape to write.
        read: gives the tensor of that name, in that type and shape.
        metadata: what the file says of itself.
        progress: told after each tensor how many of how many are written.

    Raises:
        ValueError: where the destination cannot be.
    """
    destination = Path(destination)
    if destination.suffix != ".safetensors":
        raise ValueError(f"What is written is a safetensors file, so {destination.name!r} must end so.")
    if not destination.parent.is_dir():
        raise ValueError(f"There is no folder {destination.parent} to write {destination.name} into.")
    done = 0

    def read_next(name: str) -> torch.Tensor:
        nonlocal done
        tensor = read(name)
        done += 1
        progress(done, len(layout))
        return tensor

    metadata = {"format": "pt", **metadata, "tensors": str(len(layout))}
    write_safetensors(destination, layout, read_next, metadata)


def in_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Return a tensor in a type that it is to be written in; None keeps its own.

    Raises:
        ValueError: where a number does not fit into it.
    """
    if dtype is None:
        return tensor
    tensor = tensor.to(dtype)
    # The extremes of numbers among which one is NaN are NaN.
    if tensor.numel() and not all(extreme.isfinite() for extreme in tensor.aminmax()):
        raise ValueError(
            f"The tensor {shown(name)} has numbers that are not finite in {tensor.dtype}. Write bf16 or fp32 "
            "instead; where those fail too, the checkpoint itself is damaged."
        )
    return tensor


def main(arguments: list[str] | None = None) -> str:
    """The command line. Returns the line that says what was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m deig_core.files.checkpoint",
        description="Take the adapter of DEIG or InstanceDiffusion out of a checkpoint, as safetensors. Runs nothing "
        "in the file.",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="a released checkpoint, one of InstanceDiffusion's split files, or a .safetensors",
    )
    parser.add_argument("adapter", type=Path, help="the .safetensors to write")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="cast to this type; else the checkpoint's own is kept"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if there is one")
    options = parser.parse_args(arguments)
    if options.adapter.exists() and not options.force:
        raise ValueError(f"{options.adapter} is there already; --force replaces it.")
    # Imported here: whoever only reads adapters needs no progress bar.
    from tqdm import tqdm

    source = open_adapter(options.checkpoint)
    layout = source.layout(DTYPES.get(options.dtype))
    with tqdm(total=len(layout), unit="tensor", desc="Writing") as bar:
        write_adapter(source, options.adapter, DTYPES.get(options.dtype), lambda done, _: bar.update())
    parameters = sum(prod(shape) for _, shape in layout.values())
    kinds = sorted({str(dtype).removeprefix("torch.") for dtype, _ in layout.values()})
    return (
        f"Kept {len(layout)} of {source.total} tensors, {parameters / 1e6:.1f} M parameters, "
        f"{options.adapter.stat().st_size / 1e6:.1f} MB, {' and '.join(kinds)}: {options.adapter}"
    )


if __name__ == "__main__":
    try:
        print(main())
    except ValueError as error:
        sys.exit(str(error))
