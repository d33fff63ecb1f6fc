"""The patched model in the host, against a plain, dense re-computation from the same weights."""

import contextlib
import math
from dataclasses import replace

import comfy.model_management
import comfy.sample
import comfy.supported_models
import numpy as np
import pytest
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, Upsample
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.deig.grounding import Grounding
from deig_pack.deig_core.deig.position_net import PositionNet
from deig_pack.deig_core.deig.refiner import Refiner
from deig_pack.deig_core.fusion.fusers import block_id
from deig_pack.deig_core.fusion.grounding import CallGrounding
from deig_pack.deig_core.fusion.instances import EncodedText, Instances
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.deig_core.regions.raster import cell_places
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.nodes.host.unet import COND, GroundedCond, PromptCond, Run, Stretch, patch_model
from deig_pack.tests.core.oracle import dense_attention, dense_feed_forward, dense_fuser, dense_places
from deig_pack.tests.host.kept import kept
from deig_pack.tests.pretend import GPU, Copies, pretended_gpu, put_on_gpu

from bench.random_weights import clip_conditioning as clip

TEXT_WIDTH = 64
ENCODER = "a small encoder"
REGIONS = (
    Region("a red mug", (0.05, 0.1, 0.45, 0.6)),
    Region("a green lamp", (0.3, 0.35, 0.9, 0.95)),
    Region("a blue book", (0.7, 0.02, 0.98, 0.3)),
)


def features(*phrases):
    """Stand-in features, the same for the same phrase."""
    rows = [
        torch.randn(128, TEXT_WIDTH, generator=torch.Generator().manual_seed(sum(map(ord, phrase))))
        for phrase in phrases
    ]
    return EncodedText(phrases, torch.stack(rows) if rows else torch.empty(0, 128, TEXT_WIDTH), ENCODER)


def make_grounding(adapter_state, regions=REGIONS, **options):
    import comfy.ops

    refiner = Refiner(load_adapter(adapter_state, operations=comfy.ops.manual_cast))
    return Grounding(refiner, Instances(regions, features(*(region.phrase for region in regions))), **options)


@kept
def adapter_patcher(adapter) -> ModelPatcher:
    """The one patcher of an adapter: the host takes a second one's end for a leak of the first."""
    device = comfy.model_management.get_torch_device()
    return ModelPatcher(adapter, load_device=device, offload_device=device)


def apply(model, grounding, **schedule):
    """Return the model with DEIG, as DEIG_ApplyToModel does."""
    return patch_model(model, adapter_patcher(grounding.adapter), grounding, Schedule(**schedule))


def t5(phrase, seed=7, text=None):
    """A T5 prompt on CLIP conditioning, as DEIG_EncodePrompt makes it."""
    ((context, _),) = clip(seed)
    return [[context, {"model_conds": {COND: PromptCond(text or features(phrase), context)}}]]


POSITIVE, NEGATIVE = clip(1), clip(2)


def sample(
    model, positive=POSITIVE, negative=NEGATIVE, size=(16, 16), steps=2, seed=0, cfg=5.0, batch=1, **options
):
    latent = torch.zeros(batch, 4, *size)
    noise = comfy.sample.prepare_noise(latent, seed)
    options = {"sampler_name": "euler", "scheduler": "normal", "disable_pbar": True, "seed": seed, **options}
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        options["sampler_name"],
        options["scheduler"],
        positive,
        negative,
        latent,
        denoise=options.get("denoise", 1.0),
        disable_pbar=True,
        seed=seed,
    )


@contextlib.contextmanager
def calls_of(model):
    """Collect what goes into and out of the diffusion model while something samples."""
    calls = []

    def spy(
        executor, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs
    ):
        out = executor(x, timesteps, context, y, control, transformer_options, **kwargs)
        calls.append(
            {
                "x": x.clone(),
                "timesteps": timesteps.clone(),
                "context": context.clone(),
                "entries": list(transformer_options["cond_or_uncond"]),
                "grounding": transformer_options[COND].grounding if COND in transformer_options else None,
                "out": out.clone(),
            }
        )
        return out

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "spy", spy)
    yield calls


class DenseUNet:
    """The host's UNet with every transformer block, and every fuser, computed plainly from its weights."""

    def __init__(self, unet, adapter_state):
        self.unet = unet
        self.fusers = {}
        for key, tensor in adapter_state.items():
            if ".fuser." in key:
                path, name = key.split(".fuser.")
                self.fusers.setdefault(block_id(path), {})[name] = tensor.float()

    @torch.no_grad()
    def __call__(self, x, timestep, context, instances):
        """Run one row.

        Args:
            x: (4, h, w), scaled as the UNet takes it; context: (S, 768).
            instances: (objs, boxes, strengths) of the instances, or None for the plain model.
        """
        unet = self.unet
        emb = unet.time_embed(timestep_embedding(timestep[None], unet.model_channels).to(x))
        latent_size, hidden, skips = tuple(x.shape[-2:]), x[None], []

        def run(layers, hidden, block, output_shape=None):
            for layer in layers:
                if isinstance(layer, ResBlock):
                    hidden = layer(hidden, emb)
                elif isinstance(layer, SpatialTransformer):
                    hidden = self.transformer(layer, hidden, context, (*block, 0), latent_size, instances)
                elif isinstance(layer, Upsample):
                    hidden = layer(hidden, output_shape=output_shape)
                else:
                    hidden = layer(hidden)
            return hidden

        for number, layers in enumerate(unet.input_blocks):
            hidden = run(layers, hidden, ("input", number))
            skips.append(hidden)
        hidden = run(unet.middle_block, hidden, ("middle", 0))
        for number, layers in enumerate(unet.output_blocks):
            hidden = torch.cat(self.enter_decoder(number, hidden, skips.pop()), dim=1)
            hidden = run(layers, hidden, ("output", number), skips[-1].shape if skips else None)
        return unet.out(hidden)[0]

    def enter_decoder(self, number, hidden, skip):
        return hidden, skip

    def fuse(self, block, tokens, latent_size, grid, instances):
        objs, boxes, strengths = instances
        places = torch.stack(
            [torch.as_tensor(dense_places(box, latent_size, grid)).flatten() for box in boxes]
            or [torch.zeros(math.prod(grid), dtype=torch.bool)]
        )[: len(boxes)]
        return dense_fuser(self.fusers[block], tokens, objs, places, strengths)

    def transformer(self, layer, hidden, context, block, latent_size, instances):
        _, width, *grid = hidden.shape
        tokens = layer.proj_in(layer.norm(hidden))[0].flatten(1).T
        weights = {k: v.float() for k, v in layer.transformer_blocks[0].state_dict().items()}

        def norm(tokens, number):
            return torch.nn.functional.layer_norm(
                tokens, (width,), weights[f"norm{number}.weight"], weights[f"norm{number}.bias"]
            )

        n = norm(tokens, 1)
        tokens = tokens + dense_attention(n, n, weights, prefix="attn1.")
        if instances is not None:
            tokens = self.fuse(block, tokens, latent_size, tuple(grid), instances)
        tokens = tokens + dense_attention(norm(tokens, 2), context, weights, prefix="attn2.")
        tokens = tokens + dense_feed_forward(norm(tokens, 3), weights)
        return layer.proj_out(tokens.T.reshape(1, width, *grid)) + hidden


def plain_tokens(adapter_state, text, timestep):
    """IDE tokens of phrases, by the plain torch modules that equal the reference's numbers."""
    adapter = load_adapter(adapter_state)
    with torch.no_grad():
        return adapter.IDE(text.features, torch.full((len(text.features),), float(timestep)))


def plain_objs(adapter_state, regions, timestep):
    tokens = plain_tokens(adapter_state, features(*(region.phrase for region in regions)), timestep)
    net: PositionNet = load_adapter(adapter_state).position_net
    with torch.no_grad():
        return net(tokens, torch.tensor([region.box for region in regions]))


def difference(a, b):
    """Largest absolute difference, relative to the largest value: latents of random models run into hundreds."""
    return ((a - b).abs().max() / b.abs().max()).item()


def second_step(patched, size):
    """Sample two steps and return the second call: neither pure noise nor the first timestep."""
    with calls_of(patched) as calls:
        sample(patched, size=size, steps=2)
    assert sorted(calls[-1]["entries"]) == [0, 1]
    return calls[-1]


@pytest.mark.parametrize("size", [(32, 32), (48, 80)], ids=["256x256", "640x384"])
def test_full_depth_equals_dense_recomputation(full_depth_model, full_depth_adapter_state, size):
    patched = apply(full_depth_model, make_grounding(full_depth_adapter_state))
    call = second_step(patched, size)
    dense = DenseUNet(patched.model.diffusion_model, full_depth_adapter_state)
    objs = plain_objs(full_depth_adapter_state, REGIONS, call["timesteps"][0])
    instances = {
        0: (objs, [region.box for region in REGIONS], [1.0] * len(REGIONS)),
        1: (objs[:0], [], []),
    }
    for row, entry in enumerate(call["entries"]):
        expected = dense(call["x"][row], call["timesteps"][row], call["context"][row], instances[entry])
        assert (call["out"][row] - expected).abs().max() <= 1e-4


def test_the_comparison_tells_a_missing_instance(full_depth_model, full_depth_adapter_state):
    """The comparison above means something: one absent instance, or no fuser, lies far outside its tolerance."""
    patched = apply(full_depth_model, make_grounding(full_depth_adapter_state))
    call = second_step(patched, (16, 16))
    dense = DenseUNet(patched.model.diffusion_model, full_depth_adapter_state)
    objs = plain_objs(full_depth_adapter_state, REGIONS, call["timesteps"][0])
    row = call["entries"].index(0)
    for other in ((objs[:2], [region.box for region in REGIONS[:2]], [1.0] * 2), None):
        out = dense(call["x"][row], call["timesteps"][row], call["context"][row], other)
        assert (call["out"][row] - out).abs().max() > 1e-3


def test_strength_zero_is_the_plain_model(fast_model, fast_adapter_state):
    plain = sample(fast_model)
    assert torch.equal(plain, sample(apply(fast_model, make_grounding(fast_adapter_state), strength=0.0)))
    assert not torch.equal(plain, sample(apply(fast_model, make_grounding(fast_adapter_state))))


def test_no_regions_is_the_plain_model(fast_model, fast_adapter_state):
    grounding = make_grounding(fast_adapter_state, regions=())
    assert torch.equal(sample(fast_model), sample(apply(fast_model, grounding)))


def test_regions_of_strength_zero_are_absent(fast_model, fast_adapter_state):
    off = Region("a yellow hat", (0, 0, 0.5, 0.5), strength=0.0)
    with_it = sample(apply(fast_model, make_grounding(fast_adapter_state, (*REGIONS, off))))
    without = sample(apply(fast_model, make_grounding(fast_adapter_state, REGIONS)))
    assert difference(with_it, without) <= 1e-5
    only_off = sample(apply(fast_model, make_grounding(fast_adapter_state, (off,))))
    assert torch.equal(only_off, sample(fast_model))


def test_a_t5_prompt_takes_the_place_of_clip(fast_model, fast_adapter_state):
    for regions in (REGIONS, ()):
        grounding = make_grounding(fast_adapter_state, regions)
        patched = apply(fast_model, grounding)
        with calls_of(patched) as calls:
            sample(patched, t5("a table by a window"), t5("", seed=8))
        for call in calls:
            phrases = ["a table by a window", ""]
            tokens = plain_tokens(fast_adapter_state, features(*phrases), call["timesteps"][0])
            for row, entry in enumerate(call["entries"]):
                assert difference(call["context"][row], tokens[entry]) <= 1e-5


def test_t5_and_clip_in_one_graph(fast_model, fast_adapter_state):
    """16 tokens and 77 cannot share a batch: the two entries go through the model one by one."""
    patched = apply(fast_model, make_grounding(fast_adapter_state))
    with calls_of(patched) as calls:
        sample(patched, t5("a table by a window"), NEGATIVE)
    assert [call["entries"] for call in calls] in ([[0], [1]] * 2, [[1], [0]] * 2)
    contexts = {call["entries"][0]: call["context"] for call in calls}
    assert torch.equal(contexts[1], NEGATIVE[0][0]) and contexts[0].shape[1] < 77


def test_negatives_have_no_instances(fast_model, fast_adapter_state):
    patched = apply(fast_model, make_grounding(fast_adapter_state))
    with calls_of(patched) as calls:
        sample(patched, batch=2)
    for call in calls:
        groups = call["grounding"].groups
        assert [group.rows for group in groups] == [2, 2]
        for entry, group in zip(call["entries"], groups, strict=True):
            assert len(group.chosen) == (len(REGIONS) if entry == 0 else 0) and group.strength == 1.0


def test_outside_start_and_end_no_fuser_runs(fast_model, fast_adapter_state):
    patched = apply(fast_model, make_grounding(fast_adapter_state), start_percent=0.2, end_percent=0.6)
    with calls_of(patched) as calls:
        sample(patched, steps=10)
    percents = [1 - call["timesteps"][0].item() / 999 for call in calls]
    assert [call["grounding"] is not None for call in calls] == [0.2 <= percent < 0.6 for percent in percents]
    assert {call["grounding"] is None for call in calls} == {True, False}


def test_decay_falls_linearly_to_the_end(fast_model, fast_adapter_state):
    patched = apply(
        fast_model, make_grounding(fast_adapter_state), strength=0.8, end_percent=0.9, decay_percent=0.5
    )
    with calls_of(patched) as calls:
        sample(patched, steps=12)
    for call in calls:
        percent = 1 - call["timesteps"][0].item() / 999
        expected = 0.8 * min(max((0.9 - percent) / 0.5, 0), 1)
        strengths = {group.strength for group in call["grounding"].groups} if call["grounding"] else {0.0}
        # The model rounds a sigma to the nearest of 1000 timesteps, the schedule does not.
        assert all(abs(strength - expected) < 2e-3 for strength in strengths)


def test_each_region_has_its_own_clock(fast_model, fast_adapter_state):
    early = Region("a red mug", (0, 0, 0.5, 1), end_percent=0.5)
    late = Region("a green lamp", (0.5, 0, 1, 1), start_percent=0.5)
    patched = apply(fast_model, make_grounding(fast_adapter_state, (early, late)))
    with calls_of(patched) as calls:
        sample(patched, steps=6, cfg=1.0)
    chosen = [call["grounding"].groups[0].chosen for call in calls]
    assert chosen == [(0,) if call["timesteps"][0] > 499.5 else (1,) for call in calls]
    assert set(chosen) == {(0,), (1,)}


@pytest.mark.parametrize("scheduler, denoise", [("karras", 1.0), ("normal", 0.4), ("ddim_uniform", 1.0)])
def test_tokens_belong_to_the_timestep_being_denoised(fast_model, fast_adapter_state, scheduler, denoise):
    grounding = make_grounding(fast_adapter_state)
    patched = apply(fast_model, grounding)
    with calls_of(patched) as calls:
        sample(patched, steps=5, scheduler=scheduler, denoise=denoise, cfg=1.0)
    for call in calls:
        expected = plain_objs(fast_adapter_state, REGIONS, call["timesteps"][0])
        assert difference(call["grounding"].groups[0].objs, expected) <= 1e-5


def test_another_seed_computes_no_tokens(fast_model, fast_adapter_state):
    grounding = make_grounding(fast_adapter_state)
    patched = apply(fast_model, grounding)
    first = sample(patched, t5("a table"), t5(""), seed=1, steps=3)
    evaluated = grounding.refiner.evaluated
    assert evaluated == 3 * (len(REGIONS) + 2)
    second = sample(patched, t5("a table"), t5(""), seed=2, steps=3)
    assert grounding.refiner.evaluated == evaluated
    assert not torch.equal(first, second)


def test_separate_calls_equal_joined_ones(fast_model, fast_adapter_state, monkeypatch):
    patched = apply(fast_model, make_grounding(fast_adapter_state))
    with calls_of(patched) as calls:
        joined = sample(patched, batch=2)
    assert all(len(call["entries"]) == 2 for call in calls)
    # What the host does when memory is short: one entry a call.
    monkeypatch.setattr(type(patched.model), "memory_required", lambda self, shape, **_: shape[0] * 1e20)
    with calls_of(patched) as calls:
        separate = sample(patched, batch=2)
    assert all(len(call["entries"]) == 1 for call in calls)
    assert difference(separate, joined) <= 1e-4
    assert difference(sample(patched, batch=1), joined[:1]) <= 1e-4


def test_an_area_sees_the_regions_where_they_were_drawn(fast_model, fast_adapter_state):
    """An entry with an area is denoised on a crop: boxes are remapped to it, those outside are absent."""
    area = (8, 8, 0, 8)  # height, width, y, x in cells: the top right quarter of 16x16
    patched = apply(fast_model, make_grounding(fast_adapter_state))
    with calls_of(patched) as calls:
        sample(patched, clip(1, area=area, strength=1.0), NEGATIVE)
    cropped = [
        (call, group)
        for call in calls
        for group in call["grounding"].groups
        if group.chosen and call["x"].shape[-2:] == (8, 8)
    ]
    assert cropped
    for _, group in cropped:
        assert group.chosen == (1, 2)  # the red mug ends left of the crop
        boxes = torch.tensor([[0, 0.7, 0.8, 1], [0.4, 0.04, 0.96, 0.6]])
        assert (group.placement.boxes[[1, 2]] - boxes).abs().max() <= 1e-6


def test_adding_a_region_changes_its_own_place_most(fast_model, fast_adapter_state):
    """Same seed and prompt, instances added one at a time (workflows/deig_iterative.json)."""
    pictures = [
        sample(apply(fast_model, make_grounding(fast_adapter_state, REGIONS[:count])), size=(32, 32), steps=3)
        for count in (1, 2, 3)
    ]
    for number, (before, after) in enumerate(zip(pictures, pictures[1:], strict=False), start=1):
        changed = (after - before).abs().mean((0, 1))
        place = cell_places(REGIONS[number : number + 1], (32, 32))[0] > 0
        assert changed[place].mean() > 2 * changed[~place].mean()


def test_a_mask_binds_in_its_shape(fast_model, fast_adapter_state):
    """A ring changes the picture along the ring, more than in its hole or around it, though its box holds all."""
    ys, xs = np.mgrid[:64, :64] - 31.5
    ring = Mask(((np.hypot(ys, xs) < 28) & (np.hypot(ys, xs) > 16)).astype(np.float32))
    region = Region("a wreath", ring.bounding_box(), mask=ring)
    size = (32, 32)
    grounding = make_grounding(fast_adapter_state, (region,))
    # The same, but for the instance: a region of the least strength is masked out of every token.
    absent = make_grounding(fast_adapter_state, (replace(region, strength=1e-30),))
    changed = sample(apply(fast_model, grounding), size=size, steps=1) - sample(
        apply(fast_model, absent), size=size, steps=1
    )
    changed = changed.abs().mean((0, 1))
    place = cell_places((region,), size)[0] > 0
    hole = torch.zeros(size, dtype=torch.bool)
    hole[13:19, 13:19] = True
    assert changed[place].mean() > 2 * changed[hole].mean()
    assert changed[place].mean() > 2 * changed[~place].mean()


def test_a_conditioning_with_t5_needs_a_patched_model(fast_model):
    with pytest.raises(ValueError, match="DEIG Apply to Model"):
        sample(fast_model, t5("a table"), NEGATIVE)


@pytest.mark.parametrize(
    "changed",
    [torch.zeros_like, lambda context: 0.5 * context, lambda context: torch.cat((context, context), 1)],
)
def test_a_t5_prompt_whose_conditioning_was_changed_is_refused(fast_model, fast_adapter_state, changed):
    """ConditioningZeroOut, Average and Concat change the tensor and keep the rest, which holds the prompt."""
    ((context, options),) = t5("a table")
    patched = apply(fast_model, make_grounding(fast_adapter_state))
    with pytest.raises(ValueError, match="empty text"):
        sample(patched, POSITIVE, [[changed(context), options]])


def test_a_prompt_of_another_encoder_is_refused(fast_model, fast_adapter_state):
    patched = apply(fast_model, make_grounding(fast_adapter_state))
    text = features("a table")
    other = EncodedText(text.phrases, text.features, "another encoder")
    with pytest.raises(ValueError, match="same 'DEIG Load Text Encoder'"):
        sample(patched, t5("a table", text=other))
    wider = EncodedText(text.phrases, torch.zeros(1, 128, 96), ENCODER)
    with pytest.raises(ValueError, match="96 wide"):
        sample(patched, t5("a table", text=wider))


def test_instances_of_another_width_are_refused(fast_adapter_state):
    refiner = Refiner(load_adapter(fast_adapter_state))
    text = EncodedText(("a mug",), torch.zeros(1, 128, 96), "a wide encoder")
    with pytest.raises(
        ValueError, match="'a wide encoder' gives features 96 wide, .* reads features 64 wide"
    ):
        Grounding(refiner, Instances((REGIONS[0],), text))


def test_a_second_deig_is_refused(fast_model, fast_adapter_state):
    grounding = make_grounding(fast_adapter_state)
    with pytest.raises(ValueError, match="already has DEIG applied"):
        apply(apply(fast_model, grounding).clone(), grounding)


def test_an_adapter_for_other_blocks_is_refused(fast_model, full_depth_model, fast_adapter_state):
    with pytest.raises(ValueError, match=r"only in the model: .*input\.4\.0 \(320 wide\)"):
        apply(full_depth_model, make_grounding(fast_adapter_state))


def sdxl_model():
    """An SDXL model as the host builds it, without memory for its weights."""
    config = comfy.supported_models.SDXL(
        {
            "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2],
            "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10, "channel_mult": [1, 2, 4], "context_dim": 2048, "adm_in_channels": 2816,
            "num_classes": "sequential", "use_linear_in_transformer": True, "num_head_channels": 64,
            "use_checkpoint": False, "legacy": False, "use_spatial_transformer": True,
        }
    )  # fmt: skip
    model = config.get_model({}, device=torch.device("meta"))
    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def test_a_model_that_is_not_sd1_is_refused(fast_adapter_state):
    with pytest.raises(ValueError, match=r"Stable Diffusion 1\.x models, but the model connected is SDXL"):
        apply(sdxl_model(), make_grounding(fast_adapter_state))


def test_a_step_on_a_gpu_copies_nothing_there_and_waits_for_nothing(fast_model, fast_adapter_state):
    """What a run needs goes over with its first step. The look at sigma, once a call, comes before."""
    adapter = load_adapter(fast_adapter_state)
    instances = Instances(REGIONS, features(*(region.phrase for region in REGIONS)))
    run = Run(
        Grounding(Refiner(adapter), instances),
        Schedule(),
        (16, 16),
        fast_model.get_model_object("model_sampling"),
    )
    entries = [GroundedCond(run, True, features("a table")), GroundedCond(run, False, features(""))]
    run.on_latent.placement(None)
    sigmas = {10.0: 900.0, 5.0: 800.0}

    def step(sigma: float):
        stretches = [Stretch(entry, 1, sigma, sigmas[sigma], None) for entry in entries]
        contexts = [stretch.context(GPU, torch.bfloat16) for stretch in stretches]
        groups = [stretch.instances((16, 16), GPU, torch.bfloat16) for stretch in stretches]
        call = CallGrounding(adapter, groups)
        for grid in ((16, 16), (8, 8)):
            for path, width, _ in adapter.sizes.fusers:
                tokens = torch.empty(2, math.prod(grid), width, dtype=torch.bfloat16, device=GPU)
                assert call.fuse(tokens, block_id(path), grid).device == GPU
        assert torch.cat(contexts).device == groups[0].objs.device == GPU

    with pretended_gpu(allow_real=True), Copies() as copies:
        put_on_gpu(adapter.bfloat16())
        step(10.0)
        assert len(copies.found) == 3 + 1 + 2  # features of three texts, boxes, where they lie on two grids
        copies.found.clear()
        step(5.0)
    assert copies.found == []


def test_the_original_model_stays_as_it_was(fast_model, fast_adapter_state):
    before = sample(fast_model)
    sample(apply(fast_model, make_grounding(fast_adapter_state)))
    assert torch.equal(before, sample(fast_model))


def test_a_tile_of_another_size_is_warned_about(fast_model, fast_adapter_state, caplog):
    patched = apply(fast_model, make_grounding(fast_adapter_state))

    def tiled(apply_model, args):
        x = args["input"]
        halves = [apply_model(half, args["timestep"], **args["c"]) for half in x.chunk(2, dim=-1)]
        return torch.cat(halves, dim=-1)

    patched.set_model_unet_function_wrapper(tiled)
    sample(patched)
    assert [record.levelname for record in caplog.records if "tiles" in record.message] == ["WARNING"]
