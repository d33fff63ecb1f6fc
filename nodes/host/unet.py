"""The one file that knows how the host samples: it puts DEIG into a model's denoising, through public hooks.

What belongs to whom. An instance list belongs to a conditioning entry: positive entries have it, negative ones
have none (for DEIG the fusers run without instances there, for InstanceDiffusion with null tokens). So each entry
carries a `GroundedCond` among its `model_conds`; the host hands it back, in the order of the batch's chunks, with
the call of the model that these entries take part in, however it split, joined or cropped them. All state lives in
these objects, made anew for each run.

    OUTER_SAMPLE wrapper    gives every entry its GroundedCond
    APPLY_MODEL wrapper     reads sigma, computes tokens, puts them into this call's transformer_options
    middle_patch            runs a block's fuser between self- and cross-attention
    output_block_patch      ScaleU, for InstanceDiffusion: a patch of the model, for all rows and at all steps
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING

import comfy.model_base
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.patcher_extension import WrappersMP
from einops import repeat

from ...deig_core.deig.adapter import Adapter
from ...deig_core.deig.grounding import Grounding, InstancesOnLatent, check_width
from ...deig_core.fusion.attention_record import AttentionRecord, Watched
from ...deig_core.fusion.fusers import block_id
from ...deig_core.fusion.grounding import CallGrounding, GroundedRows
from ...deig_core.fusion.instances import EncodedText
from ...deig_core.fusion.schedule import Schedule
from ...deig_core.instance_diffusion.adapter import InstanceDiffusionAdapter
from ...deig_core.instance_diffusion.grounding import InstanceGrounding, TokenRows, TokensOnLatent
from ...deig_core.instance_diffusion.scale_u import ScaleUFactors
from .clock import Clock

if TYPE_CHECKING:
    from .attention import AttentionRecording

KEY = "DEIG"
COND = "deig"  # the name under which the host hands a GroundedCond back
CONTEXT_WIDTH = 768  # of SD1.x' cross-attention

WHOLE = None  # a member of a run that is the picture with all its instances

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Run:
    """One sampling run of a patched model.

    Args:
        grounding: the instances.
        schedule: when they act.
        latent_size: (height, width) of the latent, in cells.
        model_sampling: the host's, which knows what a sigma means.
        members: what the latents of a batch are, in equal parts: the whole picture, or one instance alone.
        contexts: (N, S, context_width), each phrase as CLIP's prompt, for instances that are denoised alone; None:
            they keep the prompt of the whole.
        record: of what the picture attends to; None: nobody asks.
    """

    grounding: Grounding | InstanceGrounding
    schedule: Schedule
    latent_size: tuple[int, int]
    model_sampling: torch.nn.Module
    members: tuple[int | None, ...] = (WHOLE,)
    contexts: torch.Tensor | None = None
    record: AttentionRecord | None = None
    _warned: bool = False

    @cached_property
    def on_latent(self) -> InstancesOnLatent | TokensOnLatent:
        """The instances on this run's latent, with what is kept of them from step to step."""
        return self.grounding.on_latent(self.latent_size)

    @cached_property
    def is_timed(self) -> bool:
        """Whether it makes a difference how far the schedule is: something begins, ends or decays within it."""
        acting = (self.schedule, *self.grounding.regions, *([self.record.settings] if self.record else []))
        return self.schedule.decay_percent > 0 or any(
            (one.start_percent, one.end_percent) != (0, 1) for one in acting
        )

    @cached_property
    def _clock(self) -> Clock:
        return Clock(self.model_sampling)

    def percent(self, sigma: float) -> float:
        """Return the point of the schedule, 0 to 1, that a sigma stands for; where the run is not timed, always 0."""
        return self._clock.percent(sigma) if self.is_timed else 0.0

    def check_shape(self, size: tuple[int, int], area: tuple[int, ...] | None):
        """Warn, once a run, when the model is called with another size than the entry's place has."""
        expected = self.latent_size if area is None else area[:2]
        if tuple(size) != tuple(expected) and not self._warned:
            self._warned = True
            log.warning(
                "DEIG: the model is run on a latent of %dx%d instead of %dx%d. Something tiles the picture and "
                "does not say where each tile lies, so regions are laid over each tile as if it were the whole.",
                *reversed(size),
                *reversed(expected),
            )


@dataclass(frozen=True, eq=False)
class GroundedCond:
    """What DEIG adds to a conditioning entry; the host treats it like any other of its conds.

    Args:
        run: the run it belongs to.
        grounded: whether the entry has the run's instances (positive) or none (negative).
        prompt: a T5 prompt that stands in for the entry's own context, if it has one.
        area: the crop, (height, width, y, x) in cells, that the entry is denoised on; None: the whole.
    """

    run: Run
    grounded: bool
    prompt: EncodedText | None
    area: tuple[int, ...] | None = None

    def process_cond(self, batch_size: int, area=None, **kwargs) -> "GroundedCond":
        return replace(self, area=None if area is None else tuple(area))

    def can_concat(self, other) -> bool:
        # A T5 prompt's few tokens and CLIP's 77 cannot share a batch.
        return isinstance(other, GroundedCond) and (self.prompt is None) == (other.prompt is None)

    def concat(self, others) -> list["GroundedCond"]:
        return [self, *others]

    def size(self) -> list[int]:
        return [1]


@dataclass(frozen=True, eq=False)
class PromptCond:
    """A T5 prompt in a conditioning entry, until a run of a patched model takes it up.

    A model without DEIG cannot read it. The host asks every cond to prepare itself before the model is called,
    and this one answers by saying what to connect.

    Args:
        prompt: the T5 prompt.
        context: the conditioning's own tensor, by which a node that changed it since is noticed.
    """

    prompt: EncodedText
    context: torch.Tensor

    def process_cond(self, **kwargs):
        raise ValueError(
            "This conditioning holds a T5 prompt of 'DEIG Encode Prompt', but the model that samples it has no "
            "DEIG. Connect the MODEL output of 'DEIG Apply to Model' to the sampler. (If it is connected, a node "
            "computes this conditioning past the sampler: instead of Perp-Neg take PerpNegGuider.)"
        )


def patch_model(
    model,
    adapter_patcher,
    grounding: Grounding | InstanceGrounding,
    schedule: Schedule,
    scale_u: bool = True,
):
    """Return a clone of a model that paints a grounding's instances.

    Args:
        model: the host's ModelPatcher of an SD1.x model.
        adapter_patcher: the host's ModelPatcher of the grounding's adapter.
        grounding: the instances.
        schedule: when they act, and how strongly.
        scale_u: whether ScaleU acts, where the adapter has it; the schedule does not change that.

    Raises:
        ValueError: if the model is not SD1.x, does not have the blocks that the adapter's fusers are for, or has
            DEIG already.
    """
    check_model(model, grounding.adapter)
    patched = model.clone()
    if scale_u and isinstance(grounding, InstanceGrounding):
        _add_scale_u(patched, grounding.adapter.scale_u.factors())
    patched.add_wrapper_with_key(
        WrappersMP.OUTER_SAMPLE, KEY, partial(_ground_entries, grounding=grounding, schedule=schedule)
    )
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _ground_call)
    patched.set_model_patch(_fuse, "middle_patch")
    patched.set_additional_models(KEY, [adapter_patcher])
    return patched


def _add_scale_u(patched, factors: ScaleUFactors):
    """Put ScaleU before all other patches of what enters the decoder's blocks, whichever was there first.

    It belongs to the model as it was trained, and patches like FreeU's measure what the model gives them.
    """

    # A closure, since a clone copies instances with their tensors.
    @torch.compiler.disable
    def scale(h: torch.Tensor, skip: torch.Tensor, transformer_options: dict):
        section, number = transformer_options["block"]
        return factors.scale(h, skip, number) if section == "output" else (h, skip)

    patched.set_model_output_block_patch(scale)
    patches = patched.model_options["transformer_options"]["patches"]
    *others, own = patches["output_block_patch"]
    patches["output_block_patch"] = [own, *others]


def check_model(model, adapter: Adapter | InstanceDiffusionAdapter):
    """Refuse a model that the adapter cannot patch; see `patch_model`."""
    base = model.model
    config = getattr(getattr(base, "model_config", None), "unet_config", {})
    is_sd1 = config.get("context_dim") == CONTEXT_WIDTH and not config.get("use_linear_in_transformer", False)
    if not is_sd1:
        raise ValueError(
            f"DEIG works on Stable Diffusion 1.x models, but the model connected is {type(base).__name__} "
            f"({type(getattr(base, 'model_config', None)).__name__}). Connect an SD1.x checkpoint to 'DEIG Apply to "
            "Model'."
        )
    if model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        raise ValueError(
            "This model already has DEIG applied, and a second one would fuse every instance twice. Chain all "
            "regions into one list (the 'regions' input of each region node) and use one 'DEIG Apply to Model'."
        )
    blocks = {
        block_id(name): block.attn1.to_q.in_features
        for name, block in base.diffusion_model.named_modules()
        if isinstance(block, BasicTransformerBlock)
    }
    fusers = {block_id(path): width for path, width, _ in adapter.sizes.fusers}
    if blocks != fusers:
        raise ValueError(
            "The adapter's fusers do not fit the model's transformer blocks. Only in the adapter: "
            f"{_list_blocks(fusers, blocks)}; only in the model: {_list_blocks(blocks, fusers)}. Load an adapter "
            "made for this kind of model; the released one fits every model with the full SD1.x UNet."
        )


def _list_blocks(blocks: dict, others: dict) -> str:
    only_here = [(block, width) for block, width in blocks.items() if others.get(block) != width]
    return ", ".join(f"{'.'.join(map(str, block))} ({width} wide)" for block, width in only_here) or "none"


def _ground_entries(
    executor,
    noise,
    *args,
    grounding: Grounding | InstanceGrounding,
    schedule: Schedule,
    recording: "AttentionRecording | None" = None,
    **kwargs,
):
    """OUTER_SAMPLE wrapper: give each conditioning entry of this run its GroundedCond."""
    guider = executor.class_obj
    if any("gligen" in entry for entries in guider.conds.values() for entry in entries):
        log.warning(
            "DEIG: this conditioning has GLIGEN too. The fusers of both will run, GLIGEN's after DEIG's, and positives "
            "and negatives are computed separately, which takes longer."
        )
    run = Run(
        grounding,
        schedule,
        tuple(noise.shape[-2:]),
        guider.model_patcher.get_model_object("model_sampling"),
        contexts=grounding.text.contexts if isinstance(grounding, InstanceGrounding) else None,
    )
    for name, entries in guider.conds.items():
        guider.conds[name] = [_with_cond(entry, run, "negative" not in name) for entry in entries]
    if recording is None:
        return executor(noise, *args, **kwargs)
    run.record = recording.begin(grounding, run.latent_size, len(noise))
    samples = executor(noise, *args, **kwargs)
    recording.keep(run.record, samples)
    return samples


def _with_cond(entry: dict, run: Run, grounded: bool) -> dict:
    waiting = entry["model_conds"].get(COND)
    prompt = waiting.prompt if isinstance(waiting, PromptCond) else None
    if prompt is not None:
        _check_prompt(prompt, run.grounding)
        _check_unchanged(waiting.context, entry["cross_attn"])
    return {**entry, "model_conds": {**entry["model_conds"], COND: GroundedCond(run, grounded, prompt)}}


def _check_prompt(prompt: EncodedText, grounding: Grounding | InstanceGrounding):
    if isinstance(grounding, InstanceGrounding):
        raise ValueError(
            "This conditioning holds a T5 prompt of 'DEIG Encode Prompt', but the model that samples it has "
            "InstanceDiffusion, which takes prompts from CLIP. Connect 'CLIP Text Encode' to the sampler instead."
        )
    check_width(grounding.refiner.adapter, prompt)
    encoder = grounding.instances.text.encoder
    if prompt.encoder != encoder:
        raise ValueError(
            f"The prompt was encoded by the text encoder '{prompt.encoder}', the regions by '{encoder}'. Connect "
            "the same 'DEIG Load Text Encoder' to 'DEIG Encode Prompt' and 'DEIG Encode Regions'."
        )


def _check_unchanged(context: torch.Tensor, found: torch.Tensor):
    """Refuse a T5 prompt whose conditioning was zeroed, averaged or joined: the prompt would not follow."""
    if found.shape != context.shape or not torch.equal(found, context):
        raise ValueError(
            "A node between 'DEIG Encode Prompt' and the sampler changed the conditioning's tensor (Conditioning Zero "
            "Out, Average or Concat), which a T5 prompt cannot follow. For an empty prompt use 'DEIG Encode Prompt' "
            "with an empty text; to change CLIP conditioning do so before 'DEIG Encode Prompt'; to join two prompts "
            "use Conditioning Combine."
        )


@dataclass(eq=False)
class ThisCall:
    """What a block finds in transformer_options: what the fusers need in this call, or None where none runs.

    It is there in every call, and `_fuse` reads it uncompiled: the host lets a compiled model take its first call's
    transformer_options for granted, keys and values.
    """

    grounding: CallGrounding | None


def _ground_call(
    executor,
    x,
    t,
    c_concat=None,
    c_crossattn=None,
    control=None,
    transformer_options=None,
    deig: list[GroundedCond] | None = None,
    **kwargs,
):
    """APPLY_MODEL wrapper: compute what this call's rows need, for the sigma that is being denoised."""
    call = None
    if deig is not None:
        # In one piece, because each look at a value waits for the device.
        times = torch.stack((t, executor.class_obj.model_sampling.timestep(t).to(t))).tolist()
        stretches = list(_stretches(deig, *times))
        compute = x.device, ide_dtype(executor.class_obj)
        if deig[0].prompt is not None:
            c_crossattn = torch.cat([stretch.context(*compute) for stretch in stretches])
        elif any(stretch.has_own_prompt for stretch in stretches):
            rows = c_crossattn.split([stretch.rows for stretch in stretches])
            c_crossattn = torch.cat(
                [stretch.own_prompt(part) for stretch, part in zip(stretches, rows, strict=True)]
            )
        groups = [stretch.instances(tuple(x.shape[-2:]), *compute) for stretch in stretches]
        if any(group.strength for group in groups):
            run = deig[0].run
            watched = () if run.record is None else [stretch.watched() for stretch in stretches]
            call = CallGrounding(run.grounding.adapter, groups, watched)
    transformer_options = {**(transformer_options or {}), COND: ThisCall(call)}
    return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


def ide_dtype(model: comfy.model_base.BaseModel) -> torch.dtype:
    """Compute the IDE in bfloat16 for models that do, else in float32.

    Its squared ReLU can leave float16's range, and its share of the work is small and done once a timestep.
    """
    dtype = model.manual_cast_dtype or model.get_dtype()
    return torch.bfloat16 if dtype == torch.bfloat16 else torch.float32


@dataclass(frozen=True, eq=False)
class Stretch:
    """Rows of one call of the model that share everything: entry, instances and sigma.

    Args:
        cond: the entry's.
        rows: how many.
        sigma: what is being denoised, and `timestep` what the model takes it for.
        member: the one instance that these rows denoise alone, or WHOLE.
        first: the number of the picture that the first row denoises.
    """

    cond: GroundedCond
    rows: int
    sigma: float
    timestep: float
    member: int | None
    first: int = 0

    def context(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Return the T5 prompt's tokens; an instance that is denoised alone has its phrase as the prompt."""
        member = self.member if self.cond.grounded else None
        tokens = self.cond.run.on_latent.prompt(self.cond.prompt, member, self.timestep, device, dtype)
        return repeat(tokens, "1 tokens width -> rows tokens width", rows=self.rows)

    @property
    def has_own_prompt(self) -> bool:
        """Whether these rows take an instance's phrase, as CLIP read it, in place of the prompt."""
        return self.cond.grounded and self.member is not WHOLE and self.cond.run.contexts is not None

    def own_prompt(self, context: torch.Tensor) -> torch.Tensor:
        """Return what cross-attention takes for these rows, (rows, S, width), as long as that of the whole batch.

        A phrase's tokens are written out as often as that takes, which changes nothing of what attention gives.
        """
        if not self.has_own_prompt:
            return context
        own = self.cond.run.contexts[self.member].to(context)
        times, rest = divmod(context.shape[1], len(own))
        if rest:
            raise ValueError(
                f"The prompt is {context.shape[1]} tokens long and the phrases of the instances {len(own)}, which "
                "cannot share a batch. Multi-instance sampling takes prompts of 'CLIP Text Encode'."
            )
        return repeat(own, "s width -> rows (times s) width", rows=self.rows, times=times)

    def instances(
        self, size: tuple[int, int], device: torch.device, dtype: torch.dtype
    ) -> GroundedRows | TokenRows:
        """Return what the fusers need for these rows."""
        run = self.cond.run
        percent = run.percent(self.sigma)
        active = run.grounding.active(percent)
        strength = run.schedule.strength_at(percent) if run.grounding.acts(active) else 0.0
        if strength == 0 or not self.cond.grounded:
            chosen = None
        else:
            run.check_shape(size, self.cond.area)
            chosen = active if self.member is WHOLE else tuple({self.member} & set(active))
        return run.on_latent.rows(self.rows, strength, chosen, self.cond.area, self.timestep, device, dtype)

    def watched(self) -> Watched | None:
        """Return where these rows' attention is recorded: that of the whole picture, at the times asked for."""
        run = self.cond.run
        if (
            not self.cond.grounded
            or self.member is not WHOLE
            or not run.record.watches(run.percent(self.sigma))
        ):
            return None
        return Watched(run.record, self.first, self.cond.area)


def _stretches(conds: list[GroundedCond], sigmas: list[float], timesteps: list[float]) -> Iterator[Stretch]:
    """Split a batch, which holds each entry's rows in order, and within them those of each member."""
    members = [(cond, member) for cond in conds for member in cond.run.members]
    count = len(sigmas) // len(members)
    for number, (cond, member) in enumerate(members):
        own = slice(number * count, (number + 1) * count)
        first = 0
        for (sigma, timestep), group in groupby(zip(sigmas[own], timesteps[own], strict=True)):
            rows = len(list(group))
            yield Stretch(cond, rows, sigma, timestep, member, first)
            first += rows


@torch.compiler.disable
def _fuse(x: torch.Tensor, extra_options: dict) -> torch.Tensor:
    """middle_patch: run the block's fuser on its image tokens."""
    # Whoever runs the UNet past `apply_model` comes here without a call of ours.
    call: ThisCall | None = extra_options.get(COND)
    if call is None or call.grounding is None:
        return x
    block = (*extra_options["block"], extra_options["block_index"])
    return call.grounding.fuse(x, block, tuple(extra_options["activations_shape"][-2:]))
