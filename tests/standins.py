"""Stand-in models: small files of the real layouts with random weights, made in seconds.

They let tests run a whole graph through a real ComfyUI with nothing downloaded. The host
takes each for the real thing, because what it looks at (names, and the widths 320 and 768) is real; only
depth and width elsewhere are smaller. Weights are drawn from a seed, so the same call gives the same file.
"""

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.random_weights import Shapes, State, draw_weights
from bench.released_instance_diffusion import uni_fusion_shapes

UNET_WIDTH = 320
TIME_WIDTH = 4 * UNET_WIDTH
CONTEXT_WIDTH = 768
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class UNetSize:
    """How deep an SD1.x UNet is; every level is 320 wide.

    Args:
        levels: resolutions, each half the one before.
        blocks: residual blocks at each level on the way down (one more on the way up).
        attention_levels: the first so many levels have transformers.
    """

    levels: int
    blocks: int
    attention_levels: int


# 7 transformers, 44 M parameters.
FAST = UNetSize(levels=2, blocks=1, attention_levels=2)
# 16 transformers under the names that SD1.x has, 111 M parameters.
FULL_DEPTH = UNetSize(levels=4, blocks=2, attention_levels=3)


def _layer(name: str, out: int, into: int, kernel: int = 0, bias: bool = True) -> Shapes:
    """A linear layer, or a convolution where `kernel` is given."""
    shapes: Shapes = {f"{name}.weight": (out, into) + (kernel, kernel) * (kernel > 0)}
    if bias:
        shapes[f"{name}.bias"] = (out,)
    return shapes


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _merged(parts: Iterable[Shapes]) -> Shapes:
    return {name: shape for part in parts for name, shape in part.items()}


def _residual_block(name: str, into: int) -> Shapes:
    width = UNET_WIDTH
    parts = [
        _norm(f"{name}.in_layers.0", into),
        _layer(f"{name}.in_layers.2", width, into, kernel=3),
        _layer(f"{name}.emb_layers.1", width, TIME_WIDTH),
        _norm(f"{name}.out_layers.0", width),
        _layer(f"{name}.out_layers.3", width, width, kernel=3),
    ]
    if into != width:
        parts.append(_layer(f"{name}.skip_connection", width, into, kernel=1))
    return _merged(parts)


def _attention(name: str, width: int, context: int) -> Shapes:
    return _merged(
        [
            _layer(f"{name}.to_q", width, width, bias=False),
            _layer(f"{name}.to_k", width, context, bias=False),
            _layer(f"{name}.to_v", width, context, bias=False),
            _layer(f"{name}.to_out.0", width, width),
        ]
    )


def _feed_forward(name: str, width: int) -> Shapes:
    """GEGLU: the projection makes values and gates side by side."""
    return _merged(
        [
            _layer(f"{name}.net.0.proj", 8 * width, width),
            _layer(f"{name}.net.2", width, 4 * width),
        ]
    )


def _transformer(name: str) -> Shapes:
    width, block = UNET_WIDTH, f"{name}.transformer_blocks.0"
    return _merged(
        [
            _norm(f"{name}.norm", width),
            _layer(f"{name}.proj_in", width, width, kernel=1),
            _attention(f"{block}.attn1", width, width),
            _attention(f"{block}.attn2", width, CONTEXT_WIDTH),
            _feed_forward(f"{block}.ff", width),
            *(_norm(f"{block}.norm{i}", width) for i in (1, 2, 3)),
            _layer(f"{name}.proj_out", width, width, kernel=1),
        ]
    )


def unet_shapes(size: UNetSize) -> Shapes:
    """Names and shapes of an SD1.x UNet in the original key layout, without a checkpoint's prefix."""
    width = UNET_WIDTH
    parts = [
        _layer("time_embed.0", TIME_WIDTH, width),
        _layer("time_embed.2", TIME_WIDTH, TIME_WIDTH),
        _layer("input_blocks.0.0", width, LATENT_CHANNELS, kernel=3),
    ]
    index = 1
    for level in range(size.levels):
        for _ in range(size.blocks):
            parts.append(_residual_block(f"input_blocks.{index}.0", width))
            if level < size.attention_levels:
                parts.append(_transformer(f"input_blocks.{index}.1"))
            index += 1
        if level < size.levels - 1:
            parts.append(_layer(f"input_blocks.{index}.0.op", width, width, kernel=3))
            index += 1

    parts += [
        _residual_block("middle_block.0", width),
        _transformer("middle_block.1"),
        _residual_block("middle_block.2", width),
    ]

    index = 0
    for level in reversed(range(size.levels)):
        for block in range(size.blocks + 1):
            # Every block on the way up takes the one it mirrors beside its own input.
            parts.append(_residual_block(f"output_blocks.{index}.0", 2 * width))
            has_attention = level < size.attention_levels
            if has_attention:
                parts.append(_transformer(f"output_blocks.{index}.1"))
            if level > 0 and block == size.blocks:
                upsample = f"output_blocks.{index}.{1 + has_attention}.conv"
                parts.append(_layer(upsample, width, width, kernel=3))
            index += 1

    parts += [_norm("out.0", width), _layer("out.2", LATENT_CHANNELS, width, kernel=3)]
    return _merged(parts)


def transformer_names(size: UNetSize) -> list[str]:
    """The UNet modules that hold a transformer, for example `input_blocks.1.1`."""
    tail = ".transformer_blocks.0.norm1.weight"
    return [name.removesuffix(tail) for name in unet_shapes(size) if name.endswith(tail)]


def _tiny_block(name: str) -> Shapes:
    return _merged(_layer(f"{name}.conv.{i}", 64, 64, kernel=3) for i in (0, 2, 4))


def vae_shapes() -> Shapes:
    """Names and shapes of a tiny autoencoder (TAESD): 8 pixels to a latent cell."""
    encoder, decoder = "taesd_encoder", "taesd_decoder"
    return _merged(
        [
            _layer(f"{encoder}.0", 64, 3, kernel=3),
            *(_tiny_block(f"{encoder}.{i}") for i in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13)),
            *(_layer(f"{encoder}.{i}", 64, 64, kernel=3, bias=False) for i in (2, 6, 10)),
            _layer(f"{encoder}.14", LATENT_CHANNELS, 64, kernel=3),
            _layer(f"{decoder}.1", 64, LATENT_CHANNELS, kernel=3),
            *(_tiny_block(f"{decoder}.{i}") for i in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)),
            *(_layer(f"{decoder}.{i}", 64, 64, kernel=3, bias=False) for i in (7, 12, 17)),
            _layer(f"{decoder}.19", 3, 64, kernel=3),
        ]
    )


def clip_shapes() -> Shapes:
    """Names and shapes of SD1.x's CLIP text encoder; its size is fixed by the host (123 M parameters)."""
    width, root = 768, "transformer.text_model"
    parts: list[Shapes] = [
        {
            f"{root}.embeddings.token_embedding.weight": (49408, width),
            f"{root}.embeddings.position_embedding.weight": (77, width),
        },
        _norm(f"{root}.final_layer_norm", width),
    ]
    for layer in range(12):
        name = f"{root}.encoder.layers.{layer}"
        parts += [
            *(_layer(f"{name}.self_attn.{p}_proj", width, width) for p in ("q", "k", "v", "out")),
            _layer(f"{name}.mlp.fc1", 4 * width, width),
            _layer(f"{name}.mlp.fc2", width, 4 * width),
            _norm(f"{name}.layer_norm1", width),
            _norm(f"{name}.layer_norm2", width),
        ]
    return _merged(parts)


def _fuser_shapes(name: str) -> Shapes:
    width, fuser = UNET_WIDTH, f"{name}.transformer_blocks.0.fuser"
    return _merged(
        [
            {f"{fuser}.alpha_attn": (), f"{fuser}.alpha_dense": ()},
            _layer(f"{fuser}.linear", width, CONTEXT_WIDTH),
            _attention(f"{fuser}.attn", width, width),
            _feed_forward(f"{fuser}.ff", width),
            _norm(f"{fuser}.norm1", width),
            _norm(f"{fuser}.norm2", width),
        ]
    )


def _position_net_shapes() -> Shapes:
    return _merged(
        [
            {
                "position_net.null_positive_feature": (CONTEXT_WIDTH,),
                "position_net.null_position_feature": (64,),
            },
            _layer("position_net.linears.0", 512, CONTEXT_WIDTH + 64),
            _layer("position_net.linears.2", 512, 512),
            _layer("position_net.linears.4", CONTEXT_WIDTH, 512),
        ]
    )


def _packed_attention(name: str, width: int) -> Shapes:
    return _merged(
        [
            {f"{name}.in_proj_weight": (3 * width, width), f"{name}.in_proj_bias": (3 * width,)},
            _layer(f"{name}.out_proj", width, width),
        ]
    )


def _ide_shapes(text_width: int, layers: int) -> Shapes:
    width = CONTEXT_WIDTH
    parts = [
        _layer("IDE.time_embedding.linear_1", width, 320),
        _layer("IDE.time_embedding.linear_2", width, width),
        {"IDE.connector.latents": (16, width)},
        _layer("IDE.connector.time_aware_linear", width, width),
        _layer("IDE.connector.proj_in", width, text_width),
    ]
    for layer in range(layers):
        name = f"IDE.connector.perceiver_blocks.{layer}"
        parts += [
            _packed_attention(f"{name}.attn", width),
            _packed_attention(f"{name}.cross_attn", width),
            _layer(f"{name}.mlp.c_fc", width, width),
            _layer(f"{name}.mlp.c_proj", width, width),
            *(_layer(f"{name}.{ln}.linear", 2 * width, width) for ln in ("ln_0", "ln_1", "ln_2", "ln_ff")),
        ]
    return _merged(parts)


def adapter_shapes(blocks: Iterable[str], text_width: int, layers: int) -> Shapes:
    """Names and shapes of a DEIG adapter as the released checkpoint has them.

    Args:
        blocks: UNet modules that get a fuser, as from `transformer_names`.
        text_width: width of the text encoder (2048 for Flan-T5-XL).
        layers: layers of the IDE (6 in the released one).
    """
    return _merged(
        [*(_fuser_shapes(name) for name in blocks), _position_net_shapes(), _ide_shapes(text_width, layers)]
    )


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def checkpoint_state(size: UNetSize, seed: int = 0, with_clip: bool = False) -> State:
    """A Stable Diffusion 1.x checkpoint: UNet, tiny VAE and, where asked for, CLIP. float32."""
    vae = draw_weights(vae_shapes(), seed + 1)
    vae |= {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    state = _prefixed("model.diffusion_model.", draw_weights(unet_shapes(size), seed))
    state |= _prefixed("first_stage_model.", vae)
    if with_clip:
        state |= _prefixed("cond_stage_model.", draw_weights(clip_shapes(), seed + 2))
    return state


def adapter_state(size: UNetSize, text_width: int = 64, layers: int = 2, seed: int = 10) -> State:
    """A DEIG adapter that fits `checkpoint_state(size)` and `write_t5_folder(width=text_width)`. float32."""
    return draw_weights(adapter_shapes(transformer_names(size), text_width, layers), seed)


def instance_diffusion_state(size: UNetSize, hidden: int = 64, seed: int = 50) -> State:
    """An adapter of InstanceDiffusion that fits `checkpoint_state(size)`, under the released names. float32.

    Its ConvNeXt is thin and its ScaleU strong, so that a mistake in either shows.
    """
    shapes = _merged(_fuser_shapes(name) for name in transformer_names(size))
    own = uni_fusion_shapes(hidden, depths=(1, 1, 2, 1), widths=(8, 16, 32, 768))
    shapes |= {f"position_net.{name}": shape for name, shape in own.items()}
    for block in range(size.levels * (size.blocks + 1)):
        shapes |= {f"scaleu_b_{block}": (UNET_WIDTH,), f"scaleu_s_{block}": (1,)}
    state = draw_weights(shapes, seed)
    strong = ("scaleu_", "position_net.pos_embedding")
    return {name: 5 * tensor if name.startswith(strong) else tensor for name, tensor in state.items()}


def lora_state(size: UNetSize, rank: int = 4, seed: int = 20) -> State:
    """A LoRA on the self-attention of every transformer of a `checkpoint_state(size)`. float32."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for block in transformer_names(size):
        for layer in ("to_q", "to_k", "to_v"):
            name = f"lora_unet_{block}_transformer_blocks_0_attn1_{layer}".replace(".", "_")
            down = torch.randn(rank, UNET_WIDTH, generator=generator) / math.sqrt(UNET_WIDTH)
            up = torch.randn(UNET_WIDTH, rank, generator=generator) / math.sqrt(rank)
            state |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            state[f"{name}.alpha"] = torch.tensor(float(rank))
    return state


def controlnet_state(size: UNetSize = FAST, seed: int = 40) -> State:
    """A ControlNet of ControlNet 1.1's layout for a UNet of `size`: its encoder, a hint net, zero convolutions.

    The zero convolutions are drawn like the rest, so that it steers.
    """
    shapes = {
        name: shape
        for name, shape in unet_shapes(size).items()
        if not name.startswith(("output_blocks", "out."))
    }
    blocks = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("input_blocks"))
    widths = [3, 16, 16, 32, 32, 96, 96, 256, UNET_WIDTH]
    for i, (into, out) in enumerate(zip(widths, widths[1:], strict=False)):
        shapes |= _layer(f"input_hint_block.{2 * i}", out, into, kernel=3)
    for i in range(blocks):
        shapes |= _layer(f"zero_convs.{i}.0", UNET_WIDTH, UNET_WIDTH, kernel=1)
    return draw_weights(shapes | _layer("middle_block_out.0", UNET_WIDTH, UNET_WIDTH, kernel=1), seed)


def write_t5_folder(folder: Path, tokenizer: Path, width: int = 64, seed: int = 30) -> Path:
    """Write a two-layer T5 v1.1-style encoder with its tokenizer, as transformers saves one.

    Args:
        folder: where to; made where it is missing.
        tokenizer: a folder with T5's tokenizer.json, as ComfyUI has in comfy/text_encoders/t5_tokenizer.
        width: the encoder's width (2048 for Flan-T5-XL).
    """
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32128,
        d_model=width,
        d_kv=width // 2,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = T5EncoderModel(config).state_dict()
    # The same tensor as shared.weight, which safetensors would refuse to write twice.
    weights.pop("encoder.embed_tokens.weight", None)
    config.architectures = ["T5EncoderModel"]
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    return folder
