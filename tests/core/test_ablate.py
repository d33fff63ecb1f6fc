"""The ablation of the small model: its variants differ in what makes the tokens, and can be gone on with."""

import json
from dataclasses import asdict, replace

import torch

from bench.quality.ablate import VARIANTS, ablate, jobs, recipe_of
from bench.quality.run import jobs_of
from small_model.device import CPU
from small_model.model import Extraction
from small_model.place import WEIGHTS
from small_model.scenes import FIRST_SCENE


def test_variants_are_trained_alike_but_for_the_tokens():
    plain = [replace(recipe_of(one, 100), extraction=Extraction()) for one in VARIANTS.values()]
    assert len(set(plain)) == 1 and plain[0].new_ide
    assert sorted(one.tokens for one in VARIANTS.values() if one.ide) == [4, 8, 16, 32]
    assert len({(one.tokens, one.ide) for one in VARIANTS.values()}) == len(VARIANTS)


def test_judged_layouts_are_seen_nowhere_else():
    ours = {job.seed for job in jobs(1000)}
    assert max(ours) < FIRST_SCENE
    assert not ours & {job.seed for job in jobs_of(1000, 1000, 1000)}


def test_variants_are_trained_judged_and_gone_on_with(tmp_path):
    some = {name: VARIANTS[name] for name in ("16 tokens", "no IDE, mean of the words")}
    found = ablate(tmp_path, WEIGHTS, samples=64, layouts=2, device=CPU, variants=some)
    assert set(found) == set(some) and all(figures.layouts == 2 for figures in found.values())
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert record == {"samples": 64, "figures": {name: asdict(figures) for name, figures in found.items()}}
    table = (tmp_path / "ablation.md").read_text()
    assert all(f"| {name} " in table for name in some)
    states = sorted(tmp_path.glob("*/state.pt"))
    assert len(states) == len(some)
    kept = [torch.load(state, weights_only=True)["step"] for state in states]
    assert kept == [2] * len(some)
    assert ablate(tmp_path, WEIGHTS, samples=64, layouts=2, device=CPU, variants=some) == found
