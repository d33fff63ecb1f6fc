"""Loads the pack once, under the name `deig_pack`, with the repository root off sys.path.

The host has a module `nodes` of its own, so this pack's `nodes` may only be reached through the package. What is
run from the repository root (`python -m small_model.train`) imports its own packages and `deig_core` by these names,
so they are there as well.
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def load_package(name: str, folder: Path):
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
if "deig_pack" not in sys.modules:
    load_package("deig_pack", ROOT)
    for name in ("deig_core", "small_model", "demo", "bench"):
        load_package(name, ROOT / name)
