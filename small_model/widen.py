"""Makes the trained UNet and adapter as wide as Stable Diffusion 1.x, without a change in what they compute.

The host knows an SD1.x UNet by its width of 320 and a context of 768. The small one is 160 and 256 wide. As in
Net2Net (Chen et al. 2016), a channel of the residual stream becomes two that carry the same number, so every
norm sees the mean and variance it saw before; whoever reads the stream reads the first of the two, and the
weights of the second are zero. Inside attention heads and feed-forward nets, where no norm looks, zeros are
enough. A longer head divides its logits by more, so queries grow by the root of that.
"""

import re
from collections.abc import Callable

import torch
from einops import rearrange, repeat

HEADS = 8
TIMES = 2  # 160 -> 320, the UNet's stream
CONTEXT_TIMES = 3  # 256 -> 768, the IDE's stream and the context
TIME_WIDTH = 1280
HIDDEN_WIDTH = 1280  # of the UNet's feed-forward nets

State = dict[str, torch.Tensor]


def query_scale(name: str) -> float:
    """Return what a parameter of the small model is multiplied by when it is widened."""
    if ".to_q." not in name:
        return 1.0
    return (CONTEXT_TIMES if ".IDE." in name else TIMES) ** 0.5


def _twin_rows(weight: torch.Tensor, times: int = TIMES) -> torch.Tensor:
    """Let every output channel appear several times."""
    return weight.repeat_interleave(times, dim=0)


def _first_columns(weight: torch.Tensor, times: int = TIMES) -> torch.Tensor:
    """Read the first of each channel's copies."""
    wide = weight.new_zeros(weight.shape[0], weight.shape[1], times, *weight.shape[2:])
    wide[:, :, 0] = weight
    return wide.flatten(1, 2)


def _pad(weight: torch.Tensor, size: int, dim: int = 0) -> torch.Tensor:
    """Add zeros at the end of a dimension."""
    shape = list(weight.shape)
    shape[dim] = size - shape[dim]
    return torch.cat((weight, weight.new_zeros(shape)), dim)


def _long_heads(weight: torch.Tensor, times: int = TIMES) -> torch.Tensor:
    """Add zeros at the end of each head, along the rows."""
    heads = rearrange(weight, "(heads d) ... -> heads d ...", heads=HEADS)
    return _pad(heads, times * heads.shape[1], dim=1).flatten(0, 1)


def _long_head_columns(weight: torch.Tensor, times: int = TIMES) -> torch.Tensor:
    return _long_heads(weight.T, times).T


def _halves(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Add zeros to values and gates, which lie one above the other."""
    return torch.cat([_pad(half, size) for half in weight.chunk(2)])


def _attention(name: str, weight: torch.Tensor, times: int, read: int) -> torch.Tensor:
    """Widen `to_q`, `to_k`, `to_v` (from a stream of which every `read`-th channel counts) or `to_out`."""
    if name == "to_out.0.weight":
        return _twin_rows(_long_head_columns(weight, times), times)
    if name == "to_out.0.bias":
        return _twin_rows(weight, times)
    weight = _first_columns(_long_heads(weight, times), read)
    return weight * times**0.5 if name == "to_q.weight" else weight


def _transformer(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Widen a tensor of a transformer block, of the UNet's or of a fuser, by its name in there."""
    if name.startswith("norm"):
        return _twin_rows(weight)
    part, rest = name.split(".", 1)
    if part.startswith("attn"):
        from_context = part == "attn2" and rest[:4] in ("to_k", "to_v")
        return _attention(rest, weight, TIMES, CONTEXT_TIMES if from_context else TIMES)
    if rest == "net.0.proj.weight":
        return _first_columns(_halves(weight, HIDDEN_WIDTH))
    if rest == "net.0.proj.bias":
        return _halves(weight, HIDDEN_WIDTH)
    return _twin_rows(weight if rest.endswith("bias") else _pad(weight, HIDDEN_WIDTH, dim=1))


def _unet_tensor(name: str, weight: torch.Tensor) -> torch.Tensor:
    if found := re.search(r"transformer_blocks\.0\.(.*)", name):
        return _transformer(found[1], weight)
    if name.startswith("time_embed"):
        weight = _pad(weight, TIME_WIDTH)
        return _pad(weight, TIME_WIDTH, dim=1) if name == "time_embed.2.weight" else weight
    if name == "input_blocks.0.0.weight" or weight.ndim == 1 and name != "out.2.bias":
        return _twin_rows(weight)
    if name == "out.2.bias":
        return weight
    if name == "out.2.weight":
        return _first_columns(weight)
    if "emb_layers" in name:
        return _twin_rows(_pad(weight, TIME_WIDTH, dim=1))
    return _twin_rows(_first_columns(weight))


def widen_unet(state: State) -> State:
    """Widen the UNet's weights, given and returned under their names in a checkpoint."""
    return {name: _unet_tensor(name, weight) for name, weight in state.items()}


def _ide_tensor(name: str, weight: torch.Tensor) -> torch.Tensor:
    times = CONTEXT_TIMES
    if name.startswith("IDE.time_embedding"):
        return weight
    if name == "IDE.connector.latents":
        return repeat(weight, "tokens width -> tokens (width times)", times=times)
    if ".in_proj_" in name:
        q, k, v = (_long_heads(part, times) for part in weight.chunk(3))
        weight = torch.cat((q * times**0.5, k, v))
        return _first_columns(weight, times) if weight.ndim == 2 else weight
    if name.endswith(".out_proj.weight"):
        return _twin_rows(_long_head_columns(weight, times), times)
    if ".c_fc." in name:
        return _first_columns(weight, times) if weight.ndim == 2 else weight
    # What is left writes to the stream: the first projections, the norms' shifts and scales, the last layers.
    return _twin_rows(weight, times)


def _position_tensor(name: str, weight: torch.Tensor) -> torch.Tensor:
    times = CONTEXT_TIMES
    if name == "position_net.linears.0.weight":
        tokens, place = weight[:, :-64], weight[:, -64:]
        return torch.cat((_first_columns(tokens, times), place), dim=1)
    if name.startswith("position_net.linears.4") or name == "position_net.null_positive_feature":
        return _twin_rows(weight, times)
    return weight


def _fuser_tensor(name: str, weight: torch.Tensor) -> torch.Tensor:
    if weight.ndim == 0:
        return weight
    if name == "linear.weight":
        return _twin_rows(_first_columns(weight, CONTEXT_TIMES))
    if name == "linear.bias":
        return _twin_rows(weight)
    return _transformer(name, weight)


def widen_adapter(state: State) -> State:
    """Widen the adapter's weights, given and returned under the names of the released one."""
    wide = {}
    for name, weight in state.items():
        if found := re.search(r"\.fuser\.(.*)", name):
            wide[name] = _fuser_tensor(found[1], weight)
        elif name.startswith("IDE."):
            wide[name] = _ide_tensor(name, weight)
        else:
            wide[name] = _position_tensor(name, weight)
    return wide


def narrow(wide: State, like: State, widen: Callable[[State], State]) -> State:
    """Undo a widening, which does no more than copy numbers, multiply some, and add zeros.

    Args:
        wide: what `widen` gave; more may be in it.
        like: tensors as they were before, for their names and shapes.
        widen: `widen_unet` or another such.

    Returns:
        The tensors that `widen` was given, float32.
    """
    shapes = {name: tensor.shape for name, tensor in like.items()}
    ones = {name: torch.ones(shape, dtype=torch.float64) for name, shape in shapes.items()}
    numbered = {
        name: torch.arange(shape.numel(), dtype=torch.float64).view(shape) for name, shape in shapes.items()
    }
    times, places = widen(ones), widen(numbered)
    small = {}
    for name, shape in shapes.items():
        there = times[name] != 0
        factor = times[name][there]
        place = (places[name][there] / factor).round().long()
        small[name] = torch.empty(shape.numel())
        small[name][place] = (wide[name][there].double() / factor).float()
        small[name] = small[name].view(shape)
    return small
