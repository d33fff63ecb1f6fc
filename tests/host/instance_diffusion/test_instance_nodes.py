"""InstanceDiffusion through the nodes, with a CLIP of the host's own class."""

import logging
from types import SimpleNamespace

import comfy.sd
import comfy.sd1_clip
import folder_paths
import pytest
import torch
from deig_pack.deig_core.fusion.instances import ReadPhrases
from deig_pack.deig_core.instance_diffusion.adapter import load_instance_diffusion
from deig_pack.deig_core.instance_diffusion.masked_attention import CHOICES, OFF, image_bias, masked_places
from deig_pack.deig_core.instance_diffusion.places import places_of
from deig_pack.deig_core.instance_diffusion.uni_fusion import RELEASED_KINDS
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.nodes.grounding import ApplyToModel, EncodePrompt, EncodeRegions, RefineInstances
from deig_pack.nodes.host.clip import read_phrases
from deig_pack.nodes.loaders import LoadAdapter, LoadTextEncoder, register_adapter_folder
from deig_pack.nodes.multi_instance import MultiInstanceSampling
from deig_pack.tests.core.instance_diffusion.test_instance_files import save_split
from deig_pack.tests.host.composition.helpers import small_sample
from deig_pack.tests.host.instance_diffusion.helpers import DenseInstanceDiffusion
from deig_pack.tests.host.test_patch import (
    NEGATIVE,
    POSITIVE,
    REGIONS,
    calls_of,
    difference,
    sample,
    second_step,
)
from safetensors.torch import save_file

CONFIG = {
    "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 49407,
    "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 128, "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77, "num_attention_heads": 12, "num_hidden_layers": 2, "pad_token_id": 1,
    "projection_dim": 768, "vocab_size": 49408,
}  # fmt: skip


class TwoLayers(comfy.sd1_clip.SDClipModel):
    def __init__(self, **options):
        super().__init__(textmodel_json_config=CONFIG, **options)


class TwoLayerSD1(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, **options):
        super().__init__(clip_model=TwoLayers, **options)


@pytest.fixture(scope="module")
def clip():
    target = SimpleNamespace(params={}, clip=TwoLayerSD1, tokenizer=comfy.sd1_clip.SD1Tokenizer)
    clip = comfy.sd.CLIP(target)
    generator = torch.Generator().manual_seed(0)
    for name, weight in clip.cond_stage_model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        is_gain = "norm" in name and name.endswith("weight")
        weight.data.copy_(1 + 0.1 * noise if is_gain else 0.1 * noise)
    return clip


@pytest.fixture(scope="module")
def adapter(comfy_host, fast_state):
    register_adapter_folder()
    path = comfy_host.base / "models" / "deig" / "instances.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(fast_state, path)
    assert path.name in folder_paths.get_filename_list("deig")
    return LoadAdapter.execute(path.name, "auto")[0]


def patched(model, adapter, clip, regions=REGIONS, **options):
    (instances,) = EncodeRegions.execute(clip, regions).result
    (grounding,) = RefineInstances.execute(adapter, instances, "share", **options).result
    return ApplyToModel.execute(model, grounding, 1.0, 0.0, 1.0, 0.0)[0]


@pytest.mark.parametrize("kinds", ["mask", "point"])
def test_the_whole_chain_computes_what_its_files_say(fast_model, fast_state, adapter, clip, kinds):
    """From what CLIP reads on by other means: all 184 tokens written out, every fuser and ScaleU dense."""
    model = patched(fast_model, adapter, clip, kinds=kinds)
    assert adapter.patcher in model.get_additional_models()
    call = second_step(model, (8, 8))
    net = load_instance_diffusion(fast_state).position_net

    def tokens_of(regions, kinds):
        pooled = read_phrases(clip, tuple(region.phrase for region in regions)).pooled
        tokens = net(pooled, places_of(regions, (0.0, 0.0, 1.0, 1.0)), RELEASED_KINDS[kinds])
        return tokens.objs.repeat_interleave(torch.tensor(tokens.counts), 0)[:, None]

    dense = DenseInstanceDiffusion(fast_model.model.diffusion_model, fast_state)
    instances = {0: tokens_of(REGIONS, kinds), 1: tokens_of((), kinds)}
    for row, entry in enumerate(call["entries"]):
        given = call["x"][row], call["timesteps"][row], call["context"][row]
        assert difference(call["out"][row], dense(*given, instances[entry])) <= 1e-4
    # It would tell: other kinds of place lie outside.
    row = call["entries"].index(0)
    given = call["x"][row], call["timesteps"][row], call["context"][row]
    other = tokens_of(REGIONS, "point" if kinds == "mask" else "mask")
    assert difference(call["out"][row], dense(*given, other)) > 1e-3


@pytest.mark.parametrize("scale_u", [True, False])
def test_scale_u_acts_as_the_node_says(fast_model, fast_state, adapter, clip, scale_u):
    (instances,) = EncodeRegions.execute(clip, REGIONS).result
    (grounding,) = RefineInstances.execute(adapter, instances, "share").result
    (model,) = ApplyToModel.execute(fast_model, grounding, 0.0, 0.0, 1.0, 0.0, scale_u).result
    assert torch.equal(small_sample(model), small_sample(fast_model)) != scale_u, (
        "at strength 0 it acts alone"
    )


@pytest.mark.parametrize("masked", CHOICES)
def test_attention_is_masked_as_the_node_says(fast_model, adapter, clip, masked):
    call = second_step(patched(fast_model, adapter, clip, masked=masked), (8, 8))
    places = masked_places(
        torch.tensor([region.box for region in REGIONS]), RELEASED_KINDS["mask"], (64, 64), masked
    )
    (group,) = (group for group in call["grounding"].groups if group.chosen)
    found = group.at((64, 64), torch.zeros(1)).image_bias
    assert (found is None) == (masked == OFF)
    if found is not None:
        assert torch.equal(found, image_bias(places))


def test_a_phrases_feature_is_the_one_that_the_model_was_trained_with(clip):
    """transformers' pooler_output: the last layer after its norm at the end of the text, not projected."""
    from transformers import CLIPTextConfig, CLIPTextModel

    reference = CLIPTextModel(CLIPTextConfig(**CONFIG | {"eos_token_id": 2})).eval()
    own = {
        name.removeprefix("clip_l.transformer."): tensor
        for name, tensor in clip.cond_stage_model.state_dict().items()
        if name.startswith("clip_l.transformer.text_model.")
    }
    expects_prefix = any(name.startswith("text_model.") for name in reference.state_dict())
    names = own if expects_prefix else {name.removeprefix("text_model."): t for name, t in own.items()}
    missing, _ = reference.load_state_dict(names, strict=False)
    assert not [name for name in missing if "position_ids" not in name]
    phrases = ("a red mug", "the quick brown fox, in oil")
    read = read_phrases(clip, phrases)
    for number, phrase in enumerate(phrases):
        ids = [[token for token, _ in clip.tokenize(phrase)["l"][0]]]
        end = ids[0].index(49407) + 1
        with torch.no_grad():
            expected = reference(torch.tensor([ids[0][:end]])).pooler_output[0]
        assert difference(read.pooled[number], expected) <= 1e-5
    assert read.contexts.shape == (2, 77, 768)


def test_no_phrases(clip):
    assert read_phrases(clip, ()).pooled.shape == (0, 768)


def test_a_phrase_that_is_too_long_is_cut_at_a_word(clip, caplog):
    phrase = " ".join(f"thing{number}" for number in range(60))
    with caplog.at_level(logging.WARNING):
        read = read_phrases(clip, (phrase,))
    (message,) = [record.getMessage() for record in caplog.records if "77 tokens" in record.message]
    kept = next(
        " ".join(phrase.split()[:count])
        for count in range(60, 0, -1)
        if len(clip.tokenize(" ".join(phrase.split()[:count]))["l"]) == 1
    )
    last, following = kept.split()[-1], phrase.split()[len(kept.split())]
    assert f"{last}'" in message and f"'{following}" in message
    assert torch.equal(read.pooled, read_phrases(clip, (kept,)).pooled)
    assert read.contexts.shape == (1, 77, 768)
    assert len(message) < 350 < len(phrase), "of both parts only what lies at the cut is quoted"


def test_no_more_is_cut_than_has_to_be(clip, caplog):
    words = []
    while len(clip.tokenize(" ".join(words))["l"]) == 1:
        words.append("cat")
    read = read_phrases(clip, (" ".join(words),))
    assert "left out: 'cat'" in caplog.text
    assert torch.equal(read.pooled, read_phrases(clip, (" ".join(words[:-1]),)).pooled)
    # However the words are set apart.
    caplog.clear()
    read_phrases(clip, ("\n  ".join([*words, "dog"]),))
    assert "left out: 'cat dog'" in caplog.text


def test_of_no_phrases_nothing_is_read(clip):
    read = read_phrases(clip, ())
    assert read.phrases == () and read.pooled.shape == (0, 768)
    assert read.contexts.ndim == 3 and read.contexts.shape[::2] == (0, 768)


def test_a_single_word_that_is_too_long_is_cut_within(clip, caplog):
    with caplog.at_level(logging.WARNING):
        read = read_phrases(clip, (word := "東京の夜" * 60,))
    assert "77 tokens" in caplog.text
    kept = max(count for count in range(len(word)) if len(clip.tokenize(word[:count])["l"]) == 1)
    assert torch.equal(read.pooled, read_phrases(clip, (word[:kept],)).pooled) and 10 < kept < 70


def clip_that_gives(context, feature):
    return SimpleNamespace(
        tokenize=lambda text: {"g": [[(0, 1.0)]]},
        encode_from_tokens=lambda tokens, return_pooled: (context, feature),
    )


@pytest.mark.parametrize(
    "context, feature, given",
    [
        (2048, 1280, "1280 and 2048 numbers"),
        (1024, 768, "768 and 1024 numbers"),
        (768, 1280, "1280 and 768 numbers"),
        (768, None, "nothing"),
    ],
)
def test_a_clip_of_another_kind_is_refused(context, feature, given):
    """By what it gives for a phrase as a whole, and for its words."""
    other = clip_that_gives(torch.zeros(1, 77, context), feature and torch.zeros(1, feature))
    with pytest.raises(ValueError, match=rf"CLIP gives {given} .*Stable Diffusion 1\.x"):
        EncodeRegions.execute(other, REGIONS)


def test_what_a_clip_in_16_bit_reads_is_computed_with_in_full():
    torch.manual_seed(0)
    context, feature = torch.randn(1, 77, 768).half(), torch.randn(1, 768).half()
    read = read_phrases(clip_that_gives(context, feature), ("a mug", "a lamp"))
    assert read.pooled.dtype == read.contexts.dtype == torch.float32
    assert torch.equal(read.pooled, feature.float().repeat(2, 1))
    assert torch.equal(read.contexts, context.float().repeat(2, 1, 1))


def test_progress_counts_the_phrases_that_clip_reads(clip, progress):
    read_phrases(clip, ("a mug", "a lamp", "a book"))
    assert progress == [(1, 3), (2, 3), (3, 3)]


@pytest.fixture(scope="module")
def deig(comfy_host, fast_adapter_state, small_t5_folder):
    register_adapter_folder()
    path = comfy_host.base / "models" / "deig" / "deig_too.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(fast_adapter_state, path)
    adapter = LoadAdapter.execute(path.name, "auto")[0]
    return adapter, LoadTextEncoder.execute(small_t5_folder.name, "auto", "default")[0]


def test_mixing_up_the_readers_says_what_to_connect(fast_model, adapter, clip, deig):
    deigs_adapter, t5 = deig
    with pytest.raises(ValueError, match="InstanceDiffusion's.*Connect the CLIP of the checkpoint"):
        patched(fast_model, adapter, t5)
    with pytest.raises(ValueError, match="DEIG's.*Connect 'DEIG Load Text Encoder'"):
        patched(fast_model, deigs_adapter, clip)
    (prompt,) = EncodePrompt.execute(t5, "a kitchen").result
    with pytest.raises(ValueError, match="CLIP Text Encode"):
        sample(patched(fast_model, adapter, clip), prompt, size=(8, 8))


def test_split_files_in_the_older_nodes_folders_are_listed(comfy_host, full_depth_state):
    register_adapter_folder()
    older = comfy_host.base / "models" / "instance_models"
    older.mkdir(exist_ok=True)
    save_split(older, full_depth_state, ("fuser_models", "positionnet_models", "scaleu_models"))
    names = folder_paths.get_filename_list("deig")
    (name,) = [name for name in names if name.endswith("position_net.ckpt")]
    loaded = LoadAdapter.execute(name, "fp16")[0]
    assert len(loaded.adapter.fusers) == 16
    assert {weight.dtype for weight in loaded.adapter.parameters()} == {torch.float16}


def test_the_usual_folder_is_looked_in_beside_one_that_is_named(comfy_host, adapter, tmp_path, monkeypatch):
    """extra_model_paths.yaml may name a folder of the older nodes; the one in models counts all the same."""
    usual = comfy_host.base / "models" / "instance_models"
    for folder in (usual, tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / f"in_{folder.name}.ckpt").touch()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "instance_models", ([str(tmp_path)], set()))
    monkeypatch.delitem(folder_paths.folder_names_and_paths, "deig")
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    register_adapter_folder()
    assert {"in_instance_models.ckpt", f"in_{tmp_path.name}.ckpt"} <= set(
        folder_paths.get_filename_list("deig")
    )


def test_more_than_thirty_masks_are_warned_about(adapter, clip, fast_model, caplog):
    mask = Mask(torch.eye(8).numpy().astype(float))
    regions = tuple(Region(f"thing {number}", (0, 0, 1, 1), mask=mask) for number in range(31))
    with caplog.at_level(logging.WARNING):
        model = patched(fast_model, adapter, clip, regions)
    assert "shapes of 30 masks" in caplog.text
    assert sample(model, size=(8, 8), steps=1).isfinite().all()


def test_up_to_thirty_masks_are_not_warned_about(adapter, clip, caplog):
    mask = Mask(torch.eye(8).numpy().astype(float))
    masked = tuple(Region(f"thing {number}", (0, 0, 1, 1), mask=mask) for number in range(30))
    for regions in (masked, (*masked[:28], *REGIONS)):
        (instances,) = EncodeRegions.execute(clip, regions).result
        RefineInstances.execute(adapter, instances, "share")
    assert "masks" not in caplog.text


def test_settings_that_are_left_out_are_those_of_the_authors(adapter, clip):
    (instances,) = EncodeRegions.execute(clip, REGIONS).result
    grounding = RefineInstances.execute(adapter, instances, "share")[0].grounding
    assert (grounding.kinds, grounding.masked) == (RELEASED_KINDS["mask"], OFF)


def test_multi_instance_sampling_with_clip_for_deig(fast_model, clip, deig):
    """DEIG with CLIP prompts: each instance alone has its phrase for a prompt if a CLIP reads it."""
    deigs_adapter, t5 = deig
    model = patched(fast_model, deigs_adapter, t5)
    without = MultiInstanceSampling.execute(model, 0.5, "average")[0]
    with_it = MultiInstanceSampling.execute(model, 0.5, "average", clip)[0]
    with calls_of(with_it) as calls:
        picture = sample(with_it, size=(8, 8))
    assert difference(picture, sample(without, size=(8, 8))) > 1e-3
    own = read_phrases(clip, tuple(region.phrase for region in REGIONS)).contexts
    apart = calls[0]["context"].split(1 + len(REGIONS))
    whole, *alone = apart[calls[0]["entries"].index(0)]
    assert torch.equal(whole, POSITIVE[0][0][0]) and torch.equal(torch.stack(alone), own)
    assert all(torch.equal(row, NEGATIVE[0][0][0]) for row in apart[calls[0]["entries"].index(1)])
    assert torch.equal(calls[-1]["context"][calls[-1]["entries"].index(0)], POSITIVE[0][0][0])


def test_multi_instance_sampling_needs_no_clip_for_instance_diffusion(fast_model, adapter, clip):
    """The phrases are read already, with whatever LoRAs 'DEIG Encode Regions' had."""
    model = patched(fast_model, adapter, clip)
    other = clip.clone()
    name = next(key for key in clip.cond_stage_model.state_dict() if key.endswith("layers.0.mlp.fc1.weight"))
    shape = clip.cond_stage_model.state_dict()[name].shape
    assert other.add_patches({name: ("diff", (torch.ones(shape),))}, 1.0)
    without = MultiInstanceSampling.execute(model, 0.5, "average")[0]
    with_it = MultiInstanceSampling.execute(model, 0.5, "average", other)[0]
    assert torch.equal(sample(with_it, size=(8, 8)), sample(without, size=(8, 8)))


def test_what_clip_read_is_no_text_of_t5(clip):
    (instances,) = EncodeRegions.execute(clip, REGIONS).result
    assert isinstance(instances.text, ReadPhrases) and instances.regions == REGIONS
