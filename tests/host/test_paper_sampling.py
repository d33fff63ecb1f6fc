"""DEIG Paper Sampling in the host against the authors' equations: whole trajectories, the denoiser being a formula."""

import math
from dataclasses import dataclass

import comfy.model_sampling
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.deig.cuda_noise import cuda_randn
from deig_pack.nodes.host.unet import COND
from deig_pack.nodes.paper import PaperSampling
from deig_pack.tests.core.test_paper import FULL, counted_alpha
from deig_pack.tests.host.composition.helpers import run_node
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, apply, difference, make_grounding

CUSTOM = "comfy_extras.nodes_custom_sampler"
SCALE = 0.18215  # the host hands latents out divided by it
CFG = 7.5
# Steps as they are asked for, and alpha's first two parts.
TRAJECTORIES = [
    (40, FULL),
    (30, FULL),
    (30, (0.8, 0.1)),
    (40, (0.3, 0.5)),
    (40, (0.5, 0.0)),
    (30, (0.0, 1.0)),
    (20, (0.0, 0.0)),
]


@dataclass(frozen=True)
class Given:
    """A NOISE that is there already."""

    noise: torch.Tensor
    seed: int = 0

    def generate_noise(self, latent):
        return self.noise


def sample_in_graph(model, sampler, sigmas, noise, positive=POSITIVE, negative=NEGATIVE, latent=None):
    """Sample with the host's nodes, as the template does; the latent that is returned is in the model's own scale."""
    (guider,) = run_node(CUSTOM, "CFGGuider", model=model, positive=positive, negative=negative, cfg=CFG)[:1]
    latent = {"samples": torch.zeros_like(noise) if latent is None else latent / SCALE}
    given = {"sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    out = run_node(CUSTOM, "SamplerCustomAdvanced", noise=Given(noise), guider=guider, **given)
    return out[0]["samples"] * SCALE


def sample_as_the_authors(model, grounding, steps, alpha, noise, *prompts):
    """Sample with the node, its sampler, its sigmas and its timing."""
    _, sampler, sigmas, end_percent, decay_percent = PaperSampling.execute(model, steps, *alpha, 0).result
    patched = apply(model, grounding, end_percent=end_percent, decay_percent=decay_percent)
    return sample_in_graph(patched, sampler, sigmas, noise, *prompts)


def formula(x, timestep, alpha):
    """A denoiser: the noise in x, in the model's own scale, as told by the timestep and by how strong DEIG is."""
    return torch.tanh(1.3 * x) + 0.2 * math.sin(timestep / 150) + 0.3 * alpha * torch.cos(3 * x)


def authors_trajectory(noise, steps, alpha):
    """Their program in its own terms, in float64: x is alpha-bar's, guidance is on the noise, alpha counts steps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)  # alpha-bar
    timesteps = [t + 1 for t in range(0, 1000, 1000 // steps)][::-1]
    x = noise.double()
    for index, (t, strength) in enumerate(zip(timesteps, counted_alpha(len(timesteps), *alpha), strict=True)):
        before = timesteps[index + 1] if index + 1 < len(timesteps) else 0
        plain = formula(x, t, 0.0)
        noise_in_x = plain + CFG * (formula(x, t, strength) - plain)
        clean = (x - (1 - kept[t]).sqrt() * noise_in_x) / kept[t].sqrt()
        x = kept[before].sqrt() * clean + (1 - kept[before]).sqrt() * noise_in_x
    return x


@pytest.fixture
def formula_model(fast_model):
    """The host's model of SD1.5 with the formula in place of the UNet, and all the calls that it gets."""
    model = fast_model.clone()
    calls = []

    def instead(
        executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs
    ):
        call = transformer_options[COND].grounding if COND in transformer_options else None
        strengths = [0.0] * len(x)
        if call is not None:
            strengths = [
                group.strength if group.chosen else 0.0 for group in call.groups for _ in range(group.rows)
            ]
        calls.append((timesteps[0].item(), max(strengths), call is not None))
        rows = [
            formula(row, timesteps[0].item(), strength) for row, strength in zip(x, strengths, strict=True)
        ]
        return torch.stack(rows)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "formula", instead)
    return model, calls


def noise_of(seed, *size):
    return torch.randn(size or (1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps, alpha", TRAJECTORIES)
def test_a_trajectory_is_the_authors(steps, alpha, formula_model, fast_adapter_state):
    model, calls = formula_model
    noise = noise_of(3, 2, 4, 8, 8)
    got = sample_as_the_authors(model, make_grounding(fast_adapter_state), steps, alpha, noise)
    expected = authors_trajectory(noise, steps, alpha)
    assert difference(got.double(), expected) <= 1e-5
    timesteps = list(range(1, 1001, 1000 // steps))[::-1]
    assert [timestep for timestep, *_ in calls] == timesteps
    strengths = counted_alpha(len(timesteps), *alpha)
    assert [strength for _, strength, _ in calls] == pytest.approx(strengths, abs=1e-4)
    assert [fused for *_, fused in calls] == [strength > 0 for strength in strengths], (
        "off is off, not nearly off"
    )


@pytest.mark.parametrize(
    "mistake",
    ["the host's noise", "the host's end", "the host's euler"],
)
def test_the_comparison_tells_each_end(mistake, formula_model, fast_adapter_state):
    """What the node is there for is larger than what the comparison above lets pass, by far."""
    model, _ = formula_model
    noise = noise_of(3)
    _, sampler, sigmas, *_ = PaperSampling.execute(model, 40, *FULL, 0).result
    if mistake != "the host's end":
        (sampler,) = run_node(CUSTOM, "KSamplerSelect", sampler_name="euler")[:1]
    if mistake != "the host's noise":
        sigmas = torch.cat((sigmas[:-1], sigmas.new_zeros(1)))
    got = sample_in_graph(apply(model, make_grounding(fast_adapter_state)), sampler, sigmas, noise)
    assert difference(got.double(), authors_trajectory(noise, 40, FULL)) > 1e-4


def test_a_run_may_be_split_between_samplers(formula_model, fast_adapter_state):
    """Split Sigmas: only the ends of the whole are the authors', and between two parts the host's latents travel."""
    model, _ = formula_model
    patched = apply(model, make_grounding(fast_adapter_state))
    noise = noise_of(4)
    _, sampler, sigmas, *_ = PaperSampling.execute(model, 40, *FULL, 0).result
    whole = sample_in_graph(patched, sampler, sigmas, noise)
    half = sample_in_graph(patched, sampler, sigmas[:21], noise)
    (euler,) = run_node(CUSTOM, "KSamplerSelect", sampler_name="euler")[:1]
    nothing = torch.zeros_like(noise)
    assert difference(sample_in_graph(patched, sampler, sigmas[20:], nothing, latent=half), whole) <= 1e-5
    between = sample_in_graph(patched, euler, sigmas[20:31], nothing, latent=half)
    assert difference(sample_in_graph(patched, sampler, sigmas[30:], nothing, latent=between), whole) <= 1e-5


def test_on_other_sigmas_it_is_the_hosts_euler(formula_model, fast_adapter_state):
    model, _ = formula_model
    patched = apply(model, make_grounding(fast_adapter_state))
    _, sampler, *_ = PaperSampling.execute(model, 40, *FULL, 0).result
    (euler,) = run_node(CUSTOM, "KSamplerSelect", sampler_name="euler")[:1]
    (sigmas,) = run_node(CUSTOM, "BasicScheduler", model=model, scheduler="karras", steps=8, denoise=0.6)[:1]
    latents = [
        sample_in_graph(patched, one, sigmas, noise_of(5), latent=noise_of(6)) for one in (sampler, euler)
    ]
    assert torch.equal(*latents)


def test_steps_that_do_not_work_and_models_that_do_not(fast_model):
    with pytest.raises(ValueError, match="Take 35 or 38"):
        PaperSampling.execute(fast_model, 37, *FULL, 0)
    model = fast_model.clone()
    model.add_object_patch("model_sampling", comfy.model_sampling.ModelSamplingDiscreteFlow())
    with pytest.raises(ValueError, match="BaseModel, has others"):
        PaperSampling.execute(model, 40, *FULL, 0)
    few = run_node(
        "comfy_extras.nodes_model_advanced",
        "ModelSamplingDiscrete",
        model=fast_model,
        sampling="lcm",
        zsnr=False,
    )
    with pytest.raises(ValueError, match="the 1000 timesteps"):
        PaperSampling.execute(few[0], 40, *FULL, 0)


def test_its_sigmas_are_those_of_the_models_timesteps(fast_model):
    own = fast_model.get_model_object("model_sampling").sigmas
    _, _, sigmas, end_percent, decay_percent = PaperSampling.execute(fast_model, 2, *FULL, 0).result
    assert torch.equal(sigmas, own[[501, 1, 0]].cpu()) and (end_percent, decay_percent) == (1.0, 0.0)


def test_its_noise_is_a_graphics_cards(formula_model):
    """And in a batch that of the picture alone, as with the host's own RandomNoise."""
    model, _ = formula_model
    noise, *_ = PaperSampling.execute(model, 40, *FULL, 42).result
    latent = {"samples": torch.zeros(3, 4, 8, 6)}
    drawn = noise.generate_noise(latent)
    assert torch.equal(drawn, cuda_randn((3, 4, 8, 6), 42)) and noise.seed == 42
    assert torch.equal(noise.generate_noise({"samples": torch.zeros(1, 4, 8, 6)}), drawn[:1])
    some = {"samples": torch.zeros(2, 4, 8, 6), "batch_index": [2, 0]}
    assert torch.equal(noise.generate_noise(some), drawn[[2, 0]])
