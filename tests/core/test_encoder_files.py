"""A text encoder's files at their limits: its configuration, the parts of its weights, what else is in them."""

import json

import pytest
import torch
from deig_pack.deig_core.files.encoder_files import (
    EncoderFiles,
    find_encoders,
    open_weights,
    read_config,
    weight_files,
)
from deig_pack.tests.unprivileged import unprivileged
from safetensors.torch import save_file

QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"
BIAS = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"


def test_a_configuration_of_eight_mebibytes_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b'{"model_type": "t5"}'.ljust(8 * 2**20))
    assert read_config(path) == {"model_type": "t5"}


@pytest.mark.parametrize(
    "content, words",
    [
        (b'{"a": ' + b"[" * 200_000, r"cannot be read as JSON \("),
        (b'{"a": ' * 200_000, r"cannot be read as JSON \("),
        ('{"a": "é"}'.encode("latin-1"), r"cannot be read as JSON \(.*utf-8"),
        (b"{", r"cannot be read as JSON \("),
        (b"[1, 2]", "should hold a JSON object, but holds a list"),
        (b"7", "should hold a JSON object, but holds a int"),
    ],
    ids=["deep_lists", "deep_objects", "latin", "cut", "list", "number"],
)
def test_a_configuration_that_is_none_is_named_and_said_in_few_words(tmp_path, content, words):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"config\.json {words}") as refused:
        read_config(path)
    assert len(str(refused.value)) < 400 + len(str(path))


def test_a_configuration_is_text_in_utf_8(tmp_path):
    (tmp_path / "config.json").write_bytes('{"a": "é"}'.encode())
    assert read_config(tmp_path / "config.json") == {"a": "é"}


def test_a_configuration_that_may_not_be_read_is_named():
    with unprivileged() as folder:
        (folder / "config.json").write_text("{}")
        (folder / "config.json").chmod(0)
        with pytest.raises(ValueError, match=r"config\.json cannot be read as JSON \(.*Permission denied"):
            read_config(folder / "config.json")


def weights(tmp_path, *names: str) -> EncoderFiles:
    save_file({name: torch.ones(1) for name in names}, tmp_path / "flan.safetensors")
    return EncoderFiles("flan", tmp_path / "flan.safetensors")


@pytest.mark.parametrize(
    "names, found",
    [
        ([QUERY, BIAS.format(0)], True),
        ([QUERY, BIAS.format(0), BIAS.format(1)], False),
        (["a." + QUERY, "a." + BIAS.format(1), "b." + QUERY], True),
        (["a." + QUERY, BIAS.format(1)], True),
        ([QUERY + ".scale"], False),
    ],
    ids=["t5", "umt5", "both", "of_another", "longer_name"],
)
def test_a_file_holds_a_t5_where_one_of_its_encoders_is_one(tmp_path, names, found):
    weights(tmp_path, *names)
    assert list(find_encoders([tmp_path])) == (["flan.safetensors"] if found else [])


def test_of_a_files_tensors_the_encoders_are_told_from_the_others(tmp_path):
    own = {QUERY: QUERY, "shared.weight": "shared.weight", "encoder.final_layer_norm.weight": None}
    others = [
        "decoder.embed_tokens.weight",
        "lm_head.weight",
        "shared.weight.scale",
        "encoders.x",
        "my.shared.weight",
    ]
    names = [f"t5.{name}" for name in (*own, *others)] + ["encoder.x", "t5shared.weight"]
    files = weights(tmp_path, *names)
    opened = open_weights(files)
    assert {name: key for name, (_, key) in opened.places.items()} == {name: f"t5.{name}" for name in own}
    assert set(opened.others) == set(names) - {f"t5.{name}" for name in own}
    assert opened.path == files.path and opened.window(QUERY).shape == (1,)


def test_the_table_of_words_may_have_both_its_names(tmp_path):
    opened = open_weights(weights(tmp_path, QUERY, "shared.weight", "encoder.embed_tokens.weight"))
    assert opened.places.keys() == {QUERY, "shared.weight"} and opened.others == ()


@pytest.mark.parametrize(
    "key, needed",
    [
        ("encoder.x", True),
        ("shared.weight", True),
        ("t5.encoder.x", True),
        ("t5.shared.weight", True),
        ("decoder.x", False),
        ("t5encoder.x", False),
        ("unshared.weight", False),
        ("lm_head.weight", False),
    ],
)
def test_of_an_index_only_the_encoders_parts_must_be_there(tmp_path, key, needed):
    (tmp_path / "here.safetensors").write_bytes(b"")
    table = {"encoder.y": "here.safetensors", key: "gone.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    if needed:
        with pytest.raises(
            ValueError, match=r"lacks gone\.safetensors, which model\.safetensors\.index\.json says"
        ):
            weight_files(tmp_path)
    else:
        assert weight_files(tmp_path) == [tmp_path / "here.safetensors"]


@pytest.mark.parametrize(
    "numbers, total, words", [((1, 2), 3, "2 of 3 parts"), ((1, 2, 3), 2, "3 of 2 parts"), ((1, 2), 2, None)]
)
def test_numbered_parts_are_all_there_or_counted(tmp_path, numbers, total, words):
    paths = [tmp_path / f"model-{number:05}-of-{total:05}.safetensors" for number in numbers]
    for path in (*paths, tmp_path / "model-1-of-9.safetensors"):
        path.write_bytes(b"")
    if words:
        with pytest.raises(ValueError, match=rf"has {words}.*model-00001-of-.*Download the others"):
            weight_files(tmp_path)
    else:
        assert weight_files(tmp_path) == paths
