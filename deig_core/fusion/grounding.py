"""Grounding: an adapter and a list of instances, turned into what the fusers need at one timestep.

Nothing here is worked out ahead for a schedule: tokens are computed for the timestep that is being denoised,
when it is, and kept, so that another seed or a moved box finds them ready.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from ..deig.adapter import Adapter, BlockId
from ..regions.raster import cell_places, crop_boxes, token_places
from ..regions.region import Region, Regions
from .fuser import Fuser, Grounded

TRAINED_INSTANCES = 30


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Phrases as the text encoder read them.

    Args:
        phrases: N phrases, or prompts.
        features: (N, S, text_width), padding positions included.
        encoder: the identity of the text encoder; features of two encoders do not mix.
    """

    phrases: tuple[str, ...]
    features: torch.Tensor
    encoder: str

    def to(self, device: torch.device, dtype: torch.dtype) -> "EncodedText":
        """Return the same on a device and in a dtype, which the device itself turns it into."""
        return replace(self, features=self.features.to(device).to(dtype))

    def only(self, index: int) -> "EncodedText":
        """Return one of the phrases by itself."""
        return EncodedText(self.phrases[index : index + 1], self.features[index : index + 1], self.encoder)


@dataclass(frozen=True, eq=False)
class Instances:
    """Regions with their phrases encoded; `text` has one phrase for each region, in order."""

    regions: Regions
    text: EncodedText


@dataclass(frozen=True)
class Schedule:
    """When DEIG acts on a picture and how strongly: full strength, then a linear decay, then off.

    Args:
        strength: multiplies both gates of every fuser while it acts, 0 or more.
        start_percent: where in the sampling schedule it begins, 0 to 1.
        end_percent: where it ends, 0 to 1.
        decay_percent: over how much of the schedule before the end the strength falls linearly to 0.

    Raises:
        ValueError: naming the value that does not fit.
    """

    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    decay_percent: float = 0.0

    def __post_init__(self):
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength is {self.strength}; it takes 0 or more.")
        if not 0 <= self.start_percent <= self.end_percent <= 1:
            raise ValueError(
                f"start_percent is {self.start_percent} and end_percent {self.end_percent}; both take 0 to 1, "
                "and the start must not come after the end."
            )
        if not 0 <= self.decay_percent <= 1:
            raise ValueError(f"decay_percent is {self.decay_percent}; it takes 0 to 1.")

    def strength_at(self, percent: float) -> float:
        """Return the strength at a point of the schedule, 0 (noise) to 1 (clean)."""
        if not is_active(self.start_percent, self.end_percent, percent):
            return 0.0
        remaining = self.end_percent - percent
        return (
            self.strength
            if remaining >= self.decay_percent
            else self.strength * remaining / self.decay_percent
        )


def is_active(start_percent: float, end_percent: float, percent: float) -> bool:
    """Tell whether a point of the schedule lies in [start, end); the schedule's own last point is in too."""
    return start_percent <= percent and (percent < end_percent or end_percent == 1.0)


class Refiner:
    """An adapter that remembers the tokens it extracted.

    Tokens are kept for each (encoder, phrase, timestep) by itself, so changing one phrase of ten extracts
    one.

    Args:
        adapter: the adapter.
        capacity: how many phrase-timesteps to keep; the longest unused go first. The released model's 16
            tokens of 768 take 48 KiB in float32, so 2048 of them (50 phrases over 40 steps) are 96 MiB.
    """

    def __init__(self, adapter: Adapter, capacity: int = 2048):
        self.adapter = adapter
        self.capacity = capacity
        self.evaluated = 0  # phrase-timesteps that the IDE really ran for
        self._kept: OrderedDict[tuple, torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()  # a host with several GPUs samples in several threads

    @torch.no_grad()
    def tokens(
        self, text: EncodedText, timestep: float, device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """Extract the detail of phrases for a timestep, or remember it.

        Args:
            text: N phrases.
            timestep: the timestep being denoised, 0 to 999.
            device, dtype: where and in what to compute.

        Returns:
            (N, tokens, width)
        """
        keys = [(text.encoder, phrase, timestep, device, dtype) for phrase in text.phrases]
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:
            # Stacked, since an index made of numbers would have to be copied to the device.
            features = torch.stack([text.features[keys.index(key)] for key in missing]).to(device, dtype)
            timesteps = torch.full((len(missing),), timestep, device=device)
            # Cloned, so that one row kept does not keep its whole batch.
            tokens = (row.clone() for row in self.adapter.IDE(features, timesteps))
            found.update(zip(missing, tokens, strict=True))
            self._keep({key: found[key] for key in missing})
        if not keys:
            sizes = self.adapter.sizes.ide
            return torch.empty(0, sizes.tokens, sizes.width, device=device, dtype=dtype)
        return torch.stack([found[key] for key in keys])

    def _keep(self, tokens: dict[tuple, torch.Tensor]):
        with self._lock:
            self.evaluated += len(tokens)
            self._kept.update(tokens)
            while len(self._kept) > self.capacity:
                self._kept.popitem(last=False)


@dataclass(frozen=True, eq=False)
class Grounding:
    """Instances, the adapter that paints them, and what happens where they overlap.

    Args:
        refiner: the adapter with its memory of tokens.
        instances: what goes where.
        front: where places overlap the later region gets the tokens, instead of all sharing them.

    Raises:
        ValueError: if the phrases were encoded at another width than the adapter reads.
    """

    refiner: Refiner
    instances: Instances
    front: bool = False

    def __post_init__(self):
        check_width(self.refiner.adapter, self.instances.text)

    def active(self, percent: float) -> tuple[int, ...]:
        """Return the regions that act at a point of the schedule; those of strength 0 never do."""
        return tuple(
            i
            for i, region in enumerate(self.instances.regions)
            if region.strength > 0 and is_active(region.start_percent, region.end_percent, percent)
        )


def check_width(adapter: Adapter, text: EncodedText):
    """Refuse features of another width than the adapter's IDE reads.

    Raises:
        ValueError: naming both widths.
    """
    given, wanted = text.features.shape[-1], adapter.sizes.ide.text_width
    if given != wanted:
        released = " (Flan-T5-XL)" if wanted == 2048 else ""
        raise ValueError(
            f"The text encoder '{text.encoder}' gives features {given} wide, but this adapter reads features "
            f"{wanted} wide{released}. In 'DEIG Load Text Encoder' choose the encoder that the adapter was "
            "trained with, or load another adapter."
        )


class Placement:
    """Where a list of regions lies on one latent, or on one crop of it.

    Args:
        regions: N regions.
        latent_size: (height, width) of the whole latent, in cells of 8 pixels.
        area: (height, width, y, x) of the crop that is being denoised, in cells; None: the whole.
        front: where places overlap the later region gets the tokens.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        latent_size: tuple[int, int],
        area: tuple[int, int, int, int] | None = None,
        front: bool = False,
    ):
        self.front = front
        cells = cell_places(regions, latent_size)
        boxes = torch.tensor([region.box for region in regions]).reshape(-1, 4)
        if area is not None:
            height, width, y, x = area
            cells = cells[:, y : y + height, x : x + width]
            boxes = crop_boxes(boxes, latent_size, area)
        self.cells = cells
        self.boxes = boxes
        self.strengths = torch.tensor([region.strength for region in regions])
        self.inside = [bool(place.any()) for place in cells]
        self._biases: dict[tuple, torch.Tensor] = {}
        self._boxes: dict[tuple, torch.Tensor] = {}

    def boxes_of(self, chosen: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """Return the boxes of n regions, (n, 4), xyxy, fractions of the latent or the crop."""
        key = (chosen, device)
        if key not in self._boxes:
            self._boxes[key] = self.boxes[list(chosen)].to(device)
        return self._boxes[key]

    def bias(self, chosen: tuple[int, ...], grid: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
        """Return what is added to the logits between image tokens and instances.

        Args:
            chosen: the n regions that take part.
            grid: (rows, columns) of the image tokens.
            like: a tensor of the device and dtype wanted.

        Returns:
            (n, rows * columns): the logarithm of strength times place, -inf outside.
        """
        key = (chosen, grid, like.device, like.dtype)
        if key not in self._biases:
            indices = list(chosen)
            places = token_places(self.cells[indices], tuple(self.cells.shape[1:]), grid, self.front)
            weights = places.flatten(1) * self.strengths[indices, None]
            self._biases[key] = weights.log().to(like)
        return self._biases[key]


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


def instance_tokens(
    refiner: Refiner,
    text: EncodedText,
    placement: Placement,
    chosen: tuple[int, ...],
    timestep: float,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[tuple[int, ...], torch.Tensor | None]:
    """Compute the tokens of instances at one timestep, with their places added.

    Args:
        refiner: whose adapter computes them.
        text: the phrases of all instances.
        placement: where they lie on the latent, or the crop, that is denoised.
        chosen: which of them act; those that lie outside the crop are left out.
        timestep: the timestep being denoised, 0 to 999.
        device, dtype: where and in what to compute.

    Returns:
        The n that take part, and their tokens, (n, L, context_width), or None if there are none.
    """
    chosen = tuple(i for i in chosen if placement.inside[i])
    if not chosen:
        return (), None
    # All phrases go to the IDE, so that a region's start or a crop never causes a second evaluation.
    tokens = refiner.tokens(text, timestep, device, dtype)
    tokens = torch.stack([tokens[i] for i in chosen])
    with torch.no_grad():
        return chosen, refiner.adapter.position_net(tokens, placement.boxes_of(chosen, device))


@dataclass(eq=False)
class CallGrounding:
    """Everything the fusers need during one call of the model.

    Args:
        adapter: whose fusers run.
        groups: the rows of the batch, in order.
    """

    adapter: Adapter
    groups: Sequence[GroundedRows]
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
        return fuser(x, self._at_grid[grid], self._strength(x))

    def _strength(self, x: torch.Tensor) -> float | torch.Tensor:
        if self._strengths is None:
            each = [group.strength for group in self.groups for _ in range(group.rows)]
            self._strengths = each[0] if len(set(each)) == 1 else x.new_tensor(each)[:, None, None]
        return self._strengths
