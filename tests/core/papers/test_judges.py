"""Judging an instance: thresholds, the question, the colours; by hand, and as the authors' scripts do."""

import hashlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
from deig_pack.tests.core.papers import reference
from PIL import Image

from bench.papers.colour import ENOUGH, RANGES, colour_share, hsv
from bench.papers.entries import DEIG, MIG, Entry, Instance
from bench.papers.judges import DeigJudge, MigJudge, best_fit, overlaps, strongest
from bench.papers.protocol import (
    BOX_THRESHOLD,
    NEGATIVE,
    NMS_THRESHOLD,
    QUESTION,
    as_judged,
    is_unclear,
    says_yes,
)
from deig_core.regions.layouts import Layout

BOX = (0.25, 0.25, 0.75, 0.75)
PIXELS = (128.0, 128.0, 384.0, 384.0)


class Found:
    """A detector that finds what it is given."""

    name = "given boxes"

    def __init__(self, boxes, scores):
        self.found = np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(scores, dtype=np.float32)
        self.asked = []

    def boxes(self, picture, words):
        self.asked.append(words)
        return self.found


class Says:
    """An answerer that says one thing, and remembers what it was asked."""

    name = "one answer"

    def __init__(self, answer: str):
        self.answer, self.asked = answer, []

    def ask(self, picture, question):
        self.asked.append((np.asarray(picture), question))
        return self.answer


class Masks:
    """A segmenter that fills the box, or leaves it empty."""

    name = "the box"

    def __init__(self, is_empty: bool = False):
        self.is_empty = is_empty

    def mask(self, picture, box):
        mask = np.zeros(picture.shape[:2], dtype=bool)
        x0, y0, x1, y1 = (round(edge) for edge in box)
        mask[y0:y1, x0:x1] = not self.is_empty
        return mask


def entry(phrase: str = "a red cup", box=BOX, colour: str = "red") -> Entry:
    return Entry("1", "", (Instance(phrase, box, "cup", "L1", colour),), Layout(()))


def noise(seed: int = 0, size: int = 512) -> Image.Image:
    """A picture in which no place looks like another."""
    small = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def test_the_best_of_the_detections_counts():
    detector = Found([[0, 0, 50, 50], [128, 128, 384, 374]], [0.9, 0.4])
    (verdict,) = DeigJudge(detector, Says("yes")).look(noise(), entry())
    assert verdict.succeeds and verdict.iou == pytest.approx(246 / 256)
    assert verdict.found == pytest.approx((0.25, 0.25, 0.75, 374 / 512))
    assert detector.asked == ["cup"]


@pytest.mark.parametrize(("height", "is_placed"), [(128, True), (127, False)])
def test_half_the_box_is_its_place_and_less_is_not_asked_about(height, is_placed):
    answerer = Says("yes")
    (verdict,) = DeigJudge(Found([[128, 128, 384, 128 + height]], [0.9]), answerer).look(noise(), entry())
    assert (verdict.placed, verdict.right, len(answerer.asked)) == (is_placed, is_placed, int(is_placed))
    assert verdict.iou == pytest.approx(height / 256)  # also where it is too little


def test_where_nothing_is_found_the_iou_is_nothing():
    (verdict,) = DeigJudge(Found([], []), Says("yes")).look(noise(), entry())
    assert (verdict.placed, verdict.right, verdict.iou, verdict.found) == (False, False, 0.0, None)


def test_a_stronger_detection_takes_a_better_fit_away():
    boxes = np.array([[128, 128, 384, 384], [128, 128, 384, 434]], dtype=np.float32)
    assert overlaps(boxes, boxes[0])[1] > NMS_THRESHOLD
    assert strongest(boxes, np.array([0.4, 0.9]), NMS_THRESHOLD) == [1]
    assert best_fit(boxes, np.array([0.4, 0.9]), PIXELS)[0] == pytest.approx(256 / 306)
    assert best_fit(boxes, np.array([0.9, 0.4]), PIXELS)[0] == 1


@pytest.mark.parametrize(
    ("answer", "yes"), [("yes", True), ("Well, yes.", True), ("Yes", False), ("no", False)]
)
def test_yes_is_yes_in_small_letters(answer, yes):
    assert says_yes(answer) == yes
    assert says_yes(answer, any_case=True) == (answer != "no")
    for any_case in (False, True):
        judge = DeigJudge(Found([[128, 128, 384, 384]], [0.9]), Says(answer), any_case=any_case)
        (verdict,) = judge.look(noise(), entry())
        assert verdict.right == says_yes(answer, any_case) and verdict.said == answer
    assert is_unclear(answer) == (answer == "Yes")


def test_the_question_shows_the_box_alone():
    answerer = Says("no")
    picture = noise()
    box = (0.101, 0.2, 0.503, 0.7)
    found = [edge * 512 for edge in box]
    (verdict,) = DeigJudge(Found([found], [0.5]), answerer).look(picture, entry("a glass cup", box))
    shown, question = answerer.asked[0]
    assert np.array_equal(shown, as_judged(picture)[102:358, 52:258])
    assert "'a glass cup'" in question
    assert (verdict.placed, verdict.right, verdict.said) == (True, False, "no")


def test_pictures_are_judged_as_the_script_saves_them():
    file = io.BytesIO()
    noise().save(file, "JPEG", quality=75)
    assert np.array_equal(as_judged(noise()), np.asarray(Image.open(file)))
    flat = Image.new("RGB", (128, 128), (10, 200, 30))
    assert as_judged(flat).shape == (512, 512, 3)
    assert np.abs(as_judged(flat).astype(int) - (10, 200, 30)).max() <= 3


def test_hue_saturation_and_value_are_opencvs():
    """Its values of 18 x 18 x 18 colours, and some that are read at a glance."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 1, 3)
    digest = "84f6537b87f8401812bdc220ccf7b382fbbe2c3ef23a9a8ba68492f68b5b2fd1"
    assert hashlib.sha256(hsv(lattice).tobytes()).hexdigest() == digest
    some = {(200, 30, 30): (0, 217, 200), (12, 200, 201): (90, 240, 201), (160, 40, 90): (168, 191, 160)}
    for rgb, wanted in some.items():
        assert tuple(hsv(np.array(rgb, dtype=np.uint8))) == wanted


def painted(share: float, colour=(200, 30, 30)) -> Image.Image:
    """A grey picture with the upper part of the box in a colour."""
    pixels = np.full((512, 512, 3), 128, dtype=np.uint8)
    pixels[128 : 128 + round(256 * share), 128:384] = colour
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("share", "right"), [(0.25, True), (0.15, False)])
def test_a_fifth_of_the_colour_is_enough(share, right):
    judge = MigJudge(Found([PIXELS], [0.9]), Masks())
    (verdict,) = judge.look(painted(share), entry())
    assert (verdict.placed, verdict.right, verdict.iou) == (True, right, 1.0 if right else 0.0)
    (other,) = judge.look(painted(share), entry(colour="blue"))
    assert not other.right and other.iou == 0


@pytest.mark.parametrize(
    "rgb, colours",
    [
        ((255, 0, 0), ["red"]), ((255, 0, 100), ["red"]), ((150, 75, 0), ["brown"]),
        ((255, 213, 0), ["yellow", "brown"]), ((255, 255, 0), ["yellow"]), ((213, 255, 0), ["yellow"]),
        ((200, 255, 0), ["green"]), ((0, 255, 246), ["green"]),
        ((0, 255, 255), ["blue"]), ((60, 0, 255), ["blue"]), ((80, 0, 255), []), ((255, 0, 255), []),
        ((30, 30, 30), ["black"]), ((31, 31, 31), []), ((221, 221, 221), ["white"]), ((220, 220, 220), []),
        ((255, 212, 255), ["white"]), ((255, 211, 255), []), ((0, 69, 0), []), ((0, 70, 0), ["green"]),
        ((100, 81, 81), []), ((100, 80, 80), ["red"]),
    ],
)  # fmt: skip
def test_colours_are_those_of_their_ranges(rgb, colours):
    picture = np.full((2, 2, 3), rgb, dtype=np.uint8)
    mask = np.ones((2, 2), dtype=bool)
    assert [colour for colour in RANGES if colour_share(picture, mask, colour) == 1] == colours


def test_just_a_fifth_of_the_colour_is_enough():
    pixels = np.zeros((5, 1, 3), dtype=np.uint8)
    pixels[0] = (255, 0, 0)
    assert colour_share(pixels, np.ones((5, 1), dtype=bool), "red") == ENOUGH == 0.2


def test_a_judges_name_says_what_differs_from_the_script():
    found, says, masks = Found([], []), Says("yes"), Masks()
    assert DeigJudge(found, says).name == "detector given boxes, answers by one answer"
    assert DeigJudge(found, says, 0.25, True).name.endswith(
        "one answer, in place from an IoU of 0.25, answers in any case"
    )
    assert MigJudge(found, masks).name == "detector given boxes, masks by the box"
    assert MigJudge(found, masks, 0.75).name.endswith("the box, in place from an IoU of 0.75")


def test_another_threshold_is_another_place():
    detector = Found([[128, 128, 384, 128 + 192]], [0.9])
    for threshold, placed in ((0.75, True), (0.76, False)):
        for judge in (DeigJudge(detector, Says("yes"), threshold), MigJudge(detector, Masks(), threshold)):
            assert judge.look(painted(1), entry())[0].placed == placed


def test_how_much_of_the_colour_there_is_is_said():
    judge = MigJudge(Found([PIXELS], [0.9]), Masks())
    (verdict,) = judge.look(painted(0.5), entry())
    assert verdict.said == "50 % red"


def test_of_two_that_share_just_the_most_both_stay():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8]], dtype=np.float32)
    assert overlaps(boxes, boxes[0]).tolist() == pytest.approx([1, 0.8])
    for threshold, kept in ((0.8, [0, 1]), (0.79, [0])):
        assert strongest(boxes.astype(np.float64), np.array([0.9, 0.4]), threshold) == kept
    assert overlaps(boxes, np.array([20, 20, 30, 30])).tolist() == [0, 0]


def test_a_picture_that_is_not_square_is_stretched_to_be_judged():
    pixels = np.zeros((256, 1024, 3), dtype=np.uint8)
    pixels[:, 512:] = (200, 30, 30)
    seen = as_judged(Image.fromarray(pixels))
    assert seen.shape == (512, 512, 3)
    assert np.abs(seen[:, :250].astype(int)).max() < 12
    assert np.abs(seen[:, 262:].astype(int) - (200, 30, 30)).max() < 12


def test_an_empty_mask_has_no_colour():
    (verdict,) = MigJudge(Found([PIXELS], [0.9]), Masks(is_empty=True)).look(painted(1), entry())
    assert (verdict.placed, verdict.right, verdict.iou) == (True, False, 0.0)


def test_out_of_place_the_iou_counts_as_it_is():
    (verdict,) = MigJudge(Found([[128, 128, 384, 200]], [0.9]), Masks()).look(painted(1), entry())
    assert (verdict.placed, verdict.iou) == (False, pytest.approx(72 / 256))


# -- held to the scripts ------------------------------------------------------------------------------------


@reference.needs_reference
def test_the_words_are_the_scripts():
    question = next(text for text in reference.strings(DEIG) if text.startswith("Does this image meet"))
    assert question == QUESTION
    for kind in (DEIG, MIG):
        assert NEGATIVE in reference.strings(kind)


def random_boxes(rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around the wanted one, some of which share much."""
    spread = rng.choice([8, 60, 200], count)[:, None]
    boxes = np.array(PIXELS) + rng.normal(size=(count, 4)) * spread
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 4)
    return boxes.astype(np.float32), rng.uniform(BOX_THRESHOLD, 1, count).astype(np.float32)


def script_detector(boxes, scores):
    """GroundingDINO as the scripts call it, finding what it is given."""

    def predict_with_classes(image, classes, box_threshold, text_threshold):
        assert (box_threshold, text_threshold) == (BOX_THRESHOLD, 0.25)
        ids = np.zeros(len(scores))
        return SimpleNamespace(xyxy=boxes.copy(), confidence=scores.copy(), class_id=ids, mask=None)

    return SimpleNamespace(predict_with_classes=predict_with_classes)


@reference.needs_reference
@pytest.mark.parametrize("seed", range(40))
def test_an_instance_is_judged_as_deig_benchs_script_does(seed):
    torchvision = pytest.importorskip("torchvision")
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, int(rng.integers(0, 9)))
    answer = str(rng.choice(["yes", "no", "Yes."]))
    wanted = tuple(float(edge) for edge in rng.uniform((0.1, 0.1, 0.6, 0.6), (0.3, 0.3, 0.9, 0.9)))
    theirs, ours = Says(answer), Says(answer)
    pixels = as_judged(noise(seed))
    check = reference.functions(
        DEIG,
        ("check_on_image",),
        cv2=SimpleNamespace(cvtColor=lambda image, code: image[..., ::-1], COLOR_BGR2RGB=0),
        Image=Image,
        torchvision=torchvision,
        grounding_dino_model=script_detector(boxes, scores),
        get_subject_and_object_using_GLM=lambda image, words: [theirs.ask(image, words)],
    ).check_on_image
    gt_bbox = np.array(wanted) * 512
    expected = check(np.ascontiguousarray(pixels[..., ::-1]), "cup", "a red cup", gt_bbox, miou_threshold=0.5)
    (verdict,) = DeigJudge(Found(boxes, scores), ours).look(noise(seed), entry(box=wanted))
    assert (int(verdict.placed), int(verdict.right)) == expected[:2]
    assert verdict.iou == pytest.approx(float(expected[2]), abs=1e-6)
    assert len(ours.asked) == len(theirs.asked)
    for (our_part, _), (their_part, words) in zip(ours.asked, theirs.asked, strict=True):
        assert np.array_equal(our_part, their_part) and words == "a red cup"


@reference.needs_reference
@pytest.mark.parametrize("seed", range(40))
def test_an_instance_is_judged_as_mig_benchs_script_does(seed):
    torchvision, cv2 = pytest.importorskip("torchvision"), pytest.importorskip("cv2")
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, int(rng.integers(1, 5)))
    colour = str(rng.choice(list(RANGES)))
    pixels = as_judged(noise(seed))
    segmenter = Masks()
    check = reference.functions(
        MIG,
        ("check_on_image", "check_on_color_cv"),
        cv2=cv2,
        torchvision=torchvision,
        grounding_dino_model=script_detector(boxes, scores),
        mask_utils=SimpleNamespace(
            encode=lambda mask: {"counts": b"", "mask": mask},
            decode=lambda masks: np.stack([m["mask"] for m in masks], -1),
        ),
        sam_predictor=SimpleNamespace(
            set_image=lambda image: None,
            predict=lambda box, multimask_output: (
                np.stack([segmenter.mask(pixels, box).astype(np.uint8) * on for on in (0, 1, 0)]),
                np.array([0.3, 0.9, 0.5]),
                None,
            ),
        ),
    ).check_on_image
    expected = check(np.ascontiguousarray(pixels[..., ::-1]), "cup", np.array(PIXELS), colour)
    (verdict,) = MigJudge(Found(boxes, scores), segmenter).look(noise(seed), entry(colour=colour))
    assert (int(verdict.placed), int(verdict.right)) == expected[:2]
    assert verdict.iou == pytest.approx(float(expected[2]), abs=1e-6)


def test_shares_of_colours_differ():
    pixels = as_judged(noise())
    shares = {name: colour_share(pixels, np.ones((512, 512), dtype=bool), name) for name in RANGES}
    assert len(set(shares.values())) == len(shares) and 0 < min(shares.values()) < max(shares.values()) < 1
