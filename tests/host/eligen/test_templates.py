"""The shared workflows of EliGen, run node by node in this process with small models in place of the real ones.

The host's loaders take text encoders and transformers of full size only, which would fill a large machine; what
is after the loaders is the host's nodes and ours, as the server runs them.
"""

import copy

import pytest
import torch
from deig_pack.nodes.eligen import EliGen
from deig_pack.nodes.layout import PreviewRegions, RegionEditor
from deig_pack.nodes.masks import RegionsToMasks
from deig_pack.tests.host.composition.helpers import run_node
from deig_pack.tests.host.eligen.helpers import calls_of, oracle_places, sight_of, small_clip
from deig_pack.tests.host.eligen.models import host_model
from deig_pack.tests.host.test_workflows import read_api_form

OURS = {
    "DEIG_EliGen": EliGen,
    "DEIG_RegionEditor": RegionEditor,
    "DEIG_PreviewRegions": PreviewRegions,
    "DEIG_RegionsToMasks": RegionsToMasks,
}
HOSTS = {
    "ConditioningZeroOut": "nodes",
    "CLIPTextEncode": "nodes",
    "KSampler": "nodes",
    "SetLatentNoiseMask": "nodes",
    "VAEDecode": "nodes",
    "VAEEncode": "nodes",
    "ImageScale": "nodes",
    "EmptySD3LatentImage": "comfy_extras.nodes_sd3",
    "FluxGuidance": "comfy_extras.nodes_flux",
    "ModelSamplingFlux": "comfy_extras.nodes_model_advanced",
    "ModelSamplingAuraFlow": "comfy_extras.nodes_model_advanced",
    "T5TokenizerOptions": "comfy_extras.nodes_cond",
    "ImageCompositeMasked": "comfy_extras.nodes_mask",
}
FAMILIES = {"eligen_qwen_image": "qwen", "eligen_flux": "flux", "eligen_inpaint": "qwen"}
SIDE = 128  # pixels; 1024 in the workflows


class PlainVAE:
    """An autoencoder whose latent is the picture itself, shrunk: the real ones are the host's business."""

    def __init__(self, frames: bool):
        self.frames = frames

    def decode(self, latent):
        latent = latent[:, :, 0] if latent.ndim == 5 else latent
        return torch.nn.functional.interpolate(latent[:, :3], scale_factor=8).movedim(1, -1)

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels[..., :3].movedim(-1, 1), 8)
        latent = small.repeat(1, 6, 1, 1)[:, :16]
        return latent[:, :, None] if self.frames else latent


def stand_ins(family) -> dict:
    model = host_model(family).clone()
    picture = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(2))
    return {
        "UNETLoader": (model,),
        "DEIG_LoadEliGenLoRA": (model,),
        "CLIPLoader": (small_clip(family),),
        "DualCLIPLoader": (small_clip(family),),
        "VAELoader": (PlainVAE(frames=family == "qwen"),),
        "LoadImage": (picture, None),
        "SaveImage": (),
        "PreviewImage": (),
    }


def run_graph(prompt: dict, given: dict, seen: dict) -> dict:
    """Run a workflow's API form; `given` are the outputs of some node types. Returns each type's outputs."""

    def outputs(key):
        if key not in seen:
            node = prompt[key]
            inputs = {
                name: outputs(value[0])[value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            }
            kind = node["class_type"]
            if kind in given:
                seen[key] = given[kind]
            elif kind in OURS:
                seen[key] = OURS[kind].execute(**inputs).result
            else:
                seen[key] = run_node(HOSTS[kind], kind, **inputs)
        return seen[key]

    for key in prompt:
        outputs(key)
    return {prompt[key]["class_type"]: result for key, result in seen.items()}


def shortened(prompt: dict) -> dict:
    """The same graph with two steps and at an eighth of its size."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        for name in ("width", "height"):
            if node["inputs"].get(name) == 1024:
                node["inputs"][name] = SIDE
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 2
        if node["class_type"] == "DEIG_EliGen":
            assert node["inputs"]["lora_in_weights"] is False
            node["inputs"]["lora_in_weights"] = True  # the stand-in has no LoRA
    return prompt


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def test_it_paints_its_regions(name):
    family = FAMILIES[name]
    prompt, given = shortened(read_api_form(name)), stand_ins(FAMILIES[name])
    with calls_of(given["UNETLoader"][0]) as calls:
        results = run_graph(prompt, given, {})
    regions = results["DEIG_RegionEditor"][0]
    acting = [sight_of(call) for call in calls if sight_of(call) is not None]
    assert len(acting) == 2 and len(calls) == (2 if family == "flux" else 4)  # FLUX.1 runs at cfg 1
    for sight in acting:
        assert torch.equal(sight.places, oracle_places(regions, (SIDE // 8, SIDE // 8)))
        if family == "flux":
            assert set(sight.lengths) == {512} and sight.prompt_length == 512
    picture = results["VAEDecode"][0]
    assert picture.shape == (1, SIDE, SIDE, 3) and picture.isfinite().all()


def test_painting_into_a_picture_leaves_the_rest():
    prompt, given = shortened(read_api_form("eligen_inpaint")), stand_ins("qwen")
    results = run_graph(prompt, given, {})
    (mask,) = results["DEIG_RegionsToMasks"]
    before, after = results["ImageScale"][0], results["ImageCompositeMasked"][0]
    outside = mask[0] == 0
    assert 0.05 < outside.float().mean() < 0.95
    assert torch.equal(before[0][outside], after[0][outside])
    assert (before[0][~outside] - after[0][~outside]).abs().mean() > 0.02
    latent, painted = results["VAEEncode"][0]["samples"], results["KSampler"][0]["samples"]
    cells = torch.nn.functional.max_pool2d(mask, 8)[0] == 0
    kept = (painted - latent)[0, :, 0][:, cells].abs().max() / latent.abs().max()
    assert kept <= 1e-4
