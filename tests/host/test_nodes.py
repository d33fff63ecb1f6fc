"""The nodes as the host runs them, in this process."""

import asyncio
import dataclasses
import inspect
import json
import logging
from pathlib import Path

import comfy.model_management
import deig_pack
import folder_paths
import pytest
import torch
from comfy_api.latest import io
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.deig_core.regions.describe import INSTRUCTION
from deig_pack.nodes import DeigExtension, loaders
from deig_pack.nodes.grounding import ApplyToModel, EncodePrompt, EncodeRegions, RefineInstances
from deig_pack.nodes.layout import RegionEditor
from deig_pack.nodes.loaders import LoadAdapter, LoadTextEncoder
from deig_pack.nodes.regions import BoxRegion, MaskRegion
from deig_pack.tests import standins
from deig_pack.tests.host.test_patch import NEGATIVE, POSITIVE, DenseUNet, difference, sample, second_step
from safetensors.torch import save_file

ROOT = Path(deig_pack.__file__).parent
NODES = asyncio.run(DeigExtension().get_node_list())
IDS = {
    "DEIG_LoadAdapter", "DEIG_LoadTextEncoder", "DEIG_BoxRegion", "DEIG_MaskRegion", "DEIG_RegionEditor",
    "DEIG_RegionsFromText", "DEIG_RegionsToText", "DEIG_PreviewRegions", "DEIG_EncodeRegions", "DEIG_EncodePrompt",
    "DEIG_RefineInstances", "DEIG_ApplyToModel", "DEIG_MultiInstanceSampling",
    "DEIG_LoadEliGenLoRA", "DEIG_EliGen", "DEIG_RegionsFromBoxes", "DEIG_RegionsToBoxes", "DEIG_RegionsToMasks",
    "DEIG_DescribeRegions", "DEIG_PaperSampling", "DEIG_RecordAttention", "DEIG_AttentionMaps",
}  # fmt: skip


def schema_id(node):
    return node.GET_SCHEMA().node_id


def test_the_ids_that_shared_workflows_hold():
    assert {schema_id(node) for node in NODES} == IDS


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_every_node_says_what_it_does(node):
    schema = node.GET_SCHEMA()
    assert schema.category == "DEIG" and schema.description
    assert schema.display_name.startswith(("DEIG ", "EliGen "))
    for field in (*schema.inputs, *schema.outputs):
        assert field.tooltip, f"{schema.node_id}.{field.id} has no tooltip"
    assert (ROOT / "web" / "docs" / f"{schema.node_id}.md").stat().st_size > 200


# Inputs in their order, by which a saved workflow holds its widgets, those that may be left out with a question mark;
# then outputs in theirs, by which it is wired.
WIRED = {
    "DEIG_LoadAdapter": "adapter_name dtype -> DEIG_ADAPTER",
    "DEIG_LoadTextEncoder": "encoder_name dtype device -> DEIG_TEXT_ENCODER",
    "DEIG_BoxRegion": "phrase x y width height strength start_percent end_percent regions? -> DEIG_REGIONS",
    "DEIG_MaskRegion": "mask phrase strength start_percent end_percent regions? -> DEIG_REGIONS",
    "DEIG_RegionEditor": "layout width height background? incoming? regions? -> DEIG_REGIONS STRING INT INT",
    "DEIG_RegionsFromText": "text format width height index? edges? colours? -> DEIG_REGIONS STRING STRING",
    "DEIG_RegionsToText": "regions prompt width height format -> STRING",
    "DEIG_PreviewRegions": "regions width height image? -> IMAGE",
    "DEIG_RegionsFromBoxes": "bboxes phrases lines width height threshold limit order colours edges picture image? "
    "masks? regions? -> DEIG_REGIONS STRING INT INT",
    "DEIG_RegionsToBoxes": "regions width height choose -> BOUNDING_BOX",
    "DEIG_RegionsToMasks": "regions width height choose output overlap grow feather -> MASK",
    "DEIG_DescribeRegions": "image regions clip instruction margin max_length seed -> DEIG_REGIONS STRING",
    "DEIG_EncodeRegions": "text_encoder regions -> DEIG_INSTANCES",
    "DEIG_EncodePrompt": "text_encoder text conditioning? -> CONDITIONING",
    "DEIG_RefineInstances": "adapter instances overlap kinds? masked? -> DEIG_GROUNDING",
    "DEIG_ApplyToModel": "model grounding strength start_percent end_percent decay_percent scale_u? -> MODEL",
    "DEIG_MultiInstanceSampling": "model percent merge clip? -> MODEL",
    "DEIG_RecordAttention": "model blocks start_percent end_percent -> MODEL DEIG_ATTENTION",
    "DEIG_AttentionMaps": "recording samples choose show scale image? -> IMAGE MASK STRING IMAGE",
    "DEIG_PaperSampling": "model steps alpha_full alpha_decay noise_seed -> NOISE SAMPLER SIGMAS FLOAT FLOAT",
    "DEIG_LoadEliGenLoRA": "model lora_name strength_model -> MODEL",
    "DEIG_EliGen": "model clip positive regions negative? strength start_percent end_percent entities_on_negative "
    "lora_in_weights -> MODEL CONDITIONING CONDITIONING",
}


def test_the_inputs_and_outputs_that_shared_workflows_hold():
    found = {}
    for node in NODES:
        schema = node.GET_SCHEMA()
        inputs = [one.id + "?" * bool(one.optional) for one in schema.inputs]
        found[schema.node_id] = " ".join([*inputs, "->", *(one.get_io_type() for one in schema.outputs)])
    assert found == WIRED


# What a number begins with, the least and the most that it may be, the step of its widget and what it is rounded to.
PART, STRENGTH = (0.0, 1.0, 0.01, 0.0001), (0.0, 10.0, 0.05, 0.001)
LATENT_SIDE, SIDE = (16, 16384, 8, None), (1, 16384, None, None)
TIMING = {"start_percent": (0.0, *PART), "end_percent": (1.0, *PART)}
EIGHTS = {"width": (512, *LATENT_SIDE), "height": (512, *LATENT_SIDE)}
NUMBERS = {
    "DEIG_BoxRegion": {
        **{"x": (0.25, *PART), "y": (0.25, *PART), "width": (0.5, *PART), "height": (0.5, *PART)},
        **{"strength": (1.0, *STRENGTH), **TIMING},
    },
    "DEIG_MaskRegion": {"strength": (1.0, *STRENGTH), **TIMING},
    "DEIG_RegionEditor": EIGHTS,
    "DEIG_RegionsFromText": {**EIGHTS, "index": (-1, -1, 1_000_000, None, None)},
    "DEIG_RegionsToText": EIGHTS,
    "DEIG_PreviewRegions": EIGHTS,
    "DEIG_RegionsFromBoxes": {
        **{"width": (1024, *SIDE), "height": (1024, *SIDE), "threshold": (0.0, 0.0, 1.0, 0.01, None)},
        **{"limit": (0, 0, 1000, None, None), "picture": (0, 0, 4095, None, None)},
    },
    "DEIG_RegionsToBoxes": {"width": (1024, *SIDE), "height": (1024, *SIDE)},
    "DEIG_RegionsToMasks": {
        **{"width": (512, *SIDE), "height": (512, *SIDE)},
        **{"grow": (0, -1024, 1024, None, None), "feather": (0, 0, 1024, None, None)},
    },
    "DEIG_DescribeRegions": {
        **{"margin": (0.1, 0.0, 1.0, 0.01, None), "max_length": (192, 16, 1024, None, None)},
        **{"seed": (0, 0, 2**32 - 1, None, None)},
    },
    "DEIG_ApplyToModel": {
        **{"strength": (1.0, 0.0, 2.0, 0.05, 0.001), **TIMING, "decay_percent": (0.0, *PART)},
    },
    "DEIG_MultiInstanceSampling": {"percent": (0.36, 0.0, 0.6, 0.01, 0.0001)},
    "DEIG_RecordAttention": TIMING,
    "DEIG_PaperSampling": {
        **{"steps": (40, 2, 500, None, None), "noise_seed": (42, 0, 2**64 - 1, None, None)},
        **{"alpha_full": (1.0, *PART), "alpha_decay": (0.0, *PART)},
    },
    "DEIG_LoadEliGenLoRA": {"strength_model": (1.0, -10.0, 10.0, 0.05, 0.001)},
    "DEIG_EliGen": {"strength": (1.0, *STRENGTH), **TIMING},
}


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_what_numbers_begin_with_and_how_far_they_go(node):
    told = {
        one.id: (one.default, one.min, one.max, one.step, getattr(one, "round", None))
        for one in node.GET_SCHEMA().inputs
        if isinstance(one, (io.Int.Input, io.Float.Input))
    }
    assert told == NUMBERS.get(schema_id(node), {})


CHOSEN = {
    "DEIG_LoadAdapter": {"dtype": "auto"},
    "DEIG_LoadTextEncoder": {"dtype": "auto", "device": "default"},
    "DEIG_BoxRegion": {"phrase": ""},
    "DEIG_MaskRegion": {"phrase": ""},
    "DEIG_RegionsFromText": {"text": "", "format": "auto", "edges": "refuse", "colours": False},
    "DEIG_RegionsToText": {"prompt": "", "format": "deig"},
    "DEIG_RegionsFromBoxes": {
        **{"phrases": "labels", "lines": "", "order": "as given", "colours": False, "edges": "refuse"},
    },
    "DEIG_RegionsToBoxes": {"choose": ""},
    "DEIG_RegionsToMasks": {"choose": "", "output": "one for each", "overlap": "share"},
    "DEIG_DescribeRegions": {"instruction": INSTRUCTION},
    "DEIG_EncodePrompt": {"text": ""},
    "DEIG_RefineInstances": {"overlap": "share", "kinds": "mask", "masked": "off"},
    "DEIG_ApplyToModel": {"scale_u": True},
    "DEIG_MultiInstanceSampling": {"merge": "average"},
    "DEIG_RecordAttention": {"blocks": "all"},
    "DEIG_AttentionMaps": {"choose": "", "show": "instances", "scale": "each"},
    "DEIG_EliGen": {"entities_on_negative": False, "lora_in_weights": False},
}


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_what_is_chosen_at_first(node):
    widgets = (io.Combo.Input, io.String.Input, io.Boolean.Input)
    told = {
        one.id: one.default
        for one in node.GET_SCHEMA().inputs
        if isinstance(one, widgets) and one.default is not None
    }
    assert told == CHOSEN.get(schema_id(node), {})
    for one in node.GET_SCHEMA().inputs:
        if isinstance(one, io.Combo.Input) and one.default is not None:
            assert one.default in one.options


# What a saved workflow may hold as a choice, the first of each in the list at the top.
PRECISIONS = "auto, fp16, bf16, fp32"
OFFERED = {
    "DEIG_LoadAdapter": {"dtype": PRECISIONS},
    "DEIG_LoadTextEncoder": {"dtype": "auto, bf16, fp16, fp32", "device": "default, cpu"},
    "DEIG_RegionsFromText": {
        "format": "auto, deig, instancediffusion, coco, deig-bench, mig-bench, elements, canvas, qwen-pixels, "
        "qwen-1000, gemini, llm, lines",
        "edges": "refuse, clip",
    },
    "DEIG_RegionsToText": {"format": "deig, instancediffusion, coco, deig-bench, mig-bench"},
    "DEIG_RegionsFromBoxes": {
        **{"phrases": "labels, metadata, lines", "order": "as given, size, score, left to right"},
        **{"edges": "refuse, clip"},
    },
    "DEIG_RegionsToMasks": {"output": "one for each, union", "overlap": "share, front"},
    "DEIG_RefineInstances": {
        **{"overlap": "share, front", "kinds": "mask, box, point, scribble"},
        **{"masked": "off, as written, as meant"},
    },
    "DEIG_MultiInstanceSampling": {"merge": "average, place"},
    "DEIG_AttentionMaps": {"show": "instances, tokens", "scale": "each, together, as it is"},
}
FILES = {"adapter_name", "encoder_name", "lora_name"}


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_what_may_be_chosen(node):
    told = {
        one.id: ", ".join(one.options)
        for one in node.GET_SCHEMA().inputs
        if isinstance(one, io.Combo.Input) and one.id not in FILES
    }
    assert told == OFFERED.get(schema_id(node), {})


# What may be wired to an input that is no plain widget, wherever there is one of the name.
TAKEN = {
    **{"model": "MODEL", "clip": "CLIP", "image": "IMAGE", "background": "IMAGE", "samples": "LATENT"},
    **{"mask": "MASK", "masks": "MASK", "bboxes": "BOUNDING_BOX,ARRAY"},
    **{name: "CONDITIONING" for name in ("conditioning", "positive", "negative")},
    **{name: f"DEIG_{name.upper()}" for name in ("adapter", "regions", "instances", "grounding")},
    **{"recording": "DEIG_ATTENTION", "layout": "STRING"},
    "incoming": "STRING,DEIG_REGIONS,BOUNDING_BOX,ARRAY",
}
READERS = {"DEIG_EncodeRegions": "DEIG_TEXT_ENCODER,CLIP", "DEIG_EncodePrompt": "DEIG_TEXT_ENCODER"}


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_what_may_be_wired_to_an_input(node):
    widgets = (io.Combo.Input, io.String.Input, io.Boolean.Input, io.Int.Input, io.Float.Input)
    told = {one.id: one.get_io_type() for one in node.GET_SCHEMA().inputs if not isinstance(one, widgets)}
    expected = {name: READERS[schema_id(node)] if name == "text_encoder" else TAKEN[name] for name in told}
    assert told == expected


# By id what is told of a widget beside its range: a phrase may have lines, braces in JSON and instructions are no
# dynamic prompt, seeds are drawn anew after a run, and boxes come from a wire alone.
LINES = {"multiline": True}
AS_TYPED = {**LINES, "dynamicPrompts": False}
DRAWN_ANEW = {"control_after_generate": True}
FROM_WIRE = {"forceInput": True}
TOLD = {
    "DEIG_BoxRegion": {"phrase": LINES},
    "DEIG_MaskRegion": {"phrase": LINES},
    "DEIG_RegionEditor": {"layout": {"widgetType": "DEIG_REGIONS_EDITOR"}, "incoming": FROM_WIRE},
    "DEIG_RegionsFromText": {"text": AS_TYPED | {"placeholder": "a red car: 0.1 0.5 0.5 0.9"}},
    "DEIG_RegionsToText": {"prompt": LINES},
    "DEIG_RegionsFromBoxes": {"bboxes": FROM_WIRE, "lines": LINES},
    "DEIG_DescribeRegions": {"instruction": AS_TYPED, "seed": DRAWN_ANEW},
    "DEIG_EncodePrompt": {"text": LINES},
    "DEIG_PaperSampling": {"noise_seed": DRAWN_ANEW},
}
NAMES_OF_TOLD = {name for of_node in TOLD.values() for told in of_node.values() for name in told}


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_what_else_a_widget_is_told(node):
    told = {}
    for one in node.GET_SCHEMA().inputs:
        told[one.id] = {k: v for k, v in one.as_dict().items() if k in NAMES_OF_TOLD and v not in (None, "")}
        if told[one.id].get("multiline") is False:
            del told[one.id]["multiline"]  # as where nothing is said
    assert {name: of_input for name, of_input in told.items() if of_input} == TOLD.get(schema_id(node), {})


def test_the_editor_begins_with_a_layout_that_has_nothing():
    (layout,) = [one for one in RegionEditor.GET_SCHEMA().inputs if one.id == "layout"]
    assert json.loads(layout.as_dict()["default"]) == {"version": 1, "prompt": "", "regions": []}


# What outputs are called; a person wires by it.
OUTPUTS = {
    "DEIG_LoadAdapter": "adapter",
    "DEIG_LoadTextEncoder": "text_encoder",
    "DEIG_RegionEditor": "regions prompt width height",
    "DEIG_RegionsFromText": "regions prompt report",
    "DEIG_RegionsToText": "text",
    "DEIG_PreviewRegions": "image",
    "DEIG_RegionsFromBoxes": "regions report width height",
    "DEIG_RegionsToBoxes": "bboxes",
    "DEIG_RegionsToMasks": "masks",
    "DEIG_DescribeRegions": "regions report",
    "DEIG_EncodeRegions": "instances",
    "DEIG_EncodePrompt": "conditioning",
    "DEIG_RefineInstances": "grounding",
    "DEIG_RecordAttention": "model recording",
    "DEIG_AttentionMaps": "maps masks report leakage",
    "DEIG_PaperSampling": "noise sampler sigmas end_percent decay_percent",
    "DEIG_EliGen": "model positive negative",
    **dict.fromkeys(("DEIG_BoxRegion", "DEIG_MaskRegion"), "regions"),
    **dict.fromkeys(("DEIG_ApplyToModel", "DEIG_MultiInstanceSampling", "DEIG_LoadEliGenLoRA"), "model"),
}


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_what_nodes_and_outputs_are_called(node):
    """A node as the first line of its help page, which lies where the frontend is sent for it."""
    info = node.GET_NODE_INFO_V1()
    page = ROOT / deig_pack.WEB_DIRECTORY / "docs" / f"{schema_id(node)}.md"
    assert page.read_text(encoding="utf-8").splitlines()[0] == f"# {info['display_name']}"
    assert " ".join(info["output_name"]) == OUTPUTS[schema_id(node)]
    # A picture that the editor shows holds the workflow, as the host's own previews do.
    hidden = {"prompt", "extra_pnginfo"} if schema_id(node) == "DEIG_RegionEditor" else set()
    assert set(info["input"].get("hidden", {})) == hidden


@pytest.mark.parametrize("node", NODES, ids=schema_id)
def test_what_is_left_out_is_what_the_widget_begins_with(node):
    """As where a graph was saved before a widget was there."""
    own = inspect.signature(node.execute).parameters
    for one in node.GET_SCHEMA().inputs:
        if own[one.id].default is not inspect.Parameter.empty:
            empty = () if one.id == "regions" else None
            assert own[one.id].default == getattr(one, "default", empty)


# What people type who look for such nodes and do not know this pack's names.
SEARCHED = {"regional prompt", "area", "box", "layout", "gligen", "instance", "mask"}


def test_every_node_is_found_by_the_words_of_the_trade():
    """Aliases reach the frontend where the host has them, and are left out where it has not."""
    has_aliases = "search_aliases" in {field.name for field in dataclasses.fields(io.Schema)}
    told = {schema_id(node): node.GET_NODE_INFO_V1().get("search_aliases") for node in NODES}
    if not has_aliases:
        assert not any(told.values())
        return
    assert not [name for name, words in told.items() if not words or len(set(words)) < len(words)]
    assert {word.lower() for words in told.values() for word in words} >= SEARCHED


@pytest.fixture(scope="module")
def adapter(comfy_host, fast_adapter_state):
    path = comfy_host.base / "models" / "deig" / "small.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(fast_adapter_state, path)
    assert "small.safetensors" in folder_paths.get_filename_list("deig")
    return LoadAdapter.execute("small.safetensors", "auto")[0]


@pytest.fixture(scope="module")
def text_encoder(small_t5_folder):
    assert small_t5_folder.name in LoadTextEncoder.GET_SCHEMA().inputs[0].options
    return LoadTextEncoder.execute(small_t5_folder.name, "auto", "default")[0]


def boxes(*phrases, width=0.4):
    regions = ()
    for i, phrase in enumerate(phrases):
        (regions,) = BoxRegion.execute(
            phrase, 0.05 * (i % 10), 0.1, width, 0.5, 1.0, 0.0, 1.0, regions
        ).result
    return regions


def patched(model, adapter, text_encoder, regions, *settings):
    (instances,) = EncodeRegions.execute(text_encoder, regions).result
    (grounding,) = RefineInstances.execute(adapter, instances, "share").result
    return ApplyToModel.execute(model, grounding, *(settings or (1.0, 0.0, 1.0, 0.0)))[0]


def test_the_whole_chain_computes_what_its_files_say(
    fast_model, adapter, text_encoder, fast_adapter_state, small_t5_folder
):
    """From the phrases on by other means: transformers' own T5, torch's modules, every fuser dense."""
    from transformers import AutoTokenizer, T5EncoderModel

    phrases = ("a red mug", "a green lamp")
    regions = boxes(*phrases)
    call = second_step(patched(fast_model, adapter, text_encoder, regions), (16, 16))

    tokenizer = AutoTokenizer.from_pretrained(small_t5_folder)
    read = tokenizer(list(phrases), padding="max_length", max_length=128, return_tensors="pt")
    timestep = call["timesteps"][0].expand(len(phrases))
    with torch.no_grad():
        text = T5EncoderModel.from_pretrained(small_t5_folder).eval()(**read).last_hidden_state
        plain = load_adapter(fast_adapter_state)
        tokens = plain.IDE(text, timestep)
        objs = plain.position_net(tokens, torch.tensor([region.box for region in regions]))
    dense = DenseUNet(fast_model.model.diffusion_model, fast_adapter_state)
    instances = {0: (objs, [region.box for region in regions], [1.0, 1.0]), 1: (objs[:0], [], [])}
    for row, entry in enumerate(call["entries"]):
        given = call["x"][row], call["timesteps"][row], call["context"][row]
        assert difference(call["out"][row], dense(*given, instances[entry])) <= 1e-4
    # It would tell: phrases the wrong way round lie outside.
    row = call["entries"].index(0)
    given = call["x"][row], call["timesteps"][row], call["context"][row]
    assert difference(call["out"][row], dense(*given, (objs.flip(0), *instances[0][1:]))) > 1e-3


def test_progress_counts_the_phrases(text_encoder, progress):
    EncodeRegions.execute(text_encoder, boxes(*(f"thing of progress {i}" for i in range(20))))
    assert progress[-1] == (20, 20)


def test_the_precision_is_chosen_for_the_device_that_reads(small_t5_folder, monkeypatch):
    """auto, with a graphics card that the phrases are kept away from; a card of Intel's, which every torch knows."""
    card = torch.device("xpu")
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: card)
    monkeypatch.setattr(comfy.model_management, "text_encoder_device", lambda: card)
    for device, precision in (("cpu", torch.float32), ("default", torch.bfloat16)):
        loaded = LoadTextEncoder.execute(small_t5_folder.name, "auto", device)[0]
        assert {weight.dtype for weight in loaded.encoder.model.parameters()} == {precision}
        assert loaded.patcher.load_device == (torch.device("cpu") if device == "cpu" else card)


@pytest.mark.parametrize(
    "asked, card, precision",
    [
        ("fp32", {"fp16", "bf16"}, torch.float32),
        ("fp16", {"bf16"}, torch.float16),
        ("bf16", {"fp16"}, torch.bfloat16),
        ("auto", {"fp16", "bf16"}, torch.float16),
        ("auto", {"bf16"}, torch.bfloat16),
        ("auto", set(), torch.float32),
    ],
)
def test_an_adapter_is_kept_in_the_precision_asked_for_or_the_cards(
    adapter, monkeypatch, asked, card, precision
):
    for name in ("fp16", "bf16"):
        monkeypatch.setattr(
            comfy.model_management, f"should_use_{name}", lambda *_, can=name in card, **__: can
        )
    loaded = LoadAdapter.execute("small.safetensors", asked)[0]
    assert {weight.dtype for weight in loaded.refiner.adapter.parameters()} == {precision}


def test_an_adapter_that_is_kept_small_works_in_a_model_of_float32(adapter):
    """What comes in is computed with as it is, by weights that are brought to it."""
    small = LoadAdapter.execute("small.safetensors", "fp16")[0]
    text = torch.randn(1, 128, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, rounded = (one.refiner.adapter.IDE(text, torch.full((1,), 500.0)) for one in (adapter, small))
    assert rounded.dtype == torch.float32 and 0 < difference(rounded, whole) < 0.02


def test_where_loaded_models_wait_and_work(small_t5_folder, adapter, monkeypatch):
    """An encoder on the CPU stays there; all else goes where the host wants it."""
    card, store = torch.device("xpu"), torch.device("meta")
    host = comfy.model_management
    for name in ("get_torch_device", "text_encoder_device"):
        monkeypatch.setattr(host, name, lambda: card)
    for name in ("unet_offload_device", "text_encoder_offload_device"):
        monkeypatch.setattr(host, name, lambda: store)
    loaded = LoadAdapter.execute("small.safetensors", "fp32")[0].patcher
    assert (loaded.load_device, loaded.offload_device) == (card, store)
    for device, places in (("cpu", (torch.device("cpu"),) * 2), ("default", (card, store))):
        loaded = LoadTextEncoder.execute(small_t5_folder.name, "fp32", device)[0].patcher
        assert (loaded.load_device, loaded.offload_device) == places


def test_only_new_phrases_are_encoded(adapter, text_encoder, fast_model):
    encoder, refiner = text_encoder.encoder, adapter.refiner
    ten = [f"thing number {i}" for i in range(10)]
    sample(patched(fast_model, adapter, text_encoder, boxes(*ten)))
    encoded, evaluated = encoder.encoded_phrases, refiner.evaluated

    sample(patched(fast_model, adapter, text_encoder, boxes(*ten, width=0.3)), seed=1)  # moved boxes
    assert (encoder.encoded_phrases, refiner.evaluated) == (encoded, evaluated)

    sample(patched(fast_model, adapter, text_encoder, boxes(*ten[:9], "another thing")))
    assert (encoder.encoded_phrases, refiner.evaluated) == (encoded + 1, evaluated + 2)  # two steps


def test_a_t5_prompt_stands_alone_or_on_clip(adapter, text_encoder, fast_model):
    model = patched(fast_model, adapter, text_encoder, boxes("a red mug"))
    (alone,) = EncodePrompt.execute(text_encoder, "a kitchen").result
    (on_clip,) = EncodePrompt.execute(text_encoder, "a kitchen", POSITIVE).result
    (negative,) = EncodePrompt.execute(text_encoder, "").result
    # The model sees the T5 prompt in both; what it stands on is for ControlNet.
    assert torch.equal(sample(model, alone, negative), sample(model, on_clip, negative))
    assert torch.equal(on_clip[0][0], POSITIVE[0][0]) and "model_conds" not in POSITIVE[0][1]


def test_a_prompt_that_stands_alone_cannot_be_zeroed_unseen(adapter, text_encoder, fast_model):
    model = patched(fast_model, adapter, text_encoder, boxes("a red mug"))
    (alone,) = EncodePrompt.execute(text_encoder, "a kitchen").result
    ((context, options),) = alone
    with pytest.raises(ValueError, match="Conditioning Zero Out"):
        sample(model, POSITIVE, [[torch.zeros_like(context), options]])


def test_features_in_another_precision_are_another_encoders(small_t5_folder):
    names = {
        LoadTextEncoder.execute(small_t5_folder.name, dtype, "cpu")[0].encode(("a mug",)).encoder
        for dtype in ("fp32", "bf16")
    }
    assert len(names) == 2


def test_the_adapter_is_loaded_and_counted_by_the_host(adapter, text_encoder, fast_model):
    model = patched(fast_model, adapter, text_encoder, boxes("a red mug"))
    assert adapter.patcher in model.get_additional_models()
    weights = sum(p.numel() * p.element_size() for p in adapter.refiner.adapter.parameters())
    assert adapter.patcher.model_size() == pytest.approx(weights, rel=0.01)


def test_the_text_encoder_is_loaded_by_the_host_for_new_phrases(text_encoder):
    comfy.model_management.unload_all_models()
    text_encoder.encode(("a phrase read for the first time",))
    assert text_encoder.patcher in comfy.model_management.loaded_models()
    comfy.model_management.unload_all_models()
    text_encoder.encode(("a phrase read for the first time",))
    assert text_encoder.patcher not in comfy.model_management.loaded_models()


def test_more_than_thirty_regions_work_and_warn(adapter, text_encoder, fast_model, caplog):
    with caplog.at_level(logging.WARNING):
        model = patched(fast_model, adapter, text_encoder, boxes(*(f"thing {i}" for i in range(31))))
    assert "31 regions" in caplog.text and "at most 30" in caplog.text
    assert sample(model, steps=1).isfinite().all()


@pytest.mark.parametrize(
    "phrase, box, words",
    [
        ("", (0.1, 0.1, 0.2, 0.2), "needs a phrase"),
        ("a mug", (0.9, 0.1, 0.2, 0.2), "outside the image"),
        ("a mug", (0.1, 0.1, 0.0, 0.2), "no area"),
        ("a mug", (float("nan"), 0.1, 0.2, 0.2), "not finite"),
    ],
)
def test_a_bad_region_is_refused_in_words(phrase, box, words):
    with pytest.raises(ValueError, match=words):
        BoxRegion.execute(phrase, *box, 1.0, 0.0, 1.0)


def mask_region(mask, phrase="a red scarf"):
    return MaskRegion.execute(mask, phrase, 1.0, 0.0, 1.0)[0]


def test_a_mask_gives_its_shape_and_its_box():
    mask = torch.zeros(1, 10, 20)
    mask[0, 2:5, 6:8] = 1
    (region,) = mask_region(mask)
    assert region.box == (0.3, 0.2, 0.4, 0.5) and region.mask.values.shape == (10, 20)
    assert mask_region(mask.bfloat16())[0].box == region.box, "whatever the precision"
    (region,) = mask_region(mask, "a red scarf\nwith a fringe")
    assert region.phrase == "a red scarf\nwith a fringe", "one mask takes all lines"


def test_a_batch_of_masks_makes_a_region_a_line():
    masks = torch.eye(3)[:, None].expand(3, 2, 3)
    regions = mask_region(masks, "a red scarf\n\n a blue hat \na green coat\n")
    assert [region.phrase for region in regions] == ["a red scarf", "a blue hat", "a green coat"]
    assert [region.box[0] for region in regions] == pytest.approx([0, 1 / 3, 2 / 3])
    with pytest.raises(ValueError, match="3 masks came in, but the phrase has 2 lines"):
        mask_region(masks, "a red scarf\na blue hat")
    with pytest.raises(ValueError, match="3 masks came in, but the phrase has 4 lines"):
        mask_region(masks, "a red scarf\na blue hat\na green coat\na shoe")


def test_regions_of_masks_come_after_the_chained_ones():
    chained = boxes("a red mug", "a green lamp")
    regions = MaskRegion.execute(torch.eye(3)[None], "a red scarf", 1.0, 0.0, 1.0, chained)[0]
    assert [region.phrase for region in regions] == ["a red mug", "a green lamp", "a red scarf"]


def test_strength_and_time_are_the_regions():
    (by_mask,) = MaskRegion.execute(torch.eye(8)[None], "a red scarf", 1.5, 0.25, 0.75)[0]
    (by_box,) = BoxRegion.execute("a red scarf", 0.1, 0.1, 0.2, 0.2, 1.5, 0.25, 0.75)[0]
    for region in (by_mask, by_box):
        assert (region.strength, region.start_percent, region.end_percent) == (1.5, 0.25, 0.75)


def test_a_mask_that_is_empty_or_full(caplog):
    with pytest.raises(ValueError, match="mask is empty"):
        mask_region(torch.zeros(1, 8, 8))
    mask_region(torch.eye(8)[None])
    assert not caplog.text
    mask_region(torch.ones(1, 8, 8))
    assert "'a red scarf' covers the whole image" in caplog.text and "inverted" in caplog.text


def test_an_adapter_that_is_not_whole_is_refused_by_file_and_tensor(comfy_host, adapter, fast_adapter_state):
    path = comfy_host.base / "models" / "deig" / "scalar.safetensors"
    save_file(fast_adapter_state | {"IDE.connector.latents": torch.tensor(1.0)}, path)
    with pytest.raises(ValueError, match=r"deig.scalar\.safetensors is not a whole.*IDE\.connector\.latents"):
        LoadAdapter.execute("scalar.safetensors", "auto")


def test_a_truncated_adapter_is_refused(comfy_host, adapter):
    folder = comfy_host.base / "models" / "deig"
    whole = (folder / "small.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.safetensors"):
        LoadAdapter.execute("cut.safetensors", "auto")


def test_an_empty_list_says_where_it_looked(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"models.deig"):
        LoadAdapter.execute(loaders.NO_ADAPTER, "auto")
    folders = [tmp_path / name for name in ("text_encoders", "ella_encoder", "t5_model")]
    monkeypatch.setattr(loaders, "encoder_folders", lambda: folders)
    assert LoadTextEncoder.GET_SCHEMA().inputs[0].options == [loaders.NO_ENCODER]
    with pytest.raises(ValueError) as refused:
        LoadTextEncoder.execute(loaders.NO_ENCODER, "auto", "default")
    assert all(str(folder) in str(refused.value) for folder in folders)


def test_the_hosts_encoder_folders_are_searched():
    names = [folder.name for folder in loaders.encoder_folders()]
    assert names[0] == "text_encoders" and {"clip", "ella_encoder", "t5_model"} <= set(names)


def test_a_folder_that_the_user_put_first_comes_first(monkeypatch, tmp_path):
    """Of two encoders of one name the first counts; extra_model_paths.yaml may put its folder before the usual."""
    paths, extensions = folder_paths.folder_names_and_paths["text_encoders"]
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "text_encoders", ([str(tmp_path), *paths], extensions)
    )
    folders = loaders.encoder_folders()
    assert folders[0] == tmp_path and len(folders) == len(set(folders))


def test_an_encoder_that_is_gone_is_refused_by_name(small_t5_folder):
    with pytest.raises(ValueError, match=f"'gone' is not there.*{small_t5_folder.name}"):
        LoadTextEncoder.execute("gone", "auto", "default")


def test_an_encoder_of_another_width_is_refused(comfy_host, adapter):
    folder = comfy_host.base / "models" / "text_encoders" / "wide-t5"
    standins.write_t5_folder(folder, comfy_host.t5_tokenizer, width=96)
    (wide,) = LoadTextEncoder.execute("wide-t5", "auto", "cpu").result
    (instances,) = EncodeRegions.execute(wide, boxes("a red mug")).result
    with pytest.raises(ValueError, match=r"wide-t5.* gives features 96 wide.* reads features 64 wide"):
        RefineInstances.execute(adapter, instances, "share")


def test_a_prompt_of_another_encoder_is_refused(comfy_host, adapter, text_encoder, fast_model):
    folder = comfy_host.base / "models" / "text_encoders" / "other-t5"
    standins.write_t5_folder(folder, comfy_host.t5_tokenizer)
    (other,) = LoadTextEncoder.execute("other-t5", "auto", "cpu").result
    (prompt,) = EncodePrompt.execute(other, "a kitchen").result
    model = patched(fast_model, adapter, text_encoder, boxes("a red mug"))
    with pytest.raises(ValueError, match="same 'DEIG Load Text Encoder'"):
        sample(model, prompt, NEGATIVE)
