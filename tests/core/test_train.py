"""Training of the small model: it can be stopped, it follows its seed, and what it is told makes a difference."""

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
from torch import nn

from small_model import autoencoder, text, train
from small_model.device import CPU, STORED, pick_device
from small_model.model import SmallDEIG, noise_schedule, sample, words_of
from small_model.reader import Reader
from small_model.scenes import COLOURS, FIRST_SCENE, SHAPES, SIZE, TEXTURES, Shape, deal
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
    stored_weights,
)

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(samples=12, batch=2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a vocabulary and an untrained autoencoder."""
    folder = tmp_path_factory.mktemp("run")
    text.train_vocabulary(folder / "t5", scenes=300)
    torch.manual_seed(0)
    torch.save(autoencoder.Autoencoder().state_dict(), folder / "autoencoder.pt")
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    """A run's folder of its own."""
    return shutil.copytree(prepared, tmp_path / "run")


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
    with pytest.raises(
        ValueError, match=r"was begun with .*'batch': 2.*not .*'batch': 3.*Go on with the same"
    ):
        Run(folder, replace(RECIPE, batch=3))
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
    losses(run.model, batch, run.alphas)[0].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in run.model.text.parameters())


def test_a_batch_without_instances_is_trained_on_too(prepared):
    recipe = replace(RECIPE, without_instances=1.0)
    run = Run(prepared, recipe)
    batch = batch_of(run)
    loss, error = losses(run.model, batch, run.alphas)
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
    reader, tokens = Reader(4, 8), torch.zeros(1, 4, 8)
    with torch.no_grad():
        reader.bias.zero_()
        kind, texture, first, second = reader.bias.split((len(SHAPES), len(TEXTURES), *[len(COLOURS)] * 2))
        kind[SHAPES.index("ring")] = texture[TEXTURES.index("dotted")] = 20.0
        first[tuple(COLOURS).index("red")] = second[tuple(COLOURS).index("white")] = 20.0
        assert reader.loss(tokens, [shape]) < 1e-6
        assert reader.loss(tokens, [replace(shape, **wrong)]) == pytest.approx(20, abs=1e-3)


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
        losses(run.model, batch_of(run), run.alphas)[0].backward()
    assert torch.equal(weight.data, whole)
    # The other layers' gradients pass through the last one, which begins with zeros.
    assert run.model.unet.out[2].weight.grad.abs().max() > 0


def test_workers_share_the_scenes_of_a_step():
    recipe = Recipe(batch=6)
    parts = [list(Worker(rank, 3).numbers(recipe, 2)) for rank in range(3)]
    assert sorted(sum(parts, [])) == list(range(12, 18)) and {len(part) for part in parts} == {2}
    together, alone = draw_scenes(recipe, [12, 14]), draw_scenes(recipe, [14])
    assert torch.equal(together.noise[1:], alone.noise) and torch.equal(together.pictures[1:], alone.pictures)
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
            **{name: mode.from_tensor(getattr(drawn, name)) for name in ("pictures", "timesteps", "noise")},
            words=replace(
                drawn.words,
                boxes=mode.from_tensor(drawn.words.boxes),
                places=mode.from_tensor(drawn.words.places),
            ),
        )
        batch = make_batch(fake, encoder, GPU)
        with stored_weights(model, active=True):
            loss, error = losses(model, batch, noise_schedule().to(GPU))
        for parameter in model.parameters():  # autograd itself asks for a real GPU
            parameter.grad = torch.empty_like(parameter)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        painted = sample(model, [deal(1)], steps=2, device=GPU)
        decoded = encoder.decode(painted)
        with pytest.raises(RuntimeError, match="device"):
            losses(model, replace(batch, words=fake.words), noise_schedule().to(GPU))
    for tensor in (loss, error, painted, decoded):
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
