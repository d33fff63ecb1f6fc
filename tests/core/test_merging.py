"""One latent out of those of the whole picture and of each instance."""

import torch
from deig_pack.deig_core.fusion.merging import merge_latents

WHOLE = torch.full((2, 4, 3, 3), 6.0)
ALONE = torch.stack((torch.full((2, 4, 3, 3), 12.0), torch.full((2, 4, 3, 3), 0.0)))


def test_average_is_the_mean_of_all_everywhere():
    assert torch.equal(merge_latents(WHOLE, ALONE), WHOLE)
    assert torch.equal(merge_latents(WHOLE, ALONE[:1]), torch.full_like(WHOLE, 9.0))


def test_place_is_the_mean_inside_and_the_whole_elsewhere():
    places = torch.zeros(2, 3, 3)
    places[0, 0] = 1  # the top row
    places[1, :, 0] = 0.3  # the left column, softly
    merged = merge_latents(WHOLE, ALONE, places)
    expected = torch.tensor([[6.0, 9.0, 9.0], [3.0, 6.0, 6.0], [3.0, 6.0, 6.0]])  # the corner is of all three
    assert torch.equal(merged, expected.expand_as(merged))
