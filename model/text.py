"""Words and categories as rows of a hashed table: what an item is called and what kind it is, without a vocabulary.

Each family (words of the title, their letters, words of the text, ..., categories) speaks with the mean of its
features, so that a long text does not shout a title down. The hash is CRC-32 of family and feature: the same on every
machine and in every run.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

BUCKETS: Final = 1 << 18
"""Hashed features there can be; memory is taken only for those that occur."""
LETTERS: Final = 4
"""Length of the runs of characters that stand for words that are spelled alike."""
MOST_WORDS: Final = 512
"""Words of a title or a text that are read."""
MOST_CATEGORIES: Final = 256

_WORD: Final = re.compile(r"\w+")


def text_features(title: str | None, text: str | None, categories: Sequence[str] | None) -> dict[int, float]:
    """Bucket -> weight; empty where nothing is said. Weights of a family add up to 1."""
    found: dict[int, float] = {}
    families: Iterable[tuple[str, list[str]]] = (
        ("title", list(_word_features(title))),
        ("title letters", list(_letter_features(title))),
        ("text", list(_word_features(text))),
        ("text letters", list(_letter_features(text))),
        ("category", [_plain(category) for category in (categories or ())[:MOST_CATEGORIES]]),
    )
    for family, features in families:
        for feature in features:
            place = bucket(family, feature)
            found[place] = found.get(place, 0.0) + 1 / len(features)
    return found


def bucket(family: str, feature: str) -> int:
    """The place of a feature among the BUCKETS, the same in every run."""
    return zlib.crc32(f"{family}\0{feature}".encode("utf-8", "surrogatepass")) % BUCKETS


def words(text: str | None) -> list[str]:
    """Lower-case words in order, accents and widths as Unicode's NFKC has them; at most MOST_WORDS."""
    if not text:
        return []
    # a bound on the characters too: one word can be as long as a record
    return _WORD.findall(_plain(text[: MOST_WORDS * 32]))[:MOST_WORDS]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _word_features(text: str | None) -> Iterator[str]:
    """Words and pairs of neighbours."""
    found = words(text)
    yield from found
    yield from (f"{one} {other}" for one, other in pairwise(found))


def _letter_features(text: str | None) -> Iterator[str]:
    """Runs of characters inside words, whose ends are marked."""
    for word in words(text):
        marked = f"<{word[:64]}>"
        yield from (marked[start : start + LETTERS] for start in range(max(len(marked) - LETTERS, 0) + 1))
