"""The nodes as the host runs them, in this process."""

import asyncio
import dataclasses
import logging
from pathlib import Path

import comfy.model_management
import comfy.utils
import deig_pack
import folder_paths
import pytest
import torch
from comfy_api.latest import io
from deig_pack.deig_core.deig.adapter import load_adapter
from deig_pack.nodes import DeigExtension, loaders
from deig_pack.nodes.grounding import ApplyToModel, EncodePrompt, EncodeRegions, RefineInstances
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


def test_progress_counts_the_phrases(text_encoder, monkeypatch):
    told = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: told.append((value, total))
    )
    EncodeRegions.execute(text_encoder, boxes(*(f"thing of progress {i}" for i in range(20))))
    assert told[-1] == (20, 20)


def test_the_precision_is_chosen_for_the_device_that_reads(small_t5_folder, monkeypatch):
    """auto, with a graphics card that the phrases are kept away from; a card of Intel's, which every torch knows."""
    card = torch.device("xpu")
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: card)
    monkeypatch.setattr(comfy.model_management, "text_encoder_device", lambda: card)
    for device, precision in (("cpu", torch.float32), ("default", torch.bfloat16)):
        loaded = LoadTextEncoder.execute(small_t5_folder.name, "auto", device)[0]
        assert {weight.dtype for weight in loaded.encoder.model.parameters()} == {precision}
        assert loaded.patcher.load_device == (torch.device("cpu") if device == "cpu" else card)


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
    (region,) = mask_region(mask, "a red scarf\nwith a fringe")
    assert region.phrase == "a red scarf\nwith a fringe", "one mask takes all lines"


def test_a_batch_of_masks_makes_a_region_a_line():
    masks = torch.eye(3)[:, None].expand(3, 2, 3)
    regions = mask_region(masks, "a red scarf\n\n a blue hat \na green coat\n")
    assert [region.phrase for region in regions] == ["a red scarf", "a blue hat", "a green coat"]
    assert [region.box[0] for region in regions] == pytest.approx([0, 1 / 3, 2 / 3])
    with pytest.raises(ValueError, match="3 masks came in, but the phrase has 2 lines"):
        mask_region(masks, "a red scarf\na blue hat")


def test_strength_and_time_are_the_regions():
    (by_mask,) = MaskRegion.execute(torch.eye(8)[None], "a red scarf", 1.5, 0.25, 0.75)[0]
    (by_box,) = BoxRegion.execute("a red scarf", 0.1, 0.1, 0.2, 0.2, 1.5, 0.25, 0.75)[0]
    for region in (by_mask, by_box):
        assert (region.strength, region.start_percent, region.end_percent) == (1.5, 0.25, 0.75)


def test_a_mask_that_is_empty_or_full(caplog):
    with pytest.raises(ValueError, match="mask is empty"):
        mask_region(torch.zeros(1, 8, 8))
    mask_region(torch.ones(1, 8, 8))
    assert "inverted" in caplog.text


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
