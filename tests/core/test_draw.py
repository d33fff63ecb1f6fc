"""Drawn regions: where the ink lies, what the marks say, and that the colours can be told apart."""

from itertools import combinations

import numpy as np
import pytest
from deig_pack.deig_core.regions.draw import (
    DASHES,
    PALETTE,
    colour_of,
    dash_of,
    draw_box,
    draw_label,
    draw_regions,
    fitted,
    font_of,
    pixel_box,
)
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.tests.effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw


def rgb(index):
    return np.array(ImageColor.getrgb(colour_of(index)))


def inked(picture, index):
    """Where the picture has exactly the colour of a region: (H, W), bool."""
    return (np.asarray(picture) == rgb(index)).all(-1)


def test_box_lies_where_the_fractions_say():
    picture = draw_regions((Region("a cup", (0.25, 0.5, 0.75, 0.875)),), 512, 512)
    ink = inked(picture, 0)
    assert picture.size == (512, 512)
    assert ink[256:448, 128:130].all(), "left edge, two pixels wide, from the top corner to the bottom one"
    assert ink[256:448, 382:384].all(), "right edge, its last pixel before x = 0.75"
    assert ink[446:448, 128:384].all(), "bottom edge"
    assert not ink[300:440, 131:380].all(), "the inside shows what lies behind"


def marks(picture, index, rows, columns, spots=4):
    """Read the marks of a region off a drawing: (rows, columns) of "dot", "ring" or ""."""
    pixels = np.asarray(picture)
    found = []
    for row in range(rows):
        for column in range(columns):
            y = (row + (index // spots + 0.5) / spots) * pixels.shape[0] / rows
            x = (column + (index % spots + 0.5) / spots) * pixels.shape[1] / columns
            centre, edge = pixels[round(y), round(x)], pixels[round(y), round(x) + 2]
            dot, ring = (centre == rgb(index)).all(), (edge == rgb(index)).all()
            found.append("dot" if dot else "ring" if ring else "")
    return np.array(found).reshape(rows, columns)


def test_marks_are_the_tokens_of_the_coarsest_grid():
    # Out of sight for the labels and lines: the box ends inside cells, away from the spots of the marks.
    region = Region("a cup", (200 / 1024, 600 / 1024, 340 / 1024, 700 / 1024))
    expected = np.full((16, 16), "", dtype="<U4")
    expected[9 - 2 : 10 + 3, 3 - 2 : 5 + 3] = "ring"  # grown by two tokens each way, as the model was trained
    expected[9:11, 3:6] = "dot"  # 64-pixel tokens touched: rows 600..700, columns 200..340
    found = marks(draw_regions((region,), 1024, 1024), 0, 16, 16)
    hidden = np.zeros((16, 16), dtype=bool)
    hidden[9, 3:8] = True  # under the label
    assert np.array_equal(found[~hidden], expected[~hidden])


def test_each_region_has_its_own_spot_in_a_cell():
    """Five have a row of four and one below; all see the same cells, so that all marks are there."""
    box = (600 / 1024, 700 / 1024, 700 / 1024, 800 / 1024)
    picture = draw_regions((Region("a cup", box),) * 5, 1024, 1024)
    for index in range(5):
        found = marks(picture, index, 16, 16)
        assert (found[9:15, 7:9] == "ring").all() and (found[13:15, 9:13] == "ring").all(), index
        assert (found[:8] == "").all()


def test_marks_of_a_wide_picture_are_those_of_its_own_tokens():
    region = Region("a cup", (400 / 1536, 0.7, 500 / 1536, 0.9))
    expected = np.full((8, 24), "", dtype="<U4")
    expected[5 - 2 : 7 + 3, 6 - 2 : 7 + 3] = "ring"
    expected[5:8, 6:8] = "dot"  # rows 358..461, columns 400..500
    found = marks(draw_regions((region,), 1536, 512), 0, 8, 24)
    seen = np.ones((8, 24), dtype=bool)
    seen[5:7, 5:13] = False  # under the label
    assert np.array_equal(found[seen], expected[seen])


def test_places_that_are_no_boxes_are_tinted():
    values = np.zeros((4, 4), dtype=np.float32)
    values[3, 3] = 1
    corner = Region("a pond", (0.0, 0.0, 1.0, 1.0), mask=Mask(values))
    disc = Region("a ball", (0.1, 0.1, 0.6, 0.6), point=(0.3, 0.6), radius=0.05)
    picture = np.asarray(draw_regions((corner, disc), 512, 512))
    ground = np.asarray(draw_regions((), 512, 512))
    tinted = (picture != ground).any(-1)
    assert tinted[390:440, 390:440].all(), "the mask's quarter of a side, lower right"
    assert not tinted[345:380, 425:440].any() and not tinted[425:440, 345:380].any(), "no more than that"
    assert tinted[300:312, 146:160].all(), "the disc"


def test_a_phrase_is_drawn_as_it_stands():
    blank = np.asarray(draw_regions((Region(".", (0.1, 0.1, 0.9, 0.9)),), 512, 512)).astype(int)
    typed = np.asarray(draw_regions((Region("<b>red</b>", (0.1, 0.1, 0.9, 0.9)),), 512, 512)).astype(int)
    different = np.argwhere((blank != typed).any(-1))
    assert len(different) > 200
    assert (different.min(0) >= (51, 51)).all() and (different.max(0) <= (80, 250)).all(), "only the label"


@pytest.mark.parametrize("line", [1, 3, 8])
def test_dashes_are_as_long_down_as_across(line):
    for index in range(len(PALETTE) * len(DASHES)):
        canvas = Image.new("RGB", (400, 400), "white")
        draw_box(ImageDraw.Draw(canvas), (20, 20, 379, 379), index, line)
        ink = inked(canvas, index)
        assert ink.any() and np.array_equal(ink, ink.T), index


@pytest.mark.parametrize("before", range(0, 8 * len(DASHES), 8))
def test_lines_of_every_length_can_be_dashed(before):
    # At 768 a line is three pixels wide, so that a dash of 1.5 lines ends in half a pixel.
    lengths = np.arange(1, 129) / 768
    regions = tuple(Region("a cup", (0.0, 0.0, 1.0, 1.0)) for _ in range(before))
    regions += tuple(Region("a cup", (0.0, 0.0, length, 1.0)) for length in lengths)
    assert inked(draw_regions(regions, 768, 768), len(regions) - 1).any()


@settings(max_examples=examples(25), deadline=None)
@given(
    width=st.integers(2, 120).map(lambda n: n * 8),
    height=st.integers(2, 120).map(lambda n: n * 8),
    corners=st.lists(st.tuples(*[st.floats(0, 0.99)] * 2, *[st.floats(1e-4, 1)] * 2), max_size=40),
    phrase=st.text(min_size=1, max_size=300).filter(str.strip),
)
def test_any_regions_at_any_size(width, height, corners, phrase):
    regions = tuple(Region(phrase, (x, y, min(x + w, 1), min(y + h, 1))) for x, y, w, h in corners)
    picture = draw_regions(regions, width, height)
    assert picture.mode == "RGB"
    scale = picture.width // width
    assert picture.size == (width * scale, height * scale)
    assert min(picture.size) >= 512 or (scale + 1) * max(width, height) > 8192
    if regions:
        assert inked(picture, len(regions) - 1).any(), "the front region is always seen"


@pytest.mark.parametrize("size", [(16384, 16), (16, 16384), (4096, 16), (8192, 511), (16384, 500)])
def test_a_long_picture_is_not_enlarged_beyond_bounds(size):
    """16384 x 16, enlarged until its phrases can be read, would take 3.2 GB as the host's tensor."""
    picture = draw_regions((Region("a cup", (0.2, 0.2, 0.6, 0.6)),), *size)
    assert picture.width * size[1] == picture.height * size[0]
    assert max(picture.size) <= max(*size, 8192)
    assert picture.width * picture.height <= max(size[0] * size[1], 4096 * 4096)


@pytest.mark.parametrize("side", [96, 128, 256])
def test_marks_of_a_small_picture_stay_with_their_region(side):
    """Where the coarsest grid has a few tokens, grown places fill it: the marks are those of a grid that tells."""
    region = Region("a cup", (0.0, 0.5, 0.25, 0.75))
    picture = draw_regions((region,), side, side)
    rows, columns = np.nonzero(inked(picture, 0))
    assert len(rows) and columns.max() < 0.6 * picture.width and rows.min() > 0.25 * picture.height
    tokens = {96: 6, 128: 8, 256: 8}[side]
    found = marks(picture, 0, tokens, tokens)
    assert "dot" in found, "the region's own tokens are marked"
    assert (found[:, -(tokens // 4) :] == "").all(), "far from it nothing is"


def test_marks_of_a_low_wide_picture_tell_above_from_below():
    picture = draw_regions((Region("a cup", (0.5, 0.0, 0.53, 0.2)),), 2048, 256)
    found = marks(picture, 0, 8, 64)
    assert (found[2, 31:35] == "ring").all(), "next to it, in eighths of the height"
    assert (found[3:] == "").all() and (found[:, :30] == "").all()


def test_over_an_image():
    ground = np.zeros((300, 700, 3), dtype=np.float32)
    ground[..., 1] = 0.5
    picture = draw_regions((Region("a cup", (0.2, 0.2, 0.6, 0.6)),), 512, 512, ground)
    assert picture.size == (1400, 600), "enlarged twice, since its shorter side is under 512"
    assert tuple(np.asarray(picture)[590, 1390]) == (0, 128, 0)
    assert draw_regions((), 512, 512, Image.new("L", (600, 600), 70)).getpixel((5, 5)) == (70, 70, 70)
    with pytest.raises(ValueError, match=r"\(H, W, 3\).*\(3, 4, 4\)"):
        draw_regions((), 512, 512, np.zeros((3, 4, 4)))


# Machado, Oliveira and Fernandes (2009), severity 1.0: how linear RGB looks without one kind of cone.
COLOUR_BLIND = {
    "nobody": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(colour, matrix):
    """CIE L*a*b* (D65) of a colour as seen through a matrix on linear RGB."""
    linear = (np.array(ImageColor.getrgb(colour)) / 255) ** 2.2
    linear = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", COLOUR_BLIND)
def test_colours_stay_apart(eyes):
    for one, other in combinations(PALETTE, 2):
        distance = np.linalg.norm(lab(one, COLOUR_BLIND[eyes]) - lab(other, COLOUR_BLIND[eyes]))
        assert distance > 10, f"{one} and {other} are {distance:.1f} apart"


def test_a_colour_comes_back_only_with_another_dash():
    looks = [(colour_of(i), dash_of(i)) for i in range(len(PALETTE) * len(DASHES))]
    assert len(set(looks)) == len(looks) == 32


def test_a_box_of_a_wide_picture_has_its_edges_where_they_belong():
    """At 1024 pixels on the shorter side a line is four wide."""
    ink = inked(draw_regions((Region("a cup", (0.25, 0.5, 0.5, 1.0)),), 2048, 1024), 0)
    assert ink[600:1024, 512:516].all() and ink[600:1024, 1020:1024].all() and ink[1020:, 512:1024].all()
    assert not any(ink[600:, column].all() for column in (511, 516, 1019, 1024)), "four pixels and no more"


def test_the_line_has_a_dark_edge_inside_and_outside():
    canvas = Image.new("RGB", (100, 100), colour_of(0))
    draw_box(ImageDraw.Draw(canvas), (20, 30, 69, 79), 0, 3)
    dark = (np.asarray(canvas) == 0).all(-1)
    assert np.flatnonzero(dark[50]).tolist() == [19, 23, 66, 70]
    assert np.flatnonzero(dark[:, 45]).tolist() == [29, 33, 76, 80]


def test_a_dash_is_five_lines_long_and_its_gap_three():
    canvas = Image.new("RGB", (200, 200), "white")
    draw_box(ImageDraw.Draw(canvas), (20, 20, 69, 169), 8, 2)
    expected = [20 + at for at in range(50) if at % 16 < 10]
    ink = inked(canvas, 8)
    assert np.flatnonzero(ink[20]).tolist() == expected
    assert np.flatnonzero(ink[168, :60]).tolist() == [at for at in expected if at < 60], "and below"
    assert not ink[:, 70:].any() and not ink[170:].any()


@pytest.mark.parametrize("box", [(0.9999, 0.2, 1.0, 0.8), (0.2, 0.9999, 0.8, 1.0), (0.5, 0.2, 0.501, 0.8)])
def test_a_hair_is_drawn_as_wide_as_two_lines(box):
    ink = inked(draw_regions((Region(".", box),), 512, 512), 0)
    across = ink[150:400].all(0) if box[2] - box[0] < 0.1 else ink[:, 150:400].all(1)
    assert across.sum() == 4


def label_of(box, index=0, phrase="a cup", size=(512, 512), line=2):
    """Draw a label on white: the pixels, (left, top, right, bottom) of it, inclusive, and its number's width."""
    canvas = Image.new("RGB", size, "white")
    draw_label(canvas, box, index, phrase, line)
    pixels = np.asarray(canvas)
    rows, columns = np.nonzero((pixels != 255).any(-1))
    badge = np.nonzero(inked(canvas, index))[1]
    return pixels, (columns.min(), rows.min(), columns.max(), rows.max()), badge.max() + 1 - badge.min()


@pytest.mark.parametrize(
    "box, where",
    [
        ((100, 100, 400, 400), lambda left, top, right, bottom: (left, top) == (100, 100)),
        ((100, 100, 400, 143), lambda left, top, right, bottom: (left, top) == (100, 77)),
        ((100, 100, 400, 130), lambda left, top, right, bottom: (left, bottom) == (100, 99)),
        ((100, 30, 400, 50), lambda left, top, right, bottom: (left, bottom) == (100, 29)),
        ((100, 5, 400, 30), lambda left, top, right, bottom: (left, top) == (100, 32)),
        ((480, 100, 511, 400), lambda left, top, right, bottom: (right, top) == (511, 100) and left < 480),
    ],
    ids=["inside", "hardly low", "above", "just below the top", "below", "at the right edge"],
)
def test_a_label_lies_in_its_box_or_beside_a_low_one(box, where):
    assert where(*label_of(box)[1])


@pytest.mark.parametrize("size", [(512, 512), (800, 512)])
@pytest.mark.parametrize("side, room", [(300, 300), (20, None), (200, 200)])
def test_a_long_phrase_fills_its_box_or_a_quarter_of_the_picture(size, side, room):
    room = room or size[0] // 4
    _, (left, _, right, _), _ = label_of((100, 100, 100 + side, 400), phrase="iiii " * 90, size=size)
    assert room - 24 < right + 1 - left <= room


@pytest.mark.parametrize("line", [2, 5])
def test_a_label_is_as_wide_as_its_words_and_their_margins(line):
    font = font_of(16)
    _, (left, _, right, _), badge = label_of((9, 9, 400, 400), 8, "a cup", line=line)
    assert badge == round(font.getlength("9")) + 4 * line
    assert right + 1 - left == badge + round(font.getlength("a cup")) + 4 * line


def test_a_label_without_room_for_words_is_its_number_alone():
    _, (left, _, right, _), badge = label_of((9, 9, 20, 400), phrase="wwww", size=(140, 512))
    assert right + 1 - left == badge


def test_labels_are_numbered_from_one():
    assert label_of((9, 9, 400, 400), 9)[2] > label_of((9, 9, 400, 400), 8)[2], "10 is wider than 9"
    one, nine = (label_of((9, 9, 400, 400), index)[0] for index in (0, 8))
    assert (one != nine)[:, :30].any(), "of one colour, told apart by the number"


def test_the_words_of_a_label_are_white_beside_the_number():
    pixels, (left, top, right, bottom), badge = label_of((100, 100, 400, 400), phrase="WWWW")
    label = pixels[top : bottom + 1, left : right + 1]
    assert (label[:, badge:] > 240).all(-1).sum() > 50 and not (label[:, :badge] > 240).all(-1).any()
    assert tuple(label[-1, -1]) == (65, 65, 65), "on a ground that dims the picture to a quarter"


def test_a_phrase_over_lines_is_drawn_on_one():
    one, other = (label_of((9, 9, 400, 400), phrase=phrase)[0] for phrase in ("a red cup", " a\nred \t cup "))
    assert np.array_equal(one, other)


def test_letters_grow_with_the_picture():
    (_, top, _, bottom), (_, upper, _, lower) = (
        label_of((9, 9, side // 2, side // 2), size=(side, side))[1] for side in (512, 2048)
    )
    assert lower - upper > 1.5 * (bottom - top)


def test_no_later_box_covers_a_label():
    """The second box's edges run through the first one's label."""
    back, front = Region("WWWWWWWW", (0.1, 0.1, 0.9, 0.9)), Region("a lamp", (0.15, 0.02, 0.5, 0.5))
    alone, both = (np.asarray(draw_regions(regions, 512, 512)) for regions in ((back,), (back, front)))
    words = np.s_[51:73, 51:66]
    assert np.array_equal(alone[words], both[words])
    assert not inked(draw_regions((back, front), 512, 512), 1)[55:72, 70:90].all(-1).any()
    assert not inked(draw_regions((back, front), 512, 512), 1)[55:72, 77].any(), "its left edge, at 77"


def test_a_later_label_lies_in_front():
    box = (0.1, 0.1, 0.9, 0.9)
    picture = draw_regions((Region("a cup", box), Region("a lamp", box)), 512, 512)
    assert inked(picture, 1)[60, 51:56].any() and not inked(picture, 0)[52:72, 51:68].any()


def test_a_text_is_cut_only_where_it_must_be():
    font = font_of(16)
    text = "a red ceramic mug"
    whole = font.getlength(text)
    assert fitted(text, font, whole) == text
    assert fitted(text, font, whole - 1).endswith("...")
    for room in range(0, int(whole)):
        cut = fitted(text, font, room)
        kept = cut.removesuffix("...")
        assert font.getlength(cut) <= room and text.startswith(kept) and kept == kept.rstrip()
        assert font.getlength(text[: len(kept) + 1].rstrip() + "...") > room or text[len(kept)] == " "
    assert fitted(text, font, 1) == fitted(text, font, -5) == ""


@pytest.mark.parametrize(
    "width, height, across, down",
    [
        (512, 576, range(64, 512, 64), range(64, 576, 64)),
        (520, 576, range(64, 520, 64), range(64, 576, 64)),
        (576, 520, range(64, 576, 64), range(64, 520, 64)),
    ],
)
def test_thin_lines_part_the_tokens(width, height, across, down):
    """A side that is no multiple of 64 ends within a token."""
    pixels = np.asarray(draw_regions((), width, height)).astype(int).sum(-1)
    ground = pixels[10, 10]
    assert np.flatnonzero(pixels[10] > ground).tolist() == list(across)
    assert np.flatnonzero(pixels[:, 10] > ground).tolist() == list(down)


@pytest.mark.parametrize("count, spots", [(16, 4), (17, 5)])
def test_every_one_of_many_regions_has_its_own_spot(count, spots):
    picture = draw_regions((Region("a cup", (0.0, 0.0, 0.2, 0.02)),) * count, 1024, 1024)
    # Beyond the labels, grown by two tokens.
    for index in range(count):
        x, y = (
            round((token + (at + 0.5) / spots) * 64)
            for token, at in ((5, index % spots), (2, index // spots))
        )
        assert inked(picture, index)[y - 3 : y + 4, x - 3 : x + 4].any(), index


def test_a_box_is_not_tinted_and_other_places_by_how_much_they_are():
    half = np.zeros((4, 4), np.float32)
    half[3, 3] = 0.5
    places = (
        Region("a pond", (0.0, 0.0, 1.0, 1.0), mask=Mask(half)),
        Region("a road", (0.0, 0.0, 1.0, 1.0), scribble=((0.1, 0.55), (0.3, 0.55)), radius=0.03),
        Region("a table", (0.0, 0.0, 1.0, 1.0)),
    )
    picture = np.asarray(draw_regions(places, 512, 512)).astype(int)
    ground = np.asarray(draw_regions((), 512, 512)).astype(int)
    assert np.array_equal(picture[225, 225], ground[225, 225]), "within the box, between its marks"
    expected = ground[400, 400] + (rgb(0) - ground[400, 400]) * 55 / 255
    assert np.abs(picture[400, 400] - expected).max() <= 1
    expected = ground[285, 120] + (rgb(1) - ground[285, 120]) * 110 / 255
    assert np.abs(picture[285, 120] - expected).max() <= 1


def test_a_mark_is_a_third_as_wide_as_its_spot():
    picture = draw_regions((Region(".", (0.5, 0.0, 1.0, 1.0)),), 1024, 1024)
    ink = inked(picture, 0)[704:720, 704:720]
    rows, columns = np.nonzero(ink)
    assert rows.max() - rows.min() == columns.max() - columns.min() and 4 <= rows.max() - rows.min() <= 6


def test_pictures_of_bytes_and_of_floats_beyond_white_are_shown_as_they_are():
    shade = np.full((600, 600, 3), (10, 200, 255), np.uint8)
    assert draw_regions((), 512, 512, shade).getpixel((5, 5)) == (10, 200, 255)
    assert draw_regions((), 512, 512, Image.fromarray(shade)).getpixel((5, 5)) == (10, 200, 255)
    bright = np.full((600, 600, 3), (-0.5, 0.2, 1.5), np.float32)
    assert draw_regions((), 512, 512, bright).getpixel((5, 5)) == (0, 51, 255)


def test_drawing_leaves_the_picture_behind_as_it_was():
    shade = np.full((600, 600, 3), 80, np.uint8)
    picture = Image.fromarray(shade)
    for image in (shade, picture):
        draw_regions((Region("a cup", (0.1, 0.1, 0.9, 0.9)),), 512, 512, image)
        assert (np.asarray(image) == 80).all()


@pytest.mark.parametrize(
    "box, size, line, expected",
    [
        ((0.25, 0.5, 0.5, 1.0), (200, 100), 2, (50, 50, 99, 99)),
        ((0.126, 0.127, 0.513, 0.518), (100, 200), 2, (13, 25, 50, 103)),
        ((0.9999, 0.2, 1.0, 0.8), (200, 100), 3, (194, 20, 199, 79)),
        ((0.2, 0.9999, 0.8, 1.0), (200, 100), 3, (40, 94, 159, 99)),
        ((0.2, 0.9999, 0.8, 1.0), (100, 200), 3, (20, 194, 79, 199)),
        ((0.5, 0.2, 0.501, 0.8), (200, 100), 3, (100, 20, 105, 79)),
        ((0.2, 0.5, 0.8, 0.501), (200, 100), 3, (40, 50, 159, 55)),
    ],
    ids=["wide", "rounded", "right edge", "bottom edge", "bottom of a high one", "hair", "low"],
)
def test_a_box_in_whole_pixels_has_room_for_both_of_its_lines(box, size, line, expected):
    assert pixel_box(Region("a", box), size, line) == expected


@pytest.mark.parametrize(
    "index, line, dashes",
    [
        (16, 2, [(0, 3), (7, 10), (14, 17), (21, 24), (28, 31), (35, 38)]),
        (24, 2, [(0, 14), (18, 21), (25, 39)]),
        # Of 4.5 pixels and gaps of 6: it ends at the nearest whole pixel, halves at the even one.
        (16, 3, [(0, 4), (10, 15), (21, 26), (32, 36)]),
    ],
)
def test_later_regions_have_short_dashes_or_dash_and_dot(index, line, dashes):
    canvas = Image.new("RGB", (200, 200), "white")
    draw_box(ImageDraw.Draw(canvas), (20, 20, 20 + 39, 169), index, line)
    ink = inked(canvas, index)
    expected = [20 + at for start, end in dashes for at in range(start, end)]
    # Below the corner, whose pixels belong to the upright edge too.
    assert [at for at in np.flatnonzero(ink[20]).tolist() if at < 20 + 40 - line] == [
        at for at in expected if at < 20 + 40 - line
    ]


def test_no_label_reaches_out_of_a_low_picture():
    """Below a box at the top of a picture that cannot be enlarged, where there is no room for the whole of it."""
    _, (_, top, _, bottom), _ = label_of((100, 5, 400, 90), size=(512, 100))
    height = bottom - top
    assert label_of((100, 5, 400, 30), size=(512, 60))[1][1] == 32
    assert label_of((100, 5, 400, 30), size=(512, 40))[1][1] == 40 - height


def test_number_and_words_stand_in_the_middle_of_their_grounds():
    line = 6
    pixels, (left, top, right, bottom), badge = label_of((9, 9, 400, 400), 7, "HHHH", line=line)
    number = (pixels[top : bottom + 1, left : left + badge] < 60).all(-1).any(0)
    words = (pixels[top : bottom + 1, left + badge : right + 1] > 240).all(-1).any(0)
    for ink in (number, words):
        columns = np.flatnonzero(ink)
        margins = columns[0], len(ink) - 1 - columns[-1]
        assert all(2 * line - 1 <= margin <= 2 * line + 2 for margin in margins), margins


@pytest.mark.parametrize("size", [(1024, 2048), (2048, 1024)])
def test_marks_over_a_stretched_picture_are_round_and_as_small_as_its_shorter_tokens(size):
    ground = np.zeros((*size, 3), np.float32)
    ink = inked(draw_regions((Region(".", (0.5, 0.0, 1.0, 1.0)),), 1024, 1024, ground), 0)
    tall, wide = size[0] // 16, size[1] // 16
    y, x = round(11.125 * tall), round(12.125 * wide)
    rows, columns = np.nonzero(ink[y - 16 : y + 17, x - 16 : x + 17])
    assert 4 <= rows.max() - rows.min() <= 6 and 4 <= columns.max() - columns.min() <= 6
    assert abs(rows.mean() - 16) < 1 and abs(columns.mean() - 16) < 1


def test_marks_of_a_tiny_picture_do_not_grow_with_its_tokens():
    """Two tokens each way, each half of the enlarged picture."""
    region = Region(".", (0.5, 0.5, 1.0, 1.0))
    ink = inked(draw_regions((region,), 16, 16), 0)
    rows, columns = np.nonzero(ink[264:400, 264:400] & (np.arange(264, 400)[:, None] > 278))
    assert 4 <= rows.max() - rows.min() <= 6 and 4 <= columns.max() - columns.min() <= 6
    assert not ink[:250, :250].any() and not ink[:, :250].any(), "its own token alone"


def test_marks_of_very_many_regions_can_still_be_seen():
    """Sixty have eight spots along each side of a token, 8 pixels each: a third of that could hardly be seen."""
    picture = draw_regions((Region("a cup", (0.0, 0.0, 0.2, 0.02)),) * 60, 512, 512)
    index = 59
    y, x = round((2 + (index // 8 + 0.5) / 8) * 64), round((3 + (index % 8 + 0.5) / 8) * 64)
    rows, columns = np.nonzero(inked(picture, index)[y - 5 : y + 6, x - 5 : x + 6])
    assert 4 <= rows.max() - rows.min() <= 5 and 4 <= columns.max() - columns.min() <= 5


def test_a_tint_ends_sharply_with_its_cells():
    values = np.zeros((16, 16), np.float32)
    values[13:15, 13:15] = 1
    region = Region("a pond", (0.0, 0.0, 1.0, 1.0), mask=Mask(values))
    tint = (np.asarray(draw_regions((region,), 512, 512)) != np.asarray(draw_regions((), 512, 512))).any(-1)
    for along in (tint[430, 400:500], tint[400:500, 430]):
        assert np.flatnonzero(along).tolist() == list(range(16, 80))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3, 1), (4, 4, 4)])
def test_what_is_no_picture_of_three_colours_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        draw_regions((), 512, 512, np.zeros(shape, np.float32))
