"""Train the small model: `python -m small_model.train`, run from the repository root.

First the autoencoder, then UNet, adapter and text encoder together, on scenes drawn as they are needed. The
recipe is the paper's at this size: AdamW with a warm-up, instances left out of 10 % of the samples for
guidance, the prompt through the IDE, an average of the weights. Three things are added, since nothing here knows
words or pictures beforehand: the error counts most where most is noise (`_weights`), phrases and grounds are named
from the IDE's tokens (`reader`), and some of what is shown is noise alone (`noisy_and_asked`). The rate falls over
the last part of the run, and over its end the weights are held to the 8-bit floats that they are stored in.

It can be stopped and started again; what is done so far lies in the folder given with --run.
"""

import argparse
import json
import logging
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import nn
from tqdm import tqdm

from . import autoencoder, text
from .curve import draw_curve
from .device import CPU, STORED, half_precision, pick_device
from .export import CURVE, is_stored_in_eight_bits
from .keep import load_same, save_whole
from .model import LATENT, Extraction, SmallDEIG, Words, noise_schedule, sample, words_of
from .scenes import FIRST_SCENE, Scene, deal, draw
from .start import begin, load_start
from .supply import drawn_ahead
from .unet import LATENT_CHANNELS
from .widen import query_scale

logger = logging.getLogger(__name__)

# Of the weight of the noise's error; the noise is to the picture as 212 to 1 at most.
MOST_WEIGHT, MOST_WEIGHT_UNTOLD, LEAST_WEIGHT = 60.0, 6.0, 0.3
LAST_NOISE = 0.1  # noise to picture, below which the weight falls
FIRST_ALONE = 900  # the first timestep at which noise alone is shown


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Args:
        samples: how many scenes to train UNet, adapter and text encoder on.
        batch: scenes a step, of all workers together.
        rate: the highest learning rate.
        warm_up: steps until it is reached.
        fall: the share of the run over which the rate falls, at its end.
        eight_bit: the share of the run with weights held to 8 bits, at its end.
        without_instances, without_prompt: shares of samples that lack these.
        noise_alone: the share of samples that show nothing of their picture (`noisy_and_asked`).
        naming: weight of the error in naming phrases and grounds.
        words_first: steps, at the beginning, that learn to name them and nothing else.
        average: how much of the averaged weights each step keeps.
        scenes: train on so many scenes over and over; 0: on new ones all the time.
        seed: of weights, noise and scenes.
        extraction: how phrases and prompts become tokens.
        new_ide: where stored weights are begun from, whether all but the IDE's are taken.
    """

    samples: int = 425_000
    batch: int = 32
    rate: float = 5e-4
    warm_up: int = 100
    fall: float = 0.45
    eight_bit: float = 0.15
    without_instances: float = 0.1
    without_prompt: float = 0.1
    noise_alone: float = 0.15
    naming: float = 0.5
    words_first: int = 0
    average: float = 0.998
    scenes: int = 0
    seed: int = 0
    extraction: Extraction = Extraction()
    new_ide: bool = False

    @property
    def steps(self) -> int:
        return -(-self.samples // self.batch)

    def rate_at(self, step: int, done: float) -> float:
        """Return the rate at a step, with a share `done` of the run behind it."""
        falling = min((1 - done) / self.fall, 1)
        return self.rate * min((step + 1) / self.warm_up, 1) * max(falling, 0.02)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Scenes to learn from, and how noisy they are shown.

    Args:
        pictures: (B, 128, 128, 3), uint8.
        words: what the B scenes are told.
        timesteps: (B,), 0 to 999.
        noise: (B, 4, 16, 16)
        alone: (B,), bool, where the noise is shown without the picture.
    """

    pictures: torch.Tensor
    words: Words
    timesteps: torch.Tensor
    noise: torch.Tensor
    alone: torch.Tensor


def draw_scenes(recipe: Recipe, numbers: Sequence[int]) -> Drawn:
    """Draw scenes, given by their numbers, and leave out what guidance needs left out."""
    scenes, with_instances, prompts, timesteps, noise, alone = [], [], [], [], [], []
    for number in numbers:
        rng = np.random.default_rng((recipe.seed, number))
        scene = deal(FIRST_SCENE + (number % recipe.scenes if recipe.scenes else number))
        told = rng.random() >= recipe.without_instances
        # Half of those without instances are without a prompt too: that is the negative of guidance.
        bare = rng.random() < (recipe.without_prompt if told else 0.5)
        scenes.append(scene)
        with_instances.append(told)
        prompts.append("" if bare else scene.prompt)
        alone.append(rng.random() < recipe.noise_alone)
        timesteps.append(rng.integers(FIRST_ALONE if alone[-1] else 0, 1000))
        noise.append(rng.standard_normal((LATENT_CHANNELS, LATENT, LATENT), dtype=np.float32))
    return Drawn(
        torch.from_numpy(np.stack([draw(scene) for scene in scenes])),
        words_of(scenes, with_instances, prompts),
        torch.tensor(timesteps),
        torch.from_numpy(np.stack(noise)),
        torch.tensor(alone),
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """What the model learns from: latents (B, 4, 16, 16), and the rest of `Drawn`, all on one device."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    alone: torch.Tensor
    words: Words


def make_batch(drawn: Drawn, encoder: autoencoder.Autoencoder, device: torch.device) -> Batch:
    """Encode drawn scenes, on the device."""
    pictures = autoencoder.to_tensor(drawn.pictures.to(device)).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), half_precision(device):
        latents = encoder.encode(pictures).float()
    noise, timesteps, alone = (tensor.to(device) for tensor in (drawn.noise, drawn.timesteps, drawn.alone))
    return Batch(latents, noise, timesteps, alone, drawn.words.to(device))


def noisy_and_asked(batch: Batch, alphas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the model is shown and the noise that it is asked for, (B, 4, 16, 16) each.

    Where the noise is alone it is shown as it is, and asked for is that noise which would leave the picture: the
    answer that leads a sampler from there to the picture in one step.

    Stable Diffusion 1.x's schedule keeps a little of the picture to the last timestep, 0.07 of its amplitude. Of
    what is as large as half the picture that is enough to be seen through the noise: a model that is never shown
    noise alone looks which ground lies where and need not read it. But a sampler begins with noise alone, where there
    is nothing to see but what the noise happens to look like (Lin et al. 2024, "Common Diffusion Noise Schedules and
    Sample Steps are Flawed", section 3.1, whose cure is another schedule; the host's must stay).
    """
    kept = alphas[batch.timesteps][:, None, None, None]
    shown = kept.sqrt() * batch.latents
    noisy = torch.where(
        batch.alone[:, None, None, None], batch.noise, shown + (1 - kept).sqrt() * batch.noise
    )
    asked = torch.where(
        batch.alone[:, None, None, None], (batch.noise - shown) / (1 - kept).sqrt(), batch.noise
    )
    return noisy, asked


def losses(
    model: SmallDEIG, batch: Batch, alphas: torch.Tensor, naming: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what training makes small and, to look at, the plain error of the noise; both without dimensions.

    Small are made the weighted error of the noise and the error in naming what is asked for, times `naming`.
    """
    noisy, asked = noisy_and_asked(batch, alphas)
    with half_precision(noisy.device):
        read = model.read(batch.timesteps, batch.words)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        predicted = model(noisy, batch.timesteps, batch.words, read)
        named = model.naming(read, batch.words)
    error = (predicted.float() - asked).square().mean((1, 2, 3))
    weights = _weights(alphas[batch.timesteps], batch.words)
    return (weights * error).mean() + naming * named, error.detach().mean()


def naming_loss(model: SmallDEIG, drawn: Drawn, device: torch.device) -> torch.Tensor:
    """Return the error in naming what drawn scenes are told; nothing is painted."""
    timesteps, words = drawn.timesteps.to(device), drawn.words.to(device)
    with half_precision(device):
        return model.naming(model.read(timesteps, words), words)


def _weights(kept: torch.Tensor, words: Words) -> torch.Tensor:
    """Weigh each sample's error of the noise, (B,), by how much of the picture is kept, (B,), and what is told.

    As long as most is noise it is the error of the picture that counts. Words and boxes say all that there is to
    see, and what is not learned there, such as which texture was asked for, is not learned at all: a little later
    the noisy picture gives it away. With instances or prompt left out much of it cannot be known, and would
    drown the rest. Of the last noise, of which nothing is to be seen, less and less counts.
    """
    ratio = (1 - kept) / kept  # the error of the picture is so many times that of the noise
    most = torch.tensor(
        [
            MOST_WEIGHT if count and prompt else MOST_WEIGHT_UNTOLD
            for count, prompt in zip(words.counts, words.prompts, strict=True)
        ],
        device=kept.device,
    )
    return ratio.minimum(most).clamp(min=LEAST_WEIGHT) * (ratio / LAST_NOISE).clamp(max=1)


@contextmanager
def stored_weights(model: nn.Module, active: bool) -> Iterator[None]:
    """Run the model with its weights rounded as they are stored; gradients go to the whole ones."""
    if not active:
        yield
        return
    rounded = [(name, p) for name, p in model.named_parameters() if is_stored_in_eight_bits(name, p)]
    whole = [parameter.data for _, parameter in rounded]
    for name, parameter in rounded:
        # What is rounded is what widening makes of it.
        scale = query_scale(name)
        parameter.data = (scale * parameter.data).to(STORED).to(parameter.dtype) / scale
    try:
        yield
    finally:
        for (_, parameter), data in zip(rounded, whole, strict=True):
            parameter.data = data


@dataclass(frozen=True)
class Worker:
    """One of several processes that train together, each on its own part of every batch.

    A batch is the same however many share it. Its gradient is so but for naming, whose mean each takes over its own.
    """

    rank: int = 0
    of: int = 1

    def numbers(self, recipe: Recipe, step: int) -> range:
        """Return the numbers of the scenes that this worker has at a step."""
        return range(step * recipe.batch + self.rank, (step + 1) * recipe.batch, self.of)

    def average(self, parameters: Sequence[nn.Parameter]):
        """Average the gradients of parameters over all workers."""
        if self.of == 1:
            return
        for parameter in parameters:
            # Where no scene of this worker has instances; the others count on as many numbers from it.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.of
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


class Run:
    """A training run and everything that has to be kept to go on with it.

    Args:
        folder: where it is kept.
        recipe: how to train.
        worker: which of several processes this is; the first keeps the run.
        device: what to train on.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        worker: Worker = Worker(),  # noqa: B008, it is frozen
        device: torch.device = CPU,
    ):
        self.folder, self.recipe, self.worker, self.device = folder, recipe, worker, device
        self.encoder = autoencoder.Autoencoder().eval()
        self.encoder.load_state_dict(torch.load(folder / "autoencoder.pt", weights_only=True))
        self.encoder.to(device, memory_format=torch.channels_last).requires_grad_(False)
        tokenizer = text.load_tokenizer(folder / "t5")
        self.model = SmallDEIG(tokenizer, recipe.seed, recipe.extraction)
        load_start(self.model, folder, recipe.new_ide)
        self.model.to(device, memory_format=torch.channels_last)
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.alphas = noise_schedule().to(device)
        self.step, self.seconds, self.curve = 0, 0.0, []
        if (folder / "state.pt").exists():
            self._load()

    def _load(self):
        state = load_same(self.folder / "state.pt", self._settings(), self.device)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]
        logger.info("going on from step %d", self.step)

    def _settings(self) -> dict[str, float]:
        """What has to stay as it was for a run to go on: all but its length."""
        settings = asdict(self.recipe)
        del settings["samples"]
        return settings

    def save(self):
        """Keep everything, replacing what was kept before only when it is written."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "settings": self._settings(),
        }
        save_whole(state, self.folder / "state.pt")
        (self.folder / "curve.json").write_text(json.dumps(self.curve))
        if len(self.curve) > 1:
            draw_curve(self.curve, self.folder / CURVE)

    @property
    def done(self) -> float:
        """The share of the run that is behind, 0 to 1."""
        return min(self.step * self.recipe.batch / self.recipe.samples, 1)

    def drawn(self) -> Iterable[Drawn]:
        """Return what is still to learn from, step by step."""
        steps = range(self.step, self.recipe.steps)
        numbers = [self.worker.numbers(self.recipe, step) for step in steps]
        return drawn_ahead(partial(draw_scenes, self.recipe), numbers, self.device)

    def train_step(self, drawn: Drawn) -> float:
        """Take one step and return the plain error of the noise, or of naming where that is all that is learned."""
        recipe = self.recipe
        words_alone = self.step < recipe.words_first
        with stored_weights(self.model, self.done > 1 - recipe.eight_bit):
            if words_alone:
                loss = error = naming_loss(self.model, drawn, self.device)
            else:
                batch = make_batch(drawn, self.encoder, self.device)
                loss, error = losses(self.model, batch, self.alphas, recipe.naming)
            self.optimiser.zero_grad()
            loss.backward()
        learning = self._readers() if words_alone else list(self.model.parameters())
        self.worker.average(learning)
        nn.utils.clip_grad_norm_(learning, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate_at(self.step, self.done)
        self.optimiser.step()
        self.step += 1
        if self.step % 4 == 0 and self.worker.rank == 0:
            self._take_average()
        return error.item()

    def _readers(self) -> list[nn.Parameter]:
        """Return what naming learns: no more than that may move where nothing is painted."""
        model = self.model
        parts = (model.text, model.adapter.IDE, model.phrase_reader, model.ground_reader)
        return [parameter for part in parts for parameter in part.parameters()]

    @torch.no_grad()
    def _take_average(self):
        keep = min(self.recipe.average**4, (1 + self.step) / (40 + self.step))
        for name, tensor in self.model.state_dict().items():
            self.average[name].lerp_(tensor, 1 - keep)

    def averaged(self) -> SmallDEIG:
        """Return a model with the averaged weights."""
        model = SmallDEIG(self.model.tokenizer, extraction=self.recipe.extraction)
        model.to(self.device, memory_format=torch.channels_last)
        model.load_state_dict(self.average)
        return model.eval().requires_grad_(False)

    def look(self, name: str, scenes: list[Scene]):
        """Paint scenes and save them below their drawings."""
        latents = sample(self.averaged(), scenes, device=self.device)
        with torch.no_grad():
            painted = autoencoder.to_uint8(self.encoder.decode(latents))
        drawn = [draw(scene) for scene in scenes]
        rows = [np.concatenate(list(row), axis=1) for row in (drawn, painted)]
        Image.fromarray(np.concatenate(rows)).save(self.folder / name)

    def train(self, save_minutes: float = 5):
        """Train on all the samples."""
        saved = self.seconds
        clock = time.monotonic() - self.seconds
        scenes = [deal(FIRST_SCENE + i if self.recipe.scenes else i) for i in range(8)]
        first = self.worker.rank == 0
        errors = deque(maxlen=50)
        bar = tqdm(
            self.drawn(), "painting", self.recipe.steps, initial=self.step, disable=not first, mininterval=5
        )
        with bar:
            for drawn in bar:
                error = self.train_step(drawn)
                self.seconds = time.monotonic() - clock
                errors.append(error)
                if self.step > self.recipe.words_first:
                    self.curve.append((self.step, round(self.seconds, 1), round(error, 5)))
                bar.set_postfix(error=f"{np.mean(errors):.4f}", refresh=False)
                if first and self.seconds - saved > save_minutes * 60:
                    self.save()
                    self.look(f"look-{self.step:06d}.png", scenes)
                    saved = self.seconds
        if first:
            self.save()
            self.look("look-last.png", scenes)


def prepare(folder: Path, steps: int, seed: int, device: torch.device, start_from: Path | None):
    """Take over vocabulary, autoencoder and weights to begin from, or train the first two, unless they are there."""
    begin(folder, start_from)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "t5" / "tokenizer.json").exists():
        text.train_vocabulary(folder / "t5")
    if not (folder / "autoencoder.pt").exists():
        autoencoder.train(folder, steps, seed, device)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("run"), help="folder that keeps the run")
    parser.add_argument("--samples", type=int, default=Recipe.samples, help="scenes of the long training")
    parser.add_argument(
        "--autoencoder-steps", type=int, default=9000, help="its decoder gets half as many more"
    )
    parser.add_argument("--batch", type=int, default=Recipe.batch, help="scenes a step")
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument(
        "--naming", type=float, default=Recipe.naming, help="weight of naming what is asked for"
    )
    parser.add_argument(
        "--words-first", type=int, default=Recipe.words_first, help="steps that learn nothing but this, first"
    )
    parser.add_argument(
        "--start-from", type=Path, help="folder of stored weights to begin from, such as small_model/weights"
    )
    parser.add_argument("--scenes", type=int, default=0, help="only so many, over and over (a quick check)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="such as cpu or cuda:1; by default a GPU if there is one")
    parser.add_argument(
        "--workers", type=int, default=1, help="on a CPU: processes of one thread each; 1: one with all cores"
    )
    arguments = parser.parse_args()
    try:
        device = pick_device(arguments.device)
    except ValueError as error:
        parser.error(str(error))
    workers = arguments.workers
    if workers > 1 and device.type != "cpu":
        parser.error(f"--workers {workers} shares a CPU's cores. On {device} one trains: leave it out.")
    if min(workers, arguments.batch) < 1 or arguments.batch % workers:
        parser.error(f"--batch {arguments.batch} cannot be dealt out evenly to --workers {workers}.")
    logging.basicConfig(level=logging.INFO)
    logger.info("training on %s", device)
    if device.type == "cuda":
        # It would make a plan for every number of phrases and every length of text, and these never repeat.
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        prepare(arguments.run, arguments.autoencoder_steps, arguments.seed, device, arguments.start_from)
    except ValueError as error:
        parser.error(str(error))
    recipe = Recipe(
        samples=arguments.samples,
        batch=arguments.batch,
        rate=arguments.rate,
        naming=arguments.naming,
        words_first=arguments.words_first,
        scenes=arguments.scenes,
        seed=arguments.seed,
    )
    train(arguments.run, recipe, device, workers)


def train(folder: Path, recipe: Recipe, device: torch.device, workers: int = 1):
    """Train, or go on, in a folder that is prepared.

    Args:
        folder, recipe, device: as `Run` has them.
        workers: on a CPU, processes of one thread each; 1: this one, with all cores.
    """
    if workers == 1:
        Run(folder, recipe, device=device).train()
        return
    with tempfile.TemporaryDirectory() as scratch:
        meeting = (Path(scratch) / "meeting").as_uri()
        mp.spawn(_work, (workers, meeting, folder, recipe), nprocs=workers)


def _work(rank: int, workers: int, meeting: str, folder: Path, recipe: Recipe):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    Run(folder, recipe, Worker(rank, workers)).train()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
