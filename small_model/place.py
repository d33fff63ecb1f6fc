"""Where a ComfyUI finds the small model: the files of `small_model/weights` under names of its own."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

# DEIG_WEIGHTS names another folder, to try a run's weights before they are kept here.
WEIGHTS = Path(os.environ.get("DEIG_WEIGHTS") or Path(__file__).resolve().parent / "weights")
CHECKPOINT, ADAPTER, TEXT_FOLDER = "checkpoint.safetensors", "deig.safetensors", "t5"


@dataclass(frozen=True)
class Models:
    """Names as ComfyUI lists them."""

    checkpoint: str
    adapter: str
    text_encoder: str


SMALL = Models("small-deig.safetensors", "small-deig.safetensors", "small-deig-t5")


def place_weights(models: Path, weights: Path = WEIGHTS) -> Models:
    """Put the small model into a ComfyUI's `models` folder, as links where the system allows, else as copies.

    Args:
        models: that folder; what is missing below it is made.
        weights: what `python -m small_model.export` wrote.

    Returns:
        The names under which ComfyUI lists it.
    """
    _link(weights / CHECKPOINT, models / "checkpoints" / SMALL.checkpoint)
    _link(weights / ADAPTER, models / "deig" / SMALL.adapter)
    for file in (weights / TEXT_FOLDER).iterdir():
        _link(file, models / "text_encoders" / SMALL.text_encoder / file.name)
    return SMALL


def _link(file: Path, place: Path):
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists() and place.samefile(file):
        return
    # What was there may be a link to other weights, which a copy would be written over.
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(file.resolve())
    except OSError:  # Windows asks for a privilege
        shutil.copyfile(file, place)
