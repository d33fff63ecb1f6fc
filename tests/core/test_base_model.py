"""The UNet and the VAE of a checkpoint: written as an ordinary one, and compared with another."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deig_pack.deig_core.files.base_model import UNET, VAE, main, open_base, report, write_base
from deig_pack.tests.core.test_checkpoint import Runs, save, small_adapter
from safetensors import safe_open
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
LINUX = sys.platform == "linux"


def drawn(seed: int, **shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def unet() -> dict[str, torch.Tensor]:
    shapes = {
        "time_embed.0.weight": (6, 3),
        "input_blocks.0.0.weight": (3, 4, 3, 3),
        "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (4, 4),
        "middle_block.0.in_layers.0.bias": (5,),
        "output_blocks.2.0.skip_connection.weight": (4, 2, 1, 1),
        "out.2.bias": (4,),
    }
    return drawn(1, **shapes)


def vae() -> dict[str, torch.Tensor]:
    shapes = {"encoder.conv_in.weight": (4, 3, 3, 3), "decoder.conv_out.bias": (3,), "quant_conv.bias": (8,)}
    return drawn(2, **shapes, **{"post_quant_conv.weight": (4, 4, 1, 1)})


def ordinary(dtype=torch.float32) -> dict[str, torch.Tensor]:
    """What an ordinary checkpoint of the two has."""
    named = {UNET + name: tensor for name, tensor in unet().items()}
    named |= {VAE + name: tensor for name, tensor in vae().items()}
    return {name: tensor.to(dtype) for name, tensor in named.items()}


def released(**changes) -> dict:
    """The nesting of DEIG's model.pth."""
    parts = {
        "model": unet() | small_adapter(),
        "autoencoder": vae() | {"loss.logvar": torch.zeros(())},
        "diffusion": {"betas": torch.rand(10)},
        "iters": 5000,
    }
    return parts | changes


@pytest.fixture
def model_pth(tmp_path):
    return save(released(), tmp_path / "model.pth")


def equal(got, expected) -> bool:
    return got.keys() == expected.keys() and all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("dtype", [None, "fp16", "bf16"])
def test_what_is_written_is_an_ordinary_checkpoint(form, dtype, tmp_path):
    path = save(released(), tmp_path / "model.pth", form)
    base = tmp_path / "base.safetensors"
    said = main([str(path), str(base), *(["--dtype", dtype] if dtype else [])])
    kind = {None: torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert equal(load_file(base), ordinary(kind))
    assert "10 tensors" in said and "no CLIP" in said and str(base) in said
    with safe_open(base, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "what": "Stable Diffusion UNet and VAE, without CLIP",
            "source": "model.pth",
            "tensors": "10",
        }


def test_an_ordinary_checkpoint_is_read_as_it_is(tmp_path):
    more = {"cond_stage_model.transformer.x": torch.ones(2), "model_ema.decay": torch.ones(())}
    for path in (
        save({"state_dict": ordinary() | more}, tmp_path / "sd.ckpt"),
        save(ordinary() | more, tmp_path / "sd.safetensors", "safetensors"),
    ):
        source = open_base(path)
        assert equal({name: source.read(name) for name in source.places}, ordinary())


def test_the_command_says_how_much_it_wrote(tmp_path, capsys):
    large = {"input_blocks.0.0.weight": torch.zeros(1500, 1000)}
    path = save(
        {"model": large, "autoencoder": {"encoder.x": torch.zeros(700, 1000)}}, tmp_path / "model.pth"
    )
    said = main([str(path), str(tmp_path / "base.safetensors"), "--dtype", "fp16"])
    assert said.startswith("Wrote UNet and VAE, 2 tensors, 2.2 M parameters, 4.4 MB: ")
    assert "2/2" in capsys.readouterr().err


def test_writing_tells_how_many_tensors_are_done(tmp_path, model_pth):
    told = []
    write_base(
        open_base(model_pth),
        tmp_path / "base.safetensors",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 10) for done in range(1, 11)]


def test_one_command_may_write_and_compare(tmp_path, model_pth, capsys):
    other = save(ordinary(), tmp_path / "sd.safetensors", "safetensors")
    base = tmp_path / "base.safetensors"
    lines = main([str(model_pth), str(base), "--compare", str(other)]).splitlines()
    assert [line.split(",")[0] for line in lines] == ["Wrote UNet and VAE", "UNet: the same", "VAE: the same"]
    assert capsys.readouterr().err.count("10/10") == 2


def test_what_counts_is_written_in_its_own_type(tmp_path):
    parts = released(model=unet() | {"out.seen": torch.tensor([2**40 + 1])})
    base = tmp_path / "base.safetensors"
    main([str(save(parts, tmp_path / "model.pth")), str(base), "--dtype", "fp16"])
    assert equal(load_file(base), ordinary(torch.float16) | {f"{UNET}out.seen": torch.tensor([2**40 + 1])})


@pytest.mark.parametrize("numbers", [[0.0, 1e6], [-1e6, 0.0]], ids=str)
def test_a_file_that_is_there_is_kept_and_a_number_too_large_is_refused(tmp_path, model_pth, numbers):
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"precious")
    with pytest.raises(ValueError, match="there already; --force"):
        main([str(model_pth), str(base)])
    large = save(released(autoencoder=vae() | {"encoder.x": torch.tensor(numbers)}), tmp_path / "large.pth")
    with pytest.raises(ValueError, match=r"'first_stage_model\.encoder\.x'.*not finite in torch\.float16"):
        main([str(large), str(base), "--force", "--dtype", "fp16"])
    assert base.read_bytes() == b"precious"
    with pytest.raises(ValueError, match="Nothing to do"):
        main([str(model_pth)])


def test_what_has_no_base_says_what_it_has(tmp_path):
    adapter = save(small_adapter(), tmp_path / "deig.safetensors", "safetensors")
    with pytest.raises(ValueError, match=r"no UNet .* 409 other tensors .*model\.pth"):
        open_base(adapter)
    parts = released()
    del parts["autoencoder"]
    with pytest.raises(ValueError, match=r"no VAE in it"):
        main([str(save(parts, tmp_path / "half.pth")), str(tmp_path / "base.safetensors")])
    alone = {name: tensor for name, tensor in ordinary().items() if name.startswith(VAE)}
    with pytest.raises(ValueError, match=r"vae\.safetensors has no UNet in it"):
        main(
            [
                str(save(alone, tmp_path / "vae.safetensors", "safetensors")),
                str(tmp_path / "base.safetensors"),
            ]
        )


def test_nothing_in_the_file_is_run(tmp_path):
    marker = tmp_path / "ran"
    parts = released(autoencoder=Runs(marker))
    with pytest.raises(ValueError, match="no VAE in it"):
        main([str(save(parts, tmp_path / "model.pth")), str(tmp_path / "base.safetensors")])
    inside = released(autoencoder=vae() | {"encoder.x": Runs(marker)})
    with pytest.raises(ValueError, match="no plain tensor but asks for"):
        main([str(save(inside, tmp_path / "inside.pth")), str(tmp_path / "base.safetensors")])
    assert not marker.exists()


# Comparing


def said_of(tmp_path, model_pth, other: dict, form="zip") -> str:
    content = other if form == "safetensors" else {"state_dict": other}
    return main([str(model_pth), "--compare", str(save(content, tmp_path / "sd-v1-4.ckpt", form))])


@pytest.mark.parametrize("form", ["zip", "safetensors"])
def test_equal_files_are_the_same(form, tmp_path, model_pth):
    more = {"cond_stage_model.transformer.x": torch.ones(2)}
    said = said_of(tmp_path, model_pth, ordinary() | more, form)
    assert said.splitlines() == [
        "UNet: the same, all 6 tensors equal in every number.",
        "VAE: the same, all 4 tensors equal in every number.",
    ]


def test_a_file_in_16_bit_is_the_same_as_what_it_was_made_of(tmp_path, model_pth):
    said = said_of(tmp_path, model_pth, ordinary(torch.float16))
    assert said.count("the same") == 2 and said.count("both rounded to float16") == 2 and "NOT" not in said


def test_what_differs_is_named_the_most_different_first(tmp_path, model_pth):
    other = ordinary()
    other[f"{UNET}out.2.bias"][1] += 0.25
    other[f"{UNET}middle_block.0.in_layers.0.bias"][0] -= 2.0
    del other[f"{UNET}time_embed.0.weight"]
    other[f"{UNET}output_blocks.2.0.skip_connection.weight"] = torch.zeros(4, 3, 1, 1)
    lines = said_of(tmp_path, model_pth, other).splitlines()
    largest = unet()["middle_block.0.in_layers.0.bias"].abs().max().item()
    assert lines[0] == "UNet: NOT the same. Of 4 tensors that both have, 2 differ."
    assert (
        lines[1]
        == f"  {UNET}middle_block.0.in_layers.0.bias: by up to 2, where the largest number is {largest:.3g}"
    )
    assert lines[2].startswith(f"  {UNET}out.2.bias: by up to 0.25,")
    assert lines[3].startswith("  only in model.pth, or of another shape there: 2 (")
    assert f"{UNET}time_embed.0.weight" in lines[3] and f"{UNET}output_blocks.2.0" in lines[3]
    assert lines[4].startswith("  only in sd-v1-4.ckpt, or of another shape there: 1 (")
    assert lines[5:] == ["VAE: the same, all 4 tensors equal in every number."]


def test_a_difference_of_one_bit_is_one(tmp_path, model_pth):
    other = ordinary()
    weight = other[f"{UNET}out.2.bias"]
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    assert "NOT the same. Of 6 tensors that both have, 1 differ" in said_of(tmp_path, model_pth, other)


def test_numbers_that_are_none_are_a_difference(tmp_path, model_pth):
    other = ordinary()
    other[f"{VAE}quant_conv.bias"][0] = float("nan")
    assert f"{VAE}quant_conv.bias: by up to inf" in said_of(tmp_path, model_pth, other)


@pytest.mark.parametrize("here, there", [(float("inf"), 1.0), (1.0, float("inf")), (1.0, float("-inf"))])
def test_numbers_without_end_differ_by_so_much(tmp_path, here, there):
    sources = [
        open_base(save({"model": {"out.x": torch.tensor([2.0, value])}}, tmp_path / f"{number}.pth"))
        for number, value in enumerate((here, there))
    ]
    largest = "inf" if here == float("inf") else "2"
    assert report(*sources).splitlines()[1] == (
        f"  {UNET}out.x: by up to inf, where the largest number is {largest}"
    )


@pytest.mark.parametrize("first, second", [(torch.float32, torch.float16), (torch.float16, torch.float32)])
def test_what_differs_beyond_rounding_is_said_whichever_file_is_the_shorter(tmp_path, first, second):
    """The first tensor differs by its rounding alone, the second by a quarter."""
    states = [
        {"out.a": torch.tensor([0.1, 3.0]).to(dtype), "out.b": torch.tensor([1.0 + more, -8.0]).to(dtype)}
        for dtype, more in ((first, 0.0), (second, 0.25))
    ]
    sources = [open_base(save({"model": state}, tmp_path / f"{i}.pth")) for i, state in enumerate(states)]
    assert report(*sources).splitlines()[:2] == [
        "UNet: NOT the same. Of 2 tensors that both have, both rounded to float16, 1 differ.",
        f"  {UNET}out.b: by up to 0.25, where the largest number is 8",
    ]


def test_what_the_second_file_alone_has_makes_them_differ(tmp_path):
    one, other = (
        open_base(save({"model": {"out.x": torch.zeros(1)} | more}, tmp_path / f"{len(more)}.pth"))
        for more in ({}, {"out.y": torch.zeros(1)})
    )
    assert report(one, other).splitlines()[:2] == [
        "UNet: NOT the same. Of 1 tensors that both have, 0 differ.",
        f"  only in 1.pth, or of another shape there: 1 ({UNET}out.y)",
    ]


def test_a_file_without_a_vae_is_compared_by_its_unet(tmp_path, model_pth):
    other = {name: tensor for name, tensor in ordinary().items() if name.startswith(UNET)}
    assert said_of(tmp_path, model_pth, other).splitlines() == [
        "UNet: the same, all 6 tensors equal in every number.",
        "VAE: not compared, sd-v1-4.ckpt has none.",
    ]


@pytest.mark.parametrize(
    "here, there, lacking", [(0, 1, "a.pth"), (1, 0, "b.pth"), (0, 0, "a.pth and b.pth")]
)
def test_the_file_that_lacks_a_part_is_named(tmp_path, here, there, lacking):
    sources = [
        open_base(save(released() if has else {"model": unet()}, tmp_path / name))
        for name, has in (("a.pth", here), ("b.pth", there))
    ]
    assert report(*sources).splitlines()[1:] == [f"VAE: not compared, {lacking} has none."]


def test_many_differences_are_counted(tmp_path):
    blocks = {f"input_blocks.{number}.x": torch.zeros(2) for number in range(30)}
    one = save({"model": blocks}, tmp_path / "one.pth")
    other = save({"model": {name: values + 1 for name, values in blocks.items()}}, tmp_path / "other.pth")
    lines = report(open_base(one), open_base(other)).splitlines()
    assert "30 differ" in lines[0] and len(lines) == 1 + 10 + 1 + 1 and "20 more" in lines[11]


def test_ten_differences_are_all_named_and_nothing_is_left_to_count(tmp_path):
    blocks = {f"input_blocks.{number}.x": torch.zeros(2) for number in range(10)}
    one = save({"model": blocks}, tmp_path / "one.pth")
    other = save({"model": {name: values + 1 for name, values in blocks.items()}}, tmp_path / "other.pth")
    lines = report(open_base(one), open_base(other)).splitlines()
    assert len(lines) == 1 + 10 + 1 and not any("more" in line for line in lines)


@pytest.mark.parametrize("count, end", [(10, r"input_blocks\.9\.x\)"), (11, r"input_blocks\.9\.x \.\.\.\)")])
def test_of_names_that_only_one_file_has_ten_are_shown(tmp_path, count, end):
    blocks = {f"input_blocks.{number}.x": torch.zeros(2) for number in range(count)}
    one = save({"model": blocks | {"out.x": torch.zeros(1)}}, tmp_path / "one.pth")
    other = save({"model": {"out.x": torch.zeros(1)}}, tmp_path / "other.pth")
    said = report(open_base(one), open_base(other))
    assert re.search(
        rf"  only in one\.pth, or of another shape there: {count} \(.*{end}$", said, re.MULTILINE
    )
    assert "only in other.pth" not in said


MEASURED = """
import sys
import torch
torch.set_num_threads(1)
from deig_core.files import base_model
def peak():
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) * 1024
before = peak()
base_model.main(sys.argv[1:])
print(peak() - before)
"""


def peak_of(place: Path, side: int, count: int) -> int:
    """What writing and comparing a file of tensors takes at most, in bytes, in a process of its own."""
    place.mkdir()
    weights = {f"input_blocks.{number}.x": torch.rand(side, side) for number in range(count)}
    file = save({"model": weights, "autoencoder": vae()}, place / "model.pth")
    command = [sys.executable, "-c", MEASURED, file, place / "base.safetensors", "--compare", file]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not LINUX, reason="reads the peak of memory from /proc")
def test_memory_is_that_of_a_few_tensors(tmp_path):
    """28 more tensors of 8 MB take the room of far fewer; what the libraries take in any case, both files have."""
    side, few, many = 1448, 4, 32
    more = peak_of(tmp_path / "many", side, many) - peak_of(tmp_path / "few", side, few)
    assert more < (many - few) / 4 * side * side * 4
