"""How EliGen comes into the denoising of the host's transformers, FLUX.1 and Qwen-Image, through public hooks.

What belongs to whom. Entities belong to a conditioning entry, which carries them among its `model_conds`; the
host hands them back with the call of the model that the entry takes part in, however it split, joined or cropped
the batch. The patched model itself knows no entity: all state is made anew for each run and each call.

    OUTER_SAMPLE wrapper      takes up the entities that wait in the conditioning
    PREPARE_SAMPLING wrapper  counts their texts when the host makes room in memory
    APPLY_MODEL wrapper       puts their texts before the prompt's, and tells this call who sees whom
    attention override        attends accordingly, where all tokens of the model attend to each other
    replaced blocks           let every text of Qwen-Image begin at the same position (FLUX.1 gives them none)
"""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from comfy.patcher_extension import WrappersMP
from einops import rearrange

from ...deig_core.eligen.attention import attend_by_groups, attend_in_parts, telling_attention
from ...deig_core.eligen.entities import Entities
from ...deig_core.eligen.places import TOKEN_CELLS, entity_cells, entity_tokens
from ...deig_core.eligen.sight import Sight, text_positions
from .clock import Clock

KEY = "DEIG_EliGen"
COND = "eligen"  # the name under which the host hands entities back
PATCHES = "patches_replace"

# The host's attention functions that compute the formula itself; others (quantised ones, or another pack's) are
# called for what they are.
EXACT = {
    "attention_basic",
    "attention_sub_quad",
    "attention_split",
    "attention_pytorch",
    "attention_xformers",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Family:
    """A kind of transformer that EliGen has weights for.

    Args:
        name: as people call it.
        text_width: of its text encoder's features.
        text_positions: whether text tokens have positions.
        loader: what loads its text encoder.
    """

    name: str
    text_width: int
    text_positions: bool
    loader: str


# By the name that the host finds in a model file.
FAMILIES = {
    "flux": Family("FLUX.1", 4096, False, "DualCLIPLoader with type 'flux' (clip_l and t5xxl)"),
    "qwen_image": Family("Qwen-Image", 3584, True, "CLIPLoader with type 'qwen_image' (qwen_2.5_vl_7b)"),
}


@dataclass(eq=False)
class Run:
    """One sampling run of a patched model.

    Args:
        latent_size: (height, width) of the latent, in cells.
        clock: how far the schedule is.
    """

    latent_size: tuple[int, int]
    clock: Clock
    _kept: dict = field(default_factory=dict)
    _warned: bool = False

    def keep(self, make: Callable, *key):
        """Return what was made for a key before, or make it; it lives as long as the run."""
        if key not in self._kept:
            self._kept[key] = make(*key)
        return self._kept[key]

    def text(self, text: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return a text on a device; it goes there once a run and not at every step."""
        return self.keep(torch.Tensor.to, text, device)

    def check_shape(self, size: tuple[int, int], area: tuple[int, ...] | None) -> bool:
        """Tell whether the model is called with the size of the entry's place, and warn once a run if not."""
        expected = self.latent_size if area is None else area[:2]
        fits = tuple(size) == tuple(expected)
        if not fits and not self._warned:
            self._warned = True
            log.warning(
                "EliGen: the model is run on a latent of %dx%d instead of %dx%d. Something tiles the picture and "
                "does not say where each tile lies, so regions are laid over each tile as if it were the whole.",
                *reversed(size),
                *reversed(expected),
            )
        return fits


@dataclass(frozen=True, eq=False)
class WaitingEntities:
    """Entities in a conditioning entry, until a run of a patched model takes them up.

    A model without EliGen would ignore them in silence. The host asks every cond to prepare itself before the
    model is called, and this one answers by saying what to connect.

    Args:
        entities: what waits.
        zeroed: whether the entry's prompt is all zero; told here to notice a node that zeroes it later.
    """

    entities: Entities
    zeroed: bool

    def process_cond(self, **kwargs):
        raise ValueError(
            "This conditioning holds entities of 'EliGen Apply', but the model that samples it has no EliGen. Connect "
            "the MODEL output of 'EliGen Apply' to the sampler too."
        )


@dataclass(frozen=True, eq=False)
class EntitiesCond:
    """What EliGen adds to a conditioning entry during a run; the host treats it like any other of its conds.

    Args:
        run: the run it belongs to.
        entities: the entry's.
        area: the crop, (height, width, y, x) in cells, that the entry is denoised on; None: the whole.
    """

    run: Run
    entities: Entities
    area: tuple[int, ...] | None = None

    def process_cond(self, batch_size: int, area=None, **kwargs) -> "EntitiesCond":
        if area is None:
            return self
        dims = len(area) // 2  # Qwen-Image's latents have a dimension of frames before height and width
        return replace(self, area=(*area[dims - 2 : dims], *area[2 * dims - 2 :]))

    def can_concat(self, other) -> bool:
        # One batch has one row of tokens: the same texts' lengths, in the same places, at the same time.
        return (
            isinstance(other, EntitiesCond)
            and self.run is other.run
            and self.entities.regions == other.entities.regions
            and self.entities.schedule == other.entities.schedule
            and self.entities.lengths == other.entities.lengths
            and self.area == other.area
        )

    def concat(self, others) -> list["EntitiesCond"]:
        return [self, *others]

    def size(self) -> list[int]:
        return [1]


@dataclass(eq=False)
class ThisCall:
    """What attention and blocks find in transformer_options during one call of the model.

    It is there in every call of a patched model, and is read uncompiled: the host lets a compiled model take its
    first call's transformer_options for granted, keys and values.

    Args:
        sight: who sees whom; None: no entity acts, which is the plain model.
        former: the attention override that another pack had set before.
    """

    sight: Sight | None = None
    former: Callable | None = None
    attended: bool = False
    other_length: int | None = None
    _positions: tuple[torch.Tensor, torch.Tensor] | None = None

    def place_texts(self, pe: torch.Tensor) -> torch.Tensor:
        """Let each text begin where the first one does.

        Args:
            pe: rotations for all tokens, texts counted through: (rows, S, 1, ...) or (rows, 1, S, ...).
        """
        if self.sight.length not in pe.shape[1:3]:
            return pe  # other tokens than we know of; `_check_attended` will say so
        if self._positions is None or self._positions[0] is not pe:
            lengths = (*self.sight.lengths, self.sight.prompt_length)
            along = 1 if pe.shape[1] == self.sight.length else 2
            texts = pe.index_select(along, text_positions(lengths).to(pe.device))
            image = pe.narrow(along, self.sight.text_length, pe.shape[along] - self.sight.text_length)
            self._positions = pe, torch.cat((texts, image), along)
        return self._positions[1]


def family_of(model) -> Family:
    """Return the family of the host's ModelPatcher.

    Raises:
        ValueError: if EliGen has no weights for such a model.
    """
    base = model.model
    config = getattr(getattr(base, "model_config", None), "unet_config", {})
    family = FAMILIES.get(config.get("image_model"))
    # Models of other makers under FLUX.1's name give their text tokens positions.
    if family is None or config.get("txt_ids_dims"):
        raise ValueError(
            f"EliGen works on FLUX.1 and Qwen-Image models, but the model connected is {type(base).__name__} "
            f"({type(getattr(base, 'model_config', None)).__name__}). Connect one of those, with EliGen's LoRA for it; "
            "for Stable Diffusion 1.x take 'DEIG Apply to Model'."
        )
    return family


def has_lora(model, conditioning: Iterable) -> bool:
    """Tell whether a LoRA is on a model's blocks: on their weights, beside them, or as a hook of conditioning."""
    blocks = tuple(f"diffusion_model.{kind}_blocks." for kind in ("double", "single", "transformer"))
    on_weights = any(str(key).startswith(blocks) for key in model.patches)
    return bool(on_weights or model.injections or any("hooks" in options for _, options in conditioning))


def patch_model(model):
    """Return a clone of a FLUX.1 or Qwen-Image model that paints the entities of its conditioning."""
    patched = model.clone()
    if not patched.get_wrappers(WrappersMP.APPLY_MODEL, KEY):
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _take_up_entities)
        patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, _count_texts)
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _join_texts)
    return patched


def with_entities(conditioning: list, entities: Callable[[torch.Tensor], Entities]) -> list:
    """Return conditioning with entities in each entry.

    Args:
        conditioning: the host's: [prompt, options] each.
        entities: makes an entry's, given its prompt, (1, tokens, width).

    Raises:
        ValueError: if there are entities already.
    """
    return [[prompt, _with_waiting(options, prompt, entities(prompt))] for prompt, options in conditioning]


def _with_waiting(options: dict, prompt: torch.Tensor, entities: Entities) -> dict:
    conds = options.get("model_conds", {})
    if COND in conds:
        raise ValueError(
            "This conditioning already has entities from another 'EliGen Apply'. Chain all regions into one list (the "
            "'regions' input of each region node) and use one 'EliGen Apply'."
        )
    return {**options, "model_conds": {**conds, COND: WaitingEntities(entities, not prompt.any())}}


def _take_up_entities(executor, noise, *args, **kwargs):
    """OUTER_SAMPLE wrapper: give the entities of each conditioning entry to this run."""
    guider = executor.class_obj
    sampling = guider.model_patcher.get_model_object("model_sampling")
    run = Run(tuple(noise.shape[-2:]), Clock(sampling))
    for name, entries in guider.conds.items():
        guider.conds[name] = [_taken_up(entry, run) for entry in entries]
    return executor(noise, *args, **kwargs)


def _taken_up(entry: dict, run: Run) -> dict:
    waiting = entry["model_conds"].get(COND)
    if not isinstance(waiting, WaitingEntities):
        return entry
    if not waiting.zeroed and not entry["cross_attn"].any():
        raise ValueError(
            "A node between 'EliGen Apply' and the sampler zeroed a prompt that has entities (Conditioning Zero Out). "
            "Its entities would still be painted. Zero the conditioning that goes into 'EliGen Apply' instead, and "
            "connect that as the negative."
        )
    return {**entry, "model_conds": {**entry["model_conds"], COND: EntitiesCond(run, waiting.entities)}}


def _count_texts(executor, model, noise_shape, conds, *args, **kwargs):
    """PREPARE_SAMPLING wrapper: the host asks a latent's size for the memory it needs, so say a larger one."""
    taken = [entry["model_conds"].get(COND) for entries in conds.values() for entry in entries]
    more = max((sum(one.entities.lengths) for one in taken if isinstance(one, EntitiesCond)), default=0)
    if more:
        tokens = math.prod(-(-cells // TOKEN_CELLS) for cells in noise_shape[-2:])
        noise_shape = (*noise_shape[:-1], math.ceil(noise_shape[-1] * (tokens + more) / tokens))
    return executor(model, noise_shape, conds, *args, **kwargs)


def _join_texts(
    executor,
    x,
    t,
    c_concat=None,
    c_crossattn=None,
    control=None,
    transformer_options=None,
    eligen: list[EntitiesCond] | None = None,
    **kwargs,
):
    """APPLY_MODEL wrapper: put the entities that act before the prompt, and say who sees whom in this call."""
    options = transformer_options or {}
    call = ThisCall(former=options.get("optimized_attention_override"))
    chosen = _acting(eligen[0], t) if eligen else {}
    if chosen:
        sizes = [x.shape[2:], *(latent.shape[2:] for latent in kwargs.get("ref_latents") or ())]
        chosen, call.sight = _sight(eligen[0], chosen, sizes, c_crossattn.shape[1], x.device)
    if call.sight is not None:
        c_crossattn = torch.cat((*_texts(eligen, chosen, x), c_crossattn.to(x.device)), dim=1)
        if kwargs.get("attention_mask") is not None:
            kwargs["attention_mask"] = _widen_mask(kwargs["attention_mask"], call.sight.entities_length)
    options = {**options, COND: call, "optimized_attention_override": _attend}
    options = _replace_blocks(options, executor.class_obj)
    out = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    _check_attended(call)
    return out


def _acting(cond: EntitiesCond, sigmas: torch.Tensor) -> dict[int, float]:
    """Return the entities that act at the sigma being denoised, and how strongly."""
    if not cond.entities.is_timed:
        return cond.entities.strengths_at(0.0)
    each = [cond.entities.strengths_at(cond.run.clock.percent(sigma)) for sigma in set(sigmas.tolist())]
    if any(one != each[0] for one in each):
        raise ValueError(
            "A batch came to the model with different noise in its rows, at which different regions act. EliGen runs "
            "all rows of a batch with the same regions; let them start and end at 0 and 1, or sample one by one."
        )
    return each[0]


def _sight(
    cond: EntitiesCond, chosen: dict[int, float], sizes: list, prompt_length: int, device: torch.device
) -> tuple[tuple[int, ...], Sight | None]:
    """Return which entities really lie in the picture, and who sees whom.

    Args:
        cond: whose entities.
        chosen: those that act, with their strengths.
        sizes: ([frames,] height, width) of the latent, and of each reference image after it, in cells.
        prompt_length: tokens of the prompt.
        device: where the attention is computed.
    """
    run, entities = cond.run, cond.entities
    fits = run.check_shape(tuple(sizes[0][-2:]), cond.area)
    places = run.keep(
        _places, entities.regions, tuple(map(tuple, sizes)), run.latent_size, cond.area if fits else None
    )
    inside = tuple(i for i in chosen if places[0][i].any())
    if not inside:
        return (), None
    lengths = tuple(entities.lengths[i] for i in inside)
    strengths = tuple(chosen[i] for i in inside)

    def make(*_):
        return Sight(lengths, prompt_length, torch.cat(places, 1)[list(inside)], strengths, device)

    key = "sight", id(places), inside, lengths, strengths, prompt_length, device
    return inside, run.keep(make, *key)


def _places(regions, sizes, latent_size, area) -> list[torch.Tensor]:
    """Lay entities onto the tokens of each image: (N, tokens), bool."""
    (*frames, height, width), *references = sizes
    if area is None:
        cells = entity_cells(regions, (height, width))
    else:
        height, width, y, x = area
        cells = entity_cells(regions, latent_size)[:, y : y + height, x : x + width]
    images = [(cells, math.prod(frames))]
    # A reference image is whole, even where the picture is a crop.
    images += [(entity_cells(regions, size[-2:]), math.prod(size[:-2])) for size in references]
    return [entity_tokens(cells).flatten(1).repeat(1, frames) for cells, frames in images]


def _texts(conds: list[EntitiesCond], chosen: tuple[int, ...], x: torch.Tensor) -> list[torch.Tensor]:
    """Return the texts of the entities chosen, (B, tokens, width) each: the batch holds each entry's rows in order."""
    rows = len(x) // len(conds)
    return [
        torch.cat([cond.run.text(cond.entities.texts[i], x.device).expand(rows, -1, -1) for cond in conds])
        for i in chosen
    ]


def _widen_mask(mask: torch.Tensor, more: int) -> torch.Tensor:
    """Let a mask of others, (B, S, S) added to the logits or (B, text), leave the entities' tokens alone."""
    both = mask.ndim > 2 and mask.shape[-1] == mask.shape[-2]
    allowed = 0 if mask.is_floating_point() else 1
    return F.pad(mask, (more, 0, more, 0) if both else (more, 0), value=allowed)


def _replace_blocks(options: dict, base) -> dict:
    """Return transformer_options in which Qwen-Image's blocks are given the texts' own positions."""
    if not FAMILIES[base.model_config.unet_config["image_model"]].text_positions:
        return options
    replaced = options.get(PATCHES, {})
    blocks = dict(replaced.get("dit", {}))
    for number in range(len(base.diffusion_model.transformer_blocks)):
        blocks["double_block", number] = _placing_texts(blocks.get(("double_block", number)))
    return {**options, PATCHES: {**replaced, "dit": blocks}}


def _placing_texts(former: Callable | None) -> Callable:
    def block(args: dict, extra: dict) -> dict:
        args = {**args, "pe": _place_texts(args["pe"], args["transformer_options"])}
        return extra["original_block"](args) if former is None else former(args, extra)

    return block


@torch.compiler.disable
def _place_texts(pe: torch.Tensor, transformer_options: dict) -> torch.Tensor:
    call: ThisCall | None = transformer_options.get(COND)
    return pe if call is None or call.sight is None else call.place_texts(pe)


@torch.compiler.disable
def _attend(
    func,
    q,
    k,
    v,
    heads,
    mask=None,
    attn_precision=None,
    skip_reshape=False,
    skip_output_reshape=False,
    **kwargs,
):
    """The host's optimized_attention_override: attend as this call's sight says, or as without us."""
    call: ThisCall = kwargs["transformer_options"].get(COND) or ThisCall()
    inner = func if call.former is None else (lambda *args, **kw: call.former(func, *args, **kw))
    given = {"attn_precision": attn_precision, **kwargs}
    length = q.shape[-2]
    joint = call.sight is not None and length == k.shape[-2] == call.sight.length
    if not joint:
        if call.sight is not None and length == k.shape[-2]:
            call.other_length = length
        shapes = {"skip_reshape": skip_reshape, "skip_output_reshape": skip_output_reshape}
        return inner(q, k, v, heads, mask=mask, **shapes, **given)
    call.attended = True
    if not skip_reshape:
        q, k, v = (rearrange(t, "b s (heads d) -> b heads s d", heads=heads) for t in (q, k, v))
    plain = call.former is None and mask is None and func.__name__ in EXACT
    plain = plain and not set(kwargs) - {"transformer_options", "_inside_attn_wrapper"}
    tell = telling_attention(q, k, v) if plain else None
    if tell is not None:
        out = attend_in_parts(tell, q, k, v, call.sight)
    else:
        out = attend_by_groups(_of_host(inner, heads, given), q, k, v, call.sight, _with_heads(mask))
    return out if skip_output_reshape else rearrange(out, "b heads s d -> b s (heads d)")


def _of_host(inner: Callable, heads: int, given: dict) -> Callable:
    def attend(q, k, v, bias):
        return inner(q, k, v, heads, mask=bias, skip_reshape=True, skip_output_reshape=True, **given)

    return attend


def _with_heads(mask: torch.Tensor | None) -> torch.Tensor | None:
    """Return a mask, (S, S), (B, Q, S) or (B, heads, Q, S), as the host reads it, with a dimension of heads."""
    return mask[:, None] if mask is not None and mask.ndim == 3 else mask


def _check_attended(call: ThisCall):
    """Refuse a call in which all tokens together were others than the texts and images that we know of."""
    if call.sight is not None and not call.attended and call.other_length is not None:
        raise ValueError(
            f"The model attended over {call.other_length} tokens where EliGen expected {call.sight.length}: texts and "
            "image. Another node adds tokens of its own to the model's, so it cannot be told which of them may see an "
            "entity. Take that node (an image adapter that works by tokens, or a token merger) out of the model's line."
        )
