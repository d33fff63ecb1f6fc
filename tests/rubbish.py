"""What may lie in a folder of models without being a model: files cut, empty, of other kinds, or no files at all."""

import json
import os
import struct
from pathlib import Path

CONFIGS = {
    "a_number": {"architectures": 5},
    "a_text": {"architectures": "T5EncoderModel"},
    "numbers": {"architectures": [1, None, ["T5EncoderModel"]]},
    "a_dict": {"model_type": {"t5": 1}},
    "a_list": {"model_type": ["t5"]},
    "no_weights": {"model_type": "t5"},
}
TEXTS = {
    "cut": b'{"model_type": "t5", "archi',
    "list": b"[1, 2]",
    "number": b"1",
    "deep": b"[" * 200_000,
    "latin": '{"model_type": "t\xe95"}'.encode("latin-1"),
    "zeros": bytes(500),
    "empty": b"",
    "digits": b'{"model_type": ' + b"9" * 5000 + b"}",
    "infinite": b'{"model_type": Infinity}',
}


def header(entries: object) -> bytes:
    """A safetensors file with that header and 16 bytes of numbers."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16)


FIRST = "encoder.block.0.layer.0.SelfAttention.q.weight"
FILES = {
    "empty": b"",
    "short": b"\x08\0\0",
    "cut": struct.pack("<Q", 1000) + b'{"a": {',
    "huge": struct.pack("<Q", 2**63) + b"{}",
    "text": b"hello",
    "web_page": b"<!DOCTYPE html><html>404</html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "list": header([1, 2, 3]),
    "null": header({FIRST: None}),
    "beyond": header({FIRST: {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}}),
    "negative": header({FIRST: {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}}),
    "no_shape": header({FIRST: {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]}}),
    "deep": struct.pack("<Q", 200_001) + b"{" + b'{"a":' * 40_000,
    "pickle": b"\x80\x02cposix\nsystem\n(S'false'\ntR.",
    "archive": b"PK\x03\x04" + bytes(100),
}


def fill_with_rubbish(folder: Path) -> list[str]:
    """Put rubbish of every kind into a folder; returns the names of those that should be warned about."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in CONFIGS.items():
        (folder / f"config_{name}").mkdir()
        (folder / f"config_{name}" / "config.json").write_text(json.dumps(config))
    for name, text in TEXTS.items():
        (folder / f"text_{name}").mkdir()
        (folder / f"text_{name}" / "config.json").write_bytes(text)
    for name, content in FILES.items():
        (folder / f"{name}.safetensors").write_bytes(content)
        (folder / f"{name}.pth").write_bytes(content)
    (folder / "a_folder.safetensors").mkdir()
    (folder / "config_folder" / "config.json").mkdir(parents=True)
    if os.name != "nt":
        _links_and_pipes(folder)
    warned = [f"text_{name}" for name in TEXTS if name not in ("infinite",)]
    return warned + [f"{name}.safetensors" for name in FILES]


def _links_and_pipes(folder: Path):
    (folder / "nowhere.safetensors").symlink_to(folder / "gone")
    (folder / "itself.safetensors").symlink_to(folder / "itself.safetensors")
    # To its own folder, so that whoever follows it without end finds it again below.
    (folder / "back").mkdir()
    (folder / "back" / "again").symlink_to(folder / "back", target_is_directory=True)
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "piped").mkdir()
    os.mkfifo(folder / "piped" / "config.json")
    (folder / os.fsdecode(b"bytes_\xff.safetensors")).write_bytes(b"rubbish")
    home = folder / "models--some--model" / "snapshots"
    home.mkdir(parents=True)
    (home / "gone").symlink_to(folder / "gone", target_is_directory=True)
