"""How many multiplications a call makes: what its time would be, were nothing else to be done."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

# torch counts the attention of accelerators, and that of the CPU not yet.
_CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"


def _attention_count(query: torch.Size, key: torch.Size, value: torch.Size, *args, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)


def count_multiplications(call: Callable[[], object]) -> int:
    """Count the multiplications in matrix products, convolutions and attention while `call` runs.

    All of an attention's logits are counted, masked or not: torch computes them all.
    """
    kernel = getattr(torch.ops.aten, _CPU_ATTENTION, None)
    own = {} if kernel is None else {kernel: _attention_count}
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        call()
    return counter.get_total_flops() // 2  # each goes with an addition
