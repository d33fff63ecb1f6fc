"""What the nodes do with their inputs: each reaches the place that its tooltip speaks of."""

import logging
from types import SimpleNamespace

import pytest
import torch
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.fusion.fusers import block_id
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.grounding import ApplyToModel, EncodePrompt, EncodeRegions, RefineInstances
from deig_pack.nodes.host.unet import COND, check_model
from deig_pack.nodes.types import LoadedAdapter
from deig_pack.tests.host.test_patch import (
    NEGATIVE,
    POSITIVE,
    adapter_patcher,
    apply,
    calls_of,
    features,
    make_grounding,
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


def test_blocks_that_one_side_alone_has_are_listed_by_side(fast_model, fast_adapter_state):
    path = next(name.split(".fuser.")[0] for name in fast_adapter_state if ".fuser." in name)
    state = {name: tensor for name, tensor in fast_adapter_state.items() if not name.startswith(path)}
    block = ".".join(map(str, block_id(path)))
    told = rf"Only in the adapter: none; only in the model: {block} \(\d+ wide\)\. Load an adapter"
    with pytest.raises(ValueError, match=told):
        apply(fast_model, make_grounding(state))


@pytest.mark.parametrize(
    "config", [{"context_dim": 1024}, {"context_dim": 768, "use_linear_in_transformer": True}, {}], ids=str
)
def test_each_mark_of_sd1_is_asked_for(config, fast_model, fast_adapter_state):
    """The width of its text, and projections of another kind; a model that says nothing is another too."""
    other = SimpleNamespace(model_config=SimpleNamespace(unet_config=config))
    patcher = SimpleNamespace(model=other, get_wrappers=lambda *_: [])
    adapter = make_grounding(fast_adapter_state).adapter
    with pytest.raises(ValueError, match=r"works on Stable Diffusion 1\.x models"):
        check_model(patcher, adapter)
    check_model(fast_model, adapter)


def test_a_tile_is_told_by_width_and_height_once_a_run(fast_model, fast_adapter_state, caplog):
    patched = apply(fast_model, make_grounding(fast_adapter_state))

    def tiled(apply_model, args):
        halves = [apply_model(half, args["timestep"], **args["c"]) for half in args["input"].chunk(2, dim=-1)]
        return torch.cat(halves, dim=-1)

    patched.set_model_unet_function_wrapper(tiled)
    for runs in (1, 2):
        sample(patched, size=(8, 12), steps=1, cfg=1.0)
        told = [record.message for record in caplog.records if "tiles" in record.message]
        assert len(told) == runs and "latent of 6x8 instead of 12x8" in told[-1]


def test_one_prompt_for_all_of_a_conditioning():
    """Each entry of it, as Conditioning Combine makes them, has the T5 prompt beside its own context."""
    entries = POSITIVE + NEGATIVE
    (prompts,) = EncodePrompt.execute(Encoder(), "a kitchen", entries).result
    assert [context is own for (context, _), (own, _) in zip(prompts, entries, strict=True)] == [True, True]
    held = [options["model_conds"][COND] for _, options in prompts]
    assert [one.prompt.phrases for one in held] == [("a kitchen",)] * 2
    assert all(one.context is own for one, (own, _) in zip(held, entries, strict=True))


def test_a_prompt_alone_has_the_shape_of_clips():
    ((context, options),) = EncodePrompt.execute(Encoder(), "a kitchen")[0]
    assert context.shape == (1, 77, 768) and context.any(), "a node that zeroes it is noticed"
    assert options["pooled_output"].shape == (1, 1280)
