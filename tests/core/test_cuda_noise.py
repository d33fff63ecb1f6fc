"""The noise of a graphics card, without one."""

import numpy as np
import pytest
import torch
from deig_pack.deig_core.deig.cuda_noise import _philox, cuda_randn

# What torch.randn((3, 4), device="cuda") gave on a card with seed 0, as stable-diffusion-webui's modules/rng_philox.py
# has it: that program's "NV" noise is held to it.
ON_A_CARD = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]


def test_noise_is_what_a_card_drew():
    assert cuda_randn((3, 4), 0).numpy() == pytest.approx(np.array(ON_A_CARD), abs=2e-6)
    # A number for each thread: of more numbers the first are the same.
    assert torch.equal(cuda_randn((2, 4, 8, 8), 0).flatten()[:12], cuda_randn((12,), 0))


# The known answers that the generator's authors give out with it (Random123, kat_vectors, philox4x32 10).
@pytest.mark.parametrize(
    "counter, seed, answer",
    [
        ((0,) * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_the_generator_gives_the_known_answers(counter, seed, answer):
    words = _philox(tuple(np.array([word], dtype=np.uint64) for word in counter), seed)
    assert " ".join(f"{int(word[0]):08x}" for word in words) == answer


def test_noise_is_normal_and_of_its_seed():
    noise = cuda_randn((4, 4, 64, 64), 42)
    assert noise.dtype == torch.float32 and noise.isfinite().all()
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01 and 3.5 < noise.abs().max() < 6
    for other in (43, 42 + 2**32, 2**64 - 1):
        assert abs((noise * cuda_randn((4, 4, 64, 64), other)).mean()) < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_noise_is_what_this_card_draws():
    for seed in (0, 42, 2**40 + 1):
        torch.cuda.manual_seed_all(seed)
        drawn = torch.randn((1, 4, 64, 64), device="cuda").cpu()
        assert (cuda_randn((1, 4, 64, 64), seed) - drawn).abs().max() <= 1e-5
