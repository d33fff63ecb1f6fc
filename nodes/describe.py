"""The node that describes what a picture has in each region, with a language model that sees."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from comfy_api.latest import io

from ..deig_core.regions.describe import INSTRUCTION, asked, crop_of, tidied, why_not
from ..deig_core.regions.region import Region, Regions
from .types import CATEGORY, RegionsType, also_found_as

log = logging.getLogger(__name__)

MOST_KEPT = 1000  # descriptions of each model
_kept: WeakKeyDictionary = WeakKeyDictionary()  # model -> OrderedDict of description by crop and question

WHAT_TO_LOAD = (
    "Load a vision language model with CLIP Loader, as for the host's Generate Text: Qwen3-VL, Qwen3.5 or Gemma, for "
    "example."
)


@dataclass(frozen=True)
class Describer:
    """A language model and how it is asked.

    Args:
        clip: the host's CLIP.
        instruction: what is asked of each crop; `{label}` stands for the region's phrase.
        margin: around each box, as a fraction of its side.
        max_length: of an answer, in the model's own tokens.
        seed: of the second try, which draws at random; the first takes the likeliest words.
    """

    clip: object
    instruction: str
    margin: float
    max_length: int
    seed: int

    def describe(self, region: Region, image: torch.Tensor, place: str) -> Region:
        """Return the region with what the picture (1, H, W, 3) has there as its phrase; its place stays."""
        left, top, right, bottom = crop_of(region, image.shape[2], image.shape[1], self.margin)
        crop = image[:, top:bottom, left:right, :3].contiguous()
        return replace(region, phrase=self._phrase(crop, region, place))

    def _phrase(self, crop: torch.Tensor, region: Region, place: str) -> str:
        reasons = []
        for again in (False, True):
            answer = self._answer(crop, asked(self.instruction, region, again), again)
            phrase = tidied(answer)
            reason = why_not(phrase, count_t5_tokens(phrase))
            if not reason:
                return phrase
            reasons.append(f"{answer.strip()[:200]!r}: {reason}")
        raise ValueError(
            f"{place} ({region.phrase!r}) could not be described. The model answered {reasons[0]}; and asked again, "
            f"{reasons[1]}. Change the instruction, take a larger model, or write that phrase yourself. What was "
            "described before is kept, and not asked again."
        )

    def _answer(self, crop: torch.Tensor, question: str, again: bool) -> str:
        kept = _kept.setdefault(self.clip.cond_stage_model, OrderedDict())
        key = (
            _digest(crop),
            question,
            self.max_length,
            self.seed if again else None,
            self.clip.patcher.patches_uuid,
        )
        if key not in kept:
            kept[key] = self._generate(crop, question, again)
            if len(kept) > MOST_KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    def _generate(self, crop: torch.Tensor, question: str, again: bool) -> str:
        tokens = self.clip.tokenize(question, image=crop, min_length=1, thinking=False)
        if not _has_picture(tokens):
            raise ValueError(f"This language model reads words but no pictures. {WHAT_TO_LOAD}")
        # The second try draws at random: the likeliest words were no good.
        drawn = {
            "do_sample": True,
            "temperature": 0.7,
            "top_k": 64,
            "top_p": 0.95,
            "min_p": 0.05,
            "seed": self.seed,
        }
        ids = self.clip.generate(
            tokens, max_length=self.max_length, **(drawn if again else {"do_sample": False})
        )
        return self.clip.decode(ids)


def _digest(crop: torch.Tensor) -> str:
    values = crop.float().cpu().numpy()
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()


def _has_picture(tokens: dict) -> bool:
    return any(
        isinstance(token[0], dict) and token[0].get("type") == "image"
        for batches in tokens.values()
        for batch in batches
        for token in batch
    )


def check_generates(clip):
    """Refuse a CLIP that cannot generate text, saying what to load."""
    if not hasattr(clip, "generate"):
        raise ValueError(
            "This ComfyUI cannot generate text: DEIG Describe Regions needs 0.33 or later. Update it."
        )
    model = clip.cond_stage_model
    inner = getattr(model, getattr(model, "clip", None) or "", model)
    if hasattr(getattr(inner, "transformer", None), "generate") or _has_generate_of_its_own(model):
        return
    raise ValueError(
        f"The CLIP that is connected ({type(model).__name__}) encodes prompts but cannot write text. {WHAT_TO_LOAD}"
    )


def _has_generate_of_its_own(model) -> bool:
    from comfy.sd1_clip import SD1ClipModel

    own = getattr(type(model), "generate", None)
    return own is not None and own is not getattr(SD1ClipModel, "generate", None)


@cache
def _t5_tokenizer():
    import comfy.text_encoders
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(comfy.text_encoders.__path__[0]) / "t5_tokenizer" / "tokenizer.json"))


def count_t5_tokens(phrase: str) -> int:
    """How many tokens T5 makes of a phrase, its end included."""
    return len(_t5_tokenizer().encode(phrase).ids)


def describe_regions(
    describer: Describer, image: torch.Tensor, regions: Regions, between: Callable[[int], None]
) -> Regions:
    """Describe regions one by one; `between` is told how many are done, before each and at the end."""
    described = []
    for index, region in enumerate(regions):
        between(index)
        described.append(describer.describe(region, image, f"Region {index + 1}"))
    between(len(regions))
    return tuple(described)


class DescribeRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_DescribeRegions",
            display_name="DEIG Describe Regions",
            category=CATEGORY,
            **also_found_as("caption", "vision language model", "VLM", "image to prompt", "interrogate"),
            description="Describes what a picture has in each region, one cut-out at a time, with a vision language "
            "model: plain labels become the rich phrases that DEIG was trained with. Needs ComfyUI 0.33 or later.",
            inputs=[
                io.Image.Input("image", tooltip="The picture that the regions lie in; one."),
                RegionsType.Input(
                    "regions",
                    tooltip="Where to look. Their phrases may be plain labels: they are told to the model as what the "
                    "thing is said to be.",
                ),
                io.Clip.Input(
                    "clip",
                    tooltip="A vision language model that can write, loaded as for the host's Generate Text: Qwen3-VL, "
                    "Qwen3.5 or Gemma.",
                ),
                io.String.Input(
                    "instruction",
                    default=INSTRUCTION,
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip="What the model is asked of each cut-out. {label} stands for what the region's phrase "
                    "says. It should ask for one phrase of at most about 90 words: T5 reads 128 tokens.",
                ),
                io.Float.Input(
                    "margin",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the surroundings is cut out with each box, on each side, as a fraction of the "
                    "box's own side. 0: none; 1: the cut-out is three times as wide and high.",
                ),
                io.Int.Input(
                    "max_length",
                    default=192,
                    min=16,
                    max=1024,
                    tooltip="The longest answer, in the model's own tokens. Too short cuts descriptions off; too long "
                    "only costs time where the model does not stop by itself.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the second try. The first takes the likeliest words; if that answer is empty, a "
                    "refusal or too long, the model is asked once more and draws its words by this seed.",
                ),
            ],
            outputs=[
                RegionsType.Output(
                    display_name="regions", tooltip="The same places, with what was seen there as phrases."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What each region was said to be, and its description.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, regions, clip, instruction, margin, max_length, seed):
        import comfy.model_management
        import comfy.utils

        if len(image) != 1:
            raise ValueError(
                f"{len(image)} pictures came in, but regions lie in one. Choose one of the batch."
            )
        if not instruction.strip():
            raise ValueError("The instruction is empty: say what the model should describe.")
        check_generates(clip)
        bar = comfy.utils.ProgressBar(len(regions))

        def between(done: int):
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, len(regions))

        describer = Describer(clip, instruction, margin, max_length, seed)
        described = describe_regions(describer, image, regions, between)
        lines = [f"{old.phrase} -> {new.phrase}" for old, new in zip(regions, described, strict=True)]
        return io.NodeOutput(described, "\n".join(lines))


NODES = [DescribeRegions]
