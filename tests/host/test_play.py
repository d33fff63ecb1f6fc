"""`run.py ui`: a real ComfyUI that opens on the small model's workflow, and what is left of it afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from deig_pack.tests.host.test_server import end_soon

from small_model.place import SMALL

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

# A browser that writes down where it was sent.
BROWSER = """#!{python}
import pathlib, sys
pathlib.Path({note!r}).write_text(sys.argv[1])
"""
# Starts what it is given and waits, as a terminal's shell does; it may be killed without a chance to clean up.
STARTER = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"


def start(host: Path, folder: Path, *launcher: str) -> subprocess.Popen:
    browser, temporary = folder / "browser", folder / "tmp"
    browser.write_text(BROWSER.format(python=sys.executable, note=str(folder / "opened")))
    browser.chmod(0o755)
    temporary.mkdir()
    return subprocess.Popen(
        [*launcher, sys.executable, "-m", "demo.play", "--host", str(host)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"BROWSER": str(browser), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
    )


def wait_for_address(process: subprocess.Popen) -> str:
    for line in process.stdout:
        if line.strip().startswith("http://"):
            return line.strip()
    raise AssertionError(f"it ended with {process.wait()} and named no address")


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{urlsplit(address).netloc}{path}", timeout=60) as reply:
        return reply.read()


def listening(process: psutil.Process) -> set[str]:
    """The addresses on which a process takes connections."""
    return {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}


def test_it_opens_on_the_workflow_and_leaves_nothing(comfy_host, tmp_path):
    process = start(comfy_host.path, tmp_path)
    try:
        address = wait_for_address(process)
        started = psutil.Process(process.pid).children(recursive=True)
        (server,) = [child for child in started if "main.py" in child.cmdline()]
        assert listening(server) == {"127.0.0.1"}

        asked = {key: value for key, (value,) in parse_qs(urlsplit(address).query).items()}
        assert asked["template"] in json.loads(get(address, "/workflow_templates"))[asked["source"]]
        template = json.loads(
            get(address, f"/api/workflow_templates/{asked['source']}/{asked['template']}.json")
        )
        assert "DEIG_RegionEditor" in [node["type"] for node in template["nodes"]]
        assert any(path.endswith("/opener.js") for path in json.loads(get(address, "/extensions")))
        for folder, name in (("checkpoints", SMALL.checkpoint), ("deig", SMALL.adapter)):
            assert json.loads(get(address, f"/models/{folder}")) == [name]

        deadline = time.monotonic() + 60
        while not (tmp_path / "opened").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (tmp_path / "opened").read_text() == address

        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "ComfyUI has ended" in said
    assert end_soon([child.pid for child in started])
    assert not list((tmp_path / "tmp").iterdir())


def test_it_ends_with_whoever_started_it(comfy_host, tmp_path):
    starter = start(comfy_host.path, tmp_path, sys.executable, "-c", STARTER)
    try:
        wait_for_address(starter)
        started = psutil.Process(starter.pid).children(recursive=True)
        assert len(started) >= 2
    finally:
        starter.kill()
    assert end_soon([child.pid for child in started], seconds=60)
    assert not list((tmp_path / "tmp").iterdir())
