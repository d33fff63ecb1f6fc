"""A real ComfyUI in this process, for benchmarks and tests, and the pack as ComfyUI loads it: by path, under a name
of its own."""

import importlib
import importlib.util
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Lives as long as the process: the host keeps the paths below it.
_BASE = tempfile.TemporaryDirectory(prefix="deig-host-")


def open_host(path: Path, arguments: list[str]) -> Path:
    """Put a ComfyUI on sys.path, let it read these arguments, and load the pack as `deig_pack` if it is not.

    Both have a module `nodes`, so this repository leaves sys.path; its other packages are imported before that.

    Args:
        path: the folder with main.py.
        arguments: as main.py takes them, for example ["--cpu"].

    Returns:
        A temporary folder, which stands in for ComfyUI's models, input and output folders; that of a host which
        this process has opened before, since a host reads its command line once.
    """
    for name in ("deig_core", "small_model", "demo"):
        importlib.import_module(name)
    sys.path[:] = [str(path)] + [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    import comfy.options

    argv = sys.argv
    sys.argv = ["main.py", "--base-directory", _BASE.name, *arguments]
    try:
        comfy.options.enable_args_parsing()
        import comfy.cli_args  # parses sys.argv when imported
    finally:
        sys.argv = argv

    if "deig_pack" not in sys.modules:
        _load_pack()
    return Path(comfy.cli_args.args.base_directory)


def _load_pack():
    spec = importlib.util.spec_from_file_location(
        "deig_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["deig_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["deig_pack"])
