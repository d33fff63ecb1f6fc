"""FLUX.1 and Qwen-Image of full width and least depth with random weights, and three ways to call them.

Imports the host: only after `open_host`.
"""

import math
from dataclasses import dataclass

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.eligen.entities import Entities
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.host.clock import Clock
from deig_pack.nodes.host.transformers import COND, EntitiesCond, Run, patch_model

# Names of blocks, and how many; everything else is of full size.
STATES = {
    "FLUX.1": {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
        "context_in_dim": 4096, "hidden_size": 3072, "num_heads": 24, "mlp_ratio": 4.0, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "guidance_embed": True,
    },
    "Qwen-Image": {"image_model": "qwen_image", "in_channels": 64, "num_layers": 1},
}  # fmt: skip
TEXT_WIDTH = {"FLUX.1": 4096, "Qwen-Image": 3584}
TOKENS = {"FLUX.1": (512, 512), "Qwen-Image": (10, 60)}  # of an entity's text, and of the prompt
SIGMA = 0.7  # any


def layout(count: int) -> tuple[Region, ...]:
    """Boxes of 15 % of the picture each, in two rows, overlapping their neighbours."""
    columns = (count + 1) // 2
    regions = []
    for number in range(count):
        row, column = divmod(number, columns)
        x, y = column * 0.6 / max(columns - 1, 1), 0.05 + 0.5 * row
        regions.append(Region(f"thing {number}", (x, y, x + 0.4, y + 0.375)))
    return tuple(regions)


@dataclass(eq=False)
class Transformer:
    """A model on the device, and what it is called with.

    Args:
        family: FLUX.1 or Qwen-Image.
        patcher: the host's.
        count: entities.
        size: (height, width) of the latent.
    """

    family: str
    patcher: object
    count: int
    size: tuple[int, int]

    def __post_init__(self):
        generator = torch.Generator().manual_seed(1)
        entity, prompt = TOKENS[self.family]
        width, device = TEXT_WIDTH[self.family], self.patcher.load_device
        self.texts = torch.randn(self.count, 1, entity, width, generator=generator).to(device).unbind()
        self.prompt = torch.randn(1, prompt, width, generator=generator).to(device)
        frames = (1,) * (self.family == "Qwen-Image")
        self.x = torch.randn(1, 16, *frames, *self.size, generator=generator).to(device)
        flux = {"y": torch.randn(1, 768, generator=generator), "guidance": torch.tensor([3.5])}
        self.kwargs = {key: value.to(device) for key, value in flux.items()} if not frames else {}
        run = Run(self.size, Clock(self.patcher.get_model_object("model_sampling")))
        self.cond = EntitiesCond(run, Entities(layout(self.count), tuple(self.texts)))

    def plain(self) -> torch.Tensor:
        """The model as it is, with a prompt as long as all texts together."""
        return self._call(self.patcher, torch.cat((*self.texts, self.prompt), dim=1))

    def eligen(self) -> torch.Tensor:
        return self._call(patch_model(self.patcher), self.prompt, eligen=[self.cond])

    def dense(self) -> torch.Tensor:
        """The same with a square mask of all tokens, handed to the host's own attention."""
        patched = patch_model(self.patcher)
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "dense", _with_square_mask)
        return self._call(patched, self.prompt, eligen=[self.cond])

    def _call(self, patched, prompt: torch.Tensor, **kwargs) -> torch.Tensor:
        wrappers = {kind: {**by_key} for kind, by_key in patched.wrappers.items()}
        sigma = torch.full((1,), SIGMA, device=self.x.device)
        options = {"wrappers": wrappers}
        return patched.model.apply_model(
            self.x, sigma, c_crossattn=prompt, transformer_options=options, **self.kwargs, **kwargs
        )


def _with_square_mask(executor, *args, **kwargs):
    call = next(arg for arg in args if isinstance(arg, dict) and COND in arg)
    sight, dtype = call[COND].sight, args[0].dtype
    mask = torch.full((sight.length,) * 2, torch.finfo(dtype).min, dtype=dtype, device=args[0].device)
    for group in sight.groups:
        mask[group.queries[:, None], group.keys] = 0

    def attend(func, q, k, v, heads, none=None, **given):
        return func(q, k, v, heads, **{**given, "mask": mask})

    options = {**call, "optimized_attention_override": attend}
    return executor(*(options if arg is call else arg for arg in args), **kwargs)


def make(family: str, count: int, size: tuple[int, int], dtype: torch.dtype) -> Transformer:
    """Make a model on the host's device."""
    from comfy.ldm.flux.model import FluxParams

    more = {"txt_ids_dims": []} if family == "FLUX.1" and "txt_ids_dims" in FluxParams.__annotations__ else {}
    kind = {"FLUX.1": comfy.supported_models.Flux, "Qwen-Image": comfy.supported_models.QwenImage}[family]
    config = kind({**STATES[family], **more, "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    device = comfy.model_management.get_torch_device()
    model = config.get_model({}, "", device=device)
    generator = torch.Generator(device).manual_seed(3)
    with torch.no_grad():
        for name, weight in model.diffusion_model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1 / math.sqrt(weight.shape[-1]), generator=generator)
            else:
                weight.fill_(float("norm" in name and "bias" not in name))
    patcher = comfy.model_patcher.ModelPatcher(model.eval(), load_device=device, offload_device=device)
    return Transformer(family, patcher, count, size)
