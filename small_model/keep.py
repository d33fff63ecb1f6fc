"""Keeping what training has done so far, so that being stopped in the middle of it loses nothing."""

from pathlib import Path

import torch


def save_whole(state: dict, path: Path):
    """Save a state, replacing what is there only when all of it is written."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.replace(path)


def load_same(path: Path, settings: dict, device: torch.device) -> dict:
    """Load a state that was saved with the same settings, which it has under that name.

    Raises:
        ValueError: if they are others.
    """
    state = torch.load(path, map_location=device, weights_only=True)
    if state["settings"] != settings:
        raise ValueError(
            f"The training in {path.parent} was begun with {state['settings']}, not {settings}. Go on with the same, "
            "or begin anew with another --run folder."
        )
    return state
