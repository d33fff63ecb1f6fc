"""InstanceDiffusion on the small models of the host's tests, and its dense re-computation."""

import math

import torch
from deig_pack.deig_core.fusion.instances import Instances, ReadPhrases
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from deig_pack.deig_core.instance_diffusion.grounding import InstanceGrounding
from deig_pack.deig_core.instance_diffusion.places import places_of
from deig_pack.deig_core.instance_diffusion.uni_fusion import RELEASED_KINDS
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.nodes.host.unet import patch_model
from deig_pack.tests.core.oracle import dense_fuser
from deig_pack.tests.host.test_patch import REGIONS, DenseUNet, adapter_patcher

TRIANGLE = Region(
    "a yellow sail",
    (0.1, 0.2, 0.8, 0.9),
    mask=Mask(torch.tril(torch.ones(40, 56)).flip(1).numpy().astype(float)),
)
STROKE = Region("a blue line", (0.2, 0.3, 0.9, 0.5), scribble=((0.2, 0.3), (0.5, 0.4), (0.9, 0.5)))
POINT = Region("a red dot", (0.5, 0.5, 0.7, 0.7), point=(0.55, 0.65))
ALL_KINDS = (REGIONS[0], TRIANGLE, STROKE, POINT)


def read(*phrases) -> ReadPhrases:
    """Stand-ins for what CLIP reads, the same for the same phrase."""
    seeds = [torch.Generator().manual_seed(sum(map(ord, phrase))) for phrase in phrases]
    pooled = [torch.randn(768, generator=seed) for seed in seeds]
    contexts = [torch.randn(77, 768, generator=seed) for seed in seeds]
    if not phrases:
        return ReadPhrases((), torch.empty(0, 768), torch.empty(0, 77, 768))
    return ReadPhrases(phrases, torch.stack(pooled), torch.stack(contexts))


def make_grounding(state, regions=REGIONS, kinds="mask", **options) -> InstanceGrounding:
    import comfy.ops

    adapter = load_instance_diffusion(state, operations=comfy.ops.manual_cast)
    instances = Instances(regions, read(*(region.phrase for region in regions)))
    return InstanceGrounding(adapter, instances, RELEASED_KINDS[kinds], **options)


def apply(model, grounding, scale_u=True, **schedule):
    """Return the model with InstanceDiffusion, as DEIG_ApplyToModel does."""
    return patch_model(model, adapter_patcher(grounding.adapter), grounding, Schedule(**schedule), scale_u)


def dense_tokens(state, regions, kinds="mask", frame=(0.0, 0.0, 1.0, 1.0)):
    """All 184 tokens, padding written out, by the module that equals the reference's numbers: (184, 1, 768)."""
    net = load_instance_diffusion(state).position_net
    tokens = net(
        read(*(region.phrase for region in regions)).pooled, places_of(regions, frame), RELEASED_KINDS[kinds]
    )
    return tokens.objs.repeat_interleave(torch.tensor(tokens.counts), 0)[:, None]


def fourier_filter(x, factor):
    """Scale the four lowest frequencies, as ScaleU is written."""
    height, width = x.shape[-2:]
    frequencies = torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1))
    row, column = height // 2, width // 2
    frequencies[..., max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] *= factor
    return torch.fft.ifftn(torch.fft.ifftshift(frequencies, dim=(-2, -1)), dim=(-2, -1)).real


class DenseInstanceDiffusion(DenseUNet):
    """The host's UNet with ScaleU by Fourier transform and fusers over all 184 tokens; `instances` are those."""

    def __init__(self, unet, state, scale_u=True):
        super().__init__(unet, state)
        self.state, self.scale_u = state, scale_u

    def enter_decoder(self, number, hidden, skip):
        if not self.scale_u:
            return hidden, skip
        by_channel = torch.tanh(self.state[f"scaleu_b_{number}"]) + 1
        by_frequency = torch.tanh(self.state[f"scaleu_s_{number}"]) + 1
        return hidden * by_channel[:, None, None], fourier_filter(skip, by_frequency)

    def fuse(self, block, tokens, latent_size, grid, instances):
        everywhere = torch.ones(len(instances), math.prod(grid), dtype=torch.bool)
        return dense_fuser(self.fusers[block], tokens, instances, everywhere, [1.0] * len(instances))
