"""Which paper a solver's docstring names: title, authors, venue and address."""

import re
from typing import NamedTuple

NO_METHOD = ("baseline", "reference", "oracle", "supervised reference")  # how docstrings of what is no method begin


class Paper(NamedTuple):
    """What a docstring says of its paper; a part that it does not name is empty."""

    title: str
    authors: str
    venue: str
    url: str


def read_paper(docstring):
    """The :class:`Paper` of a docstring that begins with ``NAME: "Title", A, B and C, VENUE YEAR, https://...``."""
    text = " ".join(docstring.split())
    title = re.search(r'"([^"]+)"', text)
    after = text[title.end() :] if title else text
    url = re.search(r"https?://[^\s,;)]+[^\s,;).]", after)
    between = after[: url.start()] if url else after.partition(". ")[0]
    named = re.match(r",?\s*(?:(.*?),\s*)?([^,]*\b(?:19|20)\d\d)\b", between.strip()) if title else None
    authors, venue = (named[1] or "", named[2]) if named else ("", "")
    return Paper(title[1] if title else "", authors, venue, url[0] if url else "")


def is_method(docstring):
    """Whether a docstring is that of a method, not of a baseline, a reference or an oracle."""
    return not docstring.strip().lower().startswith(NO_METHOD)
