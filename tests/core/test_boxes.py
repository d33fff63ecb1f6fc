"""Boxes as the host passes them, to regions and back."""

import numpy as np
import pytest
from deig_pack.deig_core.regions.boxes import ORDERS, PHRASES, BoxOptions, read_boxes, write_boxes
from deig_pack.deig_core.regions.choice import chosen
from deig_pack.deig_core.regions.colours import WORDS, colour_word, palette_words
from deig_pack.deig_core.regions.edges import EdgeCutter
from deig_pack.deig_core.regions.region import LEAST_SIDE, Region
from hypothesis import example, given, settings
from hypothesis import strategies as st

CAT = {"x": 100.0, "y": 50.0, "width": 200.0, "height": 100.0, "label": "cat", "score": 0.9}
DOG = {"x": 20.0, "y": 0.0, "width": 40.0, "height": 200.0, "label": "dog", "score": 0.6}
CANVAS = {
    "x": 0,
    "y": 0,
    "width": 400,
    "height": 100,
    "metadata": {"type": "text", "text": "SALE", "desc": "bold letters", "palette": ["#ff0000", "#FFF"]},
}


def read(value, **options):
    return read_boxes(value, 400, 200, BoxOptions(**options))


@pytest.mark.parametrize("value", [CAT, [CAT], [[CAT]], [[CAT], [DOG, DOG]]])
def test_every_shape_that_boxes_travel_in(value):
    (region,) = read(value).regions
    assert region == Region("cat", (0.25, 0.25, 0.75, 0.75))


def test_the_boxes_of_another_picture():
    assert [region.phrase for region in read_boxes([[CAT], [DOG, CAT]], 400, 200, picture=1).regions] == [
        "dog",
        "cat",
    ]
    with pytest.raises(ValueError, match="no picture 2: boxes came for 2"):
        read_boxes([[CAT], [DOG]], 400, 200, picture=2)


def test_numbers_of_numpy_count_as_numbers():
    (region,) = read(
        {name: np.float32(CAT[name]) for name in ("x", "y", "width", "height")} | {"label": "a"}
    ).regions
    assert region.box == (0.25, 0.25, 0.75, 0.75)


def test_phrases_from_metadata_with_and_without_colours():
    assert read(CANVAS, phrases="metadata").regions[0].phrase == 'the text "SALE", bold letters'
    coloured = read(CANVAS, phrases="metadata", colours=True).regions[0].phrase
    assert coloured == 'the text "SALE", bold letters, in red and white'


def test_a_thing_is_described_without_the_letters():
    thing = CANVAS | {"metadata": {"type": "obj", "text": "left over", "desc": "a shelf"}}
    assert read(thing, phrases="metadata").regions[0].phrase == "a shelf"


def test_elements_are_thousandths_with_y_first():
    element = {"type": "obj", "bbox": [250, 100, 750, 500], "desc": "a red cup", "color_palette": ["#FF0000"]}
    (region,) = read([element], phrases="metadata", colours=True).regions
    assert region.phrase == "a red cup, in red"
    assert np.allclose(region.box, (0.1, 0.25, 0.5, 0.75), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"box 1.bbox should be 4 numbers, \[y0, x0, y1, x1"):
        read([element | {"bbox": [1, 2]}])


def test_colours_go_with_phrases_from_anywhere():
    phrases = {"metadata": 'the text "SALE", bold letters', "lines": "a sign", "labels": "a board"}
    for source, phrase in phrases.items():
        one = CANVAS | {"label": "a board"}
        (region,) = read([one], phrases=source, lines="a sign", colours=True).regions
        assert region.phrase == f"{phrase}, in red and white"


def test_lines_are_one_each_or_one_for_all():
    both = read([CAT, DOG], phrases="lines", lines="a tabby\n\n  a pug ")
    assert [region.phrase for region in both.regions] == ["a tabby", "a pug"]
    assert {region.phrase for region in read([CAT, DOG], phrases="lines", lines="a pet").regions} == {"a pet"}
    with pytest.raises(ValueError, match="3 lines for 2 boxes"):
        read([CAT, DOG], phrases="lines", lines="a\nb\nc")


def test_threshold_limit_and_what_the_report_says():
    boxes = [DOG, CAT, CAT | {"score": 0.1, "label": "shadow"}, CAT | {"score": 0.7, "label": "fox"}]
    got = read(boxes, threshold=0.5, limit=2)
    assert [region.phrase for region in got.regions] == ["cat", "fox"]
    assert got.report == "2 regions of 4 boxes; 1 below the threshold; 1 over the limit."
    assert [region.phrase for region in read(boxes[::-1], limit=2).regions] == ["fox", "cat"], "as they came"
    with pytest.raises(ValueError, match="the surest has 0.9"):
        read(boxes, threshold=0.95)
    unsure = {key: value for key, value in DOG.items() if key != "score"}
    assert len(read([unsure], threshold=1.0).regions) == 1, "a box without a score stays"


@pytest.mark.parametrize(
    ("order", "phrases"),
    [
        ("as given", ["cat", "dog"]),
        ("size", ["cat", "dog"]),
        ("score", ["dog", "cat"]),
        ("left to right", ["dog", "cat"]),
    ],
)
def test_orders_run_back_to_front(order, phrases):
    assert [region.phrase for region in read([CAT, DOG], order=order).regions] == phrases
    assert order in ORDERS


def test_edges():
    over = CAT | {"x": 350.0}
    with pytest.raises(ValueError, match=r"box 2: .*outside the image.*pixels of a picture 400 x 200"):
        read([DOG, over])
    away = CAT | {"x": 500.0}
    got = read([DOG, over, away], edges="clip")
    assert [region.box for region in got.regions] == [(0.05, 0.0, 0.15, 1.0), (0.875, 0.25, 1.0, 0.75)]
    assert got.report == (
        "2 regions of 3 boxes. 1 box was cut at the picture's edge; "
        "1 without area inside the picture left out (box 3)."
    )
    with pytest.raises(ValueError, match="All 1 boxes lie outside"):
        read([away], edges="clip")


def test_the_cutter_leaves_what_fits_alone():
    cutter = EdgeCutter("clip")
    assert cutter.fit((0.0, 0.1, 1.0, 0.9), "a") == (0.0, 0.1, 1.0, 0.9)
    assert cutter.told() == ""
    assert cutter.fit((0.5, 0.1, 0.5, 0.9), "regions[3]") is None
    assert cutter.fit((-0.5, 0.1, 1.49, 0.9), "b") == (0.0, 0.1, 1.0, 0.9)
    assert cutter.told() == (
        "1 box was cut at the picture's edge; 1 without area inside the picture left out (regions[3])."
    )
    with pytest.raises(ValueError, match="refuse, clip"):
        EdgeCutter("crop")


def masks_of(*boxes):
    masks = np.zeros((len(boxes), 20, 40), np.float32)
    for mask, (x, y, width, height) in zip(masks, boxes, strict=True):
        mask[y : y + height, x : x + width] = 1
    return masks


CAT_MASK, DOG_MASK = (12, 6, 10, 5), (2, 0, 4, 20)  # of 40 x 20: a tenth of the picture


def test_masks_go_with_their_boxes_through_every_sifting():
    masks = masks_of(CAT_MASK, DOG_MASK)
    dog, cat = read_boxes([CAT, DOG], 400, 200, BoxOptions(order="left to right"), masks=masks).regions
    assert np.array_equal(dog.mask.values, masks[1]) and np.array_equal(cat.mask.values, masks[0])


def test_a_batch_holds_the_masks_of_all_its_pictures():
    masks = masks_of(CAT_MASK, DOG_MASK, CAT_MASK)
    boxes = [[CAT], [DOG, CAT]]
    first, second = (read_boxes(boxes, 400, 200, picture=picture, masks=masks).regions for picture in (0, 1))
    assert [region.mask.bounding_box()[0] for region in (*first, *second)] == [0.3, 0.05, 0.3]


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        (masks_of(CAT_MASK), "1 masks came with 2 boxes"),
        (masks_of(CAT_MASK, DOG_MASK, CAT_MASK), "3 masks came with 2 boxes"),
        (masks_of(DOG_MASK, CAT_MASK), "mask 1 lies wholly outside box 1"),
        (masks_of(CAT_MASK, (0, 0, 0, 0)), "mask 2: .*empty"),
        (masks_of(CAT_MASK, DOG_MASK)[:, :, :20], "20 x 20, but the picture of the boxes is 400 x 200"),
        (masks_of(CAT_MASK, DOG_MASK)[0], "shape"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(masks, told):
    with pytest.raises(ValueError, match=told):
        read_boxes([CAT, DOG], 400, 200, masks=masks)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[]", "Text goes to DEIG Regions From Text"),
        (None, "but it is missing"),
        ([], "No box came in"),
        ([[]], "No box came in"),
        ([CAT, 7], "box 2 should have x, y, width and height"),
        ([[CAT], 7], "box 1 should have"),
        ([{"x": 0, "y": 0, "width": 3}], "box 1 has no height"),
        ([CAT | {"x": "3"}], "box 1.x should be a number"),
        ([CAT | {"x": float("nan")}], "box 1.x is nan"),
        ([CAT | {"width": 0}], "box 1: .*no area"),
        ([CAT | {"score": "sure"}], "box 1.score"),
        ([CAT | {"metadata": "x"}], "box 1.metadata should be an object"),
        ([{key: CAT[key] for key in ("x", "y", "width", "height")}], "box 1 has no label"),
        ([DOG, CAT | {"box": [1, 2, 3, 4]}], "box 2 holds a box in 'box', which would be lost"),
        ([CAT | {"parts": [DOG]}], "box 1 holds a box in 'parts', which would be lost"),
        (
            [{"bbox": [0, 0, 500, 500], "desc": "a cat"} | DOG],
            "box 1 holds a box in 'x', which would be lost",
        ),
    ],
)
def test_what_is_no_box_is_refused_by_name(value, told):
    with pytest.raises(ValueError, match=told):
        read(value)


def test_refusals_say_where_the_phrase_is():
    with pytest.raises(ValueError, match="or to metadata: it has a description"):
        read(CANVAS)
    with pytest.raises(ValueError, match="connect those.*labels: it has one"):
        read(CAT, phrases="metadata")
    with pytest.raises(ValueError, match="box 1: The colour 'reddish' is not written #rrggbb"):
        read(CANVAS | {"metadata": {"desc": "a", "palette": ["reddish"]}}, phrases="metadata", colours=True)
    with pytest.raises(ValueError, match="labels, metadata, lines"):
        BoxOptions(phrases="names")


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4)
loose = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["x", "y", "width", "height", "label", "score", "metadata", "desc", "palette", "type", "bbox"]
            ),
            inner,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(loose, st.sampled_from(PHRASES), st.booleans())
def test_anything_gives_regions_or_a_reason(value, phrases, colours):
    try:
        got = read_boxes(
            value, 512, 512, BoxOptions(phrases=phrases, lines="a", colours=colours, edges="clip")
        )
    except ValueError as error:
        assert str(error)
    else:
        assert got.regions and all(isinstance(region, Region) for region in got.regions)


fraction = st.floats(0, 1, allow_nan=False)
box = st.tuples(fraction, fraction, fraction, fraction).map(
    lambda e: (min(e[0], e[2]), min(e[1], e[3]), max(e[0], e[2]), max(e[1], e[3]))
)


@settings(max_examples=200, deadline=None)
@example([(0.0, 0.0514459929, 1.0, 0.052734375)], "labels")  # thin, within a pixel
@example([(0.9999, 0.2, 1.0, 0.2001)], "labels")
@given(
    st.lists(box.filter(lambda b: min(b[2] - b[0], b[3] - b[1]) >= LEAST_SIDE), min_size=1, max_size=5),
    st.sampled_from(["labels", "metadata"]),
)
def test_what_is_written_is_read_again(boxes, phrases):
    regions = tuple(Region(f"thing {count}", edges) for count, edges in enumerate(boxes))
    width, height = 640, 360
    again = read_boxes(
        write_boxes(regions, width, height), width, height, BoxOptions(phrases=phrases)
    ).regions
    assert [region.phrase for region in again] == [region.phrase for region in regions]
    for one, other in zip(again, regions, strict=True):
        errors = np.abs(np.subtract(one.box, other.box)) * (width, height, width, height)
        assert errors.max() <= 1 + 1e-6, (
            "a box thinner than a pixel grows to one; all others move by half of one"
        )


def test_written_boxes_are_whole_pixels_inside_the_picture():
    ((sliver,),) = write_boxes([Region("a hair", (0.9999, 0.0, 1.0, 1.0))], 100, 50)
    assert sliver == {
        "x": 99,
        "y": 0,
        "width": 1,
        "height": 50,
        "label": "a hair",
        "metadata": {"type": "obj", "text": "", "desc": "a hair", "palette": []},
    }


REGIONS = tuple(
    Region(phrase, (0, 0, 1, 1)) for phrase in ("a cat", "a red  car", "The Cat in 7", "catalogue")
)


@pytest.mark.parametrize(
    ("choice", "indices"),
    [
        ("", (0, 1, 2, 3)),
        (" ,\n", (0, 1, 2, 3)),
        ("2", (1,)),
        ("3-4, 1", (0, 2, 3)),
        ("4\n1-2", (0, 1, 3)),
        ("cat", (0, 2)),
        ("CAT, 1, red car", (0, 1, 2)),
        ("'7'", (2,)),
    ],
)
def test_regions_are_chosen_by_number_and_words(choice, indices):
    assert chosen(REGIONS, choice) == indices


@pytest.mark.parametrize(
    "phrase, is_it", [("a bobcat", False), ("a cat-flap", True), ("two cats", False), ("cat", True)]
)
def test_words_are_whole(phrase, is_it):
    assert (0 in chosen((Region(phrase, (0, 0, 1, 1)), *REGIONS), "cat")) == is_it


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("0", "numbered 1 to 4"),
        ("2-5", "numbered 1 to 4"),
        ("dog", "'dog'.*1 'a cat', 2"),
        ("''", "No region"),
    ],
)
def test_a_choice_of_nothing_is_refused(choice, told):
    with pytest.raises(ValueError, match=told):
        chosen(REGIONS, choice)
    with pytest.raises(ValueError, match="no regions to choose from"):
        chosen((), "")


def test_every_colour_word_is_nearest_to_itself():
    for word, rgb in WORDS.items():
        assert colour_word("#" + bytes(rgb).hex()) == word


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("#ff0000", "red"),
        ("0f0", "bright green"),
        ("#008000", "green"),
        ("#0000FF", "blue"),
        ("#001f3f", "navy blue"),
        ("#800000", "dark red"),
        ("#ffa500", "orange"),
        ("#f5f5dc", "cream"),
        ("#d2b48c", "beige"),
        ("#708090", "grey"),
        ("#000", "black"),
        ("#333", "dark grey"),
        ("#d3d3d3", "light grey"),
        ("#fff", "white"),
        ("#8b0000", "dark red"),
        ("#ff69b4", "pink"),
        ("#f0f", "magenta"),
        ("#800080", "purple"),
        ("#87cefa", "light blue"),
        ("#40e0d0", "turquoise"),
        ("#008080", "teal"),
        ("#006400", "dark green"),
        ("#90ee90", "light green"),
        ("#808000", "olive"),
        ("#ff0", "yellow"),
        ("#daa520", "gold"),
        ("#8b4513", "brown"),
    ],
)
def test_known_colours_have_their_names(code, word):
    assert colour_word(code) == word


def oklab(rgb):
    """sRGB, 0 to 255 -> OKLab by way of XYZ (D65), as Ottosson derives it."""
    share = np.array(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    to_cones = [
        [0.8189330101, 0.3618667424, -0.1288597137],
        [0.0329845436, 0.9293118715, 0.0361456387],
        [0.0482003018, 0.2643662691, 0.6338517070],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_cones) @ xyz)


def test_a_colour_has_the_nearest_word_as_the_eye_sees_it():
    words = {word: oklab(rgb) for word, rgb in WORDS.items()}
    told_apart = 0
    for rgb in np.random.default_rng(7).integers(0, 256, (400, 3)).tolist():
        if np.linalg.norm(oklab(rgb)[1:]) < 0.03:
            continue  # a grey is named as one
        far = {word: np.linalg.norm(lab - oklab(rgb)) for word, lab in words.items()}
        nearest, next_one = sorted(far, key=far.get)[:2]
        if far[nearest] < 0.98 * far[next_one]:
            told_apart += 1
            assert colour_word("#" + bytes(rgb).hex()) == nearest, rgb
    assert told_apart > 300


def test_a_grey_has_a_greys_name():
    """Also where a faint colour lies nearer, as lavender does to the middle of grey and light grey."""
    greys = [word for word, rgb in WORDS.items() if len(set(rgb)) == 1]
    named = [colour_word("#" + bytes([level] * 3).hex()) for level in range(256)]
    assert list(dict.fromkeys(named)) == greys == ["black", "dark grey", "grey", "light grey", "white"]
    assert colour_word("#a9a7a8") == "light grey" and colour_word("#a99fd0") == "lavender"


def test_a_palette_in_words():
    assert palette_words([]) == ""
    assert palette_words(["#ff0000", "#fe0000"]) == "red"
    assert palette_words(["#f00", "#fff", "#001f3f"]) == "red, white and navy blue"
    with pytest.raises(ValueError, match="#rrggbb"):
        colour_word("#12345")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"order": "random"}, "order is 'random'; it is one of as given, size, score, left to right"),
        ({"threshold": 1.01}, "threshold is 1.01"),
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"limit": -1}, "limit is -1"),
        ({"edges": "crop"}, "edges is 'crop'"),
    ],
)
def test_options_that_are_none_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        read([CAT], **options)


def test_left_alone_the_options_change_nothing():
    over = CANVAS | {"label": "a sign", "x": 380}
    with pytest.raises(ValueError, match="outside the image"):
        read([over])
    phrases = [region.phrase for region in read([DOG, CANVAS | {"label": "a sign"}, CAT]).regions]
    assert phrases == ["dog", "a sign", "cat"]


@pytest.mark.parametrize(
    "drawn", [{"x": 300.0, "width": -200.0}, {"y": 150.0, "height": -100.0}], ids=["leftwards", "upwards"]
)
def test_a_box_drawn_from_its_other_corner_is_the_same(drawn):
    assert read([CAT | drawn]).regions == read([CAT]).regions


def test_a_box_whose_words_are_null_is_one_without():
    bare = CAT | {"metadata": None, "score": None}
    assert read([bare], threshold=1.0).regions == read([CAT]).regions
    nothing = {"desc": None, "text": None, "type": None, "palette": None}
    assert read([CAT | {"metadata": nothing}], colours=True).regions == read([CAT]).regions
    with pytest.raises(ValueError, match="box 1 has no label. Set phrases to lines and .* there.$"):
        read([CAT | {"label": None}])


def test_spaces_around_words_are_no_part_of_them():
    metadata = {"type": " text ", "text": " SALE ", "desc": " bold\n"}
    assert read([CAT | {"label": " cat\n"}]).regions[0].phrase == "cat"
    assert (
        read([CAT | {"metadata": metadata}], phrases="metadata").regions[0].phrase == 'the text "SALE", bold'
    )
    with pytest.raises(ValueError, match="has no label"):
        read([CAT | {"label": "  "}])


@pytest.mark.parametrize(
    ("metadata", "phrase"),
    [
        ({"type": "text", "text": "", "desc": "a sign"}, "a sign"),
        ({"type": "text", "text": "SALE"}, 'the text "SALE"'),
        ({"text": "SALE", "desc": "a sign"}, "a sign"),
    ],
)
def test_letters_are_named_only_where_there_are_some(metadata, phrase):
    assert read([CAT | {"metadata": metadata}], phrases="metadata").regions[0].phrase == phrase


@pytest.mark.parametrize(
    ("box", "told"),
    [
        (CAT | {"label": 3}, "box 2.label should be text, but it is 3"),
        (CAT | {"metadata": {"desc": ["a"]}}, "box 2.metadata.desc should be text"),
        (CAT | {"metadata": {"palette": "#ff0000"}}, "box 2.metadata.palette should be a list of colours"),
        (
            {"bbox": [0, 0, 500, 500], "desc": "a", "color_palette": {"a": 1}},
            "box 2.color_palette should be a list of colours",
        ),
        (CAT | {"score": float("nan")}, "box 2.score is nan"),
        (CAT | {"height": None}, "box 2.height should be a number, but it is missing"),
    ],
)
def test_words_and_numbers_of_another_kind_are_refused_by_name(box, told):
    with pytest.raises(ValueError, match=told):
        read([DOG, box])


def test_a_score_of_numpy_is_one():
    scored = [CAT | {"score": np.float32(0.25)}, DOG | {"score": np.float64(0.75)}]
    assert [region.phrase for region in read(scored, threshold=0.5).regions] == ["dog"]
    assert [region.phrase for region in read(scored, threshold=0.75).regions] == ["dog"], "just as sure"


def test_a_palette_may_be_a_tuple():
    coloured = CAT | {"metadata": {"palette": ("#ff0000",)}}
    assert read([coloured], colours=True).regions[0].phrase == "cat, in red"


def test_what_has_no_score_counts_as_sure_and_the_first_of_equals_stays():
    unsure = {key: value for key, value in CAT.items() if key != "score"}
    first, second = unsure | {"label": "first"}, unsure | {"label": "second"}
    assert [region.phrase for region in read([CAT, first, second, DOG], limit=1).regions] == ["first"]
    assert [region.phrase for region in read([CAT, first, second, DOG], limit=2).regions] == [
        "first",
        "second",
    ]
    assert len(read([CAT, DOG], limit=2).regions) == 2
    ordered = read([first, DOG, CAT], order="score").regions
    assert [region.phrase for region in ordered] == ["dog", "cat", "first"]


@pytest.mark.parametrize(
    ("order", "phrases"),
    [("size", ["square", "wide", "tall"]), ("left to right", ["wide", "square", "tall"])],
)
def test_size_is_the_area_and_left_is_the_left_edge(order, phrases):
    boxes = [
        {"x": 10, "y": 5, "width": 90, "height": 90, "label": "square"},
        {"x": 90, "y": 0, "width": 5, "height": 190, "label": "tall"},
        {"x": 0, "y": 100, "width": 390, "height": 10, "label": "wide"},
    ]
    assert [region.phrase for region in read(boxes, order=order).regions] == phrases


def test_a_threshold_that_leaves_nothing_is_told_with_its_numbers():
    with pytest.raises(
        ValueError, match="None of the 2 boxes has a score of 0.95 or more; the surest has 0.9."
    ):
        read([DOG, CAT], threshold=0.95)


def test_reports_count_in_words_of_one_and_many():
    away = CAT | {"x": 500.0}
    assert read([CAT]).report == "1 region of 1 box."
    assert read([CAT, away], edges="clip").report.startswith("1 region of 2 boxes. 1 without area")


def test_lines_are_for_the_boxes_that_come_out():
    away = CAT | {"x": 500.0}
    got = read([away, CAT, DOG], phrases="lines", lines="a\nb", edges="clip", order="left to right")
    assert [(region.phrase, region.box[0]) for region in got.regions] == [("a", 0.05), ("b", 0.25)]
    with pytest.raises(ValueError, match="There are 0 lines for 1 boxes"):
        read([CAT], phrases="lines", lines=" \n ")


def test_only_a_box_beyond_the_picture_is_said_to_be_in_pixels():
    with pytest.raises(ValueError) as refused:
        read([CAT | {"width": 0}])
    assert "pixels of a picture" not in str(refused.value)
    for beyond in ({"x": -50}, {"x": 350}, {"y": 150}):
        with pytest.raises(ValueError, match="pixels of a picture 400 x 200"):
            read([CAT | beyond])


def test_refusals_point_only_to_what_is_there():
    lettered = CANVAS | {"metadata": {"type": "text", "text": "SALE"}}
    with pytest.raises(ValueError, match="or to metadata"):
        read(lettered)
    bare = {key: CAT[key] for key in ("x", "y", "width", "height")}
    with pytest.raises(ValueError, match="Or set phrases to lines.$"):
        read(bare, phrases="metadata")


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((20, 40), True), ((21, 40), True), ((20, 41), True), ((23, 40), False), ((20, 43), False)],
)
def test_masks_may_be_rounded_to_whole_pixels_but_no_more(shape, fits):
    masks = np.ones((1, *shape), np.float32)
    if fits:
        assert read_boxes([CAT], 400, 200, masks=masks).regions[0].mask.size == shape
        return
    with pytest.raises(
        ValueError, match=f"The masks are {shape[1]} x {shape[0]}, but the picture of the boxes"
    ):
        read_boxes([CAT], 400, 200, masks=masks)


@pytest.mark.parametrize(
    ("place", "meets"),
    [
        ((29, 10, 5, 1), True),
        ((30, 10, 5, 1), False),
        ((6, 10, 5, 1), True),
        ((5, 10, 5, 1), False),
        ((20, 14, 1, 5), True),
        ((20, 15, 1, 5), False),
        ((20, 1, 1, 5), True),
        ((20, 0, 1, 5), False),
    ],
)
def test_a_mask_meets_its_box_on_every_side(place, meets):
    """The box of the cat: 10 to 30 across and 5 to 15 down, in the mask's pixels."""
    masks = masks_of(place)
    if meets:
        assert read_boxes([CAT], 400, 200, masks=masks).regions[0].mask is not None
    else:
        with pytest.raises(ValueError, match="mask 1 lies wholly outside box 1"):
            read_boxes([CAT], 400, 200, masks=masks)


def test_edges_are_rounded_to_the_nearest_pixel():
    ((one, hair),) = write_boxes(
        [Region("a", (0.127, 0.13, 0.253, 0.287)), Region("b", (0.509, 0.5, 0.513, 1.0))], 100, 200
    )
    assert [one[key] for key in ("x", "y", "width", "height")] == [13, 26, 12, 31]
    assert (hair["x"], hair["width"]) == (51, 1)


def test_a_cutter_names_five_at_most_and_counts_all():
    cutter = EdgeCutter("clip")
    for count in range(1, 6):
        assert cutter.fit((1.5, 0.0, 1.8, 1.0), f"box {count}") is None
    assert cutter.told().endswith(
        "5 without area inside the picture left out (box 1, box 2, box 3, box 4, box 5)."
    )
    cutter.fit((0.2, 1.0, 0.4, 1.2), "box 6")
    assert cutter.told().endswith(
        "6 without area inside the picture left out (box 1, box 2, box 3, box 4, box 5, ...)."
    )
    for _ in range(2):
        cutter.fit((0.2, 0.5, 0.4, 1.2), "box 7")
    assert cutter.told().startswith("2 boxes were cut at the picture's edge; 6")


def test_what_rounding_put_beyond_the_edge_is_not_told_as_cut():
    cutter = EdgeCutter("clip")
    assert cutter.fit((-1e-9, 0.0, 0.5, 1 + 1e-9), "a") == (0.0, 0.0, 0.5, 1.0)
    assert cutter.told() == ""
    assert cutter.fit((0.0, 1 - LEAST_SIDE / 2, 0.5, 1.5), "a sliver inside") is None


def test_a_choice_is_written_loosely():
    assert chosen(REGIONS, "2 - 3") == (1, 2)
    assert chosen(REGIONS, '"Red Car"') == (1,)
    assert chosen((*REGIONS, Region("a c++ book (new)", (0, 0, 1, 1))), "c++ book, (new)") == (4,)


@pytest.mark.parametrize("choice", ["3-2", "c.t", "5", "1;2", "2-"])
def test_a_choice_that_is_no_number_of_theirs_or_word_is_refused(choice):
    with pytest.raises(ValueError, match="There is no region|No region's phrase has"):
        chosen(REGIONS, choice)


@pytest.mark.parametrize("count, more", [(10, ""), (12, " and 2 more")])
def test_a_refused_choice_lists_ten_regions_shortly(count, more):
    regions = tuple(Region("a " + "very " * 20 + "long phrase", (0, 0, 1, 1)) for _ in range(count))
    with pytest.raises(ValueError) as refused:
        chosen(regions, "dog")
    listed = "a " + "very " * 7 + "ver"
    assert str(refused.value).endswith(f"9 {listed!r}, 10 {listed!r}{more}.")


@pytest.mark.parametrize("code", [" #ff0000\n", "F00", "#FF0000 "])
def test_a_colour_is_written_loosely(code):
    assert colour_word(code) == "red"


@pytest.mark.parametrize(
    "code", [3, None, ["#ff0000"], "", "#", "#ff", "#ff00", "#ff00000", "#ff0000fff", "##ff0000", "red"]
)
def test_what_is_no_colour_is_refused(code):
    with pytest.raises(ValueError, match="is not written #rrggbb"):
        colour_word(code)
