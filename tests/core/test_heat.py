"""Heat drawn over pictures: light where it is, the picture dimmed where it is not, bars as long as their numbers."""

import numpy as np
import pytest
from deig_pack.deig_core.regions.draw import PALETTE
from deig_pack.deig_core.regions.heat import COVER, DIMMED, Part, draw_heat, draw_heats, draw_parts
from deig_pack.deig_core.regions.region import Region

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
