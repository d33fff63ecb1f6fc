"""What EliGen's host tests share: a CLIP, conditioning, a sampler, and a dense re-computation of every call."""

import contextlib
import math

import comfy.model_management
import comfy.sd
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.eligen import EliGen
from deig_pack.nodes.host.transformers import COND
from deig_pack.tests.core.eligen.oracle import dense_attention, dense_bias
from deig_pack.tests.core.eligen.test_places import drawn
from deig_pack.tests.host.composition.helpers import run_node
from deig_pack.tests.host.eligen.models import host_model
from deig_pack.tests.host.kept import kept

FAMILIES = ("flux", "qwen")
WIDTH, POOLED = 96, 48  # of the small models' text
OVERLAPPING = (
    Region("a red mug", (0.0, 0.0, 0.5, 0.75)),
    Region("a green lamp", (0.25, 0.25, 1.0, 0.75)),
    Region("a blue book on a shelf", (0.375, 0.5, 0.875, 1.0)),
)
TWO = OVERLAPPING[:2]


@kept
def small_clip(family: str, layers: int = 1) -> comfy.sd.CLIP:
    """The host's own CLIP of a family, with its real tokenizers and thin layers of random weights."""
    if family == "flux":
        import comfy.text_encoders.flux as module

        model, tokenizer, params = module.FluxClipModel, module.FluxTokenizer, {"dtype_t5": torch.float32}
        options = {
            "t5xxl_model_config": {
                "d_model": WIDTH,
                "d_kv": 16,
                "d_ff": 64,
                "num_heads": 4,
                "num_layers": layers,
            },
            "clip_l_model_config": {
                "hidden_size": POOLED,
                "intermediate_size": 64,
                "num_attention_heads": 2,
                "num_hidden_layers": layers,
            },
        }
    else:
        import comfy.text_encoders.qwen_image as module

        model, tokenizer, params = module.QwenImageTEModel, module.QwenImageTokenizer, {}
        options = {
            "qwen25_7b_model_config": {
                "hidden_size": WIDTH,
                "intermediate_size": 64,
                "num_hidden_layers": layers,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
            }
        }
    target = comfy.sd.ClipTarget() if hasattr(comfy.sd, "ClipTarget") else type("Target", (), {})()
    target.clip, target.tokenizer, target.params = model, tokenizer, params
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32, **options})
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in clip.cond_stage_model.named_parameters():
            if ".visual." not in name:
                weight.normal_(0, 1, generator=generator)
                weight.div_(math.sqrt(weight.shape[-1]) if weight.ndim > 1 and "embed" not in name else 1)
    return clip


@kept
def short_clip(family: str) -> comfy.sd.CLIP:
    """The same with FLUX.1's texts filled up to 24 tokens only, which the dense re-computation takes quicker."""
    clip = small_clip(family).clone()
    clip.set_tokenizer_option("t5xxl_min_length", 24)
    return clip


def prompt(family: str, seed: int, tokens: int | None = None, **options) -> list:
    """Conditioning of one entry, as far as a sampler can tell."""
    generator = torch.Generator().manual_seed(seed)
    tokens = tokens or (16 if family == "flux" else 7 + seed)
    context = torch.randn(1, tokens, WIDTH, generator=generator)
    return [[context, {"pooled_output": torch.randn(1, POOLED, generator=generator), **options}]]


def apply(family, regions=TWO, positive=None, negative=None, model=None, clip=None, **options):
    """Run the node on a small model: (model, positive, negative)."""
    out = EliGen.execute(
        model or host_model(family).clone(),
        clip or short_clip(family),
        positive or prompt(family, 1),
        regions,
        negative or prompt(family, 2),
        **{"lora_in_weights": True, **options},
    )
    return out.result


def sample(model, positive, negative, size=(16, 16), batch=1, cfg=4.0, steps=2, **options):
    """Sample with the host's KSampler, and return the latent."""
    latent = options.pop("latent", None)
    if latent is None:
        latent = {"samples": torch.zeros(batch, 16, *size)}
    given = {"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0, "seed": 3, **options}
    given |= {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    return run_node("nodes", "KSampler", steps=steps, cfg=cfg, **given)[0]["samples"]


@contextlib.contextmanager
def calls_of(model):
    """Collect what goes into and out of the diffusion model of a ModelPatcher while something samples."""
    calls = []

    def spy(executor, *args, **kwargs):
        out = executor(*args, **kwargs)
        if executor.class_obj is not model.model.diffusion_model:
            return out  # a ControlNet, which the host builds of the same class
        options = next(arg for arg in args if isinstance(arg, dict) and "cond_or_uncond" in arg)
        calls.append({"args": args, "kwargs": kwargs, "options": options, "out": out.clone()})
        return out

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "spy", spy)
    try:
        yield calls
    finally:
        model.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, "spy")


def sight_of(call):
    """Return who sees whom in a call, or None where the model ran plain."""
    return call["options"][COND].sight


def difference(a, b) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def oracle_places(regions, size, area=None) -> torch.Tensor:
    """Lay regions of boxes and points onto tokens by a mask image each: (N, tokens), bool."""
    cells = torch.stack([drawn(region, size) for region in regions])
    if area is not None:
        height, width, y, x = area
        cells = cells[:, y : y + height, x : x + width]
    rows, columns = (-(-length // 2) for length in cells.shape[1:])
    tokens = torch.zeros(len(regions), rows, columns, dtype=torch.bool)
    for place, out in zip(cells, tokens, strict=True):
        for row, column in place.nonzero().tolist():
            out[row // 2, column // 2] = True
    return tokens.flatten(1)


def dense_call(model, call, texts, places, strengths=None):
    """Run a call again with a square mask of who sees whom, in float64 attention.

    Args:
        model: the host's ModelPatcher.
        call: one of `calls_of`.
        texts: (1, tokens, width) of each entity; the prompt is taken from the end of the call's context.
        places: (N, image tokens), bool.
        strengths: one for each entity.
    """
    lengths = [text.shape[1] for text in texts]
    x, timestep, context = call["args"][:3]
    own = context[:, sight_of(call).entities_length :]
    joined = torch.cat((*(text.expand(len(x), -1, -1) for text in texts), own), dim=1)
    bias = dense_bias(lengths, own.shape[1], places, strengths or [1.0] * len(texts))
    starts = torch.cat([torch.arange(length) for length in (*lengths, own.shape[1])])

    def override(func, q, k, v, heads, mask=None, skip_reshape=False, **kwargs):
        if not skip_reshape:
            q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        assert q.shape[2] == len(bias)
        return dense_attention(q, k, v, bias).to(q).transpose(1, 2).flatten(2)

    def block(args, extra):
        pe = args["pe"]
        along = 1 if pe.shape[1] == len(bias) else 2
        order = torch.cat((starts, torch.arange(len(starts), len(bias))))
        return extra["original_block"]({**args, "pe": pe.index_select(along, order)})

    blocks = getattr(model.model.diffusion_model, "transformer_blocks", ())
    replaced = {("double_block", number): block for number in range(len(blocks))}
    options = {
        **{key: value for key, value in call["options"].items() if key not in (COND, "wrappers")},
        "optimized_attention_override": override,
        "patches_replace": {"dit": replaced},
    }
    args = [options if arg is call["options"] else arg for arg in call["args"]]
    args[2] = joined
    with torch.no_grad():
        return model.model.diffusion_model(*args, **call["kwargs"])
