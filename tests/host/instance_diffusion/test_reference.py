"""A whole call of the model against the reference implementation, which is fetched and not kept here.

    git clone https://github.com/frank-xwang/InstanceDiffusion
    INSTANCEDIFFUSION_PATH=InstanceDiffusion COMFYUI_PATH=... python -m pytest tests/host/instance_diffusion

Once with a UNet a tenth as wide, and once as wide as it is: then 1.2 billion weights are drawn from a seed and shared
by both, which takes 6 GB of memory and some minutes.
"""

import os
import sys
from pathlib import Path
from types import ModuleType

import comfy.ops
import comfy.supported_models
import pytest
import torch
from deig_pack.deig_core.fusion.instances import Instances
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from deig_pack.deig_core.instance_diffusion.grounding import InstanceGrounding
from deig_pack.deig_core.instance_diffusion.places import places_of
from deig_pack.deig_core.instance_diffusion.uni_fusion import RELEASED_KINDS
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests.core.instance_diffusion.goldens import seeded_tensor
from deig_pack.tests.host.instance_diffusion.helpers import ALL_KINDS, apply, read
from deig_pack.tests.host.test_patch import REGIONS, calls_of, difference, sample

from bench.speed.models import SD15, patcher_of

REFERENCE = Path(os.environ.get("INSTANCEDIFFUSION_PATH") or ".instancediffusion-path-not-set")
pytestmark = pytest.mark.skipif(
    not (REFERENCE / "ldm").is_dir(),
    reason="needs the reference implementation: INSTANCEDIFFUSION_PATH names a clone of frank-xwang/InstanceDiffusion",
)

TWELVE = tuple(
    Region(f"thing number {number}", (0.08 * number, 0.05 * number, 0.08 * number + 0.1, 0.05 * number + 0.3))
    for number in range(12)
)
CASES = {"boxes": (REGIONS, "mask"), "all kinds": (ALL_KINDS, "scribble"), "twelve": (TWELVE, "box")}


# The UNet's width and that of UniFusion's MLPs; its ConvNeXt has always its own.
WIDTHS = {"a tenth": (32, 64), "full width": (320, 3072)}


@pytest.fixture(scope="module", params=WIDTHS)
def widths(request):
    return WIDTHS[request.param]


@pytest.fixture(scope="module")
def reference(widths):
    """The reference's UNet, with weights of its own names drawn from a seed."""
    width, hidden = widths
    with pytest.MonkeyPatch.context() as patch:
        # Of timm it only takes two names that evaluation has no use for, and a download of weights that are replaced.
        layers, registry = ModuleType("timm.models.layers"), ModuleType("timm.models.registry")
        layers.trunc_normal_, layers.DropPath, registry.register_model = None, None, lambda function: function
        for name, module in (("timm", ModuleType("timm")), ("timm.models", ModuleType("timm.models"))):
            patch.setitem(sys.modules, name, module)
        patch.setitem(sys.modules, layers.__name__, layers)
        patch.setitem(sys.modules, registry.__name__, registry)
        # It looks at a few numbers while it is built, which is without memory.
        linspace = torch.linspace
        patch.setattr(torch, "linspace", lambda *args: linspace(*args, device="cpu"))
        patch.setattr(torch.hub, "load_state_dict_from_url", lambda **_: {"model": {}})
        patch.syspath_prepend(str(REFERENCE))
        from ldm.modules.diffusionmodules.openaimodel import UNetModel

        target = "ldm.modules.diffusionmodules.text_grounding_net.UniFusion"
        with torch.device("meta"):
            unet = UNetModel(
                image_size=64, in_channels=4, model_channels=width, out_channels=4, num_res_blocks=2,
                attention_resolutions=[4, 2, 1], channel_mult=[1, 2, 4, 4], num_heads=8, transformer_depth=1,
                context_dim=768, fuser_type="gatedSA", use_checkpoint=False, sd_v1_5=True, efficient_attention=False,
                grounding_tokenizer={"target": target, "params": {"in_dim": 768, "out_dim": 768, "mid_dim": hidden}},
            )  # fmt: skip
    for embedder in (unet.position_net.fourier_embedder, unet.position_net.fourier_embedder_polygons):
        count = embedder.num_freqs  # no weight, so it was made without memory too
        embedder.freq_bands = embedder.temperature ** (torch.arange(count) / count)
    state = {name: seeded_tensor(name, tuple(tensor.shape), 0) for name, tensor in unet.state_dict().items()}
    unet.load_state_dict(state, assign=True)
    return unet.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(reference, widths):
    """The host's model of SD1.5 with the reference's weights."""
    config = comfy.supported_models.SD15({**SD15, "model_channels": widths[0], "dtype": torch.float32})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "").eval()
    state = reference.state_dict()
    unet = model.diffusion_model
    unet.load_state_dict({name: state[name] for name in unet.state_dict()}, assign=True)
    return patcher_of(model.requires_grad_(False))


@pytest.fixture(scope="module")
def adapter(reference):
    own = {
        name: tensor
        for name, tensor in reference.state_dict().items()
        if ".fuser." in name or name.startswith(("position_net.", "scaleu_"))
    }
    return load_instance_diffusion(own, operations=comfy.ops.manual_cast)


def grounding_input(regions, kinds, unet):
    """What the reference's UNet is told: 30 slots, empty ones for padding."""
    net = unet.position_net
    for kind in ("boxes", "points", "scribbles", "masks"):
        setattr(net, f"test_drop_{kind}", not getattr(kinds, kind))
    net.test_drop_segs = net.test_drop_masks
    places, count = places_of(regions), len(regions)

    def slots(values):
        return torch.cat((values, values.new_zeros(30 - count, *values.shape[1:])))[None]

    empty = torch.zeros(count, 512, 512)
    return {
        "boxes": slots(places.boxes),
        "masks": slots(torch.ones(count)),
        "positive_embeddings": slots(read(*(region.phrase for region in regions)).pooled),
        "scribbles": slots(places.scribbles),
        "polygons": slots(places.polygons),
        "segs": slots(empty if places.masks is None else places.masks),
        "points": slots(places.points),
    }


@pytest.mark.parametrize("size", [(32, 32), (64, 64)], ids=["256x256", "512x512"])
@pytest.mark.parametrize("case", CASES)
def test_a_whole_call_is_the_references(case, size, reference, model, adapter):
    regions, name = CASES[case]
    kinds = RELEASED_KINDS[name]
    instances = Instances(regions, read(*(region.phrase for region in regions)))
    patched = apply(model, InstanceGrounding(adapter, instances, kinds))
    with calls_of(patched) as calls:
        sample(patched, size=size, steps=1)
    (call,) = calls
    assert sorted(call["entries"]) == [0, 1]
    for row, entry in enumerate(call["entries"]):
        told = grounding_input(regions if entry == 0 else (), kinds, reference)
        with torch.no_grad():
            expected = reference(
                {
                    "x": call["x"][row : row + 1],
                    "timesteps": call["timesteps"][row : row + 1],
                    "context": call["context"][row : row + 1],
                    "grounding_input": told,
                }
            )[0]
        assert difference(call["out"][row], expected) <= 1e-4
