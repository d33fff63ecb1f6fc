"""Regions turned into what the fusers need: whose each token is, on which latent, in which crop."""

from dataclasses import replace

import pytest
import torch
from deig_pack.deig_core.fusion.instances import EncodedText, Instances, ReadPhrases
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from deig_pack.deig_core.instance_diffusion.grounding import InstanceGrounding
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests import standins

REGIONS = (
    Region("a red mug", (0, 0, 0.25, 0.25)),
    Region("a blue lamp", (0.5, 0, 1, 0.5)),
    Region("a green hat", (0.5, 0.5, 1, 1)),
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def grounding():
    adapter = load_instance_diffusion(standins.instance_diffusion_state(standins.FAST))
    pooled = torch.randn(3, adapter.sizes.uni_fusion.text_width, generator=torch.Generator().manual_seed(0))
    phrases = tuple(region.phrase for region in REGIONS)
    return InstanceGrounding(
        adapter, Instances(REGIONS, ReadPhrases(phrases, pooled, torch.zeros(3, 77, 64)))
    )


def rows_of(on_latent, chosen, area=None, strength=1.0):
    return on_latent.rows(1, strength, chosen, area, 0.0, CPU, torch.float32)


@pytest.mark.parametrize("chosen", [(0, 1, 2), (1, 2), (2,), (0, 2)])
def test_each_token_is_that_of_a_region_that_takes_part(grounding, chosen):
    """Regions that have ended or begin later leave no gap: the first that takes part is not the first of all."""
    owners = rows_of(grounding.on_latent((8, 8)), chosen).owners()
    assert {owner[0] for owner in owners if owner} == set(chosen)
    names = grounding.token_names
    for region in chosen:
        own = [names[kind] for one, kind in filter(None, owners) if one == region]
        assert own == ["boxes", "points", "scribbles", "polygons"]


def test_each_region_keeps_its_own_strength_whichever_take_part(grounding):
    regions = tuple(
        replace(region, strength=strength) for region, strength in zip(REGIONS, (0.25, 1, 4), strict=True)
    )
    on_latent = replace(grounding, instances=Instances(regions, grounding.text)).on_latent((8, 8))
    rows = rows_of(on_latent, (0, 2))
    bias = rows.at((8, 8), torch.zeros(1)).bias[:, 0].exp()
    usual = rows_of(grounding.on_latent((8, 8)), (0, 2)).at((8, 8), torch.zeros(1)).bias[:, 0].exp()
    for number, owner in enumerate(rows.owners()):
        wanted = {None: 1, 0: 0.25, 2: 4}[owner and owner[0]]
        assert (bias / usual)[number].item() == pytest.approx(wanted)


def test_a_negative_has_null_tokens_alone(grounding):
    rows = rows_of(grounding.on_latent((8, 8)), None)
    assert not any(rows.owners()) and not rows.chosen


def test_what_is_kept_of_one_place_is_not_taken_for_another(grounding):
    on_latent = grounding.on_latent((8, 8))
    whole = rows_of(on_latent, (0, 1, 2))
    right = rows_of(on_latent, (0, 1, 2), area=(8, 4, 0, 4))
    lower = rows_of(on_latent, (0, 1, 2), area=(4, 8, 4, 0))
    assert whole.chosen == (0, 1, 2) and right.chosen == (1, 2) and lower.chosen == (2,)
    assert torch.allclose(right.boxes, torch.tensor([[0, 0, 1, 0.5], [0, 0.5, 1, 1]]))
    assert torch.allclose(lower.boxes, torch.tensor([[0.5, 0, 1, 1]]))
    again = rows_of(on_latent, (0, 1, 2), strength=0.5)
    assert again.chosen == whole.chosen and torch.equal(again.tokens.objs, whole.tokens.objs)
    assert (again.strength, whole.strength) == (0.5, 1.0)


def test_what_is_kept_for_one_grid_or_precision_is_not_taken_for_another(grounding):
    rows = rows_of(grounding.on_latent((8, 8)), (0, 1))
    for like in (torch.zeros(1), torch.zeros(1).half()):
        for grid in ((8, 8), (4, 4)):
            given = rows.at(grid, like)
            assert given.bias.dtype == given.objs.dtype == like.dtype
            assert given.bias.shape[-1] == grid[0] * grid[1]


def test_without_regions_the_fusers_run_all_the_same(grounding):
    assert grounding.acts(()) and grounding.acts((0,))


@pytest.mark.parametrize(
    "text, words",
    [
        (EncodedText(("a",), torch.zeros(1, 6, 8), "t5"), "read by CLIP, but these were read by T5"),
        (ReadPhrases(("a",), torch.zeros(1, 5), torch.zeros(1, 77, 64)), "CLIP gives 5 numbers.*takes 768"),
    ],
)
def test_phrases_that_it_cannot_take_are_refused(grounding, text, words):
    with pytest.raises(ValueError, match=words):
        replace(grounding, instances=Instances(REGIONS[:1], text))


def test_a_masking_that_there_is_not_is_refused_with_those_that_there_are(grounding):
    with pytest.raises(ValueError, match="masked is 'on'.*off, as written, as meant"):
        replace(grounding, masked="on")
