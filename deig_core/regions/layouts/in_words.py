"""What looks like a box in words: four numbers with nothing between them but what stands between a box's numbers.

No reader reads what is found here: it is for what they leave over, so that no box is lost without a word. Sizes
(512 x 512), ratios, ranges, dates, times, prices and the marks of a numbered list are no numbers of a box.
"""

import re

# \d is a digit of any script. "x1" is a name, and "x10" a name with its number.
_NUMBER = r"\d+(?:\.\d+)*(?:[eE][-+]?\d+)?(?:\.(?!\w))?"
_NAME = (
    r"(?<![^\W\d_])(?:[xy](?:[012](?!\.?\d)|[_-]?m(?:in|ax)|_?cent(?:er|re))?|c[xy]|[wh]|width|height|left|top|right"
    r"|bottom)(?![^\W\d_])"
)
_UNIT = r"(?:px|pixels?|pt|percent)(?![^\W\d_])"
_MARK = r"[\s,;:|/=+\-–−~*()\[\]{}<>\"'`“”„‘’‚«»%$€£¥×•·，、；：｜／＝％（）［］【】「」]"
# Each part begins as no other does and nothing has to follow, so that a run is found at one go.
_RUN = re.compile(rf"(?<!\b[xy])\.?{_NUMBER}(?:{_MARK}+|\.?{_NUMBER}|{_NAME}|{_UNIT})*", re.IGNORECASE)
_ONE = re.compile(_NUMBER)
_ALONE = re.compile(rf"\s*[-+]?\.?{_NUMBER}\s*(?:{_UNIT}|%)?\s*")
_NAME_BEFORE = re.compile(rf"{_NAME}[\s\"'=:]*\Z", re.IGNORECASE)
_SIDE = rf"{_NUMBER}(?:[ \t]?px|%)?"
_JOINED = re.compile(rf"(?P<name>{_NAME}[\s\"'=:]*)?{_SIDE}(?:[ \t]?[x×:/–−-][ \t]?{_SIDE})+", re.IGNORECASE)
_LISTED = re.compile(r"^[ \t]*\d{1,4}[.)][ \t]+(?=[^\s,;)\]])", re.MULTILINE)
_MONEY = re.compile(r"[$€£¥]")


def box_at(text: str) -> tuple[int, int] | None:
    """Where the first such four numbers (or more) begin and end; None if there are none."""
    for run in _RUN.finditer(text):
        if count(run[0]) >= 4 and _left(text, *run.span()) >= 4:
            return run.span()
    return None


def count(text: str) -> int:
    """How many numbers stand in a text."""
    return len(_ONE.findall(text))


def is_number(text: str) -> bool:
    """Whether a text is one number, with its unit or without."""
    return _ALONE.fullmatch(text) is not None


def _left(text: str, start: int, end: int) -> int:
    """How many numbers of a run may be a box's, where the rest is something else."""
    if _MONEY.search(text, max(start - 1, 0), end) and not set(text[max(start - 2, 0) : start]) & set("[("):
        return 0
    left = count(text[start:end])
    for joined in _JOINED.finditer(text, start, end):
        numbers = count(joined[0])
        named = joined["name"] or (
            joined.start() == start and _NAME_BEFORE.search(text[max(start - 16, 0) : start])
        )
        path = "/" in (
            text[max(joined.start() - 1, 0) : joined.start()],
            text[joined.end() : joined.end() + 1],
        )
        if path or (numbers < 4 and not named):
            left -= numbers
    line = start - _blanks_before(text, start)
    return left - sum(1 for _ in _LISTED.finditer(text, line, end))


def _blanks_before(text: str, at: int) -> int:
    near = text[max(at - 40, 0) : at]
    return len(near) - len(near.rstrip(" \t"))
