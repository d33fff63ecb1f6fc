"""Who sees whom where instances are kept apart (InstanceDiffusion, section 3.2: instance-masked attention).

An option that the released model was trained with and that its own program leaves off. It acts in the fusers only, and
only where there are 4096 image tokens, which is the finest level at 512 x 512 pixels. There an image token sees those
others that share an instance's box with it, or itself alone where no box is; of the instances' tokens it sees those
for box and polygon only in their own box, and all others everywhere.

The reference lays boxes out with x along the rows of the tokens, which are in order of y: what is masked is the
picture mirrored at its diagonal. Both are here, AS_WRITTEN as it computes and AS_MEANT with boxes in their places.
"""

from collections.abc import Sequence

import torch

from .uni_fusion import Kinds, Tokens

IMAGE_TOKENS = 4096
OFF, AS_WRITTEN, AS_MEANT = "off", "as written", "as meant"
CHOICES = (OFF, AS_WRITTEN, AS_MEANT)
IN_BOX_ONLY = ("boxes", "polygons")


def masked_places(
    boxes: torch.Tensor, kinds: Kinds, grid: tuple[int, int], masked: str
) -> torch.Tensor | None:
    """Lay boxes onto the image tokens for which attention is masked.

    Args:
        boxes: (n, 4), xyxy, fractions of the image.
        kinds: which kinds of place are used; where neither boxes nor masks are, nothing is masked.
        grid: (rows, columns) of the image tokens.
        masked: one of CHOICES.

    Returns:
        (n, rows * columns), bool; None where nothing is masked.
    """
    rows, columns = grid
    if masked == OFF or rows * columns != IMAGE_TOKENS or not (kinds.boxes or kinds.masks):
        return None
    places = torch.zeros(len(boxes), rows, columns, dtype=torch.bool)
    for place, (x0, y0, x1, y1) in zip(places, boxes.tolist(), strict=True):
        if masked == AS_WRITTEN:
            x0, y0, x1, y1 = y0, x0, y1, x1
        # Half to even, as the reference rounds.
        place[round(y0 * rows) : round(y1 * rows), round(x0 * columns) : round(x1 * columns)] = True
    return places.flatten(1) if places.any() else None


def image_bias(places: torch.Tensor) -> torch.Tensor:
    """Return what is added to the logits between image tokens, (Q, Q): 0 where they see each other, else -inf."""
    inside = places.float()
    sees = (inside.T @ inside) > 0
    return _bias(sees.fill_diagonal_(True))


def token_bias(places: torch.Tensor, tokens: Tokens, logs: torch.Tensor) -> torch.Tensor:
    """Return what is added to the logits between image tokens and grounding tokens.

    Args:
        places: (n, Q), bool.
        tokens: K grounding tokens of n instances.
        logs: (K,), what is added to each token's logits anyway (`log_counts`).

    Returns:
        (K, Q)
    """
    everywhere, nowhere = torch.ones(places.shape[1], dtype=torch.bool), torch.zeros_like(places[:1])[0]
    sees = [
        everywhere if kind not in IN_BOX_ONLY else nowhere if slot is None else places[slot]
        for kind, slot in zip(tokens.kinds, tokens.slots, strict=True)
    ]
    return logs[:, None] + _bias(torch.stack(sees))


def _bias(sees: torch.Tensor) -> torch.Tensor:
    return torch.zeros(sees.shape).masked_fill_(~sees, -torch.inf)


def check_masked(masked: str) -> Sequence[str]:
    """Refuse what is no choice."""
    if masked not in CHOICES:
        raise ValueError(f"masked is {masked!r}; it takes one of {', '.join(CHOICES)}.")
    return CHOICES
