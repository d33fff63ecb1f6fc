"""The small model: what is stored computes what was trained, and the pack's loaders read it."""

import inspect
import os
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoTokenizer

from small_model import autoencoder, keep, place, text
from small_model import export as exporting
from small_model.curve import _running_mean, _ticks, draw_curve
from small_model.device import CPU, STORED, half_precision, pick_device
from small_model.export import CURVE, MOST_BYTES, adapter_state, checkpoint_state, export
from small_model.model import (
    SmallDEIG,
    extract,
    ground,
    noise_schedule,
    sample,
    sampling_times,
    times_of_phrases,
    words_of,
)
from small_model.place import ADAPTER, CHECKPOINT, SMALL, TEXT_FOLDER, WEIGHTS, place_weights
from small_model.scenes import Scene, Shape, deal, draw
from small_model.sheet import draw_sheet
from small_model.stored import StoredDEIG
from small_model.unet import UNet
from small_model.widen import CONTEXT_TIMES, widen_unet

SCENES = [deal(seed, count=count) for seed, count in ((1, 2), (2, 1), (3, 4))]


def liven(module: torch.nn.Module):
    """Draw all weights anew, so that zeros at the start and ones in norms hide nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise / parameter[0].numel() ** 0.5
        else:
            parameter.data = parameter.data + 0.2 * noise


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    text.train_vocabulary(folder, scenes=300)
    return folder


@pytest.fixture(scope="module")
def trained(vocabulary) -> SmallDEIG:
    """A model of training's form with weights that the files hold exactly, but for its vectors."""
    model = SmallDEIG(text.load_tokenizer(vocabulary))
    liven(model.unet)
    liven(model.adapter)
    model.text.half().float()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoder() -> autoencoder.Autoencoder:
    torch.manual_seed(1)
    model = autoencoder.Autoencoder()
    liven(model)
    return model.half().float().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def stored(trained, encoder, vocabulary, tmp_path_factory) -> StoredDEIG:
    folder = tmp_path_factory.mktemp("weights")
    export(trained, encoder, vocabulary, folder, stored=torch.float32)
    return StoredDEIG(folder)


def told():
    return words_of(SCENES, [True, True, False], [scene.prompt for scene in SCENES[:2]] + [""])


def noisy() -> torch.Tensor:
    return torch.randn(len(SCENES), 4, 16, 16, generator=torch.Generator().manual_seed(5))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.std()).item()


def test_a_widened_unet_computes_the_same():
    torch.manual_seed(0)
    narrow, wide = UNet(), UNet(320, 768)
    liven(narrow)
    wide.load_state_dict(widen_unet(narrow.state_dict()))
    context, timesteps = torch.randn(3, 8, 256), torch.tensor([999, 400, 3])
    with torch.no_grad():
        expected = narrow(noisy(), timesteps, context)
        found = wide(noisy(), timesteps, context.repeat_interleave(CONTEXT_TIMES, dim=-1))
    assert relative(found, expected) < 1e-4


def test_what_is_stored_computes_what_was_trained(trained, stored):
    """Text encoder with all its padding, IDE, position net, fusers and UNet: the pack's against training's."""
    timesteps = torch.tensor([900, 500, 20])
    with torch.no_grad():
        expected = trained(noisy(), timesteps, told())
        found = stored(noisy(), timesteps, told())
    # The adapter's vectors are stored in 16 bits, which rounds at 5e-4.
    assert relative(found, expected) < 5e-3
    # The words count: with other ones the noise is another.
    others = replace(told(), phrases=tuple(reversed(told().phrases)))
    with torch.no_grad():
        assert relative(stored(noisy(), timesteps, others), expected) > 0.1


def test_pictures_of_the_stored_model_are_those_of_training(trained, stored):
    expected = sample(trained, SCENES[:1], steps=3, half=False)
    assert relative(sample(stored, SCENES[:1], steps=3, half=False), expected) < 0.02


def test_a_padded_autoencoder_computes_the_same(encoder, stored):
    pictures = autoencoder.to_tensor(torch.from_numpy(np.stack([draw(scene) for scene in SCENES])))
    with torch.no_grad():
        latents = encoder.encode(pictures)
        assert relative(stored.autoencoder.encode(pictures), latents) < 1e-4
        expected = encoder.taesd_decoder(latents)
        assert relative(stored.autoencoder.taesd_decoder(latents), expected) < 1e-4


def test_the_last_position_stands_for_all_padding(trained):
    phrases = ["a red circle", "a small ring, blue and white, on a table", ""]
    timesteps = torch.tensor([900.0, 300.0, 7.0])
    with torch.no_grad():
        padded = text.encode(trained.text, trained.tokenizer, phrases)
        whole = text.encode_whole(trained.text, trained.tokenizer, phrases)
        assert padded.features.shape[1] < whole.shape[1] == 128
        expected = trained.adapter.IDE(whole, timesteps)
        assert relative(extract(trained.adapter.IDE, padded, timesteps), expected) < 1e-4


def test_the_pack_reads_the_text_encoder_with_capitals_and_spaces_as_people_type(trained, stored):
    phrases = ["a red circle with white dots", "an orange star"]
    with torch.no_grad():
        expected = text.encode_whole(trained.text, trained.tokenizer, phrases)
    assert relative(stored.text.encode(phrases), expected) < 1e-4
    assert torch.equal(
        stored.text.encode([" A Red  CIRCLE with white dots "])[0], stored.text.encode(phrases)[0]
    )


@pytest.mark.skipif(not (WEIGHTS / CHECKPOINT).exists(), reason=f"the small model is not in {WEIGHTS}")
def test_the_weights_in_the_repository_are_small_and_say_what_they_are():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    card = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert (
        all(f"`{name}" in card for name in (CHECKPOINT, ADAPTER, TEXT_FOLDER, CURVE)) and "TODO" not in card
    )


def test_the_noise_schedule_is_stable_diffusions():
    alphas = noise_schedule()
    assert alphas[0].item() == pytest.approx(0.99915, abs=1e-5)
    assert alphas[-1].item() == pytest.approx(0.0047, abs=1e-4)


def test_the_loss_curve_is_drawn(tmp_path):
    steps = np.arange(1, 3001)
    errors = np.exp(-steps / 500) + 0.05
    draw_curve(
        [(int(s), s * 1.5, float(e)) for s, e in zip(steps, errors, strict=True)], tmp_path / "loss.png"
    )
    picture = np.asarray(Image.open(tmp_path / "loss.png").convert("RGB")).astype(int)
    # The line falls from the left to the right of the plot.
    line = (np.abs(picture - (31, 78, 156)).sum(-1) < 60) & (np.arange(picture.shape[1]) < 700)
    columns = np.flatnonzero(line.any(0))
    tops = [np.flatnonzero(line[:, column]).mean() for column in columns]
    assert columns[0] < 120 and tops[-1] - tops[0] > 250


def test_matrices_are_stored_in_eight_bits_and_what_is_read_as_it_is_in_sixteen(trained, encoder):
    checkpoint, adapter = checkpoint_state(trained, encoder), adapter_state(trained)
    assert {tensor.dtype for name, tensor in checkpoint.items() if name.startswith("model.")} == {STORED}
    first = {
        name: tensor.dtype for name, tensor in checkpoint.items() if name.startswith("first_stage_model.")
    }
    scales = {"first_stage_model.vae_scale", "first_stage_model.vae_shift"}
    assert {first[name] for name in scales} == {torch.float32}
    assert {dtype for name, dtype in first.items() if name not in scales} == {torch.float16}
    assert all(tensor.dtype == (STORED if tensor.ndim > 1 else torch.float16) for tensor in adapter.values())


def test_an_export_that_is_too_large_is_refused_at_its_end(monkeypatch, tmp_path, capsys):
    def write(run, folder):
        (folder / "t5").mkdir()
        (folder / "t5" / "a").write_bytes(bytes(600))
        (folder / "b").write_bytes(bytes(401))

    monkeypatch.setattr(exporting, "export_run", write)
    monkeypatch.setattr("sys.argv", ["export", "--out", str(tmp_path)])
    monkeypatch.setattr(exporting, "MOST_BYTES", 1000)
    with pytest.raises(SystemExit, match="too much to keep"):
        exporting.main()
    said = capsys.readouterr().out
    assert f"600  {Path('t5') / 'a'}" in said and "1,001  in all, of at most 1,000" in said
    monkeypatch.setattr(exporting, "MOST_BYTES", 1001)
    (tmp_path / "t5" / "a").unlink()
    (tmp_path / "t5").rmdir()
    exporting.main()


def test_a_text_encoder_that_was_exported_goes_on_in_full_precision(trained, encoder, vocabulary, tmp_path):
    export(trained, encoder, vocabulary, tmp_path)
    assert trained.text.dtype == torch.float32
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, ADAPTER, TEXT_FOLDER]


def fake_weights(folder: Path) -> Path:
    (folder / TEXT_FOLDER).mkdir(parents=True)
    for name in (CHECKPOINT, ADAPTER, f"{TEXT_FOLDER}/config.json", f"{TEXT_FOLDER}/model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("can_link", [True, False])
def test_weights_are_placed_where_comfyui_lists_them(tmp_path, monkeypatch, can_link):
    weights, models = fake_weights(tmp_path / "weights"), tmp_path / "models"
    if not can_link:
        monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("no privilege")))
    for _ in range(2):  # what is there is left
        assert place_weights(models, weights) == SMALL
    placed = {str(path.relative_to(models)): path.read_text() for path in models.rglob("*") if path.is_file()}
    assert placed == {
        os.path.join("checkpoints", "small-deig.safetensors"): CHECKPOINT,
        os.path.join("deig", "small-deig.safetensors"): ADAPTER,
        os.path.join("text_encoders", "small-deig-t5", "config.json"): f"{TEXT_FOLDER}/config.json",
        os.path.join(
            "text_encoders", "small-deig-t5", "model.safetensors"
        ): f"{TEXT_FOLDER}/model.safetensors",
    }


def test_other_weights_take_the_place_of_the_ones_before_and_are_not_written_into_them(tmp_path):
    models, one, other = (tmp_path / name for name in ("models", "one", "other"))
    fake_weights(one)
    fake_weights(other)
    for name in (CHECKPOINT, ADAPTER, f"{TEXT_FOLDER}/config.json"):
        (other / name).write_text("other")
    names = place_weights(models, one)
    place_weights(models, other)
    assert (models / "deig" / names.adapter).read_text() == "other"
    assert (models / "text_encoders" / names.text_encoder / "config.json").read_text() == "other"
    assert (one / ADAPTER).read_text() == ADAPTER
    # The first were moved since: their links lead nowhere.
    other.rename(tmp_path / "moved")
    place_weights(models, one)
    assert (models / "checkpoints" / names.checkpoint).read_text() == CHECKPOINT and not other.exists()


def test_a_state_that_could_not_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path, settings = tmp_path / "state.pt", {"seed": 1}
    keep.save_whole({"settings": settings, "step": 1}, path)

    def breaks(state, place):
        Path(place).write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(keep.torch, "save", breaks)
        keep.save_whole({"settings": settings, "step": 2}, path)
    assert keep.load_same(path, settings, CPU)["step"] == 1
    keep.save_whole({"settings": settings, "step": 3}, path)
    assert [place.name for place in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize(("capability", "half"), [("AVX512", torch.bfloat16), ("AVX2", torch.float32)])
def test_only_what_is_asked_to_is_computed_in_half_precision(monkeypatch, capability, half):
    # A CPU that only imitates bfloat16 is slower by it, much slower.
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    a = torch.randn(4, 4)
    q = torch.randn(1, 1, 4, 8)
    for active, dtype in ((True, half), (False, torch.float32)):
        with half_precision(CPU, active):
            assert (a @ a).dtype == dtype
            # A CPU attends in full precision in any case.
            assert (
                torch.nn.functional.scaled_dot_product_attention(q.to(dtype), q.to(dtype), q.to(dtype)).dtype
                == torch.float32
            )
    assert (a @ a).dtype == torch.float32


def test_a_device_that_knows_no_eight_bit_floats_is_refused_in_a_line():
    with pytest.raises(
        ValueError, match=r"^Training cannot run on 'toaster' \([^\n]+\). 'cpu' always works.$"
    ):
        pick_device("toaster")


def test_sampling_goes_from_all_noise_to_the_picture():
    assert sampling_times(3) == [999, 666, 333, 0]
    assert sampling_times(1) == [999, 0]


def test_the_curves_mean_is_over_a_steps_neighbours():
    assert _running_mean(np.array([1.0, 2, 3, 4, 9]), 3).tolist() == pytest.approx([1.5, 2, 3, 16 / 3, 6.5])
    assert _running_mean(np.array([5.0, 7]), 1).tolist() == [5, 7]


@pytest.mark.parametrize(
    "low, high, about, ticks",
    [
        (0, 80, 8, range(0, 81, 10)),
        (1, 3000, 8, range(500, 3001, 500)),
        (3, 12, 8, range(4, 13, 2)),
        (0, 1300, 8, range(0, 1201, 200)),
    ],
)
def test_ticks_are_round_numbers_within(low, high, about, ticks):
    assert _ticks(low, high, about).tolist() == pytest.approx(list(ticks))


def test_a_sheet_has_its_pictures_in_rows_and_columns():
    colours = [["red", "lime"], ["blue", "white"]]
    rows = [
        [Image.new("RGB", size, colour) for size, colour in zip(((10, 10), (30, 10)), row, strict=True)]
        for row in colours
    ]
    sheet = draw_sheet(rows, ("one", "two"), [["a"], ["word " * 30]], cell=100)
    assert sheet.size == (16 + 100 + 16 + 300 + 16 + 330, 34 + 2 * 116 + 16)
    for (x, y), colour in {
        (16, 34): (255, 0, 0), (115, 133): (255, 0, 0), (132, 34): (0, 255, 0), (431, 133): (0, 255, 0),
        (16, 150): (0, 0, 255), (131, 150): (255, 255, 255), (16, 140): (255, 255, 255),
    }.items():  # fmt: skip
        assert sheet.getpixel((x, y)) == colour
    words = np.asarray(sheet.convert("L"))[:, 448:] < 128
    inked = [words[34 + 116 + 20 * line : 34 + 116 + 20 * line + 20].any() for line in range(5)]
    assert words[34:54].any() and not words[54:134].any()
    assert inked[:4] == [True] * 4 and words[:, -16:].sum() == 0  # wrapped, and not beyond the sheet


def test_a_text_that_is_too_long_is_cut_and_leaves_others_as_they_are(trained, stored):
    phrases = ["a red circle, " * 60, "a star"]
    with torch.no_grad():
        padded = text.encode(trained.text, trained.tokenizer, phrases)
        whole = text.encode_whole(trained.text, trained.tokenizer, phrases)
    assert (
        padded.features.shape[:2] == padded.words.shape == whole.shape[:2] == (2, 128) and padded.times == 1
    )
    assert padded.words[0].all() and padded.words[1].sum() == len(trained.tokenizer("a star")["input_ids"])
    # Both keep the end of what they cut.
    assert relative(stored.text.encode(phrases), whole) < 1e-4


def test_transformers_reads_the_vocabulary_by_itself(vocabulary):
    tokenizer = AutoTokenizer.from_pretrained(vocabulary)
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token) == ("<pad>", "</s>", "<unk>")
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert tokenizer.model_max_length == 128 and len(tokenizer) == text.VOCABULARY
    ids = tokenizer("A  Red circle, zq")["input_ids"]
    assert ids[-1] == 1 and 2 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a red circle, zq"
    assert ids[1:3] != tokenizer("blue star")["input_ids"][1:3]
    first, second = (tokenizer(phrase)["input_ids"] for phrase in ("red circle", "star"))
    assert tokenizer("red circle", "star")["input_ids"] == first + second
    assert len(first) == 3  # a word that is known is one token
    assert 2 in tokenizer("7")["input_ids"]
    assert text.read_pieces(vocabulary)[:3] == ["<pad>", "</s>", "<unk>"]


def test_the_noise_schedule_is_linear_in_its_roots():
    left, alphas = 1.0, noise_schedule()
    for step in range(1000):
        left *= 1 - (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * step / 999) ** 2
        assert alphas[step].item() == pytest.approx(left, rel=1e-5)


def test_a_scene_is_told_its_instances_where_they_lie(trained):
    shapes = [
        Shape("square", "plain", ("red",), (0.25, 0.25, 0.5, 0.75), "a red square"),
        Shape("circle", "plain", ("blue",), (0.5, 0.0, 1.0, 0.125), "a blue circle"),
        Shape("star", "plain", ("white",), (0.0, 0.5, 0.25, 1.0), "a white star"),
    ]
    scenes = [Scene(tuple(of), ("teal",), "plain", "") for of in (shapes[:2], shapes, shapes[2:])]
    words = words_of(scenes, [True, False, True], ["one", "", "three"])
    assert (words.counts, words.prompts) == ((2, 0, 1), ("one", "", "three"))
    assert words.phrases == ("a red square", "a blue circle", "a white star") and words.shapes == tuple(
        shapes
    )
    assert words.boxes.tolist() == [list(shape.box) for shape in shapes]
    expected = torch.zeros(3, 8, 8)
    expected[0, 2:6, 2:4] = expected[1, 0, 4:] = expected[2, 4:, :2] = 1
    assert torch.equal(words.places.float(), expected.flatten(1))
    assert times_of_phrases(torch.tensor([900, 500, 20]), words).tolist() == [900, 900, 20]
    torch.manual_seed(0)
    tokens = torch.randn(3, 8, 256)
    (group,) = ground(trained.adapter, tokens, words)
    placed = trained.adapter.position_net(tokens, words.boxes)
    assert group.rows == 3 and group.objs.shape[:2] == (3, 2) and group.bias.shape == (3, 2, 64)
    for row, slot, which in ((0, 0, 0), (0, 1, 1), (2, 0, 2)):
        assert torch.equal(group.objs[row, slot], placed[which])
        assert torch.equal(group.bias[row, slot] == 0, expected[which].flatten() == 1)
    assert (group.bias.isneginf() | (group.bias == 0)).all()
    for row, slot in ((1, 0), (1, 1), (2, 1)):  # there is none
        assert group.bias[row, slot].isneginf().all()
    nobody = words_of(scenes, [False] * 3, [""] * 3)
    assert ground(trained.adapter, None, nobody)[0][:3] == (3, None, None)
    assert times_of_phrases(torch.tensor([1, 2, 3]), nobody).tolist() == []


@pytest.mark.parametrize("guidance, free", [(3.0, 2), (1, 0)])
def test_samples_are_guided_away_from_what_nobody_is_told(guidance, free):
    """Told and untold a model answers shares of what it sees: so DDIM multiplies the noise by a number."""
    calls = []

    def model(noisy, timesteps, words):
        calls.append((timesteps.tolist(), words.counts, words.prompts))
        return noisy * (0.5 if words.phrases else 0.2)

    found = sample(model, SCENES[:2], seed=4, steps=2, guidance=guidance, half=False)
    answer, factor, alphas = 0.2 + guidance * (0.5 - 0.2), 1.0, noise_schedule().double()
    for now, then in ((alphas[999], alphas[500]), (alphas[500], torch.tensor(1.0))):
        picture = (1 - (1 - now).sqrt() * answer) / now.sqrt()
        factor *= then.sqrt() * picture + (1 - then).sqrt() * answer
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(found, noise * float(factor), rtol=1e-4, atol=1e-4)
    told = ((2, 1), tuple(scene.prompt for scene in SCENES[:2]))
    assert [call for call in calls if call[1] != (0, 0)] == [([999] * 2, *told), ([500] * 2, *told)]
    assert sum(call[1:] == ((0, 0), ("", "")) for call in calls) == free


def test_a_model_begins_calm_with_open_gates(vocabulary):
    model = SmallDEIG(text.load_tokenizer(vocabulary), seed=3)
    state = dict(model.named_parameters())
    gates = [parameter.item() for name, parameter in state.items() if "alpha_" in name]
    assert len(gates) == 8 and set(gates) == {1.0}
    calm = 0
    for name, parameter in state.items():
        if name.startswith("unet.") and name.endswith(".weight") and parameter.ndim == 4:
            branch = "out_layers.3" in name or "proj_out" in name
            bound = (0.2 if branch else 1.0) / parameter[0].numel() ** 0.5
            if name == "unet.out.2.weight":
                bound = 0.0
            assert parameter.abs().max().item() == pytest.approx(bound, rel=0.02), name
            calm += branch
    assert calm == 8 + 4
    again, other = (SmallDEIG(model.tokenizer, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    for part in (
        "text.",
        "unet.",
        "adapter.IDE.",
        "adapter.position_net.",
        "phrase_reader.",
        "ground_reader.",
    ):
        assert any(
            name.startswith(part) and not torch.equal(other[name], tensor) for name, tensor in again.items()
        )


def test_without_deig_the_prompt_alone_is_painted(stored):
    scene, options = SCENES[0], {"steps": 1, "guidance": 1}
    other = replace(scene, shapes=SCENES[2].shapes)
    bare, same = (stored.paint([one], 3, with_deig=False, **options) for one in (scene, other))
    assert bare.shape == (1, 128, 128, 3) and bare.dtype == np.uint8 and np.array_equal(bare, same)
    painted = stored.paint([scene], 3, **options)
    assert not np.array_equal(painted, bare)
    latents = sample(stored, [scene], seed=3, half=False, **options)
    assert np.array_equal(painted, stored.decode(latents))


def test_painting_takes_its_seed_steps_and_guidance(stored, monkeypatch):
    heard = {}

    def note(*arguments, **named):
        heard.update(inspect.signature(sample).bind(*arguments, **named).arguments)
        return torch.zeros(1, 4, 16, 16)

    monkeypatch.setattr("small_model.stored.sample", note)
    stored.paint(SCENES[:1], seed=5, steps=7, guidance=2.5)
    expected = {"scenes": SCENES[:1], "seed": 5, "steps": 7, "guidance": 2.5, "half": False}
    assert heard == {"model": stored} | expected


def test_pictures_become_numbers_and_come_back():
    pictures = torch.arange(256, dtype=torch.uint8).reshape(1, 8, 32, 1).repeat(2, 1, 1, 3)
    pictures[..., 1] = 7
    numbers = autoencoder.to_tensor(pictures)
    assert numbers.shape == (2, 3, 8, 32) and (numbers.min(), numbers.max()) == (0, 1)
    assert torch.equal(numbers[0, 1], torch.full((8, 32), 7 / 255))
    assert np.array_equal(autoencoder.to_uint8(numbers), pictures.numpy())
    assert autoencoder.to_uint8(
        torch.tensor([-1.0, 0.499 / 255, 0.501 / 255, 2]).reshape(4, 1, 1, 1)
    ).tolist() == [[[[value]]] for value in (0, 0, 1, 255)]
    latents = torch.tensor([0.03, 3, 300])
    assert autoencoder.Clamp()(latents).tolist() == pytest.approx([0.03, 3 * np.tanh(1), 3], abs=1e-5)


def test_an_untrained_autoencoder_is_alive_and_paints_within_bounds():
    torch.manual_seed(0)
    model = autoencoder.Autoencoder()
    with torch.no_grad():
        latents = model.encode(torch.rand(2, 3, 64, 48))
        painted = model.decode(30 * torch.randn(2, 4, 8, 6))
    assert latents.shape == (2, 4, 8, 6) and 0.1 < latents.std() < 10
    assert painted.shape == (2, 3, 64, 48) and painted.min() == 0 and 0.5 < painted.max() <= 1


@pytest.mark.parametrize("named", [None, "", "elsewhere"])
def test_other_weights_can_be_named(named, monkeypatch):
    monkeypatch.delenv("DEIG_WEIGHTS", raising=False)
    if named is not None:
        monkeypatch.setenv("DEIG_WEIGHTS", named)
    file = Path(place.__file__)
    assert runpy.run_path(str(file))["WEIGHTS"] == (Path(named) if named else file.parent / "weights")


def test_the_curve_says_what_is_seen_in_it(tmp_path, monkeypatch):
    """Axes in round numbers, the error's logarithmic; extremes of single steps are left at the frame's edge."""
    texts, write = {}, ImageDraw.ImageDraw.text

    def note(self, xy, words, **options):
        texts[words] = xy
        write(self, xy, words, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    steps = np.arange(1, 2002)
    errors = np.where(steps % 2, 0.05, 0.5)
    errors[1000] = 5.0
    draw_curve([(int(s), s * 3.6, float(e)) for s, e in zip(steps, errors, strict=True)], tmp_path / "a.png")
    assert any("2001 steps in 2.0 h" in words for words in texts) and "step" in texts and "one step" in texts
    assert any("1/50 of the run" in words for words in texts)
    for words, step in {"500": 500, "1000": 1000, "2000": 2000}.items():
        assert texts[words][0] == pytest.approx(90 + (step - 1) / 2000 * 880)
    low, high = np.log10(0.05 * 0.9), np.log10(0.5 * 1.1)
    height = {
        words: 490 - (np.log10(float(words)) - low) / (high - low) * 430 for words in ("0.05", "0.1", "0.5")
    }
    assert {words: texts[words][1] for words in height} == pytest.approx(height)
    assert not {"0.03", "0.7", "1"} & texts.keys()
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert picture.shape == (560, 1000, 3)

    def rows(colour, columns):
        alike = (np.abs(picture[:, columns] - colour).sum(-1) < 30).any(1)
        return np.flatnonzero(alike & (np.arange(560) > 130))  # below the legend

    dots = rows((185, 207, 232), slice(100, 700))
    assert dots.max() == pytest.approx(height["0.05"], abs=3)
    top = (np.abs(picture[60:63, 300:700] - (185, 207, 232)).sum(-1) < 30).any(0)
    assert 300 + np.flatnonzero(top).mean() == pytest.approx(90 + 440, abs=2)
    mean = 490 - (np.log10(0.275) - low) / (high - low) * 430
    line = rows((31, 78, 156), slice(100, 500))
    assert line.min() == pytest.approx(mean, abs=5) and line.max() == pytest.approx(mean, abs=5)
    at_500 = round(90 + 499 / 2000 * 880)
    grid = picture[60:490, at_500 - 2 : at_500 + 3]
    assert (np.abs(grid - 224).sum(-1) < 10).mean(0).max() > 0.5
