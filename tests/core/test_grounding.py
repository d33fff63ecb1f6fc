"""Tokens for a timestep, their bounded memory, schedules and placements."""

from dataclasses import replace

import pytest
import torch
from deig_pack.deig_core.deig.adapter import Adapter, AdapterSizes, load_adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.deig.ide import IDESizes
from deig_pack.deig_core.deig.refiner import Refiner, instance_tokens
from deig_pack.deig_core.fusion.grounding import CallGrounding
from deig_pack.deig_core.fusion.instances import EncodedText, Instances, ReadPhrases
from deig_pack.deig_core.fusion.placement import Placement
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.deig_core.regions.region import Region

CPU, FLOAT = torch.device("cpu"), torch.float32
SIZES = AdapterSizes(
    IDESizes(text_width=10, width=16, tokens=3, layers=1, time_channels=8, time_width=12, mlp_width=24),
    position_hidden_width=20,
    context_width=16,
    fusers=(
        ("input_blocks.1.1.transformer_blocks.0", 32, 64),
        ("middle_block.1.transformer_blocks.0", 40, 80),
    ),
)
REGIONS = tuple(
    Region(name, box)
    for name, box in {"a": (0, 0, 0.5, 0.5), "b": (0.5, 0, 1, 1), "c": (0.2, 0.2, 0.8, 0.8)}.items()
)


def encoded(*phrases, width=10, encoder="t5"):
    torch.manual_seed(len(phrases))
    return EncodedText(phrases, torch.randn(len(phrases), 6, width), encoder)


@pytest.fixture
def refiner():
    torch.manual_seed(0)
    return Refiner(Adapter(SIZES).eval())


def test_tokens_are_those_of_the_ide(refiner):
    text = encoded("a", "b", "a")
    text.features[2] = text.features[0]
    tokens = refiner.tokens(text, 500, CPU, FLOAT)
    with torch.no_grad():
        expected = refiner.adapter.IDE(text.features, torch.full((3,), 500))
    assert torch.allclose(tokens, expected, atol=1e-6)
    assert refiner.evaluated == 2  # the same phrase twice is extracted once


@pytest.mark.parametrize("known", [(0,), (2,), (3, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("asked", [(0, 1, 2, 3), (3, 0, 2), (1, 1, 0), (2, 3, 2, 0)])
def test_a_phrase_has_its_own_tokens_whatever_is_remembered(refiner, known, asked):
    everything = encoded("a", "b", "c", "d")

    def text_of(numbers):
        chosen = list(numbers)
        return EncodedText(tuple(everything.phrases[i] for i in chosen), everything.features[chosen], "t5")

    refiner.tokens(text_of(known), 500, CPU, FLOAT)
    tokens = refiner.tokens(text_of(asked), 500, CPU, FLOAT)
    with torch.no_grad():
        expected = refiner.adapter.IDE(everything.features, torch.full((4,), 500))
    assert torch.pdist(expected.flatten(1)).min() > 0.01, "phrases differ far more than rounding"
    assert torch.allclose(tokens, expected[list(asked)], atol=1e-6)
    assert refiner.evaluated == len({*known, *asked})


def test_tokens_are_remembered_for_each_phrase_and_timestep(refiner):
    text = encoded("a", "b", "c")
    first = refiner.tokens(text, 500, CPU, FLOAT)
    assert torch.equal(refiner.tokens(text, 500, CPU, FLOAT), first) and refiner.evaluated == 3
    refiner.tokens(text, 499, CPU, FLOAT)
    assert refiner.evaluated == 6
    refiner.tokens(encoded("a", "new", "c"), 500, CPU, FLOAT)
    assert refiner.evaluated == 7
    refiner.tokens(encoded("a", encoder="another t5"), 500, CPU, FLOAT)
    assert refiner.evaluated == 8


def test_tokens_are_kept_for_each_type_and_device(refiner):
    text = encoded("a")
    narrow = refiner.tokens(text, 500, CPU, FLOAT)
    refiner.adapter.double()
    wide = refiner.tokens(text, 500, CPU, torch.float64)
    assert (narrow.dtype, wide.dtype) == (FLOAT, torch.float64)
    assert not torch.equal(wide.float(), wide) and torch.allclose(wide.float(), narrow, atol=1e-5)
    refiner.adapter.to("meta")
    assert refiner.tokens(text, 500, torch.device("meta"), torch.float64).is_meta
    assert refiner.evaluated == 3


@pytest.mark.parametrize("member", [None, 0, 1])
def test_alone_an_instances_phrase_stands_in_for_the_prompt(refiner, member):
    """The first instance is an instance too, though its number counts as nothing."""
    text, prompt = encoded("a", "b"), encoded("a street")
    on_latent = Grounding(refiner, Instances(REGIONS[:2], text)).on_latent((8, 8))
    found = on_latent.prompt(prompt, member, 500, CPU, FLOAT)
    meant = prompt if member is None else text
    with torch.no_grad():
        expected = refiner.adapter.IDE(meant.features, torch.full((len(meant.phrases),), 500))[member or 0]
    assert torch.allclose(found[0], expected, atol=1e-6)


def test_the_memory_is_bounded_and_forgets_the_longest_unused(refiner):
    refiner.capacity = 4
    for timestep in (1, 2, 3, 4):
        refiner.tokens(encoded("a"), timestep, CPU, FLOAT)
    refiner.tokens(encoded("a"), 1, CPU, FLOAT)  # used again
    refiner.tokens(encoded("a"), 5, CPU, FLOAT)  # pushes out 2
    assert refiner.evaluated == 5
    refiner.tokens(encoded("a"), 1, CPU, FLOAT)
    assert refiner.evaluated == 5
    refiner.tokens(encoded("a"), 2, CPU, FLOAT)
    assert refiner.evaluated == 6


def test_more_phrases_than_the_memory_holds(refiner):
    refiner.capacity = 2
    text = encoded("a", "b", "c", "d")
    assert refiner.tokens(text, 7, CPU, FLOAT).shape == (4, 3, 16)


def test_no_phrases_give_no_tokens(refiner):
    text = EncodedText((), torch.empty(0, 6, 10), "t5")
    assert refiner.tokens(text, 7, CPU, FLOAT).shape == (0, 3, 16)


def test_features_of_another_width_are_refused(refiner):
    with pytest.raises(ValueError, match="'t5' gives features 11 wide, .* reads features 10 wide"):
        Grounding(refiner, Instances(REGIONS, encoded("a", "b", "c", width=11)))


def test_an_instances_tokens_are_counted_from_one(refiner):
    assert Grounding(refiner, Instances(REGIONS, encoded("a", "b", "c"))).token_names == ("1", "2", "3")


def test_phrases_that_clip_read_are_refused(refiner):
    text = ReadPhrases(("a",), torch.zeros(1, 10), torch.zeros(1, 77, 16))
    with pytest.raises(ValueError, match="takes phrases read by T5.*DEIG Load Text Encoder"):
        Grounding(refiner, Instances(REGIONS[:1], text))


@pytest.mark.parametrize("width, told", [(2048, True), (10, False)])
def test_the_released_encoder_is_named_where_it_is_the_one_that_is_wanted(width, told):
    sizes = replace(SIZES, ide=replace(SIZES.ide, text_width=width))
    with torch.device("meta"):
        refiner = Refiner(Adapter(sizes))
    with pytest.raises(ValueError) as refused:
        Grounding(refiner, Instances(REGIONS[:1], encoded("a", width=9)))
    assert ("(Flan-T5-XL)" in str(refused.value)) == told


def test_at_strength_zero_and_for_negatives_nothing_is_computed(refiner):
    on_latent = Grounding(refiner, Instances(REGIONS, encoded("a", "b", "c"))).on_latent((8, 8))
    for strength, chosen in ((0.0, (0, 1, 2)), (1.0, None)):
        rows = on_latent.rows(2, strength, chosen, None, 500, CPU, FLOAT)
        assert (rows.rows, rows.strength, rows.chosen, rows.objs) == (2, strength, (), None)
    assert refiner.evaluated == 0


def test_a_block_without_a_fuser_passes_image_tokens_on(refiner):
    on_latent = Grounding(refiner, Instances(REGIONS, encoded("a", "b", "c"))).on_latent((4, 4))
    rows = on_latent.rows(1, 1.0, (0, 1, 2), None, 500, CPU, FLOAT)
    x = torch.randn(1, 16, 32)
    assert CallGrounding(refiner.adapter, [rows]).fuse(x, ("output", 9, 0), (4, 4)) is x


@pytest.mark.parametrize(
    "percent, strength", [(0.0, 0.0), (0.1, 0.0), (0.2, 0.8), (0.49, 0.8), (0.6, 0.4), (0.7, 0.0), (1.0, 0.0)]
)
def test_a_schedule_is_full_strength_then_decay_then_off(percent, strength):
    schedule = Schedule(0.8, start_percent=0.2, end_percent=0.7, decay_percent=0.2)
    assert schedule.strength_at(percent) == pytest.approx(strength)


def test_a_schedule_to_the_end_has_the_last_point():
    assert Schedule().strength_at(1.0) == 1.0 and Schedule().strength_at(0.0) == 1.0
    assert Schedule(decay_percent=0.5).strength_at(1.0) == 0.0
    assert Schedule(end_percent=0.0).strength_at(0.0) == 0.0


@pytest.mark.parametrize(
    "values",
    [
        {"strength": -1},
        {"strength": float("nan")},
        {"strength": float("inf")},
        {"decay_percent": float("inf")},
        {"start_percent": 0.6, "end_percent": 0.5},
        {"end_percent": 1.1},
        {"decay_percent": -0.1},
        {"decay_percent": float("nan")},
    ],
)
def test_a_schedule_out_of_range_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Schedule(**values)


def tokens_of(refiner, regions, percent=0.5, **placement):
    grounding = Grounding(refiner, Instances(regions, encoded(*(region.phrase for region in regions))))
    placement = Placement(regions, (16, 16), **placement)
    text, active = grounding.instances.text, grounding.active(percent)
    return instance_tokens(grounding.refiner, text, placement, active, 500, CPU, FLOAT)


def test_instances_take_part_where_and_when_they_are_there(refiner):
    assert tokens_of(refiner, REGIONS)[0] == (0, 1, 2)
    assert tokens_of(refiner, REGIONS, area=(8, 8, 0, 8))[0] == (1, 2)  # top right quarter
    late = Region("late", (0, 0, 1, 1), start_percent=0.6)
    off = Region("off", (0, 0, 1, 1), strength=0)
    chosen, objs = tokens_of(refiner, (late, REGIONS[1], off))
    assert chosen == (1,) and objs.shape == (1, 3, 16)
    assert tokens_of(refiner, (late,)) == ((), None)


def test_each_that_takes_part_has_the_tokens_of_its_own_phrase(refiner):
    text, placement = encoded("a", "b", "c"), Placement(REGIONS, (16, 16))
    _, whole = instance_tokens(refiner, text, placement, (0, 1, 2), 500, CPU, FLOAT)
    for chosen in ((0,), (1,), (2,), (0, 2), (1, 2)):
        found, objs = instance_tokens(refiner, text, placement, chosen, 500, CPU, FLOAT)
        assert found == chosen and torch.allclose(objs, whole[list(chosen)], atol=1e-6)
    assert (whole[0] - whole[1]).abs().max() > 1e-2


@pytest.mark.parametrize("area", [(8, 16, 4, 8), (6, 10, 3, 5)], ids=["to the edge", "amid"])
def test_a_crop_sees_a_region_where_it_was_drawn(area):
    """Pooled places of a crop are the crop of the pooled places."""
    height, width, y, x = area
    whole = Placement(REGIONS, (16, 24)).bias((0, 1, 2), (16, 24), torch.empty(0)).reshape(3, 16, 24)
    crop = Placement(REGIONS, (16, 24), area).bias((0, 1, 2), (height, width), torch.empty(0))
    assert torch.equal(crop.reshape(3, height, width), whole[:, y : y + height, x : x + width])


def test_boxes_of_a_crop_are_fractions_of_it():
    boxes = Placement(REGIONS, (16, 24), area=(8, 16, 4, 8)).boxes_of((0, 1, 2), CPU)
    # "a" reaches 4 of 16 columns and 4 of 8 rows into the crop, "b" begins at its column 4 and goes beyond it.
    expected = [[0, 0, 0.25, 0.5], [0.25, 0, 1, 1], [0, 0, 11.2 / 16, 8.8 / 8]]
    assert torch.allclose(boxes, torch.tensor(expected).clamp(max=1))


def test_bias_is_the_logarithm_of_strength():
    regions = (Region("a", (0, 0, 0.5, 1), strength=0.5), Region("b", (0.5, 0, 1, 1)))
    bias = Placement(regions, (4, 4)).bias((0, 1), (4, 4), torch.empty(0)).reshape(2, 4, 4).exp()
    assert torch.allclose(bias[0], torch.tensor([0.5, 0.5, 0, 0]).expand(4, 4))
    assert torch.allclose(bias[1], torch.tensor([0.0, 0, 1, 1]).expand(4, 4))


def test_each_region_keeps_its_own_strength_whichever_are_chosen():
    regions = (Region("a", (0, 0, 1, 1), strength=0.5), Region("b", (0, 0, 1, 1), strength=2))
    bias = Placement(regions, (4, 4)).bias((1,), (4, 4), torch.empty(0)).exp()
    assert torch.allclose(bias, torch.tensor(2.0))


def test_texts_on_a_device_are_each_their_own(refiner):
    run = Grounding(refiner, Instances(REGIONS, encoded("a", "b", "c"))).on_latent((16, 24))
    for text in (encoded("a prompt"), encoded("another", "prompt")):
        moved = run.on(text, CPU, torch.float64)
        assert moved.phrases == text.phrases and torch.equal(moved.features, text.features.double())
        assert run.on(text, CPU, torch.float64) is moved, "it goes there once"


def test_what_one_choice_of_regions_is_given_is_not_anothers():
    one, empty = Placement(REGIONS, (16, 24)), torch.empty(0)
    for chosen in ((0, 1), (1,), (2,), (2, 0), (0, 1)):
        fresh = Placement(REGIONS, (16, 24))
        assert torch.equal(one.bias(chosen, (16, 24), empty), fresh.bias(chosen, (16, 24), empty))
        boxes = torch.tensor([REGIONS[i].box for i in chosen])
        assert torch.equal(one.boxes_of(chosen, CPU), boxes)
    assert one.bias((0,), (8, 12), empty).shape == (1, 96)
    assert one.bias((0,), (16, 24), empty.double()).dtype == torch.float64
    assert one.boxes_of((0,), torch.device("meta")).is_meta


def test_front_hides_only_behind_regions_that_act():
    front = Placement((REGIONS[1], REGIONS[2]), (16, 16), front=True)
    both = front.bias((0, 1), (16, 16), torch.empty(0)).exp()
    assert (both.sum(0) <= 1).all()
    alone = front.bias((0,), (16, 16), torch.empty(0)).exp()
    assert alone.sum() > both[0].sum()


def test_an_adapter_goes_through_the_checkpoint_names_and_back():
    adapter = Adapter(SIZES)
    state = adapter.checkpoint_state()
    assert "IDE.connector.perceiver_blocks.0.attn.in_proj_weight" in state
    assert "middle_block.1.transformer_blocks.0.fuser.attn.to_q.weight" in state
    again = load_adapter(state)
    assert again.sizes == SIZES
    # It paints and is never trained here: memory for gradients would be kept at each step.
    assert not again.training and not any(weight.requires_grad for weight in again.parameters())
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, adapter.state_dict()[key])


def test_missing_unexpected_and_misshapen_tensors_are_named():
    state = Adapter(SIZES).checkpoint_state()
    del state["position_net.linears.2.bias"]
    state["IDE.surprise"] = torch.zeros(1)
    state["middle_block.1.transformer_blocks.0.fuser.norm1.weight"] = torch.zeros(3)
    with pytest.raises(ValueError) as refused:
        load_adapter(state)
    text = str(refused.value)
    assert "missing: position_net.linears.2.bias" in text
    assert "unexpected: IDE.surprise" in text
    assert "middle_block.1.transformer_blocks.0.fuser.norm1.weight (3,), expected (40,)" in text


@pytest.mark.parametrize(
    "name, shape, words",
    [
        ("IDE.connector.latents", (3, 20), "is 20 wide, which 8 heads of attention cannot share"),
        ("IDE.time_embedding.linear_1.weight", (12, 9), "takes 9 numbers, and as many cosines as sines"),
        (
            "middle_block.1.transformer_blocks.0.fuser.linear.weight",
            (42, 16),
            "fuser of middle_block.* is 42 wide, which its 8 heads",
        ),
    ],
)
def test_an_adapter_of_sizes_that_cannot_be_is_refused(name, shape, words):
    state = Adapter(SIZES).checkpoint_state() | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=words):
        load_adapter(state)


def test_fusers_of_more_than_one_unet_are_refused():
    """Two names of one block."""
    state = Adapter(SIZES).checkpoint_state()
    old, new = "input_blocks.1.1.", "input_blocks.1.0."
    state |= {key.replace(old, new): tensor for key, tensor in state.items() if old in key}
    with pytest.raises(ValueError, match="fusers of its 3 blocks are of more than one UNet"):
        load_adapter(state)


@pytest.mark.parametrize(
    "part, words", [("IDE.", "lacks the layers of its IDE"), (".fuser.", "lacks its fusers")]
)
def test_half_an_adapter_is_refused(part, words):
    state = {key: tensor for key, tensor in Adapter(SIZES).checkpoint_state().items() if part not in key}
    with pytest.raises(ValueError, match=words):
        load_adapter(state)
