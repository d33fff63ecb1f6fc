"""Describing what a picture has in each region, one crop at a time, for phrases as rich as DEIG was trained with."""

import re

from .region import Region

# The paper's data (section 3.3, Figure 4) comes from crops described one by one: what the instance is, then its
# attributes part by part.
INSTRUCTION = (
    "This is a cut-out of a picture; {label}. Describe the main thing in it for a painter who cannot see it. First "
    "what it is, then how it looks: colours, materials, textures and patterns; of a person or an animal also hair or "
    "fur, clothing and accessories, part by part, each with its own colour. Only what can be seen, nothing of the "
    "background, the light or the mood. Answer in English with one phrase of at most 60 words that begins with 'a' "
    "or 'an', and nothing else."
)
SHORTER = " Write the phrase alone, without any preface, in at most 40 words."

# T5 reads so many of a phrase's tokens, the end among them.
MOST_TOKENS = 128

THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
PREFACE = re.compile(
    r"^(?:sure|certainly|of course|okay|here(?:'s| is| are))\b[^:\n]*:\s*"
    r"|^(?:sure|certainly|of course|okay)[,.!]\s*|^(?:the )?(?:phrase|description|answer)\s*:\s*",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:cannot|can't|can not|won't|am not able)|as an ai\b|"
    r"i do(?:n't| not) (?:see|have)|unable to (?:see|view|describe|determine|identify)|cannot be (?:determined|seen)|"
    r"(?:no|without an) image (?:was|is|has been)|please (?:provide|upload|share))",
    re.IGNORECASE,
)


def crop_of(
    region: Region, width: int, height: int, margin: float, least: int = 28
) -> tuple[int, int, int, int]:
    """The pixels to cut out for a region: left, top, right, bottom, the last two exclusive.

    Args:
        width, height: of the picture, pixels.
        margin: how much is added on each side, as a fraction of the box's own side.
        least: neither side is shorter, unless the picture is; what is smaller gets more of its surroundings.
    """
    x0, y0, x1, y1 = region.box
    left, right = _span(x0 * width, x1 * width, width, margin, least)
    top, bottom = _span(y0 * height, y1 * height, height, margin, least)
    return left, top, right, bottom


def _span(low: float, high: float, pixels: int, margin: float, least: int) -> tuple[int, int]:
    reach = max((high - low) * (0.5 + margin), least / 2)
    middle = (low + high) / 2
    first, end = round(middle - reach), round(middle + reach)
    # Shifted into the picture before it is cut, so that a thing at the edge keeps as much around it.
    shift = max(-first, 0) - max(end - pixels, 0)
    return max(first + shift, 0), min(end + shift, pixels)


def asked(instruction: str, region: Region, again: bool = False) -> str:
    """What the model is asked about a region; `{label}` stands for what is known of it."""
    label = f"it is said to be {region.phrase.strip()}"
    return instruction.replace("{label}", label) + (SHORTER if again else "")


def tidied(answer: str) -> str:
    """The phrase in a model's answer: without thoughts, prefaces, quotes, marks and line breaks."""
    text = THOUGHT.sub("", answer)
    text = re.sub(r"[*_`#]+|^\s*[-\u2022]\s+", "", text, flags=re.MULTILINE)
    text = " ".join(text.split())
    text = PREFACE.sub("", text)
    return text.strip(" \"'\u201c\u201d").rstrip(".").strip()


def why_not(phrase: str, tokens: int) -> str:
    """Why a tidied answer is no phrase; "" if it is one.

    Args:
        tokens: how many T5 makes of it, its end included.
    """
    if not re.search(r"[^\W\d_]{2}", phrase):
        return "it has no words"
    if REFUSAL.search(phrase[:200]):
        return "it is a refusal"
    if tokens > MOST_TOKENS:
        return f"it has {tokens} tokens for T5, of which only {MOST_TOKENS} are read"
    return ""
