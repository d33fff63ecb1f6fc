"""The small model for training: UNet, DEIG adapter and text encoder, and how they see a batch of scenes.

UNet and adapter use the pack's own modules. The one thing done differently is padding: the last of a phrase's
text positions stands for all the padding behind it (`text.Padded`), so where the IDE attends to the text that
position's logit gets the logarithm of how many it stands for. The result is that of the whole 128.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from deig_core.deig.adapter import Adapter, AdapterSizes
from deig_core.deig.ide import IDESizes, InstanceDetailExtractor
from deig_core.fusion.fuser import Grounded
from deig_core.fusion.fusers import BlockId
from deig_core.regions.raster import cell_places, token_places
from deig_core.regions.region import Region

from . import text
from .device import CPU, half_precision
from .plain_text import PlainText
from .reader import OF_GROUND, OF_PHRASE, Reader, name_ground, name_shape
from .scenes import Scene, Shape
from .unet import CONTEXT_WIDTH, WIDTH, UNet

LATENT = 16  # cells a side

SIZES = AdapterSizes(
    ide=IDESizes(
        text_width=96,
        width=CONTEXT_WIDTH,
        tokens=8,
        layers=1,
        time_channels=128,
        time_width=256,
        mlp_width=768,
    ),
    position_hidden_width=384,
    context_width=CONTEXT_WIDTH,
    fusers=tuple((path, WIDTH, 4 * WIDTH) for path in UNet.FUSED_BLOCKS),
)


@dataclass(frozen=True)
class Extraction:
    """How a phrase becomes tokens.

    Args:
        tokens: how many.
        ide: whether the IDE makes them; without it they are the text's own features (`PlainText`).
    """

    tokens: int = SIZES.ide.tokens
    ide: bool = True


def noise_schedule() -> torch.Tensor:
    """Return Stable Diffusion 1.x's cumulated alphas, (1000,): how much of the picture is left."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


@dataclass(frozen=True, eq=False)
class Words:
    """What a batch of scenes is told in words and boxes.

    Args:
        scenes: the B scenes.
        shapes: what all instances are to be, scene after scene.
        phrases: the words for these.
        counts: how many instances each scene has.
        boxes: (N, 4), xyxy, fractions, in the same order.
        places: (N, rows * columns) of the fusers' grid, 1 where the instance lies.
        prompts: one for each scene.
    """

    scenes: tuple[Scene, ...]
    shapes: tuple[Shape, ...]
    phrases: tuple[str, ...]
    counts: tuple[int, ...]
    boxes: torch.Tensor
    places: torch.Tensor
    prompts: tuple[str, ...]

    def to(self, device: torch.device) -> "Words":
        """Return the same with its tensors on a device."""
        return replace(self, boxes=self.boxes.to(device), places=self.places.to(device))


def words_of(scenes: Sequence[Scene], with_instances: Sequence[bool], prompts: Sequence[str]) -> Words:
    """Collect what scenes are told; those without instances are told their prompt alone."""
    shapes = [scene.shapes if told else () for scene, told in zip(scenes, with_instances, strict=True)]
    regions = [Region(shape.phrase, shape.box) for group in shapes for shape in group]
    cells = cell_places(regions, (LATENT, LATENT))
    places = token_places(cells, (LATENT, LATENT), (LATENT // 2, LATENT // 2)) if regions else cells
    return Words(
        scenes=tuple(scenes),
        shapes=tuple(shape for group in shapes for shape in group),
        phrases=tuple(region.phrase for region in regions),
        counts=tuple(map(len, shapes)),
        boxes=torch.tensor([region.box for region in regions]).reshape(-1, 4),
        places=places.flatten(1),
        prompts=tuple(prompts),
    )


def extract(
    ide: InstanceDetailExtractor | PlainText, padded: text.Padded, timesteps: torch.Tensor
) -> torch.Tensor:
    """Do what the IDE does with all 128 positions of each phrase.

    Args:
        ide: the pack's IDE, or what stands in its place.
        padded: P phrases.
        timesteps: (P,)

    Returns:
        (P, tokens, width)
    """
    if isinstance(ide, PlainText):
        return ide(padded)
    connector = ide.connector
    time = F.silu(ide.time_embedding(timesteps, padded.features.dtype))
    latents = repeat(connector.latents, "tokens width -> p tokens width", p=len(timesteps))
    latents = latents + connector.time_aware_linear(time)[:, None]
    features = connector.proj_in(padded.features)
    bias = features.new_zeros(latents.shape[1] + features.shape[1])
    bias[-1].fill_(math.log(padded.times))
    for block in connector.perceiver_blocks:
        n = block.ln_0(latents, time)
        latents = latents + block.attn(n, n)
        n = block.ln_1(latents, time)
        context = torch.cat((n, block.ln_2(features, time)), dim=1)
        latents = latents + _biased_attention(block.cross_attn, n, context, bias)
        latents = latents + block.mlp(block.ln_ff(latents, time))
    return latents


def _biased_attention(attention: nn.Module, queries, context, bias: torch.Tensor) -> torch.Tensor:
    q, k, v = (
        rearrange(x, "b s (heads d) -> b heads s d", heads=attention.heads)
        for x in (attention.to_q(queries), attention.to_k(context), attention.to_v(context))
    )
    mask = bias.to(q).expand(1, 1, q.shape[2], -1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return attention.out_proj(rearrange(out, "b heads s d -> b s (heads d)"))


@dataclass(frozen=True, eq=False)
class Read:
    """What the IDE makes of a batch's words.

    Args:
        context: (B, tokens, width), of the prompts.
        tokens: (P, tokens, width), of the phrases of all scenes, or None where there are none.
    """

    context: torch.Tensor
    tokens: torch.Tensor | None


class SmallDEIG(nn.Module):
    """UNet, adapter and text encoder, trained together.

    Args:
        tokenizer: of the text encoder.
        seed: of the weights.
        extraction: how phrases and prompts become tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        seed: int = 0,
        extraction: Extraction = Extraction(),  # noqa: B008, it is frozen
    ):
        super().__init__()
        torch.manual_seed(seed)
        self.tokenizer = tokenizer
        self.text: T5EncoderModel = text.new_encoder(seed)
        self.unet = UNet()
        tokens = extraction.tokens
        self.adapter = Adapter(replace(SIZES, ide=replace(SIZES.ide, tokens=tokens)))
        if not extraction.ide:
            self.adapter.IDE = PlainText(SIZES.ide.text_width, CONTEXT_WIDTH, tokens)
        self.phrase_reader = Reader(tokens, CONTEXT_WIDTH, OF_PHRASE)
        self.ground_reader = Reader(tokens, CONTEXT_WIDTH, OF_GROUND)
        self._start_calm()

    @torch.no_grad()
    def _start_calm(self):
        """Let every residual branch begin small, and the fusers' gates begin open.

        GLIGEN's gates begin closed because its UNet can paint already; this one learns at the same time.
        """
        for name, parameter in self.named_parameters():
            if name.endswith(("out_layers.3.weight", "proj_out.weight")):
                parameter.mul_(0.2)
            if "alpha_" in name:
                parameter.fill_(1.0)
        nn.init.zeros_(self.unet.out[2].weight)

    def forward(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        words: Words,
        read: Read | None = None,
    ) -> torch.Tensor:
        """Predict the noise.

        Args:
            noisy: (B, 4, 16, 16)
            timesteps: (B,), 0 to 999.
            words: what the B scenes are told.
            read: from `read`, where it is at hand.

        Returns:
            (B, 4, 16, 16)
        """
        read = read or self.read(timesteps, words)
        groups = ground(self.adapter, read.tokens, words)

        def fuse(block: BlockId, image: torch.Tensor) -> torch.Tensor:
            return self.adapter.fuser(block)(image, groups)

        return self.unet(noisy, timesteps, read.context, fuse)

    def read(self, timesteps: torch.Tensor, words: Words) -> Read:
        """Read what scenes are told at their timesteps, (B,)."""
        prompts = text.encode(self.text, self.tokenizer, words.prompts)
        context = extract(self.adapter.IDE, prompts, timesteps)
        if not words.phrases:
            return Read(context, None)
        phrases = text.encode(self.text, self.tokenizer, words.phrases)
        return Read(context, extract(self.adapter.IDE, phrases, times_of_phrases(timesteps, words)))

    def naming(self, read: Read, words: Words) -> torch.Tensor:
        """Return the error in naming shapes from phrases and grounds from prompts; empty prompts name none."""
        loss = 0 * read.context.sum()  # so that there are gradients where nothing is named
        if read.tokens is not None:
            loss = loss + self.phrase_reader.loss(read.tokens, [name_shape(shape) for shape in words.shapes])
        named = [i for i, prompt in enumerate(words.prompts) if prompt]
        if named:
            answers = [name_ground(words.scenes[i]) for i in named]
            loss = loss + self.ground_reader.loss(read.context[named], answers)
        return loss


def times_of_phrases(timesteps: torch.Tensor, words: Words) -> torch.Tensor:
    """Give every phrase the timestep of its scene: (B,) -> (P,)."""
    counts = torch.tensor(words.counts, device=timesteps.device)
    # Told how many come out, it need not ask the device.
    return timesteps.repeat_interleave(counts, output_size=len(words.phrases))


def ground(adapter: Adapter, tokens: torch.Tensor | None, words: Words) -> list[Grounded]:
    """Return what the fusers need.

    Args:
        adapter: whose position net places the tokens.
        tokens: (P, tokens, width), from the IDE, for the phrases of all scenes; not looked at where there are none.
        words: what the B scenes are told.

    Returns:
        One group of all rows, with as many instances each as the fullest scene has; those that a scene lacks are
        nowhere.
    """
    if not words.phrases:
        return [Grounded(len(words.counts))]
    objs = pad_sequence(adapter.position_net(tokens, words.boxes).split(words.counts), batch_first=True)
    places = pad_sequence(words.places.split(words.counts), batch_first=True)
    return [Grounded(len(words.counts), objs, places.log())]


def sampling_times(steps: int) -> list[int]:
    """Return the timesteps that `sample` goes through and, last, the clean picture's: one more than steps."""
    return [round(999 * (steps - i) / steps) for i in range(steps + 1)]


@torch.no_grad()
def sample(
    model: Callable[[torch.Tensor, torch.Tensor, Words], torch.Tensor],
    scenes: Sequence[Scene],
    seed: int = 0,
    steps: int = 20,
    guidance: float = 3.0,
    half: bool = True,
    device: torch.device = CPU,
) -> torch.Tensor:
    """Paint scenes with DDIM.

    Args:
        model: predicts noise, as `SmallDEIG` does.
        scenes: B scenes; the pictures' words and boxes are theirs.
        seed: of the noise.
        steps: how many.
        guidance: classifier-free guidance scale; 1 leaves the negative prompt out.
        half: compute in bfloat16, where the device has it.
        device: where the model is.

    Returns:
        (B, 4, 16, 16), latents, on the device.
    """
    alphas = noise_schedule()
    told = words_of(scenes, [True] * len(scenes), [scene.prompt for scene in scenes]).to(device)
    untold = words_of(scenes, [False] * len(scenes), [""] * len(scenes)).to(device)
    x = torch.randn(len(scenes), 4, LATENT, LATENT, generator=torch.Generator().manual_seed(seed)).to(device)
    for now, then in pairwise(sampling_times(steps)):
        timesteps = torch.full((len(scenes),), now, device=device)
        with half_precision(device, half):
            noise = model(x, timesteps, told).float()
            if guidance != 1:
                free = model(x, timesteps, untold).float()
                noise = free + guidance * (noise - free)
        picture = (x - (1 - alphas[now]).sqrt() * noise) / alphas[now].sqrt()
        left = alphas[then] if then > 0 else torch.tensor(1.0)
        x = left.sqrt() * picture + (1 - left).sqrt() * noise
    return x
