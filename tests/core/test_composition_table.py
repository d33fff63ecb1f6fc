"""The script that turns the composition tests' results into the README's table."""

import ast
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from deig_pack.tests.composition_table import ROWS, main, put_between_markers

COMPOSITION = Path(__file__).resolve().parent.parent / "host" / "composition"
PARAMETERS = {"test_both_effects_are_there": ("SAG", "PAG", "HyperTile", "ToMe", "deep shrink", "RescaleCFG")}


def written_tests():
    """Every test function in the folder, as a report names it."""
    for path in sorted(COMPOSITION.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for parameter in PARAMETERS.get(node.name, ("",)):
                    yield f"{path.stem}::{node.name}" + f"[{parameter}]" * bool(parameter)


def test_every_test_is_in_one_row_and_every_pattern_finds_one():
    tests = list(written_tests())
    patterns = [pattern for row in ROWS for pattern in row.tests]
    assert tests
    for test in tests:
        assert len([pattern for pattern in patterns if fnmatchcase(test, pattern)]) == 1, test
    tests += [f"test_model_patches::test_both_effects_are_there[{name}]" for name in ("v-prediction", "LCM")]
    for pattern in patterns:
        assert any(fnmatchcase(test, pattern) for test in tests), pattern


def test_every_test_of_instance_diffusion_is_in_one_row():
    """Those that it takes from other modules by their names, and its own."""
    path = COMPOSITION / "instance_diffusion" / "test_with_instance_diffusion.py"
    tests = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in getattr(node, "names", [])] or [getattr(node, "name", "")]
        for name in names:
            if name.startswith("test_"):
                tests += [name + f"[{own}]" * bool(own) for own in PARAMETERS.get(name, ("",))]
    patterns = [pattern for row in ROWS for pattern in row.also]
    assert tests
    for test in tests:
        assert len([pattern for pattern in patterns if fnmatchcase(test, pattern)]) == 1, test
    tests += [f"test_both_effects_are_there[{name}]" for name in ("v-prediction", "LCM")]
    for pattern in patterns:
        assert any(fnmatchcase(test, pattern) for test in tests), pattern


def write_report(path, version, outcomes):
    cases = "".join(
        f'<testcase classname="tests.host.composition.{module}" name="{name}">{inside}</testcase>'
        for (module, name), inside in outcomes.items()
    )
    path.write_text(
        f'<testsuites><testsuite><properties><property name="comfyui" value="{version}"/></properties>'
        f"{cases}</testsuite></testsuites>"
    )
    return str(path)


def test_the_table_says_what_passed_failed_and_did_not_run(tmp_path):
    areas, sizes = ("test_areas", "test_a_crop[x]"), ("test_sizes", "test_hires_fix")
    batches = ("test_batches", "test_cfg_1")
    other = ("instance_diffusion.test_with_instance_diffusion", "test_ip_adapters_kind_of_patch")
    old = write_report(
        tmp_path / "old.xml", "0.3.64", {areas: "", sizes: "<failure/>", batches: "<skipped/>", other: ""}
    )
    first = write_report(tmp_path / "first.xml", "0.33.0", {areas: "", other: ""})
    second = write_report(tmp_path / "second.xml", "0.33.0", {sizes: "", batches: ""})
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- composition -->\nold\n<!-- /composition -->\nafter\n")
    for _ in range(2):  # the second time over its own table
        main([str(readme), first, old, second])
        lines = readme.read_text().splitlines()
        assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
        assert lines[2].endswith("| ComfyUI 0.3.64 | ComfyUI 0.33.0 | InstanceDiffusion too |")
        assert len(lines) == len(ROWS) + 6
        cells = {line.split(" | ")[0]: line.removesuffix(" |").split(" | ")[2:] for line in lines[4:-2]}
        (area_cells,) = (cells[name] for name in cells if name.startswith("| Set Area"))
        assert area_cells == ["yes", "yes", "not run"]
        assert cells["| Hires fix; 384x768, 1024x512, 520x776"] == ["**no**", "yes", "not run"]
        (ip_adapter_cells,) = (cells[name] for name in cells if name.startswith("| IP-Adapter"))
        assert ip_adapter_cells == ["not run", "not run", "yes"]
        assert cells["| Batches, cfg 1, too little memory for one call"] == ["not run", "yes", "not run"]
        assert cells["| GLIGEN"] == ["not run", "not run", "not run"]


def test_markers_must_be_there(tmp_path):
    for text in ("", "<!-- composition -->", "<!-- /composition --><!-- composition -->"):
        with pytest.raises(ValueError, match="once each"):
            put_between_markers(text, "table")


def test_a_report_without_a_version_is_refused(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text("<testsuites><testsuite/></testsuites>")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- composition -->\n<!-- /composition -->")
    with pytest.raises(ValueError, match="which ComfyUI"):
        main([str(readme), str(report)])
