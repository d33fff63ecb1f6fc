"""Pairs in loose text, ("a red car", [10, 20, 30, 40]): what language models write when nobody asks for JSON.

Numbers are looked for first, then the phrase before them, so that nothing which looks like a box is passed over: it
is read, or the text is refused and the piece named. No stretch of text is looked at more than a few times.
Commas, colons and brackets may be the wide ones of East Asian text.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

from . import fields, in_words

# A number, or what stands where one should: one with a unit or a name, or a word for none.
NAMES = r"[xy](?:[012]|_?m(?:in|ax))?|[wh]|width|height|left|top|right|bottom"
NUMBER = r"[-+]?\.?\d[\w.%]*(?:(?<=[eE])[-+]\d+)?|[-+]?\b(?:nan|inf|none|null)\b"
PART = rf"(?:[\"']?\b(?:{NAMES})\b[\"']?\s*[=:]\s*)?(?:{NUMBER})"
# Before the first number a quoted name would be the phrase itself: ("x": 10, 20, 30, 40).
FIRST_PART = rf"(?:\b(?:{NAMES})\s*[=:]\s*)?(?:{NUMBER})"
SEPARATORS = ",;，；、"
# The first condition is no more than the others ask, and passes over blanks and marks five times as fast.
BOX = re.compile(
    rf"(?=[-+.\w])(?<![\w.%]){FIRST_PART}(?:(?:\s*[{SEPARATORS}]\s*|[ \t]+){PART}){{3,63}}", re.IGNORECASE
)

# For each mark that may end a quoted phrase those that may begin it.
QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "”": "“„”",
    "“": "„“",
    "’": "‘‚’",
    "‘": "‚‘",
    "»": "«",
    "«": "»",
    "」": "「",
}
OPENING = "".join(sorted(set("".join(QUOTES.values()))))
COMMAS, COLONS, OPEN, CLOSE = ",，", ":：", "([（［【", ")]）］】"
ITEM_BEGINS = re.compile(rf"[{re.escape(OPEN)}]\s*[{OPENING}]")
SECOND_PHRASE = re.compile(rf"[{OPENING}]\s*[{COMMAS}{COLONS}]\s*[{OPENING}]")
BRACKET = re.compile(rf"[{re.escape(OPEN + CLOSE)}]")
ENDS_BARE = re.compile(rf"\s*(?:[{COMMAS}]\s*)?[{re.escape(CLOSE)}]")
ENDS_BRACKETED = re.compile(ENDS_BARE.pattern * 2)
# Numbers in brackets where a box would stand. Where they are four, they are found as a box.
NUMBERS = re.compile(
    rf"[{COMMAS}{COLONS}]\s*[{re.escape(OPEN)}]([-+\d.{SEPARATORS}\s]*)[{re.escape(CLOSE)}]\s*[{re.escape(CLOSE)}]"
)
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\"}


@dataclass(frozen=True)
class Pair:
    """A phrase and what is written as its numbers.

    Args:
        place: for messages: "item 3 (line 2)".
    """

    place: str
    phrase: str
    numbers: str


@dataclass(frozen=True)
class Pairs:
    """What loose text holds.

    Args:
        found: the pairs, in order.
        unclear: about the first piece that looks like a box and is not known to be one; "" if there is none.
    """

    found: tuple[Pair, ...]
    unclear: str


@dataclass(frozen=True)
class _Phrase:
    start: int  # where its pair's bracket opens
    words: str
    bracketed: bool  # whether its numbers have brackets of their own


def find_pairs(text: str) -> Pairs:
    """Find every box of a text, and the phrase that stands before it in one bracket with it."""
    found: list[Pair] = []
    unclear, end, line = "", 0, 1
    for match in BOX.finditer(text):
        fields.limit_count(len(found) + 1, "The text")
        before = text[end : match.start()]
        first_line, line = line, line + before.count("\n")
        place = f"item {len(found) + 1} (line {line})"
        phrase = _phrase_before(before)
        closed = phrase and (ENDS_BRACKETED if phrase.bracketed else ENDS_BARE).match(text, match.end())
        if closed and not ITEM_BEGINS.search(before, 0, phrase.start):
            unclear = unclear or _left_over(before[: phrase.start], len(found), first_line)
            found.append(Pair(place, phrase.words, match[0]))
        else:
            unclear = unclear or _said_unclear(place, f"{before[-60:]}{match[0][:60]}")
        end = closed.end() if closed else match.end()
        line += text.count("\n", match.start(), end)
    return Pairs(tuple(found), unclear or _left_over(text[end:], len(found), line))


def box_in(text: str) -> str:
    """What looks like a box in words beside a layout; "" if nothing does."""
    match = BOX.search(text)
    span = match.span() if match else in_words.box_at(text)
    return text[max(span[0] - 30, 0) : span[1]][:90].strip() if span else ""


def _left_over(text: str, found: int, line: int) -> str:
    """About the first piece between pairs that looks like one, or like a box; "" if there is none.

    Args:
        found: how many pairs stand before it.
        line: which the text begins on.
    """
    starts = []
    if item := ITEM_BEGINS.search(text):
        starts.append(item.start())
    if numbers := next((match for match in NUMBERS.finditer(text) if in_words.count(match[1]) > 1), None):
        starts.append(numbers.start())
    if span := in_words.box_at(text):
        starts.append(max(span[0] - 30, 0))
    if not starts:
        return ""
    at = len(text) - len(text[min(starts) :].lstrip())
    where = f"after item {found}" if found else "before item 1"
    place = f"{where} (line {line + text[:at].count(chr(10))})"
    return _said_unclear(place, text[at : at + 90])


def _said_unclear(place: str, piece: str) -> str:
    return (
        f"{place}: {fields.shown(piece.strip())} looks like a region, but it is not clear which words and which four "
        'numbers belong together. One reads ("a red car", [x, y, width, height]). Mend it or take it away.'
    )


def _phrase_before(before: str) -> _Phrase | None:
    """The phrase that a text ends with, and a comma or colon after it; None if there is no such, or no clear one."""
    head = before.rstrip()
    bracketed = head.endswith(tuple(OPEN))
    if bracketed:
        head = head[:-1].rstrip()
    if not head.endswith(tuple(COMMAS + COLONS)):
        return None
    mark, head = head[-1], head[:-1].rstrip()
    opener = _open_bracket(head)
    if head[-1:] in QUOTES and head:
        return _quoted(head, opener, bracketed)
    words = head[opener + 1 :].strip()
    # Without quotes a colon may also end the first words of a line, and a line break may part two things.
    clear = opener >= 0 and mark in COMMAS and any(map(str.isalpha, words)) and not {"\n", "\r"} & set(words)
    return _Phrase(opener, words, bracketed) if clear and words[0] not in OPENING else None


def _quoted(head: str, opener: int, bracketed: bool) -> _Phrase | None:
    """The phrase in quotes at the end of a text, with the bracket before it."""
    marks = QUOTES[head[-1]]
    begins = None
    for match in ITEM_BEGINS.finditer(head, 0, len(head) - 1):
        begins = match if head[match.end() - 1] in marks else begins
    if begins:
        words = head[begins.end() : -1]
        if not set(ESCAPE.sub("", words)) & {*marks, head[-1], "\\"}:
            return _Phrase(begins.start(), _unescaped(words), bracketed)
    # It holds quotes of its own, as in 'a man's hat': then its brackets must pair up, to be sure where it begins.
    words = head[opener + 1 :].lstrip()
    if (
        opener < 0
        or len(words) < 2
        or words[0] not in marks
        or SECOND_PHRASE.search(words, 1, len(words) - 1)
    ):
        return None
    return _Phrase(opener, _unescaped(words[1:-1]), bracketed)


def _open_bracket(head: str) -> int:
    """Where the last bracket opens that is not closed again; -1 if there is none."""
    open_ones: list[int] = []
    for match in BRACKET.finditer(head):
        if match[0] in OPEN:
            open_ones.append(match.start())
        elif open_ones:
            open_ones.pop()
    return open_ones[-1] if open_ones else -1


def _unescaped(words: str) -> str:
    """A phrase as it was meant: escapes read, and what was broken over lines in one."""
    if "\\" in words:
        words = ESCAPE.sub(lambda match: _character(match[1]), words)
        # Two halves of one character, each written as an escape. A lone half is refused where phrases are checked.
        with suppress(UnicodeDecodeError):
            words = words.encode("utf-16", "surrogatepass").decode("utf-16")
    if not {"\r", "\n"} & set(words):
        return words
    return " ".join(line.strip() for line in re.split(r"[\r\n]+", words))


def _character(escape: str) -> str:
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    return ESCAPED.get(escape, "\\" + escape)
