"""The small text encoder: a T5 v1.1-style encoder and a SentencePiece vocabulary of its own.

Its relative positions are cut at a short distance. So every padding token far enough behind the words has
the very same features, and training computes one of them instead of a hundred (`Padded`); what comes out is
the same as with all 128.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sentencepiece
import torch
from tokenizers import Tokenizer, models, normalizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from .scenes import deal

LENGTH = 128  # tokens that a phrase is padded to, as the pack does it
VOCABULARY = 192
SPECIAL = ("<pad>", "</s>", "<unk>")
FAR = 12  # positions further apart than this look alike


class Padded(NamedTuple):
    """Text features of which the last position stands for all the padding that follows.

    Args:
        features: (P, S, width), S at most 128.
        times: how often the last position is there in the full 128.
        words: (P, S), bool, where there is a word and not padding; a phrase's end counts as one.
    """

    features: torch.Tensor
    times: int
    words: torch.Tensor


def config() -> T5Config:
    """The encoder's sizes: 0.3 M parameters."""
    return T5Config(
        vocab_size=VOCABULARY,
        d_model=96,
        d_kv=24,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=FAR,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
    )


def train_vocabulary(folder: Path, scenes: int = 3000):
    """Train the vocabulary on phrases and prompts and write a tokenizer folder as transformers has it."""
    lines = []
    for seed in range(scenes):
        scene = deal(seed)
        lines += [scene.prompt, *(shape.phrase for shape in scene.shapes)]
    with tempfile.TemporaryDirectory() as scratch:
        corpus, prefix = Path(scratch) / "corpus.txt", str(Path(scratch) / "spiece")
        corpus.write_text("\n".join(lines))
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus),
            model_prefix=prefix,
            model_type="bpe",
            vocab_size=VOCABULARY,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            pad_piece=SPECIAL[0],
            eos_piece=SPECIAL[1],
            unk_piece=SPECIAL[2],
            required_chars="abcdefghijklmnopqrstuvwxyz,.-",
            minloglevel=2,
        )
        pieces = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    write_tokenizer(folder, [pieces.id_to_piece(i) for i in range(len(pieces))])


def write_tokenizer(folder: Path, pieces: list[str]):
    """Write the pieces as tokenizer.json, so that every version of transformers reads it alike.

    Every piece has the same score, so a word is split into as few as can be: one, if it is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    settings = json.loads(tokenizer.to_str())
    # Written out, as old versions of tokenizers know it: theirs has other fields than today's.
    settings["decoder"] = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    words = [{"type": "WhitespaceSplit"}, settings["decoder"]]
    settings["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": words}
    _write_json(folder / "tokenizer.json", settings)
    names = dict(zip(("pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH}
    _write_json(folder / "tokenizer_config.json", kind | names)
    _write_json(folder / "special_tokens_map.json", names)


def _write_json(path: Path, settings: dict):
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_pieces(folder: Path) -> list[str]:
    """Return the pieces of a tokenizer folder, in the order of their numbers."""
    settings = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return [piece for piece, _ in settings["model"]["vocab"]]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read the tokenizer of a folder."""
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token=SPECIAL[0])


def encode(encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, phrases: Sequence[str]) -> Padded:
    """Encode phrases, computing no more of their padding than differs."""
    # The last token is the end, which a phrase that is cut keeps.
    ids = [[*row[:-1][: LENGTH - 1], row[-1]] for row in tokenizer(list(phrases))["input_ids"]]
    length = min(max(map(len, ids)) + FAR, LENGTH)
    tokens = torch.tensor([row + [0] * (length - len(row)) for row in ids], device=encoder.device)
    words = tokens != 0
    features = encoder(input_ids=tokens, attention_mask=words.long()).last_hidden_state
    return Padded(features, LENGTH - length + 1, words)


def encode_whole(
    encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, phrases: Sequence[str]
) -> torch.Tensor:
    """Encode phrases with all their padding: (P, 128, width), what the pack computes."""
    short = encode(encoder, tokenizer, phrases)
    rest = short.features[:, -1:].expand(-1, short.times - 1, -1)
    return torch.cat((short.features, rest), dim=1)


def new_encoder(seed: int) -> T5EncoderModel:
    """Return an untrained encoder."""
    torch.manual_seed(seed)
    return T5EncoderModel(config())
