"""Tokens of phrases at a timestep: each phrase's own, whatever is remembered beside it."""

from itertools import combinations

import pytest
import torch
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.fusion.instances import EncodedText
from deig_pack.tests import standins

PHRASES = ("a red mug", "a blue lamp", "a green hat", "a white shoe")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def adapter():
    return load_adapter(standins.adapter_state(standins.FAST))


def text_of(*phrases, encoder="flan", seed=0):
    """Phrases with features of their own, the same whenever they are read."""
    each = [
        torch.randn(128, 64, generator=torch.Generator().manual_seed(seed + PHRASES.index(phrase)))
        for phrase in phrases
    ]
    return EncodedText(phrases, torch.stack(each), encoder)


def tokens_of(refiner, *phrases, timestep=500.0, **options):
    return refiner.tokens(text_of(*phrases, **options), timestep, CPU, torch.float32)


@pytest.fixture
def alone(adapter):
    """Each phrase's tokens by the IDE itself, at timestep 500; they differ far more than by rounding."""
    found = {
        phrase: adapter.IDE(text_of(phrase).features, torch.tensor([500.0]))[0].detach() for phrase in PHRASES
    }
    assert all((a - b).abs().max() > 0.1 for a, b in combinations(found.values(), 2))
    return found


@pytest.mark.parametrize("known", [(), (0,), (2,), (3, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("asked", [(0, 1, 2, 3), (3, 0, 2), (1, 1, 0), (2, 3, 2, 0)])
def test_a_phrase_has_its_own_tokens_whatever_is_remembered(adapter, alone, known, asked):
    refiner = Refiner(adapter)
    for number in known:
        tokens_of(refiner, PHRASES[number])
    got = tokens_of(refiner, *(PHRASES[number] for number in asked))
    expected = torch.stack([alone[PHRASES[number]] for number in asked])
    assert torch.allclose(got, expected, atol=1e-5)
    assert refiner.evaluated == len({*known, *asked})


def test_timesteps_and_encoders_are_told_apart(adapter, alone):
    refiner = Refiner(adapter)
    first = tokens_of(refiner, PHRASES[0])
    later = tokens_of(refiner, PHRASES[0], timestep=100.0)
    other = tokens_of(refiner, PHRASES[0], encoder="another", seed=1)
    assert refiner.evaluated == 3
    assert not torch.allclose(later, first, atol=1e-3)
    assert torch.allclose(other[0], alone[PHRASES[1]], atol=1e-5)


def test_the_longest_unused_are_forgotten(adapter):
    refiner = Refiner(adapter, capacity=2)
    for phrase in (PHRASES[0], PHRASES[1], PHRASES[0], PHRASES[2]):
        tokens_of(refiner, phrase)
    assert refiner.evaluated == 3
    tokens_of(refiner, PHRASES[0])
    assert refiner.evaluated == 3, "used since, so it is still there"
    tokens_of(refiner, PHRASES[1])
    assert refiner.evaluated == 4
