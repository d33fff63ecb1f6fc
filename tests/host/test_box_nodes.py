"""Boxes and masks between this pack's nodes and the host's own, in this process."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.boxes import RegionsFromBoxes, RegionsToBoxes
from deig_pack.nodes.layout import RegionsFromText
from deig_pack.nodes.masks import EACH, UNION, RegionsToMasks

CAT = {"x": 96.0, "y": 64.0, "width": 192.0, "height": 128.0, "label": "cat", "score": 0.9}
CUP = Region("a cup", (0.25, 0.5, 0.75, 1.0))
LAMP = Region("a lamp", (0.5, 0.0, 1.0, 0.75))
DEFAULTS = {
    "phrases": "labels",
    "lines": "",
    "width": 1024,
    "height": 1024,
    "threshold": 0.0,
    "limit": 0,
    "order": "as given",
    "colours": False,
    "edges": "refuse",
    "picture": 0,
}


def from_boxes(bboxes, **inputs):
    return RegionsFromBoxes.execute(bboxes, **(DEFAULTS | inputs)).args


def test_boxes_are_pixels_of_the_wired_picture():
    regions, report, width, height = from_boxes([[CAT]], image=torch.zeros(1, 256, 384, 3))
    assert regions == (Region("cat", (0.25, 0.25, 0.75, 0.75)),)
    assert (report, width, height) == ("1 region of 1 box.", 384, 256)
    assert from_boxes([[CAT]], width=384, height=256)[0] == regions


DOG = {"x": 0.0, "y": 0.0, "width": 48.0, "height": 64.0, "label": "dog", "score": 0.4}
RED = CAT | {"label": None, "metadata": {"desc": "a cat", "palette": ["#ff0000"]}}


@pytest.mark.parametrize(
    "inputs, phrases",
    [
        ({}, ["cat", "dog"]),
        ({"threshold": 0.5}, ["cat"]),
        ({"limit": 1}, ["cat"]),
        ({"order": "left to right"}, ["dog", "cat"]),
        ({"order": "score"}, ["dog", "cat"]),
        ({"order": "size"}, ["cat", "dog"]),
        ({"phrases": "lines", "lines": "a wolf\na fox"}, ["a wolf", "a fox"]),
        ({"picture": 1}, ["dog"]),
    ],
    ids=str,
)
def test_every_setting_of_boxes_acts(inputs, phrases):
    regions, report, *_ = from_boxes([[CAT, DOG], [DOG]], width=384, height=256, **inputs)
    assert [region.phrase for region in regions] == phrases
    assert report.startswith(f"{len(phrases)} region")


@pytest.mark.parametrize("colours, phrase", [(False, "a cat"), (True, "a cat, in red")])
def test_colours_of_boxes_are_added_if_asked(colours, phrase):
    (region,), *_ = from_boxes([RED], width=384, height=256, phrases="metadata", colours=colours)
    assert region.phrase == phrase


def test_only_chosen_regions_become_boxes():
    (written,) = RegionsToBoxes.execute((CUP, LAMP), 64, 32, "lamp").args
    assert from_boxes(written, width=64, height=32)[0] == (LAMP,)


def test_chained_regions_come_first_and_masks_come_along():
    masks = torch.zeros(1, 64, 96)
    masks[0, 16:48, 24:72] = 1
    (first, second), *_ = from_boxes(CAT, width=384, height=256, masks=masks, regions=(CUP,))
    assert first is CUP and np.array_equal(second.mask.values, masks[0].numpy())


@pytest.mark.parametrize(
    "shaped",
    [lambda m: m[0], lambda m: m[:, None], lambda m: m.half(), lambda m: m.bfloat16()],
    ids=["one", "channel", "half", "bfloat16"],
)
def test_masks_of_any_shape_that_the_host_has_come_along(shaped):
    masks = torch.zeros(1, 64, 96)
    masks[0, 16:48, 24:72] = 1
    (region,), *_ = from_boxes(CAT, width=384, height=256, masks=shaped(masks))
    assert np.array_equal(region.mask.values, masks[0].numpy())


def test_how_boxes_became_regions_is_told_in_the_log(caplog):
    with caplog.at_level(logging.INFO):
        _, report, *_ = from_boxes([[CAT, DOG]], width=384, height=256, threshold=0.5)
    assert "1 region of 2 boxes" in report and f"DEIG: {report}" in caplog.messages


def test_masks_for_each_or_their_union():
    inputs = {"choose": "", "overlap": "front", "grow": 0, "feather": 0}
    (each,) = RegionsToMasks.execute((CUP, LAMP), 64, 32, output=EACH, **inputs).args
    assert each.shape == (2, 32, 64) and each.dtype == torch.float32
    assert each[0, 20, 40] == 0 and each[1, 20, 40] == 1, "the later region lies in front"
    (both,) = RegionsToMasks.execute((CUP, LAMP), 64, 32, output=UNION, **inputs).args
    assert torch.equal(both, each.amax(0, keepdim=True))
    (cup,) = RegionsToMasks.execute((CUP, LAMP), 64, 32, output=EACH, **(inputs | {"choose": "cup"})).args
    assert torch.equal(cup, each[:1]), "what is not chosen still lies in front"
    with pytest.raises(ValueError, match="'dog'"):
        RegionsToMasks.execute((CUP,), 64, 32, output=EACH, **(inputs | {"choose": "dog"}))


def test_a_hidden_region_is_told_in_the_log(caplog):
    RegionsToMasks.execute((CUP, Region("all", (0, 0, 1, 1))), 64, 32, "", EACH, "front", 0, 0)
    assert "the mask of 'a cup' is empty" in caplog.text
    caplog.clear()
    hidden = (LAMP, CUP, Region("all", (0, 0, 1, 1)))
    RegionsToMasks.execute(hidden, 64, 32, "cup", EACH, "front", 0, 0)
    assert "'a cup'" in caplog.text and "a lamp" not in caplog.text, "only those that are chosen"


def test_masks_grow_and_soften_as_asked():
    def mask(grow, feather):
        return RegionsToMasks.execute((CUP,), 64, 64, "", EACH, "share", grow, feather)[0][0]

    plain, grown, soft = mask(0, 0), mask(4, 0), mask(0, 8)
    assert grown.sum() > plain.sum() and set(grown.unique().tolist()) == {0, 1}
    assert mask(-4, 0).sum() < plain.sum()
    assert ((soft > 0) & (soft < 1)).any() and soft.sum() == pytest.approx(plain.sum().item(), rel=0.1)


def boxes_of_the_host():
    return pytest.importorskip("comfy_extras.nodes_bounding_boxes", reason="this host has no box canvas")


def test_the_hosts_canvas_takes_our_boxes_and_gives_them_back():
    canvas = boxes_of_the_host().CreateBoundingBoxes
    (written,) = RegionsToBoxes.execute((CUP, LAMP), 640, 320, "").args
    preview, again, elements = canvas.execute(640, 320, bboxes=written).args
    assert preview.shape == (1, 320, 640, 3)
    assert [element["desc"] for element in elements] == ["a cup", "a lamp"]
    assert from_boxes(elements, phrases="metadata")[0] == (CUP, LAMP)
    assert from_boxes(again, phrases="lines", lines="a cup\na lamp", width=640, height=320)[0] == (CUP, LAMP)


def test_the_hosts_drawing_and_primitive_take_and_give_boxes():
    boxes_of_the_host()
    from comfy_extras.nodes_images import BoundingBox
    from comfy_extras.nodes_rtdetr import DrawBBoxes

    (written,) = RegionsToBoxes.execute((CUP,), 64, 32, "").args
    (drawn,) = DrawBBoxes.execute(written, torch.zeros(2, 32, 64, 3)).args
    assert drawn.shape == (2, 32, 64, 3)
    lit = drawn.amax(-1)[0] > 0.5
    rows, columns = (torch.nonzero(lit.any(axis))[:, 0] for axis in (1, 0))
    assert (rows.min(), columns.min(), columns.max()) == (16, 16, 48)
    (one,) = BoundingBox.execute(96, 64, 192, 128).args
    regions, *_ = from_boxes(one, phrases="lines", lines="a cat", width=384, height=256)
    assert regions == (Region("a cat", (0.25, 0.25, 0.75, 0.75)),)


def sam3_detect(monkeypatch, model, picture, **inputs):
    """SAM3 Detect itself, around a model of ours."""
    boxes_of_the_host()
    import comfy.model_management
    from comfy_extras.nodes_sam3 import SAM3_Detect

    monkeypatch.setattr(comfy.model_management, "load_model_gpu", lambda model: None)
    inner = SimpleNamespace(get_dtype=lambda: torch.float32, diffusion_model=model)
    options = {"refine_iterations": 0, "individual_masks": True}
    return SAM3_Detect.execute(SimpleNamespace(model=inner), picture, **inputs, **options).args


def test_what_sam3_finds_by_words_is_regions_with_their_masks(monkeypatch):
    """Two words, of which the second is found twice, the less sure first; nothing in a second picture."""
    found = {"cat": [(0.9, (0, 0, 16, 16))], "cup": [(0.6, (32, 16, 48, 32)), (0.8, (48, 0, 64.5, 16))]}

    def detect(frame, text_embeddings, orig_size, **_):
        word = "cat" if text_embeddings[0, 0, 0] == 0 else "cup"
        scores, boxes = zip(*(found[word] if frame.any() else [(0.1, (0, 0, 1, 1))]), strict=True)
        masks = torch.full((len(boxes), *orig_size), -1.0)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[y0:y1, x0 : int(x1)].fill_diagonal_(1)  # a thin place within the box
        return {
            "boxes": torch.tensor([boxes]),
            "scores": torch.logit(torch.tensor([scores])),
            "masks": masks[None],
        }

    words = [
        {"cond": torch.full((1, 2, 8), float(at)), "attention_mask": None, "max_detections": 2}
        for at in (0, 1)
    ]
    conditioning = [[words[0]["cond"], {"sam3_multi_cond": words}]]
    pictures = torch.stack((torch.ones(32, 64, 3), torch.zeros(32, 64, 3)))
    masks, boxes = sam3_detect(monkeypatch, detect, pictures, conditioning=conditioning)
    lines = {"phrases": "lines", "lines": "a cat\na cup\na jug", "image": pictures, "edges": "clip"}
    regions, report, width, height = from_boxes(boxes, masks=masks, **lines)
    assert [region.phrase for region in regions] == ["a cat", "a cup", "a jug"]
    assert [region.box for region in regions] == [
        (0, 0, 0.25, 0.5),
        (0.75, 0, 1, 0.5),
        (0.5, 0.5, 0.75, 1),
    ]
    assert [int(region.mask.values.sum()) for region in regions] == [16, 16, 16]
    assert (width, height) == (64, 32) and report.startswith("3 regions of 3 boxes. 1 box was cut")
    assert len(from_boxes(boxes, masks=masks, limit=1, **(lines | {"lines": "a cat"}))[0]) == 1
    with pytest.raises(ValueError, match="nothing was found in the picture"):
        from_boxes(boxes, masks=masks, picture=1, **lines)


def test_mediapipes_faces_are_regions(monkeypatch):
    boxes_of_the_host()
    from comfy_extras import nodes_mediapipe

    faces = [{"bbox_xyxy": np.array([16, 8, 48, 24], np.float32), "score": np.float32(0.9)}]
    model = SimpleNamespace(
        canonical_data=None, connection_sets={}, detect_batch=lambda pictures, **_: [faces for _ in pictures]
    )
    monkeypatch.setattr(nodes_mediapipe, "transformation_matrix_from_detection", lambda *_: None)
    picture = torch.zeros(1, 32, 64, 3)
    _, boxes = nodes_mediapipe.MediaPipeFaceLandmarker.execute(model, picture, "short", 0, 0.5, "empty").args
    assert from_boxes(boxes, image=picture)[0] == (Region("face", (0.25, 0.25, 0.75, 0.75)),)


def test_the_hosts_json_prompt_is_a_layout():
    canvas = boxes_of_the_host().CreateBoundingBoxes
    from comfy_extras.nodes_json_prompt import BuildJsonPromptIdeogram
    from comfy_extras.nodes_preview_any import PreviewAny

    (written,) = RegionsToBoxes.execute((CUP, LAMP), 640, 320, "").args
    *_, elements = canvas.execute(640, 320, bboxes=written).args
    (prompt,) = BuildJsonPromptIdeogram.execute(elements, {"style": "none"}, "a table.", "a kitchen").args
    (text,) = PreviewAny().main(prompt)["result"]
    regions, words, _ = RegionsFromText.execute(text, "auto", 1, 1).args
    assert regions == (CUP, LAMP) and words == "a table, a kitchen"


def test_sam3_reads_our_boxes_as_it_reads_its_own(monkeypatch):
    """SAM3 Detect itself, with a model that only notes where it is asked to look, in its 1008 pixels."""
    asked = []

    def segment(frame, box_inputs=None, **_):
        asked.append(box_inputs)
        return torch.ones(1, 1, 8, 8)

    (written,) = RegionsToBoxes.execute((CUP, LAMP), 64, 32, "").args
    model = SimpleNamespace(forward_segment=segment)
    masks, _ = sam3_detect(monkeypatch, model, torch.zeros(1, 32, 64, 3), bboxes=written)
    assert masks.shape == (2, 32, 64)
    corners = [box.reshape(4) / 1008 for box in asked]
    assert np.allclose(corners, [CUP.box, LAMP.box], atol=1e-6)


def test_the_type_is_the_hosts_and_shows_no_widget(comfy_server):
    nodes = comfy_server.object_info()
    kind, options = nodes["DEIG_RegionsFromBoxes"]["input"]["required"]["bboxes"]
    assert kind == "BOUNDING_BOX,ARRAY" and options["forceInput"] is True
    assert nodes["DEIG_RegionsToBoxes"]["output"] == ["BOUNDING_BOX"]
    if "SAM3_Detect" in nodes:
        assert nodes["SAM3_Detect"]["output"][1] == "BOUNDING_BOX"
