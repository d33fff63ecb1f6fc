"""Keeping what training has done so far, so that being stopped in the middle of it loses nothing."""

from pathlib import Path

import torch


def save_whole(state: dict, path: Path):
    """Save a state, replacing what is there only when all of it is written."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.replace(path)
