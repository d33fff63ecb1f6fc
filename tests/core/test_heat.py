"""Heat drawn over pictures: light where it is, the picture dimmed where it is not, bars as long as their numbers."""

import numpy as np
import pytest
import torch
from deig_pack.deig_core.fusion.attention_pictures import heat_pictures
from deig_pack.deig_core.fusion.attention_record import AttentionRecord
from deig_pack.deig_core.regions.draw import PALETTE, draw_label, font_of
from deig_pack.deig_core.regions.heat import COVER, DIMMED, Part, draw_heat, draw_heats, draw_parts
from deig_pack.deig_core.regions.region import Region
from PIL import Image

REGION = Region("a red mug", (0.25, 0.25, 0.75, 0.75))
GREY = np.full((512, 512, 3), 0.5, np.float32)


def spot(rows=slice(8, 12), columns=slice(8, 12)):
    weights = np.zeros((16, 16), np.float32)
    weights[rows, columns] = 1
    return weights


def test_heat_is_light_where_it_is_and_dims_the_rest():
    drawn = np.asarray(draw_heat(spot(), 0, REGION, 512, 512, GREY), float)
    assert drawn.shape == (512, 512, 3)
    assert drawn[300, 300].mean() > 200
    assert np.abs(drawn[450:, 450:] - 127 * DIMMED).max() <= 1, "where nothing acts the picture shows"
    assert (drawn[128, 300] == [int(PALETTE[0][at : at + 2], 16) for at in (1, 3, 5)]).all(), "its box"


def test_more_heat_is_lighter():
    ramp = np.tile(np.linspace(0.05, 1, 16, dtype=np.float32), (16, 1))
    drawn = np.asarray(draw_heat(ramp, 0, REGION, 512, 512), float)[450].mean(-1)
    light = drawn[16::32]
    assert (np.diff(light) > 0).all()


@pytest.mark.parametrize("level, cover", [(0.0, 0.0), (0.25, 0.5), (1.0, 1.0)])
def test_faint_heat_covers_more_than_its_share(level, cover):
    """Attention falls off steeply: a quarter of the most hides half of the picture below."""
    black, white = (
        np.asarray(draw_heat(level * spot(), 0, REGION, 512, 512, np.full_like(GREY, shade)), float)[310, 310]
        for shade in (0.0, 1.0)
    )
    assert (white - black).mean() / (255 * DIMMED) == pytest.approx(1 - cover, abs=0.03)


def test_small_pictures_are_enlarged_as_in_the_preview():
    assert draw_heat(spot(), 0, REGION, 128, 128).size == (512, 512)


@pytest.mark.parametrize("count, columns, rows", [(1, 1, 1), (2, 2, 1), (4, 2, 2), (5, 3, 2), (16, 4, 4)])
def test_a_tile_for_each(count, columns, rows):
    weights = np.zeros((count, 16, 16), np.float32)
    weights[-1] = 1
    sheet = draw_heats(weights, [str(n) for n in range(count)], 512, 512, GREY)
    assert sheet.size == (columns * 258 - 2, rows * 258 - 2)
    light = np.asarray(sheet, float).mean(-1)
    last = count - 1
    y, x = (last // columns) * 258, (last % columns) * 258
    assert light[y + 128, x + 128] > 200
    assert count == 1 or light[128, 128] < 100


def drawn_below(colour):
    """A region's colour over the dimmed grey."""
    return COVER * np.array(colour) + (1 - COVER) * 127 * DIMMED


def test_a_bar_is_as_long_as_its_numbers():
    regions = (REGION, Region("a lamp", (0, 0, 0.2, 0.2)))
    bars = [[Part(0.25, 0), Part(0.25, 0, pale=True), Part(0.25, 1), Part(0.25, None)], [Part(1.0, 1)]]
    drawn = np.asarray(draw_parts(np.stack([spot()] * 2), bars, regions, 512, 512, GREY))
    height, width, _ = drawn.shape
    assert width == 512 and height > 512
    colours = [[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in PALETTE[:2]]
    below = drawn[512:].reshape(height - 512, width, 3)
    counts = [(below == colour).all(-1).sum(1).max() for colour in colours]
    assert counts[0] == pytest.approx(128, abs=2) and counts[1] == pytest.approx(512, abs=2)
    expected = COVER * np.array(colours[1]) + (1 - COVER) * drawn_below(colours[0])
    assert np.abs(drawn[300, 300] - expected).max() <= 2, "the later region's heat lies in front"


def rgb(colour):
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def test_a_region_keeps_its_colour_and_name():
    third, sixth = (np.asarray(draw_heat(spot(), index, REGION, 512, 512, GREY)) for index in (2, 5))
    for drawn, index in ((third, 2), (sixth, 5)):
        assert (drawn[128:130, 300] == rgb(PALETTE[index])).all() and not (drawn[130, 300] == 127).all()
        assert (drawn[130:140, 129] == rgb(PALETTE[index])).all(-1).all(), "the label's number"
    other = np.asarray(draw_heat(spot(), 2, Region("a lamp", REGION.box), 512, 512, GREY))
    changed = np.argwhere((third != other).any(-1))
    assert len(changed) and changed.max(0)[0] < 155 and changed.min(0)[1] > 140, "the phrase"


def test_heat_over_the_most_is_as_the_most():
    whole, beyond = (np.asarray(draw_heat(level * spot(), 0, REGION, 512, 512)) for level in (1.0, 1.3))
    assert np.array_equal(whole, beyond)


def test_heat_of_few_places_fades_into_the_next():
    drawn = np.asarray(draw_heat(spot(columns=slice(12, 16)), 0, REGION, 512, 512), float)[300].mean(-1)
    assert len(set(drawn[390:430].tolist())) > 8


def test_the_ramp_runs_from_black_over_purple_and_orange():
    for level, colour in ((0.25, "#57106e"), (0.5, "#bc3754"), (0.75, "#f98e09")):
        drawn = np.asarray(draw_heat(level * spot(), 0, REGION, 512, 512, np.zeros_like(GREY)), float)[
            310, 310
        ]
        assert np.abs(drawn - np.array(rgb(colour)) * level**0.5).max() <= 2


def test_tiles_are_named_and_half_as_large():
    weights = np.zeros((2, 16, 16), np.float32)
    sheet = np.asarray(
        draw_heats(weights, ["one", "two"], 516, 1000, np.full((513, 1001, 3), 0.5, np.float32))
    )
    assert sheet.shape == (257, 2 * 501 + 2, 3), "of the picture, rounded up"
    assert (sheet[:, 501:503] == rgb("#22242a")).all(), "a gap between"
    renamed = np.asarray(
        draw_heats(weights, ["one", "six"], 516, 1000, np.full((513, 1001, 3), 0.5, np.float32))
    )
    changed = np.argwhere((sheet != renamed).any(-1))
    assert changed.min(0)[1] >= 503 + 4 and changed.max(0)[1] < 560 and changed.max(0)[0] < 30
    assert sheet[10, 503] @ [1, 1, 1] < sheet[10, 900] @ [1, 1, 1], "on a darker ground"
    long = np.asarray(draw_heats(weights, ["m" * 10, "two"], 512, 512, GREY))
    dark = np.flatnonzero(long[2, :256].mean(-1) < 40)
    assert dark.tolist() == list(range(round(font_of(16).getlength("m" * 10)) + 9))


def bar_row(parts, regions=(REGION,), width=512):
    """The lowest row of pixels of the first bar, and all of what lies below the picture."""
    weights = np.zeros((len(regions), 16, 16), np.float32)
    bars = [parts] + [[]] * (len(regions) - 1)
    drawn = np.asarray(draw_parts(weights, bars, regions, width, 512))
    below = drawn[512:].astype(int)
    row = sum(font_of(16).getmetrics()) + 4
    assert len(below) == len(regions) * 2 * row + 2
    return below[2 + 2 * row - 4], below


def test_the_parts_of_a_bar_lie_one_behind_the_other_with_a_gap():
    parts = [Part(0.25, 1), Part(0.125, 1, pale=True), Part(0.0, 2), Part(0.125, None), Part(0.25, 0)]
    bar, _ = bar_row(parts)
    strip = rgb("#22242a")
    pale = [round(0.45 * a + 0.55 * b) for a, b in zip(rgb(PALETTE[1]), strip, strict=True)]
    for start, end, colour in (
        (0, 128, rgb(PALETTE[1])),
        (128, 192, pale),
        (192, 256, rgb("#6b6f78")),
        (256, 384, rgb(PALETTE[0])),
    ):
        assert (bar[start : end - 1] == colour).all() and (bar[end - 1] == strip).all(), start
    assert (bar[384:] == strip).all(), "the rest is empty"


def test_bars_of_two_regions_do_not_touch():
    _, below = bar_row([Part(1.0, 0)], (REGION, Region("a lamp", (0, 0, 0.2, 0.2))))
    height = (len(below) - 2) // 2
    assert (below[2 + height - 3 : 2 + height, 300] == rgb("#22242a")).all()


def test_a_part_says_its_percent_where_there_is_room():
    def ink(length, pale=False):
        """The columns in which something stands in the second of two parts, from its beginning."""
        _, below = bar_row([Part(0.25, 0), Part(length, 1, pale)])
        bar = below[26:42, 128 : 128 + round(512 * length) - 1]
        return np.flatnonzero((np.abs(bar - bar[-1]).max(-1) > 60).any(0)), bar

    (half, bar), (_, other), (none, _) = ink(0.5), ink(0.25), ink(0.02)
    assert half.min() >= 2 and half.max() < 22 and not np.array_equal(bar[:, :22], other[:, :22])
    assert not len(none)
    assert ink(0.05)[0].size, "one digit fits 25 pixels"
    assert bar.min() < 30, "black on the full colour"
    assert ink(0.5, pale=True)[1].min(-1).max() > 200, "white on the pale one"


def test_the_same_percent_is_said_wherever_a_part_begins():
    _, below = bar_row([Part(0.25, 0), Part(0.25, 0)])
    assert np.array_equal(below[26:42, :120], below[26:42, 128:248])
    assert (below[26:42, :120] != below[42, 0]).any()


def test_over_each_bar_stand_number_and_phrase():
    lamp = Region("a\n lamp", (0, 0, 0.2, 0.2))
    _, below = bar_row([], (REGION, lamp))
    height = (len(below) - 2) // 2
    for index in (0, 1):
        assert (below[2 + index * height, :10] == rgb(PALETTE[index])).all()
        words = below[2 + index * height :][: height // 2]
        white = np.flatnonzero((words > 240).all(-1).any(0))
        assert 17 + 4 <= white.min() < 27 and 60 < white.max() < 120
    _, other = bar_row([], (Region("a red mop", REGION.box), lamp))
    assert not np.array_equal(below[2 : 2 + height], other[2 : 2 + height])
    assert np.array_equal(below[2 + height :], other[2 + height :])
    _, flat = bar_row([], (REGION, Region("a lamp", (0, 0, 0.2, 0.2))))
    assert np.array_equal(flat, below)
    _, long = bar_row([], (Region("m" * 400, REGION.box),))
    assert (long[2:20, -4:] == rgb("#22242a")).all() and (long[2:20, -60:] > 240).all(-1).any()


def test_the_number_over_a_bar_counts_from_one():
    regions = (REGION,) * 10
    _, below = bar_row([], regions)
    height = (len(below) - 2) // 10
    badges = [
        (below[2 + index * height] == rgb(PALETTE[index % 8])).all(-1).sum() for index in range(len(regions))
    ]
    assert badges[:9] == [17] * 9 and badges[9] == 26


def test_the_number_over_a_bar_is_the_one_in_the_pictures_label():
    _, below = bar_row([], (REGION,) * 10)
    row, shown = (len(below) - 2) // 20, []
    for index in range(10):
        label = Image.new("RGB", (512, 512))
        draw_label(label, (0, 0, 400, 400), index, "", 2)
        badge = round(font_of(16).getlength(str(index + 1))) + 8
        over_bar = below[2 + 2 * row * index :][:20, :badge]
        assert np.abs(over_bar - np.asarray(label).astype(int)[:20, :badge]).max() <= 1, index
        shown.append((over_bar < 40).all(-1).tobytes())
    assert len(set(shown)) == 10


def test_parts_are_drawn_over_the_dimmed_picture_with_every_box():
    regions = (REGION, Region("a lamp", (0.0, 0.0, 0.1, 0.1)))
    drawn = np.asarray(draw_parts(np.zeros((2, 8, 8)), [[], []], regions, 512, 512, GREY)).astype(int)
    assert np.abs(drawn[450, 450] - 128 * DIMMED).max() <= 1
    assert (drawn[128:130, 300] == rgb(PALETTE[0])).all() and (drawn[0:2, 20] == rgb(PALETTE[1])).all()


WIDE = Region("a bench", (0.25, 0.5, 0.75, 0.75))


def test_without_a_picture_behind_it_heat_is_as_wide_and_high_as_asked():
    weights = np.zeros((2, 16, 16), np.float32)
    assert draw_heat(weights[0], 0, WIDE, 768, 512).size == (768, 512)
    assert draw_heats(weights, ["a", "b"], 768, 512).size == (2 * 384 + 2, 256)
    together = draw_parts(weights, [[], []], (WIDE, WIDE), 768, 512)
    assert together.width == 768
    assert (np.asarray(together)[256:258, 400] == rgb(PALETTE[1])).all(), "the picture is 512 high"


def test_heat_of_masks_alone_is_as_wide_and_high_as_they_are():
    """Enlarged eight times, as every small picture is."""
    record = AttentionRecord((REGION, WIDE), (8, 12), 1, ("a", "b"))
    bench, mug = heat_pictures(record, (1, 0), torch.zeros(2, 1, 64, 96))
    assert bench.shape == mug.shape == (512, 768, 3)
    assert (bench[256:258, 400] == rgb(PALETTE[1])).all() and (mug[128:130, 400] == rgb(PALETTE[0])).all()
    (by_token,) = heat_pictures(record, (1,), torch.zeros(1, 2, 64, 96))
    assert by_token.shape == (256, 2 * 384 + 2, 3)


@pytest.mark.parametrize("draw", ["one", "all"])
def test_lines_are_as_thick_as_in_the_preview(draw):
    """A 256th of the shorter side: 4 of 1024."""
    weights = np.zeros((1, 8, 8), np.float32)
    picture = (
        draw_heat(weights[0], 0, WIDE, 1280, 1024)
        if draw == "one"
        else draw_parts(weights, [[]], (WIDE,), 1280, 1024)
    )
    ink = (np.asarray(picture) == rgb(PALETTE[0])).all(-1)[:1024]
    assert np.flatnonzero(ink[:, 900]).tolist() == [512, 513, 514, 515, 764, 765, 766, 767]
    assert np.flatnonzero(ink[700]).tolist() == [*range(320, 324), *range(956, 960)]


def test_heat_below_nothing_is_nothing():
    below = np.full((16, 16), -0.25, np.float32)
    none, less = (np.asarray(draw_heat(level, 0, REGION, 512, 512, GREY)) for level in (0 * below, below))
    assert np.array_equal(none, less)


def test_nothing_is_drawn_hotter_than_it_is_where_heat_ends():
    corner, black = Region("a cup", (0.0, 0.0, 0.1, 0.1)), np.zeros_like(GREY)
    half, flat = (
        np.asarray(draw_heat(weights, 0, corner, 512, 512, black), int)[200:, 200:].sum(-1)
        for weights in (0.5 * spot(), np.full((16, 16), 0.5, np.float32))
    )
    assert half.max() == flat.max() and half[:20].max() == 0


def test_the_name_of_a_tile_stands_in_its_own_corner():
    weights = np.zeros((5, 16, 16), np.float32)
    names = ["one", "two", "three", "four", "five"]
    sheet = np.asarray(draw_heats(weights, names, 512, 512, GREY))
    for number, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        renamed = [*names[:number], "six", *names[number + 1 :]]
        changed = np.argwhere((sheet != np.asarray(draw_heats(weights, renamed, 512, 512, GREY))).any(-1))
        top, left = row * 258, column * 258
        assert (changed.min(0) >= (top, left + 4)).all(), number
        assert (changed.max(0) < (top + 24, left + 60)).all(), number
    assert (sheet[:, :60] > 240).all(-1).sum() > 50, "white"
    assert (sheet[-256:, -256:] == rgb("#22242a")).all(), "nothing where the sixth would be"


def test_tiles_lie_in_reading_order():
    weights = np.stack([np.full((4, 4), level, np.float32) for level in (0.1, 0.3, 0.5, 0.7, 0.9)])
    light = np.asarray(draw_heats(weights, [""] * 5, 512, 512), float).mean(-1)
    middles = [light[128 + 258 * row, 128 + 258 * column] for row in (0, 1) for column in (0, 1, 2)][:5]
    assert middles == sorted(middles) and len(set(middles)) == 5


def test_letters_over_bars_and_tiles_grow_with_the_picture():
    weights = np.zeros((1, 8, 8), np.float32)
    small, large = (draw_parts(weights, [[]], (WIDE,), side, side) for side in (512, 1536))
    assert small.height - 512 == 2 * (sum(font_of(16).getmetrics()) + 2 * 2) + 2
    assert large.height - 1536 == 2 * (sum(font_of(24).getmetrics()) + 2 * 6) + 6
    sheets = (np.asarray(draw_heats(weights, ["HH"], side, side)) for side in (512, 2048))
    low, high = (np.flatnonzero((sheet > 240).all(-1).any(1)) for sheet in sheets)
    assert np.ptp(high) > 1.4 * np.ptp(low)
