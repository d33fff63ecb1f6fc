"""Paint one picture in a real ComfyUI server and save it beside its layout. `run.py demo` calls this.

python -m demo.show --host COMFYUI --out PICTURE.png
"""

import argparse
import io
import signal
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from . import standins
from .graph import LAYOUT, PICTURE, Models, Scene, demo_graph
from .server import ComfyServer, ExecutionFailed, Progress, PromptRejected, StartFailed, install_pack

SCENE = Scene(
    prompt="a kitchen table by a window, a mug, a lamp and a cat",
    negative="blurry, low quality",
    instances=(
        ("a red ceramic mug with white polka dots", 0.04, 0.55, 0.26, 0.36),
        ("a sleeping orange tabby cat with a blue collar", 0.33, 0.5, 0.34, 0.4),
        ("a brass desk lamp with a green glass shade", 0.7, 0.1, 0.26, 0.72),
    ),
    size=384,
    steps=8,
)
STANDIN_NOTE = (
    "The models are stand-ins with random weights: the picture is noise-like texture, not a scene. It shows that\n"
    "the whole graph runs in a real ComfyUI, not what DEIG paints. For that, put the real files in place (README)."
)
GAP = 12  # pixels between the two pictures


def make_standins(host: Path, models: Path) -> Models:
    """Write random models of the real layouts below ComfyUI's `models` folder."""
    names = Models("standin.safetensors", "standin.safetensors", "standin-t5", STANDIN_NOTE)
    checkpoint = standins.checkpoint_state(standins.FAST)
    standins.save_state(models / "checkpoints" / names.checkpoint, checkpoint, torch.float16)
    standins.save_state(models / "deig" / names.adapter, standins.adapter_state(standins.FAST), torch.float16)
    tokenizer = host / "comfy" / "text_encoders" / "t5_tokenizer"
    standins.write_t5_folder(models / "text_encoders" / names.text_encoder, tokenizer)
    return names


def report(progress: Progress):
    step = f"step {progress.step} of {progress.steps}" if progress.steps else ""
    print(f"  {progress.node:<24} {step}".rstrip(), flush=True)


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Join images from left to right with a white gap, scaled up to the height of the tallest."""
    height = max(image.height for image in images)
    images = [image.resize((image.width * height // image.height, height)) for image in images]
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    sheet = Image.new("RGB", (width, height), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + GAP
    return sheet


def show(host: Path, out: Path):
    with tempfile.TemporaryDirectory(prefix="deig-demo-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        print("Making stand-in models ...", flush=True)
        models = make_standins(host, base / "models")
        install_pack(base)
        print("Starting ComfyUI ...", flush=True)
        with ComfyServer(host, base) as server:
            print(f"ComfyUI answers on {server.address}; running the graph", flush=True)
            result = server.run(demo_graph(models, SCENE), report)
            files = [server.view(result.outputs[name]["images"][0]) for name in (LAYOUT, PICTURE)]
    out.parent.mkdir(parents=True, exist_ok=True)
    side_by_side([Image.open(io.BytesIO(file)) for file in files]).save(out)
    print(models.note)
    print(f"The layout and the picture: {out}")


def leave(number, _):
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, leave)
    try:
        show(options.host, options.out)
    except (StartFailed, PromptRejected, ExecutionFailed) as failure:
        print(failure)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
