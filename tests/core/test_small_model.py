"""The small model: what is stored computes what was trained, and the pack's loaders read it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from small_model import autoencoder, keep, text
from small_model import export as exporting
from small_model.curve import _running_mean, _ticks, draw_curve
from small_model.device import CPU, STORED, half_precision, pick_device
from small_model.export import CURVE, MOST_BYTES, adapter_state, checkpoint_state, export
from small_model.model import SmallDEIG, extract, noise_schedule, sample, sampling_times, words_of
from small_model.place import ADAPTER, CHECKPOINT, SMALL, TEXT_FOLDER, WEIGHTS, place_weights
from small_model.scenes import deal, draw
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
