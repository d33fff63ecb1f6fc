"""What comes into the editor by a wire: the layout that its canvas begins with, and then goes on from."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .boxes import BoxOptions, read_boxes
from .layouts import Layout, read_layout, write_layout
from .region import Mask, Region, Regions

# Along a mask's longer side: eight times as fine as the tokens of a 512 picture, and some kilobytes of JSON.
FINEST_SIDE = 512


@dataclass(frozen=True)
class Seed:
    """A layout to begin with.

    Args:
        text: as this pack's JSON, masks hard and of a size that a workflow can carry.
        digest: of that text; the canvas keeps it, so that the same seed never takes its place twice.
    """

    text: str
    digest: str

    def layout(self, width: int, height: int) -> Layout:
        """The layout as the canvas will hold it."""
        return read_layout(self.text, "deig", width, height)


def seed_of(incoming: Any, width: int, height: int) -> Seed:
    """Make a seed of what a wire brings: text in any form of layout, regions, boxes or elements of the host's canvas.

    Boxes are in pixels of width x height, and have a label or a description.

    Raises:
        ValueError: it is none of these, or something in it does not fit.
    """
    if isinstance(incoming, str):
        layout = read_layout(incoming, "auto", width, height)
    elif isinstance(incoming, tuple) and all(isinstance(one, Region) for one in incoming):
        layout = Layout(incoming)
    else:
        layout = Layout(_regions_of_boxes(incoming, width, height))
    text = shown_text(layout.regions, layout.prompt)
    return Seed(text, hashlib.sha256(text.encode()).hexdigest()[:16])


def _regions_of_boxes(boxes: Any, width: int, height: int) -> Regions:
    try:
        return read_boxes(boxes, width, height, BoxOptions(phrases="labels")).regions
    except ValueError as error:
        if "has no label" not in str(error):
            raise
    try:
        return read_boxes(boxes, width, height, BoxOptions(phrases="metadata")).regions
    except ValueError as error:
        raise ValueError(
            f"{error} Or put DEIG Regions From Boxes between, with a line for each box, and wire its regions here."
        ) from None


def shown_text(regions: Regions, prompt: str = "") -> str:
    """Regions as JSON for the canvas: soft and very fine masks become hard ones that a workflow can carry."""
    return write_layout(Layout(tuple(_shown(region) for region in regions), prompt))


def _shown(region: Region) -> Region:
    if region.mask is None:
        return region
    values = torch.as_tensor(np.asarray(region.mask.values), dtype=torch.float32)
    height, width = values.shape
    scale = FINEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(round(height * scale), 1), max(round(width * scale), 1))
        values = F.interpolate(values[None, None], size, mode="area")[0, 0]
    # Half of what it is at most: a faint mask is still a place.
    return replace(region, mask=Mask((values >= values.max() / 2).float().numpy()))


def drawn_state(text: str) -> tuple[str, str]:
    """The prompt and the digest of the last seed that the canvas's own JSON holds; "" for what it has not."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):  # the latter where brackets are nested too deeply
        return "", ""
    if not isinstance(data, dict):
        return "", ""
    return tuple(data[key] if isinstance(data.get(key), str) else "" for key in ("prompt", "incoming"))
