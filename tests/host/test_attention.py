"""Recording what the picture attends to, in the host: the picture stays, and the maps are those of the run."""

import math
from dataclasses import replace

import comfy.model_management
import comfy.sample
import pytest
import torch
from deig_pack.deig_core.fusion import attention_record
from deig_pack.deig_core.fusion.attention_pictures import attention_masks, leakage_picture
from deig_pack.deig_core.fusion.block_choice import BlockChoice
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes.attention import AttentionMaps, RecordAttention
from deig_pack.nodes.host import attention as host_attention
from deig_pack.nodes.host.attention import RecordedRun, RecordSettings, Shelf
from deig_pack.nodes.multi_instance import MultiInstanceSampling
from deig_pack.tests.host.composition.helpers import SMALL, sample_latent, small_sample
from deig_pack.tests.host.instance_diffusion.helpers import ALL_KINDS
from deig_pack.tests.host.instance_diffusion.helpers import apply as apply_instance_diffusion
from deig_pack.tests.host.instance_diffusion.helpers import make_grounding as make_instance_grounding
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, REGIONS, apply, clip, make_grounding, t5
from deig_pack.tests.host.test_rows import SIGMAS, called_once
from deig_pack.tests.standins import FAST, instance_diffusion_state

COUNT = len(REGIONS)


@pytest.fixture
def patched(fast_model, fast_adapter_state):
    return apply(fast_model, make_grounding(fast_adapter_state))


def recorded(model, blocks="all", start=0.0, end=1.0):
    """A model that is recorded, and its recording."""
    return RecordAttention.execute(model, blocks, start, end).result


def record_of(model, sample=small_sample, **options):
    """Sample with a recorded model and return the record."""
    model, recording = recorded(model)
    return recording.of(sample(model, **options))


def maps_of(record, picture=0):
    return torch.stack([record.maps(picture, instance) for instance in range(len(record.regions))])


def assert_same(one, other, picture=0, other_picture=0, within=1e-5):
    assert (maps_of(one, picture) - maps_of(other, other_picture)).abs().max() <= within
    assert (one.shares(picture) - other.shares(other_picture)).abs().max() <= within


@pytest.mark.parametrize(
    "options", [{}, {"positive": t5("a table"), "negative": t5("")}, {"cfg": 1.0}, {"batch": 2}], ids=str
)
def test_the_picture_is_the_same_to_the_bit(patched, options):
    model, recording = recorded(patched)
    plain, seen = small_sample(patched, **options), small_sample(model, **options)
    assert torch.equal(plain, seen)
    record = recording.of(seen)
    assert record.pictures == len(seen)
    for picture in range(len(seen)):
        assert torch.allclose(record.shares(picture).sum(1), torch.ones(COUNT), atol=1e-5)


def test_nothing_is_recorded_unless_asked(patched, monkeypatch):
    monkeypatch.setattr(attention_record, "attend", None)
    small_sample(patched)
    model, _ = recorded(patched)
    small_sample(patched)  # the model that came in is unchanged
    with pytest.raises(TypeError):
        small_sample(model)


def test_every_block_and_step_is_recorded_once(full_depth_model, full_depth_adapter_state):
    record = record_of(apply(full_depth_model, make_grounding(full_depth_adapter_state)), steps=3)
    assert len(record.seen) == 16 and set(record.seen.values()) == {3}
    assert sorted(grid for grid, _ in record.sums) == [(1, 1), (2, 2), (4, 4), (8, 8)]
    counts = [int(sums.counts[0, 0]) for _, sums in sorted(record.sums.items(), key=lambda item: item[0][0])]
    assert counts == [3, 15, 15, 15]


def test_a_second_step_differs_and_the_mean_is_of_both(patched):
    """The schedule's parts, recorded by themselves, make up the whole."""
    early, late = recorded(patched, end=0.5), recorded(patched, start=0.5)
    first, second = (recording.of(small_sample(model, steps=4)) for model, recording in (early, late))
    whole = record_of(patched, steps=4)
    block = next(iter(whole.seen))
    calls = first.seen[block], second.seen[block]
    assert sum(calls) == whole.seen[block] == 4 and min(calls) > 0
    mean = sum(n * maps_of(one) for n, one in zip(calls, (first, second), strict=True)) / 4
    assert torch.allclose(mean, maps_of(whole), atol=1e-5)
    assert not torch.allclose(maps_of(first), maps_of(second), atol=1e-4)


def test_blocks_are_chosen(patched):
    whole = record_of(patched)
    blocks = sorted(whole.seen)
    name = ".".join(map(str, blocks[0][:2]))
    model, recording = recorded(patched, blocks=name)
    assert list(recording.of(small_sample(model)).seen) == [blocks[0]]
    with pytest.raises(ValueError, match=r"no blocks input\.9"):
        recorded(patched, blocks="input.9")


def test_cfg_batches_and_little_memory_change_nothing(patched, monkeypatch):
    """At the first step all calls see the same noise, whatever they are mixed with."""
    alone = record_of(patched, cfg=1.0, steps=1)
    guided = record_of(patched, steps=1)
    assert_same(alone, guided)

    latent = torch.zeros(3, 4, *SMALL)
    noise = comfy.sample.prepare_noise(latent, 0)
    model, recording = recorded(patched)
    three = recording.of(sample_latent(model, latent, noise=noise))
    for picture in (0, 2):
        one = recording.of(sample_latent(model, latent[:1], noise=noise[picture : picture + 1]))
        assert_same(three, one, picture, within=1e-4)
    assert not torch.allclose(maps_of(three, 0), maps_of(three, 2), atol=1e-4)

    joined = record_of(patched)
    monkeypatch.setattr(type(patched.model), "memory_required", lambda self, shape, **_: shape[0] * 1e20)
    assert_same(record_of(patched), joined, within=1e-4)


def test_pictures_at_other_sigmas_are_told_apart(patched):
    model, recording = recorded(patched)
    together = recording.of(called_once(model, SIGMAS, 2)[1])
    assert (maps_of(together, 0) - maps_of(together, 1)).abs().max() > 1e-3
    for picture, sigma in enumerate(SIGMAS):
        model, recording = recorded(patched)
        assert_same(recording.of(called_once(model, (sigma,), 1)[1]), together, other_picture=picture)


def test_a_crop_is_recorded_in_its_place(fast_model, fast_adapter_state):
    left, right = Region("left", (0, 0, 0.4, 1)), Region("right", (0.6, 0, 1, 1))
    patched = apply(fast_model, make_grounding(fast_adapter_state, (left, right)))
    area = (8, 4, 0, 4)  # height, width, y, x in cells: the right half
    record = record_of(patched, positive=clip(1, area=area, strength=1.0))
    found = maps_of(record).sum(1)
    assert not found[0].any()
    assert not found[1, :, :4].any() and found[1, :, 5:].all()


def test_instances_alone_are_left_out(patched):
    """Multi-instance sampling: where an instance is denoised by itself there is no picture to look at yet."""
    record = record_of(MultiInstanceSampling.execute(patched, 0.5, "average")[0], steps=4)
    assert set(record.seen.values()) == {4} and torch.allclose(record.shares(0).sum(1), torch.ones(COUNT))
    model, recording = recorded(patched)
    after = recording.of(small_sample(MultiInstanceSampling.execute(model, 0.5, "average")[0], steps=4))
    assert_same(record, after)


def test_instance_diffusion_is_recorded_too(fast_model):
    state = instance_diffusion_state(FAST)
    patched = apply_instance_diffusion(fast_model, make_instance_grounding(state, ALL_KINDS, "scribble"))
    plain = small_sample(patched)
    model, recording = recorded(patched)
    samples = small_sample(model)
    record = recording.of(samples)
    assert torch.equal(plain, samples)
    assert record.token_names == ("boxes", "points", "scribbles", "polygons")
    found = maps_of(record)
    assert found.shape == (len(ALL_KINDS), 4, *SMALL) and (found > 0).all(), "every pixel sees every token"
    shares = record.shares(0)
    assert torch.allclose(shares.sum(1), torch.ones(len(ALL_KINDS)), atol=1e-5)
    assert (shares[:, -1] > 0).all(), "null tokens and those of all masks"


# -- whose record it is -------------------------------------------------------------------------------------


def test_each_latent_finds_its_own_run(patched, monkeypatch):
    """Another seed on one model, and back: as where a sampler's result comes from the host's cache."""
    # Another test's run of the same seed is as near to a rounded latent as its own, where threads sum in any order.
    monkeypatch.setattr(host_attention.SHELF, "_runs", [])
    model, recording = recorded(patched)
    first, second = small_sample(model), small_sample(model, seed=1)
    again, other = recording.of(first), recording.of(second)
    assert again is not other and not torch.allclose(maps_of(again), maps_of(other), atol=1e-4)
    assert recording.of(first.half()) is again, "the host may hand latents on in 16 bit"
    # A node that was dropped from the cache and runs anew, while its sampler does not.
    (_, anew) = recorded(patched)
    assert anew.of(first) is again
    (_, another) = recorded(patched, end=0.5)
    with pytest.raises(ValueError, match="not made by a run that was recorded"):
        another.of(first)
    with pytest.raises(ValueError, match="MODEL output of 'DEIG Record Attention' to the sampler"):
        recording.of(small_sample(patched, seed=2))


def test_in_front_a_hidden_part_belongs_to_no_area(fast_model, fast_adapter_state):
    """The right half lies under the later region: what is painted there sees the later one's words alone."""
    regions = (Region("behind", (0, 0, 1, 1)), Region("before", (0.5, 0, 1, 1)))
    seen_words = {}
    for front in (False, True):
        grounding = make_grounding(fast_adapter_state, regions, front=front)
        seen_words[front] = record_of(apply(fast_model, grounding), steps=1).shares(0)[0, 1]
    assert seen_words[True] == 0 < seen_words[False], "the area of the one behind ends at the other"


def test_a_latent_that_is_changed_in_place_leaves_its_run(patched):
    """Some nodes work on the latent that they are given, which is the sampler's own."""
    model, recording = recorded(patched)
    sampled = small_sample(model)
    record, as_it_was = recording.of(sampled), sampled.clone()
    sampled.copy_(torch.randn(sampled.shape, generator=torch.Generator().manual_seed(1)))
    assert recording.of(as_it_was) is record
    with pytest.raises(ValueError, match="not made by a run that was recorded"):
        recording.of(sampled)


def test_settings_that_change_nothing_in_the_picture_have_records_of_their_own(patched):
    whole, fine = recorded(patched), recorded(patched, blocks="8")
    samples = [small_sample(model) for model, _ in (whole, fine)]
    assert torch.equal(*samples)
    assert len(whole[1].of(samples[0]).seen) > len(fine[1].of(samples[0]).seen)


def test_an_interrupted_run_leaves_no_record(patched):
    shelf = Shelf()
    model, recording = recorded(patched)
    object.__setattr__(recording, "shelf", shelf)

    def interrupt(*_):
        comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()  # as the server's progress bar does

    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            sample_latent(model, torch.zeros(1, 4, *SMALL), steps=3, callback=interrupt)
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert not shelf._runs
    recording.of(small_sample(model))


def test_the_shelf_holds_no_more_than_it_may(patched):
    record = record_of(patched)
    shelf, settings = Shelf(capacity=3 * record.size()), RecordSettings()
    samples = [torch.full((1, 4, 8, 8), float(number)) for number in range(1, 6)]
    for one in samples:
        shelf.keep(RecordedRun(settings, record, one))
    assert [shelf.find(settings, one) is record for one in samples] == [False, False, True, True, True]
    tight = Shelf(capacity=0)
    tight.keep(RecordedRun(settings, record, samples[0]))
    assert tight.find(settings, samples[0]) is record, "the newest stays, however large"
    assert tight.find(RecordSettings(BlockChoice.read("8")), samples[0]) is None
    assert tight.find(settings, samples[0][..., :4]) is None
    assert tight.find(settings, samples[0] * math.nan) is None


@pytest.mark.parametrize("size", [1e-3, 50.0])
@pytest.mark.parametrize("parts, found", [(0.009, True), (-0.009, True), (0.012, False), (-0.012, False)])
def test_a_latent_is_known_again_but_for_rounding(patched, size, parts, found):
    """One number off by parts of the largest, which is what 16 bit may do and another run does not."""
    shelf, record = Shelf(), record_of(patched)
    samples = size * torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    shelf.keep(RecordedRun(RecordSettings(), record, samples))
    rounded = samples.clone()
    rounded[0, 1, 2, 3] += parts * samples.max()
    assert (shelf.find(RecordSettings(), rounded) is record) == found


def test_the_nearest_run_is_found_and_a_latent_of_nothing(patched):
    shelf, settings = Shelf(), RecordSettings()
    records = [record_of(patched) for _ in range(3)]
    samples = [torch.ones(1, 4, 8, 8), torch.ones(1, 4, 8, 8) * 1.006, torch.zeros(1, 4, 8, 8)]
    for record, one in zip(records, samples, strict=True):
        shelf.keep(RecordedRun(settings, record, one))
    assert [shelf.find(settings, one) for one in samples] == records


# -- the nodes ----------------------------------------------------------------------------------------------


def test_a_model_without_deig_is_refused(fast_model):
    with pytest.raises(ValueError, match="This model has no DEIG"):
        recorded(fast_model)


def test_a_model_is_recorded_once(patched):
    model, _ = recorded(patched)
    with pytest.raises(ValueError, match="recorded already"):
        recorded(model, blocks="8")


def show(recording, samples, choose="", show="instances", scale="each", **options):
    return AttentionMaps.execute(recording, {"samples": samples}, choose, show, scale, **options).result


def test_maps_are_laid_over_the_picture(patched, caplog):
    model, recording = recorded(patched)
    samples = small_sample(model, batch=2)
    image = torch.rand(2, 128, 128, 3)
    maps, masks, report, leakage = show(recording, samples, image=image)
    assert maps.shape == (2 * COUNT, 512, 512, 3) and masks.shape == (2 * COUNT, 128, 128)
    assert masks.amax((1, 2)).tolist() == [1.0] * (2 * COUNT) and masks.min() == 0
    assert leakage.shape[0] == 2 and leakage.shape[2] == 512
    for number in range(2):
        record = recording.of(samples)
        each = attention_masks(record, number, tuple(range(COUNT)), False, "each", (128, 128))
        assert torch.equal(masks.unflatten(0, (2, COUNT))[number], each[:, 0])
        own = leakage_picture(record, number, (128, 128), image[number].numpy())
        assert torch.equal((255 * leakage[number]).round(), torch.tensor(own).float())
    plain = show(recording, samples)[3]
    assert (plain[0] - plain[1]).abs().max() > 0.1, "on the same ground, bars of other lengths"
    assert report.count("picture ") == 2 and report.count(REGIONS[2].phrase) == 2
    assert "DEIG: " not in caplog.text, "only where nothing was recorded"
    for number, region in enumerate(REGIONS):
        for picture in range(2):
            assert region.phrase in report.splitlines()[3 + picture * (COUNT + 1) + number]


def test_only_chosen_regions_and_their_tokens(patched):
    model, recording = recorded(patched)
    samples = small_sample(model)
    maps, masks, *_ = show(recording, samples, choose="2-3", show="tokens", scale="as it is")
    tokens = len(recording.of(samples).token_names)
    assert maps.shape[0] == 2 and masks.shape == (2 * tokens, 64, 64)
    together = show(recording, samples, choose="2-3", scale="as it is")[1]
    assert torch.allclose(masks.unflatten(0, (2, tokens)).sum(1), together, atol=1e-5)


def test_without_a_picture_maps_are_as_large_as_the_latents_pixels(patched):
    model, recording = recorded(patched)
    samples = sample_latent(model, torch.zeros(1, 4, 8, 12), steps=1)
    maps, masks, _, leakage = show(recording, samples, choose="1")
    assert masks.shape == (1, 64, 96) and maps.shape[0] == 1
    assert maps.shape[2] * 64 == maps.shape[1] * 96, "enlarged as they are"
    assert leakage.shape[2] == maps.shape[2] and 0 <= maps.min() <= maps.max() <= 1
    wide = show(recording, samples, image=torch.rand(1, 40, 90, 4))[1]
    assert wide.shape[1:] == (40, 90), "a picture's own, whatever it has beside its colours"


def test_another_number_of_pictures_is_refused(patched):
    model, recording = recorded(patched)
    with pytest.raises(ValueError, match="2 pictures came in, but 1 were sampled"):
        show(recording, small_sample(model), image=torch.rand(2, 64, 64, 3))


@pytest.mark.parametrize("schedule", [{"strength": 0.0}, {"end_percent": 0.0}], ids=str)
def test_where_deig_does_not_act_the_report_says_so(fast_model, fast_adapter_state, schedule, caplog):
    patched = apply(fast_model, make_grounding(fast_adapter_state), **schedule)
    model, recording = recorded(patched)
    maps, masks, report, _ = show(recording, small_sample(model))
    assert "Nothing was recorded" in report and "Nothing was recorded" in caplog.text
    assert maps.shape[0] == COUNT and not masks.any()


def test_an_instance_outside_its_time_took_no_part(fast_model, fast_adapter_state):
    late = replace(REGIONS[1], start_percent=1.0)
    patched = apply(fast_model, make_grounding(fast_adapter_state, (REGIONS[0], late)))
    model, recording = recorded(patched)
    _, masks, report, _ = show(recording, small_sample(model))
    assert report.splitlines()[-1] == f"2 {late.phrase}: took no part"
    assert masks[0].any() and not masks[1].any()


def test_the_same_conditioning_twice_counts_as_one(patched):
    """Combined conditionings: both have all instances, and the record is their mean."""
    assert_same(record_of(patched, positive=POSITIVE + POSITIVE, steps=1), record_of(patched, steps=1))
    assert_same(record_of(patched, negative=NEGATIVE + NEGATIVE, steps=1), record_of(patched, steps=1))
