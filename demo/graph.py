"""The demo's graph in ComfyUI's API form: T5 prompts and regions in, a picture and a drawing out."""

from dataclasses import dataclass
from typing import Any

from small_model.place import Models

Prompt = dict[str, dict[str, Any]]

PICTURE, LAYOUT, PLAIN = "picture", "layout", "plain picture"


@dataclass(frozen=True)
class Scene:
    """A prompt, instances as (phrase, x, y, width, height) in fractions of the image, and how to sample.

    Args:
        size: edge of the square picture, pixels.
    """

    prompt: str
    negative: str
    instances: tuple[tuple[str, float, float, float, float], ...]
    size: int
    steps: int
    cfg: float = 7.5
    seed: int = 1


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def region_chain(scene: Scene) -> Prompt:
    """One box node for each instance, each chained to the one before; the last is `region`."""
    nodes = {}
    previous = {}
    for number, (phrase, x, y, width, height) in enumerate(scene.instances, start=1):
        name = "region" if number == len(scene.instances) else f"region {number}"
        nodes[name] = node(
            "DEIG_BoxRegion",
            phrase=phrase,
            x=x,
            y=y,
            width=width,
            height=height,
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
            **previous,
        )
        previous = {"regions": [name, 0]}
    return nodes


def demo_graph(models: Models, scene: Scene) -> Prompt:
    """The graph; its output nodes are `PICTURE` and `LAYOUT`. No CLIP is needed: the prompts go through T5."""
    size = {"width": scene.size, "height": scene.size}
    return region_chain(scene) | {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=models.checkpoint),
        "adapter": node("DEIG_LoadAdapter", adapter_name=models.adapter, dtype="auto"),
        "encoder": node(
            "DEIG_LoadTextEncoder", encoder_name=models.text_encoder, dtype="auto", device="default"
        ),
        "instances": node("DEIG_EncodeRegions", text_encoder=["encoder", 0], regions=["region", 0]),
        "positive": node("DEIG_EncodePrompt", text_encoder=["encoder", 0], text=scene.prompt),
        "negative": node("DEIG_EncodePrompt", text_encoder=["encoder", 0], text=scene.negative),
        "grounding": node(
            "DEIG_RefineInstances", adapter=["adapter", 0], instances=["instances", 0], overlap="share"
        ),
        "model": node(
            "DEIG_ApplyToModel",
            model=["checkpoint", 0],
            grounding=["grounding", 0],
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
            decay_percent=0.0,
        ),
        "latent": node("EmptyLatentImage", **size, batch_size=1),
        "sampler": node(
            "KSampler",
            model=["model", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            seed=scene.seed,
            steps=scene.steps,
            cfg=scene.cfg,
            sampler_name="euler",
            scheduler="ddim_uniform",
            denoise=1.0,
        ),
        "image": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        PICTURE: node("SaveImage", images=["image", 0], filename_prefix="picture"),
        "drawing": node("DEIG_PreviewRegions", regions=["region", 0], **size),
        LAYOUT: node("SaveImage", images=["drawing", 0], filename_prefix="layout"),
    }


def comparing_graph(models: Models, scene: Scene) -> Prompt:
    """The same graph with one output more, `PLAIN`: the picture of the same seed without DEIG."""
    graph = demo_graph(models, scene)
    plain = {
        "plain model": node("DEIG_ApplyToModel", **graph["model"]["inputs"] | {"strength": 0.0}),
        "plain sampler": node("KSampler", **graph["sampler"]["inputs"] | {"model": ["plain model", 0]}),
        "plain image": node("VAEDecode", samples=["plain sampler", 0], vae=["checkpoint", 2]),
        PLAIN: node("SaveImage", images=["plain image", 0], filename_prefix="plain"),
    }
    return graph | plain
