"""What comes into the editor by a wire."""

import json

import numpy as np
import pytest
from deig_pack.deig_core.regions.layouts import read_layout
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.deig_core.regions.seed import drawn_state, seed_of, shown_text

CUP = Region("a cup", (0.25, 0.5, 0.75, 1.0))
BOX = {"x": 128, "y": 128, "width": 256, "height": 128, "label": "a cup"}
ELEMENT = {"type": "obj", "bbox": [500, 250, 1000, 750], "desc": "a cup"}


@pytest.mark.parametrize(
    "incoming",
    ["a cup: 128 128 384 256", (CUP,), BOX, [[BOX]], [ELEMENT]],
    ids=["text", "regions", "box", "boxes", "elements"],
)
def test_every_kind_of_seed_is_the_same_layout(incoming):
    seed = seed_of(incoming, 512, 256)
    assert seed.layout(512, 256).regions == (CUP,)
    assert seed.digest == seed_of((CUP,), 512, 256).digest
    assert seed.digest != seed_of((CUP, CUP), 512, 256).digest


def test_boxes_without_words_say_what_to_put_between():
    with pytest.raises(ValueError, match="box 1 has no description.*DEIG Regions From Boxes between"):
        seed_of({key: BOX[key] for key in ("x", "y", "width", "height")}, 512, 256)
    with pytest.raises(ValueError, match="outside the image"):
        seed_of(BOX, 256, 256)


def test_soft_and_fine_masks_become_what_a_workflow_can_carry():
    ramp = np.tile(np.linspace(0, 0.5, 2048, dtype=np.float32), (1024, 1))
    text = shown_text((Region("haze", (0, 0, 1, 1), mask=Mask(ramp)),), "fog")
    layout = read_layout(text)
    (region,) = layout.regions
    assert layout.prompt == "fog" and region.mask.values.shape == (256, 512)
    assert region.mask.values[:, :250].max() == 0 and region.mask.values[:, 260:].min() == 1
    assert len(text) < 2000


def test_the_canvas_says_what_it_began_with():
    own = json.dumps({"version": 1, "prompt": "a table", "incoming": "5f", "regions": []})
    assert drawn_state(own) == ("a table", "5f")
    assert read_layout(own).regions == ()
    for text in ("a cup: 0 0 1 1", "[]", '{"prompt": 3}', "{", "[" * 200_000, '{"a":' * 200_000):
        assert drawn_state(text) == ("", "")
