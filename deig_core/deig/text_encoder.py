"""The text encoder: Flan-T5's encoder, loaded without running anything from its files, and its memory.

The paper encodes each phrase by itself, padded and cut to 128 tokens, and the IDE reads the features at the
padding positions too: the released weights were trained that way, so they are kept as T5 gives them.
"""

import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from ..files.encoder_files import (
    EncoderFiles,
    EncoderWeights,
    explain_missing,
    find_encoders,
    is_t5,
    open_weights,
    read_config,
)
from ..files.windows import cut, shown

__all__ = ["EncoderFiles", "TextEncoder", "explain_missing", "find_encoders", "load_encoder", "pick_dtype"]

log = logging.getLogger(__name__)

TOKENS = 128
# The largest T5 has 24 layers. A name can claim any number, and each is built.
_MOST_LAYERS = 100
# Phrases in one pass: at Flan-T5-XL's size 8 take about 100 MB of activations in half precision.
_BATCH = 8

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WHAT_TO_GET = "Choose the encoder that the adapter was trained with, Flan-T5-XL for the released one."

# What loaders of quantised weights put beside or instead of the plain ones.
_SCALED = re.compile(
    r"(^|[._])(scaled_fp8|scale_weight|weight_scale\w*|scale_input|input_scale|comfy_quant|absmax|quant_state"
    r"|quant_map|qweight|qzeros|SCB)($|\.)"
)
_PILE_T5 = re.compile(r"pile[-_ ]?t5", re.IGNORECASE)


class Tokenizer(Protocol):
    def __len__(self) -> int:
        """One more than the largest token number."""

    def __call__(self, phrases: list[str]) -> list[list[int]]: ...


class PhraseReader(nn.Module):
    """transformers' T5 encoder as a plain module.

    The host sets `device` on the modules it manages; transformers' own classes have a property of that name,
    which cannot be set. And it counts memory by the state dict, in which T5EncoderModel has its embedding
    twice, so only the stack within it is held here.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            tokens: (N, S) token numbers.
            mask: (N, S), 1 for tokens of the phrase and its end, 0 for padding.

        Returns:
            (N, S, width), also at the padding.
        """
        return self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state


class TextEncoder:
    """A text encoder that remembers what it read.

    Args:
        name: its identity: features of encoders with different names do not mix.
        model: takes tokens and mask, gives features; the host may move it between devices.
        tokenizer: gives each phrase's token numbers, the last of them T5's end.
        width: of the features.
        capacity: how many phrases to remember; the longest unused go first. A phrase of Flan-T5-XL takes
            0.5 MiB in half precision, so 256 of them are 128 MiB.
    """

    def __init__(self, name: str, model: nn.Module, tokenizer: Tokenizer, width: int, capacity: int = 256):
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.width = width
        self.capacity = capacity
        self.encoded_phrases = 0  # phrases that the model really read
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def encode(
        self,
        phrases: Sequence[str],
        load: Callable[[], torch.device] | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> torch.Tensor:
        """Read phrases, each by itself, or remember them.

        Args:
            phrases: N phrases; an empty one is read as just its end.
            load: brings the model where it is to run and says where that is; called only if a phrase is new.
                Without it the model runs where it is.
            progress: told how many of the new phrases are read, and of how many.

        Returns:
            (N, 128, width), on the CPU, in the type that the model computes in.

        Raises:
            ValueError: for a phrase with half of a character in it.
        """
        for phrase in phrases:
            _check_text(phrase)
        found = {phrase: self._kept[phrase] for phrase in phrases if phrase in self._kept}
        for phrase in found:
            self._kept.move_to_end(phrase)
        missing = list(dict.fromkeys(phrase for phrase in phrases if phrase not in found))
        if missing:
            device = load() if load else next(self.model.parameters()).device
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                # Cloned, so that one row kept does not keep its whole batch.
                read = dict(zip(batch, (row.clone() for row in self._read(batch, device)), strict=True))
                found |= read
                self._keep(read)
                progress(start + len(batch), len(missing))
        if not phrases:
            return torch.empty(0, TOKENS, self.width, dtype=next(self.model.parameters()).dtype)
        return torch.stack([found[phrase] for phrase in phrases])

    @torch.no_grad()
    def _read(self, phrases: list[str], device: torch.device) -> torch.Tensor:
        tokens = torch.zeros(len(phrases), TOKENS, dtype=torch.long)
        mask = torch.zeros(len(phrases), TOKENS, dtype=torch.long)
        for row, (phrase, read) in enumerate(zip(phrases, self.tokenizer(phrases), strict=True)):
            if len(read) > TOKENS:
                log.warning(
                    "The phrase beginning %r has %d tokens. DEIG reads %d of them; the rest is ignored.",
                    phrase[:40],
                    len(read),
                    TOKENS,
                )
                read = read[: TOKENS - 1] + read[-1:]
            tokens[row, : len(read)] = torch.tensor(read)
            mask[row, : len(read)] = 1
        return self.model(tokens.to(device), mask.to(device)).cpu()

    def _keep(self, features: dict[str, torch.Tensor]):
        self.encoded_phrases += len(features)
        self._kept.update(features)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)


def _check_text(phrase: str):
    """Half of a character (a lone surrogate) is what is left of a symbol that was cut in two."""
    half = re.search("[\ud800-\udfff]", phrase)
    if half:
        raise ValueError(
            f"The phrase {ascii(phrase[:40])} has half of a character at place {half.start() + 1} "
            f"(U+{ord(half[0]):04X}), as is left of a symbol that was cut in two. Type that place again."
        )


def pick_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """The type to keep and run an encoder in.

    Args:
        name: fp32, fp16, bf16, or auto: float32 on the CPU, bf16 where the device computes in it, else fp16.
    """
    if name != "auto":
        return _DTYPES[name]
    device = torch.device(device)
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if _computes_bf16(device) else torch.float16


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        # torch's own is_bf16_supported says yes to older cards too, which only imitate it, slowly.
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device)[0] >= 8
    # Apple's has it from macOS 14 on only, DirectML not at all: fp16 is safe on both.
    return device.type in ("xpu", "npu", "mlu", "hpu")


def load_encoder(
    files: EncoderFiles, dtype: torch.dtype, tokenizer_folder: Path | None = None
) -> TextEncoder:
    """Load a T5 encoder from a folder or a single file, on the CPU.

    Args:
        files: from `find_encoders`.
        dtype: what the weights are cast to. In float16 the last layer of each feed-forward stays in float32:
            its outputs outgrow float16 in T5.
        tokenizer_folder: a folder with T5's tokenizer, for files that come without.

    Raises:
        ValueError: where it is no T5 v1.1-style encoder with T5's tokenizer, or not whole.
    """
    config = _checked_config(files)
    weights = open_weights(files)
    _check_plain(weights)
    sizes = _sizes(weights)
    tokenizer = _load_tokenizer(files.path, tokenizer_folder, rows=sizes["vocab_size"])
    model = PhraseReader(_load_t5(weights, sizes, config, dtype).encoder).eval().requires_grad_(False)
    return TextEncoder(str(files.path), model, tokenizer, sizes["d_model"])


def _checked_config(files: EncoderFiles) -> dict:
    """The folder's config.json, or an empty one for a single file."""
    if not os.path.exists(files.path):
        raise ValueError(f"There is no text encoder at {files.path}. Refresh the list and choose another.")
    config = read_config(files.path / "config.json") if files.path.is_dir() else {}
    named = [files.name, files.path.name, str(config.get("_name_or_path", ""))]
    if any(_PILE_T5.search(name) for name in named):
        raise ValueError(
            f"{files.path} is Pile-T5: it has the shapes of T5 but another tokenizer, and DEIG's adapter cannot "
            f"read its features. {_WHAT_TO_GET}"
        )
    if not config:
        return config
    if not is_t5(config):
        kind = config.get("model_type") or config.get("architectures")
        raise ValueError(f"{files.path} is a {shown(kind)} model, not a T5. {_WHAT_TO_GET}")
    activation = config.get("feed_forward_proj", "relu")
    if activation != "gated-gelu":
        raise ValueError(
            f"{files.path} has feed_forward_proj {shown(activation)}: the original T5. DEIG reads T5 v1.1, whose "
            f"feed_forward_proj is 'gated-gelu', as Flan-T5 has. {_WHAT_TO_GET}"
        )
    return config


def _check_plain(weights: EncoderWeights):
    names = [*weights.places, *weights.others]
    scale = next((name for name in names if _SCALED.search(name)), None)
    whole = next((name for name in weights.places if not weights.window(name).dtype.is_floating_point), None)
    if scale or whole:
        raise ValueError(
            f"{weights.path} is quantised ({shown(scale or whole)} says so), and its weights mean nothing without "
            "their scales. Take the same encoder in bf16, fp16, fp32, or plain fp8."
        )


def _sizes(weights: EncoderWeights) -> dict[str, int]:
    """The sizes in T5Config's words, from the tensors' shapes."""

    def shape(name: str, axes: int = 2) -> tuple[int, ...]:
        if name not in weights.places:
            raise ValueError(
                f"{weights.path} lacks {name!r}, which a T5 v1.1-style encoder has. {_WHAT_TO_GET}"
            )
        found = weights.window(name).shape
        if len(found) != axes or not all(found):
            raise ValueError(
                f"{weights.path}: {name!r} has the shape {cut(found)}, and {axes} sides above 0 were expected. This is "
                f"no T5 v1.1-style encoder. {_WHAT_TO_GET}"
            )
        return found

    attention, feed_forward = (
        "encoder.block.0.layer.0.SelfAttention",
        "encoder.block.0.layer.1.DenseReluDense",
    )
    if f"{feed_forward}.wi.weight" in weights.places:
        raise ValueError(
            f"{weights.path} is an original T5 (one wi layer, relu). DEIG reads T5 v1.1, which has wi_0 and wi_1, "
            f"as Flan-T5 has. {_WHAT_TO_GET}"
        )
    vocabulary, width = shape("shared.weight")
    buckets, heads = shape(f"{attention}.relative_attention_bias.weight")
    inner, _ = shape(f"{attention}.q.weight")
    if inner % heads or buckets < 4:
        raise ValueError(
            f"{weights.path}: {attention}.relative_attention_bias.weight has {buckets} distances for {heads} heads, "
            f"and the heads share a width of {inner}. This is no T5 v1.1-style encoder. {_WHAT_TO_GET}"
        )
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner // heads,
        "d_ff": shape(f"{feed_forward}.wi_0.weight")[0],
        "num_layers": _layers(weights),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
    }


def _layers(weights: EncoderWeights) -> int:
    """How many layers there are; those that the names speak of have to be there from the first to the last."""
    found = {
        int(match[1]) for name in weights.places if (match := re.match(r"encoder\.block\.(\d+)\.", name))
    }
    absent = next((number for number in range(len(found)) if number not in found), None)
    if absent is not None or len(found) > _MOST_LAYERS:
        trouble = f"no layer {absent}" if absent is not None else f"more than {_MOST_LAYERS}"
        raise ValueError(
            f"{weights.path} has tensors of {len(found)} layers, the last of them {cut(max(found))}, and {trouble}. "
            f"This is no T5 v1.1-style encoder, or not a whole one. {_WHAT_TO_GET}"
        )
    return len(found)


def _numbers_of(config: dict, path: Path) -> dict[str, float]:
    """What no tensor tells: the distance from which positions look alike, and what norms add under their root."""
    checks = {
        "relative_attention_max_distance": lambda value: type(value) is int and 8 < value < 2**31,
        "layer_norm_epsilon": lambda value: type(value) is float and 0 < value < 1,
    }
    for key, fits in checks.items():
        if key in config and not fits(config[key]):
            raise ValueError(
                f"{path / 'config.json'} has {key} {shown(config[key])}, with which no T5 computes. {_WHAT_TO_GET}"
            )
    return {key: config[key] for key in checks if key in config}


def _load_t5(weights: EncoderWeights, sizes: dict[str, int], config: dict, dtype: torch.dtype) -> nn.Module:
    """transformers' encoder, built without memory and given the file's tensors one by one."""
    from transformers import T5Config, T5EncoderModel

    kept = _numbers_of(config, weights.path)
    with torch.device("meta"):
        t5 = T5EncoderModel(T5Config(**sizes, **kept, feed_forward_proj="gated-gelu", use_cache=False))
    # One module under two names, in every version of transformers.
    t5.encoder.set_input_embeddings(t5.shared)
    _check_complete(weights, t5)
    state = {}
    for name in weights.places:
        if name in t5.state_dict():
            keep_wide = dtype == torch.float16 and name.endswith(".wo.weight")
            file, key = weights.places[name]
            state[name] = file.read(key, torch.float32 if keep_wide else dtype)
    state["encoder.embed_tokens.weight"] = state["shared.weight"]
    t5.load_state_dict(state, assign=True)
    return t5


def _check_complete(weights: EncoderWeights, t5: nn.Module):
    shapes = {name: tuple(tensor.shape) for name, tensor in t5.state_dict().items()}
    del shapes["encoder.embed_tokens.weight"]
    missing = [name for name in shapes if name not in weights.places]
    if missing:
        raise ValueError(
            f"{weights.path} lacks {len(missing)} of the encoder's {len(shapes)} tensors: {', '.join(missing[:5])}"
            f"{' ...' if len(missing) > 5 else ''}. Download it again."
        )
    for name, shape in shapes.items():
        if weights.window(name).shape != shape:
            raise ValueError(
                f"{weights.path}: {name!r} has the shape {cut(weights.window(name).shape)}, but the other tensors make "
                f"it {shape}. This is no T5 v1.1-style encoder. {_WHAT_TO_GET}"
            )


class FastTokenizer:
    """T5's tokenizer as tokenizer.json has it.

    Read without transformers' class for T5, which from version 5 on takes the pieces alone and builds the rest
    itself: a folder's own way of treating capitals and spaces would be lost.
    """

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self.path = folder / "tokenizer.json"
        with _panic_is_an_error(self.path):
            self.tokenizer = Tokenizer.from_file(str(self.path))
        # A file may ask for either; padding and cutting to length happen where phrases are read.
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def __len__(self) -> int:
        return max(self.tokenizer.get_vocab().values(), default=-1) + 1

    def __call__(self, phrases: list[str]) -> list[list[int]]:
        with _panic_is_an_error(self.path):
            return [encoding.ids for encoding in self.tokenizer.encode_batch(phrases)]


@contextmanager
def _panic_is_an_error(path: Path) -> Iterator[None]:
    """tokenizers is written in Rust, whose panics are no Exception: one would end the host's only worker."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(
            f"{path} breaks the library that reads it ({shown(error, 200)}). Fetch it again."
        ) from error


class SentencePieceTokenizer:
    """T5's tokenizer from a spiece.model, which transformers reads only where protobuf is installed too."""

    def __init__(self, folder: Path):
        import sentencepiece

        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))

    def __len__(self) -> int:
        return self.pieces.get_piece_size()

    def __call__(self, phrases: list[str]) -> list[list[int]]:
        return [[*self.pieces.encode(phrase), self.pieces.eos_id()] for phrase in phrases]


def _load_tokenizer(path: Path, fallback: Path | None, rows: int) -> Tokenizer:
    """T5's tokenizer from the encoder's folder, or else from the fallback.

    Args:
        rows: how many tokens the encoder has an embedding for.
    """
    own = path.is_dir() and any((path / name).is_file() for name in ("tokenizer.json", "spiece.model"))
    folder = path if own else fallback
    if folder is None:
        raise ValueError(
            f"{path} has no tokenizer (tokenizer.json or spiece.model). Put Flan-T5's beside it."
        )
    _check_tokenizer_class(folder)
    has_json = (folder / "tokenizer.json").is_file()
    try:
        tokenizer = FastTokenizer(folder) if has_json else SentencePieceTokenizer(folder)
        (end,) = tokenizer([""])
    except Exception as error:
        # Both libraries raise errors of their own, of no common kind.
        name = "tokenizer.json" if has_json else "spiece.model"
        raise ValueError(
            f"{folder / name} cannot be read as a tokenizer ({shown(error, 200)}). Fetch it again."
        ) from error
    if not end or not all(0 <= token < rows for token in end):
        raise ValueError(
            f"The tokenizer in {folder} makes {cut(end)} of an empty phrase, where T5's makes the number of its end, "
            f"below {rows} in {path}. {_WHAT_TO_GET}"
        )
    # T5 rounds its table of 32100 tokens up to 32128; mT5's and UMT5's are seven times that.
    if len(tokenizer) > rows or (not own and rows > 2 * len(tokenizer)):
        raise ValueError(
            f"{path} has embeddings for {rows} tokens, but the tokenizer in {folder} has {len(tokenizer)}: they "
            f"do not belong together. {_WHAT_TO_GET}"
        )
    return tokenizer


def _check_tokenizer_class(folder: Path):
    settings = folder / "tokenizer_config.json"
    kind = read_config(settings).get("tokenizer_class") if settings.is_file() else None
    if isinstance(kind, str) and not kind.startswith(("T5", "PreTrainedTokenizer", "TokenizersBackend")):
        raise ValueError(
            f"{folder} has a {shown(kind)}, not T5's tokenizer; Pile-T5, for example, has T5's shapes and the "
            f"tokenizer of Llama. {_WHAT_TO_GET}"
        )
