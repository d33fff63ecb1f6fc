"""Grounding: an adapter and a list of regions with their phrases read, turned into what the fusers need.

Tokens do not depend on the timestep: they are made once for a run and a place, with their keys and values for each
block. What has no regions, the negative prompt above all, goes through the fusers too, with null tokens: so the model
was trained.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ..fusion.attention_record import Owner
from ..fusion.fuser import Grounded
from ..fusion.instances import Instances, ReadPhrases
from ..fusion.schedule import active_regions
from ..regions.region import Regions
from .adapter import InstanceDiffusionAdapter
from .masked_attention import OFF, check_masked, image_bias, masked_places, token_bias
from .places import Area, frame_of, is_inside, places_of
from .uni_fusion import OWN_TOKEN, RELEASED_KINDS, Kinds, Tokens, log_counts


@dataclass(frozen=True, eq=False)
class InstanceGrounding:
    """Regions, the adapter that paints them, and how their places are told to it.

    Args:
        adapter: the adapter.
        instances: what goes where.
        kinds: which kinds of place are used.
        masked: whether attention is masked by instance, one of masked_attention.CHOICES.

    Raises:
        ValueError: if the phrases were not read by CLIP, or not at the width that the adapter takes.
    """

    adapter: InstanceDiffusionAdapter
    instances: Instances
    kinds: Kinds = RELEASED_KINDS["mask"]
    masked: str = OFF
    front: ClassVar[bool] = False  # where places overlap all regions are seen

    def __post_init__(self):
        check_masked(self.masked)
        if not isinstance(self.text, ReadPhrases):
            raise ValueError(
                "This adapter is InstanceDiffusion's, which takes phrases read by CLIP, but these were read by T5. "
                "Connect the CLIP of the checkpoint to the input text_encoder of 'DEIG Encode Regions'."
            )
        given, wanted = self.text.pooled.shape[-1], self.adapter.sizes.uni_fusion.text_width
        if given != wanted:
            raise ValueError(
                f"CLIP gives {given} numbers for a phrase, but this adapter takes {wanted}. Connect the CLIP of a "
                "Stable Diffusion 1.x checkpoint to 'DEIG Encode Regions'."
            )

    @property
    def regions(self) -> Regions:
        return self.instances.regions

    @property
    def text(self) -> ReadPhrases:
        return self.instances.text

    @property
    def token_names(self) -> tuple[str, ...]:
        """What each of an instance's tokens is called: the kind of place that it tells of."""
        return tuple(OWN_TOKEN)

    def active(self, percent: float) -> tuple[int, ...]:
        """Return the regions that act at a point of the schedule; those of strength 0 never do."""
        return active_regions(self.regions, percent)

    def acts(self, active: tuple[int, ...]) -> bool:
        """Tell whether the fusers run where these regions are active: always."""
        return True

    def on_latent(self, latent_size: tuple[int, int]) -> "TokensOnLatent":
        """Return the regions on one latent, for one run; its size is (height, width) in cells."""
        return TokensOnLatent(self, latent_size)


@dataclass(eq=False)
class TokenRows:
    """Rows of a batch during one call of the model: their tokens, ready for every block.

    Args:
        rows: how many.
        strength: multiplies the fusers' gates.
        tokens: of the n regions that take part, or null tokens alone.
        chosen: which regions these are.
        boxes: (n, 4), their boxes on the latent or the crop.
        grounding: the settings.
    """

    rows: int
    strength: float
    tokens: Tokens
    chosen: tuple[int, ...]
    boxes: torch.Tensor
    grounding: InstanceGrounding
    _biases: dict = field(default_factory=dict)
    _projected: dict = field(default_factory=dict)

    def at(self, grid: tuple[int, int], like: torch.Tensor) -> Grounded:
        """Return what a fuser needs on a grid of image tokens."""
        key = (grid, like.device, like.dtype)
        if key not in self._biases:
            self._biases[key] = tuple(None if bias is None else bias.to(like) for bias in self._bias(grid))
        token, image = self._biases[key]
        return Grounded(self.rows, self.tokens.objs[:, None].to(like), token, image, self._projected)

    def owners(self) -> tuple[Owner | None, ...]:
        """Return whose each token is, and of which kind; null tokens and those of all masks are nobody's."""
        kinds = list(OWN_TOKEN)
        return tuple(
            None if slot is None else (self.chosen[slot], kinds.index(kind))
            for kind, slot in zip(self.tokens.kinds, self.tokens.slots, strict=True)
        )

    def _bias(self, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        strengths = tuple(self.grounding.regions[i].strength for i in self.chosen)
        logs = log_counts(self.tokens, strengths)
        places = masked_places(self.boxes, self.grounding.kinds, grid, self.grounding.masked)
        if places is None:
            return logs[:, None].expand(-1, grid[0] * grid[1]), None
        return token_bias(places, self.tokens, logs), image_bias(places)


class TokensOnLatent:
    """A grounding's regions on one latent; it lives as long as a run and keeps its tokens.

    Args:
        grounding: the regions.
        latent_size: (height, width) of the latent, in cells.
    """

    def __init__(self, grounding: InstanceGrounding, latent_size: tuple[int, int]):
        self.grounding, self.latent_size = grounding, latent_size
        self._kept: dict[tuple, TokenRows] = {}

    def rows(
        self,
        rows: int,
        strength: float,
        chosen: tuple[int, ...] | None,
        area: Area | None,
        timestep: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> TokenRows:
        """Make what rows of a batch need.

        Args:
            rows: how many.
            strength: multiplies the fusers' gates.
            chosen: which regions take part, or None for a negative; those outside the crop are left out.
            area: the crop that is denoised, None for the whole.
            timestep: does not matter here.
            device, dtype: where and in what to compute tokens.
        """
        key = (chosen or (), area, device, dtype)
        if key not in self._kept:
            self._kept[key] = self._tokens(*key)
        kept = self._kept[key]
        # The parts that do not depend on strength and number are shared, not copied.
        return TokenRows(
            rows,
            strength,
            kept.tokens,
            kept.chosen,
            kept.boxes,
            self.grounding,
            kept._biases,
            kept._projected,
        )

    def _tokens(
        self, chosen: tuple[int, ...], area: Area | None, device: torch.device, dtype: torch.dtype
    ) -> TokenRows:
        frame = frame_of(area, self.latent_size)
        chosen = tuple(i for i in chosen if is_inside(self.grounding.regions[i], frame))
        places = places_of([self.grounding.regions[i] for i in chosen], frame)
        phrases = self.grounding.text.pooled[list(chosen)].to(device, dtype)
        tokens = self.grounding.adapter.position_net(phrases, places, self.grounding.kinds)
        return TokenRows(0, 0.0, tokens, chosen, places.boxes, self.grounding)
