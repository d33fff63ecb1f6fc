"""Node texts in other languages: every node, input and output has its words, and nothing else has."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from deig_pack.nodes import DeigExtension

LOCALES = Path(__file__).resolve().parents[2] / "locales"
LANGUAGES = sorted(folder.name for folder in LOCALES.iterdir())
SCHEMAS = {
    node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in asyncio.run(DeigExtension().get_node_list())
}
# What is written the same in every language: coordinates, names.
WITHOUT_WORDS = re.compile(r"[xy]|CLIP|ScaleU")
HAN = re.compile(r"[\u4e00-\u9fff]")


def read(language: str, name: str) -> dict:
    return json.loads((LOCALES / language / f"{name}.json").read_text(encoding="utf-8"))


def texts(value) -> list[str]:
    return [value] if isinstance(value, str) else [text for part in value.values() for text in texts(part)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_the_schemas_is_there_and_no_other(language):
    translated = read(language, "nodeDefs")
    assert translated.keys() == SCHEMAS.keys()
    for node_id, schema in SCHEMAS.items():
        node = translated[node_id]
        assert node.keys() == {"display_name", "description", "inputs", "outputs"}
        assert node["inputs"].keys() == {field.id for field in schema.inputs}, node_id
        assert node["outputs"].keys() == {str(number) for number in range(len(schema.outputs))}, node_id
        for field in (*node["inputs"].values(), *node["outputs"].values()):
            assert field.keys() == {"name", "tooltip"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_type_of_our_own_has_a_name(language):
    own = {
        part
        for schema in SCHEMAS.values()
        for field in (*schema.inputs, *schema.outputs)
        for part in field.get_io_type().split(",")
        if part.startswith("DEIG_")
    }
    main = read(language, "main")
    assert main["dataTypes"].keys() == own
    assert main["nodeCategories"].keys() == {schema.category for schema in SCHEMAS.values()}


def test_chinese_is_chinese():
    for name in ("nodeDefs", "main"):
        for text in texts(read("zh", name)):
            assert HAN.search(text) or WITHOUT_WORDS.fullmatch(text), text


def test_the_server_hands_them_out(comfy_server):
    handed = comfy_server.get("/i18n")["zh"]
    assert handed["nodeDefs"] == read("zh", "nodeDefs")
    assert handed["dataTypes"] == read("zh", "main")["dataTypes"]
