"""Recordings of what the picture attends to, and which of them belongs to a picture.

The host may run the sampler again on one model (another seed), take its result from a cache, and drop what a node gave
out while it keeps what came of it. So a recording holds no run: all runs lie on one shelf of the process, and a latent
finds its own there by its numbers, whichever node asks.
"""

import threading
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from comfy.patcher_extension import WrappersMP

from ...deig_core.deig.grounding import Grounding
from ...deig_core.fusion.attention_record import AttentionRecord, RecordSettings
from ...deig_core.fusion.fusers import block_id
from ...deig_core.instance_diffusion.grounding import InstanceGrounding
from .unet import KEY

KEPT_BYTES = 256 * 2**20
# Latents that are the same but for rounding: the host may hand them on in 16 bit.
SAME = 0.01


class RecordedRun(NamedTuple):
    """A run that has ended: what it attended to, under which settings, and the latent that came out."""

    settings: RecordSettings
    record: AttentionRecord
    samples: torch.Tensor


class Shelf:
    """The last runs that were recorded.

    Args:
        capacity: how many bytes they may take together; the oldest go first, the newest always stays.
    """

    def __init__(self, capacity: int = KEPT_BYTES):
        self.capacity = capacity
        self._runs: list[RecordedRun] = []  # the newest last
        self._lock = threading.Lock()

    def keep(self, run: RecordedRun):
        """Put a run on the shelf."""
        with self._lock:
            self._runs.append(run)
            while len(self._runs) > 1 and sum(one.record.size() for one in self._runs) > self.capacity:
                self._runs.pop(0)

    def find(self, settings: RecordSettings, samples: torch.Tensor) -> AttentionRecord | None:
        """Return what was recorded under these settings while these samples were made, or None."""
        with self._lock:
            runs = [run for run in reversed(self._runs) if run.settings == settings]
        far = [(_distance(run.samples, samples), number) for number, run in enumerate(runs)]
        nearest, number = min(far, default=(float("inf"), 0))
        return runs[number].record if nearest <= SAME else None


def _distance(kept: torch.Tensor, samples: torch.Tensor) -> float:
    """Return the largest difference of two latents, in parts of the largest value."""
    if kept.shape != samples.shape:
        return float("inf")
    difference = (kept - samples.to(kept)).abs().max() / kept.abs().max().clamp(min=1e-6)
    return float(difference.nan_to_num(nan=float("inf")))


SHELF = Shelf()


@dataclass(frozen=True, eq=False)
class AttentionRecording:
    """What of a model's runs is recorded, and where the runs are to be found.

    Args:
        settings: what is recorded.
        shelf: where a run goes when it has ended.
    """

    settings: RecordSettings
    shelf: Shelf = SHELF

    def begin(
        self, grounding: Grounding | InstanceGrounding, latent_size: tuple[int, int], pictures: int
    ) -> AttentionRecord:
        """Return an empty record for a run."""
        return AttentionRecord(
            grounding.regions, latent_size, pictures, grounding.token_names, self.settings, grounding.front
        )

    def keep(self, record: AttentionRecord, samples: torch.Tensor):
        """Put a record on the shelf, when its run has ended with these samples; an interrupted run leaves none."""
        record.finish()
        self.shelf.keep(RecordedRun(self.settings, record, samples.detach().float().cpu().clone()))

    def of(self, samples: torch.Tensor) -> AttentionRecord:
        """Return the record of the run that made these samples.

        Raises:
            ValueError: in words for an artist, if there is none.
        """
        record = self.shelf.find(self.settings, samples)
        if record is None:
            raise ValueError(
                "These samples were not made by a run that was recorded. Connect the MODEL output of 'DEIG Record "
                "Attention' to the sampler, and the LATENT that comes straight out of that sampler (of "
                "SamplerCustomAdvanced the first) to 'samples' here. If it is connected so, the record has gone since "
                "the sampler ran: run it again with another seed."
            )
        return record


def record_attention(model, recording: AttentionRecording):
    """Return a clone of a model with DEIG, of whose runs it is recorded what the picture attends to.

    Args:
        model: from `unet.patch_model`, or a clone of that.
        recording: what is recorded.

    Raises:
        ValueError: if the model has no DEIG, is recorded already, or has not the blocks that are asked for.
    """
    wrappers = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
    if not wrappers:
        raise ValueError(
            "This model has no DEIG, so there is no attention to instances that could be recorded. Connect the MODEL "
            "output of 'DEIG Apply to Model' here."
        )
    (ground,) = wrappers
    if ground.keywords.get("recording") is not None:
        raise ValueError(
            "This model's attention is recorded already. Use one 'DEIG Record Attention' for a model; to compare two "
            "parts of the schedule, branch off two and give each a sampler."
        )
    fusers = ground.keywords["grounding"].adapter.sizes.fusers
    recording.settings.blocks.check(block_id(path) for path, *_ in fusers)
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, partial(ground, recording=recording))
    return patched
