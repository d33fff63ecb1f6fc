"""The adapter: IDE, position net and fusers together, sized from a state dict.

Inside, attention projections are separate layers; in a checkpoint the IDE's are packed (`in_proj_weight`),
and `split_packed_projections` and `pack_projections` go between the two. All other key names are the
checkpoint's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from .fusion import Fuser
from .ide import IDESizes, InstanceDetailExtractor
from .position_net import PositionNet

PACKED = re.compile(r"^(.*\b(?:attn|cross_attn))\.in_proj_(weight|bias)$")
FUSER = re.compile(
    r"^((?:input_blocks\.\d+\.\d+|middle_block\.\d+|output_blocks\.\d+\.\d+)\.transformer_blocks\.\d+)\.fuser\."
)
LAYER = re.compile(r"^IDE\.connector\.perceiver_blocks\.(\d+)\.")

# (section, number, transformer) as the host names a block while it runs: ("input", 1, 0).
BlockId = tuple[str, int, int]


@dataclass(frozen=True)
class AdapterSizes:
    """Sizes of an adapter.

    Args:
        ide: sizes of the Instance Detail Extractor.
        position_hidden_width: width of the position net's layers.
        context_width: width of the tokens that the fusers take.
        fusers: (block path in the checkpoint, width of its image tokens, width inside its feed-forward net).
    """

    ide: IDESizes
    position_hidden_width: int
    context_width: int
    fusers: tuple[tuple[str, int, int], ...]


def block_id(path: str) -> BlockId:
    """Turn `input_blocks.1.1.transformer_blocks.0` into ("input", 1, 0); the middle block is number 0."""
    parts = path.split(".")
    section = parts[0].removesuffix("_blocks").removesuffix("_block")
    return section, 0 if section == "middle" else int(parts[1]), int(parts[-1])


class Adapter(nn.Module):
    """Everything DEIG adds to a model.

    Args:
        sizes: the sizes of everything inside.
        operations: where the layer classes come from; the host gives its own.
    """

    def __init__(self, sizes: AdapterSizes, operations=nn, **factory):
        super().__init__()
        self.sizes = sizes
        self.IDE = InstanceDetailExtractor(sizes.ide, operations, **factory)
        self.position_net = PositionNet(
            sizes.ide.width, sizes.context_width, sizes.position_hidden_width, operations, **factory
        )
        # A module's name cannot hold the dots of a block's path.
        self.fusers = nn.ModuleDict(
            {
                path.replace(".", "-"): Fuser(
                    width, sizes.context_width, hidden_width=hidden, operations=operations, **factory
                )
                for path, width, hidden in sizes.fusers
            }
        )
        self._paths = {block_id(path): path.replace(".", "-") for path, _, _ in sizes.fusers}

    def fuser(self, block: BlockId) -> Fuser | None:
        """Return the fuser of a block, or None where the adapter has none."""
        name = self._paths.get(block)
        return None if name is None else self.fusers[name]

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Return the weights under the names of the released checkpoint."""
        return pack_projections({_outer_name(key): tensor for key, tensor in self.state_dict().items()})


def _inner_name(key: str) -> str:
    found = FUSER.match(key)
    if found is None:
        return key
    return f"fusers.{found[1].replace('.', '-')}.{key[found.end() :]}"


def _outer_name(key: str) -> str:
    if not key.startswith("fusers."):
        return key
    _, path, rest = key.split(".", 2)
    return f"{path.replace('-', '.')}.fuser.{rest}"


def load_adapter(state_dict: Mapping[str, torch.Tensor], operations=nn) -> Adapter:
    """Build an adapter around a state dict's own tensors.

    Args:
        state_dict: tensors under the names of the released checkpoint (`checkpoint.read_adapter`).
        operations: where the layer classes come from; the host gives its own.

    Returns:
        The adapter, in evaluation mode, without gradients, its weights being the tensors given.

    Raises:
        ValueError: naming missing, unexpected and misshapen tensors.
    """
    sizes = read_sizes(state_dict)
    weights = {_inner_name(key): tensor for key, tensor in split_packed_projections(state_dict).items()}
    # The host's layers may have no weights before they are loaded, so torch's tell what is expected.
    _check_tensors(Adapter(sizes, device="meta").state_dict(), weights)
    adapter = Adapter(sizes, operations, device="meta").eval().requires_grad_(False)
    adapter.load_state_dict(weights, assign=True)
    return adapter


def read_sizes(state_dict: Mapping[str, torch.Tensor]) -> AdapterSizes:
    """Read an adapter's sizes off its tensors' shapes.

    Raises:
        ValueError: if a tensor that tells a size is not there.
    """

    def shape(key: str) -> torch.Size:
        if key not in state_dict:
            raise ValueError(
                f"This is not a complete DEIG adapter: the tensor '{key}' is missing. Use the released "
                "model.pth or a file made from it with 'python -m deig_core.checkpoint'."
            )
        return state_dict[key].shape

    layers = {int(found[1]) for key in state_dict if (found := LAYER.match(key))}
    paths = dict.fromkeys(found[1] for key in state_dict if (found := FUSER.match(key)))
    if not layers or not paths:
        what = (
            "the layers of its IDE (IDE.connector.perceiver_blocks.*)" if paths else "its fusers (*.fuser.*)"
        )
        raise ValueError(
            f"This is not a complete DEIG adapter: it lacks {what}. A GLIGEN or InstanceDiffusion file "
            "has no IDE and cannot be used; use the released model.pth or a file made from it."
        )
    tokens, width = shape("IDE.connector.latents")
    time_width, time_channels = shape("IDE.time_embedding.linear_1.weight")
    ide = IDESizes(
        text_width=shape("IDE.connector.proj_in.weight")[1],
        width=width,
        tokens=tokens,
        layers=max(layers) + 1,
        time_channels=time_channels,
        time_width=time_width,
        mlp_width=shape("IDE.connector.perceiver_blocks.0.mlp.c_fc.weight")[0],
    )
    context_width, hidden_width = shape("position_net.linears.4.weight")
    fusers = tuple(
        (path, shape(f"{path}.fuser.linear.weight")[0], shape(f"{path}.fuser.ff.net.2.weight")[1])
        for path in paths
    )
    return AdapterSizes(ide, hidden_width, context_width, fusers)


def _check_tensors(expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]):
    problems = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "of another shape than the rest asks for": [
            f"{key} {tuple(given[key].shape)}, expected {tuple(expected[key].shape)}"
            for key in expected
            if key in given and given[key].shape != expected[key].shape
        ],
    }
    found = [f"{what}: {', '.join(map(_outer_name, keys))}" for what, keys in problems.items() if keys]
    if found:
        raise ValueError(
            "This file is not a whole DEIG adapter. Tensors "
            + "; tensors ".join(found)
            + ". Use the released model.pth or a file made from it with 'python -m deig_core.checkpoint'."
        )


def split_packed_projections(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Split each `in_proj` of torch's nn.MultiheadAttention, (3 width, ...), into to_q, to_k and to_v.

    The parts are views, so nothing is copied.
    """
    split = {}
    for key, tensor in state_dict.items():
        if found := PACKED.match(key):
            for name, part in zip(("to_q", "to_k", "to_v"), tensor.chunk(3), strict=True):
                split[f"{found[1]}.{name}.{found[2]}"] = part
        else:
            split[key] = tensor
    return split


def pack_projections(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo `split_packed_projections` for the IDE, whose projections a checkpoint holds packed."""
    packed = {}
    for key, tensor in state_dict.items():
        if not key.startswith("IDE.") or ".to_" not in key:
            packed[key] = tensor
            continue
        stem, kind = key.rsplit(".to_", 1)
        name, parameter = kind.split(".")
        if name == "q":
            parts = [state_dict[f"{stem}.to_{part}.{parameter}"] for part in "qkv"]
            packed[f"{stem}.in_proj_{parameter}"] = torch.cat(parts)
    return packed
