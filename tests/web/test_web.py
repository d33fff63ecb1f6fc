"""The editor's modules without a browser: node's own test runner, and what Python and JavaScript must share."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from deig_pack.deig_core.regions.draw import DASHES, PALETTE
from deig_pack.deig_core.regions.layouts import Layout, read_layout, write_layout
from deig_pack.deig_core.regions.layouts.own import LAYOUT_KEYS, REGION_KEYS, VERSION
from deig_pack.deig_core.regions.region import Mask, Region

TESTS = Path(__file__).resolve().parent
WEB = TESTS.parents[1] / "web"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(
    NODE is None, reason="needs node 20 or later on the PATH (Debian: apt install nodejs)"
)


@needs_node
def test_modules_under_node():
    files = sorted(str(path) for path in TESTS.glob("*.test.js"))
    result = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", *files], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.search(r"^# pass (\d+)", result.stdout, re.MULTILINE)[1]) >= 18


def node(script: str, text: str) -> str:
    command = [NODE, "--input-type=module", "--eval", script]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=WEB).stdout


@needs_node
def test_both_sides_read_each_others_layouts():
    layout = Layout(
        (Region("a {red|blue} <b>cup</b>", (0.1, 0.25, 0.5, 1.0), 0.5, 0.25, 0.75),), 'say "hi"\n'
    )
    script = """import { parseLayout, writeLayout } from "./layout.js"; import { readFileSync } from "node:fs";
        process.stdout.write(writeLayout(parseLayout(readFileSync(0, "utf8"))));"""
    again = read_layout(node(script, write_layout(layout)), "deig")
    assert again == layout


@needs_node
def test_both_sides_have_the_same_colours():
    script = (
        """import { PALETTE, DASHES } from "./palette.js"; console.log(JSON.stringify([PALETTE, DASHES]));"""
    )
    palette, dashes = json.loads(node(script, ""))
    assert tuple(palette) == PALETTE
    assert tuple(tuple(dash) for dash in dashes) == DASHES


def test_the_schema_names_what_the_reader_takes():
    schema = json.loads((WEB.parent / "docs" / "layout.schema.json").read_text())
    region = schema["$defs"]["region"]
    assert set(schema["properties"]) == LAYOUT_KEYS
    assert set(region["properties"]) == REGION_KEYS
    assert schema["properties"]["version"]["const"] == VERSION
    places = {"mask": Mask(np.eye(2)), "scribble": ((0.5, 0.5),), "point": (0.5, 0.5), "radius": 0.1}
    whole = Region("a cup", (0.0, 0.0, 1.0, 1.0), **places)
    (written,) = json.loads(write_layout(Layout((whole,))))["regions"]
    assert set(written) == set(region["properties"])
    for key in region["required"]:
        without = {"regions": [{name: value for name, value in written.items() if name != key}]}
        with pytest.raises(ValueError, match=key):
            read_layout(json.dumps(without))
    defaults = {key: part["default"] for key, part in region["properties"].items() if "default" in part}
    bare = read_layout('{"regions": [{"phrase": "a cup", "box": [0, 0, 1, 1]}]}').regions[0]
    assert defaults == {key: getattr(bare, key) for key in ("strength", "start_percent", "end_percent")}


def test_nothing_typed_becomes_html_and_nothing_leaves_the_host():
    for path in WEB.glob("*.js"):
        source = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", source), (
            path.name
        )
        assert not re.search(r"https?://", source), path.name
