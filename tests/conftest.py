"""Loads the pack once, under the name `deig_pack`, with the repository root off sys.path.

The host has a module `nodes` of its own, so this pack's `nodes` may only be reached through the package.
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def load_pack():
    spec = importlib.util.spec_from_file_location(
        "deig_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["deig_pack"] = module
    spec.loader.exec_module(module)


sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
if "deig_pack" not in sys.modules:
    load_pack()
