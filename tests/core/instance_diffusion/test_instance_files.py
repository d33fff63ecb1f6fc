"""InstanceDiffusion's adapter in all the files in which it circulates."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deig_pack.deig_core.files.checkpoint import DEIG, INSTANCE_DIFFUSION, main, open_adapter, read_adapter
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from safetensors.torch import save_file

from bench.released_instance_diffusion import adapter_shapes

ROOT = Path(__file__).resolve().parents[3]
SHAPES = adapter_shapes(hidden=8, depths=(1, 1, 1, 1), widths=(4, 8, 8, 768))
RUN = []


class Trap:
    """What the checkpoint's OmegaConf objects are to a reader: something that would be run."""

    def __reduce__(self):
        return RUN.append, (1,)


def small(shape):
    """A shape that keeps what sizes are read from, and little else of the fusers."""
    return tuple(min(side, 16) for side in shape)


@pytest.fixture(scope="module")
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(small(shape) if ".fuser." in name else shape, generator=generator)
        for name, shape in SHAPES.items()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def save_training_checkpoint(path, state, ema=True):
    """The released file's layout: two whole UNets, what the optimiser remembers, and a configuration of objects."""
    unet = {"input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3), "time_embed.0.weight": torch.zeros(3)}
    last = {name: tensor + 1 for name, tensor in state.items()}
    content = {
        "model": unet | last,
        "text_encoder": {"transformer.text_model.embeddings.x": torch.zeros(3)},
        "autoencoder": {"encoder.conv_in.weight": torch.zeros(3)},
        "diffusion": {"betas": torch.zeros(1000)},
        "opt": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(5)}},
            "param_groups": [{"lr": 0.1}],
        },
        "scheduler": {"last_epoch": 3},
        "iters": 3,
        "config_dict": {"model": Trap(), "other": argparse.Namespace(a=1)},
    }
    if ema:
        content["ema"] = unet | state
    torch.save(content, path)
    return path


def save_split(folder, state, folders=("", "", "")):
    """The three files as the older nodes want them, each in a folder of its own if one is named."""
    blocks = {"input_blocks": {}, "middle_block": {}, "output_blocks": {}}
    for name, tensor in state.items():
        if ".fuser." in name:
            path, own = name.split(".transformer_blocks.0.fuser.")
            section, number, *_ = path.split(".")
            entry = blocks[section].setdefault(number, {"params": {"n_heads": 8, "d_head": 40}, "state": {}})
            entry["state"][own] = tensor
    position_net = {
        name.removeprefix("position_net."): t for name, t in state.items() if name.startswith("position_net.")
    }
    scale_u = {
        str(block): {f"scaleu_{kind}": state[f"scaleu_{kind}_{block}"] for kind in "bs"}
        for block in range(12)
    }
    files = {"fusers.ckpt": blocks, "position_net.ckpt": position_net, "scaleu.ckpt": scale_u}
    paths = []
    for (name, content), own in zip(files.items(), folders, strict=True):
        (folder / own).mkdir(exist_ok=True)
        paths.append(folder / own / name)
        torch.save(content, paths[-1])
    return paths


def test_of_the_released_file_what_training_averaged_is_read(tmp_path, state):
    path = save_training_checkpoint(tmp_path / "instancediffusion_sd15.pth", state)
    assert open_adapter(path).system == INSTANCE_DIFFUSION
    assert same(read_adapter(path), state)
    assert RUN == []


def test_without_it_the_last_step_is_read(tmp_path, state):
    path = save_training_checkpoint(tmp_path / "instancediffusion_sd15.pth", state, ema=False)
    assert same(read_adapter(path), {name: tensor + 1 for name, tensor in state.items()})


@pytest.mark.parametrize("asked", [0, 1, 2])
@pytest.mark.parametrize("folders", [("", "", ""), ("fuser_models", "positionnet_models", "scaleu_models")])
def test_any_of_the_split_files_stands_for_all_three(tmp_path, state, folders, asked):
    paths = save_split(tmp_path, state, folders)
    (tmp_path / "notes.ckpt").write_text("no tensors")
    save_file({"IDE.x": torch.zeros(1)}, tmp_path / "deig.safetensors")
    source = open_adapter(paths[asked])
    assert source.system == INSTANCE_DIFFUSION and source.path == paths[asked] and source.total == len(SHAPES)
    assert same(read_adapter(paths[asked]), state)


def test_blocks_may_have_any_names_in_order(tmp_path, state):
    """Only the middle block's name is known for certain."""
    paths = save_split(tmp_path, state)
    content = torch.load(paths[0])
    for section in ("input_blocks", "output_blocks"):
        content[section] = {f"b{number}": block for number, block in enumerate(content[section].values())}
    torch.save(content, paths[0])
    assert same(read_adapter(paths[0]), state)


@pytest.mark.parametrize(
    "section, widths",
    [
        ("input", [1280, 1280, 640, 640, 320, 320]),
        ("output", [320, 320, 320, 640, 640, 640, 1280, 1280, 1280]),
    ],
)
def test_blocks_in_another_order_are_refused(tmp_path, section, widths):
    paths = save_split(tmp_path, {name: torch.zeros(*shape[:1], 1) for name, shape in SHAPES.items()})
    content = torch.load(paths[0])
    blocks = content[f"{section}_blocks"] = dict(reversed(content[f"{section}_blocks"].items()))

    def check_refused(widths):
        torch.save(content, paths[0])
        with pytest.raises(ValueError, match=rf"{section} blocks in another order.*{re.escape(str(widths))}"):
            open_adapter(paths[1])

    check_refused(widths)
    next(iter(blocks.values()))["state"]["linear.weight"] = torch.tensor(1.0)
    check_refused([0, *widths[1:]])


@pytest.mark.parametrize("missing, words", [(0, "fusers"), (1, "position net"), (2, "ScaleU")])
def test_a_missing_part_is_named(tmp_path, state, missing, words):
    paths = save_split(tmp_path, state)
    paths[missing].unlink()
    with pytest.raises(ValueError, match=f"Its {words} cannot be found.*one folder"):
        open_adapter(paths[missing - 1])


def test_of_two_of_a_part_the_one_that_is_asked_for_is_read(tmp_path, state):
    paths = save_split(tmp_path, state)
    other = {name: tensor + 1 for name, tensor in state.items()}
    (tmp_path / "other").mkdir()
    (tmp_path / "old.ckpt").write_bytes(save_split(tmp_path / "other", other)[2].read_bytes())
    assert same(read_adapter(paths[2]), state)


def test_two_of_a_part_are_refused(tmp_path, state):
    paths = save_split(tmp_path, state)
    (tmp_path / "old.ckpt").write_bytes(paths[2].read_bytes())
    with pytest.raises(ValueError, match=r"several files with its ScaleU.*old\.ckpt.*scaleu\.ckpt"):
        open_adapter(paths[0])


def test_too_few_fusers_are_refused(tmp_path, state):
    paths = save_split(
        tmp_path, {name: t for name, t in state.items() if not name.startswith("output_blocks.11")}
    )
    with pytest.raises(ValueError, match="8 output blocks, and Stable Diffusion 1.x has 9"):
        open_adapter(paths[0])


@pytest.mark.parametrize("layout", ["whole", "split"])
def test_a_small_file_is_made_of_either(tmp_path, state, layout):
    if layout == "whole":
        path = save_training_checkpoint(tmp_path / "instancediffusion_sd15.pth", state)
    else:
        path = save_split(tmp_path, state)[0]
    target = tmp_path / "small.safetensors"
    told = main([str(path), str(target), "--dtype", "fp16"])
    assert told.startswith(f"Kept {len(SHAPES)} of ")
    halves = read_adapter(target)
    assert same(halves, {name: tensor.half() for name, tensor in state.items()})
    assert open_adapter(target).system == INSTANCE_DIFFUSION


def test_a_file_that_was_read_makes_an_adapter(tmp_path):
    state = {
        name: torch.zeros(shape) for name, shape in adapter_shapes(8, (1, 1, 1, 1), (4, 8, 8, 768)).items()
    }
    path = tmp_path / "small.safetensors"
    save_file({name: tensor.half() for name, tensor in state.items()}, path)
    adapter = load_instance_diffusion(read_adapter(path, torch.bfloat16))
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.bfloat16}


def test_deig_is_still_told_apart(tmp_path):
    save_file({"IDE.x": torch.zeros(1), "position_net.x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert open_adapter(tmp_path / "x.safetensors").system == DEIG


def test_nests_within_nests_are_looked_through_once(tmp_path):
    """Dicts that hold each other over and over would else be walked for ever."""
    nest = {"x": torch.zeros(1)}
    for _ in range(7):
        nest = {f"part{number}": nest for number in range(30)} | {10**5000: torch.zeros(1)}
    torch.save({"input_blocks": nest}, tmp_path / "nested.ckpt")
    with pytest.raises(ValueError, match="no adapter"):
        open_adapter(tmp_path / "nested.ckpt")


PEAK = """
import sys, torch
from deig_core.files.checkpoint import read_adapter
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
tensors = read_adapter(sys.argv[1], torch.float16)
print(peak() - before, sum(tensor.nbytes for tensor in tensors.values()) / 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_is_what_is_kept_and_not_the_files(tmp_path):
    """At full size by hand: `python -m bench.checkpoint_memory --instance-diffusion`."""
    million = 1_000_000
    unet = {f"input_blocks.{i}.0.weight": torch.zeros(25, million) for i in range(2)}
    own = {f"position_net.linears_list.{i}.0.weight": torch.zeros(5, million) for i in range(5)}
    path = tmp_path / "instancediffusion_sd15.pth"
    torch.save({"model": unet | own, "ema": unet | own, "opt": {"x": torch.zeros(25, million)}}, path)
    assert path.stat().st_size > 390 * million
    line = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    peak, kept = map(float, done.stdout.split())
    assert kept == pytest.approx(50 * million / 2**20, rel=0.01)
    assert peak < kept + 100
