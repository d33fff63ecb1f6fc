"""A benchmark file of the small model's shapes, in DEIG-Bench's form, and the judge that knows them exactly.

    python -m bench.papers.shapes --out shapes.json --layouts 200 --kept-out 80

Its entries are the layouts of `bench --quality`, so the whole chain can be run where there is neither a large model nor
a large judge, and its figures compared with those.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.quality.judge import judge
from bench.quality.run import FIRST_SEED
from small_model.scenes import Scene, Shape, area, deal

from .entries import Entry
from .judges import Verdict, unusual
from .manifest import write_whole
from .protocol import IOU_THRESHOLD

NAME = "shapes"
LAYOUTS, KEPT_OUT = 200, 80


def write_shapes(layouts: int = LAYOUTS, kept_out: int = KEPT_OUT, first_seed: int = FIRST_SEED) -> bytes:
    """Return a benchmark file of held-out layouts, then of combinations that training never showed."""
    seeds = [(first_seed + i, False) for i in range(layouts)] + [
        (first_seed + i, True) for i in range(kept_out)
    ]
    return json.dumps({"results": [_entry(*seed) for seed in seeds]}, indent=1).encode()


def _entry(seed: int, kept_out: bool) -> dict[str, Any]:
    scene = deal(seed, kept_out=kept_out)
    name = f"{'kept-out' if kept_out else NAME}-{seed}.png"
    return {
        "image_id": seed,
        "file_name": name,
        "caption": scene.prompt,
        "prompt": scene.prompt,
        "instances": [_instance(shape) for shape in scene.shapes],
        "seed": seed,
        "scene": {"seed": seed, "kept_out": kept_out},
    }


def _instance(shape: Shape) -> dict[str, Any]:
    has_texture = shape.texture != "plain"
    texture = {"has_texture": has_texture, "texture": shape.texture if has_texture else ""}
    return {
        "category": shape.kind,
        "bbox": list(shape.box),
        "description": shape.phrase,
        "relative_area": area(shape.box),
        # A shape has colours and perhaps a texture, and no material: levels L1 and L3.
        "eval_info": {
            "type": "object",
            "eval_metrics": {"material": {"has_material": False, "material": ""}, "texture": texture},
        },
    }


def scene_of(entry: Entry) -> Scene:
    """Return the scene that an entry was made from."""
    return deal(entry.scene["seed"], kept_out=entry.scene["kept_out"])


@dataclass
class ExactJudge:
    """The small model's own judge as detector and answerer: it compares with all that could have been drawn.

    Args:
        threshold: IoU from which a shape is in its place. With 0 every shape is asked about, and the figures are those
            of `bench --quality`. A shape whose place others leave nothing of is asked about too.
    """

    threshold: float = IOU_THRESHOLD

    @property
    def name(self) -> str:
        """What it is, and the threshold where it is not the script's."""
        return f"the exact judge of the small model's shapes{unusual(self.threshold)}"

    def look(self, picture: Image.Image, entry: Entry) -> list[Verdict]:
        """Judge each shape. The picture is taken as it is: a JPEG's colours would be others."""
        verdicts = []
        for found in judge(np.asarray(picture.convert("RGB")), scene_of(entry)).shapes:
            is_placed = found.iou is None or found.iou >= self.threshold
            said = " ".join((*found.colours, found.texture or "", found.kind or "nothing")).strip()
            verdicts.append(Verdict(is_placed, is_placed and found.is_all, found.iou, said=said))
        return verdicts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--layouts", type=int, default=LAYOUTS, help="held-out layouts")
    parser.add_argument(
        "--kept-out", type=int, default=KEPT_OUT, help="layouts of combinations kept out of training"
    )
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, write_shapes(options.layouts, options.kept_out))


if __name__ == "__main__":
    main()
