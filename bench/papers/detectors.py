"""Judging models by transformers: GroundingDINO, SAM and CLIP.

The scripts run the authors' own GroundingDINO (Swin-T, OGC) and SAM (ViT-H); these are the same weights in
transformers' form, whose pictures are scaled by the same rule and may differ in the last digits. The first use loads
a model by its name on the Hugging Face Hub or from a folder.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from .protocol import BOX_THRESHOLD
from .trouble import Trouble

DETECTOR, SEGMENTER, CLIP = (
    "IDEA-Research/grounding-dino-tiny",
    "facebook/sam-vit-huge",
    "openai/clip-vit-large-patch14",
)


def best_device() -> torch.device:
    """Return the accelerator, or the CPU where there is none."""
    return (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    )


def load(what: str, name: str, *loaders: Callable[[str], Any]) -> list[Any]:
    """Load parts of a model.

    Raises:
        Trouble: it is not there, or is something else.
    """
    try:
        return [loader(name) for loader in loaders]
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).partition("\n")[0] or repr(error)
        raise Trouble(
            f"The {what} {name!r} cannot be loaded: {reason.removesuffix('.')}. "
            "Give a folder that holds it in transformers' form, or the name that it has on the Hugging Face Hub."
        ) from None


class GroundingDino:
    """Finds things by words.

    Args:
        name: on the Hugging Face Hub, or a folder.
    """

    def __init__(self, name: str = DETECTOR, device: torch.device | None = None):
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.name = name
        self._device = device or best_device()
        loaders = (AutoModelForZeroShotObjectDetection.from_pretrained, AutoProcessor.from_pretrained)
        model, self._processor = load("detector", name, *loaders)
        self._model = model.to(self._device).eval()

    @torch.no_grad()
    def boxes(self, picture: np.ndarray, words: str) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4), xyxy in pixels, and scores (N,), float32, of what a picture has of the words."""
        inputs = self._processor(images=Image.fromarray(picture), text=caption_of(words), return_tensors="pt")
        outputs = self._model(**inputs.to(self._device))
        scores = outputs.logits[0].sigmoid().amax(-1)
        kept = scores > BOX_THRESHOLD
        x, y, width, height = outputs.pred_boxes[0][kept].unbind(-1)
        sides = torch.tensor([picture.shape[1], picture.shape[0]] * 2, device=x.device)
        boxes = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1) * sides
        return boxes.float().cpu().numpy(), scores[kept].float().cpu().numpy()


def caption_of(words: str) -> str:
    """Return words as GroundingDINO reads them: small letters, a full stop at the end."""
    words = words.lower().strip()
    return words if words.endswith(".") else words + "."


class Sam:
    """Finds the outline of what lies in a box: the one of its three guesses that it trusts most."""

    def __init__(self, name: str = SEGMENTER, device: torch.device | None = None):
        from transformers import SamModel, SamProcessor

        self.name = name
        self._device = device or best_device()
        model, self._processor = load(
            "segmenter", name, SamModel.from_pretrained, SamProcessor.from_pretrained
        )
        self._model = model.to(self._device).eval()

    @torch.no_grad()
    def mask(self, picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
        """Return (H, W), bool."""
        inputs = self._processor(
            Image.fromarray(picture), input_boxes=[[[float(edge) for edge in box]]], return_tensors="pt"
        )
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        wanted = {"pixel_values": inputs["pixel_values"], "input_boxes": inputs["input_boxes"].float()}
        outputs = self._model(
            **{key: value.to(self._device) for key, value in wanted.items()}, multimask_output=True
        )
        masks = self._processor.image_processor.post_process_masks(outputs.pred_masks.cpu(), *sizes)
        return masks[0][0, int(outputs.iou_scores[0, 0].argmax())].numpy().astype(bool)


class Clip:
    """Says how well a picture and words go together."""

    def __init__(self, name: str = CLIP, device: torch.device | None = None):
        from transformers import CLIPModel, CLIPProcessor

        self.name = name
        self._device = device or best_device()
        model, self._processor = load("CLIP", name, CLIPModel.from_pretrained, CLIPProcessor.from_pretrained)
        self._model = model.to(self._device).eval()

    @torch.no_grad()
    def score(self, picture: np.ndarray, words: str) -> float:
        """Return the logit of a picture (H, W, 3), uint8, RGB, with words: 100 times their cosine, for released CLIPs.

        The scripts hand CLIP the picture as OpenCV reads it, blue first, so that is what it sees here.
        """
        blue_first = Image.fromarray(np.ascontiguousarray(picture[..., ::-1]))
        inputs = self._processor(
            text=[words], images=blue_first, return_tensors="pt", padding=True, truncation=True
        )
        return float(self._model(**inputs.to(self._device)).logits_per_image.mean())
