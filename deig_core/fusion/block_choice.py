"""Which blocks of a UNet are meant, by words that a person writes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .fusers import BlockId

EVERY = "all"
SECTIONS = ("input", "middle", "output")
_PART = re.compile(rf"\d+|(?:{'|'.join(SECTIONS)})(?:\.\d+)?")


@dataclass(frozen=True)
class BlockChoice:
    """Some of the transformer blocks of a UNet.

    Args:
        parts: sections ("input", "middle", "output"), blocks ("input.2") and sizes of tokens in pixels ("16"): a block
            is chosen if any of these names it. None: all blocks.
    """

    parts: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str) -> "BlockChoice":
        """Read a choice, parts separated by commas; "" and "all" are every block.

        Raises:
            ValueError: naming the part that is none.
        """
        parts = [part.strip().lower() for part in re.split(r"[,\n]", text) if part.strip()]
        for part in parts:
            if part != EVERY and not _PART.fullmatch(part):
                raise ValueError(
                    f"There are no blocks {part!r}. Write 'all', a size of tokens in pixels (8, 16, 32, 64), a part of "
                    "the model (input, middle, output) or a block (input.2), several separated by commas."
                )
        return cls() if EVERY in parts else cls(frozenset(parts))

    def check(self, blocks: Iterable[BlockId]):
        """Refuse names of blocks that a model has not.

        Raises:
            ValueError: naming them, and those that it has.
        """
        there = dict.fromkeys(name for block in blocks for name in names_of(block))
        missing = [part for part in sorted(self.parts) if not part.isdigit() and part not in there]
        if missing:
            raise ValueError(f"The model has no blocks {', '.join(missing)}. It has {', '.join(there)}.")

    def has(self, block: BlockId, token_pixels: float) -> bool:
        """Tell whether a block, whose tokens are so many pixels wide, is chosen."""
        return not self.parts or not self.parts.isdisjoint((*names_of(block), f"{token_pixels:g}"))


def names_of(block: BlockId) -> tuple[str, str]:
    """Return by which names a block can be chosen: ("input", "input.2")."""
    section, number, _ = block
    return section, f"{section}.{number}"
