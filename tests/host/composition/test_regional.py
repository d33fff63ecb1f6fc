"""What works by masks beside DEIG: an attention patch as IP-Adapter's, kept to one region's mask."""

import pytest
import torch
import torch.nn.functional as F
from deig_pack.nodes.masks import RegionsToMasks
from deig_pack.tests.host.composition.helpers import SMALL, TWO, differs, small_sample
from deig_pack.tests.host.test_patch import difference


def masks_of(choose):
    height, width = (8 * cells for cells in SMALL)
    return RegionsToMasks.execute(TWO, width, height, choose, "union", "front", 0, 0).args[0]


def with_picture(model, mask, seen=None):
    """The model with a picture's attention added to each cross-attention, in the mask alone, as IP-Adapter does it."""
    patched = model.clone()

    def add(hidden_states, options):
        rows, columns = _grid(hidden_states.shape[1], options["original_shape"][2:])
        inside = F.interpolate(mask[:, None], (rows, columns), mode="bilinear").reshape(1, -1, 1)
        torch.manual_seed(hidden_states.shape[-1])
        added = hidden_states + 3 * inside * torch.randn(hidden_states.shape[-1])
        if seen is not None:
            seen.append((hidden_states, added, inside))
        return added

    patched.set_model_attn2_output_patch(add)
    return patched


def _grid(tokens, latent):
    stride = 1
    while -(-latent[0] // stride) * -(-latent[1] // stride) != tokens:
        stride *= 2
    return -(-latent[0] // stride), -(-latent[1] // stride)


@pytest.mark.parametrize("choose", ["1", "2"])
def test_a_masked_picture_and_deig_both_act(choose, fast_model, grounded, grounded_result):
    seen = []
    both = small_sample(with_picture(grounded, masks_of(choose), seen))
    assert torch.isfinite(both).all()
    assert differs(both, grounded_result)
    assert differs(both, small_sample(with_picture(fast_model, masks_of(choose))))
    for before, after, inside in seen:
        outside = inside[0, :, 0] == 0
        assert torch.equal(before[:, outside], after[:, outside]), "nothing is added beyond the region"
    assert any((inside > 0).any() and (inside == 0).any() for _, _, inside in seen)


def test_each_region_has_its_own_picture(grounded):
    one, other = (small_sample(with_picture(grounded, masks_of(choose))) for choose in ("1", "2"))
    assert differs(one, other)


def test_an_empty_mask_is_the_model_without_the_picture(grounded, grounded_result):
    nothing = torch.zeros_like(masks_of("1"))
    assert difference(small_sample(with_picture(grounded, nothing)), grounded_result) == 0
