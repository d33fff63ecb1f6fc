"""What tests make once and use again, until the session ends.

`functools.cache` would keep it until the interpreter takes its modules apart, and a ModelPatcher that ends only then
prints a traceback.
"""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)

_caches: list = []


def kept(function: Function) -> Function:
    """Remember what a function of hashable arguments returned, as `functools.cache` does."""
    remembering = cache(function)
    _caches.append(remembering)
    return remembering


def let_go():
    """Forget all of it."""
    for remembering in _caches:
        remembering.cache_clear()
