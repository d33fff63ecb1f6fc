"""The graph that paints one entry, in ComfyUI's API form."""

from deig_core.regions.layouts import Layout, write_layout
from demo.graph import Prompt, node

from .protocol import PAPER, Sampling

PICTURE = "picture"
DEIG_WAY, OFF, PLAIN, INSTANCE_DIFFUSION = "deig", "off", "plain", "instancediffusion"
WAYS = {
    DEIG_WAY: "DEIG; the prompts go through T5 and the Instance Detail Extractor",
    OFF: "the same graph with strength 0: the same prompts, and no fuser runs",
    PLAIN: "the checkpoint alone, with its own CLIP; nobody tells it of the instances",
    INSTANCE_DIFFUSION: "InstanceDiffusion, its fusers for the first three quarters of the schedule, as released",
}
DEIG_WAYS = (DEIG_WAY, OFF)
GROUNDED = (DEIG_WAY, OFF, INSTANCE_DIFFUSION)  # these need an adapter
# InstanceDiffusion's released alpha: full strength for 0.75 of the steps, then none.
ENDS = {INSTANCE_DIFFUSION: 0.75}


def graph_of(way: str, models: tuple[str, str, str], sampling: Sampling, layout: Layout, seed: int) -> Prompt:
    """Return the graph; its one output node is `PICTURE`, which leaves nothing in the server's output folder.

    Args:
        way: one of `WAYS`.
        models: names of checkpoint, adapter and text encoder on the server.
        layout: regions, and the prompt as it stands.
        seed: of the noise.
    """
    graph = _sampled(models[0], sampling, seed)
    if way in DEIG_WAYS:
        graph |= _deig_prompts(models[2], layout.prompt, sampling.negative)
    else:
        graph |= _clip_prompts(layout.prompt, sampling.negative)
    if way in GROUNDED:
        reader = ["encoder", 0] if way in DEIG_WAYS else ["checkpoint", 1]
        graph |= _grounded(models[1], reader, layout, sampling.size)
        graph["model"] = node(
            "DEIG_ApplyToModel",
            model=["checkpoint", 0],
            grounding=["grounding", 0],
            strength=0.0 if way == OFF else 1.0,
            start_percent=0.0,
            end_percent=ENDS.get(way, 1.0),
            decay_percent=0.0,
        )
        graph["guider" if "guider" in graph else "sampler"]["inputs"]["model"] = ["model", 0]
    return graph


def _sampled(checkpoint: str, sampling: Sampling, seed: int) -> Prompt:
    """From the checkpoint to the picture."""
    sampled = _by_paper if sampling.sampler == PAPER else _by_host
    return sampled(sampling, seed) | {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "latent": node("EmptyLatentImage", width=sampling.size, height=sampling.size, batch_size=1),
        "image": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        PICTURE: node("PreviewImage", images=["image", 0]),
    }


PROMPTS = {"positive": ["positive", 0], "negative": ["negative", 0]}


def _by_host(sampling: Sampling, seed: int) -> Prompt:
    sampler = node(
        "KSampler",
        model=["checkpoint", 0],
        **PROMPTS,
        latent_image=["latent", 0],
        seed=seed,
        steps=sampling.steps,
        cfg=sampling.guidance,
        sampler_name=sampling.sampler,
        scheduler=sampling.scheduler,
        denoise=1.0,
    )
    return {"sampler": sampler}


def _by_paper(sampling: Sampling, seed: int) -> Prompt:
    """As the authors sample: their timesteps, noise and end."""
    return {
        "paper": node(
            "DEIG_PaperSampling",
            model=["checkpoint", 0],
            steps=sampling.steps,
            alpha_full=1.0,
            alpha_decay=0.0,
            noise_seed=seed,
        ),
        "guider": node("CFGGuider", model=["checkpoint", 0], **PROMPTS, cfg=sampling.guidance),
        "sampler": node(
            "SamplerCustomAdvanced",
            noise=["paper", 0],
            guider=["guider", 0],
            sampler=["paper", 1],
            sigmas=["paper", 2],
            latent_image=["latent", 0],
        ),
    }


def _deig_prompts(text_encoder: str, prompt: str, negative: str) -> Prompt:
    return {
        "encoder": node("DEIG_LoadTextEncoder", encoder_name=text_encoder, dtype="auto", device="default"),
        "positive": node("DEIG_EncodePrompt", text_encoder=["encoder", 0], text=prompt),
        "negative": node("DEIG_EncodePrompt", text_encoder=["encoder", 0], text=negative),
    }


def _clip_prompts(prompt: str, negative: str) -> Prompt:
    return {
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text=prompt),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text=negative),
    }


def _grounded(adapter: str, reader: list, layout: Layout, size: int) -> Prompt:
    text = write_layout(layout, "deig", size, size)
    return {
        "regions": node(
            "DEIG_RegionsFromText",
            text=text,
            format="deig",
            width=size,
            height=size,
            index=-1,
            edges="refuse",
        ),
        "adapter": node("DEIG_LoadAdapter", adapter_name=adapter, dtype="auto"),
        "instances": node("DEIG_EncodeRegions", text_encoder=reader, regions=["regions", 0]),
        "grounding": node(
            "DEIG_RefineInstances", adapter=["adapter", 0], instances=["instances", 0], overlap="share"
        ),
    }
