"""Models of Stable Diffusion 1.5's and DEIG's sizes with random weights, and what they are told."""

import re
from collections.abc import Mapping

import comfy.gligen
import comfy.model_detection
import comfy.model_management
import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.fusion.instances import EncodedText, Instances, ReadPhrases
from deig_pack.deig_core.instance_diffusion.adapter import InstanceDiffusionAdapter, load_instance_diffusion
from deig_pack.deig_core.instance_diffusion.grounding import InstanceGrounding
from deig_pack.deig_core.regions.region import Region, Regions

from bench import released_instance_diffusion
from bench.random_weights import State, draw_weights
from bench.released import FUSER_WIDTHS, adapter_shapes

SD15 = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "num_heads": 8,
    "adm_in_channels": None,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
    "legacy": False,
}
# Its two upper levels, as wide as ever, of one block each: 105 M parameters. Soon made, and soon run.
SHALLOW = SD15 | {
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
}
TEXT_WIDTH, TEXT_TOKENS = 2048, 128
ENCODER = "random features"


def patcher_of(module: torch.nn.Module) -> ModelPatcher:
    device = comfy.model_management.get_torch_device()
    return ModelPatcher(
        module, load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )


def random_unet(config: dict, dtype: torch.dtype) -> ModelPatcher:
    """The host's own model of a UNet; of SD15, with 860 M parameters."""
    config = comfy.model_detection.model_config_from_unet_config({**config, "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "").eval()
    unet = model.diffusion_model
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    unet.load_state_dict({name: t.to(dtype) for name, t in draw_weights(shapes, seed=0).items()}, assign=True)
    return patcher_of(model.requires_grad_(False))


def fuser_widths(unet: ModelPatcher) -> dict[str, int]:
    """Where a UNet has transformers, and how wide they are: `input_blocks.1.1` -> 320."""
    norm = re.compile(r"^(.+)\.transformer_blocks\.0\.norm1\.weight$")
    state = unet.model.diffusion_model.state_dict()
    return {found[1]: len(tensor) for name, tensor in state.items() if (found := norm.match(name))}


def decoder_widths(unet: ModelPatcher) -> tuple[int, ...]:
    """How wide the features are that enter each block of a UNet's decoder, without what is joined to them."""
    weight = re.compile(r"^(?:middle_block\.2|output_blocks\.\d+\.0)\.out_layers\.3\.weight$")
    state = unet.model.diffusion_model.state_dict()
    return tuple(len(tensor) for name, tensor in state.items() if weight.match(name))[:-1]


def adapter_state(dtype: torch.dtype, widths: Mapping[str, int] = FUSER_WIDTHS) -> State:
    """Weights under the released checkpoint's names; with all its fusers, 297 M parameters."""
    return {name: tensor.to(dtype) for name, tensor in draw_weights(adapter_shapes(widths), seed=1).items()}


def random_adapter(state: State) -> tuple[Refiner, ModelPatcher]:
    adapter = load_adapter(state, operations=comfy.ops.manual_cast)
    return Refiner(adapter), patcher_of(adapter)


def random_instance_diffusion(
    state: State, unet: ModelPatcher, dtype: torch.dtype
) -> tuple[InstanceDiffusionAdapter, ModelPatcher]:
    """InstanceDiffusion's adapter; of SD15, with 369 M parameters. Its fusers have the very weights of DEIG's."""
    shapes = released_instance_diffusion.adapter_shapes(
        fuser_widths=fuser_widths(unet), scale_u_widths=decoder_widths(unet)
    )
    own = {name: shape for name, shape in shapes.items() if name not in state or ".fuser." not in name}
    drawn = {name: tensor.to(dtype) for name, tensor in draw_weights(own, seed=3).items()}
    adapter = load_instance_diffusion(
        drawn | {name: state[name] for name in shapes if name not in own}, operations=comfy.ops.manual_cast
    )
    return adapter, patcher_of(adapter)


def random_gligen(state: State, dtype: torch.dtype) -> ModelPatcher:
    """The host's GLIGEN. Its weights have the names and shapes of DEIG's, so it gets the very same."""
    return patcher_of(comfy.gligen.load_gligen(state).to(dtype).requires_grad_(False))


def layout(count: int) -> Regions:
    """So many boxes with sides of a fifth to a half of the picture, the same for a count."""
    random = torch.Generator().manual_seed(count)
    regions = []
    for number in range(count):
        width, height = (0.2 + 0.3 * torch.rand(2, generator=random)).tolist()
        x, y = torch.rand(2, generator=random).tolist()
        left, top = x * (1 - width), y * (1 - height)
        regions.append(Region(f"thing number {number}", (left, top, left + width, top + height)))
    return tuple(regions)


def features(phrases: tuple[str, ...]) -> EncodedText:
    """What a text encoder as wide as Flan-T5-XL might say."""
    random = torch.Generator().manual_seed(len(phrases))
    return EncodedText(phrases, torch.randn(len(phrases), TEXT_TOKENS, TEXT_WIDTH, generator=random), ENCODER)


def grounding(refiner: Refiner, count: int) -> Grounding:
    regions = layout(count)
    return Grounding(refiner, Instances(regions, features(tuple(region.phrase for region in regions))))


def instance_grounding(adapter: InstanceDiffusionAdapter, count: int) -> InstanceGrounding:
    """The same boxes for InstanceDiffusion, with what CLIP might say of the phrases."""
    regions = layout(count)
    random = torch.Generator().manual_seed(count)
    phrases = tuple(region.phrase for region in regions)
    text = ReadPhrases(
        phrases, torch.randn(count, 768, generator=random), torch.randn(count, 77, 768, generator=random)
    )
    return InstanceGrounding(adapter, Instances(regions, text))
