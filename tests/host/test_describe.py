"""Describing regions in the host: its own vision language model, tiny and random, and recorded answers."""

from types import SimpleNamespace

import comfy.model_management
import comfy.sd
import pytest
import torch
from deig_pack.deig_core.regions.describe import INSTRUCTION
from deig_pack.deig_core.regions.region import Region
from deig_pack.nodes import describe
from deig_pack.nodes.describe import DescribeRegions, check_generates, count_t5_tokens

CAT = Region("cat", (0.1, 0.1, 0.5, 0.9), strength=1.5)
DOG = Region("dog", (0.5, 0.2, 0.9, 0.8))
GOOD = "a grey cat with a red collar"
DEFAULTS = {"instruction": INSTRUCTION, "margin": 0.1, "max_length": 16, "seed": 0}
CAN_GENERATE = hasattr(comfy.sd.CLIP, "generate")
needs_generation = pytest.mark.skipif(not CAN_GENERATE, reason="this host cannot generate text")


@pytest.fixture
def picture():
    torch.manual_seed(0)
    return torch.rand(1, 96, 128, 3)


class Recorded:
    """A CLIP whose model gives recorded answers; it tokenizes as the host's do, a picture among the words."""

    def __init__(self, *answers):
        self.answers, self.asked, self.options = list(answers), [], []
        transformer = SimpleNamespace(generate=None)
        self.cond_stage_model = type("Model", (), {})()
        self.cond_stage_model.clip = "vlm"
        self.cond_stage_model.vlm = SimpleNamespace(transformer=transformer)
        self.patcher = SimpleNamespace(patches_uuid="unpatched")

    def tokenize(self, text, image=None, **options):
        self.tokenized = options
        self.asked.append((text, tuple(image.shape)))
        return {"vlm": [[(1, 1.0), ({"type": "image", "data": image}, 1.0), (2, 1.0)]]}

    def generate(self, tokens, **options):
        self.asked[-1] += (options["do_sample"],)
        self.options.append(options)
        return self.answers.pop(0)

    def decode(self, answer):
        return answer


def run(clip, image, regions, **changed):
    return DescribeRegions.execute(image, regions, clip, **(DEFAULTS | changed)).args


def test_each_region_is_described_on_its_own(picture):
    clip = Recorded(GOOD, "A brown dog.")
    regions, report = run(clip, picture, (CAT, DOG))
    assert [region.phrase for region in regions] == [GOOD, "A brown dog"]
    assert regions[0].box == CAT.box and regions[0].strength == 1.5
    assert report == f"cat -> {GOOD}\ndog -> A brown dog"
    (cat, cat_size, sampled), (dog, dog_size, _) = clip.asked
    assert "said to be cat" in cat and "said to be dog" in dog and not sampled
    assert cat_size == (1, 92, 61, 3) and dog_size == (1, 70, 61, 3), (
        "box and margin, at the picture's resolution"
    )


def test_a_description_is_kept_by_its_crop_and_question(picture):
    clip = Recorded(GOOD, "a brown dog", "a wet cat", "a cat again", "a cat elsewhere")
    run(clip, picture, (CAT, DOG))
    assert run(clip, picture, (DOG, CAT))[0][1].phrase == GOOD and len(clip.asked) == 2
    changed = picture.clone()
    changed[0, 40, 40] = 1
    assert run(clip, changed, (CAT,))[0][0].phrase == "a wet cat"
    assert run(clip, picture, (CAT,), instruction="What is it?")[0][0].phrase == "a cat again"
    assert run(clip, picture, (CAT,), margin=0.3)[0][0].phrase == "a cat elsewhere"
    assert run(clip, picture, (CAT,), seed=5)[0][0].phrase == GOOD, "the first try draws nothing"


def test_what_one_model_described_is_not_taken_for_anothers(picture):
    """A LoRA on the language model is the same model with other patches, and sees with other eyes."""
    clip = Recorded(GOOD, "a drawing of a cat")
    run(clip, picture, (CAT,))
    clip.patcher = SimpleNamespace(patches_uuid="with a LoRA")
    assert run(clip, picture, (CAT,))[0][0].phrase == "a drawing of a cat"
    clip.patcher = SimpleNamespace(patches_uuid="unpatched")
    assert run(clip, picture, (CAT,))[0][0].phrase == GOOD
    assert run(Recorded("a dog, perhaps"), picture, (CAT,))[0][0].phrase == "a dog, perhaps"


def test_an_answer_that_was_cut_off_is_asked_for_again_at_length(picture):
    clip = Recorded("a grey cat with a", GOOD)
    assert run(clip, picture, (CAT,), max_length=16)[0][0].phrase == "a grey cat with a"
    assert run(clip, picture, (CAT,), max_length=64)[0][0].phrase == GOOD


def test_a_broken_answer_is_asked_once_more(picture):
    clip = Recorded("I'm sorry, I can't help with that.", GOOD)
    assert run(clip, picture, (CAT,))[0][0].phrase == GOOD
    (_, _, first), (question, _, second) = clip.asked
    assert not first and second and "at most 40 words" in question


def test_an_answer_is_as_long_and_the_second_drawn_by_the_seed_as_asked(picture):
    clip = Recorded("", GOOD)
    run(clip, picture, (CAT,), max_length=77, seed=9)
    first, second = clip.options
    assert first == {"max_length": 77, "do_sample": False}
    assert (second["max_length"], second["do_sample"], second["seed"]) == (77, True, 9)
    assert clip.tokenized["thinking"] is False, "the answer is the phrase alone"


@needs_generation
def test_the_second_try_draws_as_the_hosts_generate_text_does(picture):
    """By the defaults of that node's widgets; both ask for no more tokens of the picture than it has."""
    from comfy_extras.nodes_textgen import TextGenerate

    (sampling,) = [one for one in TextGenerate.GET_SCHEMA().inputs if one.id == "sampling_mode"]
    on = next(option for option in sampling.options if option.key == "on")
    clip = Recorded("", GOOD)
    run(clip, picture, (CAT,))
    defaults = {one.id: one.default for one in on.inputs}
    drawn = {name: value for name, value in clip.options[1].items() if name in defaults}
    assert {"temperature", "top_k", "top_p", "min_p", "seed"} <= drawn.keys()
    assert drawn == {name: defaults[name] for name in drawn}
    ours, clip = clip.tokenized, Recorded(GOOD)
    TextGenerate.execute(clip, "What is it?", 16, {"sampling_mode": "off"}, image=picture)
    assert ours == {name: clip.tokenized[name] for name in ours} and "min_length" in ours


def test_crops_of_one_colour_are_told_apart_by_their_shape():
    """The same numbers in the same order, 40 x 30 and 30 x 40 of them."""
    lying, upright = Region("a sign", (0.1, 0.1, 0.5, 0.4)), Region("a sign", (0.1, 0.1, 0.4, 0.5))
    clip = Recorded("a wide sign", "a tall sign")
    regions, _ = run(clip, torch.full((1, 100, 100, 3), 0.5), (lying, upright), margin=0.0)
    assert [shape for _, shape, _ in clip.asked] == [(1, 30, 40, 3), (1, 40, 30, 3)]
    assert [region.phrase for region in regions] == ["a wide sign", "a tall sign"]


def test_a_picture_of_16_bit_is_described_too(picture):
    clip = Recorded(GOOD)
    for _ in range(2):
        assert run(clip, picture.bfloat16(), (CAT,))[0][0].phrase == GOOD


def test_a_picture_with_an_alpha_channel_is_shown_without_it(picture):
    clip = Recorded(GOOD)
    run(clip, torch.cat((picture, torch.ones_like(picture[..., :1])), -1), (CAT,))
    assert clip.asked[0][1] == (1, 92, 61, 3)


def test_the_longest_unused_description_is_forgotten_first(picture, monkeypatch):
    monkeypatch.setattr(describe, "MOST_KEPT", 2)
    clip = Recorded(*(f"a cat of kind {letter}" for letter in "abcd"))

    def described(margin):
        return run(clip, picture, (CAT,), margin=margin)[0][0].phrase[-1]

    assert [described(margin) for margin in (0.1, 0.2, 0.1, 0.3)] == ["a", "b", "a", "c"]
    assert [described(margin) for margin in (0.1, 0.3, 0.2)] == ["a", "c", "d"], "the second was pushed out"


def test_both_broken_answers_are_quoted(picture):
    clip = Recorded("I'm sorry, I can't help with that.", "   ")
    with pytest.raises(
        ValueError, match=r"Region 1 \('cat'\).*answered \"I'm sorry.*asked again, '': it has no words"
    ):
        run(clip, picture, (CAT,))


def test_no_regions_are_described_by_nothing(picture):
    assert run(Recorded(), picture, ()) == ((), "")


def test_what_stays_broken_is_told_by_name_and_the_rest_is_kept(picture):
    long = "a cat with " + ", ".join(f"a spot of colour number {count}" for count in range(60))
    clip = Recorded(GOOD, "", long)
    with pytest.raises(
        ValueError, match=r"Region 2 \('dog'\).*it has no words.*tokens for T5.*is kept"
    ) as told:
        run(clip, picture, (CAT, DOG))
    assert long[:100] in str(told.value) and len(str(told.value)) < 700 < len(long), "answers are cut short"
    clip.answers = ["a brown dog"]
    with pytest.raises(ValueError, match="Region 2"):
        run(clip, picture, (CAT, DOG))
    assert run(clip, picture, (CAT, DOG), seed=1)[0][1].phrase == "a brown dog"


def test_it_stops_between_regions_when_asked_to(picture):
    clip = Recorded(GOOD)

    def interrupted(*_, **__):
        comfy.model_management.interrupt_current_processing()
        return GOOD

    clip.generate = lambda tokens, **options: clip.asked.append(()) or interrupted()
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run(clip, picture, (CAT, DOG))
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert len(clip.asked) == 2, "one question and its answer"


def test_progress_counts_the_regions(picture, progress):
    run(Recorded(GOOD, "a dog"), picture, (CAT, DOG))
    assert progress[0] == (0, 2) and progress[-1] == (2, 2)


def test_t5_counts_its_end():
    assert count_t5_tokens("cat") == count_t5_tokens("cat cat") - 1 == 2


def test_what_cannot_describe_is_refused_with_what_to_load(picture, monkeypatch):
    with pytest.raises(ValueError, match="2 pictures"):
        run(Recorded(), picture.repeat(2, 1, 1, 1), (CAT,))
    with pytest.raises(ValueError, match="instruction is empty"):
        run(Recorded(), picture, (CAT,), instruction=" ")
    blind = Recorded(GOOD)
    for word in (2, {"type": "embedding", "data": torch.zeros(1, 8)}):
        blind.tokenize = lambda *_, word=word, **__: {"vlm": [[(1, 1.0), (word, 1.0)]]}
        with pytest.raises(ValueError, match="no pictures. Load a vision language model"):
            run(blind, picture, (CAT,))
    with pytest.raises(ValueError, match="needs 0.33 or later"):
        check_generates(SimpleNamespace())


def sd1_clip():
    """The host's own CLIP of SD1, with random weights of a tiny size."""
    from comfy import sd1_clip as host

    class Target:
        params = {}
        clip = host.SD1ClipModel
        tokenizer = host.SD1Tokenizer

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return comfy.sd.CLIP(Target, model_options={"clip_l_model_config": sizes, "model_name": "clip_l"})


def test_a_model_that_writes_by_itself_is_taken():
    writer = type("Writer", (), {"generate": lambda self: None})()
    check_generates(SimpleNamespace(generate=None, cond_stage_model=writer))
    with pytest.raises(ValueError, match=r"\(Reader\) encodes prompts but cannot write text"):
        check_generates(SimpleNamespace(generate=None, cond_stage_model=type("Reader", (), {})()))


@needs_generation
def test_a_clip_that_only_encodes_is_refused():
    with pytest.raises(ValueError, match=r"SD1ClipModel\) encodes prompts but cannot write text. Load"):
        check_generates(sd1_clip())


@pytest.fixture
def tiny_vlm(monkeypatch):
    """The host's Qwen3-VL with its own tokenizer and generation, a hundred thousandth of the size, random weights."""
    from comfy.text_encoders import qwen3vl

    monkeypatch.setitem(
        qwen3vl.QWEN3VL_VISION,
        "qwen3vl_4b",
        {"hidden_size": 64, "intermediate_size": 64, "depth": 2, "deepstack_visual_indexes": [0]},
    )
    monkeypatch.setitem(qwen3vl.QWEN3VL_VISION_COMMON, "num_heads", 2)
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }

    class Target:
        params = {}
        clip = qwen3vl.te(model_type="qwen3vl_4b")
        tokenizer = qwen3vl.tokenizer(model_type="qwen3vl_4b")

    clip = comfy.sd.CLIP(Target, model_options={"qwen3vl_4b_model_config": sizes, "dtype": torch.float32})
    torch.manual_seed(1)
    for parameter in clip.cond_stage_model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim > 1 else 1.0)
    return clip


@needs_generation
def test_the_hosts_own_model_sees_the_crop(tiny_vlm, picture):
    check_generates(tiny_vlm)
    describer = describe.Describer(tiny_vlm, "What is it? {label}", 0.1, 8, 0)
    one = describer._generate(picture, "What is it?", False)
    assert isinstance(one, str) and one == describer._generate(picture, "What is it?", False)
    assert one != describer._generate(1 - picture, "What is it?", False), "another picture, another answer"
    assert one != describer._generate(picture, "Who is it, and where?", False)


@needs_generation
def test_the_hosts_own_model_runs_through_the_node(tiny_vlm, picture, monkeypatch):
    """Its answers are noise, so that either they pass for phrases or the error quotes them."""
    try:
        regions, _ = run(tiny_vlm, picture, (CAT,), max_length=6)
    except ValueError as error:
        assert "could not be described" in str(error)
    else:
        assert regions[0].box == CAT.box
