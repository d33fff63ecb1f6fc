"""MIG-Bench's colours: ranges of hue, saturation and value as OpenCV counts them in 8 bits.

The ranges, and the share of a mask that has to lie in them, are those of `eval/eval_migbench.py` of DEIG's authors,
which has them from MIGC.
"""

import numpy as np

Range = tuple[tuple[int, int, int], tuple[int, int, int]]

# (lowest, highest) hue 0 to 180, saturation and value 0 to 255, both ends included. Red lies around hue 0.
RANGES: dict[str, tuple[Range, ...]] = {
    "red": (((0, 50, 70), (9, 255, 255)), ((159, 50, 70), (180, 255, 255))),
    "blue": (((90, 50, 70), (128, 255, 255)),),
    "yellow": (((25, 50, 70), (35, 255, 255)),),
    "green": (((36, 50, 70), (89, 255, 255)),),
    "black": (((0, 0, 0), (180, 255, 30)),),
    "white": (((0, 0, 221), (180, 43, 255)),),
    "brown": (((6, 43, 35), (25, 255, 255)),),
}
ENOUGH = 0.2  # share of an instance's pixels that have its colour

_SHIFT = 12  # OpenCV divides by a table of 20 bits


def hsv(picture: np.ndarray) -> np.ndarray:
    """Turn RGB into hue, saturation and value, to the bit as OpenCV's cvtColor does.

    Args:
        picture: (..., 3), uint8, RGB.

    Returns:
        (..., 3), uint8: hue 0 to 179, saturation and value 0 to 255.
    """
    red, green, blue = np.moveaxis(picture.astype(np.int64), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    half = 1 << (_SHIFT - 1)
    saturation = (spread * _table(255)[value] + half) >> _SHIFT
    hue = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (hue * _table(30)[spread] + half) >> _SHIFT
    hue = np.where(hue < 0, hue + 180, hue)
    return np.stack([hue, saturation, value], -1).astype(np.uint8)


def _table(scale: int) -> np.ndarray:
    """scale / i in fixed point for i of 0 to 255; 0 for 0."""
    divisors = np.arange(1, 256)
    return np.concatenate([[0], np.rint((scale << _SHIFT) / divisors)]).astype(np.int64)


def colour_share(picture: np.ndarray, mask: np.ndarray, colour: str) -> float:
    """Return how much of a mask has a colour; 0 where the mask is empty.

    Args:
        picture: (H, W, 3), uint8, RGB.
        mask: (H, W), bool.
        colour: one of `RANGES`.
    """
    pixels = hsv(picture[mask])
    if not len(pixels):
        return 0.0
    within = [((pixels >= low) & (pixels <= high)).all(-1) for low, high in RANGES[colour]]
    return float(np.logical_or.reduce(within).mean())
