"""Training of the small model: it can be stopped, it follows its seed, and what it is told makes a difference."""

import numpy as np
import pytest
import torch
from deig_pack.demo import autoencoder, text
from deig_pack.demo.export import STORED
from deig_pack.demo.reader import Reader
from deig_pack.demo.scenes import FIRST_SCENE, deal
from deig_pack.demo.train import Recipe, Run, losses, make_batch, stored_weights

RECIPE = Recipe(samples=12, batch=2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a vocabulary and an untrained autoencoder."""
    folder = tmp_path_factory.mktemp("run")
    text.train_vocabulary(folder / "t5", scenes=300)
    torch.manual_seed(0)
    torch.save(autoencoder.Autoencoder().state_dict(), folder / "autoencoder.pt")
    return folder


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(prepared):
    whole = Run(prepared, RECIPE)
    errors = [whole.train_step() for _ in range(4)]
    first = Run(prepared, RECIPE)
    found = [first.train_step() for _ in range(2)]
    first.curve = [(step + 1, 1.0, error) for step, error in enumerate(found)]
    first.save()
    second = Run(prepared, RECIPE)
    assert (second.step, second.curve) == (2, first.curve)
    found += [second.train_step() for _ in range(2)]
    assert found == errors
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, second.average[name]), name
    (prepared / "state.pt").unlink()


def test_batches_leave_instances_and_prompts_out_for_guidance(prepared):
    run = Run(prepared, Recipe(batch=200))
    words = make_batch(0, run.recipe, run.encoder).words
    without = words.counts.count(0)
    bare = sum(prompt == "" and count == 0 for prompt, count in zip(words.prompts, words.counts, strict=True))
    assert 8 <= without <= 36 and 3 <= bare <= 20 and words.prompts.count("") > bare
    told = [shape for i in range(200) if words.counts[i] for shape in deal(FIRST_SCENE + i).shapes]
    assert list(words.shapes) == told and list(words.phrases) == [shape.phrase for shape in told]


def test_phrases_are_named_by_a_gradient_that_reaches_the_text_encoder(prepared):
    run = Run(prepared, RECIPE)
    batch = make_batch(1, RECIPE, run.encoder)
    assert batch.words.phrases
    naming = run.model.reader.loss(run.model.read(torch.tensor([500, 100]), batch.words), batch.words.shapes)
    naming.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in run.model.text.parameters())
    assert all(parameter.grad is None for parameter in run.model.unet.parameters())


def test_the_reader_learns_to_tell_shapes_apart():
    shapes = tuple(shape for seed in range(8) for shape in deal(seed).shapes)
    tokens = torch.randn(len(shapes), 4, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    reader = Reader(4, 32)
    optimiser = torch.optim.Adam(reader.parameters(), lr=0.02)
    before = reader.loss(tokens, shapes)
    for _ in range(100):
        optimiser.zero_grad()
        reader.loss(tokens, shapes).backward()
        optimiser.step()
    assert reader.loss(tokens, shapes) < 0.02 * before < reader.loss(tokens, shapes[::-1])


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
    # The last layer begins with zeros, so the first gradient is its alone.
    assert run.model.unet.out[2].weight.grad.abs().max() > 0


def test_the_rate_rises_and_falls():
    recipe = Recipe(rate=1.0, warm_up=100, fall=0.5)
    rates = [recipe.rate_at(step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01) and rates[99:501] == [1.0] * 402
    assert np.all(np.diff(rates[500:980]) < 0) and rates[-1] == 0.02
