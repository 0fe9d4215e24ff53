"""Words, letters and categories become the same few buckets on every machine."""

import pytest

from model.text import BUCKETS, MOST_WORDS, bucket, text_features, words


def test_a_bucket_is_the_same_in_every_run():
    places = [bucket("title", "wars"), bucket("text", "wars"), bucket("category", "Sci-Fi")]

    assert places == [90041, 130035, 121095]


def test_case_width_and_ligatures_make_no_difference():
    found = words("\uff33\uff34\uff21\uff32 Wars: straße \ufb01lm")

    assert found == ["star", "wars", "strasse", "film"]
    assert text_features("STAR WARS", None, ["Action"]) == text_features("star wars", None, ["action"])


def test_titles_alike_share_features_and_titles_that_are_not_share_none():
    one, sequel, other = (set(text_features(title, None, None)) for title in ("Star Wars", "Star Trek", "Heat"))

    assert one & sequel
    assert not one & other


def test_a_misspelling_still_shares_letters():
    assert set(text_features("Godfather", None, None)) & set(text_features("Godfahter", None, None))


def test_the_same_word_in_title_text_and_category_are_three_features():
    assert len(text_features("a", "a", ["a"])) == len({*text_features("a", None, None)}) * 2 + 1


def test_each_family_weighs_the_same_however_long_it_is():
    short, long = text_features(None, "word", ["x"]), text_features(None, "many words " * 100, ["x", "y", "z"])

    assert sum(short.values()) == pytest.approx(3)
    assert sum(long.values()) == pytest.approx(3)


@pytest.mark.parametrize("nothing", [(None, None, None), ("", "", []), ("  ...", "!", None)])
def test_nothing_said_is_no_feature(nothing):
    assert text_features(*nothing) == {}


def test_a_text_without_end_is_cut():
    assert len(words("w " * 100_000)) == MOST_WORDS
    assert len(words("w" * 1_000_000)[0]) < 100_000


def test_a_lone_surrogate_is_hashed_like_anything_else():
    found = text_features("\ud800 x", None, ["\udfff"])

    assert found
    assert all(0 <= place < BUCKETS for place in found)
