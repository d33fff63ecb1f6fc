"""The host takes the stand-in models for the real thing: nothing missing, nothing left over."""

import comfy.model_base
import pytest
from deig_pack.tests import standins

from bench import random_weights


@pytest.mark.parametrize(
    "size, model", [(standins.FAST, "fast_model"), (standins.FULL_DEPTH, "full_depth_model")]
)
def test_unet_has_exactly_the_weights_of_the_file(size, model, request):
    unet = request.getfixturevalue(model).model.diffusion_model
    shapes = {name: tuple(weight.shape) for name, weight in unet.state_dict().items()}
    assert shapes == standins.unet_shapes(size)


def test_models_are_sd15(fast_model, full_depth_model):
    for patcher in (fast_model, full_depth_model):
        assert type(patcher.model) is comfy.model_base.BaseModel
        assert type(patcher.model.model_config).__name__ == "SD15"


def test_full_depth_has_the_sixteen_transformers_of_sd1():
    names = standins.transformer_names(standins.FULL_DEPTH)
    down = [f"input_blocks.{i}.1" for i in (1, 2, 4, 5, 7, 8)]
    up = [f"output_blocks.{i}.1" for i in range(3, 12)]
    assert names == [*down, "middle_block.1", *up]
    assert len(standins.transformer_names(standins.FAST)) == 7


def test_same_seed_gives_the_same_weights():
    shapes = standins.adapter_shapes(["middle_block.1"], text_width=64, layers=1)
    first, again = random_weights.draw_weights(shapes, seed=1), random_weights.draw_weights(shapes, seed=1)
    other = random_weights.draw_weights(shapes, seed=2)
    assert all(first[name].equal(again[name]) for name in shapes)
    assert not any(first[name].equal(other[name]) for name in shapes)
