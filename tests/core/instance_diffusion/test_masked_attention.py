"""The fuser with InstanceDiffusion's tokens, and with its mask, against the reference's."""

import pytest
import torch
from deig_pack.deig_core.fusion.fuser import Fuser, Grounded
from deig_pack.deig_core.instance_diffusion.masked_attention import (
    AS_MEANT,
    AS_WRITTEN,
    OFF,
    image_bias,
    masked_places,
    token_bias,
)
from deig_pack.deig_core.instance_diffusion.uni_fusion import RELEASED_KINDS, Kinds, Tokens, log_counts
from deig_pack.tests.core.instance_diffusion.goldens import read_golden, relative_difference

POINTS_ALONE = RELEASED_KINDS["point"]
DEFAULT = RELEASED_KINDS["mask"]


def fuser_of(golden):
    state, inputs, outputs, config = golden
    fuser = Fuser(config["query_dim"], config["context_dim"], heads=config["n_heads"])
    fuser.load_state_dict(state)
    return fuser.requires_grad_(False), inputs, outputs


def every_token(objs, instances):
    """All 184 tokens, each for itself."""
    slots = tuple(slot if slot < instances else None for slot in range(30))
    kinds = [kind for kind in ("boxes", "points", "scribbles", "polygons") for _ in range(30)]
    return Tokens(objs, (1,) * 184, slots * 4 + (None,) * 64, (*kinds, *["masks"] * 64))


def distinct_tokens(objs, instances):
    """The tokens that differ, where slots without an instance hold the same."""
    tokens = every_token(objs, instances)
    kept = [i for i in range(184) if i >= 120 or i % 30 <= instances]
    counts = tuple(30 - instances if i < 120 and i % 30 == instances else 1 for i in kept)
    return Tokens(
        objs[kept], counts, tuple(tokens.slots[i] for i in kept), tuple(tokens.kinds[i] for i in kept)
    )


def grounded(tokens, bias=None, visible=None, count=4096):
    logs = log_counts(tokens, (1.0,) * 30)
    return Grounded(
        1, tokens.objs[:, None], logs[:, None].expand(-1, count) if bias is None else bias, visible
    )


@pytest.mark.parametrize("scale", [0, 0.5, 1])
def test_null_tokens_once_are_all_of_them(scale):
    fuser, inputs, outputs = fuser_of(read_golden("fuser"))
    groups = [
        grounded(distinct_tokens(objs, instances), count=64)
        for objs, instances in zip(inputs["objs"], inputs["instances"].tolist(), strict=True)
    ]
    result = fuser(inputs["x"], groups, scale)
    assert relative_difference(result, outputs[f"scale_{scale}"]) <= 1e-5
    # Both ways of attending: the one that passes gradients on is that of a GPU.
    result = fuser(inputs["x"].clone().requires_grad_(), groups, scale)
    assert relative_difference(result, outputs[f"scale_{scale}"]) <= 1e-5


@pytest.fixture(scope="module")
def masked():
    return fuser_of(read_golden("masked_attention"))


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_the_references_mask(masked, needs_gradient):
    fuser, inputs, outputs = masked
    tokens = every_token(inputs["objs"][0], len(inputs["boxes"]))
    places = masked_places(inputs["boxes"], DEFAULT, (64, 64), AS_WRITTEN)
    assert torch.equal(places, inputs["att_masks"][: len(places)].flatten(1).bool())
    bias = token_bias(places, tokens, log_counts(tokens, (1.0,) * 30))
    x = inputs["x"].clone().requires_grad_(needs_gradient)
    result = fuser(x, [grounded(tokens, bias, image_bias(places))])
    assert relative_difference(result, outputs["masked"]) <= 1e-5
    assert relative_difference(fuser(x, [grounded(tokens)]), outputs["unmasked"]) <= 1e-5


def test_as_meant_is_the_references_mask_of_the_mirrored_picture(masked):
    """Boxes and image tokens mirrored at the diagonal give what the reference gives, mirrored."""
    fuser, inputs, outputs = masked
    mirror = torch.arange(4096).view(64, 64).T.flatten()
    tokens = every_token(inputs["objs"][0], len(inputs["boxes"]))
    places = masked_places(inputs["boxes"], DEFAULT, (64, 64), AS_MEANT)
    bias = token_bias(places, tokens, log_counts(tokens, (1.0,) * 30))
    result = fuser(inputs["x"][:, mirror], [grounded(tokens, bias, image_bias(places))])
    assert relative_difference(result[:, mirror], outputs["masked"]) <= 1e-5


def test_as_meant_lies_where_the_box_does():
    box = torch.tensor([[0.25, 0.5, 0.75, 0.625]])
    for grid in ((64, 64), (32, 128)):
        place = masked_places(box, DEFAULT, grid, AS_MEANT).view(grid)
        expected = torch.zeros(grid, dtype=torch.bool)
        expected[grid[0] // 2 : grid[0] * 5 // 8, grid[1] // 4 : grid[1] * 3 // 4] = True
        assert torch.equal(place, expected)


@pytest.mark.parametrize(
    "kinds, grid, masked, edges",
    [
        (DEFAULT, (64, 64), OFF, (0.0, 0.0, 0.5, 0.5)),
        (DEFAULT, (32, 32), AS_MEANT, (0.0, 0.0, 0.5, 0.5)),
        (DEFAULT, (64, 96), AS_WRITTEN, (0.0, 0.0, 0.5, 0.5)),
        (POINTS_ALONE, (64, 64), AS_WRITTEN, (0.0, 0.0, 0.5, 0.5)),
        (Kinds(boxes=False, masks=False), (64, 64), AS_MEANT, (0.0, 0.0, 0.5, 0.5)),
        (DEFAULT, (64, 64), AS_WRITTEN, (0.5, 0.1, 0.505, 0.9)),  # it covers no token
    ],
)
def test_where_nothing_is_masked(kinds, grid, masked, edges):
    assert masked_places(torch.tensor([edges]), kinds, grid, masked) is None


@pytest.mark.parametrize("kinds", [Kinds(boxes=False), Kinds(masks=False)])
def test_boxes_or_masks_are_enough_for_it(kinds):
    places = masked_places(torch.tensor([[0.0, 0.0, 0.5, 0.5]]), kinds, (64, 64), AS_MEANT)
    assert places.sum() == 32 * 32


def test_without_instances_nothing_is_masked():
    assert masked_places(torch.zeros(0, 4), DEFAULT, (64, 64), AS_WRITTEN) is None


def test_the_background_sees_only_itself():
    places = torch.tensor([[True, True, False, False], [False, True, True, False]])
    sees = image_bias(places) == 0
    assert sees.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
