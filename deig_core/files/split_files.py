"""InstanceDiffusion in the three files that circulate beside the whole: fusers, position net and ScaleU.

They were made for other nodes, which look for each in a folder of its own. None has the checkpoint's names: the
position net's lack their beginning, ScaleU's lie in a dict for each block, and so do the fusers', in the order of the
UNet's blocks.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from .tensor_files import TensorFile, open_tensors
from .windows import shown_list

FOLDERS = ("fuser_models", "positionnet_models", "scaleu_models")
SUFFIXES = {".ckpt", ".safetensors", ".sft", ".pth", ".pt", ".bin"}
PARTS = ("fusers", "position net", "ScaleU")

_FUSER = re.compile(r"(?P<block>(?P<section>input|middle|output)_blocks?\.[^.]+)\.state\.(?P<name>.+)")
_SCALE_U = re.compile(r"(?P<block>\d+)\.(?P<name>scaleu_[bs])")
# The blocks with transformers of SD1.x, in order.
_BLOCKS = {
    "input": [f"input_blocks.{number}.1" for number in (1, 2, 4, 5, 7, 8)],
    "middle": ["middle_block.1"],
    "output": [f"output_blocks.{number}.1" for number in range(3, 12)],
}

Places = dict[str, tuple[TensorFile, str]]


def split_adapter(file: TensorFile) -> Places | None:
    """Take an adapter together out of one of its split files and the other two, which lie beside it.

    Returns:
        For the checkpoint's name of each tensor, the file it lies in and its name there. None: this is no split file.

    Raises:
        ValueError: if one of the three is not there, or there several times, or has other blocks than SD1.x.
    """
    part = _part_of(file)
    if part is None:
        return None
    found: dict[str, list[TensorFile]] = {name: [] for name in PARTS}
    found[part].append(file)
    for path in _beside(file.path):
        other = _opened(path)
        own = None if other is None else _part_of(other)
        if own is not None and own != part:
            found[own].append(other)
    for name, files in found.items():
        if len(files) == 1:
            continue
        named = shown_list([other.path for other in files])
        raise ValueError(
            f"{file.path} holds the {part} of InstanceDiffusion alone. "
            + (
                f"There are several files with its {name} beside it, keep one: {named}."
                if files
                else f"Its {name} cannot be found: put fusers.ckpt, position_net.ckpt and scaleu.ckpt into one "
                "folder, or take instancediffusion_sd15.pth."
            )
        )
    (fusers,), (position_net,), (scale_u,) = (found[name] for name in PARTS)
    return (
        {name: (fusers, key) for name, key in _fuser_names(fusers)}
        | {f"position_net.{key}": (position_net, key) for key in position_net.entries}
        | {name: (scale_u, key) for name, key in _scale_u_names(scale_u)}
    )


def _part_of(file: TensorFile) -> str | None:
    """Say which part of InstanceDiffusion a file is, None for anything else."""
    entries = file.entries
    if any(_FUSER.fullmatch(key) for key in entries):
        return "fusers"
    if {"null_positive_feature", "null_seg_feature", "linears_list.0.0.weight"} <= entries.keys():
        return "position net"
    if entries and all(_SCALE_U.fullmatch(key) for key in entries):
        return "ScaleU"
    return None


def _beside(path: Path) -> Iterator[Path]:
    """Find the files in a split file's folder, and in those of the older nodes if it lies in one."""
    folders = [path.parent]
    if path.parent.name in FOLDERS:
        folders += [path.parent.parent / name for name in FOLDERS if name != path.parent.name]
    for folder in folders:
        if folder.is_dir():
            for other in sorted(folder.iterdir()):
                if other.suffix in SUFFIXES and other.is_file() and other != path:
                    yield other


def _opened(path: Path) -> TensorFile | None:
    try:
        return open_tensors(path)
    except ValueError:
        return None  # whatever lies there besides


def _fuser_names(file: TensorFile) -> Iterator[tuple[str, str]]:
    """Pair the checkpoint's names with the file's."""
    groups: dict[str, dict[str, dict[str, str]]] = {section: {} for section in _BLOCKS}
    for key in file.entries:
        if match := _FUSER.fullmatch(key):
            groups[match["section"]].setdefault(match["block"], {})[match["name"]] = key
    for section, blocks in _BLOCKS.items():
        own = list(groups[section].values())
        if len(own) != len(blocks):
            raise ValueError(
                f"{file.path} has fusers for {len(own)} {section} blocks, and Stable Diffusion 1.x has "
                f"{len(blocks)} with transformers. Fetch fusers.ckpt again, or take instancediffusion_sd15.pth."
            )
        for block, names in zip(blocks, own, strict=True):
            for name, key in names.items():
                yield f"{block}.transformer_blocks.0.fuser.{name}", key
    _check_order(file, groups)


def _check_order(file: TensorFile, groups: dict[str, dict[str, dict[str, str]]]):
    """Blocks are told apart by order alone, so their widths have to rise on the way in and fall on the way out."""
    for section, sign in (("input", 1), ("output", -1)):
        widths = [
            next(iter(file.window(names["linear.weight"]).shape), 0) if "linear.weight" in names else 0
            for names in groups[section].values()
        ]
        if widths != sorted(widths, key=lambda width: sign * width):
            raise ValueError(
                f"{file.path} lists the fusers of the {section} blocks in another order than the model's: their widths "
                f"are {widths}. Fetch fusers.ckpt again, or take instancediffusion_sd15.pth."
            )


def _scale_u_names(file: TensorFile) -> Iterator[tuple[str, str]]:
    for key in file.entries:
        match = _SCALE_U.fullmatch(key)
        yield f"{match['name']}_{match['block']}", key
