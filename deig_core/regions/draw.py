"""Regions drawn as a picture: boxes, their order, their phrases, and what the model will see of each."""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from .raster import CELL_PIXELS, cell_places, token_places
from .region import Region, Regions

# Okabe and Ito's colours (2008), chosen to stay apart under every kind of colour blindness; black is left out
# and their blue made lighter, since both sink into a dark ground. web/palette.js has the same table.
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#3d7dd8", "#d55e00", "#cc79a7", "#b8b8b8")
# After eight regions the colours come round again with another line: dash and gap, in widths of the line.
DASHES = ((), (5, 3), (1.5, 2), (7, 2, 1.5, 2))

GROUND = "#22242a"
# Below this the numbers and phrases cannot be read, so small pictures are enlarged by a whole number, as far as the
# enlarged picture stays in bounds: one of 16384 x 16 would become 524288 x 512.
READABLE_SIDE = 512
LONGEST_ENLARGED = 8192
MOST_ENLARGED_PIXELS = 1 << 24

# The UNet halves the latent three times, rounding up, so its coarsest tokens span 8 cells of the latent.
COARSEST_STRIDE = 8
# On a grid of fewer tokens each way, places grown by two tokens fill the picture, and marks say nothing.
FEWEST_TOKENS = 6


def colour_of(index: int) -> str:
    """The colour of the region at `index` in the list, as #rrggbb."""
    return PALETTE[index % len(PALETTE)]


def dash_of(index: int) -> tuple[float, ...]:
    """The dash pattern of the region at `index`: lengths on, off, on, ... in line widths; () is unbroken."""
    return DASHES[index // len(PALETTE) % len(DASHES)]


def draw_regions(
    regions: Regions, width: int, height: int, image: Image.Image | np.ndarray | None = None
) -> Image.Image:
    """Draw regions over an image, or over a plain ground.

    Every region has its box, its number in the order (1 lies at the back), its phrase, and a mark in each cell
    of a token grid that counts as its place, always on the same spot of the cell: a dot where the region itself
    is, a ring where only the growing of places at that grid takes it. There, and nowhere else, the blocks of that
    grid let image and region see each other. It is the model's coarsest grid, of 64 pixels; for small pictures,
    where that has too few tokens to tell anything, the next finer one that has not. Places other than boxes are
    tinted.

    Args:
        regions: the regions, back to front.
        width, height: the size in pixels at which the image is generated; it sets the token grid.
        image: what lies behind, a PIL image or an array (H, W, 3) of 0 to 1 floats or 0 to 255 bytes. Its own
            size may differ from width x height.

    Returns:
        An RGB image of `image`'s size, else of width x height; when its shorter side is under 512 pixels,
        enlarged by the smallest whole number that makes it at least that, or by the largest that keeps it within
        8192 pixels on its longer side and 4096 x 4096 in all.
    """
    canvas = ground_of(width, height, image)
    line = max(2, round(min(canvas.size) / 256))
    _draw_occupied_tokens(canvas, regions, (height // CELL_PIXELS, width // CELL_PIXELS))
    draw = ImageDraw.Draw(canvas)
    for index, region in enumerate(regions):
        draw_box(draw, pixel_box(region, canvas.size, line), index, line)
    # Labels last: a box in front may cover another's edge, never its name.
    for index, region in enumerate(regions):
        draw_label(canvas, pixel_box(region, canvas.size, line), index, region.phrase, line)
    return canvas


def ground_of(width: int, height: int, image: Image.Image | np.ndarray | None) -> Image.Image:
    """Return what is drawn over, enlarged as `draw_regions` says; see there for the arguments."""
    if image is None:
        picture = Image.new("RGB", (width, height), GROUND)
    elif isinstance(image, Image.Image):
        picture = image.convert("RGB")
    else:
        pixels = np.asarray(image)
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"An image of shape (H, W, 3) is wanted here, but this one has {pixels.shape}.")
        if pixels.dtype != np.uint8:
            pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
        picture = Image.fromarray(pixels)
    scale = min(
        -(-READABLE_SIDE // min(picture.size)),
        LONGEST_ENLARGED // max(picture.size),
        math.isqrt(MOST_ENLARGED_PIXELS // (picture.width * picture.height)),
    )
    return picture.resize((picture.width * scale, picture.height * scale)) if scale > 1 else picture.copy()


def pixel_box(region: Region, size: tuple[int, int], line: int) -> tuple[int, int, int, int]:
    """The box in pixels, corners inclusive, never thinner than its own two edges."""
    width, height = size
    x0, y0, x1, y1 = region.box
    left, top = min(round(x0 * width), width - 2 * line), min(round(y0 * height), height - 2 * line)
    return (
        left,
        top,
        max(round(x1 * width) - 1, left + 2 * line - 1),
        max(round(y1 * height) - 1, top + 2 * line - 1),
    )


def draw_box(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], index: int, line: int):
    """Draw a region's box in its colour and dashes, edges `line` pixels thick."""
    left, top, right, bottom = box
    # A dark edge on both sides keeps the line visible on a ground of its own colour.
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black", width=line + 2)
    pattern = dash_of(index)
    colour = colour_of(index)
    if not pattern:
        draw.rectangle(box, outline=colour, width=line)
        return
    for start, end in _dashes(right - left + 1, [part * line for part in pattern]):
        draw.rectangle((left + start, top, left + end, top + line - 1), fill=colour)
        draw.rectangle((left + start, bottom - line + 1, left + end, bottom), fill=colour)
    for start, end in _dashes(bottom - top + 1, [part * line for part in pattern]):
        draw.rectangle((left, top + start, left + line - 1, top + end), fill=colour)
        draw.rectangle((right - line + 1, top + start, right, top + end), fill=colour)


def _dashes(length: int, pattern: list[float]):
    """First and last pixel of each dash along an edge."""
    position = 0.0
    while position < length:
        for number, part in enumerate(pattern):
            start = round(position)
            if number % 2 == 0 and start < length:
                yield start, min(round(position + part), length) - 1
            position += part


def draw_label(canvas: Image.Image, box: tuple[int, int, int, int], index: int, phrase: str, line: int):
    """The order number on the region's colour and the phrase beside it, cut short where there is no room.

    It lies inside the box at its top left, or above or below a box that it would hide.
    """
    font = font_of(12 + min(canvas.size) // 128)
    number = str(index + 1)
    badge = round(font.getlength(number)) + 4 * line
    room = max(box[2] - box[0], canvas.width // 4) - badge - 4 * line
    phrase = fitted(" ".join(phrase.split()), font, room)
    width = badge + (round(font.getlength(phrase)) + 4 * line if phrase else 0)
    height = sum(font.getmetrics()) + line

    left = min(box[0], canvas.width - width)
    top = box[1]
    if box[3] - box[1] < 2 * height:
        top = box[1] - height - 1 if box[1] > height else box[3] + 2
    top = min(top, canvas.height - height)

    layer = ImageDraw.Draw(canvas, "RGBA")
    layer.rectangle((left, top, left + width - 1, top + height), fill=(0, 0, 0, 190))
    layer.rectangle((left, top, left + badge - 1, top + height), fill=colour_of(index))
    layer.text((left + 2 * line, top), number, font=font, fill="black")
    layer.text((left + badge + 2 * line, top), phrase, font=font, fill="white")


def fitted(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    if font.getlength(text) <= room:
        return text
    # Each character has some width, so a very long phrase need not be measured whole again and again.
    text = text[: max(int(room), 0)]
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


@lru_cache(maxsize=8)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _draw_occupied_tokens(canvas: Image.Image, regions: Regions, latent_size: tuple[int, int]):
    """Draw a grid of tokens, and in each of its cells a mark for every region whose place it is."""
    stride = _telling_stride(latent_size)
    grid = tuple(-(-size // stride) for size in latent_size)
    # The last row and column may reach beyond the image, where a side is no multiple of a token's.
    token_height = canvas.height * stride / latent_size[0]
    token_width = canvas.width * stride / latent_size[1]
    draw = ImageDraw.Draw(canvas, "RGBA")
    for row in range(1, grid[0]):
        draw.line((0, row * token_height, canvas.width, row * token_height), fill=(255, 255, 255, 40))
    for column in range(1, grid[1]):
        draw.line((column * token_width, 0, column * token_width, canvas.height), fill=(255, 255, 255, 40))

    if not regions:
        return
    cells = cell_places(regions, latent_size)
    _tint_places(canvas, regions, cells)
    places = token_places(cells, latent_size, grid)
    touched = F.max_pool2d(cells[:, None], stride, ceil_mode=True)[:, 0] > 0
    spots = max(4, math.isqrt(len(regions) - 1) + 1)  # along each side of a cell
    for index, row, column in places.nonzero().tolist():
        x = (column + (index % spots + 0.5) / spots) * token_width
        y = (row + (index // spots + 0.5) / spots) * token_height
        radius = max(2, min(token_width, token_height, min(canvas.size) / 8) / spots / 6)
        dot = (x - radius, y - radius, x + radius, y + radius)
        fill = colour_of(index) if touched[index, row, column] else None
        draw.ellipse(dot, fill=fill, outline=colour_of(index))


def _telling_stride(latent_size: tuple[int, int]) -> int:
    """How many cells of the latent a token of the marked grid spans."""
    stride = COARSEST_STRIDE
    while stride > 1 and -(-min(latent_size) // stride) < FEWEST_TOKENS:
        stride //= 2
    return stride


def _tint_places(canvas: Image.Image, regions: Regions, cells: torch.Tensor):
    """Tint the cells of every place that is not just its box: masks, scribbles, points."""
    for index, region in enumerate(regions):
        if region.mask is None and not region.scribble and region.point is None:
            continue
        weights = Image.fromarray((cells[index].numpy() * 110).astype(np.uint8)).resize(
            canvas.size, Image.NEAREST
        )
        canvas.paste(colour_of(index), mask=weights)
