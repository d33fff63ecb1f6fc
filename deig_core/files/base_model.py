"""The Stable Diffusion model that a checkpoint of DEIG has in it: writing it, and comparing it with another.

    python -m deig_core.files.base_model model.pth deig_base.safetensors --dtype fp16
    python -m deig_core.files.base_model model.pth --compare sd-v1-4.ckpt

DEIG's authors sample with the UNet and the VAE inside `model.pth`. What is written is an ordinary Stable Diffusion 1.x
checkpoint of these two, in the original layout of names. A text encoder of CLIP is not in it: DEIG's prompts need
none, and others take it from elsewhere.

Everything is done tensor by tensor, so that the memory used is that of a few tensors, whatever the files' size.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from .checkpoint import ADAPTER_KEY, DTYPES, in_dtype, write_tensors
from .tensor_files import TensorFile, cast_of, open_tensors
from .windows import shown_list

UNET, VAE = "model.diffusion_model.", "first_stage_model."
PARTS = {"UNet": UNET, "VAE": VAE}
_UNET_NAMES = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "out.")
_VAE_NAMES = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_SHOWN = 10  # names in a report


@dataclass(frozen=True)
class BaseSource:
    """The UNet and the VAE of a file, as they lie there.

    Args:
        path: the file.
        places: for each tensor's name in an ordinary checkpoint, the opened file and its name there.
    """

    path: Path
    places: dict[str, tuple[TensorFile, str]]

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Read a tensor, in `dtype` if one is given and it is of floating-point numbers."""
        file, key = self.places[name]
        return file.read(key, cast_of(file, key, dtype))

    def layout(self, dtype: torch.dtype | None = None) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """name -> type (`dtype`, or else the file's own) and shape."""
        return {
            name: (cast_of(file, key, dtype), file.window(key).shape)
            for name, (file, key) in self.places.items()
        }

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.places if name.startswith(prefix)]


def open_base(path: str | Path) -> BaseSource:
    """Find the tensors of UNet and VAE in DEIG's released checkpoint, or in an ordinary one, without reading them.

    Raises:
        ValueError: where the file cannot be read or has no UNet of Stable Diffusion's layout in it.
    """
    file = open_tensors(path)
    ordinary = {name: (file, name) for name in file.entries if name.startswith((UNET, VAE))}
    if ordinary:
        return BaseSource(file.path, ordinary)
    places = {
        UNET + name: (file, name)
        for name in file.entries
        if name.startswith(_UNET_NAMES) and not ADAPTER_KEY.fullmatch(name)
    }
    if not places:
        some = shown_list(file.entries, 3) or "none"
        raise ValueError(
            f"{file.path} has no UNet of Stable Diffusion in it, but {len(file.entries)} other tensors ({some}). "
            "Take DEIG's released model.pth, which has it beside the adapter, or an ordinary Stable Diffusion 1.x "
            "checkpoint in the original layout of names (not the folders of diffusers)."
        )
    beside = open_tensors(path, part="autoencoder")
    return BaseSource(
        file.path,
        places | {VAE + name: (beside, name) for name in beside.entries if name.startswith(_VAE_NAMES)},
    )


def write_base(
    source: BaseSource,
    destination: str | Path,
    dtype: torch.dtype | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
):
    """Write UNet and VAE as an ordinary checkpoint; a file of that name is replaced when done.

    Args:
        dtype: a floating-point type to cast to; None keeps each tensor's own.
        progress: told after each tensor how many of how many are written.

    Raises:
        ValueError: where the file lacks one of the two, the destination cannot be, or a number does not fit into
            `dtype`.
    """
    for part, prefix in PARTS.items():
        if not source.names(prefix):
            raise ValueError(
                f"{source.path} has no {part} in it, so that no checkpoint can be written of it."
            )
    layout = source.layout(dtype)

    def read(name: str) -> torch.Tensor:
        tensor = source.read(name, dtype)
        return in_dtype(name, tensor, dtype) if tensor.is_floating_point() else tensor

    about = {"what": "Stable Diffusion UNet and VAE, without CLIP", "source": source.path.name}
    write_tensors(destination, layout, read, about, progress)


# -- comparing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A tensor that is not the same in two files.

    Args:
        largest: the largest absolute difference; infinite where one has numbers that are not finite.
        of: the largest absolute number in the first file's, to see it against.
    """

    name: str
    largest: float
    of: float


@dataclass(frozen=True)
class Comparison:
    """What two files' tensors of one part have to do with each other.

    Args:
        same: how many are equal in every number.
        differing: those that are not, the most different first.
        only_first, only_second: names that only one file has, or has in another shape.
        rounded: the type that numbers were rounded to before they were compared, where the files have two.
    """

    same: int
    differing: list[Difference]
    only_first: list[str]
    only_second: list[str]
    rounded: torch.dtype | None


def compare(
    first: BaseSource,
    second: BaseSource,
    prefix: str,
    progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Compare the tensors of a part that two files have both.

    Where the two have a tensor in different types, both are rounded to the shorter one first: a file in 16 bit is the
    same as the one in 32 bit that it was made of.
    """
    one, other = first.layout(), second.layout()
    both = [name for name in first.names(prefix) if name in other and one[name][1] == other[name][1]]
    differing, rounded = [], None
    for name in both:
        shorter = min(one[name][0], other[name][0], key=lambda dtype: dtype.itemsize)
        if one[name][0] != other[name][0]:
            rounded = shorter
        found = _difference(name, first.read(name, shorter), second.read(name, shorter))
        differing += [found] if found else []
        progress()
    shared = set(both)
    return Comparison(
        len(both) - len(differing),
        sorted(differing, key=lambda found: -found.largest),
        [name for name in first.names(prefix) if name not in shared],
        [name for name in second.names(prefix) if name not in shared],
        rounded,
    )


def _difference(name: str, a: torch.Tensor, b: torch.Tensor) -> Difference | None:
    a = a.to(b.dtype)
    if torch.equal(a, b):
        return None
    a, b = a.float(), b.float()
    endless = float("inf")
    largest = (a - b).abs().nan_to_num(nan=endless, posinf=endless).max()
    return Difference(name, largest.item(), a.abs().max().item())


def report(first: BaseSource, second: BaseSource, progress: Callable[[], None] = lambda: None) -> str:
    """Say for UNet and VAE whether two files have the same, in lines for a person."""
    lines = []
    for part, prefix in PARTS.items():
        names = [bool(source.names(prefix)) for source in (first, second)]
        if not all(names):
            lacking = " and ".join(
                source.path.name for source, has in zip((first, second), names, strict=True) if not has
            )
            lines.append(f"{part}: not compared, {lacking} has none.")
            continue
        lines += _part_lines(part, compare(first, second, prefix, progress), first, second)
    return "\n".join(lines)


def _part_lines(part: str, found: Comparison, first: BaseSource, second: BaseSource) -> Iterable[str]:
    total = found.same + len(found.differing)
    rounded = f", both rounded to {str(found.rounded).removeprefix('torch.')}" if found.rounded else ""
    if not (found.differing or found.only_first or found.only_second):
        yield f"{part}: the same, all {total} tensors equal in every number{rounded}."
        return
    yield f"{part}: NOT the same. Of {total} tensors that both have{rounded}, {len(found.differing)} differ."
    for one in found.differing[:_SHOWN]:
        yield f"  {one.name}: by up to {one.largest:.3g}, where the largest number is {one.of:.3g}"
    if len(found.differing) > _SHOWN:
        yield f"  and {len(found.differing) - _SHOWN} more, by less"
    for source, names in ((first, found.only_first), (second, found.only_second)):
        if names:
            some = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
            yield f"  only in {source.path.name}, or of another shape there: {len(names)} ({some})"


# -- the command ---------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> str:
    """The command line. Returns what it has to say."""
    parser = argparse.ArgumentParser(
        prog="python -m deig_core.files.base_model",
        description="Write the UNet and the VAE of DEIG's model.pth as an ordinary Stable Diffusion checkpoint, or "
        "compare them with one. Runs nothing in a file.",
    )
    parser.add_argument("checkpoint", type=Path, help="DEIG's released model.pth")
    parser.add_argument("base", type=Path, nargs="?", help="the .safetensors to write")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="cast to this type; else the checkpoint's own is kept"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if there is one")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="a Stable Diffusion 1.x checkpoint, for example sd-v1-4.ckpt, to say whether UNet and VAE are the same",
    )
    options = parser.parse_args(arguments)
    if options.base is None and options.compare is None:
        raise ValueError("Nothing to do: name a .safetensors to write, or a file to --compare with.")
    if options.base is not None and options.base.exists() and not options.force:
        raise ValueError(f"{options.base} is there already; --force replaces it.")
    source = open_base(options.checkpoint)
    said = [_written(source, options)] if options.base is not None else []
    if options.compare is not None:
        said.append(_compared(source, open_base(options.compare)))
    return "\n".join(said)


def _written(source: BaseSource, options: argparse.Namespace) -> str:
    # Imported here: whoever only reads files needs no progress bar.
    from tqdm import tqdm

    dtype = DTYPES.get(options.dtype)
    with tqdm(total=len(source.places), unit="tensor", desc="Writing") as bar:
        write_base(source, options.base, dtype, lambda done, _: bar.update())
    parameters = sum(prod(shape) for _, shape in source.layout().values())
    return (
        f"Wrote UNet and VAE, {len(source.places)} tensors, {parameters / 1e6:.1f} M parameters, "
        f"{options.base.stat().st_size / 1e6:.1f} MB: {options.base}. It has no CLIP: prompts go through 'DEIG Encode "
        "Prompt', or through the CLIP of another checkpoint."
    )


def _compared(first: BaseSource, second: BaseSource) -> str:
    from tqdm import tqdm

    both = first.places.keys() & second.places.keys()
    with tqdm(total=len(both), unit="tensor", desc="Comparing") as bar:
        return report(first, second, bar.update)


if __name__ == "__main__":
    try:
        print(main())
    except ValueError as error:
        sys.exit(str(error))
