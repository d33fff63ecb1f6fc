"""Each form of layout: what is written in it comes back, and what cannot be read for certain is refused.

The boxes that are expected are worked out here, from whole numbers, and the texts are written here too, as the forms'
own makers write them.
"""

import json
from fractions import Fraction

import numpy as np
import pytest
from deig_pack.deig_core.regions.layouts import WRITABLE, fields, pairs, read_layout, write_layout
from deig_pack.deig_core.regions.layouts.layout import Layout
from deig_pack.deig_core.regions.layouts.run_length import MOST_PIXELS_IN_ALL
from deig_pack.deig_core.regions.region import LEAST_SIDE, Mask, Region
from deig_pack.tests.effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

WIDTH, HEIGHT, GRID = 640, 480, 1000


def listed(entries, **around):
    return json.dumps({"objects": entries, **around} if around else entries)


def fenced(entries):
    return f"Of course!\n```json\n{json.dumps(entries)}\n```\nAsk for [more]."


def element(phrase, x0, y0, x1, y1):
    return {"type": "obj", "bbox": [y0, x0, y1, x1], "desc": phrase}


def canvas_box(phrase, x0, y0, x1, y1):
    metadata = {"type": "obj", "text": "", "desc": phrase, "palette": ["#ff0000"]}
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "metadata": metadata}


def corner_and_size(box):
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


# form -> (its format's name where auto must not guess, the grid of its boxes, and how its maker writes them)
FORMS = {
    "elements": ("auto", (GRID, GRID), lambda items: json.dumps([element(p, *b) for p, b in items])),
    "elements of a JSON prompt": (
        "auto",
        (GRID, GRID),
        lambda items: json.dumps(
            {
                "high_level_description": "a shelf.",
                "style_description": {"aesthetics": "calm", "lighting": "", "color_palette": ["#102030"]},
                "compositional_deconstruction": {
                    "background": "a wall",
                    "elements": [element(p, *b) for p, b in items],
                },
            }
        ),
    ),
    "canvas": ("auto", (WIDTH, HEIGHT), lambda items: json.dumps([canvas_box(p, *b) for p, b in items])),
    "canvas, a frame": (
        "auto",
        (WIDTH, HEIGHT),
        lambda items: json.dumps([[canvas_box(p, *b) for p, b in items]]),
    ),
    "qwen-1000": (
        "qwen-1000",
        (GRID, GRID),
        lambda items: listed([{"bbox_2d": b, "label": p} for p, b in items]),
    ),
    "qwen-pixels": (
        "qwen-pixels",
        (WIDTH, HEIGHT),
        lambda items: listed([{"bbox_2d": b, "label": p} for p, b in items]),
    ),
    "qwen-pixels of its own size": (
        "qwen-pixels",
        (1288, 700),
        lambda items: listed([{"bbox_2d": b, "text_content": p} for p, b in items], width=1288, height=700),
    ),
    "gemini": (
        "auto",
        (GRID, GRID),
        lambda items: fenced([{"box_2d": [b[1], b[0], b[3], b[2]], "label": p} for p, b in items]),
    ),
    "llm": (
        "auto",
        (WIDTH, HEIGHT),
        lambda items: listed([{"label": p, "bbox": corner_and_size(b)} for p, b in items]),
    ),
    "pairs": (
        "auto",
        (WIDTH, HEIGHT),
        lambda items: "Objects: " + ", ".join(f"({json.dumps(p)}, {corner_and_size(b)})" for p, b in items),
    ),
    "pairs, flat": (
        "auto",
        (WIDTH, HEIGHT),
        lambda items: "\n".join(f"({json.dumps(p)}: {str(corner_and_size(b))[1:-1]})" for p, b in items),
    ),
    "lines": (
        "auto",
        (WIDTH, HEIGHT),
        lambda items: "\n".join(f"{p}: {b[0]} {b[1]} {b[2]} {b[3]}" for p, b in items),
    ),
}
PROMPTS = {"elements of a JSON prompt": "a shelf, a wall, calm"}


def boxes_on(grid):
    """Boxes of whole numbers, two or more wide and high."""
    width, height = grid
    return st.tuples(st.integers(0, width - 2), st.integers(0, height - 2)).flatmap(
        lambda corner: st.tuples(
            *map(st.just, corner), st.integers(corner[0] + 2, width), st.integers(corner[1] + 2, height)
        ).map(list)
    )


# One line each, and without four numbers of their own, which nobody could tell from a box.
phrases = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1, max_size=30
)
phrases = phrases.map(str.strip).filter(
    lambda phrase: phrase and phrase[0] != "#" and phrase[-1] != "{" and not pairs.box_in(phrase)
)


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=examples(60))
@given(data=st.data())
def test_what_its_maker_writes_is_read(form, data):
    format, grid, write = FORMS[form]
    # A box from edge to edge shows that nothing here could be fractions.
    items = [("the ground", [0, 0, *grid])]
    items += data.draw(st.lists(st.tuples(phrases, boxes_on(grid)), max_size=4))
    for edges in ("refuse", "clip"):
        layout = read_layout(write(items), format, WIDTH, HEIGHT, edges=edges)
        assert [region.phrase for region in layout.regions] == [phrase for phrase, _ in items]
        for region, (_, box) in zip(layout.regions, items, strict=True):
            expected = [Fraction(edge, grid[at % 2]) for at, edge in enumerate(box)]
            assert all(
                abs(Fraction(got) - want) < 1e-12 for got, want in zip(region.box, expected, strict=True)
            )
        assert layout.prompt == PROMPTS.get(form, "") and layout.report == ""


@pytest.mark.parametrize("form", [form for form in FORMS if "lines" not in form and "pairs" not in form])
def test_what_a_form_has_no_word_for_is_kept(form):
    """Strength, times and places stand under this pack's names in every JSON form, and null is no value."""
    format, grid, write = FORMS[form]
    text = write([("a cup", [0, 0, *grid])])
    point = [320, 120] if form == "llm" else [0.5, 0.25]
    more = {
        "strength": 2,
        "start_percent": 0.25,
        "end_percent": 0.5,
        "radius": 0.1,
        "point": point,
        "scribble": None,
    }
    first_key = next(key for key in ('"x": 0', '"bbox', '"box_2d') if key in text)
    text = text.replace(first_key, json.dumps(more)[1:-1] + ", " + first_key, 1)
    (cup,) = read_layout(text, format, WIDTH, HEIGHT).regions
    assert (cup.strength, cup.start_percent, cup.end_percent, cup.radius) == (2, 0.25, 0.5, 0.1)
    assert cup.point == (0.5, 0.25) and cup.scribble is None


@pytest.mark.parametrize(
    "form", ["deig", "instancediffusion", "coco", "deig-bench", "mig-bench", "llm", "gemini"]
)
def test_null_is_as_if_it_were_not_there(form):
    nulls = dict.fromkeys(("strength", "start_percent", "end_percent", "mask", "scribble", "point", "radius"))
    if form in WRITABLE:
        text = write_layout(Layout((Region("a cup", (0, 0, 0.5, 1)),)), form, WIDTH, HEIGHT)
    else:
        text = FORMS[form][2]([("a cup", [0, 0, 320, 480])])
    data = json.loads(text.partition("```json")[2].partition("```")[0] or text)

    def with_nulls(value):
        if isinstance(value, list):
            return [with_nulls(item) for item in value]
        if not isinstance(value, dict):
            return value
        inner = {key: with_nulls(item) for key, item in value.items()}
        return inner if fields.BOX_WORDS.isdisjoint(value) else inner | nulls

    again = read_layout(json.dumps(with_nulls(data)), "auto", WIDTH, HEIGHT)
    assert again.regions == read_layout(text, "auto", WIDTH, HEIGHT).regions


def test_entries_like_the_canvas_under_another_name_are_not_taken_for_its():
    """Without the canvas's own names around them they are read by the rules for a language model's."""
    box = {"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5, "metadata": {}, "label": "a cup"}
    assert read_layout(json.dumps({"objects": [box]})).regions == (Region("a cup", (0.25, 0.25, 0.75, 0.75)),)
    with pytest.raises(ValueError, match="has no phrase"):
        read_layout('{"objects": [{"desc": "a cup", "bbox": [100, 100, 200, 200]}]}')


@pytest.mark.parametrize("name", ["objects", "detections", "elements"])
def test_geminis_boxes_are_its_own_under_any_name(name):
    """Thousandths, y before x: read as a language model's four numbers they would lie elsewhere."""
    text = json.dumps({name: [{"label": "a cup", "box_2d": [100, 200, 300, 600]}]})
    assert read_layout(text).regions == (Region("a cup", (0.2, 0.1, 0.6, 0.3)),)


PAIRS = {
    "an apostrophe": "[('a man's hat', [16, 16, 32, 64]), ('the dogs' bowl', [16, 16, 32, 64])]",
    "curly quotes": "(“a man’s hat”, [16, 16, 32, 64]), (‘a dog’, [16, 16, 32, 64])",
    "other quotes": "(«a hat», [16, 16, 32, 64]), („a dog“, [16, 16, 32, 64]), (`a cat`, [16, 16, 32, 64]), "
    "(„a cup”, [16, 16, 32, 64])",
    "no quotes": "(a big, brown hat, [16, 16, 32, 64]), [a dog (small), [16, 16, 32, 64]]",
    "no brackets": '("a hat", 16, 16, 32, 64), ("a dog", 16 16 32 64)',
    "a colon": '("a hat": [16, 16, 32, 64]), ["a dog": 16, 16, 32, 64]',
    "a line break": '("a hat\n   of straw", [16, 16,\n 32, 64]),\n("a dog",\n [16, 16, 32, 64])',
    "a backslash": r'("a cap with \o/ on it", [16, 16, 32, 64]), ("a dog", [16, 16, 32, 64])',
    "quotes inside": '("a "very" big hat", [16, 16, 32, 64]), ("a \\"dog\\"", [16, 16, 32, 64])',
    "brackets inside": "(\"a smile :)\", [16, 16, 32, 64]), ('a hat ('new')', [16, 16, 32, 64])",
    "numbers inside": '("a plate AB 12 34", [16, 16, 32, 64]), ("1, 2 or 3 cups", [16, 16, 32, 64])',
    "wide signs": "（a hat，［16，16，32，64］）、(「a dog」：【１６、１６、３２、６４】)",
    "semicolons": '("a hat"; [16, 16, 32, 64])'.replace(";", ",") + ', ("a dog", (16; 16; 32; 64))',
}
READ = {
    "an apostrophe": ["a man's hat", "the dogs' bowl"],
    "curly quotes": ["a man’s hat", "a dog"],
    "other quotes": ["a hat", "a dog", "a cat", "a cup"],
    "no quotes": ["a big, brown hat", "a dog (small)"],
    "a line break": ["a hat of straw", "a dog"],
    "a backslash": [r"a cap with \o/ on it", "a dog"],
    "quotes inside": ['a "very" big hat', 'a "dog"'],
    "brackets inside": ["a smile :)", "a hat ('new')"],
    "numbers inside": ["a plate AB 12 34", "1, 2 or 3 cups"],
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("format", ["auto", "llm"])
def test_pairs_are_read_where_they_are_clear(name, format):
    regions = read_layout(PAIRS[name], format, 256, 128).regions
    assert [region.phrase for region in regions] == READ.get(name, ["a hat", "a dog"])
    assert {region.box for region in regions} == {(16 / 256, 16 / 128, 48 / 256, 80 / 128)}


GOOD = '("a", [1, 2, 30, 40])'
UNCLEAR = {
    "a box alone": f"{GOOD}, [5, 6, 70, 80]",
    "a box before its phrase": f'{GOOD}, ([5, 6, 70, 80], "b")',
    "no comma": f'{GOOD}, ("b" [5, 6, 70, 80])',
    "no bracket": f'{GOOD}, "b", [5, 6, 70, 80]',
    "a line beside": f"{GOOD}\nb: 5 6 70 80",
    "two phrases": f'{GOOD}, ("b", "c", [5, 6, 70, 80])',
    "a number after": f'{GOOD}, ("b", [5, 6, 70, 80], 0.9)',
    "no phrase": f"{GOOD}, (, [5, 6, 70, 80])",
    "no letters": f"{GOOD}, (12, [5, 6, 70, 80])",
    "a line break without quotes": f"{GOOD}, (b\nand c, [5, 6, 70, 80])",
    "a colon without quotes": f"{GOOD}, (b: [5, 6, 70, 80])",
    "an open quote": f'{GOOD}, ("b, [5, 6, 70, 80])',
    "no numbers": f'{GOOD}, ("b", [])',
    "no numbers before": f'("b", nowhere), {GOOD}',
    "three numbers": f'("b", [5, 6, 70]), {GOOD}',
    "three numbers without quotes": f"{GOOD}, (b, [5, 6, 70])",
    "three numbers before": f"(b, [5, 6, 70]), {GOOD}",
    "a number with a line in it": f'{GOOD}, ("b", [5, 6, 7_0, 8_0])',
    "cut off": f'{GOOD}, ("b", [5, 6, 7',
    "cut off in the box": f'{GOOD}, ("b", [5, 6, 70, 80',
    "units": f'{GOOD}, ("b", [5px, 6px, 70px, 80px])',
    "names": f'{GOOD}, ("b", [x=5, y=6, w=70, h=80])',
    "words": f'{GOOD}, ("b", [none, none, none, none])',
    "five numbers": f'{GOOD}, ("b", [5, 6, 70, 80, 1])',
    "JSON before": '[{"label": "a", "bbox": [1, 2, 30, 40]}] and ("b", [5, 6, 70, 80])',
    "JSON after": '("b", [5, 6, 70, 80])\n{"regions": []}',
    "a fence": '```json\n{"regions": []}\n```\n- b: [5, 6, 70, 80]',
}


@pytest.mark.parametrize("name", UNCLEAR)
@pytest.mark.parametrize("format", ["auto", "llm"])
def test_nothing_that_looks_like_a_box_is_passed_over(name, format):
    with pytest.raises(ValueError, match=r"(?s)item [12]|Beside the JSON") as refused:
        read_layout(UNCLEAR[name], format, 128, 128)
    assert "b" in str(refused.value) or "5, 6, 70, 80" in str(refused.value)


# Boxes as people, tools and models write them, none of which is read for certain.
BOXES = {
    "units": "a dog [10 px, 10 px, 50 px, 50 px]",
    "percent": "a dog 10 % 10 % 50 % 50 %",
    "points": "a dog [[10, 10], [50, 50]]",
    "floats of points": "a dog [[10. 10.] [50. 50.]]",
    "Qwen-VL's": "<ref>a dog</ref><box>(10,10),(50,50)</box>",
    "corners": "a dog (10,10),(50,50)",
    "a way": "a dog (10, 10) - (50, 50)",
    "wide commas": "a dog [10，10，50，50]",
    "wide digits": "狗１０、１０、５０、５０",
    "after a character": "狗10, 10, 50, 50",
    "after a letter": "dog10,10,50,50",
    "a table": "| a dog | 10 | 10 | 50 | 50 |",
    "slashes": "a dog 10/10/50/50",
    "names": "a dog x 10 y 10 w 50 h 50",
    "names together": "a dog x10 y10 w50 h50",
    "names in another order": "a dog w 50 x 10 y 10 h 50",
    "sides first": "a dog w 50 h 50 x 10 y 10",
    "names of corners": "a dog x1=10, y1=10, x2=50, y2=50",
    "named corners": "a dog top-left (10, 10), bottom-right (50, 50)",
    "attributes": '<rect x="5" y="6" width="70" height="80">',
    "no JSON": "dog = {left: 10, top: 10, right: 50, bottom: 50}",
    "lines": "a dog [10\n10\n50\n50]",
    "YAML": "- label: a dog\n  box:\n    - 10\n    - 10\n    - 50\n    - 50",
    "names in YAML": "a dog\n  x: 10\n  y: 10\n  width: 50\n  height: 50",
    "one missing": "a dog [10, 10, , 50, 50]",
    "pixels": "a dog 10 pt, 10 pixels, 50 pixel, 50 Pixels",
    "percents": "a dog 10 percent 10 percent 50 percent 50 percent",
    "other names": "a dog xmin=10; y_min=10; x-max=50; ymax=50",
    "names of a middle": "a dog cx 10 cy 10 width 50 height 50",
    "long names of a middle": "a dog xcenter 10 y_centre 10 w 50 h 50",
    "a price list in brackets": "a dog [€10, £10, ¥50, $50]",
    "other minus": "a dog [−10, −10, 50, 50]",
    "dollars": "a dog [$10, $10, $50, $50]",
    "marked": "a dog **10**, **10**, **50**, **50**",
    "in a list": "1. 10 10 50 50",
}
JSON_GOOD = '[{"label": "a", "bbox": [1, 2, 30, 40]}]'


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("good", [GOOD, JSON_GOOD], ids=["pairs", "JSON"])
def test_no_box_beside_a_layout_is_passed_over(good, name):
    for text in (f"{good}\n{BOXES[name]}", f"{BOXES[name]}\n{good}", f"So: {good} and {BOXES[name]}."):
        with pytest.raises(ValueError, match="looks like a region|looks like a box") as refused:
            read_layout(text, "auto", 128, 128)
        assert "10" in str(refused.value) or "１０" in str(refused.value) or "70" in str(refused.value)
    with pytest.raises(ValueError, match="should read|should have|two boxes"):
        read_layout(f"{BOXES[name]}: 1 2 30 40", "lines", 128, 128)


PROSE = (
    "The picture has 1024 x 1024 pixels, or 512x512.",
    "At 1024×1024 (1:1), 30 steps, cfg 7.5",
    "1024×768, or 512×512",
    "1024 × 768 × 3, 2 of them",
    "Sizes: 512px x 512px, 64px x 64px",
    "Width: 1024, height: 1024 (1024x1024), 1:1.",
    "In 2024, 3 cats and 2 dogs; 2021, 2022, 2023 and 2024",
    "A box is [x1, y1, x2, y2], from 0, 0 (top left) to 1, 1 (bottom right), all in [0, 1).",
    "It cost $1,200, $1,500; others $10, $12, $15, $20 and more",
    "Made 2013-11-14 17:02:52, 2024/01/05 12:30",
    "See pages 10-20, 30-40, and 1990–1995, 2000–2005",
    "Ratios 16:9, 4:3, f/2.8, 1/200 s, ISO 100",
    "1. 2 cats\n2. 3 dogs\n3. 1 hat",
    "1) width: 1024, height: 1024\n\n2) 2 cats",
    "http://example.org/2017/10/12/5/6.png and scene_1_2_3_4.png",
    "Saved in 2017/10/12/5/a.png",
    "Version 1.2.3.4, colours #112233, #445566",
    "A crowd of 1,000,000 people; 4 dogs",
    "Three quarters (3/4) of 5/6, 7/8",
    "At €10, €12, €15, €20 or £1, £2, £3, £4 or ¥1, ¥2, ¥3, ¥4",
    "    1) 2, 3, 4 cats\n    2) 3, 4, 5 dogs",
    "Tell me [or not] if {you} want 2 more [1].",
)


@pytest.mark.parametrize("words", PROSE)
@pytest.mark.parametrize("good", [GOOD, JSON_GOOD], ids=["pairs", "JSON"])
def test_numbers_in_prose_are_no_boxes(good, words):
    for text in (f"{words}\n\n{good}", f"{good}\n{words}", f"{words}: {good}\n\n{words}"):
        regions = read_layout(text, "auto", 128, 128).regions
        assert [region.box for region in regions] == [(1 / 128, 2 / 128, 31 / 128, 42 / 128)]


def test_numbers_on_both_sides_of_a_layout_are_not_four():
    for good in (GOOD, JSON_GOOD):
        assert read_layout(f"With 10, 20: {good}; 30, 40", "auto", 128, 128).regions


def test_an_unclear_pair_is_named_by_its_line():
    text = 'One:\n("a", [1, 2, 30, 40])\n\nTwo:\n("b\n or c" [5, 6, 70, 80])'
    with pytest.raises(ValueError, match=r"item 2 \(line 6\)"):
        read_layout(text, "llm", 128, 128)


BOX_BESIDE = {
    "a box beside regions": '{"annos": [], "bbox": [1, 2, 3, 4]}',
    "objects beside regions": '{"segment": [], "others": [{"label": "a", "bbox": [1, 2, 3, 4]}]}',
    "four numbers": '{"instances": [], "more": {"a": [1, 2, 3, 4]}}',
    "corners": '{"annotations": [], "categories": [], "more": {"x0": 1}}',
    "beside a list of layouts": '{"results": [{"segment": []}], "b": {"bbox": [1, 2, 3, 4]}}',
    "among a list of layouts": '[{"segment": []}, {"label": "b", "bbox": [1, 2, 3, 4]}]',
    "among layouts": '{"0": {"segment": []}, "b": {"label": "b", "bbox": [1, 2, 3, 4]}}',
    "beside an llm's list": '{"objects": [{"label": "a", "bbox": [1, 2, 3, 4]}], "b": {"bbox": [1, 2, 3, 4]}}',
    "beside elements": '{"elements": [{"desc": "a", "bbox": [1, 2, 3, 4]}], "b": {"bbox": [1, 2, 3, 4]}}',
    "beside a JSON prompt": '{"compositional_deconstruction": {"elements": []}, "elements": [{"bbox": [1, 2, 3, 4]}]}',
    "two in one": '[{"label": "a", "bbox": [1, 2, 3, 4], "box_2d": [1, 2, 3, 4]}]',
}


@pytest.mark.parametrize("name", BOX_BESIDE)
@pytest.mark.parametrize("index", [None, 0])
def test_a_box_beside_the_layout_is_refused(name, index):
    with pytest.raises(ValueError, match="would be lost|is none|Keep the one that holds|different formats"):
        read_layout(BOX_BESIDE[name], index=index)


# form -> (its format, one entry that is whole, and how it is written)
ENTRIES = {
    "instancediffusion": ("auto", {"caption": "a", "bbox": [1, 2, 30, 40]}, lambda entry: {"annos": [entry]}),
    "coco": (
        "auto",
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "segmentation": [[1, 2, 3, 4]], "area": 9},
        lambda entry: {"annotations": [entry], "categories": [{"id": 1, "name": "a"}]},
    ),
    "deig-bench": (
        "auto",
        {"description": "a", "bbox": [0, 0, 0.5, 1]},
        lambda entry: {"instances": [entry]},
    ),
    "mig-bench": ("auto", {"label": "a", "bbox": [0, 0, 0.5, 1]}, lambda entry: {"segment": [entry]}),
    "elements": ("auto", {"desc": "a", "bbox": [0, 0, 500, 900]}, lambda entry: {"elements": [entry]}),
    "canvas": ("auto", canvas_box("a", 1, 2, 30, 40), lambda entry: [entry]),
    "gemini": ("auto", {"label": "a", "box_2d": [0, 0, 500, 900]}, lambda entry: [entry]),
    "qwen": ("qwen-1000", {"label": "a", "bbox_2d": [0, 0, 500, 900]}, lambda entry: [entry]),
    "llm": ("auto", {"label": "a", "bbox": [1, 2, 30, 40]}, lambda entry: {"objects": [entry]}),
    "llm, names": ("auto", {"label": "a", "x1": 1, "y1": 2, "x2": 30, "y2": 40}, lambda entry: [entry]),
    "llm, named inside": (
        "auto",
        {"label": "a", "box": {"left": 1, "top": 2, "right": 30, "bottom": 40}},
        lambda entry: {"objects": [entry]},
    ),
    "deig": ("auto", {"phrase": "a", "box": [0, 0, 0.5, 1]}, lambda entry: {"regions": [entry]}),
}
MORE_BOXES = {
    "parts": {"parts": [{"label": "a hat", "bbox": [1, 2, 3, 4]}]},
    "a child": {"children": [[{"hat": [1, 2, 3, 4]}]]},
    "another word": {"boxes": [[1, 2, 3, 4]]},
    "a word for it": {"bounding_box": "somewhere"},
    "four numbers": {"more": [1, 2, 3, 4]},
    "numbers as text": {"more": ["1", "2", "3px", "4"]},
    "two points": {"more": [[1, 2], [3, 4]]},
    "corners": {"dog": {"left": 1, "top": 2, "right": 30, "bottom": 40}},
    "corners as text": {"dog": {"xmin": "1", "ymin": "2", "xmax": "30", "ymax": "40"}},
    "a middle": {"dog": {"cx": 1, "cy": 2, "w": 30, "h": 40}},
    "capitals": {"dog": {"X": 1, "Y": 2, "Width": 30, "Height": 40}},
    "text": {"note": "a dog at [10, 10, 50, 50]"},
    "text in a list": {"notes": ["a cat", "a dog x=10 y=10 w=50 h=50"]},
    "names": {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4},
}
NO_MORE_BOXES = {
    "null": {"bounding_box": None, "boxes": [], "parts": None, "children": []},
    "words": {
        "left": "a cup",
        "right": "a dog",
        "id": 3,
        "score": 0.9,
        "tags": ["a", "b"],
        "attributes": {"rotation": 0.0},
    },
    "colours": {"fill_color": [255, 0, 0, 255], "colours": ["#102030"]},
    "a date": {"date_captured": "2013-11-14 17:02:52", "file_name": "a 1 2 3 4.png", "licence": 3},
    "a shape": {"segmentation": {"size": [9, 9], "counts": "0:1;2=3<4>5"}, "keypoints": [1, 2, 2, 3]},
    "other text": {"title": "1, 2, 3, 4 and 5", "note": "at 1024x1024, 30 steps"},
}


@pytest.mark.parametrize("more", MORE_BOXES)
@pytest.mark.parametrize("form", ENTRIES)
def test_a_second_box_in_an_entry_is_refused(form, more):
    format, entry, around = ENTRIES[form]
    alone = read_layout(json.dumps(around(entry)), format, 128, 128)
    assert len(alone.regions) == 1
    with pytest.raises(ValueError, match=r"\[0\].* (would be lost|Keep the one that holds|is not one of)"):
        read_layout(json.dumps(around(entry | MORE_BOXES[more])), format, 128, 128)
    data = around(entry)
    data = {"objects": data} if isinstance(data, list) else data
    with pytest.raises(ValueError):
        read_layout(json.dumps(data | MORE_BOXES[more]), format, 128, 128)


def test_two_boxes_of_an_entry_are_named_both():
    """Neither is more the box than the other, so that neither is called the one that would be lost."""
    entry = {"label": "a", "bbox": [100, 100, 200, 200], "box": [100, 100, 200, 300]}
    with pytest.raises(ValueError, match=r"item\[0\] has bbox and box\. Keep the one that holds"):
        read_layout(json.dumps([entry]))


@pytest.mark.parametrize("more", NO_MORE_BOXES)
@pytest.mark.parametrize("form", [form for form in ENTRIES if form != "deig"])
def test_what_is_no_box_in_an_entry_is_passed_over(form, more):
    format, entry, around = ENTRIES[form]
    alone = read_layout(json.dumps(around(entry)), format, 128, 128)
    assert (
        read_layout(json.dumps(around(NO_MORE_BOXES[more] | entry)), format, 128, 128).regions
        == alone.regions
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"annos": [{"caption": "a", "bbox": null, "box": [1, 2, 3, 4], "point": [5, 5]}]}',
        '[{"label": "a", "bbox": [1, 2, 3, 4], "x": 5, "y": 6, "width": 7, "height": 8}]',
        '[{"label": "a", "box": {"x": 1, "y": 2, "w": 3, "h": 4, "x1": 7, "y1": 8}}]',
        json.dumps(
            [{"x": 0, "y": 0, "width": 9, "height": 9, "metadata": {"desc": "a", "bbox": [1, 2, 3, 4]}}]
        ),
        '{"0": {"segment": []}, "note": "a dog at [10, 10, 50, 50]"}',
        '{"results": [{"segment": []}], "note": "a dog at [10, 10, 50, 50]"}',
        '{"compositional_deconstruction": {"elements": []}, "style_description": {"lens": {"bbox": [1, 2, 3, 4]}}}',
    ],
)
def test_a_box_in_another_place_is_refused(text):
    with pytest.raises(ValueError, match="would be lost|is none"):
        read_layout(text, "auto", 128, 128)


@pytest.mark.parametrize(
    "text",
    ["a cup: 0 0 64 64", "[('a cup', [0, 0, 64, 64])]", '[{"label": "a cup", "bbox": [0, 0, 64, 64]}]'],
)
def test_loose_text_is_one_layout(text):
    assert read_layout(text, index=0).regions[0].phrase == "a cup"
    with pytest.raises(ValueError, match="There is no layout 3: the text holds one layout"):
        read_layout(text, index=3)


def test_a_category_may_be_listed_again():
    text = coco([1], [(1, 100)], categories=[{"id": 1, "name": "a cat"}, {"id": 1, "name": "a cat"}])
    assert [region.phrase for region in read_layout(text, "coco").regions] == ["a cat"]


@pytest.mark.parametrize(
    "names, numbers",
    [
        ("x y width height", (16, 32, 48, 64)),
        ("x y w h", (16, 32, 48, 64)),
        ("x0 y0 x1 y1", (16, 32, 64, 96)),
        ("x1 y1 x2 y2", (16, 32, 64, 96)),
        ("xmin ymin xmax ymax", (16, 32, 64, 96)),
        ("left top right bottom", (16, 32, 64, 96)),
    ],
)
@pytest.mark.parametrize("key", [None, "box", "bbox"])
def test_the_names_of_four_numbers_say_what_they_are(names, numbers, key):
    named = dict(zip(names.split(), numbers, strict=True))
    (region,) = read_layout(
        json.dumps([{"label": "a", **(named if key is None else {key: named})}]), "llm", 128, 128
    ).regions
    assert region.box == (0.125, 0.25, 0.5, 0.75)


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
def test_json_in_prose_begins_however_it_is_set(indent):
    data = {"prompt": "a shelf", "objects": [{"label": "a cup", "bbox": [0, 0, 64, 64]}]}
    text = f"Here it is: {json.dumps(data, indent=indent).replace('{', '{ ')}\nTell me what to change."
    layout = read_layout(text, "auto", 128, 128)
    assert layout.prompt == "a shelf" and layout.regions[0].box == (0, 0, 0.5, 0.5)


def test_a_side_alone_within_a_layout_is_no_size():
    """A line has a width and a shelf a height; only both together may be another picture's size."""
    text = (
        '{"annos": [{"caption": "a", "bbox": [0, 0, 64, 64]}], "line": {"width": 3}, "shelf": {"height": 9}}'
    )
    assert read_layout(text, "auto", 128, 128).regions[0].box == (0, 0, 0.5, 0.5)


def test_what_is_read_as_words_may_hold_numbers():
    text = {
        "high_level_description": "1, 2, 3, 4",
        "style_description": {"photo": "lenses 24, 35, 50, 85", "color_palette": ["#102030"] * 4},
        "compositional_deconstruction": {
            "background": "5, 6, 7, 8",
            "elements": [element("9, 1, 2, 3", 0, 0, 9, 9)],
        },
    }
    read = read_layout(json.dumps(text))
    assert read.prompt == "1, 2, 3, 4, 5, 6, 7, 8, lenses 24, 35, 50, 85"
    assert read.regions[0].phrase == "9, 1, 2, 3"
    for form in WRITABLE:
        layout = Layout((Region("1, 2, 3, 4", (0, 0, 0.5, 1)),), "5, 6, 7, 8")
        read = read_layout(write_layout(layout, form))
        assert read.prompt == layout.prompt and read.regions[0].phrase == "1, 2, 3, 4"


def test_broken_json_between_words_is_not_read_in_part():
    """Its inner list, alone, would be scaled by the node's size, and the prompt would be gone."""
    whole = '{"width": 1024, "height": 1024, "prompt": "a shelf", "objects": [{"label": "a", "bbox": [0, 0, 512, 512]}]'
    for text in (whole, f"Here: {whole}", f"Here: {whole} and so on", f"```json\n{whole}\n```"):
        with pytest.raises(ValueError, match="JSON breaks off at line"):
            read_layout(text)
    assert read_layout(f"Here: {whole}}} and so on").regions[0].box == (0, 0, 0.5, 0.5)


ENTRY = '{"label": "a", "bbox": [0, 0, 512, 512]}'
BROKEN = {
    "names without quotes": f'{{width: 1024, height: 1024, "prompt": "a shelf", "objects": [{ENTRY}]}}',
    "single quotes": f"{{'width': 1024, 'height': 1024, \"objects\": [{ENTRY}]}}",
    "curly quotes": f"{{“width”: 1024, “height”: 1024, “objects”: [{ENTRY}]}}",
    "a comment": f'{{// mine\n"width": 1024, "height": 1024, "objects": [{ENTRY}]}}',
    "another comment": f'{{ # mine\n"width": 1024, "height": 1024, "objects": [{ENTRY}]}}',
    "a program": f"const layout = {{width: 1024, height: 1024, objects: [{ENTRY}]}};",
    "a brace lost at the start": f'"width": 1024, "height": 1024, "objects": [{ENTRY}]}}',
    "a bracket lost at the start": f'"a shelf", {{"width": 1024, "height": 1024, "objects": [{ENTRY}]}}]',
    "a list of more": f'[1024, {{"a", 1024}}, {ENTRY}]',
    "one entry": f'["a shelf" {ENTRY}]',
    "not closed": f"[1024 x 1024, {ENTRY}",
    "an open brace around": f"{{width: 1024 (of 2048), height: 1024: {ENTRY}",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "around", ["{}", "Here: {}", "So: {} and so on", "```json\n{}\n```", "```\n// mine\n{}\n```"]
)
def test_no_part_of_something_broken_is_read_alone(name, around):
    with pytest.raises(ValueError, match="inside something broken, at .|JSON breaks off"):
        read_layout(around.replace("{}", BROKEN[name]))


FENCED = f"```json\n[{ENTRY}]\n```"


@pytest.mark.parametrize(
    "more",
    ['{"regions": [{"phrase": "b", "point": [0.5, 0.5]}]}', '[{"label": "b", "place": "left"}]', '{"a": 1}'],
)
def test_json_beside_a_fence_is_counted(more):
    for text in (f"{FENCED}\nand {more}", f"{more}\n{FENCED}", f'As {{"label", "bbox"}}: {more}.\n{FENCED}'):
        with pytest.raises(ValueError, match="2 pieces of JSON"):
            read_layout(text, "auto", 1024, 1024)
    words = 'Each is {"label": ..., "bbox": [x, y, w, h]}, or {"label".\n'
    assert len(read_layout(words + FENCED + words, "auto", 1024, 1024).regions) == 1


@pytest.mark.parametrize(
    "words",
    [
        "Everything in [0, 1) or (0, 1]",
        "a) the {first} [of (two)]",
        "1] what :] you ;} want :)",
        "(see {below} [or (above)]",
        "Well:) [here (it) is] {now}",
    ],
)
def test_brackets_in_prose_are_no_json(words):
    for text in (f"{words}: [{ENTRY}]", f"{words}: {ENTRY}. {words.removeprefix('1]')}"):
        assert read_layout(text, "auto", 1024, 1024).regions[0].box == (0, 0, 0.5, 0.5)


def coco(image_ids, sides, **more):
    annotations = [{"image_id": id, "category_id": 1, "bbox": [0, 0, 50, 50]} for id in image_ids]
    if image_ids == "none":
        annotations = [{"category_id": 1, "bbox": [0, 0, 50, 50]}]
    images = [{"id": id, "width": side, "height": side} for id, side in sides]
    return json.dumps(
        {"annotations": annotations, "images": images, "categories": [{"id": 1, "name": "a"}]} | more
    )


@pytest.mark.parametrize(
    "image_ids, images, part",
    [
        ([1], [(1, 100)], 50 / 100),
        ([1], [("1", 100)], 50 / 100),
        (["1"], [(1, 100)], 50 / 100),
        (["1"], [(1, 100), (2, 200)], 50 / 100),
        (["1", 1], [(1, 100), ("2", 200)], 50 / 100),
        (["2", 2, 2.0], [(1, 100), ("2", 200)], 50 / 200),
        (["0", 0], [(0, 100), (1, 200)], 50 / 100),
        (["10"], [(1, 100), (10, 200)], 50 / 200),
        (["07", "07"], [(7, 100), ("07", 200)], 50 / 200),
        ("none", [(7, 100)], 50 / 100),
        ([3, 3], [(1, 100)], 50 / 100),
        ([2], [(1, 100), (2, 200)], 50 / 200),
        ([2], [], 50 / 400),
    ],
)
def test_a_coco_image_gives_its_size(image_ids, images, part):
    regions = read_layout(coco(image_ids, images), "auto", 400, 400).regions
    assert len(regions) == (1 if image_ids == "none" else len(image_ids))
    assert {region.box for region in regions} == {(0, 0, part, part)}


def test_an_image_of_a_coco_file_is_chosen():
    """Those that have annotations, in the file's order of images, each with its size and what belongs to it."""
    text = coco([7, 3, 7], [(3, 100), (5, 300), (7, 200)])
    for format in ("auto", "coco"):
        boxes = [
            [region.box for region in read_layout(text, format, 400, 400, index).regions] for index in (0, 1)
        ]
        assert boxes == [[(0, 0, 0.5, 0.5)], [(0, 0, 0.25, 0.25)] * 2]
        for index in (2, -1, 10**9):
            with pytest.raises(ValueError, match="There is no layout .*holds 2 images, 0 to 1"):
                read_layout(text, format, 400, 400, index)
        with pytest.raises(ValueError, match="holds 2 images. Choose one with index, 0 to 1"):
            read_layout(text, format, 400, 400)
    mixed = coco([7, "3", "7"], [("3", 100), (7, 200)])
    assert [len(read_layout(mixed, index=index).regions) for index in (0, 1)] == [1, 2]
    backwards = coco([3, 7, 7], [(7, 200), (3, 100)])  # neither by number nor by what is annotated first
    assert [len(read_layout(backwards, index=index).regions) for index in (0, 1)] == [2, 1]
    without_images = coco([7, 3], [])
    assert read_layout(without_images, index=1, width=100, height=100).regions[0].box == (0, 0, 0.5, 0.5)
    with pytest.raises(ValueError, match="Layout 1: None of the 2 images has the id of the annotations, 9"):
        read_layout(coco([9, 3], [(3, 100), (5, 300)]), index=1)


@pytest.mark.parametrize(
    "text, told",
    [
        (coco([3], [(1, 100), (2, 200)]), "None of the 2 images has the id of the annotations, 3"),
        (coco(["01"], [(1, 100), (2, 200)]), "None of the 2 images has the id of the annotations, '01'"),
        (coco([1], [(1, 100), ("1", 200)]), "2 of the 2 images have the id"),
        (coco("none", [(1, 100), (2, 200)]), "None of the 2 images has the id"),
        (coco([1], [(1, 100), (1, 200)]), "2 of the 2 images have the id"),
        (coco([[1]], [(1, 100)]), r"annotations\[0\].image_id should be a number"),
        (coco([1], [({}, 100)]), r"images\[0\].id should be a number"),
        (
            coco([1], [], images=[{"id": 1, "width": 100}]),
            r"images\[0\] gives the picture's width, but no height",
        ),
        (
            coco([1], [], categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
            r"categories\[1\] has the id 1",
        ),
        ('{"annos": [], "width": 100}', "gives the picture's width, but no height"),
        ('{"annos": [], "image_height": 100}', "gives the picture's image_height, but no image_width"),
        (
            '{"annos": [], "height": 1, "width": 1, "img_height": 1, "img_width": 2}',
            "two sizes .* by width and by img_",
        ),
        ('{"annos": [], "image": {"height": 100, "width": 90}}', "a width and a height within 'image'"),
        ('{"annos": [], "height": 100}', "gives the picture's height, but no width"),
        ('{"objects": [{"label": "a", "bbox": [0, 0, 9, 9]}], "height": 100}', "height, but no width"),
    ],
)
def test_a_size_that_is_not_known_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        read_layout(text, "auto", 400, 400)


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"regions": [{"phrase": "a", "phrase": "b", "box": [0, 0, 1, 1]}]}', "'phrase' twice"),
        ('{"regions": [], "regions": []}', "'regions' twice"),
        ('[{"phrase": "a", "box": [0, 0, 1, 1], "mask": 0}]', "mask should be a mask"),
        ('[{"phrase": "a", "box": [0, 0, 1, 1], "mask": ""}]', "mask should be a mask"),
        ('[{"phrase": "a", "box": [0, 0, 1, 1], "scribble": {}}]', "scribble should be a list"),
        ('[{"phrase": "a", "box": [0, 0, 1, 1], "point": false}]', "point should be 2 numbers"),
        ('[{"label": "a", "bbox": [0, 0, 1, 1], "strength": "2"}]', "strength should be a number"),
        (
            '[{"label": "a", "box_2d": [0, 0, 1, 1], "mask": "data:image/png;base64,"}]',
            "mask is a picture as text",
        ),
        (
            '[{"label": "a", "bbox_2d": [0, 0, 900, 1000.5]}]',
            "in pixels .* or in 0 to 1000, and nothing here tells",
        ),
        ('[{"label": "a", "bbox_2d": [0, 0, 100, 100]}]', "Set the format of .*: qwen-1000.*now 512 x 512"),
        (
            '[{"label": "a", "bbox": [0, 0, 9, 9]}, {"label": "b", "bbox_2d": [0, 0, 100, 100]}]',
            "item.0..bbox_2d should be",
        ),
        (
            '[{"x": 0, "y": 0, "width": 9, "height": 9, "metadata": {"desc": ""}}]',
            "says nothing of what is there",
        ),
        ('[{"x": 0, "y": 0, "width": 9, "height": 9, "metadata": 3}]', "metadata should be an object"),
        ('[{"desc": "", "bbox": [0, 0, 9, 9]}]', "needs a phrase"),
        ('{"compositional_deconstruction": []}', "should be an object with elements"),
        (
            '{"compositional_deconstruction": {"elements": []}, "style_description": 3}',
            "style_description should be",
        ),
    ],
)
def test_what_would_be_dropped_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        read_layout(text)


@pytest.mark.parametrize("whose", ["", "image_", "img_", "canvas_"])
@pytest.mark.parametrize("form", ["instancediffusion", "llm"])
def test_the_pictures_size_is_read_by_all_its_names(form, whose):
    key, phrase = ("annos", "caption") if form == "instancediffusion" else ("objects", "label")
    layout = {
        f"{whose}width": 1024,
        f"{whose}height": 2048,
        key: [{"bbox": [512, 512, 512, 512], phrase: "a cup"}],
    }
    read = read_layout(json.dumps(layout))
    assert read.regions == (Region("a cup", (0.5, 0.25, 1, 0.5)),) and (read.width, read.height) == (
        1024,
        2048,
    )


def test_qwens_pixels_are_told_by_numbers_beyond_a_thousand():
    text = '[{"label": "a", "bbox_2d": [0, 0, 700, 1050]}, {"label": "b", "bbox_2d": [70, 0, 140, 210]}]'
    a, b = read_layout(text, "auto", 1400, 2100).regions
    assert a.box == (0, 0, 0.5, 0.5) and b.box == pytest.approx((0.05, 0, 0.1, 0.1))
    with pytest.raises(ValueError, match="outside the image"):
        read_layout(text, "auto", 1000, 1000)


def test_elements_are_read_as_the_host_reads_them():
    """Corners may run backwards, letters go before the description, and one element needs no list."""
    sign = {
        "type": "text",
        "text": "OPEN",
        "bbox": [600, 400, 200, 100],
        "desc": "in red",
        "color_palette": ["#f00"],
    }
    for text in (json.dumps(sign), json.dumps([sign]), json.dumps({"elements": [sign]})):
        (region,) = read_layout(text).regions
        assert region.phrase == 'the text "OPEN", in red'
        assert region.box == (100 / 1000, 200 / 1000, 400 / 1000, 600 / 1000)
    backwards = {"x": 320, "y": 240, "width": -160, "height": -120, "label": "a cup", "metadata": None}
    (region,) = read_layout(json.dumps(backwards), "canvas", WIDTH, HEIGHT).regions
    assert region == Region("a cup", (0.25, 0.25, 0.5, 0.5))


PALETTES = {
    "elements": lambda palette: json.dumps([element("a cup", 0, 0, 500, 500) | {"color_palette": palette}]),
    "canvas": lambda palette: json.dumps(
        [{"x": 0, "y": 0, "width": 9, "height": 9, "metadata": {"desc": "a cup", "palette": palette}}]
    ),
}


@pytest.mark.parametrize("form", PALETTES)
@pytest.mark.parametrize("named", [True, False], ids=["named", "auto"])
def test_a_palettes_colours_are_words_only_if_asked(form, named):
    write, format = PALETTES[form], form if named else "auto"

    def phrase(palette, colours):
        return read_layout(write(palette), format, colours=colours).regions[0].phrase

    red_and_blue = ["#ff0000", "#001f3f"]
    assert phrase(red_and_blue, False) == "a cup" and phrase("no list", False) == "a cup"
    assert phrase(red_and_blue, True) == "a cup, in red and navy blue"
    assert phrase([], True) == phrase(None, True) == "a cup"
    for palette, told in (
        ("no list", "should be a list of colours"),
        (["red"], "'red' is not written #rrggbb"),
        (["red" * 100_000], "'redred.{,80} is not written #rrggbb"),
        ([["red"] * 100_000], r"\['red', .{,80} is not written #rrggbb"),
        ("red" * 100_000, "should be a list of colours, but it is 'redred"),
        ({"red": ["red"] * 100_000}, r"should be a list of colours, but it is {'red': \['red'"),
    ):
        with pytest.raises(ValueError, match=rf"\[0\], its palette.*{told}") as refused:
            phrase(palette, True)
        assert len(str(refused.value)) < 200


MANY = {
    "a list": lambda layouts: layouts,
    "by name": lambda layouts: {str(index): layout for index, layout in enumerate(layouts)},
    "under a name": lambda layouts: {"version": 3, "results": layouts},
}


@pytest.mark.parametrize("way", MANY)
@pytest.mark.parametrize("form", ["deig-bench", "mig-bench", "instancediffusion", "deig"])
def test_one_layout_of_many_is_chosen(form, way):
    def layout(index):
        regions = (Region(f"thing {index}", (0, 0, (index + 1) / 8, 1)),)
        return json.loads(write_layout(Layout(regions, f"prompt {index}"), form))

    text = json.dumps(MANY[way]([layout(index) for index in range(5)]))
    for index in range(5):
        for format in ("auto", form):
            read = read_layout(text, format, index=index)
            assert read.prompt == f"prompt {index}"
            assert [region.phrase for region in read.regions] == [f"thing {index}"]
            assert read.regions[0].box == (0, 0, (index + 1) / 8, 1)
    for index in (5, -1, 10**9):
        with pytest.raises(ValueError, match="holds 5 layouts, 0 to 4"):
            read_layout(text, index=index)
    with pytest.raises(ValueError, match="holds 5 layouts. Choose one with index, 0 to 4"):
        read_layout(text)


@pytest.mark.parametrize("form", FORMS)
def test_a_single_layout_has_the_index_0(form):
    format, grid, write = FORMS[form]
    text = write([("the ground", [0, 0, *grid])])
    for name in (format, "lines") if form == "lines" else (format,):
        assert (
            read_layout(text, name, WIDTH, HEIGHT, 0).regions
            == read_layout(text, name, WIDTH, HEIGHT).regions
        )
        with pytest.raises(ValueError, match="There is no layout 1: the text holds one layout"):
            read_layout(text, name, WIDTH, HEIGHT, 1)


def test_errors_in_one_of_many_say_which():
    text = '[{"segment": []}, {"segment": [{"label": "a", "bbox": [0, 0, 2, 1]}]}]'
    with pytest.raises(ValueError, match=r"Layout 1: segment\[0\]: .*outside"):
        read_layout(text, index=1)
    assert read_layout(text, index=0).regions == ()


def test_a_deig_bench_prompt_is_its_descriptions():
    """As the reference's evaluation makes it; the entry's caption is the COCO picture's."""
    instances = [
        {"category": "c", "bbox": [0, 0, 1, 1], "description": words} for words in ("a red cup", "a dog")
    ]
    entry = {"image_id": 1, "file_name": "1.jpg", "caption": "people on skis", "instances": instances}
    assert read_layout(json.dumps({"results": [entry]})).prompt == "a red cup, a dog"
    assert read_layout(json.dumps(entry | {"prompt": "a shelf"})).prompt == "a shelf"
    assert read_layout(json.dumps(entry | {"prompt": ""})).prompt == ""


# The two of InstanceDiffusion's twelve demo files that need it have such boxes: x to 1.49, and no area.
BEYOND = [[0, 228, 763, 125], [0, 512, 0, 0], [-50, -50, 100, 100], [600, 0, 10, 10], [10, 10, 20, 20]]
CUT = [(0, 228, 512, 353), None, (0, 0, 50, 50), None, (10, 10, 30, 30)]


def beyond(form):
    entries = [(f"thing {index}", box) for index, box in enumerate(BEYOND)]
    match form:
        case "instancediffusion":
            annos = [{"caption": phrase, "bbox": box} for phrase, box in entries]
            return json.dumps({"width": 512, "height": 512, "annos": annos})
        case "coco":
            annotations = [{"category_id": index, "bbox": box} for index, box in enumerate(BEYOND)]
            names = [{"id": index, "name": phrase} for index, (phrase, _) in enumerate(entries)]
            return json.dumps({"annotations": annotations, "categories": names})
        case "llm":
            return json.dumps([{"label": phrase, "bbox": box} for phrase, box in entries])
        case "pairs":
            return str(entries)
    corners = [(phrase, [x, y, x + w, y + h]) for phrase, (x, y, w, h) in entries]
    match form:
        case "qwen-pixels":
            return json.dumps([{"label": phrase, "bbox_2d": box} for phrase, box in corners])
        case "lines":
            return "\n".join(f"{phrase}: {box}" for phrase, box in corners)
        case "canvas":
            return json.dumps([canvas_box(phrase, *box) for phrase, box in corners])
        case "elements":
            return json.dumps(
                [element(phrase, *(edge * 1000 / 512 for edge in box)) for phrase, box in corners]
            )
        case "gemini":
            grid = [(phrase, [box[at] * 1000 / 512 for at in (1, 0, 3, 2)]) for phrase, box in corners]
            return json.dumps([{"label": phrase, "box_2d": box} for phrase, box in grid])
        case "qwen-1000":
            grid = [(phrase, [edge * 1000 / 512 for edge in box]) for phrase, box in corners]
            return json.dumps([{"label": phrase, "bbox_2d": box} for phrase, box in grid])
    fractions = [(phrase, [edge / 512 for edge in box]) for phrase, box in corners]
    match form:
        case "deig":
            return json.dumps({"regions": [{"phrase": phrase, "box": box} for phrase, box in fractions]})
        case "deig-bench":
            return json.dumps(
                {"instances": [{"description": phrase, "bbox": box} for phrase, box in fractions]}
            )
        case "mig-bench":
            return json.dumps({"segment": [{"label": phrase, "bbox": box} for phrase, box in fractions]})
        case "lines, fractions":
            return "\n".join(f"{phrase}: {box}" for phrase, box in fractions)


EDGED = ("deig", "instancediffusion", "coco", "deig-bench", "mig-bench", "elements", "canvas", "qwen-pixels")
EDGED += ("qwen-1000", "gemini", "llm", "lines", "lines, fractions", "pairs")


@pytest.mark.parametrize("form", EDGED)
def test_edges_outside_the_picture_are_refused_or_cut(form):
    format = form if form.startswith("qwen") else "auto"
    with pytest.raises(ValueError, match="outside the image|neither all fractions nor all pixels|no area"):
        read_layout(beyond(form), format, 512, 512)
    layout = read_layout(beyond(form), format, 512, 512, edges="clip")
    kept = [(f"thing {index}", box) for index, box in enumerate(CUT) if box]
    assert [region.phrase for region in layout.regions] == [phrase for phrase, _ in kept]
    for region, (_, box) in zip(layout.regions, kept, strict=True):
        assert region.box == pytest.approx([edge / 512 for edge in box], abs=1e-9)
    assert layout.report.startswith("2 boxes were cut at the picture's edge; 2 without area")


def test_there_are_two_ways_with_edges():
    with pytest.raises(ValueError, match="edges is 'wrap'"):
        read_layout("a: 0 0 1 1", edges="wrap")


def masked(size, counts):
    return {"phrase": "a", "box": [0, 0, 1, 1], "mask": {"size": size, "counts": counts}}


def test_masks_of_a_layout_are_limited_together():
    """16 masks of 8192 x 8192 in a kilobyte of text took 4 GB; each alone is in bounds."""
    whole = masked([8192, 8192], [0, 8192 * 8192])
    assert len(json.dumps([whole] * 16)) < 2000
    with pytest.raises(
        ValueError, match=f"have {16 * 8192 * 8192} pixels together; {MOST_PIXELS_IN_ALL} are the most"
    ):
        read_layout(json.dumps([whole] * 16))
    most = MOST_PIXELS_IN_ALL // 8192**2
    regions = read_layout(json.dumps([whole] * most)).regions
    held = sum(region.mask.runs.nbytes for region in regions)
    assert len(regions) == most and held < 1000, "kept as run lengths until they are used"
    assert all(region.mask.bounding_box() == (0, 0, 1, 1) for region in regions)


@pytest.mark.parametrize("size", [[2.9, 4], [2, 4.5], [1e-3, 8], [True, 8], ["2", 4]])
def test_a_mask_has_whole_numbers_of_pixels(size):
    with pytest.raises(ValueError, match=r"regions\[0\].mask.size"):
        read_layout(json.dumps([masked(size, [0, 8])]))
    assert read_layout(json.dumps([masked([2.0, 4], [0, 8])])).regions[0].mask.size == (2, 4)


@settings(deadline=None, max_examples=examples(100))
@given(st.lists(st.integers(0, 12), min_size=2, max_size=12), st.integers(1, 12))
def test_run_lengths_are_the_mask_that_they_stand_for(runs, height):
    runs[-1] += -sum(runs) % height
    if not any(runs[1::2]):
        return
    width = sum(runs) // height
    mask = read_layout(json.dumps([masked([height, width], runs)])).regions[0].mask
    inside = [at % 2 for at, run in enumerate(runs) for _ in range(run)]
    expected = [[inside[column * height + row] for column in range(width)] for row in range(height)]
    assert mask.values.tolist() == expected
    assert mask.bounding_box() == Mask(np.array(expected, dtype=np.float32)).bounding_box()
    assert mask.size == (height, width)


sides = st.floats(LEAST_SIDE, 1e-3)


@settings(deadline=None, max_examples=examples(100))
@given(st.floats(0, 0.99), st.floats(0, 0.99), sides, sides)
@pytest.mark.parametrize("format", ["deig", "instancediffusion", "coco", "deig-bench", "mig-bench"])
def test_the_thinnest_box_is_read_again(format, x, y, width, height):
    """Rounded to so many places, a thin box came back without area, and was refused."""
    region = Region("a thread", (x, y, x + width, y + height))
    (again,) = read_layout(write_layout(Layout((region,)), format, 776, 520), format).regions
    assert again.box == pytest.approx(region.box, abs=1e-9)
    with pytest.raises(ValueError, match="no area"):
        Region("a thread", (x, y, x + 0.9 * LEAST_SIDE, 1))


LONG = "long " * 20_000


@pytest.mark.parametrize(
    "text, format",
    [
        (json.dumps({"regions": [{LONG: 1}]}), "auto"),
        (json.dumps({"regions": [], LONG: 1}), "auto"),
        (json.dumps({"regions": [{"phrase": LONG, "box": [0, 0, 2, 1]}]}), "auto"),
        (json.dumps({"regions": [{"phrase": " " * 90_000, "box": [0, 0, 1, 1]}]}), "auto"),
        (json.dumps({"regions": [{"phrase": LONG + "\ud800", "box": [0, 0, 1, 1]}]}), "auto"),
        (json.dumps({LONG: {"bbox": 1}, "annos": []}), "auto"),
        (f'{{"{LONG}": 1, "{LONG}": 2}}', "auto"),
        (json.dumps({LONG: {"segment": []}, "b" + LONG: {"a": LONG}}), "auto"),
        (LONG, "auto"),
        (LONG + ": 1 2 3", "lines"),
        (f'("a", [1, 2, 30, 40]), {LONG} [1, 2, 3, 4]', "auto"),
        (f'("{LONG}", [0, 0, 900, 900])', "auto"),
        ("[]", LONG),
        (json.dumps([{"label": "a", "bbox": [LONG] * 4}]), "auto"),
        (json.dumps([{"label": "a", "bbox": [[LONG]] * 3}]), "auto"),
    ],
    ids=range(15),
)
def test_messages_cut_what_they_quote(text, format):
    with pytest.raises(ValueError) as refused:
        read_layout(text, format)
    assert len(str(refused.value)) < 700


def test_a_phrase_is_whole_characters():
    """A lone surrogate is a TypeError of the tokenizer, much later and with no word of where it came from."""
    with pytest.raises(ValueError, match="'a .*' has half a character"):
        Region("a \ud83d", (0, 0, 1, 1))
    assert fields.whole("\U0001f600", "here") == "\U0001f600"
    assert read_layout('("\\ud83d\\ude00", [0, 0, 1, 1])').regions[0].phrase == "\U0001f600"


@pytest.mark.parametrize(
    "line, told",
    [
        ("a: 0 0 600 100", None),
        ("a: 0 0 100 300", "neither all"),  # beyond the height, though not beyond the width
        ("a: 0 0 700 100", "neither all"),
        ("a: 0 0 2 2\nb: 0 0 600 200", None),
        ("a: 0 0 1.5 100\nb: 0 0 600 200", "No pixels of 640 x 200, 2 or more each way: line 1"),
        ("a: 0 0 100 1.5\nb: 0 0 600 200", "No pixels of 640 x 200, 2 or more each way: line 1"),
        ("a: 0 0 0.5 1.01", "neither all"),
        ("a: 0 0 1.01 0.5", "neither all"),
    ],
)
def test_a_unit_holds_for_both_sides(line, told):
    if told:
        with pytest.raises(ValueError, match=told):
            read_layout(line, "auto", 640, 200)
    else:
        assert read_layout(line, "auto", 640, 200).regions[0].box[0] == 0


@pytest.mark.parametrize("edge", range(4))
@pytest.mark.parametrize("beyond, taken", [(0.0009, True), (0.0015, False)])
def test_boxes_a_little_beyond_any_edge_end_at_it(edge, beyond, taken):
    box = [0.0, 0.0, 1.0, 1.0]
    box[edge] += beyond if edge > 1 else -beyond
    text = json.dumps({"segment": [{"label": "a", "bbox": box}]})
    if taken:
        assert read_layout(text).regions[0].box == (0, 0, 1, 1)
        assert not read_layout(text, edges="clip").report, "nothing worth telling was cut"
    else:
        with pytest.raises(ValueError, match="outside the image"):
            read_layout(text)


@pytest.mark.parametrize("point", [[-0.1, 0.5], [1.1, 0.5], [0.5, -0.1], [0.5, 1.1]])
def test_points_of_a_layout_lie_in_the_picture(point):
    entry = {"phrase": "a", "box": [0, 0, 1, 1]}
    for place in ({"point": point}, {"scribble": [[0.5, 0.5], point]}):
        with pytest.raises(ValueError, match=r"regions\[0\]\.(point|scribble\[1\]) lies outside"):
            read_layout(json.dumps([entry | place]))


@pytest.mark.parametrize("format", ["auto", "llm"])
def test_an_empty_list_beside_the_layout_is_nothing(format):
    text = '{"objects": [{"label": "a cup", "bbox": [0.25, 0.25, 0.5, 0.5]}], "relations": []}'
    assert [region.phrase for region in read_layout(text, format).regions] == ["a cup"]


def test_a_list_of_phrases_with_bbox_is_a_language_models():
    """Only `box` has this pack's corners in fractions; `bbox` has a corner and a size."""
    text = '[{"phrase": "a", "bbox": [0.25, 0.25, 0.5, 0.5]}]'
    assert read_layout(text).regions[0].box == (0.25, 0.25, 0.75, 0.75)


@pytest.mark.parametrize("version", [True, 1.5, 0, 2, "1", [1]])
def test_other_versions_are_refused(version):
    with pytest.raises(ValueError, match="version is .* reads version 1"):
        read_layout(json.dumps({"version": version, "regions": []}))


@pytest.mark.parametrize("side", [0, -1, float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize("which", ["width", "height"])
def test_both_sides_of_a_picture_are_checked(side, which):
    with pytest.raises(ValueError, match="more than 0 pixels"):
        read_layout("a: 1 1 9 9", **{which: side})
    sizes = {"width": 9, "height": 9, which: side}
    if abs(side) < 1e12 or side != side:
        with pytest.raises(ValueError):
            read_layout(json.dumps({"annos": [{"caption": "a", "bbox": [0, 0, 9, 9]}], **sizes}))


@pytest.mark.parametrize("count, refused", [(10_000, False), (10_001, True)])
def test_a_layout_has_at_most_ten_thousand_regions(count, refused):
    text = json.dumps([{"phrase": "a", "box": [0, 0, 1, 1]}] * count)
    if refused:
        with pytest.raises(ValueError, match="regions has 10001 entries; a layout has at most 10000"):
            read_layout(text)
    else:
        assert len(read_layout(text).regions) == count


@pytest.mark.parametrize("written", ["a: 0 0 1 1\n", '("a", [0, 0, 1, 1])\n'], ids=["lines", "pairs"])
def test_loose_text_has_no_more_regions_than_json(written):
    assert len(read_layout(written * 10_000).regions) == 10_000
    with pytest.raises(ValueError, match="The text has 10001 entries; a layout has at most 10000"):
        read_layout(written * 10_001)


def test_a_text_as_long_as_may_be_is_read():
    around = '{"prompt": "", "regions": []}'
    words = "a" * (4_000_000 - len(around))
    assert read_layout(around.replace('""', f'"{words}"')).prompt == words


@pytest.mark.parametrize("opened", ["[" * 200_001, "{" * 200_001, "{" * 100_000 + "[" * 100_001])
def test_a_text_of_too_many_brackets_is_refused(opened):
    with pytest.raises(ValueError, match="has 200001 opening brackets; a layout has at most 200000"):
        read_layout(opened)


@pytest.mark.parametrize(
    "value, told",
    [
        (None, "missing"),
        ("a" * 78, repr("a" * 78)),
        ("a" * 79, "'" + "a" * 76 + "..."),
        ([1, 2, 3, 4, 5, 6], "[1, 2, 3, 4, 5, 6]"),
        ([1, 2, 3, 4, 5, 6, 7], "a list of 7"),
        (dict.fromkeys("abcdef", 1), "{'a': 1, 'b': 1, 'c': 1, 'd': 1, 'e': 1, 'f': 1}"),
        (dict.fromkeys("abcdefg", 1), "an object of 7"),
        (10**12 - 1, "999999999999"),
        (10**12, "a number of very many digits"),
        (-(10**12), "a number of very many digits"),
    ],
)
def test_messages_show_short_values_whole_and_long_ones_in_short(value, told):
    assert fields.shown(value) == told


@pytest.mark.parametrize("word", ["bbox", "box", "bbox_2d", "box_2d", "bounding_box", "bboxes", "boxes"])
def test_every_name_of_a_box_is_one_beside_a_layout(word):
    with pytest.raises(ValueError, match=f"'{word}' holds a box that would be lost: .* is read from segment"):
        read_layout(json.dumps({"segment": [], word: "top left"}))


@pytest.mark.parametrize(
    "names, is_box",
    [("x y", True), ("x0", True), ("x1", True), ("xmin", True), ("x_min", True), ("cx cy", True)]
    + [("left top", True), ("left right", True), ("top bottom", True)]
    + [("x", False), ("y", False), ("cx", False), ("left", False), ("top", False), ("right bottom", False)],
)
@pytest.mark.parametrize("value", [7, 7.5, "7 px", "-.5 %"])
def test_names_that_are_a_box_or_half_of_one(names, is_box, value):
    text = json.dumps({"segment": [], "note": dict.fromkeys(names.split(), value)})
    if is_box:
        with pytest.raises(ValueError, match="'note' holds a box that would be lost"):
            read_layout(text)
    else:
        assert read_layout(text).regions == ()


@pytest.mark.parametrize(
    "word",
    ["prompt", "background_prompt", "background", "caption", "description", "phrase", "name", "object"]
    + ["title", "text_content", "desc", "text", "high_level_description", "category", "category_name"]
    + ["file_name", "url", "segmentation", "keypoints", "counts"],
)
def test_numbers_in_words_that_name_something_are_no_box(word):
    entry = {"label": "a", "bbox": [0, 0, 1, 1]}
    read = read_layout(json.dumps({"segment": [entry | {word: "1 2 3 4"}], "info": {word: "1 2 3 4"}}))
    assert len(read.regions) == 1
    with pytest.raises(ValueError, match=r"segment\[0\] holds a box in 'note', which would be lost"):
        read_layout(json.dumps({"segment": [entry | {"note": "1 2 3 4"}]}))


@pytest.mark.parametrize(
    "beside",
    [
        {"flags": [True, False, True, True]},
        {"five": [1, 2, 3, 4, 5]},
        {"three": ["1", "2", "3"]},
        {"mixed": [1, 2, "a", "b"]},
        {"three points": [[1, 2], [3, 4], [5, 6]]},
        {"points in space": [[1, 2, 3], [4, 5, 6]]},
        {"names": [["a", 2], [3, "b"]]},
        {"half": [[1, 2], "b"]},
        {"Colour": [255, 0, 0, 255], "BACKCOLOR": {"x0": 1}},
        {"rle": {"size": [9, 9], "counts": [1, 2, 3, 75]}},
        {"bbox": "", "boxes": {}, "box": [], "box_2d": None},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_numbers_that_are_no_box_may_stand_beside_a_layout(beside):
    assert read_layout(json.dumps({"segment": [], **beside})).regions == ()


def test_what_belongs_to_a_coco_image_or_category_is_no_box_beside_the_layout():
    text = coco(
        [1],
        [],
        images=[{"id": 1, "width": 100, "height": 50, "crop": [0, 0, 9, 9]}],
        categories=[{"id": 1, "name": "a", "skeleton": [[1, 2], [2, 3]]}],
    )
    assert read_layout(text).regions[0].box == (0, 0, 0.5, 1)
    with pytest.raises(ValueError, match="'crop' holds .* from annotations and images and categories"):
        read_layout(coco([1], [], crop=[0, 0, 9, 9]))


@pytest.mark.parametrize(
    "text, format, told",
    [
        ('{"regions": [], "prompt": 3}', "auto", "the layout.prompt should be text, but it is 3"),
        ('[{"box": [0, 0, 1, 1]}]', "deig", r"regions\[0\].phrase should be text, but it is missing"),
        ('{"version": 1}', "deig", "regions should be a list of objects, but it is missing"),
        ('{"regions": {}}', "auto", "regions should be a list of objects, but it is {}"),
        ('{"regions": [3]}', "auto", r"regions\[0\] should be an object, but it is 3"),
        (
            '{"regions": [], "b": 1, "a": 1}',
            "auto",
            "the layout has 'a', which is not one of incoming, prompt",
        ),
        ('[{"phrase": "a", "box": [0, 0, 1, -1e12]}]', "deig", r"box\[3\] is -1.*no possible coordinate"),
        ('[{"phrase": "a", "box": [0, 0, 1, 1e12]}]', "deig", r"box\[3\] is 1.*no possible coordinate"),
        ('[{"phrase": "a", "box": 3}]', "deig", r"4 numbers, \[x0, y0, x1, y1\], but it is 3"),
        ('[{"phrase": "a", "box": [0, 0, 1, 1], "radius": "1"}]', "deig", r"\[0\].radius should be a number"),
        ('[{"phrase": "a", "point": [9, 8]}]', "deig", r"\[0\].point lies outside the image: \[9, 8\]"),
        ('{"annos": [{"bbox": [0, 0, 9, 9]}]}', "auto", r"annos\[0\].category_name should be text"),
        (
            '{"annos": [{"bbox": [1]}]}',
            "auto",
            r"annos\[0\].bbox .* \[x, y, width, height\], but it is \[1\]",
        ),
        ('{"annos": [], "width": 0, "height": 9}', "auto", "^width is 0; a side is more than 0 pixels"),
        ('{"annos": [], "width": "9", "height": 9}', "auto", "^width should be a number, but it is '9'"),
        ('{"annotations": [3]}', "auto", r"annotations\[0\] should be an object, but it is 3"),
        (
            '{"annotations": [{}], "categories": []}',
            "auto",
            r"annotations\[0\].category_id should be a number",
        ),
        (
            '{"annotations": [], "categories": [{"id": "1"}]}',
            "auto",
            r"categories\[0\].id should be a number, but it is '1'",
        ),
        (
            '{"segment": [{"label": "a"}]}',
            "auto",
            r"segment\[0\].bbox .*\[x0, y0, x1, y1\], but it is missing",
        ),
        ('{"instances": [{"bbox": [0, 0, 1, 1]}]}', "auto", r"instances\[0\].description should be text"),
        ('[{"desc": "a", "bbox": 1}]', "auto", r"elements\[0\].bbox .*\[ymin, xmin, ymax, xmax\]"),
        (
            '{"compositional_deconstruction": {"elements": [{}]}}',
            "auto",
            r"compositional_deconstruction.elements\[0\].bbox should be",
        ),
        (
            '[{"x": 1, "y": 2, "width": 3}]',
            "canvas",
            r"box\[0\].height should be a number, but it is missing",
        ),
        ('[{"label": "a", "box_2d": 1}]', "auto", r"item\[0\].box_2d .*\[ymin, xmin, ymax, xmax\]"),
        ('[{"label": "a", "bbox_2d": 1}]', "qwen-1000", r"item\[0\].bbox_2d .*\[x0, y0, x1, y1\]"),
        ('[{"label": "a", "bbox_2d": 1}]', "qwen-pixels", r"item\[0\].bbox_2d .*\[x0, y0, x1, y1\]"),
        ('[{"label": "a", "bbox": [1]}]', "llm", r"item\[0\].bbox .*\[x, y, width, height\]"),
        ('[{"label": "a", "x": 1, "y": 1, "w": 1, "h": "b"}]', "llm", r"item\[0\].h should be a number"),
        (
            '[{"label": "a", "box": {"x0": 1, "y0": 1, "x1": "b", "y1": 1}}]',
            "llm",
            r"item\[0\].box.x1 should be a number",
        ),
        ('("a", [1, 2, 30, 40])\nand\n a dog 10 px 10 px 50 px 50 px', "auto", r"after item 1 \(line 2\)"),
        ('[{"label": "a"}]', "llm", r"item\[0\] has no box: bbox as \[x, y, width, height\], or x, y"),
        ('{"a": 1}', "auto", "The JSON has 0 lists that could be the layout"),
        ('{"a": [{}], "b": [{}], "c": []}', "auto", "The JSON has 2 lists that could be the layout"),
        ('{"a": [{"segment": []}], "b": [{"annos": []}]}', "auto", r"has 2 lists of layouts, \['a', 'b'\]"),
        ('{"a": ' + "1" * 402 + "}", "auto", "number of 402 digits"),
        ('[{"label": "a", "bbox": [0, 0, 9, ' + "1" * 401 + "]}]", "auto", "a number of very many digits"),
        ('{"a": -Infinity}', "auto", "holds -Infinity, which is no number"),
        ("a cup", "coco", "holds no JSON object, which the format coco is written in"),
        ("a cup", "llm", r'no item of the form \("a red car", \[x, y, width, height\]\)'),
        ("# a cup: 0 0 1 1\n\n", "auto", "no line of the form 'phrase: x1 y1 x2 y2'"),
        ('("b" [5, 6, 70, 80])', "auto", r"^item 1 \(line 1\): .* looks like a region"),
        ("a: 1_0 2 30 40", "auto", "line 1 should have 4 numbers, but it has ' 1_0 2 30 40'"),
        ("a: nan 2 30 40", "auto", r"line 1\[0\] is nan, which is no possible coordinate"),
        ("```json\n[]\n```\nor\n```\n{}\n```", "auto", "2 fenced JSON blocks"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, format, told):
    with pytest.raises(ValueError, match=f"(?s){told}"):
        read_layout(text, format)


@pytest.mark.parametrize("format", ["instancediffusion", "coco", "deig-bench", "mig-bench"])
def test_a_list_alone_is_no_annotation_file(format):
    with pytest.raises(ValueError, match=rf"format {format} is a JSON object, .*holds \[{{'a': 1}}\]"):
        read_layout('[{"a": 1}]', format)


def test_a_format_that_is_only_read_is_not_written():
    with pytest.raises(
        ValueError, match="written as 'gemini'; there are deig, instancediffusion, coco, deig-"
    ):
        write_layout(Layout(()), "gemini")


@pytest.mark.parametrize("side, taken", [(1e9, False), (9e8, True)])
def test_a_side_of_a_picture_is_less_than_a_milliard(side, taken):
    if taken:
        assert read_layout('{"regions": []}', "auto", side, side).regions == ()
    else:
        for sides in ((side, 5), (5, side)):
            with pytest.raises(ValueError, match=f"not {sides[0]} and {sides[1]}"):
                read_layout('{"regions": []}', "auto", *sides)


def test_one_size_by_two_names_is_one_size():
    text = (
        '{"annos": [], "width": 64, "height": 32, "image_width": 64.0, "image_height": 32, "img_width": null}'
    )
    layout = read_layout(text)
    assert (layout.width, layout.height) == (64, 32)


@pytest.mark.parametrize(
    "text, format, size",
    [
        (coco([1], [(1, 100)]), "auto", (100, 100)),
        (coco([1], []), "auto", (640, 480)),
        ('[{"label": "a", "bbox_2d": [0, 0, 9, 9]}]', "qwen-pixels", (640, 480)),
        (
            '{"objects": [{"label": "a", "bbox_2d": [0, 0, 9, 9]}], "width": 99, "height": 98}',
            "qwen-pixels",
            (99, 98),
        ),
        ('[{"label": "a", "bbox_2d": [0, 0, 9, 9]}]', "qwen-1000", (None, None)),
        ('[{"label": "a", "box_2d": [0, 0, 9, 9]}]', "gemini", (None, None)),
        (json.dumps([canvas_box("a", 0, 0, 9, 9)]), "canvas", (640, 480)),
        (json.dumps([element("a", 0, 0, 9, 9)]), "elements", (None, None)),
        ("a: 0 0 9 9", "lines", (640, 480)),
        ("a: 0 0 0.5 0.5", "lines", (None, None)),
        ('{"regions": []}', "deig", (None, None)),
        ('{"segment": []}', "mig-bench", (None, None)),
    ],
)
def test_a_layout_tells_the_size_that_its_pixels_are_of(text, format, size):
    layout = read_layout(text, format, 640, 480)
    assert (layout.width, layout.height) == size


@pytest.mark.parametrize(
    "format, entry, around, keys",
    [
        (
            "llm",
            {"label": "a", "bbox": [0, 0, 1, 1]},
            "objects",
            "prompt background_prompt background caption",
        ),
        (
            "gemini",
            {"label": "a", "box_2d": [0, 0, 9, 9]},
            "objects",
            "prompt background_prompt background caption",
        ),
        ("qwen-1000", {"label": "a", "bbox_2d": [0, 0, 9, 9]}, "objects", "prompt background_prompt"),
        ("qwen-pixels", {"label": "a", "bbox_2d": [0, 0, 9, 9]}, "objects", "prompt background_prompt"),
        ("mig-bench", {"label": "a", "bbox": [0, 0, 1, 1]}, "segment", "caption prompt"),
        ("instancediffusion", {"caption": "a", "bbox": [0, 0, 9, 9]}, "annos", "caption"),
        ("deig", {"phrase": "a", "box": [0, 0, 1, 1]}, "regions", "prompt"),
    ],
)
def test_the_prompt_stands_under_these_names_the_first_before_the_others(format, entry, around, keys):
    keys = keys.split()
    for at, key in enumerate(keys):
        words = {name: f"by {name}" for name in reversed(keys[at:])} | dict.fromkeys(keys[:at])
        assert read_layout(json.dumps({**words, around: [entry]}), format).prompt == f"by {key}"
    assert read_layout(json.dumps({around: [entry]}), format).prompt == ""


def test_an_entrys_most_telling_words_are_its_phrase():
    keys = ["description", "phrase", "caption", "prompt", "label", "name", "object", "text_content"]
    for at, key in enumerate(keys):
        words = {name: f"by {name}" for name in reversed(keys[at:])} | dict.fromkeys(keys[:at])
        assert read_layout(json.dumps([{"bbox": [0, 0, 1, 1], **words}])).regions[0].phrase == f"by {key}"


FULL = Region(
    "a狗", (0.25, 0.5, 0.75, 1), 2, 0.125, 0.5, Mask(np.eye(2)), ((0.5, 0.5), (0.25, 1)), (0.5, 0.75), 0.5
)
SPARE = Region("b", (0, 0, 1, 0.5))
SETTINGS = {"strength": 2, "start_percent": 0.125, "end_percent": 0.5}
MASK = {"size": [2, 2], "counts": "0120"}
IN_FRACTIONS = {"mask": MASK, "scribble": [[0.5, 0.5], [0.25, 1]], "point": [0.5, 0.75], "radius": 0.5}
OF_COCO = {"image_id": 1, "iscrowd": 0}
IN_PIXELS = {"mask": MASK, "scribble": [[4, 8], [2, 16]], "point": [4, 12], "radius": 0.5}
WRITTEN = {
    "deig": {
        "version": 1,
        "prompt": "c猫",
        "regions": [
            {"phrase": "a狗", "box": [0.25, 0.5, 0.75, 1], **SETTINGS, **IN_FRACTIONS},
            {"phrase": "b", "box": [0, 0, 1, 0.5], "strength": 1, "start_percent": 0, "end_percent": 1},
            {"phrase": "a狗", "box": [0.25, 0.5, 0.75, 1], **SETTINGS, **IN_FRACTIONS},
        ],
    },
    "instancediffusion": {
        "caption": "c猫",
        "width": 8,
        "height": 16,
        "annos": [
            {"bbox": [2, 8, 4, 8], "category_name": "", "caption": "a狗", **SETTINGS, **IN_PIXELS},
            {"bbox": [0, 0, 8, 8], "category_name": "", "caption": "b", "mask": []},
            {"bbox": [2, 8, 4, 8], "category_name": "", "caption": "a狗", **SETTINGS, **IN_PIXELS},
        ],
    },
    "coco": {
        "info": {"description": "c猫"},
        "images": [{"id": 1, "width": 8, "height": 16, "file_name": ""}],
        "annotations": [
            {
                "id": 1,
                "category_id": 1,
                "bbox": [2, 8, 4, 8],
                "area": 32,
                **OF_COCO,
                **SETTINGS,
                **IN_FRACTIONS,
            },
            {"id": 2, "category_id": 2, "bbox": [0, 0, 8, 8], "area": 64, **OF_COCO},
            {
                "id": 3,
                "category_id": 1,
                "bbox": [2, 8, 4, 8],
                "area": 32,
                **OF_COCO,
                **SETTINGS,
                **IN_FRACTIONS,
            },
        ],
        "categories": [{"id": 1, "name": "a狗"}, {"id": 2, "name": "b"}],
    },
    "deig-bench": {
        "caption": "c猫",
        "prompt": "c猫",
        "instances": [
            {"bbox": [0.25, 0.5, 0.75, 1], "description": "a狗", **SETTINGS, **IN_FRACTIONS},
            {"bbox": [0, 0, 1, 0.5], "description": "b"},
            {"bbox": [0.25, 0.5, 0.75, 1], "description": "a狗", **SETTINGS, **IN_FRACTIONS},
        ],
    },
    "mig-bench": {
        "caption": "c猫",
        "segment": [
            {"bbox": [0.25, 0.5, 0.75, 1], "label": "a狗", **SETTINGS, **IN_FRACTIONS},
            {"bbox": [0, 0, 1, 0.5], "label": "b"},
            {"bbox": [0.25, 0.5, 0.75, 1], "label": "a狗", **SETTINGS, **IN_FRACTIONS},
        ],
    },
}


@pytest.mark.parametrize("format", WRITTEN)
def test_what_is_written_is_in_full_what_others_read(format):
    text = write_layout(Layout((FULL, SPARE, FULL), "c猫"), format, 8, 16)
    assert json.loads(text) == WRITTEN[format]
    assert "a狗" in text and "c猫" in text


@pytest.mark.parametrize(
    "text, format, phrase, box",
    [
        ("  a cup at 3:30 : 64 96 256 192  ", "auto", "a cup at 3:30", (0.125, 0.25, 0.5, 0.5)),
        ("  # a dog: 1 2 3 4\n\t\na cup:64，96；256、192;", "auto", "a cup", (0.125, 0.25, 0.5, 0.5)),
        ('a sign {"OPEN"}: (64 96 256 192)', "lines", 'a sign {"OPEN"}', (0.125, 0.25, 0.5, 0.5)),
        ("a cup: 0.125 0.25 1.0009 1.0009", "auto", "a cup", (0.125, 0.25, 1, 1)),
        ("a cup: -0.3 96 512.3 384.3", "auto", "a cup", (0, 0.25, 1, 1)),
        ("a cup: 0 0 1 1", "auto", "a cup", (0, 0, 1, 1)),
        ("a cup: 0 0 2 2", "auto", "a cup", (0, 0, 2 / 512, 2 / 384)),
    ],
)
def test_a_line_is_a_phrase_and_corners(text, format, phrase, box):
    assert read_layout(text, format, 512, 384).regions == (Region(phrase, box),)


def test_boxes_of_no_one_unit_are_told_with_all_that_is_known():
    with pytest.raises(ValueError) as refused:
        read_layout("a cup: 0 10 600 300\na dog: 0 0 0.5 1", "auto", 640, 320)
    assert "No fractions of the image (0 to 1): line 1, 'a cup', x from 0 to 600, y from 10 to 300." in str(
        refused.value
    )
    assert (
        "No pixels of 640 x 320, 2 or more each way: line 2, 'a dog', x from 0 to 0.5, y from 0 to 1."
        in str(refused.value)
    )


@pytest.mark.parametrize(
    "box, cut",
    [
        ("0.5 0.5 1.49 1", (0.5, 0.5, 1, 1)),
        ("-0.49 0.5 1 1.49", (0, 0.5, 1, 1)),
        ("0.5 0.5 1.5 1", None),
        ("0.5 -0.5 1 1", None),
        ("320 0 950 320", (0.5, 0, 1, 1)),
        ("-300 -150 320 320", (0, 0, 0.5, 1)),
        ("320 0 960 320", None),
        ("320 0 640 480", None),
    ],
)
def test_boxes_are_cut_where_less_than_half_a_picture_is_beyond_it(box, cut):
    if cut:
        layout = read_layout(f"a cup: {box}", "auto", 640, 320, edges="clip")
        assert layout.regions[0].box == cut and layout.report.startswith("1 box was cut")
    else:
        with pytest.raises(ValueError, match="neither all fractions nor all pixels"):
            read_layout(f"a cup: {box}", "auto", 640, 320, edges="clip")


@pytest.mark.parametrize(
    "line",
    [
        "Background prompt: a shelf",
        "background prompt :a shelf",
        '**Background prompt:** "a shelf"',
        "- *Background prompt*: 'a shelf'",
        "## BACKGROUND PROMPT: a shelf \t",
        "the background prompt: none",
    ],
)
def test_a_background_prompt_beside_pairs_is_read_however_it_is_marked(line):
    for text in (f"{GOOD}\n{line}", f"{line}\nNegative prompt: blurry\n{GOOD}"):
        prompt = read_layout(text, "auto", 128, 128).prompt
        assert prompt == ("" if line.startswith("the") else "a shelf")


@pytest.mark.parametrize(
    "quoted",
    [
        "“a hat”",
        "„a hat”",
        "”a hat”",
        "„a hat“",
        "“a hat“",
        "‘a hat’",
        "‚a hat’",
        "’a hat’",
        "‚a hat‘",
        "‘a hat‘",
    ]
    + ["«a hat»", "»a hat«", "「a hat」", "`a hat`", "'a hat'", '"a hat"'],
)
def test_every_pair_of_quotes_is_read(quoted):
    for text in (
        f"({quoted}, [16, 16, 32, 64])",
        f"[{quoted}： 16, 16, 32, 64,]",
        f"({quoted},[16,16,32,64,],)",
    ):
        assert read_layout(text, "auto", 128, 128).regions[0].phrase == "a hat"


@pytest.mark.parametrize(
    "written, meant",
    [
        (r"a\x41b", "aAb"),
        (r"caf\u00e9", "café"),
        (r"a\tb", "a\tb"),
        (r"a\nb", "a b"),
        (r"a\r\n b", "a b"),
        (r"a\\b", r"a\b"),
        (r"the \"b\" it\'s", 'the "b" it\'s'),
        (r"a\qb", r"a\qb"),
        ("a\n\n  b\r\nc", "a b c"),
    ],
)
def test_escapes_and_breaks_in_a_quoted_phrase(written, meant):
    assert read_layout(f'("{written}", [16, 16, 32, 64])', "auto", 128, 128).regions[0].phrase == meant


@pytest.mark.parametrize("box", ["b, 5, 6, 70, 80)", "b, [5, 6, 70, 80])", 'b", [5, 6, 70, 80])'])
def test_a_box_in_a_bracket_that_is_not_opened_is_not_read(box):
    with pytest.raises(ValueError, match=r"item 2 \(line 2\)"):
        read_layout(f"{GOOD}\n{box}", "auto", 128, 128)


@pytest.mark.parametrize(
    "entry, phrase",
    [
        ({"type": "text", "text": "OPEN"}, 'the text "OPEN"'),
        ({"type": "text", "text": " ", "desc": "a sign"}, "a sign"),
        ({"type": "text", "desc": "a sign"}, "a sign"),
        ({"type": "obj", "text": "OPEN", "desc": "a sign"}, "a sign"),
        ({"text": "OPEN", "desc": "a sign"}, "a sign"),
    ],
)
def test_only_letters_that_are_to_be_painted_go_into_a_phrase(entry, phrase):
    assert read_layout(json.dumps([entry | {"bbox": [0, 0, 9, 9]}]), "elements").regions[0].phrase == phrase
    corner = {"x": 0, "y": 0, "width": 9, "height": 9, "label": "a label"}
    for text in ([corner | {"metadata": entry}], corner | {"metadata": entry}):
        assert read_layout(json.dumps(text)).regions[0].phrase == phrase


@pytest.mark.parametrize("metadata", [{}, {"desc": " "}, {"type": "obj", "text": "OPEN"}, None])
def test_a_label_stands_in_where_a_canvas_box_has_no_description(metadata):
    box = {"x": 0, "y": 0, "width": 9, "height": 9, "label": "a label", "metadata": metadata}
    assert read_layout(json.dumps([box])).regions[0].phrase == "a label"


def test_one_entry_tells_the_form_of_a_list():
    """Letters without a description, and a canvas box without metadata, stand among others."""
    sign = {"type": "text", "text": "OPEN", "bbox": [0, 0, 500, 1000]}
    boxes = [region.box for region in read_layout(json.dumps([sign, element("a", 0, 0, 1000, 500)])).regions]
    assert boxes == [(0, 0, 1, 0.5)] * 2
    plain = {"x": 0, "y": 0, "width": 256, "height": 512, "label": "b"}
    regions = read_layout(json.dumps([plain, canvas_box("a", 0, 0, 256, 512)])).regions
    assert [(region.phrase, region.box) for region in regions] == [
        ("b", (0, 0, 0.5, 1)),
        ("a", (0, 0, 0.5, 1)),
    ]


def test_the_words_of_a_json_prompt_stand_in_one_order():
    style = {
        "art_style": "cubist;",
        "medium": "oil",
        "photo": "50 mm, ",
        "lighting": " dim.",
        "aesthetics": "calm,",
    }
    text = {
        "style_description": style,
        "compositional_deconstruction": {"elements": [], "background": "a wall.. "},
        "high_level_description": "a shelf;",
    }
    assert read_layout(json.dumps(text)).prompt == "a shelf, a wall, calm, dim, 50 mm, oil, cubist"
    assert read_layout(json.dumps(text | {"style_description": None})).prompt == "a shelf, a wall"


def test_one_frame_of_a_canvas_is_chosen():
    text = json.dumps([[canvas_box("a", 0, 0, 9, 9)], [canvas_box("b", 0, 0, 9, 9)]])
    for index, phrase in enumerate("ab"):
        assert read_layout(text, index=index).regions[0].phrase == phrase
    with pytest.raises(ValueError, match="holds 2 layouts. Choose one with index, 0 to 1"):
        read_layout(text)


def test_notes_may_stand_beside_layouts_by_name():
    text = '{"version": 3, "made by": "hand", "one": {"segment": []}, "true": true, "of": null}'
    assert read_layout(text, index=0).regions == ()
    with pytest.raises(ValueError, match="There is no layout 1: the text holds one layout: its index is 0"):
        read_layout(text, index=1)


@pytest.mark.parametrize(
    "text",
    [
        f'Like {{"label" ...:\r\n```JSON  \r\n[{ENTRY}]\r\n```',
        f"Run:\n```python\nprint(1)\n```\n[{ENTRY}]",
        f'Like {{"label" ...:\n```text\na cup\n```\nso:\n```\n\n  [{ENTRY}]```',
    ],
)
def test_json_is_found_in_its_fence_and_beside_other_fences(text):
    assert read_layout(text, "auto", 1024, 1024).regions[0].box == (0, 0, 0.5, 0.5)


def test_a_null_or_an_empty_list_is_no_place_and_no_words():
    own = {"phrase": "a", "box": None, "mask": [], "scribble": [], "point": [1, 1], "radius": 0.25}
    corner = read_layout(json.dumps([own]), "deig", 400, 200).regions[0]
    assert corner.box == (0.875, 0.75, 1, 1) and corner.scribble is None and corner.mask is None
    own = {"phrase": "a", "box": [0, 0, 0.5, 0.5], "point": []}
    assert read_layout(json.dumps([own]), "deig").regions == (Region("a", (0, 0, 0.5, 0.5)),)
    anno = {
        "caption": None,
        "category_name": "a",
        "bbox": None,
        "mask": [],
        "point": [256, 256],
        "radius": 0.5,
    }
    assert read_layout(json.dumps({"annos": [anno]})).regions[0].box == (0, 0, 1, 1)


def test_a_box_that_is_given_goes_before_the_one_around_a_place():
    own = {"phrase": "a", "box": [0, 0, 0.5, 0.5], "point": [0.75, 0.75]}
    assert read_layout(json.dumps([own]), "deig").regions[0].box == (0, 0, 0.5, 0.5)
    anno = {"caption": "a", "bbox": [0, 0, 256, 256], "point": [300, 300]}
    assert read_layout(json.dumps({"annos": [anno]})).regions[0].box == (0, 0, 0.5, 0.5)


def test_of_several_places_the_box_is_around_the_most_exact():
    places = {"point": [0.5, 0.5], "scribble": [[0.25, 0.25], [0.5, 0.75]], "radius": 0.125}
    mask = {"mask": {"size": [2, 2], "counts": [3, 1]}}
    read = [
        read_layout(json.dumps([{"phrase": "a"} | more]), "deig").regions[0].box
        for more in (places, places | mask)
    ]
    assert read == [(0.125, 0.125, 0.625, 0.875), (0.5, 0.5, 1, 1)]


@pytest.mark.parametrize("form", ENTRIES)
def test_a_scribble_of_two_points_is_no_second_box(form):
    format, entry, around = ENTRIES[form]
    unit = 128 if form.startswith(("llm", "instance")) else 1
    stroke = [[0.125 * unit, 0.25 * unit], [0.5 * unit, unit]]
    mask = {"size": [2, 2], "counts": [0, 1, 2, 1]}
    text = json.dumps(around(entry | {"scribble": stroke, "mask": mask}))
    (region,) = read_layout(text, format, 128, 128).regions
    assert region.scribble == ((0.125, 0.25), (0.5, 1)) and region.mask.values.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("broken, refused", [(20, False), (21, True)])
def test_few_pieces_that_begin_like_json_may_stand_beside_a_fence(broken, refused):
    text = '{"label" ... ' * broken + FENCED
    if refused:
        with pytest.raises(ValueError, match="JSON breaks off at line 1"):
            read_layout(text, "auto", 1024, 1024)
    else:
        assert len(read_layout(text, "auto", 1024, 1024).regions) == 1


@pytest.mark.parametrize(
    "text, told",
    [
        (
            f"So:\nand here there is a big dog at 10 px 10 px 50 px 50 px\n{GOOD}",
            r"^before item 1 \(line 2\): '.*a big",
        ),
        (f'{GOOD}\n\n("b", nowhere)', r'^after item 1 \(line 3\): \'\("b", nowhere\)'),
        (f'{GOOD}\n{GOOD} ("b", [1, 2]), ("c", so)', r'^after item 2 \(line 2\): \'\("b", \[1, 2\]\), '),
        (
            f"{GOOD}\nand\nhere now there is a big dog at 10 px 10 px 50 px 50 px",
            r"^after item 1 \(line 3\): '.*a big",
        ),
        (
            f"{JSON_GOOD}, here is a dog [10, 10, 50, 50]!",
            r"^Beside the JSON stands ', here is a dog \[10, 10, 50, 50'",
        ),
    ],
)
def test_what_looks_like_a_region_is_told_with_its_words_and_line(text, told):
    with pytest.raises(ValueError, match=told):
        read_layout(text, "auto", 128, 128)


@pytest.mark.parametrize(
    "entry, told", [({"bbox": [0, 0, 2, 1]}, "outside"), ({"bbox": 1}, r"segment\[0\].bbox should be")]
)
def test_errors_in_the_first_of_many_say_so_too(entry, told):
    text = json.dumps([{"segment": [{"label": "a"} | entry]}, {"segment": []}])
    with pytest.raises(ValueError, match=f"^Layout 0: .*{told}"):
        read_layout(text, index=0)


def test_our_own_json_has_a_region_a_line():
    empty = '{\n  "version": 1,\n  "prompt": "",\n  "regions": []\n}'
    assert write_layout(Layout(())) == empty
    lines = write_layout(Layout((SPARE, FULL))).splitlines()
    assert len(lines) == 8 and '"b"' in lines[4] and '"a狗"' in lines[5]


@pytest.mark.parametrize("more", [{"info": "by hand"}, {"info": None}, {"images": None}])
def test_what_a_coco_file_need_not_have_may_be_anything(more):
    layout = read_layout(coco([1], [], **more), "auto", 100, 100)
    assert layout.prompt == "" and layout.regions == (Region("a", (0, 0, 0.5, 0.5)),)


def test_text_that_is_more_than_a_number_is_none():
    assert read_layout('{"segment": [], "sold": {"x": "7 cups", "y": "8 cups"}}').regions == ()


@pytest.mark.parametrize(
    "text, place",
    [
        ("a: 0 0 1 1\nb \ud800: 0 0 1 1", "line 2"),
        ('("a \\ud800", [0, 0, 1, 1])', r"item 1 \(line 1\)"),
        ('("a", [0, 0, 1, 1])\nBackground prompt: b\ud800', "background prompt"),
        ('{"segment": [], "caption": "\\ud800"}', "the entry.caption"),
    ],
)
def test_half_a_character_is_told_with_its_place(text, place):
    with pytest.raises(ValueError, match=f"^{place} holds half a character"):
        read_layout(text)
