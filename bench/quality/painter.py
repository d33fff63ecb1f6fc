"""The small model in a real ComfyUI, in this process: the pack's nodes and the host's own sampler.

Import it when the host is on sys.path and the pack is loaded as `deig_pack` (`bench.host.open_host`).
"""

from pathlib import Path

import comfy.model_management
import comfy.sample
import comfy.sd
import folder_paths
import numpy as np
import torch
from deig_pack.deig_core.regions.region import Regions
from deig_pack.nodes.grounding import ApplyToModel, EncodePrompt, EncodeRegions, RefineInstances
from deig_pack.nodes.loaders import LoadAdapter, LoadTextEncoder, register_adapter_folder
from deig_pack.nodes.types import AdapterGrounding

from small_model.place import WEIGHTS, place_weights

LATENT = (16, 16)  # cells of a picture of 128 x 128 pixels


class Painter:
    """The small model, loaded by the host and by the pack's nodes.

    Args:
        weights: what `python -m small_model.export` wrote.
    """

    def __init__(self, weights: Path = WEIGHTS):
        names = place_weights(Path(folder_paths.models_dir), weights)
        register_adapter_folder()
        checkpoint = folder_paths.get_full_path_or_raise("checkpoints", names.checkpoint)
        self.model, _, self.vae, _ = comfy.sd.load_checkpoint_guess_config(checkpoint, output_clip=False)
        self.adapter = LoadAdapter.execute(names.adapter, "auto")[0]
        self.encoder = LoadTextEncoder.execute(names.text_encoder, "auto", "default")[0]

    def prompt(self, text: str) -> list:
        """Return the conditioning of a prompt through T5 and the IDE."""
        return EncodePrompt.execute(self.encoder, text)[0]

    def ground(self, regions: Regions) -> AdapterGrounding:
        """Read the phrases of regions; where they overlap both are seen, as in training."""
        instances = EncodeRegions.execute(self.encoder, regions)[0]
        return RefineInstances.execute(self.adapter, instances, "share")[0]

    def patched(self, grounding: AdapterGrounding, strength: float = 1.0):
        """Return the model with DEIG."""
        return ApplyToModel.execute(self.model, grounding, strength, 0.0, 1.0, 0.0)[0]

    def paint(
        self,
        model,
        prompt: str,
        seed: int = 0,
        steps: int = 16,
        guidance: float = 3.0,
        size: tuple[int, int] = LATENT,
        sigmas: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Sample with Euler, which is DDIM, on the host's `ddim_uniform` schedule or on sigmas given.

        Args:
            model: from `patched`.
            prompt: for the whole picture; the negative one is empty.
            seed: of the noise.
            steps, guidance: as the sampler takes them.
            size: (height, width) of the latent, in cells.
            sigmas: (steps + 1,), instead of the schedule.

        Returns:
            (1, 4, height, width), a latent as the host has it.
        """
        latent = torch.zeros(1, 4, *size)
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(latent, seed),
            steps,
            guidance,
            "euler",
            "ddim_uniform",
            self.prompt(prompt),
            self.prompt(""),
            latent,
            sigmas=sigmas,
            disable_pbar=True,
            seed=seed,
        )

    def decode(self, latent: torch.Tensor) -> np.ndarray:
        """(1, 4, h, w) -> (8h, 8w, 3), uint8."""
        return (self.vae.decode(latent)[0] * 255).round().byte().cpu().numpy()
