"""Every reader's work grows as its text does: twice the worst text takes about twice as long, not four times."""

import gc
import json
import time
from contextlib import suppress
from itertools import pairwise
from statistics import median

import pytest
from deig_pack.deig_core.regions.layouts import Layout, read_layout, write_layout
from deig_pack.deig_core.regions.region import Region

HALF = [0, 0, 0.5, 0.5]


def coco(annotations, images=(), categories=({"id": 1, "name": "a"},)):
    return json.dumps({"annotations": annotations, "images": list(images), "categories": list(categories)})


def listed(count, **entry):
    return json.dumps([entry] * count)


# What a stranger would try on each reader: n -> text.
WORST = {
    "pairs, blanks before the end": lambda n: '("a",(1)' + " " * n + "x",
    "pairs, blanks after the numbers": lambda n: '("a", [1, 2, 3, 4]' + " " * n + "x",
    "pairs, blanks after a comma": lambda n: '("a", [1, 2, 3,' + " " * n + "x",
    "pairs, one a line": lambda n: '("a red cup",[0,0,1,1])\n' * (n // 24),
    "pairs, flat and unquoted": lambda n: "(a small dog, 0, 0, 1, 1)\n" * (n // 26),
    "pairs, numbers without words": lambda n: "[1, 2, 3, 4]\n" * (n // 13),
    "pairs, three numbers": lambda n: "1, 2, 3 x " * (n // 10) + '("a", [0, 0, 1, 1])',
    "pairs, open brackets": lambda n: "(" * n + '"a", [0, 0, 1, 1])',
    "pairs, brackets in a phrase": lambda n: '("' + "()" * (n // 2) + '", [0, 0, 1, 1])',
    "pairs, openings": lambda n: '("a ' * (n // 4) + '", [0, 0, 1, 1])',
    "pairs, apostrophes": lambda n: "('" + "it's " * (n // 5) + "', [0, 0, 1, 1])",
    "pairs, quotes and blanks": lambda n: "('a'" + " " * n + "b', [0, 0, 1, 1])",
    "pairs, escapes": lambda n: '("' + "\\\\" * (n // 2) + '", [0, 0, 1, 1])',
    "pairs, lines in a phrase": lambda n: '("a' + "\n \n" * (n // 3) + '", [0, 0, 1, 1])',
    "pairs, names": lambda n: "x = " * (n // 4),
    "pairs, a name and blanks": lambda n: "x" + " " * n,
    "pairs, numbers joined": lambda n: "1%" * (n // 2) + "1e-" * (n // 3) + "-1" * (n // 2),
    "pairs, one long number": lambda n: '("a", [0, 0, 1, ' + "1" * n + "])",
    "pairs, prompts": lambda n: "background prompt" * (n // 17) + '("a", [0, 0, 1, 1])',
    "pairs, joined numbers": lambda n: "1 2-3 4-5 a" * (n // 11) + '("a", [0, 0, 1, 1])',
    "pairs, signs": lambda n: "1" + "- / [" * (n // 5) + '("a", [0, 0, 1, 1])',
    "pairs, names and signs": lambda n: "w 1 - " * (n // 6) + '("a", [0, 0, 1, 1])',
    "pairs, prices": lambda n: "$1 " * (n // 3) + '("a", [0, 0, 1, 1])',
    "pairs, a numbered list": lambda n: "1. 2 3 4\n" * (n // 9) + '("a", [0, 0, 1, 1])',
    "pairs, bracketed numbers": lambda n: ", [1 2" * (n // 6) + " " * n + '("a", [0, 0, 1, 1])',
    "lines": lambda n: "a red cup: 0 0 1 1\n" * (n // 19),
    "lines, one of numbers": lambda n: "a: " + "1 " * (n // 2),
    "lines, one long number": lambda n: "a: 0 0 1 " + "1" * n,
    "lines, colons": lambda n: ":" * n,
    "JSON, fences": lambda n: "```a" * (n // 4),
    "JSON, fence lines": lambda n: "```\n" * (n // 4),
    "JSON, a fence and words": lambda n: "```" + "a-" * (n // 2),
    "JSON, braces": lambda n: "{ " * (n // 2) + "x",
    "JSON, a brace and blanks": lambda n: "x {" + " " * n,
    "JSON, pieces": lambda n: 'x {"a": 1}' * (n // 10),
    "JSON, words beside": lambda n: '{"regions": []}' + "1, 2, 3 x " * (n // 10),
    "JSON, broken beside a fence": lambda n: '```\n{"regions": []}\n```' + '[{"a":[1,{"b' * (n // 13),
    "JSON, open beside a fence": lambda n: (
        '{"a":' * 100 + '```\n{"regions": []}\n```' + '{"a": "b' + '{"' * (n // 2)
    ),
    "JSON, open brackets": lambda n: "{(" * (n // 2) + '{"a": 1}',
    "JSON, brackets after": lambda n: '{"regions": []}' + "[(" * (n // 4) + ")]" * (n // 4) + ")" * n,
    "JSON, open lists": lambda n: 'a [{"a":' * (n // 8),
    "JSON, keys": lambda n: json.dumps({f"k{i}": 1 for i in range(n // 12)} | {"regions": []}),
    "JSON, layouts": lambda n: json.dumps({f"k{i}": {"segment": []} for i in range(n // 25)}),
    "JSON, lists beside": lambda n: json.dumps({"regions": [], "annos": [[[1]]] * (n // 9)}),
    "JSON, notes of numbers": lambda n: json.dumps(
        {"annos": [], "note": ["1 2-3 4-5 a", " " * 20] * (n // 40)}
    ),
    "JSON, keys of an entry": lambda n: json.dumps(
        [{"label": "a", "bbox": HALF} | {f"k{i}": {"x": 1, "Left": "1 2 3"} for i in range(n // 40)}]
    ),
    "deig": lambda n: listed(n // 50, phrase="a", box=HALF),
    "deig, unknown keys": lambda n: json.dumps({"regions": [{f"k{i}": 1 for i in range(n // 12)}]}),
    "deig, scribble": lambda n: listed(1, phrase="a", scribble=[[0.5, 0.5]] * (n // 12), box=HALF),
    "deig, mask of runs": lambda n: listed(
        1, phrase="a", box=HALF, mask={"size": [1, n // 3], "counts": [1] * (n // 3)}
    ),
    "deig, mask as text": lambda n: listed(
        1, phrase="a", box=HALF, mask={"size": [1, n], "counts": "11" + "1" + "0" * (n - 3)}
    ),
    "deig, empty runs": lambda n: listed(
        1, phrase="a", box=HALF, mask={"size": [1, 1], "counts": [0] * (n // 3)}
    ),
    "coco, images of annotations": lambda n: coco([{"image_id": i} for i in range(n // 18)]),
    "coco, images and keys": lambda n: json.dumps(
        json.loads(coco([{"image_id": i} for i in range(n // 60)])) | {f"k{i}": 1 for i in range(n // 15)}
    ),
    "coco, lists for images": lambda n: coco([{"image_id": [i]} for i in range(n // 20)]),
    "coco, images": lambda n: coco([], [{"id": i, "width": 9, "height": 9} for i in range(n // 40)]),
    "coco, categories": lambda n: coco(
        [{"image_id": 1, "category_id": i, "bbox": [0, 0, 9, 9]} for i in range(n // 100)],
        categories=[{"id": i, "name": f"a{i}"} for i in range(n // 100)],
    ),
    "instancediffusion": lambda n: json.dumps(
        {"annos": json.loads(listed(n // 40, caption="a", bbox=[0, 0, 9, 9]))}
    ),
    "deig-bench": lambda n: json.dumps(
        {"instances": json.loads(listed(n // 50, description="a", bbox=HALF))}
    ),
    "mig-bench": lambda n: json.dumps({"segment": json.loads(listed(n // 40, label="a", bbox=HALF))}),
    "elements": lambda n: listed(n // 40, desc="a", bbox=[0, 0, 9, 9]),
    "canvas": lambda n: listed(n // 60, x=0, y=0, width=9, height=9, metadata={"desc": "a"}),
    "qwen-1000": lambda n: listed(n // 40, label="a", bbox_2d=[0, 0, 9, 9]),
    "qwen-pixels": lambda n: listed(n // 40, label="a", bbox_2d=[0, 0, 9, 9]),
    "gemini": lambda n: listed(n // 40, label="a", box_2d=[0, 0, 9, 9]),
    "llm": lambda n: listed(n // 40, label="a", bbox=[0, 0, 9, 9]),
}
NAMED = ("qwen-1000", "qwen-pixels")


def seconds(work, *given):
    """Processor time of this thread, the least of some tries: what else the machine does is not counted.

    Nor is the garbage collector, which now and then looks through all that other tests have left.
    """

    def one():
        before = time.thread_time()
        with suppress(ValueError):
            work(*given)
        return time.thread_time() - before

    gc.disable()
    try:
        return min(one() for _ in range(3))
    finally:
        gc.enable()


def grows_with_its_input(work, made, size):
    """Whether twice the input takes less than 2.5 times as long; asked again where the machine disturbed it.

    In the middle of three doublings: memory has steps of its own, at which one doubling costs more.
    """

    def middle():
        times = [max(seconds(work, made(size << doubled)), 1e-4) for doubled in range(4)]
        return median(after / before for before, after in pairwise(times))

    return any(middle() < 2.5 for _ in range(4))


@pytest.mark.parametrize("name", WORST)
def test_twice_the_text_takes_about_twice_as_long(name):
    format = name if name in NAMED else "auto"
    assert grows_with_its_input(lambda text: read_layout(text, format), WORST[name], 20_000)


@pytest.mark.parametrize("format", ["deig", "instancediffusion", "coco", "deig-bench", "mig-bench"])
def test_twice_the_regions_take_about_twice_as_long_to_write(format):
    def made(count):
        return Layout(tuple(Region(f"a{i}", (0, 0, 0.5, 0.5)) for i in range(count)))

    assert grows_with_its_input(lambda layout: write_layout(layout, format), made, 500)
