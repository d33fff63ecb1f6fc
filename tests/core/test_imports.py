"""deig_core stands without ComfyUI, and imports run one way."""

import subprocess
import sys
from pathlib import Path

import pytest
from deig_pack.tests.imports import imported

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import importlib, pkgutil, sys
import deig_core
for module in pkgutil.walk_packages(deig_core.__path__, "deig_core."):
    importlib.import_module(module.name)
host = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
print(sorted(name for name in sys.modules if name.split(".")[0] in host or name == "transformers"))
"""

# What each room may import beside itself; docs/ARCHITECTURE.md has the drawing.
MAY_IMPORT = {
    "deig_core/regions": set(),
    "deig_core/files": set(),
    "deig_core/fusion": {"deig_core/regions", "deig_core/files"},
    "deig_core/deig": {"deig_core/fusion", "deig_core/regions", "deig_core/files"},
    "deig_core/instance_diffusion": {"deig_core/fusion", "deig_core/regions", "deig_core/files"},
    "deig_core/eligen": {"deig_core/fusion", "deig_core/regions", "deig_core/files"},
    "nodes": {"deig_core"},
    "small_model": {"deig_core"},
    "demo": {"small_model", "nodes", "deig_core"},
    "bench": {"small_model", "nodes", "deig_core", "demo"},
}


def test_core_imports_neither_the_host_nor_transformers():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_entry_point_imports_nothing_of_the_host():
    """pytest runs the root __init__.py where there is no host."""
    import deig_pack

    assert callable(deig_pack.comfy_entrypoint)
    assert not hasattr(deig_pack, "NODE_CLASS_MAPPINGS")  # the host would ignore the entry point


def lies_in(path: str, room: str) -> bool:
    return path == room or path.startswith(f"{room}/")


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room):
    own = [name.name for name in ROOT.iterdir() if name.is_dir() and any(name.glob("*.py"))]
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {
        (str(file.relative_to(ROOT)), path)
        for file in files
        for path in imported(file, ROOT)
        if any(lies_in(path, name) for name in [*own, "tests"])
        and not any(lies_in(path, allowed) for allowed in {room, *MAY_IMPORT[room]})
    }
    assert not wrong
