"""Judging models by transformers, of their real classes at tiny sizes: what is read off them is what they say."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from bench.papers.answerers import LocalAnswerer, answerer_of
from bench.papers.detectors import Clip, GroundingDino, Sam, best_device, caption_of, load
from bench.papers.protocol import BOX_THRESHOLD
from bench.papers.trouble import Trouble

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "red", "fire", "hydrant", "cup"]
PICTURE = (
    np.random.default_rng(0)
    .integers(0, 256, (16, 16, 3), dtype=np.uint8)
    .repeat(32, axis=0)
    .repeat(32, axis=1)
)


def write_words(folder) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return str(folder / "vocab.txt")


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    """GroundingDINO with one layer of each kind and random weights, whose detections spread over the picture."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, image_size=64,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(
            vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=30, use_pretrained_backbone=False,
    )  # fmt: skip
    model = transformers.GroundingDinoForObjectDetection(config)
    model.save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(write_words(folder), do_lower_case=True)
    size = {"shortest_edge": 128, "longest_edge": 192}
    transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size=size), tokenizer
    ).save_pretrained(folder)
    return folder


def test_detections_are_those_of_transformers(dino_folder):
    detector = GroundingDino(str(dino_folder), CPU)
    boxes, scores = detector.boxes(PICTURE, "Fire hydrant")
    assert len(boxes) == len(scores) > 0 and (scores > BOX_THRESHOLD).all()
    processor = transformers.AutoProcessor.from_pretrained(dino_folder)
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(dino_folder).eval()
    inputs = processor(images=Image.fromarray(PICTURE), text="fire hydrant.", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (theirs,) = processor.post_process_grounded_object_detection(
        outputs, inputs.input_ids, threshold=BOX_THRESHOLD, text_threshold=0.25, target_sizes=[(512, 512)]
    )
    assert np.allclose(boxes, theirs["boxes"].numpy(), atol=1e-3)
    assert np.allclose(scores, theirs["scores"].numpy(), atol=1e-6)
    other, _ = detector.boxes(PICTURE, "a red cup")
    assert other.shape != boxes.shape or not np.allclose(other, boxes)


def test_the_detector_reads_small_letters_and_a_full_stop():
    assert caption_of(" Fire Hydrant ") == caption_of("fire hydrant.") == "fire hydrant."


def test_the_mask_is_the_one_that_sam_trusts_most(tmp_path):
    torch.manual_seed(0)
    size = 64
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": size, "patch_size": 16,
            "output_channels": 32, "mlp_dim": 32, "num_pos_feats": 16, "global_attn_indexes": [1], "window_size": 2,
        },
        prompt_encoder_config={
            "hidden_size": 32, "image_size": size, "patch_size": 16, "image_embedding_size": size // 16,
        },
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    )  # fmt: skip
    transformers.SamModel(config).save_pretrained(tmp_path)
    sizes = {"size": {"longest_edge": size}, "pad_size": {"height": size, "width": size}}
    processor = transformers.SamProcessor(transformers.SamImageProcessor(**sizes))
    processor.save_pretrained(tmp_path)
    box = (100.0, 120.5, 400.0, 300.0)
    mask = Sam(str(tmp_path), CPU).mask(PICTURE, box)
    assert mask.shape == (512, 512) and mask.dtype == bool

    model = transformers.SamModel.from_pretrained(tmp_path).eval()
    inputs = processor(Image.fromarray(PICTURE), input_boxes=[[list(box)]], return_tensors="pt").to(
        torch.float32
    )
    scaled = inputs["input_boxes"].flatten() * 512 / size
    assert scaled.tolist() == pytest.approx(box, abs=1e-3)
    with torch.no_grad():
        outputs = model(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"])
    masks = processor.image_processor.post_process_masks(
        outputs.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )[0][0]
    assert len(masks) == 3 and len({float(share) for share in masks.float().mean((1, 2))}) > 1
    assert np.array_equal(mask, masks[int(outputs.iou_scores.flatten().argmax())].numpy())


def write_clip(folder) -> None:
    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {word: number for number, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    last = len(vocabulary) - 1
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=sizes | {"vocab_size": len(vocabulary), "bos_token_id": last - 1, "eos_token_id": last},
        vision_config=sizes | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPProcessor(transformers.CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)


def test_the_clip_score_sees_blue_first_as_the_script_does(tmp_path):
    write_clip(tmp_path)
    clip = Clip(str(tmp_path), CPU)
    score = clip.score(PICTURE, "a red cup")
    processor = transformers.CLIPProcessor.from_pretrained(tmp_path)
    model = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    as_opencv_reads = np.ascontiguousarray(PICTURE[..., ::-1])
    inputs = processor(text=["a red cup"], images=as_opencv_reads, return_tensors="pt", padding=True)
    with torch.no_grad():
        assert score == pytest.approx(float(model(**inputs).logits_per_image), abs=1e-4)
    assert score != pytest.approx(clip.score(as_opencv_reads, "a red cup"), abs=1e-4)


CHAT = (
    "{% for message in messages %}<|im_start|> {% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %} {{ part['text'] }}{% endif %}{% endfor %} <|im_end|> "
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
SPECIAL = [
    f"<|{name}|>" for name in ("im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
]


def write_qwen(folder):
    """Qwen2.5-VL, which DEIG-Bench's script asks, with one layer of each kind and random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    words = {word: number for number, word in enumerate([*WORDS, *SPECIAL])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", eos_token="<|im_end|>", unk_token="[UNK]",
        additional_special_tokens=SPECIAL,
    )  # fmt: skip
    sizes = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    size = {"shortest_edge": 28 * 28, "longest_edge": 8 * 28 * 28}
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes, size=size),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**sizes, size=size),
        chat_template=CHAT,
    )
    processor.save_pretrained(folder)
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "eos_token_id": None, "bos_token_id": None,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    ids = {name: words[f"<|{name}|>"] for name in ("vision_start", "vision_end", "image_pad", "video_pad")}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    for parameter in model.parameters():  # flat attention would hide the picture
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)


def test_a_judge_in_this_process_is_shown_the_picture_and_asked(tmp_path):
    write_qwen(tmp_path)
    judge = answerer_of(str(tmp_path))
    assert isinstance(judge, LocalAnswerer) and judge.name == str(tmp_path)
    answers = {
        judge.ask(Image.new("RGB", (60, 80), colour), "a red cup ?") for colour in ("red", "blue", "black")
    }
    assert len(answers) > 1
    assert all(set(answer.split()) <= set(WORDS) for answer in answers)
    picture = Image.new("RGB", (60, 80), "red")
    assert judge.ask(picture, "a red cup ?") == judge.ask(picture, "a red cup ?")
    assert judge.ask(picture, "a red cup ?") != judge.ask(picture, "fire hydrant ? a a cup .")


@pytest.mark.parametrize("kind", [GroundingDino, Sam, Clip, LocalAnswerer])
def test_a_model_that_is_not_there_is_told(tmp_path, kind, monkeypatch):
    with pytest.raises(Trouble, match="cannot be loaded: .*Give a folder"):
        kind(str(tmp_path / "nowhere"), CPU)


@pytest.mark.parametrize("has_accelerator, device", [(True, "cuda"), (False, "cpu")])
def test_models_judge_on_the_accelerator_where_there_is_one(has_accelerator, device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_accelerator)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert best_device().type == device


@pytest.mark.parametrize(
    "error, words",
    [(OSError("no such folder\nand more"), r"no such folder\. Give"), (KeyError(), r"KeyError\(\)\. Give")],
)
def test_of_what_cannot_be_loaded_the_first_line_is_told(error, words):
    def fails(name):
        raise error

    with pytest.raises(Trouble, match=f"The detector 'mine' cannot be loaded: {words} a folder"):
        load("detector", "mine", str, fails)
    assert load("detector", "mine", str.upper, str.title) == ["MINE", "Mine"]


def test_a_judge_without_an_address_is_a_model(tmp_path):
    with pytest.raises(Trouble, match="The judge .* cannot be loaded"):
        answerer_of(str(tmp_path / "nowhere"))
