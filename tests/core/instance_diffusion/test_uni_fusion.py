"""UniFusion against the reference's numbers, and what its null tokens stand for."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from deig_pack.deig_core.files.shapes import Shapes
from deig_pack.deig_core.instance_diffusion.convnext import renamed
from deig_pack.deig_core.instance_diffusion.places import Places
from deig_pack.deig_core.instance_diffusion.uni_fusion import (
    RELEASED_KINDS,
    Kinds,
    UniFusion,
    log_counts,
    masks_of_slots,
    read_uni_fusion_sizes,
)
from deig_pack.tests.core.instance_diffusion.goldens import read_golden, relative_difference, seeded_tensor

from bench.released_instance_diffusion import convnext_shapes

CONVNEXT = "convnext_tiny_backbone."
GOLDENS = "INSTANCEDIFFUSION_GOLDENS"
CASES = ("all", "boxes", "boxes_nothing_dropped", "points", "mixed", "mixed_mask", "full30", "none")


def load(state):
    """A UniFusion with weights under the checkpoint's names."""
    sizes = read_uni_fusion_sizes(Shapes(state, "The golden is not a whole UniFusion", "Make it anew."))
    module = UniFusion(sizes, device="meta").eval()
    weights = {
        CONVNEXT + renamed(name.removeprefix(CONVNEXT)) if name.startswith(CONVNEXT) else name: tensor.float()
        for name, tensor in state.items()
    }
    module.load_state_dict(weights, assign=True)
    return module


def case_of(golden, case):
    """The module's arguments in a case, and the 184 tokens that come out."""
    _, inputs, outputs, config = golden
    options = config["cases"][case]
    count = options["instances"]
    own = {
        name.removeprefix(f"{case}."): tensor
        for name, tensor in inputs.items()
        if name.startswith(f"{case}.")
    }
    masks = None
    if "segs_slots" in own:
        masks = torch.zeros(count, 512, 512)
        for slot, packed in zip(own["segs_slots"].tolist(), own["segs_packed"].numpy(), strict=True):
            masks[slot] = torch.from_numpy(np.unpackbits(packed, axis=1)).float()
    places = Places(own["boxes"], own["points"], own["scribbles"], own["polygons"], masks)
    kinds = RELEASED_KINDS[options["flags"].removeprefix("test_")]
    assert torch.equal(own["masks"], (torch.arange(30) < count).float())
    return (own["positive_embeddings"], places, kinds), outputs[f"{case}.objs"]


def all_slots(tokens):
    """Write every token out as often as it counts."""
    return tokens.objs.repeat_interleave(torch.tensor(tokens.counts), 0)


@pytest.fixture(scope="module")
def golden():
    state, *rest = read_golden("unifusion")
    shapes = {f"{CONVNEXT}{name}": shape for name, shape in convnext_shapes().items()}
    convnext = {name: seeded_tensor(name, shape, 31) for name, shape in shapes.items()}
    for name, total in rest[-1]["convnext_check"].items():
        assert convnext[name].double().abs().sum().item() == pytest.approx(total, rel=1e-12)
    return state | convnext, *rest


@pytest.fixture(scope="module")
def module(golden):
    return load(golden[0])


@pytest.mark.parametrize("case", CASES)
def test_the_references_tokens(golden, module, case):
    arguments, expected = case_of(golden, case)
    assert relative_difference(all_slots(module(*arguments)), expected) <= 1e-5


def test_the_references_tokens_with_another_convnext():
    """Every one of its weights lies in the file; it is too large to be kept here."""
    own = Path(__file__).parents[4] / "shared" / "instancediffusion"
    path = Path(os.environ.get(GOLDENS) or own) / "unifusion_small_backbone.safetensors"
    if not path.is_file():
        pytest.skip(f"there is no {path.name} in {path.parent}; {GOLDENS} names its folder")
    golden = read_golden(path)
    module = load(golden[0])
    for case in CASES:
        arguments, expected = case_of(golden, case)
        assert relative_difference(all_slots(module(*arguments)), expected) <= 1e-5


def test_null_tokens_are_there_once(golden, module):
    for case, null_tokens in (("none", 4), ("mixed", 4), ("full30", 0)):
        (phrases, places, kinds), _ = case_of(golden, case)
        tokens = module(phrases, places, kinds)
        assert len(tokens.objs) == 4 * len(phrases) + null_tokens + 64
        assert sum(tokens.counts) == 184
        assert tokens.slots.count(None) == null_tokens + 64
    logs = log_counts(module(*case_of(golden, "mixed")[0]), (1.0, 2.0, 1.0, 0.5, 1.0, 1.0))
    own = [0, math.log(2), 0, math.log(0.5), 0, 0, math.log(24)]
    assert torch.allclose(logs, torch.tensor(own * 4 + [0] * 64))


def test_masks_without_a_pixel_are_no_masks(golden, module):
    """Where the crop that is painted shows no region's mask."""
    (phrases, places, kinds), _ = case_of(golden, "mixed_mask")
    without, empty, some = (
        module(
            phrases, Places(places.boxes, places.points, places.scribbles, places.polygons, masks), kinds
        ).objs
        for masks in (None, torch.zeros_like(places.masks), places.masks)
    )
    assert torch.equal(empty, without) and not torch.equal(some, without)


def test_every_instance_beyond_the_thirtieth_has_its_tokens(golden, module):
    (phrases, places, kinds), _ = case_of(golden, "full30")
    more = {name: torch.cat((tensor, tensor[:2])) for name, tensor in vars(places).items()}
    tokens = module(torch.cat((phrases, phrases[:2])), Places(**more), kinds)
    assert len(tokens.objs) == 4 * 32 + 64 and set(tokens.counts) == {1}
    assert torch.equal(tokens.objs[30:32], tokens.objs[:2])


def test_of_more_than_thirty_masks_the_largest_are_seen():
    masks = torch.zeros(33, 8, 8)
    for slot in range(33):
        masks[slot].view(-1)[: 60 - slot] = 1
    masks[[2, 7, 32]] = masks[[32, 2, 7]]  # the three smallest now are 2, 30 and 31
    kept = masks_of_slots(masks)
    assert torch.equal(kept, masks[[i for i in range(33) if i not in (2, 30, 31)]])
    assert torch.equal(masks_of_slots(masks[:5])[:5], masks[:5]) and not masks_of_slots(masks[:5])[5:].any()


@pytest.mark.parametrize("kind", ["boxes", "points", "scribbles", "masks"])
def test_any_kind_alone_is_enough(kind):
    alone = {name: name == kind for name in vars(Kinds())}
    assert vars(Kinds(**alone)) == alone and all(vars(Kinds()).values())


def test_kinds_that_are_not_named_are_those_of_the_first_released_configuration(golden, module):
    (phrases, places, _), _ = case_of(golden, "points")
    places = Places(**{**vars(places), "masks": None, "scribbles": places.scribbles + 0.5})
    usual, masks, scribbles = (
        module(phrases, places, *kinds).objs
        for kinds in ((), (RELEASED_KINDS["mask"],), (RELEASED_KINDS["scribble"],))
    )
    assert torch.equal(usual, masks) and not torch.allclose(usual, scribbles, atol=1e-3)


def test_at_least_one_kind_is_used():
    with pytest.raises(ValueError, match="choose boxes"):
        Kinds(boxes=False, points=False, scribbles=False, masks=False)
