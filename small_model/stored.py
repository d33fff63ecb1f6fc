"""The small model as it is stored, for painting without a host: files read by the pack's own loaders.

The UNet is training's, at the width that the host knows; adapter and text encoder are the pack's. So a picture
needs PyTorch and transformers only, and is the one that a host would paint from the same noise.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from deig_core.deig.adapter import load_adapter
from deig_core.deig.text_encoder import load_encoder
from deig_core.files.checkpoint import read_adapter
from deig_core.files.encoder_files import EncoderFiles
from deig_core.fusion.fusers import BlockId

from .autoencoder import TAESD_BLOCKS, TAESD_WIDTH, Autoencoder, to_uint8
from .model import Words, ground, sample, times_of_phrases
from .place import ADAPTER, CHECKPOINT, TEXT_FOLDER, WEIGHTS
from .scenes import Scene
from .unet import UNet

UNET_PREFIX, AUTOENCODER_PREFIX = "model.diffusion_model.", "first_stage_model."
WIDTH, CONTEXT_WIDTH = 320, 768


class StoredDEIG:
    """UNet, adapter, text encoder and autoencoder from the files of a folder, in float32.

    Args:
        folder: what `python -m small_model.export` wrote.
    """

    def __init__(self, folder: Path = WEIGHTS):
        checkpoint = load_file(folder / CHECKPOINT)
        self.unet = UNet(WIDTH, CONTEXT_WIDTH)
        self.unet.load_state_dict(part(checkpoint, UNET_PREFIX))
        self.unet.eval().requires_grad_(False)
        self.autoencoder = Autoencoder((TAESD_WIDTH,) * 4, (1, *(TAESD_BLOCKS,) * 3))
        self.autoencoder.load_state_dict(part(checkpoint, AUTOENCODER_PREFIX))
        self.autoencoder.eval().requires_grad_(False)
        self.adapter = load_adapter(read_adapter(folder / ADAPTER, torch.float32))
        self.text = load_encoder(EncoderFiles(TEXT_FOLDER, folder / TEXT_FOLDER), torch.float32)

    def __call__(self, noisy: torch.Tensor, timesteps: torch.Tensor, words: Words) -> torch.Tensor:
        """Predict the noise, as `model.SmallDEIG` does.

        Args:
            noisy: (B, 4, h, w)
            timesteps: (B,), 0 to 999.
            words: what the B scenes are told.

        Returns:
            (B, 4, h, w)
        """
        tokens = self.adapter.IDE(self.text.encode(words.phrases), times_of_phrases(timesteps, words))
        groups = ground(self.adapter, tokens, words)

        def fuse(block: BlockId, image: torch.Tensor) -> torch.Tensor:
            return self.adapter.fuser(block)(image, groups)

        return self.unet(noisy, timesteps, self._context(timesteps, words), fuse)

    def without_deig(self, noisy: torch.Tensor, timesteps: torch.Tensor, words: Words) -> torch.Tensor:
        """Predict the noise from the prompts alone; no fuser runs, as in a host at strength 0."""
        return self.unet(noisy, timesteps, self._context(timesteps, words))

    def _context(self, timesteps: torch.Tensor, words: Words) -> torch.Tensor:
        return self.adapter.IDE(self.text.encode(words.prompts), timesteps)

    def paint(
        self, scenes: list[Scene], seed: int, steps: int, guidance: float, with_deig: bool = True
    ) -> np.ndarray:
        """Paint scenes: (B, 128, 128, 3), uint8."""
        model = self if with_deig else self.without_deig
        return self.decode(sample(model, scenes, seed, steps, guidance, half=False))

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """(B, 4, h, w) -> (B, 8h, 8w, 3), uint8."""
        return to_uint8(self.autoencoder.decode(latents))


def part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Take what lies under a prefix, as float32, but for the host's own scale of latents."""
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return {name: tensor.float() for name, tensor in found.items() if not name.startswith("vae_")}
