"""Layouts from and to text: real examples of each form, round trips, and readers that never crash."""

import json

import numpy as np
import pytest
from deig_pack.deig_core.regions.edges import EDGES
from deig_pack.deig_core.regions.layouts import READABLE, WRITABLE, Layout, read_layout, write_layout
from deig_pack.deig_core.regions.layouts.fields import BOX_WORDS
from deig_pack.deig_core.regions.layouts.formats import MARKS
from deig_pack.deig_core.regions.layouts.listed import PHRASE_KEYS
from deig_pack.deig_core.regions.layouts.own import REGION_KEYS
from deig_pack.deig_core.regions.layouts.run_length import read_mask, write_mask
from deig_pack.deig_core.regions.region import Mask, Region
from deig_pack.tests.effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

CAR, MUG = (0.125, 0.25, 0.5, 0.75), (0.5, 0.5, 0.75, 1.0)  # on 512 x 256: 64 64 256 192, 256 128 384 256

TEXTS = {
    "deig": """{"version": 1, "prompt": "a shelf", "regions": [
        {"phrase": "a red car", "box": [0.125, 0.25, 0.5, 0.75]},
        {"phrase": "a blue mug", "box": [0.5, 0.5, 0.75, 1]}]}""",
    "deig, a list alone": """[{"phrase": "a red car", "box": [0.125, 0.25, 0.5, 0.75]},
        {"phrase": "a blue mug", "box": [0.5, 0.5, 0.75, 1]}]""",
    "instancediffusion": """{"caption": "a shelf", "width": 1024, "height": 512, "annos": [
        {"bbox": [128, 128, 384, 256], "mask": [], "category_name": "car", "caption": "a red car"},
        {"bbox": [512, 256, 256, 256], "category_name": "a blue mug", "caption": ""}]}""",
    "coco": """{"info": {"description": "a shelf"},
        "images": [{"id": 7, "width": 100, "height": 100}, {"id": 9, "width": 640, "height": 480}],
        "annotations": [
        {"id": 1, "image_id": 9, "category_id": 3, "bbox": [80, 120, 240, 240], "segmentation": [[80, 120, 90, 130]]},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [320.0, 240.0, 160.0, 240.1], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a blue mug"}, {"id": 3, "name": "a red car"}]}""",
    "deig-bench": """{"caption": "people at a table", "prompt": "a shelf", "instances": [
        {"bbox": [0.125, 0.25, 0.5, 0.75], "description": "a red car"},
        {"bbox": [0.5, 0.5, 0.75, 1.0002], "description": "a blue mug"}]}""",
    "mig-bench": """{"caption": "a shelf", "image_id": "500084", "segment": [
        {"bbox": [0.125, 0.25, 0.5, 0.75], "label": "a red car"},
        {"bbox": [0.5, 0.5, 0.75, 1], "label": "a blue mug"}]}""",
    "llm, pixels": """Caption: a car and a mug
        Objects: [('a red car', [64, 64, 192, 128]), ("a blue mug", [256, 128, 128, 128])]
        Background prompt: a shelf
        Negative prompt: blurry""",
    "llm, fractions": '("a red car", [0.125, 0.25, 0.375, 0.5]), ("a blue mug", [0.5, 0.5, 0.25, 0.5])',
    "llm, lists": '[["a red car", [64, 64, 192, 128]], ["a blue mug", [256, 128, 128, 128]]]',
    "llm, fenced": """Of course! Here is a layout with two objects:
```json
{"background_prompt": "a shelf", "width": 1024, "height": 1024, "objects": [
  {"label": "car", "description": "a red car", "bbox": [128, 256, 384, 512]},
  {"name": "a blue mug", "bounding_box": {"x": 512, "y": 512, "width": 256, "height": 512}}]}
```
Tell me if {you} want it [changed].""",
    "llm, in a sentence": """Here: [{"object": "a red car", "x1": 64, "y1": 64, "x2": 256, "y2": 192},
        {"object": "a blue mug", "box": {"left": 256, "top": 128, "right": 384, "bottom": 256}}] and that is it.""",
    "elements": """{"high_level_description": "a shelf", "compositional_deconstruction": {"elements": [
        {"type": "obj", "bbox": [250, 125, 750, 500], "desc": "a red car", "color_palette": ["#FF0000"]},
        {"type": "obj", "bbox": [500, 500, 1000, 750], "desc": "a blue mug"}]}}""",
    "canvas": """[{"x": 64, "y": 64, "width": 192, "height": 128, "metadata": {"type": "obj", "text": "", "desc":
        "a red car", "palette": []}}, {"x": 256, "y": 128, "width": 128, "height": 128, "label": "mug",
        "metadata": {"type": "obj", "text": "", "desc": "a blue mug", "palette": ["#0000FF"]}}]""",
    "qwen-pixels": """{"width": 2048, "height": 1024, "prompt": "a shelf", "objects": [
        {"bbox_2d": [256, 256, 1024, 768], "label": "a red car"},
        {"bbox_2d": [1024, 512, 1536, 1024], "label": "a blue mug"}]}""",
    "gemini": """```json
[{"box_2d": [250, 125, 750, 500], "label": "a red car"}, {"box_2d": [500, 500, 1000, 750], "label": "a blue mug"}]
```""",
    "lines, pixels": "# my own\n\na red car: 64 64 256 192\na blue mug: 256, 128, 384, 256\n",
    "lines, fractions": "a red car: 0.125 0.25 0.5 0.75\r\na blue mug: [0.5, 0.5, 0.75, 1]",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("told", [True, False], ids=["named", "auto"])
def test_each_form_reads(name, told):
    layout = read_layout(TEXTS[name], name.split(",")[0] if told else "auto", 512, 256)
    assert [region.phrase for region in layout.regions] == ["a red car", "a blue mug"]
    assert np.allclose([region.box for region in layout.regions], [CAR, MUG], rtol=0, atol=1e-6)
    assert layout.prompt == ("a shelf" if "a shelf" in TEXTS[name] else "")


def test_places_of_instancediffusion_are_kept():
    text = """{"caption": "", "width": 64, "height": 48, "annos": [{"bbox": [16, 6, 30, 30], "caption": "a ring",
        "mask": {"size": [48, 64],
        "counts": "_h0;S14M2M4M2O0O2N2O0O2O000000@DL<3FL:3HL84HL84HL84HL84HL93GL:4FL;4CL?4_OLb0a01N3L3N3LSl0"},
        "scribble": [[16, 12], [32, 24]], "point": [32, 12]}]}"""
    (region,) = read_layout(text).regions
    y, x = np.mgrid[:48, :64]
    ring = ((x - 30) ** 2 + (y - 20) ** 2 < 15**2) & ~((x - 34) ** 2 + (y - 22) ** 2 < 6**2)
    assert np.array_equal(region.mask.values, ring)  # pycocotools wrote the run lengths above from this ring
    assert region.scribble == ((0.25, 0.25), (0.5, 0.5))
    assert region.point == (0.5, 0.25)
    written = json.loads(write_layout(Layout((region,)), "instancediffusion", 64, 48))["annos"][0]
    assert written["mask"] == json.loads(text)["annos"][0]["mask"]


def test_a_point_a_hair_beyond_the_edge_lies_on_it():
    text = """{"caption": "", "width": 3, "height": 3, "annos": [
        {"caption": "a palm", "point": [3.0000003, -0.0000003], "scribble": [[0, 3.0000003], [1.5, 1.5]]}]}"""
    (palm,) = read_layout(text).regions
    assert palm.point == (1, 0) and palm.scribble == ((0, 1), (0.5, 0.5))


def test_boxes_are_drawn_around_other_places():
    text = """{"caption": "", "width": 800, "height": 400, "annos": [
        {"caption": "a palm", "point": [200, 100]},
        {"caption": "a tower", "point": [200, 100], "radius": 0.5},
        {"caption": "a path", "scribble": [[8, 200], [400, 300]]},
        {"caption": "a pond", "mask": {"size": [2, 4], "counts": [2, 1, 5]}}]}"""
    palm, tower, path, pond = read_layout(text).regions
    assert np.allclose(
        palm.box, (150 / 800, 50 / 400, 250 / 800, 150 / 400)
    )  # an eighth of 400 pixels each way
    assert np.allclose(tower.box, (0, 0, 400 / 800, 300 / 400))
    assert np.allclose(path.box, (0, 192 / 400, 408 / 800, 308 / 400))
    assert np.allclose(pond.box, (0.25, 0, 0.5, 0.5))
    assert palm.point == tower.point == (0.25, 0.25) and tower.radius == 0.5


coordinates = st.floats(0, 1, allow_subnormal=False)
phrases = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)


@st.composite
def regions(draw):
    x0, x1 = sorted(
        draw(st.tuples(coordinates, coordinates).filter(lambda pair: abs(pair[0] - pair[1]) > 1e-3))
    )
    y0, y1 = sorted(
        draw(st.tuples(coordinates, coordinates).filter(lambda pair: abs(pair[0] - pair[1]) > 1e-3))
    )
    start, end = sorted((draw(coordinates), draw(coordinates)))
    mask = draw(st.none() | st.tuples(*[st.integers(1, 9)] * 2).flatmap(masks))
    scribble = draw(
        st.none() | st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4).map(tuple)
    )
    point = draw(st.none() | st.tuples(coordinates, coordinates))
    strength = draw(st.floats(0, 10))
    radius = draw(st.none() | coordinates)
    return Region(draw(phrases), (x0, y0, x1, y1), strength, start, end, mask, scribble, point, radius)


def masks(size):
    cells = st.lists(st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1])
    return cells.filter(any).map(lambda values: Mask(np.array(values, dtype=np.float32).reshape(size)))


@settings(deadline=None, max_examples=examples(60))
@given(st.lists(regions(), max_size=5), st.text(st.characters(codec="utf-8"), max_size=30))
@pytest.mark.parametrize("format", WRITABLE)
def test_round_trips_keep_every_value(format, some_regions, prompt):
    layout = Layout(tuple(some_regions), prompt)
    text = write_layout(layout, format, 776, 520)
    for named in (format, "auto"):
        again = read_layout(text, named, 1, 1)
        assert again.prompt == prompt
        assert len(again.regions) == len(layout.regions)
        for before, after in zip(layout.regions, again.regions, strict=True):
            assert after.phrase == before.phrase
            for values in ("box", "strength", "start_percent", "end_percent", "scribble", "point", "radius"):
                one, other = getattr(before, values), getattr(after, values)
                assert (one is None) == (other is None)
                assert one is None or np.allclose(one, other, rtol=0, atol=1e-6)
            assert (before.mask is None) == (after.mask is None)
            assert before.mask is None or np.array_equal(before.mask.values, after.mask.values)


def either_a_layout_or_a_reason(text, format, index=None, edges="refuse", colours=False):
    """What every reader owes, whatever it is given."""
    try:
        layout = read_layout(text, format, 512, 256, index, edges, colours)
    except ValueError as error:
        assert str(error).strip()
    else:
        assert isinstance(layout, Layout) and all(isinstance(region, Region) for region in layout.regions)
        write_layout(layout).encode()


@pytest.mark.parametrize("format", READABLE)
@settings(deadline=None, max_examples=examples(100))
@given(
    text=st.text(max_size=200)
    | st.from_regex(r"([\[\({\"'`:,.\-0-9 \n]|```json|a red car|null){0,40}", fullmatch=True)
)
def test_any_text(format, text):
    either_a_layout_or_a_reason(text, format)


KEYS = (
    *MARKS,
    *REGION_KEYS,
    *PHRASE_KEYS,
    *sorted(BOX_WORDS),
    "version",
    "annos",
    "caption",
    "width",
    "height",
    "x",
    "y",
)
KEYS += ("desc", "text", "type", "metadata", "elements", "high_level_description", "style_description")
KEYS += ("categories", "category_id", "category_name", "images", "image_id", "id", "info", "size", "counts")
KEYS += ("palette", "color_palette")
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**400)
values = st.recursive(
    leaves | st.lists(st.integers(0, 600) | st.floats(0, 1), min_size=4, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


@pytest.mark.parametrize("format", READABLE)
@settings(deadline=None, max_examples=examples(100))
@given(
    value=values, index=st.none() | st.integers(-1, 3), edges=st.sampled_from(EDGES), colours=st.booleans()
)
def test_any_json_of_familiar_keys(format, value, index, edges, colours):
    try:
        text = json.dumps(value)
    except ValueError:  # json itself refuses to print very large whole numbers
        return
    either_a_layout_or_a_reason(text, format, index, edges, colours)


def broken_somewhere(value, spoil, path):
    """A copy of JSON with one value, found by a path of numbers, replaced."""
    if not path or not isinstance(value, dict | list) or not value:
        return spoil
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = keys[path[0] % len(keys)]
    copy = value.copy()
    copy[key] = broken_somewhere(value[key], spoil, path[1:])
    return copy


@pytest.mark.parametrize(
    "name", [name for name in TEXTS if TEXTS[name].lstrip()[0] in "{[" and "lists" not in name]
)
@settings(deadline=None, max_examples=examples(100))
@given(
    spoil=leaves | values,
    path=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    index=st.none() | st.integers(0, 1),
    edges=st.sampled_from(EDGES),
)
def test_real_json_with_one_value_spoilt(name, spoil, path, index, edges):
    try:
        text = json.dumps(broken_somewhere(json.loads(TEXTS[name]), spoil, path))
    except ValueError:
        return
    either_a_layout_or_a_reason(text, name.split(",")[0], index, edges)
    either_a_layout_or_a_reason(text, "auto", index, edges, colours=True)


@pytest.mark.parametrize("name", TEXTS)
@settings(deadline=None, max_examples=examples(60))
@given(
    start=st.integers(0, 400),
    length=st.integers(0, 40),
    instead=st.text(max_size=3),
    edges=st.sampled_from(EDGES),
)
def test_real_texts_cut_and_changed(name, start, length, instead, edges):
    text = TEXTS[name]
    start %= len(text)
    either_a_layout_or_a_reason(text[:start] + instead + text[start + length :], "auto", edges=edges)


# A place in a text as a part of a thousand, and a length.
spots = st.tuples(st.integers(0, 999), st.integers(0, 30))
signs = st.sampled_from(
    [*"[](){}<>,:;|/-=\"'`“”#\n\\ 0159xy.，：［", "```", "\\ud800", "\0", "null", "1e999", "\u202e"]
)
edits = st.lists(
    st.tuples(st.sampled_from(["cut", "put", "double", "bytes"]), spots, spots, signs), min_size=1, max_size=6
)


def edited(text, edits):
    """A text with stretches cut out, signs put in, stretches copied to other places, and bytes turned over."""
    for kind, (spot, length), (other, _), sign in edits:
        start, to = spot * len(text) // 1000, other * len(text) // 1000
        match kind:
            case "cut":
                text = text[:start] + text[start + length :]
            case "put":
                text = text[:start] + sign + text[start:]
            case "double":
                text = text[:to] + text[start : start + length] + text[to:]
            case "bytes":
                raw = bytearray(text, "utf-8", "surrogatepass")
                raw[start : start + length % 4] = bytes(
                    255 - byte for byte in raw[start : start + length % 4]
                )
                text = raw.decode("utf-8", "replace")
    return text


@settings(deadline=None, max_examples=examples(2000))
@given(
    name=st.sampled_from(sorted(TEXTS)),
    edits=edits,
    told=st.booleans(),
    index=st.none() | st.integers(0, 1),
    edges=st.sampled_from(EDGES),
    colours=st.booleans(),
)
def test_texts_of_every_form_edited_in_several_places(name, edits, told, index, edges, colours):
    format = name.split(",")[0] if told else "auto"
    either_a_layout_or_a_reason(edited(TEXTS[name], edits), format, index, edges, colours)


REFUSED = {
    "empty": ("  \n", "auto", "empty"),
    "no such format": ("[]", "yolo", "'yolo'.*instancediffusion"),
    "broken JSON": ('{"regions": [\n{"phrase": "a"', "auto", "line 2, column 15"),
    "broken JSON in a fence": ('So:\n```json\n{"regions": [,]}\n```', "auto", "line 1, column 14"),
    "not a number": ('{"regions": [{"phrase": "a", "box": [0, 0, NaN, 1]}]}', "auto", "NaN"),
    "newer version": ('{"version": 2, "regions": []}', "auto", "version is 2.*update"),
    "misspelt key": (
        '{"regions": [{"phrase": "a", "box": [0, 0, 1, 1], "strenght": 1}]}',
        "auto",
        r"regions\[0\].*strenght",
    ),
    "box of three": (
        '{"regions": [{"phrase": "a", "box": [0, 0, 1]}]}',
        "auto",
        r"regions\[0\].box.*4 numbers",
    ),
    "text for a number": (
        '{"regions": [{"phrase": "a", "box": [0, 0, 1, "1"]}]}',
        "auto",
        r"regions\[0\].box\[3\].*'1'",
    ),
    "true for a number": (
        '{"regions": [{"phrase": "a", "box": [0, 0, 1, true]}]}',
        "auto",
        r"box\[3\].*True",
    ),
    "empty phrase": (
        '{"regions": [{"phrase": " ", "box": [0, 0, 1, 1]}]}',
        "auto",
        r"regions\[0\]: .*needs a phrase",
    ),
    "half a character": (
        '{"regions": [{"phrase": "\\ud800", "box": [0, 0, 1, 1]}]}',
        "auto",
        r"regions\[0\].phrase.*surrogate",
    ),
    "outside": ('{"regions": [{"phrase": "a", "box": [0, 0, 1.5, 1]}]}', "auto", r"regions\[0\].*outside"),
    "no place": (
        '{"width": 9, "height": 9, "annos": [{"caption": "a"}]}',
        "auto",
        r"annos\[0\] has no place",
    ),
    "empty mask": (
        '{"width": 9, "height": 9, "annos": [{"caption": "a", "mask": {"size": [2, 2], "counts": [4]}}]}',
        "auto",
        r"annos\[0\].mask is empty",
    ),
    "no such category": (
        '{"annotations": [{"image_id": 1, "category_id": 4, "bbox": [0, 0, 9, 9]}], "categories": []}',
        "auto",
        r"annotations\[0\].category_id is 4",
    ),
    "two images": (
        '{"annotations": [{"image_id": 1}, {"image_id": 2}], "categories": []}',
        "auto",
        "2 images",
    ),
    "a whole benchmark": (
        '{"0": {"caption": "", "segment": []}, "1": {"caption": "", "segment": []}}',
        "auto",
        "2 layouts.*index, 0 to 1",
    ),
    "a layout and something else": (
        '{"a picture": {"caption": "", "segment": []}, "made by": {"tool": "X"}}',
        "auto",
        r"at 'made by' is none: .*'tool'",
    ),
    "two formats in one": ('{"regions": [], "annos": []}', "auto", "regions and annos"),
    "two answers": (
        'Either [{"label": "a", "bbox": [1, 1, 9, 9]}] or [{"label": "b", "bbox": [1, 1, 9, 9]}]',
        "auto",
        "2 pieces",
    ),
    "corners or size": ('[{"label": "a", "box": [10, 10, 90, 90]}]', "auto", r"item\[0\].box could be"),
    "no phrase": ('[{"bbox": [10, 10, 90, 90]}]', "llm", r"item\[0\] has no phrase"),
    "fractions and pixels": ("a: 0.1 0.1 0.5 0.5\nb: 100 100 200 200", "auto", "neither all.*line 2.*line 1"),
    "pixels of a larger picture": ("a: 0 0 1024 1024", "lines", "512 x 256"),
    "three numbers in a pair": (
        '("a", [1, 2, 3]), ("b", [1, 2, 3, 4])',
        "auto",
        r'item 1 .*"a", \[1, 2, 3\]',
    ),
    "words": ("draw me a car", "auto", "line 1 should read"),
    "five numbers": ("a: 1 2 3 4\nb: 1 2 3 4 5", "auto", "line 2.*has 5"),
    "deep": ('{"a":' * 100_000, "auto", "nested too deeply"),
    "deep and loose": ("[" * 100_000, "auto", r"line 1 should read.*\[\.\.\.\."),
    "long": ("a" * 4_000_001, "auto", "4000001 characters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_place_and_reason(name):
    text, format, told = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){told}"):
        read_layout(text, format, 512, 256)


@pytest.mark.parametrize("side", [0, -1, float("nan"), float("inf")])
def test_a_picture_has_a_size(side):
    with pytest.raises(ValueError, match="more than 0 pixels"):
        read_layout("a: 1 1 9 9", "auto", 512, side)


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_masks_survive_run_lengths(height, width, seed):
    values = (np.random.default_rng(seed).random((height, width)) < 0.3).astype(np.float32)
    values[-1, 0] = 1
    written = json.loads(json.dumps(write_mask(Mask(values))))
    assert np.array_equal(read_mask(written, "mask").values, values)


@pytest.mark.parametrize(
    "value, told",
    [
        ({"size": [2, 2], "counts": "00"}, "cover"),
        ({"size": [2, 2], "counts": "~~~"}, "no COCO run length"),
        ({"size": [2, 2], "counts": "0p"}, "'p' at character 1"),
        ({"size": [2, 2], "counts": "/"}, "'/' at character 0"),
        ({"size": [2, 2], "counts": "Q" * 8 + "0"}, "'Q' at character 7"),
        ({"size": [2, 3], "counts": [1, 4]}, "counts cover 5 pixels of 2 x 3"),
        ({"size": [2, 3]}, "counts should be run lengths"),
        (
            {"size": [8192, 8193], "counts": [0, 8192 * 8193]},
            "8192 x 8193; it takes 1 to 67108864 pixels in all",
        ),
        ({"size": [4, 0], "counts": []}, "pixels in all"),
        ({"size": [2], "counts": [4]}, "2 numbers, .height, width., but it is .2."),
        ({"size": [2, 2], "counts": "P"}, "ends in the middle"),
        ({"size": [2, 2], "counts": [1, -1, 4]}, "run lengths"),
        ({"size": [1e9, 1e9], "counts": "0"}, "pixels in all"),
        ({"size": [0, 4], "counts": []}, "pixels in all"),
        ([[1, 2, 3]], "size and counts"),
    ],
)
def test_bad_masks_are_refused(value, told):
    with pytest.raises(ValueError, match=f"annos.*{told}"):
        read_mask(value, "annos[0].mask")


def test_a_soft_mask_is_not_written():
    soft = Region("a cloud", (0, 0, 1, 1), mask=Mask(np.full((4, 4), 0.5)))
    with pytest.raises(ValueError, match="soft mask.*threshold"):
        write_layout(Layout((soft,)))


def test_a_place_without_a_box_gets_the_box_around_it():
    """In this pack's own JSON as in InstanceDiffusion's; on a wide picture a radius spans less of its width."""
    own = {
        "regions": [
            {"phrase": "a scarf", "scribble": [[0.25, 0.5], [0.5, 0.5]], "radius": 0.1},
            {"phrase": "a dove", "point": [0.5, 0.5], "radius": 0.1},
            {"phrase": "a cup", "mask": write_mask(Mask(np.eye(4, dtype=np.float32)[1:3]))},
        ]
    }
    scarf, dove, cup = read_layout(json.dumps(own), "deig", 1000, 500).regions
    assert scarf.box == pytest.approx((0.2, 0.4, 0.55, 0.6)) and scarf.scribble == ((0.25, 0.5), (0.5, 0.5))
    assert dove.box == pytest.approx((0.45, 0.4, 0.55, 0.6)) and dove.radius == 0.1
    assert cup.box == pytest.approx((0.25, 0, 0.75, 1))
    with pytest.raises(ValueError, match=r"regions\[0\]\.box should be 4 numbers.*missing"):
        read_layout('{"regions": [{"phrase": "a cup"}]}')
