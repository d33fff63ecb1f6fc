"""The small model: what is stored computes what was trained, and the pack's loaders read it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from small_model import autoencoder, text
from small_model.curve import draw_curve
from small_model.export import CURVE, MOST_BYTES, export
from small_model.model import SmallDEIG, extract, noise_schedule, sample, words_of
from small_model.place import ADAPTER, CHECKPOINT, TEXT_FOLDER, WEIGHTS
from small_model.scenes import deal, draw
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
