"""The ways of painting instances that are compared, each ready for the host's sampler."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import comfy.sample
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.fusion.grounding import GroundedRows
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.host.unet import COND, patch_model

from . import models
from .dense import patch_dense
from .measure import Measured, measuring

PLAIN, DEIG, GLIGEN, AREAS, MASKS = "plain", "DEIG", "GLIGEN", "areas", "masks"
INSTANCE_DIFFUSION = "InstanceDiffusion"
DENSE, DENSE_FUSED = "dense", "dense, fused kernel"


@dataclass(eq=False)
class Case:
    """One way of painting a number of instances.

    Args:
        way: its name.
        count: how many instances.
        model: the host's ModelPatcher.
        positive, negative: conditioning.
        calls: what was measured; the first run, in which tokens are computed, is left out.
    """

    way: str
    count: int
    model: object
    positive: list
    negative: list
    calls: Measured = field(default_factory=Measured)

    @property
    def seconds(self) -> float:
        return min(self.calls.seconds)

    @property
    def peak(self) -> int | None:
        peaks = [peak for peak in self.calls.peak if peak is not None]
        return min(peaks) if peaks else None

    def __str__(self) -> str:
        return f"{self.way}, N = {self.count}" if self.count else self.way

    def call(
        self, latent_size: tuple[int, int], seed: int = 0, steps: int = 1, into: Measured | None = None
    ) -> torch.Tensor:
        """Sample, measuring each denoising of positive and negative together, and return the latent."""
        model = self.model.clone()

        def timed(executor, *args, **kwargs):
            with measuring(Measured() if into is None else into, model.load_device):
                return executor(*args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "bench", timed)
        latent = torch.zeros(1, 4, *latent_size)
        noise = comfy.sample.prepare_noise(latent, seed)
        return comfy.sample.sample(
            model,
            noise,
            steps,
            5.0,
            "euler",
            "normal",
            self.positive,
            self.negative,
            latent,
            disable_pbar=True,
        )


class Models:
    """Full-size models of one precision, all with the same weights where they have the same names."""

    def __init__(self, dtype: torch.dtype):
        self.unet = models.full_unet(dtype)
        state = models.adapter_state(dtype)
        self.refiner, self.adapter = models.full_adapter(state)
        self.gligen = models.full_gligen(state, dtype)
        self.instances, self.instances_adapter = models.full_instance_diffusion(state, dtype)


def plain(on: Models) -> Case:
    return Case(PLAIN, 0, on.unet, models.conditioning(1), models.conditioning(2))


def deig(on: Models, count: int) -> Case:
    """DEIG as it is; with no instances the fusers run as they do for a negative."""
    patched = patch_model(on.unet, on.adapter, models.grounding(on.refiner, max(count, 1)), Schedule())
    if not count:
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "bench none", _without_instances)
    return Case(DEIG, count, patched, plain(on).positive, plain(on).negative)


def instance_diffusion(on: Models, count: int) -> Case:
    """InstanceDiffusion on the same boxes; negatives run the fusers with null tokens."""
    grounding = models.instance_grounding(on.instances, count)
    patched = patch_model(on.unet, on.instances_adapter, grounding, Schedule())
    return Case(INSTANCE_DIFFUSION, count, patched, plain(on).positive, plain(on).negative)


def _without_instances(executor, *args, **kwargs):
    # Without a region DEIG would be off altogether. transformer_options is the sixth argument.
    call = args[5][COND].grounding
    call.groups = [GroundedRows(group.rows, group.strength) for group in call.groups]
    return executor(*args, **kwargs)


def dense(on: Models, count: int, fused_kernel: bool) -> Case:
    patched = patch_dense(on.unet, on.adapter, models.grounding(on.refiner, count), fused_kernel)
    return Case(
        DENSE_FUSED if fused_kernel else DENSE, count, patched, plain(on).positive, plain(on).negative
    )


def gligen(on: Models, count: int, latent_size: tuple[int, int]) -> Case:
    boxes = [
        (models.conditioning(10 + number)[0][0][:, 0], *_cells(region, latent_size))
        for number, region in enumerate(models.layout(count))
    ]
    positive = models.conditioning(1, gligen=("position", on.gligen, boxes))
    return Case(GLIGEN, count, on.unet, positive, plain(on).negative)


def areas(on: Models, count: int) -> Case:
    """The prompt for the whole, and one for each box: ConditioningSetAreaPercentage and ConditioningCombine."""
    entries = plain(on).positive
    for number, region in enumerate(models.layout(count)):
        x0, y0, x1, y1 = region.box
        area = ("percentage", y1 - y0, x1 - x0, y0, x0)
        entries += models.conditioning(10 + number, area=area, strength=1.0, set_area_to_bounds=False)
    return Case(AREAS, count, on.unet, entries, plain(on).negative)


def masks(on: Models, count: int, latent_size: tuple[int, int]) -> Case:
    """The same with ConditioningSetMask, "set_cond_area" at its default: each entry runs on the whole picture."""
    entries = plain(on).positive
    for number, region in enumerate(models.layout(count)):
        height, width, y, x = _cells(region, latent_size)
        mask = torch.zeros(1, *latent_size)
        mask[:, y : y + height, x : x + width] = 1
        entries += models.conditioning(10 + number, mask=mask, mask_strength=1.0, set_area_to_bounds=False)
    return Case(MASKS, count, on.unet, entries, plain(on).negative)


def _cells(region: Region, latent_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Height, width, y and x of a box in cells of the latent."""
    x0, y0, x1, y1 = region.box
    rows, columns = latent_size
    top, left = round(y0 * rows), round(x0 * columns)
    return round(y1 * rows) - top, round(x1 * columns) - left, top, left


def all_cases(
    on: Models, latent_size: tuple[int, int], counts: Sequence[int], dense_count: int, area_count: int
) -> Iterator[Case]:
    yield plain(on)
    for count in sorted({0, dense_count, *counts}):
        yield deig(on, count)
    for count in counts:
        yield instance_diffusion(on, count)
    yield dense(on, dense_count, fused_kernel=False)
    yield dense(on, dense_count, fused_kernel=True)
    for count in counts:
        yield gligen(on, count, latent_size)
    for count in counts:
        yield areas(on, count)
    yield masks(on, area_count, latent_size)
