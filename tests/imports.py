"""What a source file imports, read off its text."""

import ast
from collections.abc import Iterator
from pathlib import Path


def imported(file: Path, root: Path) -> Iterator[str]:
    """Yield what a file imports, as paths below `root` if it lies there: `deig_core/regions/region`."""
    package = file.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from ("/".join((*module, name.name)).removeprefix("deig_pack/") for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name.replace(".", "/").removeprefix("deig_pack/") for name in node.names)
