"""Paint one picture with the small model and save it beside its layout. `run.py demo` calls this.

python -m demo.show --out PICTURE.png --host COMFYUI    in a real ComfyUI server
python -m demo.show --out PICTURE.png                   without one, through the training pipeline
"""

import argparse
import io
import signal
import sys
import tempfile
from pathlib import Path

from PIL import Image

from small_model.place import WEIGHTS, place_weights
from small_model.scenes import SIZE, Scene, Shape
from small_model.sheet import draw_sheet

SCENE = Scene(
    shapes=(
        Shape(
            "circle",
            "dotted",
            ("red", "white"),
            (0.0625, 0.0625, 0.46875, 0.46875),
            "a red circle with white dots",
        ),
        Shape(
            "square",
            "checked",
            ("blue", "yellow"),
            (0.53125, 0.53125, 0.9375, 0.9375),
            "a blue and yellow checked square",
        ),
        Shape("star", "plain", ("orange",), (0.53125, 0.0625, 0.9375, 0.46875), "an orange star"),
        Shape(
            "ring",
            "striped",
            ("green", "white"),
            (0.0625, 0.53125, 0.46875, 0.9375),
            "a striped ring, green and white",
        ),
    ),
    ground=("grey",),
    split="plain",
    prompt="shapes on a grey ground",
)
STEPS, GUIDANCE, SEED = 20, 4.0, 0
TITLES = ("layout", "painted with DEIG", "same seed without DEIG")


def paint_in_host(host: Path, weights: Path) -> list[Image.Image]:
    """Run the graph in a ComfyUI server of its own: layout, picture, and the same seed without DEIG."""
    # Here, because the server needs aiohttp, which a machine without ComfyUI may lack.
    from .graph import LAYOUT, PICTURE, PLAIN, comparing_graph
    from .graph import Scene as Told
    from .server import ComfyServer, install_pack

    instances = tuple(
        (shape.phrase, x0, y0, round(x1 - x0, 6), round(y1 - y0, 6))
        for shape, (x0, y0, x1, y1) in ((shape, shape.box) for shape in SCENE.shapes)
    )
    told = Told(SCENE.prompt, "", instances, SIZE, STEPS, GUIDANCE, SEED)
    with tempfile.TemporaryDirectory(prefix="deig-demo-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        models = place_weights(base / "models", weights)
        install_pack(base)
        print("Starting ComfyUI ...", flush=True)
        with ComfyServer(host, base) as server:
            print(f"ComfyUI answers on {server.address}; running the graph", flush=True)
            result = server.run(comparing_graph(models, told), report)
            files = [server.view(result.outputs[name]["images"][0]) for name in (LAYOUT, PICTURE, PLAIN)]
    return [Image.open(io.BytesIO(file)) for file in files]


def report(progress):
    step = f"step {progress.step} of {progress.steps}" if progress.steps else ""
    print(f"  {progress.node:<24} {step}".rstrip(), flush=True)


def paint_without_host(weights: Path) -> list[Image.Image]:
    """Paint the same by PyTorch and the core alone."""
    from deig_core.regions.draw import draw_regions
    from deig_core.regions.region import Region
    from small_model.stored import StoredDEIG

    print("Painting ...", flush=True)
    model = StoredDEIG(weights)
    layout = draw_regions(tuple(Region(shape.phrase, shape.box) for shape in SCENE.shapes), SIZE, SIZE)
    pictures = [
        model.paint([SCENE], SEED, STEPS, GUIDANCE, with_deig=with_deig)[0] for with_deig in (True, False)
    ]
    return [layout, *(Image.fromarray(picture) for picture in pictures)]


def leave(number, _):
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--host", type=Path, help="ComfyUI's folder; without it, paint through the training pipeline"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="what small_model.export wrote")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, leave)
    try:
        if options.host:
            pictures, painter = paint_in_host(options.host, options.weights), f"ComfyUI in {options.host}"
        else:
            pictures, painter = paint_without_host(options.weights), "the training pipeline, without ComfyUI"
    except RuntimeError as failure:  # the server's: it did not start, refused the graph, or a node raised
        print(failure)
        return 1
    except KeyboardInterrupt:
        return 130
    options.out.parent.mkdir(parents=True, exist_ok=True)
    words = [f"{number}  {shape.phrase}" for number, shape in enumerate(SCENE.shapes, start=1)]
    words.append(f"prompt: {SCENE.prompt}")
    draw_sheet([pictures], TITLES, [words], cell=384).save(options.out)
    print(
        f"Painted by {painter}, with the small model of small_model/weights (a few shapes are all it knows)."
    )
    print(f"The layout, the picture, and the same seed without DEIG: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
