"""The authors' own scripts, run from a copy of their repository that `DEIG_PATH` names.

Their functions are taken out of the scripts and run with stand-ins for what needs a graphics card or large models: the
detector, the answers, the masks. What is counted and how is theirs.
"""

import ast
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

PLACE = Path(os.environ.get("DEIG_PATH") or ".deig-path-not-set") / "eval"
SCRIPTS = {"deig-bench": PLACE / "eval_deigbench.py", "mig-bench": PLACE / "eval_migbench.py"}
FILES = {"deig-bench": PLACE / "deig_bench_coco.json", "mig-bench": PLACE / "mig_bench_coco.json"}

needs_reference = pytest.mark.skipif(
    not all(path.is_file() for path in (*SCRIPTS.values(), *FILES.values())),
    reason="DEIG_PATH names no copy of the authors' repository",
)
WANTED = (
    *("need_clip_score", "need_sucess_ratio", "need_local_clip", "need_miou_score"),
    *("need_instance_sucess_ratio", "need_attribute_stats"),
)


def functions(kind: str, names: tuple[str, ...], **stand_ins: Any) -> SimpleNamespace:
    """Return functions of a script, with what they call in place of what the script imports."""
    tree = ast.parse(SCRIPTS[kind].read_text(encoding="utf-8"))
    wanted = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name in names]
    assert {part.name for part in wanted} == set(names)
    names_there = {"np": np, "torch": torch, "json": json, "os": os, **stand_ins}
    exec(compile(ast.Module(wanted, []), str(SCRIPTS[kind]), "exec"), names_there)
    return SimpleNamespace(**{name: names_there[name] for name in names})


def strings(kind: str) -> list[str]:
    """Return every text that stands in a script."""
    tree = ast.parse(SCRIPTS[kind].read_text(encoding="utf-8"))
    return [
        part.value
        for part in ast.walk(tree)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


def evaluated(kind: str, folder: Path, names: list[str], check, clip_score, monkeypatch) -> dict[str, Any]:
    """Run the script's `run_evaluation` and return what it writes.

    Args:
        folder: an empty one; the pictures' files are made there, empty.
        names: of the pictures.
        check, clip_score: stand in for `check_on_image` and `calc_clip_score`.
    """
    for name in names:
        (folder / f"{name}.jpg").touch()
    monkeypatch.chdir(folder.parent)
    blank = np.zeros((512, 512, 3), dtype=np.uint8)
    stand_ins = {
        "cv2": SimpleNamespace(imread=lambda path: blank),
        "tqdm": lambda values, desc: values,
        "load_eval_models": lambda **_: None,
        "check_on_image": check,
        "calc_clip_score": clip_score,
        "print": lambda *words: None,
    }
    told = dict.fromkeys(WANTED, True) | {"need_local_clip": False}
    args = SimpleNamespace(**told, miou_threshold=0.5, metric_name="test", folder=".")
    context = json.loads(FILES[kind].read_bytes())
    run = functions(kind, ("run_evaluation",), **stand_ins).run_evaluation
    run(str(folder), context.get("results", context), args)
    return json.loads((folder.parent / "metric_test.json").read_text())
