"""ComfyUI servers to paint with: those that the user names, or one started here; and what they have."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deig_core.regions.layouts import Layout
from demo.client import ComfyClient
from demo.server import ComfyServer, install_pack
from small_model.place import SMALL, Models, place_weights

from .graph import DEIG_WAYS, GROUNDED, graph_of
from .plan import Painter, painters_of
from .protocol import Sampling
from .trouble import Trouble

# Which input of which node lists the files of a kind.
LISTS = {
    "checkpoint": ("CheckpointLoaderSimple", "ckpt_name"),
    "adapter": ("DEIG_LoadAdapter", "adapter_name"),
    "text encoder": ("DEIG_LoadTextEncoder", "encoder_name"),
}
# What a list of ours says where it is empty (nodes/loaders.py).
NOTHING_FOUND = ("no adapter found", "no text encoder found")


@dataclass(frozen=True)
class Versions:
    """What a server says of itself."""

    comfyui: str
    torch: str
    device: str


def versions_of(client: ComfyClient) -> Versions:
    """Ask a server what it is.

    Raises:
        OSError: it does not answer.
    """
    stats = client.get("/system_stats")
    devices = ", ".join(device.get("name", "") for device in stats.get("devices", []))
    system = stats["system"]
    return Versions(
        system.get("comfyui_version", "unknown"), system.get("pytorch_version", "unknown"), devices
    )


def node_on(client: ComfyClient, node: str) -> dict[str, Any]:
    """Return what a server says of a node.

    Raises:
        Trouble: it has none of that name.
    """
    info = client.get(f"/object_info/{node}")
    if node not in info:
        raise Trouble(
            f"{client.address} has no node {node}. Install this pack, as it is here, in that ComfyUI, and restart it."
        )
    return info[node]


def files_on(client: ComfyClient, kind: str) -> list[str]:
    """Return the files of a kind, one of `LISTS`, that a server has.

    Raises:
        Trouble: it has no node for them: this pack is missing there.
    """
    node, name = LISTS[kind]
    spec = node_on(client, node)["input"]["required"][name]
    # Newer nodes say "COMBO", and the files among its options.
    files = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    return [file for file in files if not file.startswith(NOTHING_FOUND)]


@dataclass(frozen=True)
class Wanted:
    """What the user asks to paint with; nothing where there is only one choice.

    Args:
        ways: of `graph.WAYS`.
        checkpoints, adapters, text_encoder: names as the servers list them.
    """

    ways: tuple[str, ...]
    checkpoints: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    text_encoder: str = ""


def choose_painters(client: ComfyClient, wanted: Wanted) -> list[Painter]:
    """Return the painters, with a kind of file that is not named taken where a server has just one.

    Raises:
        Trouble: it has none, or several.
    """
    needs = {"checkpoint": True}
    needs["adapter"] = any(way in GROUNDED for way in wanted.ways)
    needs["text encoder"] = any(way in DEIG_WAYS for way in wanted.ways)
    named = {
        "checkpoint": list(wanted.checkpoints),
        "adapter": list(wanted.adapters),
        "text encoder": [wanted.text_encoder] if wanted.text_encoder else [],
    }
    for kind, is_needed in needs.items():
        if is_needed and not named[kind]:
            named[kind] = [_only_one(client, kind)]
    encoder = (named["text encoder"] or [""])[0]
    return painters_of(wanted.ways, named["checkpoint"], named["adapter"], encoder)


def _only_one(client: ComfyClient, kind: str) -> str:
    files = files_on(client, kind)
    if len(files) == 1:
        return files[0]
    option = "--" + kind.replace(" ", "-")
    raise Trouble(f"Which {kind}? {client.address} has {len(files)}: {_some(files)}. Name one with {option}.")


def _some(files: Sequence[str]) -> str:
    return ", ".join([*files[:12], *(["..."] if len(files) > 12 else [])]) or "none"


def lacking(client: ComfyClient, painters: Sequence[Painter], sampling: Sampling) -> str:
    """Say which files a server lacks to paint, in a sentence for each; "" where it lacks nothing.

    Raises:
        Trouble: it lacks a node.
    """
    graphs = [graph_of(painter.way, painter.files, sampling, Layout(()), 0) for painter in painters]
    for name in dict.fromkeys(node["class_type"] for graph in graphs for node in graph.values()):
        node_on(client, name)
    said = []
    for kind in LISTS:
        named = {getattr(painter, kind.replace(" ", "_")) for painter in painters} - {""}
        if not named:
            continue
        files = files_on(client, kind)
        for name in sorted(named - set(files)):
            said.append(f"{client.address} has no {kind} {name!r}. It has {_some(files)}.")
    return " ".join(said)


def usable(
    clients: Sequence[ComfyClient], wanted: Wanted, sampling: Sampling, say: Callable[[str], None]
) -> tuple[dict[ComfyClient, Versions], list[Painter]]:
    """Return the servers that can paint, with their versions, and the painters; say which are left out and why.

    Raises:
        Trouble: none can.
    """
    found: dict[ComfyClient, Versions] = {}
    painters: list[Painter] = []
    reasons = []
    for client in clients:
        try:
            versions = versions_of(client)
            painters = painters or choose_painters(client, wanted)
            if words := lacking(client, painters, sampling):
                raise Trouble(words)
            found[client] = versions
        except Trouble as trouble:
            reasons.append(str(trouble))
        except (OSError, ValueError, KeyError) as error:
            reasons.append(
                f"No ComfyUI answers at {client.address} ({error or type(error).__name__}). Is it running, and "
                "reachable from here?"
            )
    if not found:
        raise Trouble("\n".join(["There is no server to paint with.", *reasons]))
    for reason in reasons:
        say(f"Left out: {reason}")
    return found, painters


def clients_of(addresses: Sequence[str]) -> list[ComfyClient]:
    """Return a client for each address, each once."""
    return [ComfyClient(address) for address in dict.fromkeys(address.rstrip("/") for address in addresses)]


@contextlib.contextmanager
def own_server(host: Path, models: Path | None, cpu: bool) -> Iterator[ComfyClient]:
    """Start a ComfyUI with this pack on a port of 127.0.0.1; it ends with the block.

    Args:
        host: ComfyUI's folder.
        models: a folder like ComfyUI's `models`, to read from; None: the small model alone.
        cpu: paint on the CPU even where there is an accelerator.
    """
    with tempfile.TemporaryDirectory(prefix="deig-papers-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        install_pack(base)
        more: tuple[str, ...] = ()
        if models is None:
            place_weights(base / "models")
        else:
            more = ("--extra-model-paths-config", str(_write_model_paths(base, models)))
        on_cpu = cpu or not torch.accelerator.is_available()
        with ComfyServer(host, base, extra_args=more, cpu=on_cpu) as server:
            yield server


def _write_model_paths(base: Path, models: Path) -> Path:
    """Write the file that tells ComfyUI of a folder of models: every folder in it by its own name."""
    if not models.is_dir():
        raise Trouble(f"There is no folder of models {models}. Name one with --models.")
    folders = {folder.name: folder.name for folder in sorted(models.iterdir()) if folder.is_dir()}
    path = base / "model_paths.yaml"
    # JSON is YAML.
    path.write_text(json.dumps({"papers": {"base_path": str(models.resolve()), **folders}}), encoding="utf-8")
    return path


def small_model(ways: Sequence[str]) -> Wanted:
    """What to paint shapes with: the small model, which has no CLIP."""
    if unfit := [way for way in ways if way not in DEIG_WAYS]:
        raise Trouble(f"The small model paints by {' or '.join(DEIG_WAYS)}, not by {', '.join(unfit)}.")
    names: Models = SMALL
    return Wanted(tuple(ways), (names.checkpoint,), (names.adapter,), names.text_encoder)
