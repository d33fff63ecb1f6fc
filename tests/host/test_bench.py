"""The benchmark compares ways of painting that give the same picture where they should."""

import torch
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.nodes.host.unet import patch_model
from deig_pack.tests.host.test_patch import adapter_patcher, difference, make_grounding, sample

from bench.speed.dense import patch_dense


def test_the_dense_formulation_paints_the_same(fast_model, fast_adapter_state):
    grounding = make_grounding(fast_adapter_state)
    adapter = adapter_patcher(grounding.adapter)
    expected = sample(patch_model(fast_model, adapter, grounding, Schedule()))
    plain = sample(fast_model)
    assert difference(plain, expected) > 0.01
    for fused_kernel in (False, True):
        with torch.inference_mode():
            dense = sample(patch_dense(fast_model, adapter, grounding, fused_kernel))
        assert difference(dense, expected) <= 1e-4
