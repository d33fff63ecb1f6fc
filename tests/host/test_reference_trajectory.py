"""Whole trajectories against the reference implementation's own sampler and UNet, which are fetched and not kept here.

    git clone https://github.com/dushy5/DEIG
    DEIG_PATH=DEIG COMFYUI_PATH=... python -m pytest tests/host/test_reference_trajectory.py

At a small size: four levels of one block each, 128 x 128 pixels, short texts; widths are the released ones. What the
reference imports and this pack does not need is stood in for: xformers' attention, with its mask, and two modules of
diffusers. Its mask is made for pictures of 512 x 512, so that ours is the corner of one.
"""

import importlib
import math
import os
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import comfy.ops
import pytest
import torch
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.fusion.instances import EncodedText, Instances
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests.core.test_paper import FULL
from deig_pack.tests.host.conftest import load_model
from deig_pack.tests.host.test_paper_sampling import CFG, sample_as_the_authors
from deig_pack.tests.host.test_patch import ENCODER, difference, t5
from torch import nn

from bench import random_weights

REFERENCE = Path(os.environ.get("DEIG_PATH") or ".deig-path-not-set")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_wrap__"),  # the reference hands tensors to NumPy's functions
    pytest.mark.skipif(
        not (REFERENCE / "ldm" / "models" / "diffusion" / "euler.py").is_file(),
        reason="needs the reference implementation: DEIG_PATH names a clone of dushy5/DEIG",
    ),
]

TEXT_WIDTH, TEXT_LENGTH = 64, 12
SIDE = 16  # of the latent, in cells; the reference's own is 64
SLOTS = 4  # of the reference's 30, one of them empty
REGIONS = (
    Region("a red mug", (0.05, 0.1, 0.45, 0.6)),
    Region("a green lamp", (0.3, 0.35, 0.9, 0.95)),
    Region("a blue book", (0.7, 0.02, 0.98, 0.3)),
)
PROMPT, NEGATIVE_PROMPT = "a red mug, a green lamp, a blue book", "lowres, cropped"
ADAPTER = (".fuser.", "position_net.", "IDE.")


# -- what the reference imports -------------------------------------------------------------------------------


def attention(query, key, value, attn_bias=None, op=None):
    """`xformers.ops.memory_efficient_attention` on (B, M, K): softmax with an additive bias."""
    logits = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    return (logits if attn_bias is None else logits + attn_bias).softmax(-1) @ value


class Timesteps(nn.Module):
    """diffusers' sinusoid of a timestep, as far as DEIG asks for it: cosine first, frequencies not shifted."""

    def __init__(self, width, flip_sin_to_cos, downscale_freq_shift):
        super().__init__()
        assert flip_sin_to_cos and downscale_freq_shift == 0
        self.half = width // 2

    def forward(self, timesteps):
        frequencies = torch.exp(-math.log(10000) * torch.arange(self.half) / self.half)
        angles = timesteps[:, None].float() * frequencies
        return torch.cat((angles.cos(), angles.sin()), dim=-1)


class TimestepEmbedding(nn.Module):
    """diffusers' two layers on it."""

    def __init__(self, in_channels, time_embed_dim, act_fn, out_dim):
        super().__init__()
        assert act_fn == "silu" and out_dim is None
        self.linear_1, self.linear_2 = (
            nn.Linear(in_channels, time_embed_dim),
            nn.Linear(time_embed_dim, time_embed_dim),
        )

    def forward(self, sinusoid):
        return self.linear_2(nn.functional.silu(self.linear_1(sinusoid)))


def module(name: str, **contents) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(contents)
    return made


STAND_INS = [
    module("xformers", ops=(operations := module("xformers.ops", memory_efficient_attention=attention))),
    operations,
    module("omegaconf", OmegaConf=None),  # reads the configuration, which is written out below
    module("diffusers"),
    module("diffusers.models"),
    module("diffusers.models.embeddings", Timesteps=Timesteps, TimestepEmbedding=TimestepEmbedding),
]


@pytest.fixture(scope="module")
def imported():
    """The reference's modules by their last names."""
    with pytest.MonkeyPatch.context() as patch:
        for stand_in in STAND_INS:
            patch.setitem(sys.modules, stand_in.__name__, stand_in)
        forget()  # another repository's
        patch.syspath_prepend(str(REFERENCE))
        names = (
            "inference",
            "ldm.models.diffusion.euler",
            "ldm.models.diffusion.ldm",
            "ldm.modules.attention",
            "ldm.modules.core.deig_text_grounding_tokenizer_input",
            "ldm.modules.core.unet_model",
        )
        yield SimpleNamespace(**{name.split(".")[-1]: importlib.import_module(name) for name in names})
        forget()


def forget():
    for name in [name for name in sys.modules if name.split(".")[0] in ("ldm", "inference")]:
        del sys.modules[name]


# -- the same model twice --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(imported):
    """The reference's UNet, with weights of its own names drawn from a seed."""
    assert imported.attention.XFORMERS_IS_AVAILABLE, "or it would leave its mask out"
    core = "ldm.modules.core"
    unet = imported.unet_model.DEIGUNetModel(
        image_size=SIDE,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        attention_resolutions=[4, 2, 1],
        num_res_blocks=1,
        channel_mult=[1, 1, 1, 1],
        num_heads=8,
        transformer_depth=1,
        context_dim=768,
        fuser_type="gatedSA",
        use_checkpoint=False,
        grounding_tokenizer={
            "target": f"{core}.text_grounding_net.BroadcastPositionNet",
            "params": {"in_dim": 768, "out_dim": 768},
        },
        IDE={
            "target": f"{core}.ide.InstanceDetailExtractor",
            "params": {"input_dim": TEXT_WIDTH, "layers": 2},
        },
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    unet.load_state_dict(random_weights.draw_weights(shapes, seed=60), assign=True)
    # It would read a convolution from a file that its repository does not hold; the UNet's own was never changed.
    unet.restore_first_conv_from_SD = lambda: None
    for fuser in unet.modules():
        if isinstance(fuser, imported.attention.GatedSelfAttentionDense):
            fuser._downsample_masks_robust = partial(corner, fuser._downsample_masks_robust)
    return unet.eval().requires_grad_(False)


def corner(downsample, masks, grid):
    """The reference's places on a grid of a 512-pixel picture, and of them those of our corner."""
    return downsample(masks, tuple(64 // SIDE * side for side in grid))[:, :, : grid[0], : grid[1]]


@pytest.fixture(scope="module")
def adapter_state(reference):
    return {
        name: tensor
        for name, tensor in reference.state_dict().items()
        if any(part in name for part in ADAPTER)
    }


@pytest.fixture(scope="module")
def model(reference, adapter_state, tmp_path_factory):
    """The host's model of the reference's UNet, read from a file as its users read one."""
    own = {name: tensor for name, tensor in reference.state_dict().items() if name not in adapter_state}
    path = tmp_path_factory.mktemp("reference") / "unet.safetensors"
    random_weights.save_state(path, {f"model.diffusion_model.{name}": tensor for name, tensor in own.items()})
    return load_model(path)


# -- what both are told -----------------------------------------------------------------------------------------


def read(*phrases: str) -> EncodedText:
    """Stand-in features, the same for the same phrase."""
    seeds = [torch.Generator().manual_seed(sum(map(ord, phrase))) for phrase in phrases]
    rows = [torch.randn(TEXT_LENGTH, TEXT_WIDTH, generator=seed) for seed in seeds]
    return EncodedText(phrases, torch.stack(rows), ENCODER)


def grounding_batch(regions) -> dict:
    """What `prepare_batch` of the reference's inference.py makes, on our corner of its picture."""
    batch = {
        "object_boxes": torch.zeros(1, SLOTS, 4),
        "masks": torch.zeros(1, SLOTS, 1),
        "object_text_embeddings": torch.zeros(1, SLOTS, TEXT_LENGTH, TEXT_WIDTH),
        "inst_masks": torch.zeros(1, SLOTS, 512, 512),
    }
    for slot, region in enumerate(regions):
        batch["object_boxes"][0, slot] = torch.tensor(region.box)
        batch["masks"][0, slot] = 1
        batch["object_text_embeddings"][0, slot] = read(region.phrase).features[0]
        x0, y0, x1, y1 = (round(edge * 8 * SIDE) for edge in region.box)
        batch["inst_masks"][0, slot, y0:y1, x0:x1] = 1
    return batch


def reference_latent(imported, reference, noise, steps, alpha, regions=REGIONS):
    """Run the reference's `EulerSampler`, as its inference.py does."""
    tokenizer_input = imported.deig_text_grounding_tokenizer_input.DEIGGroundingNetInput()
    reference.grounding_tokenizer_input = tokenizer_input
    grounding = tokenizer_input.prepare(grounding_batch(regions))
    diffusion = imported.ldm.LatentDiffusion(linear_start=0.00085, linear_end=0.012, timesteps=1000)
    sampler = imported.euler.EulerSampler(
        diffusion,
        reference,
        alpha_generator_func=partial(imported.inference.alpha_generator, type=[*alpha, 1 - sum(alpha)]),
        set_alpha_scale=imported.inference.set_alpha_scale,
    )
    told = {
        "x": noise,
        "timesteps": None,
        "context": read(PROMPT).features,
        "grounding_input": grounding,
        "inpainting_extra_input": None,
        "grounding_extra_input": None,
    }
    return sampler.sample(
        S=steps, shape=noise.shape, input=told, uc=read(NEGATIVE_PROMPT).features, guidance_scale=CFG
    )


def our_latent(model, adapter_state, noise, steps, alpha, regions=REGIONS):
    """Sample in the host's graph with the same weights."""
    adapter = load_adapter(adapter_state, operations=comfy.ops.manual_cast)
    instances = Instances(regions, read(*(region.phrase for region in regions)))
    prompts = t5(PROMPT, text=read(PROMPT)), t5(NEGATIVE_PROMPT, seed=8, text=read(NEGATIVE_PROMPT))
    return sample_as_the_authors(model, Grounding(Refiner(adapter), instances), steps, alpha, noise, *prompts)


@pytest.fixture(scope="module")
def noise():
    return torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("steps, alpha", [(40, FULL), (30, (0.8, 0.1)), (40, (0.3, 0.5))])
def test_a_whole_trajectory_is_the_references(steps, alpha, imported, reference, model, adapter_state, noise):
    expected = reference_latent(imported, reference, noise, steps, alpha)
    got = our_latent(model, adapter_state, noise, steps, alpha)
    assert difference(got, expected) <= 1e-4


def test_the_comparison_tells_another_place(imported, reference, model, adapter_state, noise):
    """A box moved by one cell in 16 lies far outside what the comparison above lets pass, within four steps."""
    expected = reference_latent(imported, reference, noise, 4, FULL)
    assert difference(our_latent(model, adapter_state, noise, 4, FULL), expected) <= 1e-4
    first, *others = REGIONS
    moved = (Region(first.phrase, (0.05, 0.1, 0.45 + 1 / SIDE, 0.6)), *others)
    assert difference(our_latent(model, adapter_state, noise, 4, FULL, moved), expected) > 1e-3
