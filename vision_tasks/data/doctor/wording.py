"""Titles of findings, which are plural, as they follow a one."""

from __future__ import annotations

_ONE = {
    "are": "is", "have": "has", "do": "does", "lie": "lies", "reach": "reaches", "cover": "covers", "repeat": "repeats",
    "cross": "crosses", "enclose": "encloses", "disagree": "disagrees", "name": "names", "begin": "begins",
    "differ": "differs", "hold": "holds", "share": "shares", "state": "states", "occur": "occurs", "end": "ends",
}  # fmt: skip
_ITS = {"their": "its", "themselves": "itself"}


def in_singular(title: str, of: bool) -> str:
    """A title as it follows a one: its verb, and, unless "of 12" stands between, the noun before it."""
    words = title.split(" ")
    at = next((n for n, word in enumerate(words) if word in _ONE), None)
    if at is None:
        return title
    rest = [_ITS.get(word, word) for word in words[at + 1 :]]
    if len(rest) > 1 and rest[0] == "and":
        rest[1] = _ONE.get(rest[1], rest[1])
    nouns = words[:at]
    if not of and at == 1:
        noun = nouns[0]
        nouns = [f"{noun[:-3]}y" if noun.endswith("ies") else noun[:-2] if noun == "boxes" else noun.removesuffix("s")]
    return " ".join([*nouns, _ONE[words[at]], *rest])
