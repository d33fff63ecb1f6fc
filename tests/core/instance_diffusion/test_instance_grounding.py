"""Regions turned into what the fusers need: whose each token is, on which latent, in which crop."""

import math
from dataclasses import replace

import pytest
import torch
from deig_pack.deig_core.fusion.instances import EncodedText, Instances, ReadPhrases
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from deig_pack.deig_core.instance_diffusion.grounding import InstanceGrounding
from deig_pack.deig_core.instance_diffusion.masked_attention import AS_MEANT
from deig_pack.deig_core.instance_diffusion.places import places_of
from deig_pack.deig_core.instance_diffusion.uni_fusion import RELEASED_KINDS
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


@pytest.mark.parametrize("kinds", ["box", "point"])
@pytest.mark.parametrize("chosen", [(0, 1, 2), (2,), (0, 2)])
def test_a_token_is_made_of_its_own_regions_phrase_and_place(grounding, chosen, kinds):
    """And of those kinds of place that the grounding uses; the whole list at once tells what each should be."""
    kinds = RELEASED_KINDS[kinds]
    rows = rows_of(replace(grounding, kinds=kinds).on_latent((8, 8)), chosen)
    all_three = grounding.adapter.position_net(grounding.text.pooled, places_of(REGIONS), kinds)
    expected = {
        (slot, kind): objs
        for slot, kind, objs in zip(all_three.slots, all_three.kinds, all_three.objs, strict=True)
    }
    own = [number for number, slot in enumerate(rows.tokens.slots) if slot is not None]
    assert len(own) == 4 * len(chosen)
    for number in own:
        kind, region = rows.tokens.kinds[number], chosen[rows.tokens.slots[number]]
        assert torch.allclose(rows.tokens.objs[number], expected[region, kind], atol=1e-6)


def test_phrases_are_read_in_the_precision_asked_for(grounding):
    """CLIP may give them in half of it."""
    text = replace(grounding.text, pooled=grounding.text.pooled.half())
    halves = rows_of(replace(grounding, instances=Instances(REGIONS, text)).on_latent((8, 8)), (0, 1))
    whole = rows_of(grounding.on_latent((8, 8)), (0, 1))
    assert halves.tokens.objs.dtype == torch.float32
    assert torch.allclose(halves.tokens.objs, whole.tokens.objs, atol=1e-2)


@pytest.mark.parametrize(
    "percent, active", [(0.0, (0,)), (0.3, (0, 2)), (0.6, (0, 2)), (0.8, (0,)), (1.0, (0,))]
)
def test_regions_act_in_their_own_time_and_not_at_strength_0(grounding, percent, active):
    settings = {}, {"strength": 0.0}, {"start_percent": 0.3, "end_percent": 0.8}
    regions = tuple(replace(region, **own) for region, own in zip(REGIONS, settings, strict=True))
    assert replace(grounding, instances=Instances(regions, grounding.text)).active(percent) == active


def test_regions_are_not_settled_where_they_overlap(grounding):
    assert not grounding.front


def test_instances_are_kept_apart_where_that_is_asked_for(grounding):
    """On 4096 image tokens a region's tokens for its box are seen in it alone, and 0.25 strong means a quarter."""
    weak = (replace(REGIONS[0], strength=0.25), *REGIONS[1:])
    apart = replace(grounding, masked=AS_MEANT, instances=Instances(weak, grounding.text))
    rows = rows_of(apart.on_latent((64, 64)), (0, 1))
    given = rows.at((64, 64), torch.zeros(1))
    bias = given.bias.view(-1, 64, 64)
    boxes = {0: (slice(0, 16), slice(0, 16)), 1: (slice(0, 32), slice(32, 64))}
    for number, owner in enumerate(rows.owners()):
        log = math.log(rows.tokens.counts[number] * (0.25 if owner and owner[0] == 0 else 1))
        expected = torch.full((64, 64), log)
        if rows.tokens.kinds[number] in ("boxes", "polygons"):
            expected = torch.full((64, 64), -torch.inf)
            if owner:
                expected[boxes[owner[0]]] = log
        assert torch.allclose(bias[number], expected)
    seen = (given.image_bias == 0).sum(1).view(64, 64)
    assert (seen[0, 0], seen[0, 32], seen[20, 0]) == (16 * 16, 32 * 32, 1)
    elsewhere = rows.at((32, 32), torch.zeros(1))
    assert elsewhere.image_bias is None and elsewhere.bias.isfinite().all()


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


def test_what_a_fuser_needs_is_the_same_whenever_it_is_asked_for(grounding):
    on_latent = grounding.on_latent((8, 8))
    first = rows_of(on_latent, (0, 1)).at((4, 8), torch.zeros(1))
    again = on_latent.rows(3, 0.5, (0, 1), None, 0.7, CPU, torch.float32).at((4, 8), torch.zeros(1))
    assert torch.equal(first.bias, again.bias) and torch.equal(first.objs, again.objs)
    assert first.bias.shape == (len(first.objs), 32) and (first.rows, again.rows) == (1, 3)


def test_a_fuser_reads_the_tokens_of_a_place_once(grounding):
    """Through all steps of a run, and at any strength; those of another place anew."""
    on_latent = grounding.on_latent((8, 8))
    fuser = grounding.adapter.fuser(("input", 1, 0))
    x = torch.randn(1, 64, 320, generator=torch.Generator().manual_seed(1))
    read = []
    hook = fuser.linear.register_forward_hook(lambda _, given, out: read.append(len(out)))
    results = []
    for strength in (1.0, 0.5, 1.0):
        rows = rows_of(on_latent, (0, 1), strength=strength)
        results.append(fuser(x, [rows.at((8, 8), x)], rows.strength))
    assert len(read) == 1
    fuser(x, [rows_of(on_latent, (2,)).at((8, 8), x)])
    hook.remove()
    assert len(read) == 2
    assert torch.equal(results[0], results[2]) and not torch.allclose(results[0], results[1], atol=1e-3)


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
