"""Painting what a plan asks for, on one or several servers, into a folder; what is there already stays."""

import contextlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from demo.client import ComfyClient, ExecutionFailed, PromptRejected

from .graph import PICTURE
from .manifest import Folder
from .plan import Task
from .servers import Versions
from .share import Left, share

PACK = Path(__file__).resolve().parents[2] / "pyproject.toml"


def missing(folder: Folder, tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks whose pictures are not in a folder yet.

    Raises:
        Trouble: one that is there was made otherwise.
    """
    waiting = []
    for task in tasks:
        if folder.has(task.key):
            folder.check(task.key, task.made_with())
        else:
            waiting.append(task)
    return waiting


def paint(
    folder: Folder, tasks: Sequence[Task], servers: Mapping[ComfyClient, Versions], say: Callable[[str], None]
) -> int:
    """Paint what is missing and return how many pictures that were.

    Raises:
        Trouble: no server is left; what was painted is kept, and the same call goes on from there.
    """
    waiting = missing(folder, tasks)
    there = len(tasks) - len(waiting)
    if there:
        say(f"{there} of {len(tasks)} pictures are there already.")
    events = share(waiting, list(servers), painted_by, lambda server: server.cancel())
    bar = tqdm(total=len(tasks), initial=there, desc="painting", unit="picture", smoothing=0.1)
    with contextlib.closing(events), bar as progress:
        for event in events:
            if isinstance(event, Left):
                progress.write(f"Left out, its work goes to the others: {event.reason}")
                continue
            picture, seconds = event.result
            made = event.task.made_with() | {
                "server": event.worker.address,
                "versions": asdict(servers[event.worker]) | {"pack": pack_version()},
                "seconds": round(seconds, 2),
            }
            folder.add(event.task.key, picture, made)
            progress.update()
    return len(waiting)


def painted_by(server: ComfyClient, task: Task) -> tuple[bytes, float]:
    """Return a task's picture as a PNG file's bytes, and the seconds that it took.

    Raises:
        RuntimeError: the server did not paint it; says why.
    """
    started = time.monotonic()
    try:
        outputs = server.run(task.graph()).outputs
    except (PromptRejected, ExecutionFailed) as error:
        raise RuntimeError(f"{server.address}: {error}") from None
    try:
        image = outputs[PICTURE]["images"][0]
        data = server.view({key: image[key] for key in ("filename", "subfolder", "type")})
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            size = picture.size
    except (KeyError, IndexError, OSError) as error:
        raise RuntimeError(
            f"{server.address} painted {task.key}, but gave no picture of it ({error!r})."
        ) from None
    if size != (task.sampling.size,) * 2:
        raise RuntimeError(f"{server.address} painted {task.key} at {size} instead of {task.sampling.size}.")
    return data, time.monotonic() - started


def pack_version() -> str:
    """Return this pack's version, which stands in pyproject.toml."""
    lines = PACK.read_text(encoding="utf-8").splitlines()
    return next((line.split('"')[1] for line in lines if line.startswith("version")), "unknown")
