"""Grounding: what the fusers need during one call of the model, row by row and block by block."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from .attention_record import Owner, Watched
from .fuser import Fuser, Grounded
from .fusers import BlockId
from .placement import Placement


class HasFusers(Protocol):
    """An adapter of either system."""

    def fuser(self, block: BlockId) -> Fuser | None:
        """Return the fuser of a block, or None where the adapter has none."""


@dataclass(eq=False)
class GroundedRows:
    """Rows of a batch during one call of the model: their instances, ready for every block.

    Args:
        rows: how many.
        strength: multiplies the fusers' gates.
        placement, chosen, objs: where the instances lie, which of them take part, and their tokens (n, L,
            context_width); None for rows without instances.
    """

    rows: int
    strength: float = 1.0
    placement: Placement | None = None
    chosen: tuple[int, ...] = ()
    objs: torch.Tensor | None = None

    def at(self, grid: tuple[int, int], like: torch.Tensor) -> Grounded:
        """Return what a fuser needs on a grid of image tokens."""
        if not self.chosen:
            return Grounded(self.rows)
        return Grounded(self.rows, self.objs.to(like), self.placement.bias(self.chosen, grid, like))

    def owners(self) -> tuple[Owner | None, ...]:
        """Return whose each instance token is, and which of its instance's."""
        length = 0 if self.objs is None else self.objs.shape[-2]
        return tuple((instance, number) for instance in self.chosen for number in range(length))


@dataclass(eq=False)
class CallGrounding:
    """Everything the fusers need during one call of the model.

    Args:
        adapter: whose fusers run.
        groups: the rows of the batch, in order.
        watched: for each group where its attention is recorded, or None; nothing where none is.
    """

    adapter: HasFusers
    groups: Sequence[GroundedRows]
    watched: Sequence[Watched | None] = ()
    _at_grid: dict = field(default_factory=dict, init=False)
    _strengths: float | torch.Tensor | None = field(default=None, init=False)

    def fuse(self, x: torch.Tensor, block: BlockId, grid: tuple[int, int]) -> torch.Tensor:
        """Run a block's fuser.

        Args:
            x: (B, Q, width), image tokens between the block's self- and cross-attention.
            block: which block.
            grid: (rows, columns) of the image tokens; their product is Q.

        Returns:
            (B, Q, width)
        """
        fuser: Fuser | None = self.adapter.fuser(block)
        if fuser is None:
            return x
        if grid not in self._at_grid:
            self._at_grid[grid] = [group.at(grid, x) for group in self.groups]
        if self.watched:
            self._record(fuser, x, block, grid)
        return fuser(x, self._at_grid[grid], self._strength(x))

    def _record(self, fuser: Fuser, x: torch.Tensor, block: BlockId, grid: tuple[int, int]):
        parts = x.split([group.rows for group in self.groups])
        for group, part, grounded, watched in zip(
            self.groups, parts, self._at_grid[grid], self.watched, strict=True
        ):
            if watched is not None and group.chosen:
                watched.record.see(fuser, part, grounded, group.owners(), watched, block, grid)

    def _strength(self, x: torch.Tensor) -> float | torch.Tensor:
        if self._strengths is None:
            each = [group.strength for group in self.groups for _ in range(group.rows)]
            self._strengths = each[0] if len(set(each)) == 1 else x.new_tensor(each)[:, None, None]
        return self._strengths
