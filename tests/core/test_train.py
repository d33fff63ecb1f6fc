"""Training of the small model: it can be stopped, it follows its seed, and what it is told makes a difference."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from deig_pack.tests.pretend import GPU, pretended_gpu, put_on_gpu
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from small_model import autoencoder, text, train
from small_model.device import CPU, STORED, pick_device
from small_model.export import export_run
from small_model.model import Extraction, SmallDEIG, noise_schedule, sample, words_of
from small_model.plain_text import PlainText
from small_model.reader import OF_GROUND, OF_PHRASE, Reader, name_ground, name_shape
from small_model.scenes import (
    COLOURS,
    FIRST_SCENE,
    GROUNDS,
    SHAPES,
    SIZE,
    SPLITS,
    TEXTURES,
    Scene,
    Shape,
    deal,
)
from small_model.start import begin
from small_model.stored import StoredDEIG
from small_model.supply import drawn_ahead
from small_model.train import (
    Batch,
    Recipe,
    Run,
    Worker,
    _weights,
    draw_scenes,
    losses,
    main,
    make_batch,
    naming_loss,
    noisy_and_asked,
    prepare,
    stored_weights,
)

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(samples=12, batch=2)


def batch_of(run: Run, number: int = 0) -> Batch:
    """The batch of a step."""
    numbers = run.worker.numbers(run.recipe, number)
    return make_batch(draw_scenes(run.recipe, numbers), run.encoder, CPU)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(folder):
    """Past the first average of the weights, and into the part with weights held to 8 bits."""
    whole = Run(folder, RECIPE)
    errors = [whole.train_step(drawn) for drawn in whole.drawn()]
    assert len(errors) == 6
    first = Run(folder, RECIPE)
    found = [first.train_step(drawn) for drawn, _ in zip(first.drawn(), range(5), strict=False)]
    first.curve = [(step + 1, 1.0, error) for step, error in enumerate(found)]
    first.save()
    second = Run(folder, RECIPE)
    assert (second.step, second.curve) == (5, first.curve)
    found += [second.train_step(drawn) for drawn in second.drawn()]
    assert found == errors
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, second.average[name]), name


def test_a_run_does_not_go_on_with_other_settings(folder):
    Run(folder, RECIPE).save()
    for name, value in (("batch", 3), ("noise_alone", 0.0), ("naming", 0.05), ("words_first", 2)):
        with pytest.raises(
            ValueError, match=rf"was begun with .*'{name}': .*not .*'{name}': {value}.*Go on with the same"
        ):
            Run(folder, replace(RECIPE, **{name: value}))
    assert Run(folder, replace(RECIPE, samples=100)).step == 0


def test_batches_leave_instances_and_prompts_out_for_guidance(prepared):
    words = draw_scenes(Recipe(), range(200)).words
    without = words.counts.count(0)
    bare = sum(prompt == "" and count == 0 for prompt, count in zip(words.prompts, words.counts, strict=True))
    assert 8 <= without <= 36 and 3 <= bare <= 20 and words.prompts.count("") > bare
    told = [shape for i in range(200) if words.counts[i] for shape in deal(FIRST_SCENE + i).shapes]
    assert list(words.shapes) == told and list(words.phrases) == [shape.phrase for shape in told]


def test_training_names_the_phrases(prepared):
    """The UNet's last layer begins with zeros, so what first reaches the text encoder comes from naming."""
    run = Run(prepared, RECIPE)
    batch = batch_of(run, 1)
    assert batch.words.phrases
    losses(run.model, batch, run.alphas, naming=0.5)[0].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in run.model.text.parameters())
    run.model.zero_grad()
    losses(run.model, batch, run.alphas, naming=0.0)[0].backward()
    assert all(parameter.grad.abs().max() == 0 for parameter in run.model.text.parameters())


@pytest.mark.parametrize("worker", [Worker(), Worker(0, 2)], ids=["alone", "one of two"])
def test_the_first_steps_learn_words_and_nothing_else(worker, folder, monkeypatch):
    monkeypatch.setattr(train.dist, "all_reduce", lambda flat: flat.mul_(2))  # the other one finds the same
    batch = 2 * worker.of
    recipe = replace(RECIPE, samples=21 * batch, batch=batch, words_first=20, warm_up=1, rate=3e-4, scenes=4)
    run = Run(folder, recipe, worker)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}

    def moved() -> list[str]:
        return [name for name, now in run.model.state_dict().items() if not torch.equal(now, before[name])]

    shown, errors = draw_scenes(recipe, range(0, 4, worker.of)), []
    for drawn in run.drawn():
        errors.append(naming_loss(run.model, shown, CPU).item())
        run.train_step(drawn)
        if run.step in (1, 20):
            learning = ("text.", "adapter.IDE.", "phrase_reader.", "ground_reader.")
            assert moved() and all(name.startswith(learning) for name in moved())
    assert run.step == 21 and "unet.out.2.weight" in moved()
    assert errors[20] < 0.7 * errors[0]


def test_the_curve_is_that_of_painting(folder):
    run = Run(folder, replace(RECIPE, samples=10, words_first=3))
    run.train()
    assert [step for step, *_ in run.curve] == [4, 5]


def alone_or_not(alone: list[bool], timesteps: list[int]) -> Batch:
    """Random latents and noise."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(len(alone), 4, 16, 16, generator=generator) for _ in range(2))
    scenes = [deal(i) for i in range(len(alone))]
    words = words_of(scenes, [True] * len(alone), [scene.prompt for scene in scenes])
    return Batch(latents, noise, torch.tensor(timesteps), torch.tensor(alone), words)


def test_noise_alone_shows_nothing_of_the_picture():
    batch = alone_or_not([True, False], [999, 999])
    other = replace(batch, latents=-batch.latents)
    (noisy, asked), (same, others) = (noisy_and_asked(one, noise_schedule()) for one in (batch, other))
    assert torch.equal(noisy[0], batch.noise[0]) and torch.equal(noisy[0], same[0])
    assert not torch.equal(noisy[1], same[1]) and not torch.equal(asked[0], others[0])
    assert torch.equal(asked[1], batch.noise[1])


@pytest.mark.parametrize("steps", [1, 16])
def test_who_knows_the_picture_answers_noise_alone_right_and_paints_it(steps):
    """An oracle's answers cost nothing, at every timestep, and lead the sampler from noise to the picture."""
    alphas = noise_schedule()
    batch = alone_or_not([True] * 4 + [False] * 4, [900, 930, 960, 999, 20, 400, 900, 999])
    noisy, asked = noisy_and_asked(batch, alphas)

    def oracle(noisy, timesteps, words):
        kept = alphas[timesteps][:, None, None, None]
        return (noisy - kept.sqrt() * batch.latents[: len(noisy)]) / (1 - kept).sqrt()

    assert torch.allclose(oracle(noisy, batch.timesteps, batch.words), asked, atol=1e-4)
    scenes = [deal(i) for i in range(4)]
    painted = sample(oracle, scenes, steps=steps, guidance=1, half=False)
    assert torch.allclose(painted, batch.latents[:4], atol=1e-3)


def test_some_samples_show_noise_alone_and_these_late():
    drawn = draw_scenes(Recipe(), range(400))
    assert 40 <= drawn.alone.sum() <= 80
    assert drawn.timesteps[drawn.alone].min() >= 900 and drawn.timesteps[~drawn.alone].min() < 100
    assert not draw_scenes(Recipe(noise_alone=0.0), range(400)).alone.any()


def test_noise_alone_is_learned_from(prepared):
    """What a model is asked for there counts: with another picture the loss is another."""
    run = Run(prepared, replace(RECIPE, noise_alone=1.0))
    nn.init.zeros_(run.model.unet.out[2].bias)  # predicts nothing now
    batch = batch_of(run, 1)
    assert batch.alone.all()
    loss, error = losses(run.model, batch, run.alphas, naming=0.0)
    other, _ = losses(run.model, replace(batch, latents=batch.latents + 3), run.alphas, naming=0.0)
    expected = noisy_and_asked(batch, run.alphas)[1].square().mean().item()
    assert error == pytest.approx(expected, rel=1e-5) and not torch.isclose(loss, other, rtol=1e-2)


def test_a_batch_without_instances_is_trained_on_too(prepared):
    recipe = replace(RECIPE, without_instances=1.0)
    run = Run(prepared, recipe)
    batch = batch_of(run)
    loss, error = losses(run.model, batch, run.alphas, recipe.naming)
    loss.backward()
    assert not batch.words.phrases and loss.isfinite() and error > 0.5
    assert run.model.unet.out[2].weight.grad.abs().max() > 0


def test_the_picture_counts_where_all_is_noise_if_it_can_be_known(prepared):
    scenes = [deal(1), deal(1), deal(1)]
    words = words_of(scenes, [True, True, False], [scenes[0].prompt, "", scenes[0].prompt])
    kept = noise_schedule()

    def weights(timestep):
        return _weights(kept[timestep].expand(3), words).tolist()

    assert weights(999) == [60.0, 6.0, 6.0]
    ratio = ((1 - kept[600]) / kept[600]).item()
    assert 1 < ratio < 6 and weights(600) == pytest.approx([ratio] * 3)
    assert 0 < weights(5)[0] < weights(50)[0] < 0.3


@pytest.mark.parametrize("wrong", [{"kind": "star"}, {"texture": "checked"}, {"colours": ("red", "blue")}])
def test_naming_counts_every_attribute(wrong):
    shape = Shape("ring", "dotted", ("red", "white"), (0, 0, 1, 1), "a red ring with white dots")
    reader, tokens = Reader(4, 8, OF_PHRASE), torch.zeros(1, 4, 8)
    with torch.no_grad():
        reader.bias.zero_()
        kind, texture, first, second = reader.bias.split((len(SHAPES), len(TEXTURES), *[len(COLOURS)] * 2))
        kind[SHAPES.index("ring")] = texture[TEXTURES.index("dotted")] = 20.0
        first[tuple(COLOURS).index("red")] = second[tuple(COLOURS).index("white")] = 20.0
        assert reader.loss(tokens, [name_shape(shape)]) < 1e-6
        assert reader.loss(tokens, [name_shape(replace(shape, **wrong))]) == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(
    "wrong, questions",
    [
        ({"split": "stacked"}, 1),
        ({"ground": ("brown", "grey")}, 1),
        ({"ground": ("teal", "brown")}, 2),
        ({"ground": ("brown",), "split": "plain"}, 2),
    ],
)
def test_naming_counts_both_colours_of_a_ground_and_how_they_lie(wrong, questions):
    scene = Scene((), ("brown", "teal"), "sideways", "brown on the left and teal on the right")
    reader, tokens = Reader(4, 8, OF_GROUND), torch.zeros(1, 4, 8)
    with torch.no_grad():
        reader.bias.zero_()
        first, second, split = reader.bias.split((len(GROUNDS), len(GROUNDS), len(SPLITS)))
        first[tuple(GROUNDS).index("brown")] = second[tuple(GROUNDS).index("teal")] = 20.0
        split[SPLITS.index("sideways")] = 20.0
        assert reader.loss(tokens, [name_ground(scene)]) < 1e-6
        found = reader.loss(tokens, [name_ground(replace(scene, **wrong))])
        assert found == pytest.approx(20 * questions, abs=1e-3)


def test_prompts_that_are_left_out_name_no_ground(prepared):
    run = Run(prepared, RECIPE)
    scenes = [deal(seed) for seed in (1, 2)]

    def named(*prompts: str) -> torch.Tensor:
        words = words_of(scenes, [False, False], prompts)
        return run.model.naming(run.model.read(torch.tensor([5, 5]), words), words)

    assert named("", "") == 0
    second = words_of(scenes[1:], [False], [scenes[1].prompt])
    context = run.model.read(torch.tensor([5]), second).context
    alone = run.model.ground_reader.loss(context, [name_ground(scenes[1])])
    assert name_ground(scenes[0]) != name_ground(scenes[1])
    assert torch.isclose(named("", scenes[1].prompt), alone, rtol=1e-4)


@pytest.fixture(scope="module")
def stored(prepared, tmp_path_factory):
    """Stored weights of a run of a few steps, and the run's folder."""
    begun = tmp_path_factory.mktemp("begun")
    run, weights = shutil.copytree(prepared, begun / "run"), begun / "weights"
    Run(run, replace(RECIPE, rate=0.05, warm_up=1)).train()
    export_run(run, weights)
    return weights


def test_a_run_begins_from_stored_weights(stored, tmp_path):
    """What it is at its first step is stored as it came, to the last bit; so its width and names came back too."""
    folder, again = tmp_path / "run", tmp_path / "again"
    prepare(folder, steps=0, seed=0, device=CPU, start_from=stored)
    run = Run(folder, replace(RECIPE, seed=3))
    run.curve = [(1, 0.0, 1.0), (2, 0.0, 1.0)]
    run.save()
    export_run(folder, again)
    for file in ("checkpoint.safetensors", "deig.safetensors", "t5/model.safetensors", "t5/tokenizer.json"):
        assert (again / file).read_bytes() == (stored / file).read_bytes(), file
    prepare(folder, steps=0, seed=0, device=CPU, start_from=stored)
    assert Run(folder, replace(RECIPE, seed=3)).curve == run.curve


@pytest.mark.parametrize("extraction", [Extraction(4), Extraction(1, ide=False), Extraction(8, ide=False)])
def test_another_extraction_begins_anew_and_all_else_as_stored(extraction, stored, tmp_path):
    prepare(tmp_path, steps=0, seed=0, device=CPU, start_from=stored)
    recipe = replace(RECIPE, seed=3, extraction=extraction, new_ide=True)
    run = Run(tmp_path, recipe)
    begun = torch.load(tmp_path / "start.pt", weights_only=True)
    state = run.model.adapter.state_dict()
    anew = {name for name in state if name.startswith("IDE.")}
    assert all(torch.equal(state[name], begun["adapter"][name]) for name in state.keys() - anew)
    same = SmallDEIG(run.model.tokenizer, 3, extraction).adapter.state_dict()
    assert anew and all(torch.equal(state[name], same[name]) for name in anew)
    read = run.model.read(
        torch.tensor([500, 20]), words_of([deal(1), deal(2)], [True, True], ["a ground", ""])
    )
    assert read.context.shape[1] == read.tokens.shape[1] == extraction.tokens
    before = {name: tensor.clone() for name, tensor in state.items()}
    run.train()
    moved = {
        name
        for name, tensor in run.model.adapter.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert moved & anew and moved - anew  # the IDE's part learns with the rest
    assert run.averaged().adapter.state_dict().keys() == before.keys()
    with pytest.raises(ValueError, match="was begun with"):
        Run(tmp_path, replace(recipe, extraction=Extraction()))


def test_the_mean_of_the_words_leaves_padding_out(prepared):
    """And what stands next to a phrase in a batch makes no difference."""
    tokenizer = text.load_tokenizer(prepared / "t5")
    encoder, plain = text.new_encoder(0), PlainText(96, 32, 1)
    phrases = ["a red circle", "a small striped cross, green and white"]
    with torch.no_grad():
        together = plain(text.encode(encoder, tokenizer, phrases))
        for phrase, tokens in zip(phrases, together, strict=True):
            features = text.encode_whole(encoder, tokenizer, [phrase])[0]
            words = len(tokenizer(phrase)["input_ids"])
            expected = plain.proj_in(plain.norm(features[:words]).mean(0))
            torch.testing.assert_close(tokens[0], expected)


def test_first_words_are_tokens_of_their_own_and_padding_fills_up(prepared):
    tokenizer = text.load_tokenizer(prepared / "t5")
    encoder, plain = text.new_encoder(0), PlainText(96, 32, 30)
    with torch.no_grad():
        tokens = plain(text.encode(encoder, tokenizer, ["a red circle"]))
        features = text.encode_whole(encoder, tokenizer, ["a red circle"])
        torch.testing.assert_close(tokens, plain.proj_in(plain.norm(features[:, :30])))


def test_a_run_that_was_begun_otherwise_is_refused(stored, folder, tmp_path):
    with pytest.raises(ValueError, match="was begun from nothing.*Leave --start-from out"):
        begin(folder, stored)
    begun = tmp_path / "begun"
    begin(begun, stored)
    with pytest.raises(ValueError, match="was begun with .*'start_from': '.*, not {'start_from': None}"):
        begin(begun, None)
    other = shutil.copytree(stored, tmp_path / "other")
    state = load_file(other / "deig.safetensors")
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)
    save_file(state | {name: -state[name].float()}, other / "deig.safetensors")
    with pytest.raises(ValueError, match="was begun with .*Go on with the same"):
        begin(begun, other)


def test_the_commands_train_with_two_workers_and_export(folder, tmp_path):
    """With one scene a step for each, so that at some step one worker alone has instances."""
    counts = draw_scenes(Recipe(), range(16)).words.counts
    assert any((one == 0) != (other == 0) for one, other in zip(counts[::2], counts[1::2], strict=True))
    size = ["--samples", "16", "--batch", "2", "--workers", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "small_model.train", "--run", str(folder), *size]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] == len(state["curve"]) == 8
    assert Image.open(folder / "look-last.png").size == (8 * SIZE, 2 * SIZE)
    command = [
        sys.executable,
        "-m",
        "small_model.export",
        "--run",
        str(folder),
        "--out",
        str(tmp_path / "weights"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    assert StoredDEIG(tmp_path / "weights").paint([deal(1)], 0, steps=1, guidance=1).shape == (
        1,
        SIZE,
        SIZE,
        3,
    )


def test_weights_are_rounded_as_they_are_stored_and_come_back_whole(prepared):
    run = Run(prepared, RECIPE)
    weight = run.model.unet.input_blocks[1][0].in_layers[2].weight
    whole = weight.data.clone()
    with stored_weights(run.model, active=True):
        assert not torch.equal(weight.data, whole)
        assert torch.equal(weight.data, whole.to(STORED).float())
        losses(run.model, batch_of(run), run.alphas, naming=0.5)[0].backward()
    assert torch.equal(weight.data, whole)
    # The other layers' gradients pass through the last one, which begins with zeros.
    assert run.model.unet.out[2].weight.grad.abs().max() > 0


def test_workers_share_the_scenes_of_a_step():
    recipe = Recipe(batch=6)
    parts = [list(Worker(rank, 3).numbers(recipe, 2)) for rank in range(3)]
    assert sorted(sum(parts, [])) == list(range(12, 18)) and {len(part) for part in parts} == {2}
    together, alone = draw_scenes(recipe, [12, 14]), draw_scenes(recipe, [14])
    assert torch.equal(together.noise[1:], alone.noise) and together.alone[1] == alone.alone[0]
    assert torch.equal(together.pictures[1:], alone.pictures)
    assert together.words.prompts[1:] == alone.words.prompts and together.timesteps[1] == alone.timesteps[0]


def test_other_processes_draw_the_same_for_a_gpu():
    numbers = [range(4), range(4, 8), range(8, 12)]
    for ahead, numbers_of_one in zip(
        drawn_ahead(partial(draw_scenes, RECIPE), numbers, GPU), numbers, strict=True
    ):
        here = draw_scenes(RECIPE, numbers_of_one)
        assert torch.equal(ahead.pictures, here.pictures) and torch.equal(ahead.noise, here.noise)
        assert torch.equal(ahead.words.boxes, here.words.boxes) and ahead.words.shapes == here.words.shapes
    steps = range(2, 5)
    for ahead, step in zip(
        drawn_ahead(partial(autoencoder._draw_step, (0,)), steps, GPU), steps, strict=True
    ):
        assert all(map(torch.equal, ahead, autoencoder._draw_step((0,), step)))


@pytest.mark.parametrize("cores, processes", [(1, 1), (2, 1), (4, 3), (64, 8)])
def test_for_a_gpu_at_least_one_other_process_draws(cores, processes, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert drawn_ahead(draw_scenes, [range(4)], GPU).num_workers == processes
    assert drawn_ahead(draw_scenes, [range(4)], torch.device("cpu")).num_workers == 0


def test_the_autoencoder_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    """Stopped in each of its two parts."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    autoencoder.train(whole, steps=4)
    draw_step = autoencoder._draw_step

    def stop(seed, step):
        if (seed, step) in stops:
            stops.remove((seed, step))
            raise KeyboardInterrupt
        return draw_step(seed, step)

    stops = [((0, 0), 3), ((0, 1), 1)]
    monkeypatch.setattr(autoencoder, "_draw_step", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            autoencoder.train(stopped, steps=4, save_minutes=0)
    with pytest.raises(ValueError, match="was begun with .*'steps': 4.*, not .*'steps': 2"):
        autoencoder.train(stopped, steps=2)
    autoencoder.train(stopped, steps=4, save_minutes=0)
    states = [torch.load(folder / "autoencoder.pt", weights_only=True) for folder in (whole, stopped)]
    assert not stops and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [path.name for path in stopped.iterdir()] == ["autoencoder.pt"]


def test_a_step_on_a_gpu_has_all_it_needs_there(prepared):
    recipe = Recipe(batch=4)
    drawn = draw_scenes(recipe, range(2, 6))
    assert 0 in drawn.words.counts and drawn.words.phrases
    tokenizer = text.load_tokenizer(prepared / "t5")
    model, encoder = SmallDEIG(tokenizer), autoencoder.Autoencoder()
    with pretended_gpu() as mode:
        put_on_gpu(model)
        put_on_gpu(encoder)
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
        fake = replace(
            drawn,
            **{
                name: mode.from_tensor(getattr(drawn, name))
                for name in ("pictures", "timesteps", "noise", "alone")
            },
            words=replace(
                drawn.words,
                boxes=mode.from_tensor(drawn.words.boxes),
                places=mode.from_tensor(drawn.words.places),
            ),
        )
        batch = make_batch(fake, encoder, GPU)
        with stored_weights(model, active=True):
            loss, error = losses(model, batch, noise_schedule().to(GPU), naming=0.5)
            named = naming_loss(model, fake, GPU)
        for parameter in model.parameters():  # autograd itself asks for a real GPU
            parameter.grad = torch.empty_like(parameter)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        painted = sample(model, [deal(1)], steps=2, device=GPU)
        decoded = encoder.decode(painted)
        with pytest.raises(RuntimeError, match="device"):
            losses(model, replace(batch, words=fake.words), noise_schedule().to(GPU), naming=0.5)
    for tensor in (loss, error, named, painted, decoded):
        assert tensor.device.type == "cuda"


@pytest.mark.parametrize(
    "options, told",
    [
        (["--device", "cuda:99"], "cannot run on 'cuda:99'"),
        (["--device", "toaster"], "cannot run on 'toaster'"),
        (["--workers", "3"], "--batch 32 cannot be dealt out evenly to --workers 3"),
    ],
)
def test_the_command_says_what_it_cannot_do(options, told, tmp_path, capsys):
    command = ["train", "--run", str(tmp_path / "run"), "--device", "cpu", *options]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(sys, "argv", command)
        patch.setattr(train, "prepare", lambda *_: pytest.fail("it began to train"))
        main()
    assert told in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_device_is_picked():
    assert pick_device("cpu") == CPU
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_rate_rises_and_falls():
    recipe = Recipe(rate=1.0, warm_up=100, fall=0.5)
    rates = [recipe.rate_at(step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01) and rates[99:501] == [1.0] * 402
    assert np.all(np.diff(rates[500:980]) < 0) and rates[-1] == 0.02
