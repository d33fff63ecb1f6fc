"""deig_core stands without ComfyUI."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import importlib, pkgutil, sys
import deig_core
for module in pkgutil.walk_packages(deig_core.__path__, "deig_core."):
    importlib.import_module(module.name)
host = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
print(sorted(name for name in sys.modules if name.split(".")[0] in host or name == "transformers"))
"""


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
