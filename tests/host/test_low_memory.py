"""The host's low-memory modes: weights cast as they are used, the text encoder gone before sampling starts.

No accelerator is needed for what these modes do to a model; see `bench.speed.low_memory`.
"""

import comfy.ops
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.deig.text_encoder import load_encoder
from deig_pack.deig_core.files.encoder_files import find_encoders
from deig_pack.deig_core.fusion.instances import Instances
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.nodes.host.unet import patch_model
from deig_pack.nodes.loaders import Patcher
from deig_pack.nodes.types import LoadedTextEncoder
from deig_pack.tests import standins
from deig_pack.tests.host.instance_diffusion import helpers as instance_diffusion
from deig_pack.tests.host.test_patch import REGIONS, clip

from bench.speed.cases import Case
from bench.speed.low_memory import MODES, OFFLOAD, device, low_memory, measure_low_memory

BUDGET = 2 * 10**7  # bytes; the UNet's weights alone are more


def load_unet(path):
    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]


def test_every_mode_paints_the_same_without_the_text_encoder(
    fast_checkpoint, fast_adapter_state, small_t5_folder
):
    files = find_encoders([small_t5_folder.parent])[small_t5_folder.name]
    read = load_encoder(files, torch.float32)
    read.capacity = 0  # so that every mode reads the phrases anew
    encoder = LoadedTextEncoder(read, ModelPatcher(read.model, OFFLOAD, OFFLOAD))
    adapter = load_adapter(fast_adapter_state, operations=comfy.ops.manual_cast)
    adapter_patcher = Patcher(adapter, OFFLOAD, OFFLOAD)
    model = load_unet(fast_checkpoint)
    kept = []  # as the host keeps a node's outputs

    def make_case() -> Case:
        text = encoder.encode(tuple(region.phrase for region in REGIONS))
        grounding = Grounding(Refiner(adapter), Instances(REGIONS, text))
        kept.append(patch_model(model, adapter_patcher, grounding, Schedule()))
        return Case(kept[-1], clip(1), clip(2), (16, 16))

    parts = {"unet": model, "adapter": adapter_patcher, "text_encoder": encoder.patcher}
    figures = measure_low_memory(make_case, parts, BUDGET)
    whole = figures["all of it free"]
    assert whole["unet"] > BUDGET and whole["text_encoder"] > 0
    for name, mode in MODES.items():
        found = figures[name]
        assert (found["unet"] == whole["unet"]) == mode.is_roomy, name
        assert (found["text_encoder"] > 0) == mode.is_roomy, name
        assert found["difference"] <= 1e-3, name


def test_every_mode_paints_the_same_with_instance_diffusion(fast_checkpoint):
    state = standins.instance_diffusion_state(standins.FAST)
    grounding = instance_diffusion.make_grounding(state, instance_diffusion.ALL_KINDS, "scribble")
    model, adapter = load_unet(fast_checkpoint), Patcher(grounding.adapter, OFFLOAD, OFFLOAD)
    kept = []

    def make_case() -> Case:
        kept.append(patch_model(model, adapter, grounding, Schedule()))
        return Case(kept[-1], clip(1), clip(2), (16, 16))

    figures = measure_low_memory(make_case, {"unet": model, "adapter": adapter}, BUDGET)
    whole = figures["all of it free"]
    assert whole["unet"] > BUDGET and whole["adapter"] > 0
    for name, mode in MODES.items():
        assert (figures[name]["unet"] == whole["unet"]) == mode.is_roomy, name
        assert figures[name]["difference"] <= 1e-3, name


def test_the_text_encoder_lies_on_the_device_as_a_whole_however_little_is_free(small_t5_folder):
    read = load_encoder(find_encoders([small_t5_folder.parent])[small_t5_folder.name], torch.float32)
    encoder = LoadedTextEncoder(read, ModelPatcher(read.model, device(), OFFLOAD))
    whole = encoder.patcher.model_size()
    for name, mode in MODES.items():
        with low_memory(mode, whole // 4):
            encoder.encode((name,))
            # --novram loads nothing that it need not, and the phrases are read where the weights lie.
            assert encoder.patcher.loaded_size() == (0 if name == "--novram" else whole), name
