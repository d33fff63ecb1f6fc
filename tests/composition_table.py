"""Write the README's table of what DEIG composes with from the results of the tests in host/composition.

    COMFYUI_PATH=... python -m pytest tests/host/composition --junitxml=report.xml    (once for each host)
    python tests/composition_table.py README.md report.xml [report.xml ...]

The table goes between the lines `<!-- composition -->` and `<!-- /composition -->`. Each report says which
ComfyUI it is of. A row holds in a host when every test of it ran and passed there.
"""

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

BEGIN, END = "<!-- composition -->", "<!-- /composition -->"
ALSO = "test_with_instance_diffusion"  # the module with the tests of InstanceDiffusion
VERDICTS = {True: "yes", False: "**no**", None: "not run"}

Outcomes = dict[str, bool | None]  # `test_file::test_name[parameters]`: passed, failed, or skipped


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        combined_with: what DEIG is in one graph with.
        holds: what the tests assert.
        tests: patterns of `test_file::test_name[parameters]`, every one of which must find a test.
        also: the same for InstanceDiffusion, patterns of tests in test_with_instance_diffusion; none where the row
            makes no sense for it.
    """

    combined_with: str
    holds: str
    tests: tuple[str, ...]
    also: tuple[str, ...] = ()


ROWS = (
    Row(
        "LoRA, for the model and for CLIP",
        "The same picture as with the LoRA's weights merged by hand.",
        ("test_weights::test_lora_on_*",),
        ("test_lora_on_*",),
    ),
    Row(
        "LoRA hooks with keyframes",
        "The same picture as two samplers in a row, without and with the merged weights.",
        ("test_weights::test_lora_hooks_*", "test_weights::test_a_hook_on_*"),
        ("test_lora_hooks_*", "test_a_hook_on_*"),
    ),
    Row(
        "ControlNet, T2I-Adapter",
        "The control network reads CLIP's text, runs no fusers, and adds exactly what it computed.",
        ("test_control::test_controlnet_*", "test_control::test_t2i_*"),
        ("test_controlnet_*", "test_t2i_*"),
    ),
    Row(
        "IP-Adapter's kind of patch (replaces cross-attention)",
        "Both effects are there.",
        ("test_control::test_ip_adapters_*",),
        ("test_ip_adapters_*",),
    ),
    Row(
        "A picture in one region, by DEIG Regions To Masks and such a patch",
        "Both effects are there, and an empty mask is the model without the picture.",
        ("test_regional::*",),
        ("test_a_masked_picture_*", "test_each_region_has_*", "test_an_empty_mask_*"),
    ),
    Row(
        "Set Area, Set Area with Percentage, Set Mask, Combine, Concat, Average, Set Timestep Range",
        "Boxes land where they were drawn, also on a crop; negatives have no instances.",
        ("test_areas::*",),
        (
            "test_a_crop_sees_*",
            "test_a_mask_keeps_*",
            "test_an_area_and_*",
            "test_*_conditionings_*",
            "test_timestep_ranges_*",
            "test_the_negative_made_for_*",
        ),
    ),
    Row(
        "Batches, cfg 1, too little memory for one call",
        "The same picture as alone, with the negative computed, and in one call, to 1e-4.",
        ("test_batches::*",),
        ("test_a_batch_*", "test_cfg_1_*", "test_positive_and_negative_*"),
    ),
    Row(
        "DualCFGGuider, PerpNegGuider, Perp-Neg",
        "Positives have the instances and negatives have none; both effects are there. (Perp-Neg, which the host "
        "has deprecated, computes its empty conditioning without DEIG.)",
        ("test_model_patches::test_guiders_*", "test_model_patches::test_the_old_perp_neg_node"),
        ("test_guiders_*", "test_the_old_perp_neg_node"),
    ),
    Row(
        "SAG, PAG",
        "The perturbed call has the instances of its own conditioning; both effects are there.",
        (
            "test_model_patches::test_both_effects_are_there[[]SAG]",
            "test_model_patches::test_both_effects_are_there[[]PAG]",
            "test_model_patches::test_sag_*",
            "test_model_patches::test_pag_*",
        ),
        ("test_both_effects_are_there[[][SP]AG]", "test_sag_*", "test_pag_*"),
    ),
    Row(
        "FreeU V2, HyperTile, ToMe, RescaleCFG",
        "Both effects are there, in whichever order the nodes stand.",
        (
            "test_model_patches::test_freeu_*",
            "test_model_patches::test_both_effects_are_there[[]HyperTile]",
            "test_model_patches::test_both_effects_are_there[[]ToMe]",
            "test_model_patches::test_both_effects_are_there[[]RescaleCFG]",
        ),
        (
            "test_freeu_*",
            "test_both_effects_are_there[[]HyperTile]",
            "test_both_effects_are_there[[]ToMe]",
            "test_both_effects_are_there[[]RescaleCFG]",
        ),
    ),
    Row(
        "Kohya Deep Shrink (PatchModelAddDownscale)",
        "Places follow the shrunken grid; both effects are there.",
        (
            "test_model_patches::test_both_effects_are_there[[]deep shrink]",
            "test_model_patches::test_deep_shrink_*",
        ),
        ("test_both_effects_are_there[[]deep shrink]", "test_deep_shrink_*"),
    ),
    Row(
        "ModelSamplingDiscrete: v-prediction, LCM",
        "Tokens are those of the timestep that the model is given; both effects are there.",
        (
            "test_model_patches::test_both_effects_are_there[[]v-prediction]",
            "test_model_patches::test_both_effects_are_there[[]LCM]",
            "test_model_patches::test_model_sampling_*",
        ),
        ("test_both_effects_are_there[[]v-prediction]", "test_both_effects_are_there[[]LCM]"),
    ),
    Row(
        "GLIGEN",
        "A warning, and the fusers of both run.",
        ("test_control::test_gligen_*", "test_control::test_without_gligen_*"),
        ("test_gligen_*", "test_without_gligen_*"),
    ),
    Row(
        "Hires fix; 384x768, 1024x512, 520x776",
        "The same regions in the right places; at the three large sizes places alone are checked.",
        ("test_sizes::*",),
        ("test_small_pictures_*", "test_hires_*"),
    ),
    Row(
        "img2img, Set Latent Noise Mask, Differential Diffusion, an inpaint model of 9 channels",
        "Regions bind inside the mask, and nothing outside it changes.",
        ("test_inpainting::*",),
        (
            "test_img2img",
            "test_inpainting_*",
            "test_differential_*",
            "test_a_region_binds_*",
            "test_an_inpaint_model_*",
        ),
    ),
    Row(
        "torch.compile (tried with the eager backend)",
        "The same picture as uncompiled, also where DEIG or a region begins in mid-sampling.",
        ("test_runs::test_torch_compile*",),
        ("test_torch_compile*",),
    ),
    Row(
        "Model merging, Save Model",
        "The merged model keeps DEIG; the saved file is the plain model.",
        ("test_weights::test_a_merged_model_*", "test_weights::test_the_saved_model_*"),
        ("test_a_merged_model_*", "test_the_saved_model_*"),
    ),
    Row(
        "Two branches from one loaded model",
        "The branch without DEIG is untouched, also after freeing and reloading.",
        ("test_runs::test_two_branches_*", "test_runs::test_a_clone_*"),
        ("test_two_branches_*", "test_a_clone_*"),
    ),
    Row(
        "Interruption in mid-sampling",
        "The next run gives the same picture as if nothing had happened.",
        ("test_runs::test_interrupted_*",),
        ("test_interrupted_*",),
    ),
    Row(
        "Every sampler with every scheduler, denoise below 1",
        "Finite, with tokens of exactly the timesteps that the sampler asks for.",
        ("test_samplers::*",),
        ("test_samplers_and_*",),
    ),
)


def read_report(path: Path) -> tuple[str, Outcomes]:
    """Read a JUnit report of pytest's: the version of ComfyUI, and every test's outcome."""
    root = ElementTree.parse(path).getroot()
    versions = {found.get("value") for found in root.iter("property") if found.get("name") == "comfyui"}
    if len(versions) != 1:
        raise ValueError(
            f"'{path}' does not say which ComfyUI it is of. Make it with COMFYUI_PATH set and "
            "`python -m pytest tests/host/composition --junitxml=FILE`."
        )
    outcomes = {}
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').rsplit('.', 1)[-1]}::{case.get('name')}"
        failed = case.find("failure") is not None or case.find("error") is not None
        outcomes[name] = None if case.find("skipped") is not None else not failed
    return versions.pop(), outcomes


def verdict(patterns: Sequence[str], outcomes: Outcomes) -> bool | None:
    """Tell whether all tests of these patterns passed; None where one did not run."""
    found = []
    for pattern in patterns:
        matching = [outcome for name, outcome in outcomes.items() if fnmatchcase(name, pattern)]
        found += matching or [None]
    if False in found:
        return False
    return None if None in found else True


def table(results: Mapping[str, Outcomes]) -> str:
    """Draw the table in Markdown, with a column for each ComfyUI, the oldest first."""
    versions = sorted(results, key=lambda version: [int(part) for part in version.split(".")])
    heads = ["DEIG together with", "What the tests assert", *(f"ComfyUI {version}" for version in versions)]
    heads.append("InstanceDiffusion too")
    lines = [heads, ["---"] * len(heads)]
    for row in ROWS:
        verdicts = [VERDICTS[verdict(row.tests, results[version])] for version in versions]
        lines.append([row.combined_with, row.holds, *verdicts, also(row, results)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def also(row: Row, results: Mapping[str, Outcomes]) -> str:
    """Say whether a row holds with InstanceDiffusion in all hosts; nothing where it makes no sense."""
    if not row.also:
        return ""
    patterns = [f"{ALSO}::{pattern}" for pattern in row.also]
    found = [verdict(patterns, outcomes) for outcomes in results.values()]
    return VERDICTS[False if False in found else None if None in found else True]


def put_between_markers(text: str, content: str) -> str:
    """Replace what stands between the two markers.

    Raises:
        ValueError: if the markers are not both there, once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"The file needs the lines '{BEGIN}' and '{END}' once each, in this order.")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def main(arguments: Sequence[str]):
    readme, *reports = map(Path, arguments)
    results: dict[str, Outcomes] = {}
    for report in reports:
        version, outcomes = read_report(report)
        results.setdefault(version, {}).update(outcomes)
    text = readme.read_text(encoding="utf-8")
    readme.write_text(put_between_markers(text, table(results)), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
