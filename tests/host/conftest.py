"""A real ComfyUI for the tests below this folder: on sys.path for tests in this process, or as a server.

`COMFYUI_PATH` names it (one folder; `python run.py test` runs the tests once for each that it finds, each
with the packages that the host asks for). Without it every module here is skipped, and says why.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from deig_pack.tests import standins
from deig_pack.tests.host import kept
from PIL import Image, ImageDraw

from bench import random_weights
from bench.host import open_host
from small_model.place import place_weights

if TYPE_CHECKING:
    from demo.server import ComfyServer

HOST_PATH = Path(os.environ.get("COMFYUI_PATH") or ".comfyui-path-not-set")
HAS_HOST = (HOST_PATH / "main.py").is_file() and (HOST_PATH / "comfy").is_dir()
WHY_SKIPPED = (
    f"needs a real ComfyUI, but COMFYUI_PATH is {os.environ.get('COMFYUI_PATH')!r}. "
    "Set it to a ComfyUI folder (the one with main.py), or use `python run.py test`, which looks for one."
)


class NeedsHost(pytest.Module):
    """A test module that is not even imported, because it imports the host."""

    def collect(self):
        pytest.skip(WHY_SKIPPED, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if HAS_HOST:
        return None  # pytest's own module
    return NeedsHost.from_parent(parent, path=module_path)


def pytest_sessionfinish():
    kept.let_go()


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.host)


@dataclass(frozen=True)
class ComfyHost:
    """A ComfyUI whose modules may be imported in this process, on the CPU and away from the user's files.

    Args:
        path: the folder with main.py.
        version: as ComfyUI says it, for example "0.3.64".
        base: a temporary folder that stands in for ComfyUI's models, input and output folders.
    """

    path: Path
    version: str
    base: Path

    @property
    def t5_tokenizer(self) -> Path:
        return self.path / "comfy" / "text_encoders" / "t5_tokenizer"


def read_version(path: Path) -> str:
    text = (path / "comfyui_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.+?)"', text).group(1)


def prepare_host() -> ComfyHost:
    """Put the host on sys.path and let it parse a command line of ours instead of pytest's."""
    base = open_host(HOST_PATH, ["--cpu"])

    # As main.py does, before the host's nodes.py puts comfy/utils.py in its way.
    import utils.extra_config  # noqa: F401

    return ComfyHost(HOST_PATH, read_version(HOST_PATH), base)


# Before any test module is imported: they import the host at their top.
HOST = prepare_host() if HAS_HOST else None


@pytest.fixture(scope="session")
def comfy_host() -> ComfyHost:
    return HOST


def load_model(path: Path):
    """The MODEL of a checkpoint, as ComfyUI's own loader gives it."""
    import comfy.sd

    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]


@pytest.fixture(scope="session")
def fast_checkpoint(comfy_host) -> Path:
    """An SD1.5 checkpoint with 7 transformers and a tiny VAE, float32, no CLIP."""
    path = comfy_host.base / "models" / "checkpoints" / "fast.safetensors"
    return random_weights.save_state(path, standins.checkpoint_state(standins.FAST))


@pytest.fixture(scope="session")
def full_depth_checkpoint(comfy_host) -> Path:
    """An SD1.5 checkpoint with all 16 transformers under their real names, float32, no CLIP."""
    path = comfy_host.base / "models" / "checkpoints" / "full_depth.safetensors"
    return random_weights.save_state(path, standins.checkpoint_state(standins.FULL_DEPTH))


@pytest.fixture(scope="session")
def fast_model(fast_checkpoint):
    """The ModelPatcher of `fast_checkpoint`. Clone it before patching."""
    return load_model(fast_checkpoint)


@pytest.fixture(scope="session")
def full_depth_model(full_depth_checkpoint):
    """The ModelPatcher of `full_depth_checkpoint`. Clone it before patching."""
    return load_model(full_depth_checkpoint)


@pytest.fixture(scope="session")
def fast_adapter_state() -> random_weights.State:
    """Adapter weights under the released names for `fast_model`: 64-wide text, two IDE layers."""
    return standins.adapter_state(standins.FAST)


@pytest.fixture(scope="session")
def full_depth_adapter_state() -> random_weights.State:
    """The same for `full_depth_model`: the released file's names of all 16 fusers."""
    return standins.adapter_state(standins.FULL_DEPTH)


@pytest.fixture(scope="session")
def small_t5_folder(comfy_host) -> Path:
    """A T5 v1.1-style encoder 64 wide with T5's own tokenizer, in the host's text_encoders folder."""
    folder = comfy_host.base / "models" / "text_encoders" / "small-t5"
    return standins.write_t5_folder(folder, comfy_host.t5_tokenizer)


def write_workflow_models(models: Path, tokenizer: Path):
    """What the shared workflows ask for: the small model, and stand-ins for the large ones in their file forms."""
    unet = standins.checkpoint_state(standins.FAST, with_clip=True)
    checkpoint = models / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors"
    random_weights.save_state(checkpoint, unet, torch.float16)
    os.link(checkpoint, checkpoint.with_name("DreamShaper_8_pruned.safetensors"))
    random_weights.save_state(models / "loras" / "MoXinV1.safetensors", standins.lora_state(standins.FAST))

    control = models / "controlnet" / "control_v11p_sd15_canny_fp16.safetensors"
    random_weights.save_state(control, standins.controlnet_state(), torch.float16)

    # As released: a pickle with the adapter's tensors among the UNet's.
    released = models / "deig" / "model.pth"
    released.parent.mkdir()
    prefix = "model.diffusion_model."
    base = {name.removeprefix(prefix): t for name, t in unet.items() if name.startswith(prefix)}
    torch.save({"model": base | standins.adapter_state(standins.FAST)}, released)
    instance_diffusion = standins.instance_diffusion_state(standins.FAST)
    torch.save({"ema": instance_diffusion}, released.with_name("instancediffusion_sd15.pth"))

    folder = standins.write_t5_folder(models / "text_encoders" / "small-t5", tokenizer)
    os.link(folder / "model.safetensors", folder.parent / "flan-t5-xl-encoder.safetensors")
    place_weights(models)


def can_generate_text() -> bool:
    return (HOST_PATH / "comfy" / "text_encoders" / "qwen3vl.py").is_file()


def write_seeing_models(base: Path):
    """RT-DETR and Qwen3-VL under the names that the workflows ask for, and the custom node that makes the latter small.

    Both are the host's own classes with random weights; Qwen3-VL is recorded_vlm's size.
    """
    import comfy.ops
    from comfy.ldm.rt_detr.rtdetr_v4 import RTv4

    torch.manual_seed(0)
    detector = RTv4(enc_h=64, operations=comfy.ops.disable_weight_init, dtype=torch.float32)
    place = base / "models" / "diffusion_models" / "rt_detr_v4-x-hgnet_fp16.safetensors"
    random_weights.save_state(place, _random_state(detector), torch.float16)

    node = base / "custom_nodes" / "recorded_vlm"
    shutil.copytree(
        Path(__file__).parent / "recorded_vlm", node, ignore=shutil.ignore_patterns("__pycache__")
    )
    place = base / "models" / "text_encoders" / "qwen3vl_4b_fp8_scaled.safetensors"
    random_weights.save_state(place, _small_vlm_state())


def _small_vlm_state() -> random_weights.State:
    """The state of the small Qwen3-VL under the names of its released files."""
    from comfy.text_encoders import qwen3vl

    sizes = json.loads((Path(__file__).parent / "recorded_vlm" / "sizes.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(qwen3vl.QWEN3VL_VISION, "qwen3vl_8b", sizes["vision"])
        patch.setitem(qwen3vl.QWEN3VL_VISION_COMMON, "num_heads", sizes["heads"])
        options = {"model_name": "small", "small_model_config": sizes["text"]}
        model = qwen3vl.Qwen3VLClipModel(dtype=torch.float32, model_options=options).transformer
    released = {"visual.": "model.visual.", "model.lm_head.": "lm_head.", "model.": "model.language_model."}
    renamed = {}
    for name, values in _random_state(model).items():
        prefix = next(prefix for prefix in released if name.startswith(prefix))
        renamed[released[prefix] + name.removeprefix(prefix)] = values
    return renamed


def _random_state(model: torch.nn.Module) -> random_weights.State:
    return {
        name: torch.ones_like(values)
        if values.ndim < 2
        else torch.randn_like(values) / values[0].numel() ** 0.5
        for name, values in model.state_dict().items()
        if values.is_floating_point()
    }


def write_example_picture(path: Path):
    """A picture under the name of the one that ComfyUI ships: circles, so that it has edges to follow."""
    path.parent.mkdir()
    picture = Image.new("RGB", (256, 192), "steelblue")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((30, 40, 120, 130), fill="gold")
    draw.ellipse((130, 60, 230, 160), fill="darkred")
    picture.save(path)


@pytest.fixture(scope="session")
def comfy_server(comfy_host, tmp_path_factory) -> Iterator["ComfyServer"]:
    """A running server with this pack and `write_workflow_models`."""
    # Here, because it needs aiohttp, which only the host's packages have.
    from demo.server import ComfyServer, install_pack

    base = tmp_path_factory.mktemp("server")
    write_workflow_models(base / "models", comfy_host.t5_tokenizer)
    write_example_picture(base / "input" / "example.png")
    install_pack(base)
    if can_generate_text():
        write_seeing_models(base)
    with ComfyServer(comfy_host.path, base) as server:
        yield server


@pytest.fixture
def progress(monkeypatch) -> list[tuple[int, int]]:
    """What progress bars tell from here on, all of it: how much is done of how much."""
    import comfy.utils

    told = []
    # A host may pass over what comes too soon after the last.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0, raising=False)
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: told.append((value, total))
    )
    return told
