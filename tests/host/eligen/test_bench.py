"""The benchmark compares ways that compute the same where they should."""

import pytest
import torch

SMALL = {
    "FLUX.1": {"hidden_size": 256, "num_heads": 2, "context_in_dim": 96},
    "Qwen-Image": {"num_attention_heads": 2, "joint_attention_dim": 96},
}


@pytest.mark.parametrize("family", SMALL)
def test_the_square_mask_computes_the_same(comfy_host, family, monkeypatch):
    from bench.eligen import models

    monkeypatch.setitem(models.STATES, family, {**models.STATES[family], **SMALL[family]})
    monkeypatch.setitem(models.TEXT_WIDTH, family, 96)
    monkeypatch.setitem(models.TOKENS, family, (12, 20))
    on = models.make(family, 8, (16, 24), torch.float32)
    with torch.inference_mode():
        plain, eligen, dense = on.plain(), on.eligen(), on.dense()
    assert (eligen - dense).abs().max() <= 1e-4 * dense.abs().max()
    assert (plain - dense).abs().max() > 1e-3 * dense.abs().max()
