"""Tokens of phrases at one timestep, remembered.

Nothing here is worked out ahead for a schedule: tokens are computed for the timestep that is being denoised,
when it is, and kept, so that another seed or a moved box finds them ready.
"""

import threading
from collections import OrderedDict

import torch

from ..fusion.instances import EncodedText
from ..fusion.placement import Placement
from .adapter import Adapter


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
