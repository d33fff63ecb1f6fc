"""The types that travel between this pack's nodes."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..deig_core.deig.grounding import Grounding
from ..deig_core.deig.refiner import Refiner
from ..deig_core.fusion.instances import EncodedText
from ..deig_core.instance_diffusion.adapter import InstanceDiffusionAdapter
from ..deig_core.instance_diffusion.grounding import InstanceGrounding

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..deig_core.deig.text_encoder import TextEncoder

CATEGORY = "DEIG"
FRACTION = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.0001}  # a widget for a fraction, 0 to 1

AdapterType = io.Custom("DEIG_ADAPTER")  # LoadedAdapter or LoadedInstanceDiffusion
TextEncoderType = io.Custom("DEIG_TEXT_ENCODER")  # LoadedTextEncoder
RegionsType = io.Custom("DEIG_REGIONS")  # regions.Regions
InstancesType = io.Custom("DEIG_INSTANCES")  # grounding.Instances
GroundingType = io.Custom("DEIG_GROUNDING")  # AdapterGrounding
AttentionType = io.Custom("DEIG_ATTENTION")  # host.attention.AttentionRecording

HAS_ALIASES = "search_aliases" in {field.name for field in fields(io.Schema)}


def also_found_as(*words: str) -> dict[str, Any]:
    """Words by which the host's search finds a node beside its name, as keywords for `io.Schema`.

    Hosts before search aliases (0.3.64) refuse the keyword and with it the whole pack, so they get none.
    """
    return {"search_aliases": list(words)} if HAS_ALIASES else {}


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter of DEIG, and the host's handle on its memory."""

    refiner: Refiner
    patcher: "ModelPatcher"


@dataclass(frozen=True, eq=False)
class LoadedInstanceDiffusion:
    """An adapter of InstanceDiffusion, and the host's handle on its memory."""

    adapter: InstanceDiffusionAdapter
    patcher: "ModelPatcher"


@dataclass(frozen=True, eq=False)
class AdapterGrounding:
    """A grounding, and the loaded adapter it came from."""

    adapter: LoadedAdapter | LoadedInstanceDiffusion
    grounding: Grounding | InstanceGrounding


@dataclass(frozen=True, eq=False)
class LoadedTextEncoder:
    """A text encoder, and the host's handle on its memory."""

    encoder: "TextEncoder"
    patcher: "ModelPatcher"

    def encode(self, phrases: tuple[str, ...]) -> EncodedText:
        """Encode phrases, loading the model onto its device only if one of them is new."""
        import comfy.model_management
        import comfy.utils

        bar = comfy.utils.ProgressBar(len(phrases))

        def load():
            # Whole or not at all: the host can leave a part on the CPU only of layers that are its own.
            comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)
            return self.patcher.load_device

        features = self.encoder.encode(
            phrases, load=load, progress=lambda done, total: bar.update_absolute(done, total)
        )
        # The precision belongs to the identity: the same phrase read in another is not the same features.
        precision = str(features.dtype).removeprefix("torch.")
        return EncodedText(phrases, features, f"{self.encoder.name} ({precision})")
