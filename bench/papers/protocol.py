"""How the papers' scripts paint and what they count, number by number.

Taken from `eval/eval_deigbench.py` and `eval/eval_migbench.py` of DEIG's authors; the paper names the measures (MAA,
instance success rate, mIoU), the scripts say how they are counted. What is ours is said where it stands.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .entries import DEIG, MIG, Bench

# The question that the judging model gets with the cut-out instance, to the blank: the script's line ends inside it.
QUESTION = "Does this image meet the description '{}'? If so, please answer a single 'yes'; " + (
    " " * 17 + "if not, please answer a single 'no'"
)
ANSWER_TOKENS = 128  # the longest answer that is waited for

BOX_THRESHOLD = 0.25  # a detection needs a score above it
NMS_THRESHOLD = 0.8  # of two detections that share more than this the weaker one goes
IOU_THRESHOLD = 0.5  # an instance is in its place where a detection has at least this IoU with its box
SIDE = 512  # of a picture as it is judged, pixels

NEGATIVE = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality"
)


PAPER = "paper"  # the sampler that is the authors' own: the node DEIG Paper Sampling


@dataclass(frozen=True)
class Sampling:
    """How pictures are painted.

    Args:
        steps: as the script asks for them; it takes 31 for 30, and so do `PAPER` and `ddim_uniform`.
        size: side of the square picture, pixels.
        sampler, scheduler: the host's; or `PAPER`, which has its own schedule and noise.
    """

    steps: int
    guidance: float
    negative: str
    size: int
    sampler: str = "euler"
    scheduler: str = "ddim_uniform"


@dataclass(frozen=True)
class Protocol:
    """How a benchmark's pictures are painted, and from which seed by default."""

    sampling: Sampling
    seed: int


PROTOCOLS = {
    DEIG: Protocol(Sampling(30, 7.5, NEGATIVE, SIDE, PAPER, ""), 42),
    MIG: Protocol(Sampling(40, 7.5, NEGATIVE, SIDE, PAPER, ""), 123),
}
# Ours: as `bench --quality` paints with the small model.
SHAPES = Protocol(Sampling(16, 4.0, "", 128), 0)


def protocol_of(bench: Bench) -> Protocol:
    """Return how a benchmark is painted."""
    return SHAPES if bench.of_shapes else PROTOCOLS[bench.kind]


def says_yes(answer: str, any_case: bool = False) -> bool:
    """Say whether an answer counts as yes: where "yes" stands anywhere in it, in small letters.

    Args:
        any_case: count "Yes" too, which the script does not.
    """
    return "yes" in (answer.lower() if any_case else answer)


def is_unclear(answer: str) -> bool:
    """Say whether an answer is counted as a no without saying so: it has neither word as it was asked for."""
    return "yes" not in answer and "no" not in answer


def as_judged(picture: Image.Image) -> np.ndarray:
    """Return a picture as the scripts' judges see it: through a JPEG of PIL's own quality, 512 pixels a side.

    The scripts save under the file's name, which ends in .jpg, and read that back; pictures of another height they
    stretch by OpenCV's bilinear filter.

    Returns:
        (512, 512, 3), uint8, RGB.
    """
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG")
    pixels = np.asarray(Image.open(file))
    if pixels.shape[0] == SIDE:
        return pixels
    channels = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    resized = F.interpolate(channels, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).round().byte().numpy()


def cut_out(picture: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    """Return the part of a picture in a box, xyxy in pixels, edges rounded half to even."""
    x0, y0, x1, y1 = box
    # Width and height first, as the script does, since the sum may round otherwise.
    return Image.fromarray(picture).crop((x0, y0, x0 + (x1 - x0), y0 + (y1 - y0)))
