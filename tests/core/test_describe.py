"""What is cut out and asked for each region, and what becomes of the answers."""

import pytest
from deig_pack.deig_core.regions.describe import INSTRUCTION, SHORTER, asked, crop_of, tidied, why_not
from deig_pack.deig_core.regions.region import Region

GOOD = "a fluffy orange tabby cat with white paws, green eyes and a blue leather collar with a brass bell"

# In the ways in which vision language models answer such an instruction.
RECORDED_GOOD = {
    "plain": GOOD,
    "a sentence": "A fluffy orange tabby cat with white paws, green eyes and a blue leather collar with a brass bell.",
    "quoted": f'"{GOOD}."',
    "curly quotes": f"\u201c{GOOD}\u201d\n",
    "thinking aloud": f"<think>\nThe cut-out shows a cat.\n</think>\n\n{GOOD}",
    "a preface": f"Sure! Here is the phrase:\n\n{GOOD}",
    "another preface": f"Here's a description of the main thing in the cut-out: {GOOD}",
    "labelled": f"Description: {GOOD}",
    "markdown": f"**{GOOD}**",
    "a list": f"- {GOOD}",
    "over lines": GOOD.replace(" with ", "\nwith ", 1),
}

RECORDED_BROKEN = {
    "nothing": ("", "no words"),
    "marks": ("** **\n---", "no words"),
    "numbers": ("12, 7.", "no words"),
    "thoughts without end": ("<think>\nThe user wants a phrase. Let me look at the", "no words"),
    "sorry": ("I'm sorry, but I can't help with identifying people in images.", "refusal"),
    "cannot": ("I cannot see the picture you are referring to.", "refusal"),
    "as an AI": ("As an AI language model, I do not have the ability to view images.", "refusal"),
    "asks back": ("Please provide the image you would like me to describe.", "refusal"),
    "unclear": ("The image is too blurry, so I am unable to determine what it shows.", "refusal"),
}


@pytest.mark.parametrize("name", RECORDED_GOOD)
def test_good_answers_become_the_phrase_alone(name):
    phrase = tidied(RECORDED_GOOD[name])
    assert phrase[:1].lower() + phrase[1:] == GOOD
    assert why_not(phrase, 40) == ""


@pytest.mark.parametrize("name", RECORDED_BROKEN)
def test_broken_answers_are_told_from_phrases(name):
    answer, reason = RECORDED_BROKEN[name]
    assert reason in why_not(tidied(answer), 20)


def test_words_of_a_phrase_are_no_refusal():
    for phrase in ("a can of red paint", "a sorry looking teddy bear", "a sign that reads 'I cannot wait'"):
        assert why_not(phrase, 10) == "" or "I cannot" in phrase


def test_what_t5_would_not_read_is_too_long():
    assert why_not("a cat", 128) == ""
    assert "129 tokens for T5" in why_not("a cat", 129)


def test_the_instruction_carries_the_label():
    region = Region(" cat ", (0, 0, 1, 1))
    assert "it is said to be cat" in asked(INSTRUCTION, region)
    assert asked("Say {what}: {label}", region) == "Say {what}: it is said to be cat", "braces of others stay"
    assert asked(INSTRUCTION, region, again=True).startswith(asked(INSTRUCTION, region))


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((0.25, 0.5, 0.5, 0.75), 0.0, (100, 100, 200, 150)),
        ((0.25, 0.5, 0.5, 0.75), 0.2, (80, 90, 220, 160)),
        (
            (0.0, 0.0, 0.25, 0.25),
            0.2,
            (0, 0, 140, 70),
        ),  # at the edge: as much of the surroundings, on one side
        ((0.0, 0.0, 1.0, 1.0), 1.0, (0, 0, 400, 200)),
        ((0.5, 0.5, 0.501, 0.501), 0.0, (186, 86, 214, 114)),  # no smaller than a model's patch
    ],
)
def test_crops(box, margin, expected):
    found = crop_of(Region("a", box), 400, 200, margin)
    assert all(abs(a - b) <= 1 for a, b in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("box", "margin", "least", "expected"),
    [
        ((0.25, 0.5, 0.5, 0.75), 0.25, 28, (75, 88, 225, 162)),  # 87.5 and 162.5 go to the even one
        ((0.251, 0.512, 0.504, 0.743), 0.0, 28, (100, 102, 202, 149)),
        ((0.8, 0.1, 1.0, 0.3), 0.5, 28, (240, 0, 400, 80)),  # moved left by 40
        ((0.5, 0.5, 0.52, 0.52), 0.0, 41, (184, 82, 224, 122)),  # 183.5, 224.5; 81.5, 122.5
        ((0.5, 0.5, 0.52, 0.52), 0.0, 0, (200, 100, 208, 104)),
    ],
)
def test_a_crop_to_the_pixel(box, margin, least, expected):
    assert crop_of(Region("a", box), 400, 200, margin, least) == expected


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "box, span", [((0, 0.01), (0, 28)), ((0.99, 1), (372, 400)), ((0.02, 0.03), (0, 28))]
)
def test_at_every_edge_a_small_thing_keeps_as_much_around_it(axis, box, span):
    edges = [0.4, 0.4, 0.6, 0.6]
    edges[axis], edges[axis + 2] = box
    found = crop_of(Region("a", tuple(edges)), 400, 400, 0.1)
    assert (found[axis], found[axis + 2]) == span


def test_a_tiny_picture_is_cut_out_whole():
    assert crop_of(Region("a", (0.4, 0.4, 0.5, 0.5)), 16, 12, 0.1) == (0, 0, 16, 12)


@pytest.mark.parametrize(
    "answer, phrase",
    [
        ("Certainly! a cup", "a cup"),
        ("Of course. a cup", "a cup"),
        ("Okay, a cup", "a cup"),
        ("Certainly, here is one: a cup", "a cup"),
        ("Here are the words:\na cup", "a cup"),
        ("The phrase: a cup", "a cup"),
        ("answer : a cup", "a cup"),
        ("# a cup", "a cup"),
        ("`a cup`", "a cup"),
        ("_a cup_", "a cup"),
        ("\u2022 a cup", "a cup"),
        ("* a cup", "a cup"),
        ("'a cup'", "a cup"),
        ("<think>one</think>a <think>two</think>cup", "a cup"),
        ("a blue-and-white cup - cracked", "a blue-and-white cup - cracked"),
        ("-5 on a sign", "-5 on a sign"),
        ("a sign: no entry", "a sign: no entry"),
        ("surely a cup", "surely a cup"),
        ("a sure sign, here is: more", "a sure sign, here is: more"),
        ("a cup!", "a cup!"),
    ],
)
def test_what_is_around_a_phrase_goes_and_the_phrase_stays(answer, phrase):
    assert tidied(answer) == phrase


@pytest.mark.parametrize(
    "answer",
    [
        "I am sorry, no",
        "I'm unable to help",
        "I am not able to help",
        "I can't help",
        "i can not help",
        "I won't help",
        "As an AI, no",
        "I don't see it",
        "I do not have eyes",
        "one is unable to identify it",
        "The thing cannot be determined",
        "It cannot be seen",
        "no image was given",
        "without an image is nothing",
        "please upload one",
        "Please share one",
    ],
)
def test_every_way_to_refuse_is_known(answer):
    assert why_not(answer, 9) == "it is a refusal"


def test_only_the_beginning_of_an_answer_can_refuse():
    words = "a poster " * 20
    assert why_not(f"{words}with please share", 90) == "it is a refusal"
    assert why_not(f"{words}of a bird and it says please share", 90) == ""


@pytest.mark.parametrize(
    "phrase, reason", [("a 1 b 2", "it has no words"), ("a1 b2", "it has no words"), ("\u8336\u7897", "")]
)
def test_a_word_has_two_letters_of_any_script(phrase, reason):
    assert why_not(phrase, 9) == reason


def test_asked_again_for_less():
    region = Region("cat", (0, 0, 1, 1))
    assert asked(INSTRUCTION, region, again=True) == asked(INSTRUCTION, region) + SHORTER
    assert not asked(INSTRUCTION, region).endswith(SHORTER)


def test_the_least_side_is_the_callers():
    assert crop_of(Region("a", (0.5, 0.5, 0.501, 0.501)), 400, 400, 0.0, least=56) == (172, 172, 228, 228)
