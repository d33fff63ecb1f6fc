"""The checkpoint that is written of model.pth, read by the host's own loader."""

import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from deig_pack.deig_core.files.base_model import main
from deig_pack.tests import standins
from deig_pack.tests.host.composition.helpers import run_node

from bench.random_weights import draw_weights

# Stable Diffusion's autoencoder, which the host builds of this size whatever a file has.
KL = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def vae_state() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = AutoencoderKL(ddconfig=KL, embed_dim=4).state_dict()
    return {
        name: torch.empty(tensor.shape, dtype=torch.float16).uniform_(-0.01, 0.01)
        for name, tensor in shapes.items()
    }


def test_the_hosts_loader_reads_it(comfy_host):
    unet = {
        name: tensor.half() for name, tensor in draw_weights(standins.unet_shapes(standins.FAST), 0).items()
    }
    vae, folder = vae_state(), comfy_host.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    released = folder.parent / "model_with_base.pth"
    torch.save({"model": unet | standins.adapter_state(standins.FAST), "autoencoder": vae}, released)
    base = folder / "deig_base.safetensors"
    try:
        main([str(released), str(base)])
        model, clip, loaded_vae = run_node("nodes", "CheckpointLoaderSimple", ckpt_name=base.name)
    finally:
        released.unlink()
        base.unlink(missing_ok=True)
    assert clip is None
    for name, tensor in model.model.diffusion_model.state_dict().items():
        assert torch.equal(tensor.float(), unet[name].float()), name
    got = loaded_vae.first_stage_model.state_dict()
    assert got.keys() == vae.keys()
    assert all(torch.equal(got[name].float(), vae[name].to(got[name].dtype).float()) for name in vae)
