"""The fusers of a whole UNet: one for each of its transformer blocks, under the checkpoint's names."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from ..files.shapes import MOST_NUMBERED, Shapes
from .fuser import HEADS, Fuser

_FUSER = re.compile(
    r"^((?:input_blocks\.\d+\.\d+|middle_block\.\d+|output_blocks\.\d+\.\d+)\.transformer_blocks\.\d+)\.fuser\."
)

# (section, number, transformer) as the host names a block while it runs: ("input", 1, 0).
BlockId = tuple[str, int, int]


class FuserSizes(NamedTuple):
    """Sizes of one fuser.

    Args:
        path: of its block in the checkpoint, `input_blocks.1.1.transformer_blocks.0`.
        width: of the block's image tokens.
        hidden_width: inside its feed-forward net.
    """

    path: str
    width: int
    hidden_width: int


def block_id(path: str) -> BlockId:
    """Turn `input_blocks.1.1.transformer_blocks.0` into ("input", 1, 0); the middle block is number 0."""
    parts = path.split(".")
    section = parts[0].removesuffix("_blocks").removesuffix("_block")
    return section, 0 if section == "middle" else int(parts[1]), int(parts[-1])


class Fusers(nn.ModuleDict):
    """A fuser for each block.

    Args:
        sizes: of each.
        context_width: width of the tokens that they take.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(self, sizes: Iterable[FuserSizes], context_width: int, operations=nn, **factory):
        # A module's name cannot hold the dots of a block's path.
        super().__init__(
            {
                path.replace(".", "-"): Fuser(
                    width, context_width, hidden_width=hidden, operations=operations, **factory
                )
                for path, width, hidden in sizes
            }
        )
        self._names = {block_id(name.replace("-", ".")): name for name in self}

    def of(self, block: BlockId) -> Fuser | None:
        """Return the fuser of a block, or None where there is none."""
        name = self._names.get(block)
        return None if name is None else self[name]


def inner_name(key: str) -> str:
    """Turn the checkpoint's name of a fuser's tensor into that within `Fusers` named `fusers`; leave others."""
    found = _FUSER.match(key)
    return key if found is None else f"fusers.{found[1].replace('.', '-')}.{key[found.end() :]}"


def outer_name(key: str) -> str:
    """Undo `inner_name`."""
    if not key.startswith("fusers."):
        return key
    _, path, rest = key.split(".", 2)
    return f"{path.replace('-', '.')}.fuser.{rest}"


def read_fuser_sizes(shapes: Shapes) -> tuple[FuserSizes, ...]:
    """Read off the checkpoint's names which blocks have a fuser, and how large each is.

    Raises:
        ValueError: for a tensor that tells a size and is not there or says what cannot be, and for blocks that no
            UNet has.
    """
    paths = list(dict.fromkeys(found[1] for key in shapes.tensors if (found := _FUSER.match(key))))
    if len(paths) > MOST_NUMBERED or len({block_id(path) for path in paths}) < len(paths):
        raise shapes.refusal(f"the fusers of its {len(paths)} blocks are of more than one UNet")
    return tuple(_read_fuser(shapes, path) for path in paths)


def _read_fuser(shapes: Shapes, path: str) -> FuserSizes:
    width, _ = shapes.sides(f"{path}.fuser.linear.weight", 2)
    _, hidden = shapes.sides(f"{path}.fuser.ff.net.2.weight", 2)
    if width % HEADS:
        raise shapes.refusal(
            f"the fuser of {path} is {width} wide, which its {HEADS} heads of attention cannot share"
        )
    return FuserSizes(path, width, hidden)
