"""The host's low-memory modes: weights cast as they are used, the text encoder gone before sampling starts.

No accelerator is needed for what these modes do to a model. The device is `cpu:0`, which the host takes for
another one than `cpu`, and how much of it is free is what these tests say.
"""

import comfy.model_management as management
import comfy.ops
import comfy.sd
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.adapter import load_adapter
from deig_pack.deig_core.encoder_files import find_encoders
from deig_pack.deig_core.grounding import Grounding, Instances, Refiner, Schedule
from deig_pack.deig_core.text_encoder import load_encoder
from deig_pack.nodes.loaders import Patcher
from deig_pack.nodes.sampling import patch_model
from deig_pack.nodes.types import LoadedTextEncoder
from deig_pack.tests.host.test_patch import REGIONS, difference, sample

DEVICE, OFFLOAD = torch.device("cpu", 0), torch.device("cpu")
MODES = {
    "all of it free": (management.VRAMState.NORMAL_VRAM, 10**12),
    "little free": (management.VRAMState.NORMAL_VRAM, 2 * 10**7),
    "--lowvram": (management.VRAMState.LOW_VRAM, 2 * 10**7),
    "--novram": (management.VRAMState.NO_VRAM, 2 * 10**7),
}


@pytest.fixture
def use_mode(monkeypatch):
    """Let the host take `cpu:0` for an accelerator, in one of its modes."""

    def use(mode):
        state, free = MODES[mode]
        monkeypatch.setattr(management, "vram_state", state)
        monkeypatch.setattr(management, "is_device_cpu", lambda device: device == OFFLOAD)
        monkeypatch.setattr(
            management,
            "get_free_memory",
            lambda device=None, torch_free_too=False: (free, free) if torch_free_too else free,
        )
        # What a step needs beside the weights is nothing here, so that the budget is the weights'.
        monkeypatch.setattr(management, "minimum_inference_memory", lambda: 0)
        monkeypatch.setattr(management, "extra_reserved_memory", lambda: 0)

    yield use
    management.unload_all_models()


class Graph:
    """Everything from the text encoder to the picture, on `cpu:0`."""

    def __init__(self, checkpoint, adapter_state, encoder_files):
        encoder = load_encoder(encoder_files, torch.float32)
        self.encoder = LoadedTextEncoder(encoder, ModelPatcher(encoder.model, DEVICE, OFFLOAD))
        self.adapter = load_adapter(adapter_state, operations=comfy.ops.manual_cast)
        self.adapter_patcher = Patcher(self.adapter, DEVICE, OFFLOAD)
        self.model = comfy.sd.load_checkpoint_guess_config(
            str(checkpoint), output_vae=False, output_clip=False
        )[0]
        self.model.load_device, self.model.offload_device = DEVICE, OFFLOAD

    def paint(self):
        text = self.encoder.encode(tuple(region.phrase for region in REGIONS))
        grounding = Grounding(Refiner(self.adapter), Instances(REGIONS, text))
        # Kept, as the host keeps a node's outputs.
        self.patched = patched = patch_model(self.model, self.adapter_patcher, grounding, Schedule())

        def look(executor, *args, **kwargs):
            self.loaded_when_sampling = [patcher.model for patcher in management.loaded_models() if patcher]
            self.is_whole = not patched.model.model_lowvram
            return executor(*args, **kwargs)

        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
        return sample(patched)


@pytest.fixture(scope="module")
def graph_of(fast_checkpoint, fast_adapter_state, small_t5_folder):
    files = find_encoders([small_t5_folder.parent])[small_t5_folder.name]
    return lambda: Graph(fast_checkpoint, fast_adapter_state, files)


def test_every_mode_paints_the_same_without_the_text_encoder(graph_of, use_mode):
    pictures = {}
    for mode in MODES:
        use_mode(mode)
        graph = graph_of()
        pictures[mode] = graph.paint()
        roomy = mode == "all of it free"
        assert graph.is_whole == roomy, (
            f"{mode}: the model should be on the device {'whole' if roomy else 'in part'}"
        )
        assert graph.adapter in graph.loaded_when_sampling
        assert (graph.encoder.encoder.model in graph.loaded_when_sampling) == roomy, mode
        management.unload_all_models()
    for mode, picture in pictures.items():
        assert difference(picture, pictures["all of it free"]) <= 1e-3, mode
