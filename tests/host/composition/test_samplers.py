"""DEIG with every sampler and scheduler of the host: tokens are those of the timestep being denoised."""

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.fusion.instances import Instances
from deig_pack.tests import standins
from deig_pack.tests.host.composition.helpers import TWO, sample_latent
from deig_pack.tests.host.conftest import load_model
from deig_pack.tests.host.test_patch import apply, features

from bench import random_weights

TINIEST = standins.UNetSize(levels=1, blocks=1, attention_levels=1)
LATENT = torch.zeros(1, 4, 4, 4)


class NotingRefiner(Refiner):
    """Notes every timestep that it is asked for."""

    def __init__(self, adapter):
        super().__init__(adapter)
        self.timesteps = []

    def tokens(self, text, timestep, device, dtype):
        self.timesteps.append(timestep)
        return super().tokens(text, timestep, device, dtype)


@pytest.fixture(scope="module")
def refiner():
    return NotingRefiner(load_adapter(standins.adapter_state(TINIEST, layers=1)))


@pytest.fixture(scope="module")
def noted_sigmas():
    """Every sigma that a sampler asked a denoised picture for."""
    return []


@pytest.fixture(scope="module")
def model(comfy_host, refiner, noted_sigmas):
    path = comfy_host.base / "models" / "checkpoints" / "tiniest.safetensors"
    plain = load_model(random_weights.save_state(path, standins.checkpoint_state(TINIEST)))
    phrases = features(*(region.phrase for region in TWO))
    grounded = apply(plain, Grounding(refiner, Instances(TWO, phrases)))

    def note(executor, x, timestep, *args, **kwargs):
        noted_sigmas.extend(timestep.flatten().tolist())
        return executor(x, timestep, *args, **kwargs)

    grounded.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "note", note)
    return grounded


@pytest.mark.parametrize(
    "scheduler, denoise",
    [*((name, 1.0) for name in comfy.samplers.SCHEDULER_NAMES), ("karras", 0.5), ("normal", 0.5)],
)
def test_every_sampler_gets_tokens_of_its_own_sigmas(scheduler, denoise, model, refiner, noted_sigmas):
    sampling = model.get_model_object("model_sampling")
    for sampler in comfy.samplers.SAMPLER_NAMES:
        refiner.timesteps.clear()
        noted_sigmas.clear()
        result = sample_latent(
            model, LATENT, sampler=sampler, scheduler=scheduler, steps=3, cfg=1.0, denoise=denoise
        )
        assert torch.isfinite(result).all(), sampler
        assert len(noted_sigmas) >= 2, sampler
        expected = sampling.timestep(torch.tensor(noted_sigmas)).tolist()
        assert refiner.timesteps == expected, sampler
        if denoise < 1:
            assert max(expected) < 999, sampler
