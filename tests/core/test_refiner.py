"""What is kept of tokens and places, and what a latent's rows are given."""

import math

import pytest
import torch
from deig_pack.deig_core.deig.adapter import Adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.deig.refiner import Refiner, instance_tokens
from deig_pack.deig_core.fusion.instances import EncodedText, Instances
from deig_pack.deig_core.fusion.placement import Placement
from deig_pack.deig_core.fusion.schedule import Schedule, active_regions
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests.core.test_grounding import CPU, FLOAT, REGIONS, SIZES, encoded

META = torch.device("meta")
FRONT = (Region("behind", (0, 0, 1, 1)), Region("before", (0, 0, 0.5, 1)))


def new_refiner(**options):
    torch.manual_seed(0)
    return Refiner(Adapter(SIZES).eval(), **options)


def grounding_of(regions, **options):
    text = encoded(*(region.phrase for region in regions))
    return Grounding(new_refiner(), Instances(regions, text), **options)


def test_fifty_phrases_over_forty_steps_are_all_remembered():
    refiner = new_refiner()
    text = EncodedText(tuple(map(str, range(50))), torch.randn(50, 2, 10), "t5")
    for _ in range(2):
        for timestep in range(40):
            refiner.tokens(text, timestep, CPU, FLOAT)
    assert refiner.evaluated == 50 * 40


def test_what_is_remembered_has_a_bound_without_being_told():
    refiner = new_refiner()
    count = 3000
    text = EncodedText(tuple(map(str, range(count))), torch.randn(1, 1, 10).expand(count, -1, -1), "t5")
    refiner.tokens(text, 1, CPU, FLOAT)
    refiner.tokens(text.only(count - 1), 1, CPU, FLOAT)
    assert refiner.evaluated == count
    refiner.tokens(text.only(0), 1, CPU, FLOAT)
    assert refiner.evaluated == count + 1


def test_a_token_kept_holds_no_more_than_its_own_memory():
    refiner = new_refiner(capacity=1)
    refiner.tokens(encoded("a", "b", "c", "d"), 7, CPU, FLOAT)
    (kept,) = refiner._kept.values()
    assert kept.untyped_storage().nbytes() == 3 * 16 * 4


def test_tokens_carry_no_gradient_of_weights_that_could_be_trained():
    refiner, text = new_refiner(), encoded("a", "b", "c")
    assert any(weight.requires_grad for weight in refiner.adapter.parameters())
    assert not refiner.tokens(text, 7, CPU, FLOAT).requires_grad
    _, objs = instance_tokens(refiner, text, Placement(REGIONS, (8, 8)), (0, 2), 7, CPU, FLOAT)
    assert not objs.requires_grad


def test_what_is_made_of_the_tokens_does_not_reach_the_memory():
    refiner, text = new_refiner(), encoded("a", "b")
    first = refiner.tokens(text, 7, CPU, FLOAT)
    before = first.clone()
    first.zero_()
    assert torch.equal(refiner.tokens(text, 7, CPU, FLOAT), before)


def test_no_phrases_give_no_tokens_of_the_type_and_on_the_device_asked_for():
    nothing = EncodedText((), torch.empty(0, 6, 10), "t5")
    found = new_refiner().tokens(nothing, 7, META, torch.float64)
    assert found.is_meta and found.dtype == torch.float64 and found.shape == (0, 3, 16)


def test_one_text_of_many_keeps_its_phrase_features_and_encoder():
    text = encoded("a", "b", "c", encoder="mine")
    one = text.only(1)
    assert (one.phrases, one.encoder) == (("b",), "mine") and torch.equal(one.features, text.features[1:2])


# -- a latent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("area", [None, (8, 8, 0, 8)])
def test_rows_are_of_the_regions_chosen_that_lie_in_the_crop(area):
    grounding = grounding_of(REGIONS)
    on_latent = grounding.on_latent((16, 16))
    rows = on_latent.rows(3, 0.7, (0, 2), area, 500, CPU, FLOAT)
    placement = Placement(REGIONS, (16, 16), area)
    chosen, objs = instance_tokens(
        new_refiner(), grounding.instances.text, placement, (0, 2), 500, CPU, FLOAT
    )
    assert chosen == ((0, 2) if area is None else (2,))
    assert (rows.rows, rows.strength, rows.chosen) == (3, 0.7, chosen)
    assert torch.allclose(rows.objs, objs, atol=1e-6)
    like = torch.empty(0)
    assert torch.equal(rows.placement.bias(chosen, (8, 8), like), placement.bias(chosen, (8, 8), like))
    assert on_latent.placement(area) is rows.placement, "places are laid out once a run"
    assert rows.owners() == tuple((region, token) for region in chosen for token in range(3))


@pytest.mark.parametrize("front", [False, True])
def test_where_places_overlap_a_latent_has_them_as_its_grounding_says(front):
    placement = grounding_of(FRONT, front=front).on_latent((8, 8)).placement(None)
    seen = placement.bias((0, 1), (8, 8), torch.empty(0)).isfinite().sum(1)
    assert seen.tolist() == ([32, 32] if front else [64, 32])


def test_overlapping_places_are_shared_unless_asked_otherwise():
    for placement in (grounding_of(FRONT).on_latent((8, 8)).placement(None), Placement(FRONT, (8, 8))):
        assert placement.bias((0, 1), (8, 8), torch.empty(0)).isfinite().sum() == 96


def test_fusers_act_where_any_region_does():
    grounding = grounding_of(REGIONS)
    assert grounding.acts((0,)) is True and grounding.acts((1, 2)) is True and grounding.acts(()) is False
    assert grounding.regions is REGIONS


def test_regions_act_from_their_start_up_to_their_end():
    regions = (
        Region("early", (0, 0, 1, 1), end_percent=0.4),
        Region("middle", (0, 0, 1, 1), start_percent=0.4, end_percent=0.6),
        Region("late", (0, 0, 1, 1), start_percent=0.6),
        Region("never", (0, 0, 1, 1), strength=0),
        Region("weak", (0, 0, 1, 1), strength=0.01),
    )
    expected = {0.0: (0, 4), 0.39: (0, 4), 0.4: (1, 4), 0.59: (1, 4), 0.6: (2, 4), 1.0: (2, 4)}
    assert {percent: active_regions(regions, percent) for percent in expected} == expected


@pytest.mark.parametrize(
    "values, told",
    [
        ({"strength": -0.5}, ["strength is -0.5"]),
        ({"start_percent": -0.1}, ["start_percent is -0.1", "end_percent 1.0"]),
        ({"start_percent": 0.75, "end_percent": 0.5}, ["start_percent is 0.75", "end_percent 0.5"]),
        ({"end_percent": float("nan")}, ["start_percent is 0.0", "end_percent nan"]),
        ({"decay_percent": -0.25}, ["decay_percent is -0.25"]),
    ],
)
def test_a_schedule_out_of_range_says_which_value_it_was_given(values, told):
    with pytest.raises(ValueError) as refused:
        Schedule(**values)
    assert all(words in str(refused.value) for words in told)


def test_a_decay_from_before_the_start_never_reaches_full_strength():
    schedule = Schedule(0.8, start_percent=0.5, end_percent=0.7, decay_percent=0.4)
    assert schedule.strength_at(0.5) == pytest.approx(0.4) and schedule.strength_at(0.6) == pytest.approx(0.2)
    assert schedule.strength_at(0.49) == 0 and Schedule(strength=0).strength_at(0.5) == 0


# -- places -------------------------------------------------------------------------------------------------


def test_a_strength_too_small_for_half_precision_has_its_logarithm_there():
    """1e-9 itself is 0 in float16, and a region of strength 0 would be nowhere."""
    faint = Placement((Region("a", (0, 0, 0.5, 1), strength=1e-9),), (4, 4))
    bias = faint.bias((0,), (4, 4), torch.empty(0, dtype=torch.float16)).reshape(4, 4)
    assert bias.dtype == torch.float16
    assert bias[:, :2].flatten().tolist() == pytest.approx([math.log(1e-9)] * 8, abs=0.02)
    assert bias[:, 2:].isneginf().all()


def test_no_regions_are_nowhere():
    nothing = Placement((), (4, 6), (2, 3, 1, 1))
    assert nothing.boxes_of((), CPU).shape == (0, 4) and nothing.inside == []
    assert nothing.bias((), (2, 3), torch.empty(0)).shape == (0, 6)


def test_places_are_worked_out_once_for_each_choice_grid_type_and_device():
    placement, like = Placement(REGIONS, (16, 24)), torch.empty(0)
    bias = placement.bias((0, 1), (16, 24), like)
    assert placement.bias((0, 1), (16, 24), like) is bias
    assert placement.bias((0, 1), (16, 24), like.to(META)).is_meta
    assert placement.bias((0, 1), (8, 12), like).shape == (2, 96)
    assert placement.boxes_of((0, 1), CPU) is placement.boxes_of((0, 1), CPU)
