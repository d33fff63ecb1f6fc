"""Grounding: an adapter, a list of instances, and what happens where they overlap."""

from dataclasses import dataclass

import torch

from ..fusion.grounding import GroundedRows
from ..fusion.instances import EncodedText, Instances
from ..fusion.placement import Placement
from ..fusion.schedule import active_regions
from ..regions.region import Regions
from .adapter import Adapter
from .refiner import Refiner, instance_tokens

TRAINED_INSTANCES = 30


@dataclass(frozen=True, eq=False)
class Grounding:
    """Instances, the adapter that paints them, and what happens where they overlap.

    Args:
        refiner: the adapter with its memory of tokens.
        instances: what goes where.
        front: where places overlap the later region gets the tokens, instead of all sharing them.

    Raises:
        ValueError: if the phrases were not read by T5, or at another width than the adapter reads.
    """

    refiner: Refiner
    instances: Instances
    front: bool = False

    def __post_init__(self):
        if not isinstance(self.instances.text, EncodedText):
            raise ValueError(
                "This adapter is DEIG's, which takes phrases read by T5, but these were read by CLIP. Connect 'DEIG "
                "Load Text Encoder' to the input text_encoder of 'DEIG Encode Regions'."
            )
        check_width(self.refiner.adapter, self.instances.text)

    @property
    def adapter(self) -> Adapter:
        return self.refiner.adapter

    @property
    def regions(self) -> Regions:
        return self.instances.regions

    @property
    def token_names(self) -> tuple[str, ...]:
        """What each of an instance's tokens is called: they are learned and have numbers alone."""
        return tuple(str(number) for number in range(1, self.adapter.sizes.ide.tokens + 1))

    def active(self, percent: float) -> tuple[int, ...]:
        """Return the regions that act at a point of the schedule; those of strength 0 never do."""
        return active_regions(self.regions, percent)

    def acts(self, active: tuple[int, ...]) -> bool:
        """Tell whether the fusers run where these regions are active: without any they are off for all."""
        return bool(active)

    def on_latent(self, latent_size: tuple[int, int]) -> "InstancesOnLatent":
        """Return the instances on one latent, for one run; its size is (height, width) in cells."""
        return InstancesOnLatent(self, latent_size)


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


class InstancesOnLatent:
    """A grounding's instances on one latent; it lives as long as a run.

    Args:
        grounding: the instances.
        latent_size: (height, width) of the latent, in cells.
    """

    def __init__(self, grounding: Grounding, latent_size: tuple[int, int]):
        self.grounding, self.latent_size = grounding, latent_size
        self._placements: dict[tuple | None, Placement] = {}
        self._moved: dict[tuple, EncodedText] = {}

    def placement(self, area: tuple[int, ...] | None) -> Placement:
        """Return where the instances lie on a crop, (height, width, y, x) in cells, or on the whole latent."""
        if area not in self._placements:
            self._placements[area] = Placement(
                self.grounding.regions, self.latent_size, area, self.grounding.front
            )
        return self._placements[area]

    def on(self, text: EncodedText, device: torch.device, dtype: torch.dtype) -> EncodedText:
        """Return a text on a device; its features go there once a run and not at every step."""
        key = (text, device, dtype)
        if key not in self._moved:
            self._moved[key] = text.to(device, dtype)
        return self._moved[key]

    def prompt(
        self,
        prompt: EncodedText,
        member: int | None,
        timestep: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Return what cross-attention takes for a T5 prompt, (1, tokens, width).

        Args:
            prompt: the prompt.
            member: an instance that is denoised alone, whose phrase stands in for the prompt, or None.
            timestep, device, dtype: see `rows`.
        """
        if member is not None:
            prompt = self.on(self.grounding.instances.text, device, dtype).only(member)
        else:
            prompt = self.on(prompt, device, dtype)
        return self.grounding.refiner.tokens(prompt, timestep, device, dtype)

    def rows(
        self,
        rows: int,
        strength: float,
        chosen: tuple[int, ...] | None,
        area: tuple[int, ...] | None,
        timestep: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> GroundedRows:
        """Make what rows of a batch need.

        Args:
            rows: how many.
            strength: multiplies the fusers' gates.
            chosen: which instances take part, or None for a negative; those outside the crop are left out.
            area: the crop that is denoised, None for the whole.
            timestep: the timestep being denoised, 0 to 999.
            device, dtype: where and in what to compute tokens.
        """
        if chosen is None or strength == 0:
            return GroundedRows(rows, strength)
        placement = self.placement(area)
        text = self.on(self.grounding.instances.text, device, dtype)
        objs = instance_tokens(self.grounding.refiner, text, placement, chosen, timestep, device, dtype)
        return GroundedRows(rows, strength, placement, *objs)
