"""The ways of painting instances that are compared, each ready for the host's sampler."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from statistics import median

import comfy.sample
import torch
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.fusion.grounding import GroundedRows
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.host.unet import COND, patch_model

from bench.random_weights import clip_conditioning

from . import models
from .dense import patch_dense
from .measure import timing
from .pairs import CaseName
from .questions import (
    AREA_COUNT,
    AREAS,
    COUNTS,
    DEIG,
    DENSE,
    DENSE_COUNT,
    DENSE_FUSED,
    GLIGEN,
    INSTANCE_DIFFUSION,
    MASKS,
    PLAIN,
)

Meter = Callable[[torch.device], AbstractContextManager]
Size = tuple[int, int]  # rows and columns of a latent


@dataclass(eq=False)
class Case:
    """One way of painting a number of instances.

    Args:
        model: the host's ModelPatcher.
        positive, negative: conditioning.
        size: of the latent, in cells.
    """

    model: object
    positive: list
    negative: list
    size: Size

    def call(self, seed: int = 0, steps: int = 1, meter: Meter | None = None) -> torch.Tensor:
        """Sample, and return the latent; each denoising of positive and negative together runs in a `meter`."""
        model = self.model.clone()

        def metered(executor, *args, **kwargs):
            with meter(model.load_device):
                return executor(*args, **kwargs)

        if meter is not None:
            model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "bench", metered)
        latent = torch.zeros(1, 4, *self.size)
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

    def seconds(self, steps: int = 1) -> float:
        """Sample, and return the seconds of a step: the median of all but the first, or of the only one."""
        found = []
        self.call(steps=steps, meter=partial(timing, found))
        return median(found[1:] or found)


class Models:
    """Models of one precision, all with the same weights where they have the same names.

    Args:
        config: of the UNet, one of `models`.
    """

    def __init__(self, dtype: torch.dtype, config: dict = models.SD15):
        self.dtype = dtype
        self.unet = models.random_unet(config, dtype)
        self._state = models.adapter_state(dtype, models.fuser_widths(self.unet))
        self.refiner, self.adapter = models.random_adapter(self._state)

    @cached_property
    def gligen(self):
        return models.random_gligen(self._state, self.dtype)

    @cached_property
    def instance_diffusion(self):
        """The adapter and its patcher."""
        return models.random_instance_diffusion(self._state, self.unet, self.dtype)


def plain(on: Models, size: Size) -> Case:
    return Case(on.unet, clip_conditioning(1), clip_conditioning(2), size)


def deig(on: Models, size: Size, count: int) -> Case:
    """DEIG as it is; with no instances the fusers run as they do for a negative."""
    patched = patch_model(on.unet, on.adapter, models.grounding(on.refiner, max(count, 1)), Schedule())
    if not count:
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "bench none", _without_instances)
    return replace(plain(on, size), model=patched)


def _without_instances(executor, *args, **kwargs):
    # Without a region DEIG would be off altogether. transformer_options is the sixth argument.
    call = args[5][COND].grounding
    call.groups = [GroundedRows(group.rows, group.strength) for group in call.groups]
    return executor(*args, **kwargs)


def instance_diffusion(on: Models, size: Size, count: int) -> Case:
    """InstanceDiffusion on the same boxes; negatives run the fusers with null tokens."""
    adapter, patcher = on.instance_diffusion
    patched = patch_model(on.unet, patcher, models.instance_grounding(adapter, count), Schedule())
    return replace(plain(on, size), model=patched)


def dense(on: Models, size: Size, count: int, fused_kernel: bool) -> Case:
    patched = patch_dense(on.unet, on.adapter, models.grounding(on.refiner, count), fused_kernel)
    return replace(plain(on, size), model=patched)


def gligen(on: Models, size: Size, count: int) -> Case:
    boxes = [
        (clip_conditioning(10 + number)[0][0][:, 0], *_cells(region, size))
        for number, region in enumerate(models.layout(count))
    ]
    return replace(plain(on, size), positive=clip_conditioning(1, gligen=("position", on.gligen, boxes)))


def areas(on: Models, size: Size, count: int) -> Case:
    """The prompt for the whole, and one for each box: ConditioningSetAreaPercentage and ConditioningCombine."""
    case = plain(on, size)
    for number, region in enumerate(models.layout(count)):
        x0, y0, x1, y1 = region.box
        area = ("percentage", y1 - y0, x1 - x0, y0, x0)
        case.positive.extend(
            clip_conditioning(10 + number, area=area, strength=1.0, set_area_to_bounds=False)
        )
    return case


def masks(on: Models, size: Size, count: int) -> Case:
    """The same with ConditioningSetMask, "set_cond_area" at its default: each entry runs on the whole picture."""
    case = plain(on, size)
    for number, region in enumerate(models.layout(count)):
        height, width, y, x = _cells(region, size)
        mask = torch.zeros(1, *size)
        mask[:, y : y + height, x : x + width] = 1
        case.positive.extend(
            clip_conditioning(10 + number, mask=mask, mask_strength=1.0, set_area_to_bounds=False)
        )
    return case


def _cells(region: Region, size: Size) -> tuple[int, int, int, int]:
    """Height, width, y and x of a box in cells of the latent."""
    x0, y0, x1, y1 = region.box
    rows, columns = size
    top, left = round(y0 * rows), round(x0 * columns)
    return round(y1 * rows) - top, round(x1 * columns) - left, top, left


def makers(on: Models, size: Size) -> dict[CaseName, Callable[[], Case]]:
    """Return what makes each case that `questions` asks about."""
    return {
        CaseName(PLAIN): partial(plain, on, size),
        **{CaseName(DEIG, count): partial(deig, on, size, count) for count in {0, DENSE_COUNT, *COUNTS}},
        **{
            CaseName(INSTANCE_DIFFUSION, count): partial(instance_diffusion, on, size, count)
            for count in COUNTS
        },
        CaseName(DENSE, DENSE_COUNT): partial(dense, on, size, DENSE_COUNT, fused_kernel=False),
        CaseName(DENSE_FUSED, DENSE_COUNT): partial(dense, on, size, DENSE_COUNT, fused_kernel=True),
        **{CaseName(GLIGEN, count): partial(gligen, on, size, count) for count in COUNTS},
        **{CaseName(AREAS, count): partial(areas, on, size, count) for count in COUNTS},
        CaseName(MASKS, AREA_COUNT): partial(masks, on, size, AREA_COUNT),
    }
