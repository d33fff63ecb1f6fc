"""Finding text encoders: which folders and files hold a T5, and where its tensors lie."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .folders import walk_folder, warn_once
from .tensor_files import TensorFile, Window, open_tensors
from .windows import cut, shown, shown_list, unforeseen

# models--NAME/snapshots/HASH/text_encoder, the deepest of the layouts in use.
_DEPTH = 4

_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_FIRST_LAYER = "encoder.block.0.layer.0.SelfAttention.q.weight"
# In UMT5 every layer has a position bias of its own, in T5 only the first.
_UMT5_LAYER = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"

# The names that a folder from Hugging Face has, as far as anything here depends on them.
_NAME = (
    r"(?:tokenizer_config|special_tokens_map|added_tokens|generation_config|config|tokenizer)\.json"
    r"|spiece\.model"
    r"|(?:pytorch_)?model(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)(?:\.index\.json)?"
)
_PREFIXED = re.compile(rf"(?P<prefix>.+?[_\-. ])(?P<name>{_NAME})")
# Of a config.json or an index, which have a few kilobytes to a megabyte.
_LONGEST_JSON = 8 * 2**20
_ESSENTIAL = re.compile(r"config\.json|.*-of-\d{5}\..*|.*\.index\.json")


@dataclass(frozen=True)
class EncoderFiles:
    """A text encoder on disk.

    Args:
        name: what the user chooses it by: its place within the folder it was found in.
        path: a folder with a config.json and weights, or a single .safetensors file.
    """

    name: str
    path: Path


def find_encoders(folders: Sequence[Path]) -> dict[str, EncoderFiles]:
    """Find the T5 encoders in folders, some levels deep. Reads configurations and headers only.

    Args:
        folders: where to look; of two finds with one name, that in the earlier folder counts.

    Returns:
        name -> where it is. What cannot be read is logged and left out.
    """
    found: dict[str, EncoderFiles] = {}
    for folder in folders:
        try:
            for path in _encoders_in(Path(folder)):
                name = _shown_name(Path(folder), path)
                found.setdefault(name, EncoderFiles(name, path))
        except Exception as error:
            _leave_out(f"{folder} ({unforeseen(error)})")
    return found


def explain_missing(folders: Sequence[Path]) -> str:
    """Say why no text encoder was found: where it was looked for, and what to put or rename there."""
    looked = "\n".join(f"  {folder}" for folder in folders)
    lines = [f"No T5 text encoder was found. Looked in:\n{looked}"]
    for folder in folders:
        lines += _renamings(Path(folder))
    lines.append(
        "DEIG was trained with Flan-T5-XL. Put its folder (config.json, the weights, and tokenizer.json or "
        "spiece.model), or its encoder as one .safetensors file, into models/text_encoders."
    )
    return "\n".join(lines)


def is_t5(config: dict) -> bool:
    """Tell by a config.json whether the model is a T5. mT5 and UMT5 are other models."""
    kind = config.get("model_type")
    if kind is not None:
        return kind == "t5"
    kinds = config.get("architectures")
    return isinstance(kinds, list) and any(
        re.match(r"T5[A-Z]", name) for name in kinds if isinstance(name, str)
    )


def read_config(path: Path) -> dict:
    """A JSON file that holds an object.

    Raises:
        ValueError: if it is missing or holds anything else.
    """
    if not os.path.isfile(path):
        # What is no plain file may never end, or never begin.
        raise ValueError(f"{path} is not there, or no file.")
    if (size := os.path.getsize(path)) > _LONGEST_JSON:
        raise ValueError(
            f"{path} has {size} bytes, and at most {_LONGEST_JSON} are read: it is no description of a model."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({cut(error, 200)}).") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} should hold a JSON object, but holds a {type(config).__name__}.")
    return config


def _encoders_in(root: Path) -> Iterator[Path]:
    for path, folders, files in walk_folder(root, _leave_out):
        depth = len(path.relative_to(root).parts)
        folders[:] = _in_order(path, folders) if depth < _DEPTH else []
        is_encoder = "config.json" in files and _readable(_has_t5_config, path)
        if is_encoder:
            yield path
        if "config.json" not in files or path == root:
            own = weight_files(path) if is_encoder and _readable(weight_files, path) else []
            singles = (path / name for name in sorted(files) if _may_be_single(name))
            yield from (
                single for single in singles if single not in own and _readable(_has_t5_header, single)
            )


def _in_order(path: Path, folders: Iterable[str]) -> list[str]:
    """Folders by name; of the snapshots in a Hugging Face cache, the newest first, since they share a name."""
    kept = sorted(
        name for name in folders if not name.startswith(".") and _readable(_leads_onward, path / name)
    )
    if path.name == "snapshots":
        kept.sort(key=lambda name: _time_of(path / name), reverse=True)
    return kept


def _leads_onward(folder: Path) -> bool:
    """Tell whether a folder is none that lies in itself, by a link to one that it lies in."""
    here = Path(os.path.realpath(folder.parent))
    return not folder.is_symlink() or Path(os.path.realpath(folder)) not in (here, *here.parents)


def _time_of(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0  # it went meanwhile


def _may_be_single(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith(".") and not _SHARD.search(name)


def _has_t5_config(folder: Path) -> bool:
    return is_t5(read_config(folder / "config.json"))


def _has_t5_header(path: Path) -> bool:
    # The host asks for the list with every graph it checks; a header is read again only if its file changed.
    state = path.stat()
    found = _t5_header(path, state.st_mtime_ns, state.st_size)
    if isinstance(found, str):
        raise ValueError(found)
    return found


@lru_cache(maxsize=1024)
def _t5_header(path: Path, _modified: int, _size: int) -> bool | str:
    """Whether a file has a T5 encoder in it, or why it cannot be read: that is remembered too."""
    try:
        with open_tensors(path) as tensors:
            names = tensors.entries
    except ValueError as error:
        return str(error)
    prefixes = [name.removesuffix(_FIRST_LAYER) for name in names if name.endswith(_FIRST_LAYER)]
    return any(prefix + _UMT5_LAYER not in names for prefix in prefixes)


def _readable(test: Callable[[Path], object], path: Path) -> bool:
    try:
        return bool(test(path))
    except Exception as error:
        # Any error: the list is asked for while the pack loads, and whatever lies in a folder may be rubbish of a
        # kind that nobody thought of. It must cost that entry alone.
        own = isinstance(error, ValueError)
        _leave_out(str(error) if own else f"{path} ({unforeseen(error)})")
        return False


def _leave_out(words: str):
    warn_once(f"Left out of the list of text encoders: {words}")


def _shown_name(folder: Path, path: Path) -> str:
    parts = list(path.relative_to(folder).parts)
    if len(parts) > 2 and parts[1] == "snapshots":
        del parts[1:3]
    return "/".join(parts) or folder.name


def _renamings(folder: Path) -> list[str]:
    """For files that carry a download's folder before their names, say what each is to be called."""
    lines = []
    for here, folders, files in os.walk(folder):
        path = Path(here)
        folders[:] = sorted(folders) if len(path.relative_to(folder).parts) < _DEPTH else []
        groups: dict[str, list[str]] = {}
        for name in sorted(files):
            match = None if re.fullmatch(_NAME, name) else _PREFIXED.fullmatch(name)
            if match:
                groups.setdefault(match["prefix"], []).append(match["name"])
        for prefix, names in groups.items():
            if not any(_ESSENTIAL.fullmatch(name) for name in names):
                continue
            target = path / re.sub(r"[_\-. ]+$", "", prefix) if path == folder else path
            lines.append(f"In {path}, names carry the folder they were downloaded from. Rename them:")
            lines += [
                f"  {prefix}{name}  ->  {(target / name).relative_to(path).as_posix()}" for name in names
            ]
    return lines


# The weights


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder's tensors under transformers' names, wherever they lie.

    Args:
        path: what the user chose, for error texts.
        places: name (`shared.weight`, `encoder.block...`) -> the file, and the name there.
        others: what else the files have, under the files' own names.
    """

    path: Path
    places: dict[str, tuple[TensorFile, str]]
    others: tuple[str, ...]

    def window(self, name: str) -> Window:
        file, key = self.places[name]
        return file.window(key)


def open_weights(files: EncoderFiles) -> EncoderWeights:
    """Find an encoder's tensors without reading them; a decoder and a head are passed over.

    Raises:
        ValueError: where there are no weights, or some of the files are missing.
    """
    paths = weight_files(files.path) if files.path.is_dir() else [files.path]
    opened = [open_tensors(path) for path in paths]
    keys = [(file, key) for file in opened for key in file.entries]
    prefixes = {key.removesuffix(_FIRST_LAYER) for _, key in keys if key.endswith(_FIRST_LAYER)}
    if not prefixes:
        raise ValueError(
            f"{files.path} has no T5 encoder in it: no tensor is named {_FIRST_LAYER}. Choose the encoder that the "
            "adapter was trained with, Flan-T5-XL for the released one."
        )
    prefix = min(prefixes, key=len)
    places, others = {}, []
    for file, key in keys:
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and re.match(r"shared\.weight$|encoder\.", name):
            # The embedding has two names in T5; either stands for it.
            places.setdefault("shared.weight" if name == "encoder.embed_tokens.weight" else name, (file, key))
        else:
            others.append(key)
    return EncoderWeights(files.path, places, tuple(others))


def weight_files(folder: Path) -> list[Path]:
    """The files with the encoder's weights in a folder from Hugging Face, safetensors before .bin.

    Raises:
        ValueError: where there are none, some are missing, or it is not clear which to take.
    """
    for suffix, stem in ((".safetensors", "model"), (".bin", "pytorch_model")):
        whole = folder / f"{stem}{suffix}"
        if whole.is_file():
            return [whole]
        indices = sorted(folder.glob(f"*{suffix}.index.json"))
        if indices:
            return _indexed(indices[0])
        others = sorted(path for path in folder.glob(f"*{suffix}") if path.is_file())
        shards = [path for path in others if _SHARD.search(path.name)]
        if shards:
            return _all_shards(shards)
        if len(others) == 1:
            return others
        if others:
            raise ValueError(
                f"{folder} has several files of weights, and none is called {whole.name}: "
                f"{shown_list([path.name for path in others])}. Keep one of them there."
            )
    raise ValueError(
        f"{folder} has a config.json but no weights. Put the model's weights beside it: model.safetensors, its "
        "numbered parts with their index, or pytorch_model.bin."
    )


def _indexed(index: Path) -> list[Path]:
    """The parts that the encoder lies in, after the index; parts with nothing but the decoder may be absent."""
    table = read_config(index).get("weight_map")
    if not isinstance(table, dict):
        raise ValueError(f"{index} has no weight_map, so it does not say which part has which tensor.")
    own = {key: part for key, part in table.items() if re.search(r"(^|\.)(shared\.|encoder\.)", key)}
    for key, part in own.items():
        if not isinstance(part, str):
            raise ValueError(
                f"{index} says that the tensor {shown(key)} lies in {shown(part)}, which is no name of a file. "
                "Download it again."
            )
    # Only names: an index must not lead out of its folder.
    paths = [index.parent / Path(part).name for part in sorted(set(own.values()))]
    # Path.is_file raises where a name is too long.
    absent = [path.name for path in paths if not os.path.isfile(path)]
    if absent:
        raise ValueError(
            f"{index.parent} lacks {shown_list(absent)}, which {index.name} says the encoder lies in. Download the "
            "missing parts, and check that no name carries the folder's name before it."
        )
    return paths


def _all_shards(shards: list[Path]) -> list[Path]:
    total = int(re.search(r"-of-(\d{5})\.", shards[0].name)[1])
    if len(shards) != total:
        raise ValueError(
            f"{shards[0].parent} has {len(shards)} of {total} parts of the weights "
            f"({shown_list([path.name for path in shards])}). Download the others."
        )
    return shards
