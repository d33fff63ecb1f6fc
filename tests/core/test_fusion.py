"""The fast fusion and rasterising against the dense oracle, over sizes, counts, overlaps and batches."""

import math
from itertools import combinations

import pytest
import torch
from deig_pack.deig_core.fusion.fuser import Fuser, Grounded
from deig_pack.deig_core.regions.raster import cell_places, later_in_front, token_places
from deig_pack.deig_core.regions.region import Region
from deig_pack.tests.core.oracle import dense_fuser, dense_places
from hypothesis import given, settings
from hypothesis import strategies as st

WIDTH, CONTEXT, TOKENS = 16, 12, 3


def make_fuser(seed=0):
    """A small fuser whose attention is far from flat, so that a wrong mask shows."""
    torch.manual_seed(seed)
    fuser = Fuser(WIDTH, CONTEXT).requires_grad_(False)
    for layer in (fuser.attn.to_q, fuser.attn.to_k):
        layer.weight *= 6
    fuser.alpha_attn.fill_(0.9)
    fuser.alpha_dense.fill_(-0.7)
    return fuser


@st.composite
def boxes(draw):
    edges = st.floats(0, 1, width=32)
    x0, x1 = sorted((draw(edges), draw(edges)))
    y0, y1 = sorted((draw(edges), draw(edges)))
    # A box of less than a pixel is where this pack goes beyond the reference; it has a test of its own.
    return x0, y0, min(max(x1, x0 + 1 / 64), 1), min(max(y1, y0 + 1 / 64), 1)


def valid_boxes():
    return boxes().filter(lambda box: box[2] - box[0] >= 1 / 64 and box[3] - box[1] >= 1 / 64)


latent_sizes = st.tuples(st.integers(8, 40), st.integers(8, 40))


@given(latent_sizes, st.integers(0, 3), st.lists(valid_boxes(), max_size=8))
@settings(max_examples=60, deadline=None)
def test_places_equal_pooled_pixels(latent_size, halvings, box_list):
    grid = tuple(math.ceil(size / 2**halvings) for size in latent_size)
    regions = [Region("thing", box) for box in box_list]
    places = token_places(cell_places(regions, latent_size), latent_size, grid)
    assert places.shape == (len(regions), *grid)
    for place, region in zip(places, regions, strict=True):
        assert torch.equal(place > 0, torch.as_tensor(dense_places(region.box, latent_size, grid)))


@given(
    latent_sizes,
    st.integers(0, 3),
    st.floats(0, 1 - 1e-6),
    st.floats(0, 1 - 1e-6),
    st.floats(1e-6, 1e-3),
)
@settings(max_examples=60, deadline=None)
def test_no_region_is_lost_because_it_is_small(latent_size, halvings, x, y, side):
    grid = tuple(math.ceil(size / 2**halvings) for size in latent_size)
    region = Region("speck", (x, y, min(x + side, 1), min(y + side, 1)))
    assert token_places(cell_places([region], latent_size), latent_size, grid).any()


def test_a_grid_that_is_no_halving_is_pooled_by_fractions():
    """PatchModelAddDownscale scales activations by any factor."""
    places = token_places(cell_places([Region("left", (0, 0, 0.5, 1))], (64, 64)), (64, 64), (43, 43))
    assert places[0, :, :22].all() and not places[0, :, 22:].any()


@given(latent_sizes, st.lists(valid_boxes(), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_front_gives_each_contested_token_to_one_region(latent_size, box_list):
    shared = cell_places([Region("thing", box) for box in box_list], latent_size)
    front = later_in_front(shared)
    assert (front <= shared).all()
    assert (front.flatten(1) > 0).any(1).all(), "a region lost its last token"
    tokens = (front > 0).flatten(1).sum(1)
    for earlier, later in combinations(range(len(front)), 2):
        contested = ((front[earlier] > 0) & (shared[later] > 0)).sum()
        assert contested == 0 or tokens[earlier] == 1, "an earlier region holds more than its last token"
    assert torch.equal((front > 0).any(0), (shared > 0).any(0)), "a token that was claimed has no region"


@st.composite
def groups_of_rows(draw, most_instances):
    """Rows of a batch: for each group how many rows, and its boxes with their strengths."""
    instance = st.tuples(valid_boxes(), st.sampled_from([1.0, 1.0, 0.25, 3.0]))
    return draw(
        st.lists(
            st.tuples(st.integers(1, 2), st.lists(instance, max_size=most_instances)), min_size=1, max_size=3
        )
    )


def compare_with_oracle(latent_size, halvings, groups, seed):
    grid = tuple(math.ceil(size / 2**halvings) for size in latent_size)
    fuser, visual = make_fuser(), math.prod(grid)
    torch.manual_seed(seed)
    x = torch.randn(sum(rows for rows, _ in groups), visual, WIDTH)
    gate = torch.rand(())

    grounded, expected, row = [], [], 0
    for rows, instances in groups:
        regions = [Region("thing", box, strength) for box, strength in instances]
        objs = torch.randn(len(regions), TOKENS, CONTEXT)
        places = token_places(cell_places(regions, latent_size), latent_size, grid).flatten(1)
        strengths = torch.tensor([region.strength for region in regions])
        bias = (places * strengths[:, None]).log()
        grounded.append(Grounded(rows, objs, bias) if regions else Grounded(rows))
        inside = torch.stack(
            [torch.as_tensor(dense_places(r.box, latent_size, grid)).flatten() for r in regions]
            or [torch.zeros(visual, dtype=torch.bool)]
        )[: len(regions)]
        for _ in range(rows):
            expected.append(
                dense_fuser(fuser.state_dict(), x[row], objs, inside, strengths.tolist(), gate.item())
            )
            row += 1

    # The second passes gradients on, for which attention to image and instances stays in one piece.
    for tokens in (x, x.clone().requires_grad_()):
        assert (fuser(tokens, grounded, gate) - torch.stack(expected)).abs().max() <= 1e-5


@pytest.mark.parametrize("of_image", [True, False])
def test_gradients_equal_the_oracles(of_image):
    """Training what comes before the fuser, image or instances alone, gets the dense formulation's gradients."""
    latent_size, grid = (16, 16), (16, 16)
    regions = [
        Region("thing", box, strength) for box, strength in (((0, 0, 0.6, 0.6), 1.0), ((0.3, 0.2, 1, 1), 0.5))
    ]
    places = token_places(cell_places(regions, latent_size), latent_size, grid).flatten(1)
    bias = (places * torch.tensor([[1.0], [0.5]])).log()
    inside = torch.stack([torch.as_tensor(dense_places(r.box, latent_size, grid)).flatten() for r in regions])

    def gradients(run):
        fuser = make_fuser()
        torch.manual_seed(1)
        x = torch.randn(math.prod(grid), WIDTH).requires_grad_(of_image)
        objs = torch.randn(2, TOKENS, CONTEXT).requires_grad_()
        weights = torch.randn(math.prod(grid), WIDTH)
        (run(fuser, x, objs) * weights).sum().backward()
        return (x.grad, objs.grad) if of_image else (objs.grad,)

    fast = gradients(lambda fuser, x, objs: fuser(x[None], [Grounded(1, objs, bias)])[0])
    dense = gradients(lambda fuser, x, objs: dense_fuser(fuser.state_dict(), x, objs, inside, [1.0, 0.5]))
    for ours, expected in zip(fast, dense, strict=True):
        assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


@given(latent_sizes, st.integers(1, 3), groups_of_rows(most_instances=6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_fusion_equals_the_oracle(latent_size, halvings, groups, seed):
    compare_with_oracle(latent_size, halvings, groups, seed)


many_boxes = st.integers(0, 40).flatmap(lambda count: st.lists(valid_boxes(), min_size=count, max_size=count))


@given(st.tuples(st.integers(8, 24), st.integers(8, 24)), st.integers(1, 3), many_boxes, st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_fusion_equals_the_oracle_for_any_number_of_instances(latent_size, halvings, box_list, seed):
    compare_with_oracle(latent_size, halvings, [(1, [(box, 1.0) for box in box_list]), (1, [])], seed)


@pytest.mark.parametrize("with_gradients", [False, True])
def test_rows_with_instances_of_their_own_equal_groups_of_one_row(with_gradients):
    """Filled up with instances that are nowhere, as training does; the last row has none at all."""
    fuser, x = make_fuser(), torch.randn(3, 64, WIDTH).requires_grad_(with_gradients)
    bias = (torch.rand(3, 2, 64) < 0.4).float().log()
    bias[1, 1] = bias[2] = -math.inf
    objs = torch.randn(3, 2, TOKENS, CONTEXT)
    apart = fuser(x, [Grounded(1, objs[0], bias[0]), Grounded(1, objs[1, :1], bias[1, :1]), Grounded(1)])
    assert torch.allclose(fuser(x, [Grounded(3, objs, bias)]), apart, atol=1e-6)
    assert not torch.allclose(fuser(x, [Grounded(3, objs.flip(0), bias)]), apart, atol=1e-2)


def test_strength_zero_leaves_image_tokens_as_they_are():
    fuser, x = make_fuser(), torch.randn(2, 64, WIDTH)
    bias = torch.zeros(1, 64)
    out = fuser(x, [Grounded(1, torch.randn(1, TOKENS, CONTEXT), bias), Grounded(1)], 0.0)
    assert torch.equal(out, x)


def test_a_strength_for_each_row():
    fuser, x = make_fuser(), torch.randn(2, 64, WIDTH)
    groups = [Grounded(1, torch.randn(2, TOKENS, CONTEXT), torch.zeros(2, 64)), Grounded(1)]
    both = fuser(x, groups, torch.tensor([0.3, 0.8])[:, None, None])
    assert torch.equal(both[:1], fuser(x[:1], groups[:1], 0.3))
    assert torch.equal(both[1:], fuser(x[1:], groups[1:], 0.8))


@pytest.mark.parametrize("strength", [0.25, 4.0])
def test_strength_weighs_an_instance(strength):
    """An instance of strength n counts like n of the same: softmax of logits + log n."""
    fuser, x, obj = make_fuser(), torch.randn(1, 64, WIDTH), torch.randn(1, TOKENS, CONTEXT)
    weighed = fuser(x, [Grounded(1, obj, torch.full((1, 64), math.log(4.0)))])
    repeated = fuser(x, [Grounded(1, obj.expand(4, -1, -1), torch.zeros(4, 64))])
    assert torch.allclose(weighed, repeated, atol=1e-6)
    other = fuser(x, [Grounded(1, obj, torch.full((1, 64), math.log(strength)))])
    assert not torch.allclose(other, fuser(x, [Grounded(1, obj, torch.zeros(1, 64))]), atol=1e-4)
