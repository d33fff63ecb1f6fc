"""The node that samples as DEIG's authors do."""

from comfy_api.latest import io

from ..deig_core.deig.paper import counted_schedule
from .host.clock import Clock
from .host.paper import PaperNoise, PaperSampler, paper_sigmas
from .types import CATEGORY, FRACTION, also_found_as


class PaperSampling(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_PaperSampling",
            display_name="DEIG Paper Sampling",
            category=CATEGORY,
            **also_found_as("reproduce", "sampler", "sigmas", "scheduler", "euler", "alpha", "benchmark"),
            description="Samples exactly as DEIG's authors do, for the host's SamplerCustomAdvanced: their timesteps, "
            "their noise, their last step and their alpha. For comparing with the paper; for painting the host's "
            "euler on ddim_uniform is as good.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The SD1.x checkpoint that is sampled, with or without DEIG."
                ),
                io.Int.Input(
                    "steps",
                    default=40,
                    min=2,
                    max=500,
                    tooltip="Steps as the authors' scripts ask for them: 40 in their examples and for MIG-Bench, 30 "
                    "for DEIG-Bench. Steps lie a whole number of timesteps apart, so that a few more may be taken: 30 "
                    "takes 31, which the progress bar shows. Few numbers do not work, and the nearest is named.",
                ),
                io.Float.Input(
                    "alpha_full",
                    default=1.0,
                    **FRACTION,
                    tooltip="For which part of the steps DEIG acts in full: the first number of the authors' "
                    "alpha_type, counted in whole steps. 1: all of them, as in all of their examples; 0: none.",
                ),
                io.Float.Input(
                    "alpha_decay",
                    default=0.0,
                    **FRACTION,
                    tooltip="For which part of the steps after that DEIG falls to 0: the second number of alpha_type. "
                    "What is left of the steps, the third number, is without DEIG. 0: it ends at once; 1: it falls "
                    "from the first step to the last.",
                ),
                io.Int.Input(
                    "noise_seed",
                    default=42,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the noise, which is drawn as an NVIDIA card draws it, as the authors' is: 42 "
                    "in their examples and for DEIG-Bench, 123 for MIG-Bench, the same noise for every picture.",
                ),
            ],
            outputs=[
                io.Noise.Output(
                    display_name="noise",
                    tooltip="For 'SamplerCustomAdvanced': the authors' noise. 'RandomNoise' works too, and gives "
                    "ComfyUI's.",
                ),
                io.Sampler.Output(display_name="sampler", tooltip="For 'SamplerCustomAdvanced'."),
                io.Sigmas.Output(
                    display_name="sigmas",
                    tooltip="For 'SamplerCustomAdvanced': the authors' timesteps, the last one 0.",
                ),
                io.Float.Output(
                    id="end_percent",
                    display_name="end_percent",
                    tooltip="For the input of that name of 'DEIG Apply to Model', where alpha is not 1 all along.",
                ),
                io.Float.Output(
                    id="decay_percent",
                    display_name="decay_percent",
                    tooltip="For the input of that name of 'DEIG Apply to Model', where alpha is not 1 all along.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, steps, alpha_full, alpha_decay, noise_seed):
        sigmas = paper_sigmas(model, steps)
        # As the patch itself will ask where a step lies, so that "off" is off to the bit.
        clock = Clock(model.get_model_object("model_sampling"))
        percents = [clock.percent(sigma) for sigma in sigmas[:-1].tolist()]
        end_percent, decay_percent = counted_schedule(percents, alpha_full, alpha_decay)
        return io.NodeOutput(PaperNoise(noise_seed), PaperSampler(sigmas), sigmas, end_percent, decay_percent)


NODES = [PaperSampling]
