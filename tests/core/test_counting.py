"""Multiplications are those of the formulas, on every path that a model takes on a CPU."""

import pytest
import torch
import torch.nn.functional as F

from bench.speed.counting import count_multiplications


def attention(mask=None):
    q, k = torch.randn(2, 8, 100, 40), torch.randn(2, 8, 50, 40)
    return lambda: F.scaled_dot_product_attention(q, k, k, attn_mask=mask)


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (lambda: F.linear(torch.randn(3, 5, 7), torch.randn(11, 7)), 3 * 5 * 7 * 11),
        (
            lambda: torch.einsum("bhid,bhjd->bhij", torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5)),
            6 * 24 * 5,
        ),
        (lambda: F.conv2d(torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), padding=1), 2 * 64 * 4 * 27),
        (attention(), 2 * 16 * 100 * 50 * 40),
        (attention(torch.zeros(100, 50)), 2 * 16 * 100 * 50 * 40),
        (lambda: torch.randn(10) * torch.randn(10), 0),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_counts_are_those_of_the_formulas(call, count, inference):
    with torch.inference_mode(inference), torch.no_grad():
        assert count_multiplications(call) == count
