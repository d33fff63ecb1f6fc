"""What the picture attended to: the weights of the fusers' attention, recorded while they run, and averaged.

The weights are computed a second time beside the fuser, out of the same queries and keys, so the picture is what it
is without a record, to the bit. What is kept does not grow with steps, blocks or heads: for each grid of image tokens
(and each crop of the picture that was denoised by itself) there is one sum. Its size is 4 bytes for each picture,
instance token and image token: an instance of 16 tokens takes 340 KiB at 512 x 512, where the four grids have 5440
image tokens. While a block is looked at, two tensors of at most CHUNK numbers come and go.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import repeat

from ..regions.raster import spread_tokens, token_pixels
from ..regions.region import Regions
from .block_choice import BlockChoice
from .fuser import Fuser, Grounded
from .fusers import BlockId
from .placement import Placement
from .schedule import is_active

CHUNK = 2**22  # attention weights that are there at once, over all heads: 16 MiB in float32

Grid = tuple[int, int]
Area = tuple[int, int, int, int]  # a crop: (height, width, y, x) in cells of the latent
Owner = tuple[int, int]  # whose an instance token is, and which of its instance's tokens


class Watched(NamedTuple):
    """Rows of one call of the model whose attention is recorded.

    Args:
        record: where it goes.
        first: the number of the picture that the first row denoises; the others follow.
        area: the crop that these rows denoise; None: the whole.
    """

    record: "AttentionRecord"
    first: int
    area: Area | None


@dataclass(frozen=True)
class RecordSettings:
    """What of a run is recorded.

    Args:
        blocks: in which blocks.
        start_percent, end_percent: in which part of the schedule, 0 to 1.

    Raises:
        ValueError: if the part is none.
    """

    blocks: BlockChoice = BlockChoice()
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self):
        if not 0 <= self.start_percent <= self.end_percent <= 1:
            raise ValueError(
                f"start_percent is {self.start_percent} and end_percent {self.end_percent}; both take 0 to 1, "
                "and the start must not come after the end."
            )


@dataclass(eq=False)
class Sums:
    """Attention on one grid of one crop, summed over blocks and calls; each is its mean over heads.

    Args:
        tokens: (B, N, L, Q), how much image token q attends to token l of instance n.
        shares: (B, N, 2 N + 2), see `AttentionRecord.shares`.
        counts: (B, N), how many were summed: blocks times calls in which the instance took part.
    """

    tokens: torch.Tensor
    shares: torch.Tensor
    counts: torch.Tensor


@dataclass(eq=False)
class AttentionRecord:
    """The attention of one sampling run.

    Args:
        regions: N of them, all that the run has.
        latent_size: (height, width) of the latent, in cells.
        pictures: B, how many the batch has.
        token_names: what each of an instance's L tokens is called.
        settings: what is recorded.
        front: whether places were settled for the later region where they overlap.
    """

    regions: Regions
    latent_size: tuple[int, int]
    pictures: int
    token_names: tuple[str, ...]
    settings: RecordSettings = RecordSettings()
    front: bool = False
    seen: dict[BlockId, int] = field(default_factory=dict, init=False)  # how often each block was recorded
    sums: dict[tuple[Grid, Area | None], Sums] = field(default_factory=dict, init=False)
    _placements: dict[Area | None, Placement] = field(default_factory=dict, init=False)
    _wheres: dict[tuple, "_Where"] = field(default_factory=dict, init=False)

    def watches(self, percent: float) -> bool:
        """Tell whether a point of the schedule is recorded."""
        return is_active(self.settings.start_percent, self.settings.end_percent, percent)

    @torch.no_grad()
    def see(
        self,
        fuser: Fuser,
        x: torch.Tensor,
        group: Grounded,
        owners: Sequence[Owner | None],
        watched: Watched,
        block: BlockId,
        grid: Grid,
    ):
        """Add what rows of a batch attend to in one block.

        Args:
            fuser: the block's.
            x: (rows, Q, width), as the fuser gets them.
            group: the instances of these rows, S tokens.
            owners: (S,) for each instance token whose it is; None: nobody's.
            watched: whose rows these are.
            block: which block.
            grid: (rows, columns) of its Q image tokens.
        """
        if not self.settings.blocks.has(block, token_pixels(self._cells(watched.area), grid)):
            return
        where = self._where(tuple(owners), x.device)
        places = self._places(where.chosen, watched.area, grid, x.device)
        sums = self._sums(grid, watched.area, x.device)
        bias = repeat(group.bias.float(), "n q -> q (n tokens)", tokens=group.objs.shape[-2])
        queries, keys = fuser.queries_and_keys(x, group)
        for row, (q, k) in enumerate(zip(queries, keys, strict=True), start=watched.first):
            # A wrapper that cuts pictures into tiles hands on more rows than there are pictures.
            picture = row % self.pictures
            told, seen = attend(q, k, bias, group.image_bias, places)
            sums.tokens[picture].flatten(0, 1).index_add_(0, where.slots, told[where.owned])
            sums.shares[picture].index_add_(0, where.instances, self._shares_of(seen, places, where))
            sums.counts[picture, list(where.chosen)] += 1
        self.seen[block] = self.seen.get(block, 0) + 1

    def _shares_of(self, seen: torch.Tensor, places: torch.Tensor, where: "_Where") -> torch.Tensor:
        """(n, Q + S), what n places attend to -> (n, 2 N + 2), see `shares`."""
        count, visual = len(self.regions), places.shape[1]
        shares = seen.new_zeros(len(seen), 2 * count + 2)
        shares.index_add_(1, where.columns, seen[:, visual:])
        among, ground = shares_of_places(seen[:, :visual], places)
        shares.index_copy_(1, count + where.instances, among)
        shares[:, 2 * count] = ground
        return shares

    def _sums(self, grid: Grid, area: Area | None, device: torch.device) -> Sums:
        if (grid, area) not in self.sums:
            pictures, count, length = self.pictures, len(self.regions), len(self.token_names)
            self.sums[grid, area] = Sums(
                torch.zeros(pictures, count, length, grid[0] * grid[1], device=device),
                torch.zeros(pictures, count, 2 * count + 2, device=device),
                torch.zeros(pictures, count),
            )
        return self.sums[grid, area]

    def _places(
        self, chosen: tuple[int, ...], area: Area | None, grid: Grid, device: torch.device
    ) -> torch.Tensor:
        """Return where instances lie on a grid, (n, Q), float32, 0 or 1."""
        if area not in self._placements:
            self._placements[area] = Placement(self.regions, self.latent_size, area, self.front)
        like = torch.empty(0, device=device)
        return (self._placements[area].bias(chosen, grid, like) > -torch.inf).float()

    def _where(self, owners: tuple[Owner | None, ...], device: torch.device) -> "_Where":
        if (owners, device) not in self._wheres:
            self._wheres[owners, device] = _Where.of(owners, len(self.regions), len(self.token_names), device)
        return self._wheres[owners, device]

    def _cells(self, area: Area | None) -> tuple[int, int]:
        return self.latent_size if area is None else area[:2]

    # -- what came of it ------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was recorded."""
        return not self.seen

    def size(self) -> int:
        """Return how many bytes the sums take."""
        return sum(4 * (one.tokens.numel() + one.shares.numel()) for one in self.sums.values())

    def finish(self):
        """Bring the sums to the CPU, and let go of what only recording needed."""
        self.sums = {
            key: Sums(one.tokens.cpu(), one.shares.cpu(), one.counts) for key, one in self.sums.items()
        }
        self._placements.clear()
        self._wheres.clear()

    def maps(self, picture: int, instance: int) -> torch.Tensor:
        """Return where a picture attended to each token of an instance.

        Every block in every call counts the same, whatever its grid.

        Returns:
            (L, height, width), the share of attention, 0 to 1, on the cells of the latent; their sum over L is what
            the instance got. 0 outside its place, and everywhere if it never took part.
        """
        total = torch.zeros(len(self.token_names), *self.latent_size)
        count = torch.zeros(self.latent_size)
        for (grid, area), sums in self.sums.items():
            height, width, y, x = area or (*self.latent_size, 0, 0)
            tokens = sums.tokens[picture, instance].unflatten(-1, grid)
            total[:, y : y + height, x : x + width] += spread_tokens(tokens, (height, width))
            count[y : y + height, x : x + width] += sums.counts[picture, instance]
        return total / count.clamp(min=1)

    def shares(self, picture: int) -> torch.Tensor:
        """Return what each instance's place attended to, the mean over its image tokens, blocks and calls.

        Returns:
            (N, 2 N + 2), rows that sum to 1, or to 0 for an instance that never took part. In row n: attention to
            the tokens of each instance; to the image tokens in the place of each, in its own place (column N + n)
            whoever else lies there too, and outside it a token where several others lie in equal parts to each;
            to image tokens where no instance lies; to tokens of no instance.
        """
        count = sum((sums.counts[picture] for sums in self.sums.values()), torch.zeros(len(self.regions)))
        total = sum(
            (sums.shares[picture] for sums in self.sums.values()),
            torch.zeros(len(self.regions), 2 * len(self.regions) + 2),
        )
        return total / count.clamp(min=1)[:, None]


class _Where(NamedTuple):
    """Where the S instance tokens of a call belong among those of all N instances.

    Args:
        chosen, instances: the n instances that take part, as numbers and on the device.
        owned: which tokens are an instance's.
        slots: for each of these, its place among all N * L.
        columns: for each of the S, its column of the shares.
    """

    chosen: tuple[int, ...]
    instances: torch.Tensor
    owned: torch.Tensor
    slots: torch.Tensor
    columns: torch.Tensor

    @classmethod
    def of(cls, owners: tuple[Owner | None, ...], count: int, length: int, device: torch.device):
        chosen = tuple(sorted({owner[0] for owner in owners if owner is not None}))
        owned = [index for index, owner in enumerate(owners) if owner is not None]
        slots = [owner[0] * length + owner[1] for owner in owners if owner is not None]
        columns = [2 * count + 1 if owner is None else owner[0] for owner in owners]
        return cls(chosen, *(torch.tensor(part, device=device) for part in (chosen, owned, slots, columns)))


def attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    bias: torch.Tensor,
    image_bias: torch.Tensor | None,
    places: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention's weights, their mean over heads, a few queries at a time.

    Args:
        q: (heads, Q, d), of image tokens.
        keys: (heads, Q + S, d), of image and instance tokens.
        bias: (Q, S), added to the logits of instance tokens.
        image_bias: (Q, Q), added to those of image tokens; None: nothing.
        places: (n, Q), 0 or 1.

    Returns:
        What the image tokens see of each instance token, (S, Q), and what n places see, (n, Q + S): the mean over
        the image tokens that lie there.
    """
    heads, visual, width = q.shape
    keys = keys.float().transpose(1, 2) * width**-0.5
    told, seen = q.new_empty(bias.shape[1], visual, dtype=torch.float32), 0
    step = max(CHUNK // (heads * keys.shape[2]), 1)
    for start in range(0, visual, step):
        part = slice(start, start + step)
        logits = q[:, part].float() @ keys
        logits[..., visual:] += bias[part]
        if image_bias is not None:
            logits[..., :visual] += image_bias[part]
        weights = logits.softmax(-1).mean(0)
        told[:, part] = weights[:, visual:].T
        seen = seen + places[:, part] @ weights
    return told, seen / places.sum(1, keepdim=True)


def shares_of_places(seen: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide what each place sees of the picture among the places.

    Args:
        seen: (n, Q), how much each place attends to each image token.
        places: (n, Q), 0 or 1.

    Returns:
        (n, n), how much each place attends to itself (on the diagonal) and, outside itself, to each other; where
        several others lie they get equal parts. And (n,), to where none lies.
    """
    outside = seen * (1 - places)
    crowd = places.sum(0)
    among = outside @ (places / crowd.clamp(min=1)).T
    among.diagonal().copy_((seen * places).sum(1))
    return among, outside @ (crowd == 0).float()
