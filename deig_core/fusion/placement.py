"""Where regions lie on a latent or a crop of it, as what fusers add to their attention logits."""

from collections.abc import Sequence

import torch

from ..regions.raster import cell_places, crop_boxes, token_places
from ..regions.region import Region


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
