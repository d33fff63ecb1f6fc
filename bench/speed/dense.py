"""DEIG as it is published: thirty padded instances, the full square mask for every head, logits in memory.

For comparison only. Weights are the adapter's own modules; the answer is the same (`tests/host/test_bench.py`).
"""

import torch
import torch.nn.functional as F
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.deig.adapter import Adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.fusion.fuser import Fuser
from deig_pack.deig_core.regions.raster import cell_places, token_places
from einops import rearrange, repeat

SLOTS = 30
KEY = "dense"


def _pad(tensor: torch.Tensor) -> torch.Tensor:
    """(N, ...) -> (30, ...), zeros behind."""
    return torch.cat((tensor, tensor.new_zeros(SLOTS - len(tensor), *tensor.shape[1:])))


def _mask(places: torch.Tensor, tokens: int) -> torch.Tensor:
    """Build eq. 4's mask with all four of its parts.

    Args:
        places: (30, Q), bool, where each instance lies.
        tokens: of each instance.

    Returns:
        (Q + 30 tokens, Q + 30 tokens), bool: who may see whom.
    """
    count, queries = places.shape
    to_instance = repeat(places, "n q -> q (n t)", t=tokens)
    itself = repeat(
        torch.eye(count, dtype=torch.bool, device=places.device), "a b -> (a t) (b u)", t=tokens, u=tokens
    )
    image = torch.ones(queries, queries, dtype=torch.bool, device=places.device)
    return torch.cat((torch.cat((image, to_instance), 1), torch.cat((to_instance.T, itself), 1)))


def _attend(fuser: Fuser, n: torch.Tensor, mask: torch.Tensor, fused_kernel: bool) -> torch.Tensor:
    q, k, v = (layer(n) for layer in (fuser.attn.to_q, fuser.attn.to_k, fuser.attn.to_v))
    q, k, v = (rearrange(x, "b s (h d) -> b h s d", h=fuser.heads) for x in (q, k, v))
    mask = repeat(mask, "b i j -> b h i j", h=fuser.heads)
    if fused_kernel:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    else:
        logits = torch.einsum("b h i d, b h j d -> b h i j", q, k) * q.shape[-1] ** -0.5
        logits.masked_fill_(~mask, -torch.finfo(logits.dtype).max)
        out = torch.einsum("b h i j, b h j d -> b h i d", logits.softmax(-1), v)
    return fuser.attn.to_out["0"](rearrange(out, "b h s d -> b s (h d)"))


def _fuse(fuser: Fuser, x: torch.Tensor, objs: torch.Tensor, mask: torch.Tensor, fused_kernel: bool):
    objs = fuser.linear(objs.to(x))
    n = fuser.norm1(torch.cat((x, objs), dim=1))
    x = x + torch.tanh(fuser.alpha_attn.to(x)) * _attend(fuser, n, mask, fused_kernel)[:, : x.shape[1]]
    return x + torch.tanh(fuser.alpha_dense.to(x)) * fuser.ff(fuser.norm2(x))


def patch_dense(model, adapter_patcher, grounding: Grounding, fused_kernel: bool = False):
    """Return a clone of a model that paints a grounding's instances the published way.

    Args:
        model: the host's ModelPatcher of an SD1.x model.
        adapter_patcher: the host's ModelPatcher of the grounding's adapter.
        grounding: at most 30 instances; the whole picture is denoised.
        fused_kernel: use torch's attention instead of logits in memory.
    """
    adapter: Adapter = grounding.refiner.adapter
    regions, text = grounding.instances.regions, grounding.instances.text
    boxes = torch.tensor([region.box for region in regions]).reshape(-1, 4)

    def ground(
        executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
    ):
        rows, present = len(t), torch.zeros(len(t), SLOTS, dtype=torch.bool, device=x.device)
        for row, entry in enumerate(transformer_options["cond_or_uncond"]):
            present[row, : len(regions)] = entry == 0  # 0 is the positive, 1 the negative
        timesteps = executor.class_obj.model_sampling.timestep(t)
        every = repeat(_pad(text.features).to(x), "n s w -> (b n) s w", b=rows)
        tokens = adapter.IDE(every, timesteps.repeat_interleave(SLOTS))
        tokens = rearrange(tokens, "(b n) t w -> b n t w", b=rows)
        slots = repeat(_pad(boxes).to(x), "n c -> b n c", b=rows)
        objs = rearrange(adapter.position_net(tokens, slots, present), "b n t w -> b (n t) w")
        cells = _pad(cell_places(regions, tuple(x.shape[-2:])))
        state = (objs, tokens.shape[2], cells, present, {})
        transformer_options = {**transformer_options, KEY: state}
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    def fuse(x, extra_options):
        objs, tokens, cells, present, masks = extra_options[KEY]
        grid = tuple(extra_options["activations_shape"][-2:])
        if grid not in masks:
            places = token_places(cells, tuple(cells.shape[1:]), grid).flatten(1).to(x.device) > 0
            masks[grid] = torch.stack([_mask(places & row[:, None], tokens) for row in present])
        block = (*extra_options["block"], extra_options["block_index"])
        return _fuse(adapter.fuser(block), x, objs, masks[grid], fused_kernel)

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, ground)
    patched.set_model_patch(fuse, "middle_patch")
    patched.set_additional_models(KEY, [adapter_patcher])
    return patched
