"""EliGen's LoRA in every form that it may have, and the refusal of a model without it."""

import comfy.hooks
import comfy.sd
import folder_paths
import pytest
import torch
from comfy.patcher_extension import PatcherInjection
from deig_pack.deig_core.eligen.lora import ELSEWHERE, IN_DOUBLE_BLOCKS, IN_SINGLE_BLOCKS, host_name
from deig_pack.nodes.eligen import LoadEliGenLoRA
from deig_pack.tests.host.composition.helpers import run_node
from deig_pack.tests.host.eligen.helpers import FAMILIES, TWO, apply, difference, prompt, sample
from deig_pack.tests.host.eligen.models import host_model, reference_name
from safetensors.torch import save_file

RANK = 4
QWEN_LAYERS = (
    "attn.to_q", "attn.add_k_proj", "attn.to_out.0", "attn.to_add_out", "img_mlp.net.2", "txt_mod.1",
)  # fmt: skip
FORMS = {
    "qwen": ("", "transformer.", "diffusion_model.", "lycoris_", "lora_unet_"),
    "flux": ("diffusion_model.", "lora_unet_"),
}


def layers(family) -> dict[str, tuple[int, int]]:
    """Layers that a LoRA is on, by the host's names, with their shapes."""
    state = host_model(family).model.diffusion_model.state_dict()
    if family == "qwen":
        names = [f"transformer_blocks.{number}.{layer}" for number in range(2) for layer in QWEN_LAYERS]
    else:
        names = [
            f"double_blocks.{number}.{layer}" for number in range(2) for layer in IN_DOUBLE_BLOCKS.values()
        ]
        names += [f"single_blocks.1.{layer}" for layer in IN_SINGLE_BLOCKS.values()]
        names += [layer for layer in ELSEWHERE.values()]
    return {name: tuple(state[f"{name}.weight"].shape) for name in names}


def halves(family) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    return {
        name: (
            torch.randn(RANK, into, generator=generator) / into**0.5,
            torch.randn(out, RANK, generator=generator) / RANK**0.5,
        )
        for name, (out, into) in layers(family).items()
    }


def lora_state(family, prefix, ends=(".lora_A.weight", ".lora_B.weight")) -> dict:
    """The LoRA under one of the host's own forms of names."""
    state = {}
    for name, both in halves(family).items():
        path = prefix + (name.replace(".", "_") if prefix.endswith("_") else name)
        state |= {path + end: tensor for end, tensor in zip(ends, both, strict=True)}
    return state


def diffsynth_state(end=".default.weight") -> dict:
    """The LoRA for FLUX.1 as its training code names it."""
    return {
        f"{reference_name(f'{name}.weight').removesuffix('.weight')}.lora_{letter}{end}": tensor
        for name, both in halves("flux").items()
        for letter, tensor in zip("AB", both, strict=True)
    }


def load_with_host(family, state):
    return comfy.sd.load_lora_for_models(host_model(family), None, state, 1.0, 0.0)[0]


def load_here(family, state, tmp_path, strength=1.0):
    name = f"{tmp_path.name}.safetensors"
    save_file(state, tmp_path / name)
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    return LoadEliGenLoRA.execute(host_model(family), name, strength)[0]


def same_patches(a, b) -> bool:
    if a.patches.keys() != b.patches.keys():
        return False
    pairs = [(a.patches[key][0][1].weights[:2], b.patches[key][0][1].weights[:2]) for key in a.patches]
    return all(torch.equal(x, y) for ours, theirs in pairs for x, y in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    "family, prefix", [(family, prefix) for family in FAMILIES for prefix in FORMS[family]]
)
def test_every_form_of_names_that_the_host_reads_counts_as_loaded(family, prefix, tmp_path):
    ends = (
        (".lora_down.weight", ".lora_up.weight")
        if prefix.endswith("_")
        else (".lora_A.weight", ".lora_B.weight")
    )
    state = lora_state(family, prefix, ends)
    by_host = load_with_host(family, state)
    apply(family, TWO, model=by_host, lora_in_weights=False)
    assert len(by_host.patches) == len(layers(family))
    assert same_patches(load_here(family, state, tmp_path), by_host)


def test_the_released_form_for_qwen_image(tmp_path):
    state = lora_state("qwen", "", (".lora_A.default.weight", ".lora_B.default.weight"))
    by_host = load_with_host("qwen", state)
    apply("qwen", TWO, model=by_host, lora_in_weights=False)
    assert same_patches(load_here("qwen", state, tmp_path), by_host)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_with_its_scale_beside_every_layer(family, tmp_path):
    """Trainers write an alpha for each layer, by which the rank divides."""
    ends = (".lora_down.weight", ".lora_up.weight")
    state = lora_state(family, "lora_unet_", ends)
    plain = load_here(family, state, tmp_path)
    state |= {
        key.removesuffix(ends[0]) + ".alpha": torch.tensor(2.0) for key in state if key.endswith(ends[0])
    }
    loaded = load_here(family, state, tmp_path)
    assert (
        same_patches(loaded, load_with_host(family, state)) and loaded.patches.keys() == plain.patches.keys()
    )
    assert {patches[0][1].weights[2] for patches in loaded.patches.values()} == {2.0}


@pytest.mark.parametrize("end", [".default.weight", ".weight"])
def test_the_training_codes_form_for_flux(end, tmp_path):
    """The host takes nothing of it; 'EliGen Load LoRA' all."""
    state = diffsynth_state(end)
    by_host = load_with_host("flux", state)
    with pytest.raises(ValueError, match="No LoRA is loaded.*take 'EliGen Load LoRA'"):
        apply("flux", TWO, model=by_host, lora_in_weights=False)
    ours = load_here("flux", state, tmp_path)
    assert same_patches(ours, load_with_host("flux", lora_state("flux", "diffusion_model.")))
    apply("flux", TWO, model=ours, lora_in_weights=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_acts_on_the_picture_beside_eligen(family):
    model, positive, negative = apply(family, TWO)
    without = sample(model, positive, negative)
    loaded = load_with_host(family, lora_state(family, "diffusion_model."))
    before = sample(*apply(family, TWO, model=loaded, lora_in_weights=False))
    model, positive, negative = apply(family, TWO)
    after = comfy.sd.load_lora_for_models(model, None, lora_state(family, "diffusion_model."), 1.0, 0.0)[0]
    assert difference(before, without) > 1e-3
    assert difference(sample(after, positive, negative), before) <= 1e-6
    assert difference(sample(*apply(family, TWO)), without) <= 1e-6


def test_a_lora_as_a_hook_of_the_conditioning_counts(tmp_path):
    state = lora_state("flux", "diffusion_model.")
    hooks = comfy.hooks.create_hook_lora(lora=state, strength_model=1.0, strength_clip=0.0)
    positive = [[prompt("flux", 1)[0][0], {**prompt("flux", 1)[0][1], "hooks": hooks}]]
    apply("flux", TWO, positive=positive, lora_in_weights=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_as_a_hook_of_the_negative_counts_too(family):
    hooks = comfy.hooks.create_hook_lora(
        lora=lora_state(family, "diffusion_model."), strength_model=1.0, strength_clip=0.0
    )
    ((context, options),) = prompt(family, 2)
    apply(family, TWO, negative=[[context, {**options, "hooks": hooks}]], lora_in_weights=False)
    with pytest.raises(ValueError, match="No LoRA is loaded"):
        apply(family, TWO, lora_in_weights=False)


@pytest.mark.parametrize(
    "family, weight, counts",
    [
        ("flux", "double_blocks.1.img_attn.qkv", True),
        ("flux", "single_blocks.1.linear2", True),
        ("qwen", "transformer_blocks.2.attn.to_q", True),
        ("flux", "img_in", False),
        ("qwen", "txt_in", False),
    ],
)
def test_a_lora_counts_where_it_is_on_blocks(family, weight, counts):
    """As EliGen's is; a patch of what lies before them tells nobody what a region is."""
    model = host_model(family).clone()
    name = f"diffusion_model.{weight}.weight"
    shape = model.model.state_dict()[name].shape
    assert model.add_patches({name: ("diff", (torch.zeros(shape),))}, 1.0)
    if counts:
        apply(family, TWO, model=model, lora_in_weights=False)
        return
    with pytest.raises(ValueError, match="No LoRA is loaded"):
        apply(family, TWO, model=model, lora_in_weights=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_beside_the_weights_counts(family):
    """As the host loads one in bypass: what it adds is computed beside the layers."""
    model = host_model(family).clone()
    nothing = PatcherInjection(inject=lambda patcher: None, eject=lambda patcher: None)
    model.set_injections("bypass_lora", [nothing])
    apply(family, TWO, model=model, lora_in_weights=False)


@pytest.mark.parametrize("strength", [0.5, -2.0])
def test_a_lora_acts_as_strongly_as_asked(strength, tmp_path):
    plain = host_model("qwen")
    loaded = load_here("qwen", lora_state("qwen", "diffusion_model."), tmp_path, strength)
    assert {patches[0][0] for patches in loaded.patches.values()} == {strength}
    assert not plain.patches, "the model that came in is unchanged"


def test_strength_zero_is_no_lora(tmp_path):
    plain = load_here("flux", diffsynth_state(), tmp_path, strength=0.0)
    assert not plain.patches
    with pytest.raises(ValueError, match="a strength above 0"):
        apply("flux", TWO, model=plain, lora_in_weights=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_of_another_model_is_refused(family, tmp_path):
    other = "qwen" if family == "flux" else "flux"
    with pytest.raises(
        ValueError, match=r"does not fit this.*\d layers were taken.*Choose EliGen's LoRA for"
    ):
        load_here(family, lora_state(other, "diffusion_model."), tmp_path)


def test_a_lora_that_fits_in_part_is_refused(tmp_path):
    state = {**diffsynth_state(), "blocks.0.attn.nobody_knows.lora_A.default.weight": torch.zeros(4, 256)}
    with pytest.raises(ValueError, match=r"1 names were not, such as 'blocks\.0\.attn\.nobody_knows"):
        load_here("flux", state, tmp_path)


def test_a_lora_cut_short_is_refused_in_words(tmp_path):
    save_file(lora_state("flux", "diffusion_model."), tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    with pytest.raises(ValueError, match=r"cut\.safetensors.*cut short.*fetch the file again"):
        LoadEliGenLoRA.execute(host_model("flux"), "cut.safetensors", 1.0)


def test_a_lora_that_torch_saved(tmp_path):
    state = lora_state("qwen", "")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "saved.pt")
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    (loaded,) = LoadEliGenLoRA.execute(host_model("qwen"), "saved.pt", 1.0).result
    assert same_patches(loaded, load_with_host("qwen", state))


def test_names_of_others_stay():
    assert host_name("transformer_blocks.0.attn.to_q.lora_A.default.weight") is None
    assert host_name("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight") is None
    assert (
        host_name("blocks.7.ff_b.2.lora_B.default.weight")
        == "diffusion_model.double_blocks.7.txt_mlp.2.lora_B.weight"
    )
    assert (
        host_name("pipe.dit.single_blocks.3.proj_out.alpha")
        == "diffusion_model.single_blocks.3.linear2.alpha"
    )


def test_the_hosts_loader_node_then_eligen(tmp_path):
    """As a graph has it: the host's node reads the file, 'EliGen Apply' finds it loaded."""
    save_file(lora_state("qwen", "transformer."), tmp_path / "by_host.safetensors")
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    model = run_node(
        "nodes",
        "LoraLoader",
        model=host_model("qwen"),
        clip=None,
        lora_name="by_host.safetensors",
        strength_model=1.0,
        strength_clip=0.0,
    )[0]
    apply("qwen", TWO, model=model, lora_in_weights=False)
