"""The node that lets instances take shape apart from each other (InstanceDiffusion's Multi-instance Sampler)."""

from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io

from ..deig_core.deig.grounding import Grounding
from .host.clip import read_phrases
from .host.multi_instance import APART, apart_sampler
from .host.unet import KEY
from .types import CATEGORY, also_found_as


class MultiInstanceSampling(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_MultiInstanceSampling",
            display_name="DEIG Multi-Instance Sampling",
            category=CATEGORY,
            **also_found_as("multi-instance sampler", "InstanceDiffusion", "instance", "leakage"),
            description="Denoises every instance by itself for the first steps, beside the whole picture, then makes "
            "one picture of them and goes on. Instances mix less. It takes longer: for N instances N x percent "
            "of the steps come on top.",
            inputs=[
                io.Model.Input("model", tooltip="From 'DEIG Apply to Model'."),
                io.Float.Input(
                    "percent",
                    default=0.36,
                    min=0.0,
                    max=0.6,
                    step=0.01,
                    round=0.0001,
                    tooltip="For how much of the steps instances are denoised apart. 0: not at all, as if this node "
                    "were not there; 0.36: as published; more: they mix less, and fit together less. Costs N x percent "
                    "more time for N instances.",
                ),
                io.Combo.Input(
                    "merge",
                    options=["average", "place"],
                    default="average",
                    tooltip="How the latents become one. average: the mean of all of them everywhere, as published. "
                    "place: the mean of its own and the whole's inside an instance's place, and the whole's elsewhere, "
                    "which keeps the background sharper.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Reads every phrase as the prompt of its instance while that is denoised alone, where the "
                    "prompt of the whole comes from CLIP. Without it DEIG's instances keep the prompt of the whole. "
                    "InstanceDiffusion has its phrases read already and T5 prompts read them themselves: there it "
                    "does nothing.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="patched",
                    display_name="model",
                    tooltip="The model, for a sampler. The one that came in is unchanged.",
                )
            ],
        )

    @classmethod
    def execute(cls, model, percent, merge, clip=None):
        wrappers = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
        if not wrappers:
            raise ValueError(
                "This model has no DEIG, so there are no instances to denoise apart. Connect the MODEL output of "
                "'DEIG Apply to Model' here."
            )
        patched = model.clone()
        patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, APART)  # a second one replaces the first
        if percent > 0:
            grounding = wrappers[0].keywords["grounding"]
            contexts = None
            if clip is not None and isinstance(grounding, Grounding):
                contexts = read_phrases(clip, tuple(region.phrase for region in grounding.regions)).contexts
            sampler = apart_sampler(percent, merge, contexts)
            patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, APART, sampler)
        return io.NodeOutput(patched)


NODES = [MultiInstanceSampling]
