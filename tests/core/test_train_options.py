"""What the training command is told, and what a run makes of its recipe."""

import inspect
import itertools
import json
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deig_pack.tests.pretend import GPU
from PIL import Image

from small_model import autoencoder, start, supply, text, train
from small_model import export as exporting
from small_model.device import CPU, STORED, pick_device
from small_model.model import SmallDEIG, noise_schedule, words_of
from small_model.scenes import FIRST_SCENE, deal, draw
from small_model.train import Batch, Recipe, Run, Worker, _weights, draw_scenes, losses, make_batch
from small_model.widen import widen_adapter, widen_unet

RECIPE = Recipe(samples=20, batch=1)


@pytest.fixture(scope="module")
def lasting(prepared) -> Run:
    """A run that no test trains."""
    return Run(prepared, RECIPE)


@pytest.fixture
def command(monkeypatch):
    """Calls the command and returns what it handed to `prepare` and to `train`, by their own names."""

    def called(*options: str) -> tuple[dict, dict]:
        handed = {}

        def note(name):
            signature = inspect.signature(getattr(train, name))

            def noted(*arguments, **named):
                bound = signature.bind(*arguments, **named)
                bound.apply_defaults()
                handed[name] = bound.arguments

            return noted

        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["train", *options])
            for name in ("prepare", "train"):
                patch.setattr(train, name, note(name))
            train.main()
        return handed["prepare"], handed["train"]

    return called


def test_without_options_the_command_trains_by_the_recipe(command):
    prepared, trained = command()
    assert trained == {"folder": Path("run"), "recipe": Recipe(), "device": pick_device(), "workers": 1}
    expected = {"folder": Path("run"), "steps": 9000, "seed": 0, "device": pick_device(), "start_from": None}
    assert prepared == expected


@pytest.mark.parametrize(
    "option, name, value",
    [
        ("--samples", "samples", 77),
        ("--batch", "batch", 6),
        ("--rate", "rate", 4e-4),
        ("--naming", "naming", 0.25),
        ("--words-first", "words_first", 300),
        ("--scenes", "scenes", 16),
        ("--seed", "seed", 3),
    ],
)
def test_an_option_changes_that_of_the_recipe_and_nothing_else(option, name, value, command):
    prepared, trained = command("--device", "cpu", option, str(value))
    assert trained["recipe"] == replace(Recipe(), **{name: value})
    assert prepared["seed"] == trained["recipe"].seed and prepared["steps"] == 9000


def test_other_options_say_where_and_on_what(command):
    options = ["--run", "there", "--autoencoder-steps", "5", "--start-from", "w", "--workers", "4"]
    prepared, trained = command("--device", "cpu", *options)
    there = Path("there")
    assert prepared == {"folder": there, "steps": 5, "seed": 0, "device": CPU, "start_from": Path("w")}
    assert trained == {"folder": there, "recipe": Recipe(), "device": CPU, "workers": 4}
    assert command("--device", "cpu", "--batch", "1")[1]["recipe"].batch == 1


@pytest.mark.parametrize(
    "options, told",
    [
        (["--workers", "0"], "--batch 32 cannot be dealt out evenly to --workers 0"),
        (["--batch", "0"], "--batch 0 cannot be dealt out evenly"),
        (["--batch", "-2"], "--batch -2 cannot be dealt out evenly"),
        (["--workers", "2", "--device", "a gpu"], "--workers 2 shares a CPU's cores. On cuda one trains"),
    ],
)
def test_the_command_refuses_workers_that_cannot_share(options, told, command, capsys, monkeypatch):
    monkeypatch.setattr(train, "pick_device", lambda name: CPU if name is None else torch.device("cuda"))
    with pytest.raises(SystemExit):
        command(*options)
    assert told in capsys.readouterr().err


def test_a_folder_that_was_begun_otherwise_is_told_in_a_line(monkeypatch, capsys):
    def refuse(*arguments):
        raise ValueError("begun from nothing")

    monkeypatch.setattr(sys, "argv", ["train", "--device", "cpu"])
    monkeypatch.setattr(train, "prepare", refuse)
    monkeypatch.setattr(train, "train", lambda *arguments: pytest.fail("it began to train"))
    with pytest.raises(SystemExit):
        train.main()
    assert "error: begun from nothing" in capsys.readouterr().err


@pytest.mark.parametrize("kind, planned", [("cpu", True), ("cuda", False)])
def test_cudnn_makes_no_plans_for_lengths_that_never_repeat(kind, planned, command, monkeypatch):
    monkeypatch.setattr(train, "pick_device", lambda name: torch.device(kind))
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        command()
        assert torch.backends.cuda.cudnn_sdp_enabled() == planned
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@pytest.mark.parametrize("there", [(), ("t5/tokenizer.json",), ("autoencoder.pt",)])
def test_only_what_is_missing_is_trained_beforehand(there, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(text, "train_vocabulary", lambda *given: trained.append(("t5/tokenizer.json", given)))
    monkeypatch.setattr(autoencoder, "train", lambda *given: trained.append(("autoencoder.pt", given)))
    folder = tmp_path / "a" / "run"
    for name in there:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    train.prepare(folder, 7, 3, CPU, None)
    given = {"t5/tokenizer.json": (folder / "t5",), "autoencoder.pt": (folder, 7, 3, CPU)}
    assert trained == [(name, given[name]) for name in given if name not in there] and folder.is_dir()


# -- what a run begins from -------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, prepared):
    folder = tmp_path / "weights"
    text.write_tokenizer(folder / "t5", text.read_pieces(prepared / "t5"))
    for name in ("checkpoint.safetensors", "deig.safetensors", "t5/model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("file", ["checkpoint.safetensors", "deig.safetensors", "t5/model.safetensors"])
def test_a_run_goes_on_from_the_same_weights_whichever_file_is_another(file, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "narrowed", lambda folder: {"autoencoder": {"a": torch.ones(2)}})
    run = tmp_path / "a" / "run"
    start.begin(run, weights)
    for name in ("t5/tokenizer.json", "autoencoder.pt"):
        (run / name).unlink()  # as if it had been stopped before these were written
    start.begin(run, weights)
    assert torch.load(run / "autoencoder.pt", weights_only=True)["a"].tolist() == [1, 1]
    assert text.read_pieces(run / "t5") == text.read_pieces(weights / "t5")
    (weights / file).write_text("another")
    with pytest.raises(ValueError, match="was begun with .*another --run folder"):
        start.begin(run, weights)


def test_a_run_that_begins_from_nothing_keeps_its_own_weights(lasting, tmp_path):
    start.begin(tmp_path / "run", None)
    assert not (tmp_path / "run").exists()
    before = {name: tensor.clone() for name, tensor in lasting.model.state_dict().items()}
    start.load_start(lasting.model, tmp_path)
    fresh = SmallDEIG(lasting.model.tokenizer, RECIPE.seed).state_dict()
    for name, tensor in lasting.model.state_dict().items():
        assert torch.equal(tensor, before[name]) and torch.equal(tensor, fresh[name]), name


# -- what is drawn ----------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Draws nothing, and deals a scene once."""
    monkeypatch.setattr(train, "draw", lambda scene: np.zeros((128, 128, 3), np.uint8))
    monkeypatch.setattr(train, "deal", lru_cache(deal))


def share(of, among) -> float:
    return float(np.mean(np.asarray(of)[np.asarray(among)]))


def test_shares_of_samples_lack_what_the_recipe_says(quick):
    recipe = Recipe(without_instances=0.3, without_prompt=0.2, noise_alone=0.4, scenes=2)
    drawn = draw_scenes(recipe, range(600))
    told, bare = np.array(drawn.words.counts) > 0, np.array(drawn.words.prompts) == ""
    alone, timesteps = drawn.alone.numpy(), drawn.timesteps.numpy()
    assert np.mean(~told) == pytest.approx(0.3, abs=0.06)
    assert share(bare, told) == pytest.approx(0.2, abs=0.06)
    assert share(bare, ~told) == pytest.approx(0.5, abs=0.11)
    assert np.mean(alone) == pytest.approx(0.4, abs=0.06)
    assert share(timesteps, ~alone) == pytest.approx(499.5, abs=45)
    assert timesteps[~alone].min() <= 9 and 990 <= timesteps[~alone].max() <= 999
    assert 900 <= timesteps[alone].min() <= 902 and 997 <= timesteps[alone].max() <= 999
    assert drawn.noise.shape == (600, 4, 16, 16) and drawn.noise.dtype == torch.float32
    assert abs(drawn.noise.mean()) < 0.01 and drawn.noise.std() == pytest.approx(1, abs=0.01)


def test_a_few_scenes_come_over_and_over_with_other_noise(quick):
    drawn = draw_scenes(Recipe(scenes=3), range(7))
    assert list(drawn.words.scenes) == [deal(FIRST_SCENE + i % 3) for i in range(7)]
    assert not torch.equal(drawn.noise[0], drawn.noise[3])
    other = draw_scenes(Recipe(scenes=3, seed=1), range(7))
    assert other.words.scenes == drawn.words.scenes and not torch.equal(other.noise, drawn.noise)
    assert draw_scenes(Recipe(), [5]).words.scenes == (deal(FIRST_SCENE + 5),)


def test_a_batch_is_the_encoded_pictures_and_the_rest_as_it_was_drawn(lasting):
    drawn = draw_scenes(RECIPE, range(2))
    batch = make_batch(drawn, lasting.encoder, CPU)
    with torch.no_grad():
        expected = lasting.encoder.encode(drawn.pictures.permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(batch.latents, expected, atol=0.1, rtol=0.05)  # perhaps in bfloat16
    assert batch.latents.std() > 0.3
    for name in ("noise", "timesteps", "alone"):
        assert torch.equal(getattr(batch, name), getattr(drawn, name))
    assert batch.words.prompts == drawn.words.prompts


# -- what is made small -----------------------------------------------------------------------------------


def test_errors_weigh_as_that_of_the_picture_within_bounds():
    told = words_of([deal(1)], [True], ["a ground"])
    untold = words_of([deal(1)], [False], ["a ground"])
    # Noise to picture: 100, 3, 1/4 (least weight 0.3), 1/10, 1/20 (falls), 1/100.
    kept = {1 / 101: (60, 6), 1 / 4: (3, 3), 4 / 5: (0.3, 0.3), 10 / 11: (0.3, 0.3), 20 / 21: (0.15, 0.15)}
    for left, expected in (kept | {100 / 101: (0.03, 0.03)}).items():
        found = [_weights(torch.tensor([left]), words).item() for words in (told, untold)]
        assert found == pytest.approx(expected, rel=1e-4), left


class Answers(torch.nn.Module):
    """Answers nothing but numbers that are known."""

    def read(self, timesteps, words):
        return len(words.prompts)

    def forward(self, noisy, timesteps, words, read):
        assert read == len(words.prompts)
        return torch.zeros_like(noisy)

    def naming(self, read, words):
        return torch.tensor(float(read))


def test_the_loss_is_the_weighted_error_and_that_of_naming():
    torch.manual_seed(0)
    noise = torch.randn(2, 4, 16, 16) * torch.tensor([1.0, 3.0])[:, None, None, None]
    scenes = [deal(1), deal(2)]
    words = words_of(scenes, [True, True], ["a", "b"])
    batch = Batch(torch.zeros_like(noise), noise, torch.tensor([999, 500]), torch.zeros(2).bool(), words)
    alphas = noise_schedule()
    loss, error = losses(Answers(), batch, alphas, naming=0.25)
    first, second = noise.square().flatten(1).mean(1).tolist()
    ratio = float((1 - alphas[500]) / alphas[500])
    assert 1 < ratio < 6
    assert error.item() == pytest.approx((first + second) / 2, rel=1e-5)
    assert loss.item() == pytest.approx((60 * first + ratio * second) / 2 + 0.25 * 2, rel=1e-4)


def test_workers_take_the_mean_of_their_gradients(monkeypatch):
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1, 2))]
    parameters[0].grad, parameters[2].grad = torch.arange(6.0).reshape(2, 3), torch.tensor([[8.0, 9.0]])
    others = torch.arange(12.0) * 3
    monkeypatch.setattr(train.dist, "all_reduce", lambda flat: flat.add_(others))
    Worker(1, 2).average(parameters)
    own = torch.tensor([0.0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 8, 9])
    found = torch.cat([parameter.grad.flatten() for parameter in parameters])
    assert torch.equal(found, (own + others) / 2)
    assert [parameter.grad.shape for parameter in parameters] == [(2, 3), (4,), (1, 2)]
    monkeypatch.setattr(train.dist, "all_reduce", lambda flat: pytest.fail("nobody to ask"))
    Worker().average(parameters)


def test_weights_held_to_eight_bits_lose_nothing_when_stored(lasting):
    """As widened, and with queries scaled; vectors of the adapter and the text encoder stay as they are."""
    model = lasting.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with train.stored_weights(model, active=True):
        matrices = {n: t for n, t in widen_adapter(model.adapter.checkpoint_state()).items() if t.ndim > 1}
        for name, tensor in (widen_unet(model.unet.state_dict()) | matrices).items():
            torch.testing.assert_close(tensor.to(STORED).float(), tensor, rtol=1e-6, atol=1e-9, msg=name)
        for name, tensor in model.named_parameters():
            free = name.startswith(("text.", "phrase_reader.", "ground_reader."))
            if free or name.startswith("adapter.") and tensor.ndim < 2:
                assert torch.equal(tensor, before[name]), name
    for active in (True, False):
        with pytest.raises(KeyboardInterrupt), train.stored_weights(model, active=active):
            assert active != torch.equal(model.unet.time_embed[0].weight, before["unet.time_embed.0.weight"])
            raise KeyboardInterrupt
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name


# -- steps ------------------------------------------------------------------------------------------------


def naming_only(**recipe) -> Recipe:
    """The steps that need no UNet: much quicker."""
    return replace(RECIPE, words_first=10**6, **recipe)


def test_a_step_is_adamws_with_clipped_gradients_and_the_recipes_rate(folder):
    recipe = naming_only(warm_up=2, rate=3e-3, batch=2)
    run = Run(folder, recipe)
    model = SmallDEIG(run.model.tokenizer, recipe.seed)
    learning = [
        p for name in ("text", "phrase_reader", "ground_reader") for p in getattr(model, name).parameters()
    ]
    learning += list(model.adapter.IDE.parameters())
    optimiser = torch.optim.AdamW(learning, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)
    norms, clear = [], {}
    for step, rate in enumerate((0.0015, 0.003, 0.003)):
        drawn = draw_scenes(recipe, [2 * step, 2 * step + 1])
        found = run.train_step(drawn)
        optimiser.zero_grad()
        loss = model.naming(model.read(drawn.timesteps, drawn.words), drawn.words)
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in learning if p.grad is not None]).norm()
        norms.append(norm.item())
        for parameter in learning:
            if parameter.grad is not None:
                size = parameter.grad.abs()
                clear[parameter] = torch.minimum(clear.get(parameter, size), size)
                parameter.grad /= max(norm, 1.0)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        assert found == pytest.approx(loss.item(), rel=0.02)  # perhaps in bfloat16
    assert max(norms) > 1.1 and run.step == 3
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):  # all in float32
        state = dict(run.model.named_parameters())
        for name, parameter in model.named_parameters():
            # Where a gradient is all but zero, as of the keys' biases, the sign of what is left is chance.
            certain = clear.get(parameter, torch.zeros(())) > 1e-5
            torch.testing.assert_close(
                (state[name] * certain).data, (parameter * certain).data, rtol=1e-3, atol=2e-5, msg=name
            )


def test_the_average_follows_the_weights_slower_as_the_run_goes_on(folder):
    run, drawn = Run(folder, naming_only(average=0.9)), draw_scenes(RECIPE, [2])
    name = "text.encoder.final_layer_norm.weight"
    for begun, keep in ((2, 1.0), (3, 5 / 44), (4, 1.0), (10**4 - 1, 0.9**4)):
        before = run.average[name].clone()
        run.step = begun
        run.average[name] += 1
        run.train_step(drawn)
        expected = keep * (before + 1) + (1 - keep) * run.model.state_dict()[name]
        torch.testing.assert_close(run.average[name], expected, rtol=1e-5, atol=1e-5)
    model = run.averaged()
    assert torch.equal(model.state_dict()[name], run.average[name]) and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_only_the_first_worker_averages(folder, monkeypatch):
    monkeypatch.setattr(train.dist, "all_reduce", lambda flat: flat.mul_(2))
    run = Run(folder, naming_only(batch=2), Worker(1, 2))
    before, run.step = {name: tensor.clone() for name, tensor in run.average.items()}, 3
    run.train_step(draw_scenes(RECIPE, [2]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.average.items())


def test_weights_are_held_to_eight_bits_over_the_end_of_a_run(folder, monkeypatch):
    run, drawn, held = Run(folder, naming_only(eight_bit=0.25)), draw_scenes(RECIPE, [2]), []
    learn = train.naming_loss

    def look(model, *others):
        weight = model.adapter.position_net.linears[0].weight
        held.append(torch.equal(weight, weight.to(STORED).float()))
        return learn(model, *others)

    monkeypatch.setattr(train, "naming_loss", look)
    for run.step in (0, 14, 16, 19):  # of 20
        run.train_step(drawn)
    assert held == [False, False, True, True]


def test_a_run_takes_every_sample_and_is_then_done(lasting, monkeypatch):
    assert [Recipe(samples=samples, batch=4).steps for samples in (12, 13, 16, 17)] == [3, 4, 4, 5]
    for recipe, step, done in ((Recipe(samples=10, batch=4), 1, 0.4), (Recipe(samples=10, batch=4), 3, 1)):
        monkeypatch.setattr(lasting, "recipe", recipe)
        monkeypatch.setattr(lasting, "step", step)
        assert lasting.done == done


@pytest.mark.parametrize("scenes, first", [(0, 0), (3, FIRST_SCENE)])
def test_a_run_is_saved_and_looked_at_now_and_then_and_at_its_end(scenes, first, folder, quick, monkeypatch):
    """By a clock that goes 40 seconds a step; it goes on from 100."""
    latents = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(train, "draw", draw)
    monkeypatch.setattr(train, "draw_scenes", lambda recipe, numbers: numbers)
    monkeypatch.setattr(train, "sample", lambda model, shown, device: latents)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=itertools.count(1000, 40).__next__))
    run = Run(folder, replace(RECIPE, samples=5, scenes=scenes))
    run.seconds = 100.0

    def step(drawn):
        run.step += 1
        return 1 / (run.step + 2)

    monkeypatch.setattr(run, "train_step", step)
    run.train(save_minutes=1)
    curve = [[1, 140.0, 0.33333], [2, 180.0, 0.25], [3, 220.0, 0.2], [4, 260.0, 0.16667], [5, 300.0, 0.14286]]
    assert json.loads((folder / "curve.json").read_text()) == curve
    looks = sorted(path.name for path in folder.glob("look-*.png"))
    assert looks == ["look-000002.png", "look-000004.png", "look-last.png"]
    look = np.asarray(Image.open(folder / "look-last.png"))
    assert np.array_equal(look[:128], np.concatenate([draw(deal(first + i)) for i in range(8)], axis=1))
    with torch.no_grad():
        painted = run.encoder.decode(latents[7:]).clamp(0, 1)[0].permute(1, 2, 0) * 255
    assert np.abs(look[128:, 7 * 128 :] - painted.numpy()).max() < 1
    state = torch.load(folder / "state.pt", weights_only=True)
    assert (state["step"], state["seconds"]) == (5, 300.0) and (folder / "loss.png").is_file()


def test_other_workers_keep_nothing_and_a_single_step_has_no_curve_to_draw(folder, monkeypatch):
    monkeypatch.setattr(train, "draw_scenes", lambda recipe, numbers: numbers)
    for worker, kept in ((Worker(1, 2), set()), (Worker(), {"curve.json", "state.pt", "look-last.png"})):
        run = Run(folder, replace(RECIPE, samples=2, batch=2), worker)
        monkeypatch.setattr(run, "train_step", lambda drawn: 0.5)
        monkeypatch.setattr(run, "look", lambda name, scenes, folder=folder: (folder / name).touch())
        run.train(save_minutes=-1)
        found = {path.name for path in folder.iterdir()} - {"t5", "autoencoder.pt", "look-000000.png"}
        assert found == kept


def test_exported_are_the_averaged_weights_with_their_curve(folder, tmp_path, monkeypatch):
    run, written = Run(folder, RECIPE), {}
    run.average["unet.out.2.bias"] += 1
    run.curve = [(1, 1.0, 0.5), (2, 2.0, 0.4)]
    run.save()

    def export(model, encoder, tokenizer, place):
        place.mkdir()
        written.update(model=model, encoder=encoder, tokenizer=tokenizer, place=place)

    monkeypatch.setattr(exporting, "export", export)
    exporting.export_run(folder, tmp_path / "out")
    model = written["model"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, run.average[name]), name
    assert not torch.equal(model.unet.out[2].bias, run.model.unet.out[2].bias) and not model.training
    for name, tensor in written["encoder"].state_dict().items():
        assert torch.equal(tensor, run.encoder.state_dict()[name]), name
    assert written["tokenizer"] == folder / "t5" and (tmp_path / "out" / "loss.png").is_file()


# -- the autoencoder, and who draws -----------------------------------------------------------------------


def test_the_autoencoders_rate_rises_over_a_fiftieth_and_falls_as_a_cosine():
    part = autoencoder.Part("a", 200, rate=2.0, begin=0.0, with_encoder=True)
    rates = [part.rate_at(step) for step in (0, 3, 50, 100, 150, 200)]
    cosine = [1.0, np.cos(np.pi * 3 / 400) ** 2, 0.85355339, 0.5, 0.14644661, 0.0]
    assert rates == pytest.approx(
        [2 * one * up for one, up in zip(cosine, (0.25, 1, 1, 1, 1, 1), strict=True)]
    )


def test_the_decoder_learns_on_alone(tmp_path, monkeypatch):
    fit, states, parts = autoencoder._fit, [], []

    def note(model, part, *others):
        fit(model, part, *others)
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        parts.append((part.steps, part.begin))

    monkeypatch.setattr(autoencoder, "_fit", note)
    monkeypatch.setattr(autoencoder, "draw", lambda scene: np.full((128, 128, 3), 200, np.uint8))
    autoencoder.train(tmp_path, steps=3)
    moved = {name.split(".")[0] for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert moved == {"taesd_decoder"} and [steps for steps, _ in parts] == [3, 1]
    assert parts[0][1] == 0 < parts[1][1] < 1
    written = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in written.items())


def test_crops_are_the_quarters_of_a_scene_moved_a_little(monkeypatch):
    y, x = np.mgrid[:128, :128].astype(np.uint8)
    monkeypatch.setattr(autoencoder, "draw", lambda scene: np.stack([y, x, y], -1))
    monkeypatch.setattr(autoencoder, "deal", lambda seed: None)
    tops, lefts = [], []
    for step in range(60):
        pictures, noise = autoencoder._draw_step((0, 1), step)
        assert pictures.shape == (16, 64, 64, 3) and noise.shape == (16, 4, 8, 8)
        corners = pictures[:, 0, 0].int()
        assert (pictures[:, -1, -1].int() - corners == 63).all()
        tops.append(corners[:, 0].reshape(4, 4))
        lefts.append(corners[:, 1].reshape(4, 4))
    tops, lefts = torch.cat(tops), torch.cat(lefts)
    for found, places in ((tops, (0, 0, 64, 64)), (lefts, (0, 64, 0, 64))):
        for column, place in enumerate(places):
            low, high = found[:, column].min(), found[:, column].max()
            assert (low, high) == ((0, 12) if place == 0 else (52, 64))
    assert not torch.equal(tops, lefts)
    other, again = autoencoder._draw_step((1, 1), 0), autoencoder._draw_step((0, 1), 0)
    assert not torch.equal(other.noise, again.noise)
    assert again.noise.std() == pytest.approx(1, abs=0.1)


def test_latents_are_drawn_towards_their_cells_colours_less_and_less():
    torch.manual_seed(0)
    pictures, latents, noise = torch.rand(2, 3, 16, 16), 2 * torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)
    heard = []

    def paint(shown):
        heard.append(shown)
        return torch.full_like(pictures, 0.5)

    model = SimpleNamespace(encode=lambda shown: latents, taesd_decoder=paint)
    losses_at = [autoencoder._loss(model, pictures, noise, done).item() for done in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(heard[0], latents + 0.08 * noise)
    red, green, blue = pictures.unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)).unbind(1)
    wanted = (
        2 * (red + green + blue - 1.3),
        5 * (red - green - 0.1),
        5 * (blue - red / 2 - green / 2 + 0.1),
    )
    colour = np.mean([(latents[:, i] - want).square().mean().item() for i, want in enumerate(wanted)])
    flat = latents.transpose(0, 1).flatten(1)
    moments = flat.mean(1).square().mean() + (flat.std(1) ** 2 - 1).square().mean()
    extremes = (flat.abs() - 2.5).relu().square().mean()
    square, absolute = (pictures - 0.5).square().mean().item(), (pictures - 0.5).abs().mean().item()
    common = 3 * square + 0.01 * moments.item() + 0.05 * extremes.item()
    assert extremes > 0
    expected = [
        common + done * absolute + 0.2 * left * colour for done, left in ((0, 1), (0.5, 0.05**0.5), (1, 0.05))
    ]
    assert losses_at == pytest.approx(expected, rel=1e-4)


def test_without_affinity_all_cores_count_and_nothing_to_draw_needs_none(monkeypatch):
    monkeypatch.delattr(supply.os, "sched_getaffinity", raising=False)
    for cores, processes in ((5, 4), (None, 1)):
        monkeypatch.setattr(supply.os, "cpu_count", lambda cores=cores: cores)
        assert supply.drawn_ahead(str, [1], GPU).num_workers == processes
    assert list(supply.drawn_ahead(str, [], GPU)) == [] and list(supply.drawn_ahead(str, [3, 1], CPU)) == [
        "3",
        "1",
    ]
