"""ScaleU without Fourier transforms against the reference's, which has them."""

import pytest
import torch
from deig_pack.deig_core.instance_diffusion.scale_u import ScaleU, low_waves
from deig_pack.tests.core.instance_diffusion.goldens import read_golden, relative_difference

_, INPUTS, OUTPUTS, _ = read_golden("scaleu")
SIZES = sorted({name.split(".")[0] for name in INPUTS})


def of_size(size):
    """The module whose second block has a size's factors, what enters it and what comes out."""
    own = {key: INPUTS[f"{size}.{key}"] for key in ("scaleu_b", "scaleu_s", "h", "skip")}
    module = ScaleU((3, len(own["scaleu_b"]))).requires_grad_(False)
    module.load_state_dict(
        {
            "scaleu_b_0": torch.ones(3),
            "scaleu_s_0": torch.ones(1),
            "scaleu_b_1": own["scaleu_b"],
            "scaleu_s_1": own["scaleu_s"],
        }
    )
    return module.factors(), own["h"], own["skip"], OUTPUTS[f"{size}.h"], OUTPUTS[f"{size}.skip"]


@pytest.mark.parametrize("size", SIZES)
def test_the_references_numbers(size):
    factors, features, skip, *expected = of_size(size)
    before = features.clone(), skip.clone()
    for given, wanted in zip(factors.scale(features, skip, 1), expected, strict=True):
        assert relative_difference(given, wanted) <= 1e-5
    assert torch.equal(features, before[0]) and torch.equal(skip, before[1])


def test_half_precision_is_rounded_once():
    factors, features, skip, *_ = of_size("16x16")
    halves = factors.scale(features.half(), skip.half(), 1)
    exact = factors.scale(features.half().float(), skip.half().float(), 1)
    for half, wanted in zip(halves, exact, strict=True):
        assert half.dtype == torch.float16 and torch.equal(half, wanted.half())


def test_what_was_not_trained_changes_nothing():
    features, skip = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    given = ScaleU((3, 3)).factors().scale(features, skip, 0)
    assert torch.allclose(given[0], features) and torch.allclose(given[1], skip)


def test_factors_are_worked_out_in_float32_from_half_precision():
    """tanh in half precision is off by up to 5e-4."""
    module = ScaleU((50,)).requires_grad_(False)
    by_channel, by_frequency = torch.linspace(-2, 2, 50).half(), torch.tensor([0.7]).half()
    module.load_state_dict({"scaleu_b_0": by_channel, "scaleu_s_0": by_frequency}, assign=True)
    factors = module.factors()
    for given, stored in ((factors.features[0], by_channel), (factors.skip[0], by_frequency)):
        assert given.dtype == torch.float32
        assert torch.allclose(given.double(), 1 + stored.double().tanh(), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 1), (2, 2), (3, 8), (64, 64)])
def test_the_waves_pick_four_frequencies(size):
    height, width = size
    x = torch.randn(height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    waves = low_waves(height, width, torch.device("cpu")).double()
    frequencies = torch.fft.fft2(x)
    kept = torch.zeros_like(frequencies)
    for v in {0, -1 % height}:
        for h in {0, -1 % width}:
            kept[v, h] = frequencies[v, h]
    expected = torch.fft.ifft2(kept).real
    assert torch.allclose((x.flatten() @ waves @ waves.T).view(size), expected, atol=1e-6)
