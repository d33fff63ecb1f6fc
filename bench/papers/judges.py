"""Judging one picture: is each instance in its place, and is it what its words say?

`DeigJudge` and `MigJudge` do what `check_on_image` of the two scripts does, with a detector, an answerer and a
segmenter that may be any. The exact judge of the small model's shapes (`shapes.ExactJudge`) takes their place there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image

from .colour import ENOUGH, colour_share
from .entries import Entry, Instance
from .protocol import IOU_THRESHOLD, NMS_THRESHOLD, QUESTION, SIDE, as_judged, cut_out, says_yes

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Verdict:
    """What is found of one instance.

    Args:
        placed: whether it is found in its place.
        right: whether it is what its words say; False where it was not asked, because it is not in its place.
        iou: what counts for the mean IoU; None where it cannot be measured and is left out of the mean.
        found: the detection that fits best, xyxy in fractions of the picture; None where there is none.
        said: what the answerer said, or what was measured.
    """

    placed: bool
    right: bool
    iou: float | None
    found: Box | None = None
    said: str = ""

    @property
    def succeeds(self) -> bool:
        """Whether the instance counts as a success."""
        return self.placed and self.right


class Judge(Protocol):
    """Judges the instances of a picture.

    `name` says with which models; it stands in every table.
    """

    name: str

    def look(self, picture: Image.Image, entry: Entry) -> list[Verdict]:
        """Return a verdict on each instance, in the entry's order."""


class Detector(Protocol):
    """Finds things by words."""

    name: str

    def boxes(self, picture: np.ndarray, words: str) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4), xyxy in pixels, and their scores (N,), of a picture (H, W, 3), uint8, RGB."""


class Answerer(Protocol):
    """Answers a question about a picture."""

    name: str

    def ask(self, picture: Image.Image, question: str) -> str:
        """Return the answer as it was given."""


class Segmenter(Protocol):
    """Finds the outline of what lies in a box."""

    name: str

    def mask(self, picture: np.ndarray, box: Box) -> np.ndarray:
        """Return (H, W), bool, of a picture (H, W, 3), uint8, RGB, and a box in pixels."""


@dataclass
class DeigJudge:
    """DEIG-Bench: a detection of the category in its place, then one question about the cut-out box.

    Args:
        threshold: IoU from which an instance is in its place.
        any_case: take "Yes" for yes too, which the script does not.
    """

    detector: Detector
    answerer: Answerer
    threshold: float = IOU_THRESHOLD
    any_case: bool = False

    @property
    def name(self) -> str:
        """The models and what differs from the script."""
        more = unusual(self.threshold) + (", answers in any case" if self.any_case else "")
        return f"detector {self.detector.name}, answers by {self.answerer.name}{more}"

    def look(self, picture: Image.Image, entry: Entry) -> list[Verdict]:
        """Judge each instance."""
        pixels = as_judged(picture)
        return [self._look(pixels, instance) for instance in entry.instances]

    def _look(self, pixels: np.ndarray, instance: Instance) -> Verdict:
        box, placed = _find(self.detector, self.threshold, pixels, instance)
        if not placed.placed:
            return placed
        answer = self.answerer.ask(cut_out(pixels, box), QUESTION.format(instance.phrase))
        return replace(placed, right=says_yes(answer, self.any_case), said=answer)


@dataclass
class MigJudge:
    """MIG-Bench: a detection of the noun in its place, then the colour of what is segmented in the box.

    An instance of the wrong colour counts with an IoU of 0, one out of its place with the IoU that it has, as the
    script counts them.
    """

    detector: Detector
    segmenter: Segmenter
    threshold: float = IOU_THRESHOLD

    @property
    def name(self) -> str:
        """The models and what differs from the script."""
        return f"detector {self.detector.name}, masks by {self.segmenter.name}{unusual(self.threshold)}"

    def look(self, picture: Image.Image, entry: Entry) -> list[Verdict]:
        """Judge each instance."""
        pixels = as_judged(picture)
        return [self._look(pixels, instance) for instance in entry.instances]

    def _look(self, pixels: np.ndarray, instance: Instance) -> Verdict:
        box, placed = _find(self.detector, self.threshold, pixels, instance)
        if not placed.placed:
            return placed
        share = colour_share(pixels, self.segmenter.mask(pixels, box), instance.colour)
        is_right = share >= ENOUGH
        said = f"{100 * share:.0f} % {instance.colour}"
        return replace(placed, right=is_right, iou=placed.iou if is_right else 0.0, said=said)


def _find(
    detector: Detector, threshold: float, pixels: np.ndarray, instance: Instance
) -> tuple[Box, Verdict]:
    """Look for an instance in its place: its box in pixels, and a verdict that leaves open whether it is right."""
    box = _in_pixels(instance.box)
    iou, found = best_fit(*detector.boxes(pixels, instance.category), box)
    return box, Verdict(found is not None and iou >= threshold, False, iou, found)


def best_fit(boxes: np.ndarray, scores: np.ndarray, wanted: Box) -> tuple[float, Box | None]:
    """Return the largest IoU that a detection has with a box, and that detection in fractions of `SIDE`.

    Weaker detections that share too much with a stronger one are left out first, so a better fit may be among them.

    Args:
        boxes, scores: (N, 4) xyxy in pixels, and (N,).
        wanted: xyxy in pixels.
    """
    kept = boxes[strongest(boxes, scores, NMS_THRESHOLD)]
    if not len(kept):
        return 0.0, None
    ious = overlaps(kept, np.asarray(wanted, dtype=np.float64))
    best = int(np.argmax(ious))
    return float(ious[best]), tuple(float(edge) / SIDE for edge in kept[best])


def strongest(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Non-maximum suppression: indices of the boxes that no stronger one overlaps by more than a threshold of IoU."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if not kept or overlaps(boxes[kept], boxes[index]).max() <= threshold:
            kept.append(int(index))
    return kept


def overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """IoU of each of (N, 4) boxes with one, xyxy: (N,)."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.maximum(sides, 0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (box[2:] - box[:2]).prod()
    return shared / (areas - shared)


def _in_pixels(box: Sequence[float]) -> Box:
    return tuple(np.array(box) * SIDE)


def unusual(threshold: float) -> str:
    """Say of a threshold that is not the scripts' what it is, for the name of a judge."""
    return "" if threshold == IOU_THRESHOLD else f", in place from an IoU of {threshold:g}"
