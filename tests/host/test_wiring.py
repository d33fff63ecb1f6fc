"""What the nodes do with their inputs: each reaches the place that its tooltip speaks of."""

import logging

import pytest
import torch
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.grounding import ApplyToModel, EncodePrompt, EncodeRegions, RefineInstances
from deig_pack.nodes.types import LoadedAdapter
from deig_pack.tests.host.test_patch import (
    POSITIVE,
    adapter_patcher,
    calls_of,
    features,
    sample,
)

OVERLAPPING = (
    Region("a red mug", (0.1, 0.1, 0.7, 0.7)),
    Region("a green lamp", (0.4, 0.4, 0.9, 0.9)),
)


class Encoder:
    """Reads phrases as `features` does; what the text encoder itself does has tests of its own."""

    def encode(self, phrases):
        return features(*phrases)


@pytest.fixture
def adapter(fast_adapter_state):
    import comfy.ops

    refiner = Refiner(load_adapter(fast_adapter_state, operations=comfy.ops.manual_cast))
    return LoadedAdapter(refiner, adapter_patcher(refiner.adapter))


def refined(adapter, overlap="share", regions=OVERLAPPING):
    (instances,) = EncodeRegions.execute(Encoder(), regions).result
    return RefineInstances.execute(adapter, instances, overlap)[0]


def first_call(model, **options):
    with calls_of(model) as calls:
        sample(model, **options)
    return calls[0]["grounding"]


def test_overlap_decides_who_has_the_contested_tokens(adapter, fast_model):
    """share: both regions act in the corner that they share; front: only the later one."""
    for overlap, earlier_acts in (("share", True), ("front", False)):
        model = ApplyToModel.execute(fast_model, refined(adapter, overlap), 1.0, 0.0, 1.0, 0.0)[0]
        (group,) = [group for group in first_call(model).groups if group.chosen]
        bias = group.at((16, 16), torch.zeros(1)).bias.reshape(2, 16, 16)
        earlier, later = bias[:, 9, 9]  # 0.53 to 0.62 of each side: in both boxes
        assert (earlier.isfinite(), later.isfinite()) == (earlier_acts, True)


def test_each_setting_of_apply_reaches_the_schedule(adapter, fast_model):
    def strengths(*settings):
        model = ApplyToModel.execute(fast_model, refined(adapter), *settings)[0]
        with calls_of(model) as calls:
            sample(model, steps=10, cfg=1.0)
        return [call["grounding"].groups[0].strength if call["grounding"] else 0.0 for call in calls]

    assert strengths(0.7, 0.0, 1.0, 0.0) == [0.7] * 10
    late, early, decaying = (
        strengths(1.0, 0.5, 1.0, 0.0),
        strengths(1.0, 0.0, 0.5, 0.0),
        strengths(1.0, 0.0, 1.0, 1.0),
    )
    assert late[0] == 0 and late[-1] == 1 and early[0] == 1 and early[-1] == 0
    assert sorted(decaying, reverse=True) == decaying and len(set(decaying)) == 10


def test_a_prompt_keeps_what_other_nodes_put_beside_it():
    other, area = object(), (8, 8, 0, 0)
    conditioning = [[POSITIVE[0][0], {"model_conds": {"other pack": other}, "area": area, "strength": 0.5}]]
    ((context, options),) = EncodePrompt.execute(Encoder(), "a kitchen", conditioning)[0]
    assert context is conditioning[0][0]
    assert options["model_conds"]["other pack"] is other and len(options["model_conds"]) == 2
    assert (options["area"], options["strength"]) == (area, 0.5)


@pytest.mark.parametrize("count", [30, 31])
def test_more_regions_than_the_weights_saw_are_warned_about(caplog, count):
    regions = tuple(Region(f"thing {i}", (0, 0, 1, 1)) for i in range(count))
    with caplog.at_level(logging.WARNING):
        (instances,) = EncodeRegions.execute(Encoder(), regions).result
    assert ("regions" in caplog.text) == (count > 30)
    assert instances.regions == regions and instances.text.phrases == tuple(r.phrase for r in regions)
