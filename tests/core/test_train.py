"""Training of the small model: it can be stopped, it follows its seed, and what it is told makes a difference."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from deig_pack.demo import autoencoder, text
from deig_pack.demo.export import STORED
from deig_pack.demo.model import noise_schedule, words_of
from deig_pack.demo.reader import Reader
from deig_pack.demo.scenes import COLOURS, FIRST_SCENE, SHAPES, SIZE, TEXTURES, Shape, deal
from deig_pack.demo.stored import StoredDEIG
from deig_pack.demo.train import Recipe, Run, _weights, losses, make_batch, stored_weights
from PIL import Image

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


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(folder):
    """Past the first average of the weights, and into the part with weights held to 8 bits."""
    whole = Run(folder, RECIPE)
    errors = [whole.train_step() for _ in range(6)]
    first = Run(folder, RECIPE)
    found = [first.train_step() for _ in range(5)]
    first.curve = [(step + 1, 1.0, error) for step, error in enumerate(found)]
    first.save()
    second = Run(folder, RECIPE)
    assert (second.step, second.curve) == (5, first.curve)
    found.append(second.train_step())
    assert found == errors
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, second.average[name]), name


def test_a_run_does_not_go_on_with_other_settings(folder):
    Run(folder, RECIPE).save()
    with pytest.raises(ValueError, match=r"was begun with batch 2\. Go on with the same"):
        Run(folder, replace(RECIPE, batch=3))
    assert Run(folder, replace(RECIPE, samples=100)).step == 0


def test_batches_leave_instances_and_prompts_out_for_guidance(prepared):
    run = Run(prepared, Recipe(batch=200))
    words = make_batch(0, run.recipe, run.encoder).words
    without = words.counts.count(0)
    bare = sum(prompt == "" and count == 0 for prompt, count in zip(words.prompts, words.counts, strict=True))
    assert 8 <= without <= 36 and 3 <= bare <= 20 and words.prompts.count("") > bare
    told = [shape for i in range(200) if words.counts[i] for shape in deal(FIRST_SCENE + i).shapes]
    assert list(words.shapes) == told and list(words.phrases) == [shape.phrase for shape in told]


def test_training_names_the_phrases(prepared):
    """The UNet's last layer begins with zeros, so what first reaches the text encoder comes from naming."""
    run = Run(prepared, RECIPE)
    batch = make_batch(1, RECIPE, run.encoder)
    assert batch.words.phrases
    losses(run.model, batch, run.alphas, torch.Generator().manual_seed(0))[0].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in run.model.text.parameters())


def test_a_batch_without_instances_is_trained_on_too(prepared):
    recipe = replace(RECIPE, without_instances=1.0)
    run = Run(prepared, recipe)
    batch = make_batch(0, recipe, run.encoder)
    loss, error = losses(run.model, batch, run.alphas, torch.Generator().manual_seed(0))
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
    encoder = Run(folder, RECIPE).encoder
    bare = [make_batch(i, Recipe(batch=1), encoder).words.counts == (0,) for i in range(8)]
    assert any(one != other for one, other in zip(bare[::2], bare[1::2], strict=True))
    size = ["--samples", "8", "--batch", "1", "--workers", "2"]
    command = [sys.executable, "-m", "demo.train", "--run", str(folder), *size]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] == len(state["curve"]) == 4
    assert Image.open(folder / "look-last.png").size == (8 * SIZE, 2 * SIZE)
    command = [sys.executable, "-m", "demo.export", "--run", str(folder), "--out", str(tmp_path / "weights")]
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
        loss, _ = losses(
            run.model, make_batch(0, RECIPE, run.encoder), run.alphas, torch.Generator().manual_seed(0)
        )
        loss.backward()
    assert torch.equal(weight.data, whole)
    # The other layers' gradients pass through the last one, which begins with zeros.
    assert run.model.unet.out[2].weight.grad.abs().max() > 0


def test_the_rate_rises_and_falls():
    recipe = Recipe(rate=1.0, warm_up=100, fall=0.5)
    rates = [recipe.rate_at(step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01) and rates[99:501] == [1.0] * 402
    assert np.all(np.diff(rates[500:980]) < 0) and rates[-1] == 0.02
