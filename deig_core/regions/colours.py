"""Words for colours: what a palette of hexadecimal colours says in a phrase."""

import math
import re
from functools import lru_cache
from typing import Any

# sRGB of plain English colour words, each about where people agree on it: the eleven basic terms of Berlin and Kay
# (1969) and shades that a painter of phrases tells apart.
WORDS = {
    "black": (0, 0, 0),
    "dark grey": (64, 64, 64),
    "grey": (128, 128, 128),
    "light grey": (200, 200, 200),
    "white": (255, 255, 255),
    "red": (220, 20, 30),
    "dark red": (120, 10, 20),
    "pink": (255, 150, 185),
    "magenta": (220, 30, 160),
    "purple": (120, 40, 150),
    "lavender": (190, 165, 225),
    "navy blue": (20, 30, 90),
    "blue": (30, 70, 220),
    "light blue": (150, 200, 240),
    "turquoise": (50, 200, 195),
    "teal": (10, 110, 115),
    "dark green": (15, 80, 35),
    "green": (40, 160, 50),
    "bright green": (40, 245, 50),
    "light green": (150, 220, 140),
    "olive": (115, 115, 35),
    "yellow": (250, 220, 40),
    "gold": (210, 165, 50),
    "orange": (253, 145, 15),
    "brown": (115, 65, 30),
    "beige": (225, 205, 170),
    "cream": (248, 242, 215),
}
COLOURLESS = 0.02  # chroma in OKLab below which a colour is black, white or a grey
HEX = re.compile(r"#?(?:[0-9a-fA-F]{3}){1,2}")


def colour_word(code: str) -> str:
    """Return the word nearest to a colour, #rrggbb or #rgb, as the eye sees distances (OKLab); of a grey, a grey's.

    Raises:
        ValueError: it is no such colour.
    """
    if not isinstance(code, str) or not HEX.fullmatch(code.strip()):
        raise ValueError(f"The colour {_shown(code)} is not written #rrggbb.")
    digits = code.strip().removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    wanted = _oklab(tuple(int(digits[at : at + 2], 16) for at in (0, 2, 4)))
    colours = {word: _oklab(rgb) for word, rgb in WORDS.items()}
    if _chroma(wanted) < COLOURLESS:
        # Between two greys a faint colour of their lightness would be the nearest.
        colours = {word: colour for word, colour in colours.items() if _chroma(colour) < COLOURLESS}
    return min(colours, key=lambda word: math.dist(colours[word], wanted))


def palette_words(palette: list[str]) -> str:
    """Return the words of a palette's colours, each once: "red, white and navy blue"; "" for an empty palette."""
    words = list(dict.fromkeys(colour_word(code) for code in palette))
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def coloured(phrase: str, palette: Any, place: str) -> str:
    """Return a phrase with the words of a palette's colours behind it: "a cup, in red and navy blue".

    Args:
        palette: a list of colours; empty or None leaves the phrase as it is.
        place: where the palette stands, for messages.

    Raises:
        ValueError: it is no list of colours.
    """
    palette = palette or ()
    if not isinstance(palette, list | tuple):
        raise ValueError(f"{place} should be a list of colours, but it is {_shown(palette)}.")
    try:
        words = palette_words(palette)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return f"{phrase}, in {words}" if words else phrase


def _shown(value: Any) -> str:
    """A value for a message: not the whole of a long one."""
    return repr(value[:60] if isinstance(value, str) else value)[:80]


def _chroma(colour: tuple[float, float, float]) -> float:
    return math.hypot(*colour[1:])


@lru_cache(maxsize=1024)
def _oklab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """sRGB, 0 to 255 -> OKLab (Ottosson, 2020)."""
    r, g, b = ((c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (v / 255 for v in rgb))
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )
