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


def test_a_label_goes_before_a_description_and_a_text_brings_its_prompt():
    described = BOX | {"metadata": {"desc": "a chipped mug"}}
    assert seed_of(described, 512, 256).layout(512, 256).regions[0].phrase == "a cup"
    unlabelled = {key: value for key, value in described.items() if key != "label"}
    assert seed_of(unlabelled, 512, 256).layout(512, 256).regions[0].phrase == "a chipped mug"
    text = shown_text((CUP,), "a table")
    seed = seed_of(text, 512, 256)
    assert seed.layout(512, 256).prompt == "a table" and seed.text == text
    assert seed.digest != seed_of((CUP,), 512, 256).digest and len(seed.digest) == 16


def test_no_regions_are_a_seed_of_nothing():
    assert seed_of((), 512, 256).layout(512, 256).regions == ()


def test_a_refusal_that_is_not_about_words_says_nothing_of_them():
    with pytest.raises(ValueError) as refused:
        seed_of([BOX, {"x": 0}], 512, 256)
    assert str(refused.value).startswith("box 2 has no y") and "From Boxes" not in str(refused.value)


@pytest.mark.parametrize(
    "shape, carried",
    [
        ((512, 300), (512, 300)),
        ((3, 4), (3, 4)),
        ((600, 300), (512, 256)),
        ((1024, 1), (512, 1)),
        ((1, 2048), (1, 512)),
    ],
)
def test_a_mask_is_made_smaller_but_never_larger(shape, carried):
    (region,) = read_layout(
        shown_text((Region("a", (0, 0, 1, 1), mask=Mask(np.ones(shape, np.float32))),))
    ).regions
    assert region.mask.size == carried and region.mask.values.all()


def test_a_faint_mask_is_a_place_where_it_is_half_of_its_most():
    values = np.array([[0.1, 0.19], [0.2, 0.4]], np.float32)
    (region,) = read_layout(shown_text((Region("a", (0, 0, 1, 1), mask=Mask(values)),))).regions
    assert region.mask.values.tolist() == [[0, 0], [1, 1]]


def test_a_fine_mask_is_averaged_where_it_becomes_smaller():
    values = np.zeros((2048, 2048), np.float32)
    values[:1024, 2::4] = values[:1024, 3::4] = 1
    values[1024:, ::8] = 0.5
    (region,) = read_layout(shown_text((Region("a", (0, 0, 1, 1), mask=Mask(values)),))).regions
    assert region.mask.values[:256].all() and not region.mask.values[256:].any()
