"""What the registry's archive holds: all that an artist's ComfyUI reads, and nothing that only a clone can use."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None,
    reason="needs git and a clone of the repository",
)


def tracked(*options: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-c", *options], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split("\0")) - {""}


@pytest.fixture(scope="module")
def left_out() -> set[str]:
    """The files that .comfyignore names, by git's own reading of such a file."""
    return tracked("-i", "-X", ".comfyignore")


def test_the_small_model_is_left_out_with_its_workflow(left_out):
    assert {"workflows/deig_small_model.json", "workflows/deig_small_model.jpg"} <= left_out
    assert "small_model/weights/checkpoint.safetensors" in left_out
    assert {name for name in left_out if name.startswith("workflows/")} == {
        "workflows/deig_small_model.json",
        "workflows/deig_small_model.jpg",
    }


def test_what_comfyui_reads_is_in_it(left_out):
    archive = tracked() - left_out
    for folder in ("deig_core", "nodes", "web", "workflows", "subgraphs"):
        assert [name for name in archive if name.startswith(f"{folder}/")], folder
        if folder != "workflows":
            assert not [name for name in left_out if name.startswith(f"{folder}/")]
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"} <= archive


def test_the_archive_imports_nothing_that_is_left_out(left_out, tmp_path):
    """The pack's own modules, copied as the archive has them, find each other without the rest of the clone."""
    for name in tracked() - left_out:
        if name.endswith(".py"):
            place = tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place)
    code = (
        "import importlib, pkgutil, deig_core\n"
        "for module in pkgutil.walk_packages(deig_core.__path__, 'deig_core.'):\n"
        "    importlib.import_module(module.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_requirements_ask_for_nothing():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines and all(line.startswith("#") for line in lines if line.strip())
