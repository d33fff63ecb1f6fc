"""How long tests look for trouble: as CI can afford, or a hundred times as long (`python run.py test --long`)."""

import os

LONG = bool(os.environ.get("DEIG_LONG"))


def examples(count: int) -> int:
    """Return how many examples a property is tried on, of which CI tries `count`."""
    return count * 100 if LONG else count
