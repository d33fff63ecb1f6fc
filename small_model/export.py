"""Write the small model as the files that the pack and the host read: `python -m small_model.export`.

Matrices of the UNet and the adapter are stored as 8-bit floats (training ends with weights held to these);
the autoencoder, the text encoder and every vector of the adapter as 16-bit ones.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import text
from .autoencoder import Autoencoder, full_width
from .curve import draw_curve
from .device import STORED
from .model import SmallDEIG
from .place import ADAPTER, CHECKPOINT, TEXT_FOLDER
from .widen import widen_adapter, widen_unet

CURVE = "loss.png"
MOST_BYTES = 60_000_000


def is_stored_in_eight_bits(name: str, parameter: torch.Tensor) -> bool:
    """Say so of a parameter of `SmallDEIG`, by its name there: all of the UNet, matrices of the adapter."""
    return name.startswith("unet.") or name.startswith("adapter.") and parameter.ndim > 1


def checkpoint_state(
    model: SmallDEIG, encoder: Autoencoder, stored: torch.dtype = STORED
) -> dict[str, torch.Tensor]:
    """Return UNet and autoencoder under the names of a Stable Diffusion 1.x checkpoint."""
    state = {
        f"model.diffusion_model.{name}": tensor.to(stored).contiguous()
        for name, tensor in widen_unet(model.unet.state_dict()).items()
    }
    for name, tensor in full_width(encoder.state_dict()).items():
        dtype = torch.float32 if name.startswith("vae_") else torch.float16
        state[f"first_stage_model.{name}"] = tensor.to(dtype).contiguous()
    return state


def adapter_state(model: SmallDEIG, stored: torch.dtype = STORED) -> dict[str, torch.Tensor]:
    """Return the adapter under the names of the released one."""
    return {
        name: tensor.to(stored if tensor.ndim > 1 else torch.float16).contiguous()
        for name, tensor in widen_adapter(model.adapter.checkpoint_state()).items()
    }


def export(
    model: SmallDEIG, encoder: Autoencoder, tokenizer: Path, folder: Path, stored: torch.dtype = STORED
):
    """Write everything.

    Args:
        model, encoder: what to write.
        tokenizer: the folder that `text.train_vocabulary` wrote.
        folder: where to.
        stored: the type of the matrices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(checkpoint_state(model, encoder, stored), folder / CHECKPOINT, metadata={"format": "pt"})
    save_file(adapter_state(model, stored), folder / ADAPTER, metadata={"format": "pt"})
    model.text.half().save_pretrained(folder / TEXT_FOLDER)
    text.write_tokenizer(folder / TEXT_FOLDER, text.read_pieces(tokenizer))
    model.text.float()


def export_run(run: Path, folder: Path):
    """Write the averaged weights of a training run, and its loss curve.

    Args:
        run: the folder that `python -m small_model.train` keeps.
        folder: where to.
    """
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)
    model = SmallDEIG(text.load_tokenizer(run / "t5"))
    model.load_state_dict(state["average"])
    encoder = Autoencoder()
    encoder.load_state_dict(torch.load(run / "autoencoder.pt", map_location="cpu", weights_only=True))
    export(model.eval(), encoder, run / "t5", folder)
    draw_curve(state["curve"], folder / CURVE)


def main():
    parser = argparse.ArgumentParser(description="Write the files of a training run's model.")
    parser.add_argument("--run", type=Path, default=Path("run"), help="folder that keeps the run")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write, for example small_model/weights"
    )
    options = parser.parse_args()
    export_run(options.run, options.out)
    sizes = {path: path.stat().st_size for path in sorted(options.out.rglob("*")) if path.is_file()}
    for path, size in sizes.items():
        print(f"{size:>12,}  {path.relative_to(options.out)}")
    total = sum(sizes.values())
    print(f"{total:>12,}  in all, of at most {MOST_BYTES:,}")
    if total > MOST_BYTES:
        raise SystemExit("That is too much to keep in the repository.")


if __name__ == "__main__":
    main()
