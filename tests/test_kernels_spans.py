"""Spans of a pool: compiled and interpreted alike, never two that overlap, and taken again when given back."""

import numpy as np
import pytest

from model.kernels import spans
from model.kernels.compiled import interpreted

WORDS_S = np.array([1, 2, 4], dtype=np.int64)


class Pool:
    def __init__(self, words=1000, interpret=False):
        self.take = interpreted(spans.take_span) if interpret else spans.take_span
        self.give = interpreted(spans.give_span) if interpret else spans.give_span
        self.free_S, self.used_1 = np.zeros(3, dtype=np.int64), np.zeros(1, dtype=np.int64)
        self.words = np.zeros(words, dtype=np.int64)

    def taken(self, size):
        return self.take(size, WORDS_S, self.free_S, self.used_1, self.words)

    def given(self, first, size):
        self.give(first, size, WORDS_S, self.free_S, self.words)


@pytest.mark.parametrize("interpret", [False, True])
def test_the_span_given_back_last_is_the_first_to_be_taken_again(interpret):
    pool = Pool(interpret=interpret)
    firsts = [pool.taken(size) for size in (0, 2, 1, 2)]
    pool.given(firsts[1], 2)
    pool.given(firsts[3], 2)

    again = [pool.taken(2), pool.taken(1), pool.taken(2), pool.taken(2)]

    assert firsts == [0, 1, 5, 7]
    assert again == [7, 11, 1, 13]
    assert not pool.words.any()


def test_nothing_that_a_span_held_is_left_in_it():
    pool = Pool()
    first = pool.taken(2)
    pool.words[first : first + 4] = 77

    pool.given(first, 2)

    assert 77 not in pool.words
    assert pool.words.view(np.int32).max() <= 0  # the link is no item's row


@pytest.mark.parametrize("interpret", [False, True])
def test_spans_never_overlap_and_come_as_zeros(interpret):
    generator, pool, held = np.random.default_rng(1), Pool(4000, interpret), {}
    for number in range(1, 1000):
        if held and generator.random() < 0.5:
            size, first = held.pop(list(held)[generator.integers(len(held))])
            pool.given(first, size)
        size = int(generator.integers(3))
        first = pool.taken(size)
        assert not pool.words[first : first + WORDS_S[size]].any()
        pool.words[first : first + WORDS_S[size]] = number
        held[number] = size, first

    for number, (size, first) in held.items():
        assert (pool.words[first : first + WORDS_S[size]] == number).all()
    assert pool.used_1[0] < 4000


def reserved(users_B, length_U, words, interpret):
    kernel = interpreted(spans.reserve_lists) if interpret else spans.reserve_lists
    free_S, used_1 = np.zeros(3, dtype=np.int64), np.zeros(1, dtype=np.int64)
    pool, mentions_U = np.zeros(words, dtype=np.int64), np.zeros(len(length_U), dtype=np.int32)
    start_U, size_U = np.zeros(len(length_U), dtype=np.int64), np.full(len(length_U), -1, dtype=np.int8)
    missing = kernel(
        np.array(users_B),
        mentions_U,
        WORDS_S,
        free_S,
        used_1,
        pool,
        pool.view(np.int32),
        start_U,
        np.array(length_U),
        size_U,
    )
    return missing, start_U.tolist(), size_U.tolist(), mentions_U.tolist()


@pytest.mark.parametrize("interpret", [False, True])
def test_lists_get_the_size_that_all_mentions_need(interpret):
    missing, start_U, size_U, mentions_U = reserved([1, 0, 1, 1], [0, 0, 0], 10, interpret)

    assert missing == 0
    assert size_U == [0, 1, -1]
    assert start_U == [4, 0, 0]
    assert mentions_U == [0, 0, 0]


@pytest.mark.parametrize("interpret", [False, True])
def test_where_the_pool_is_too_small_nothing_is_done_and_the_words_missing_are_told(interpret):
    missing, start_U, size_U, mentions_U = reserved([1, 0, 1, 1], [0, 0, 0], 2, interpret)

    assert missing == 3
    assert size_U == [-1, -1, -1]
    assert mentions_U == [0, 0, 0]
    assert start_U == [0, 0, 0]


@pytest.mark.parametrize("interpret", [False, True])
def test_lists_are_laid_out_one_after_the_other_those_without_items_nowhere(interpret):
    kernel = interpreted(spans.lay_out_lists) if interpret else spans.lay_out_lists
    words_for = interpreted(spans.words_for) if interpret else spans.words_for
    packed, length_U = np.arange(1, 7, dtype=np.int32), np.array([1, 0, 5])
    used_1, start_U, size_U = np.zeros(1, dtype=np.int64), np.zeros(3, dtype=np.int64), np.full(3, -1, dtype=np.int8)
    pool = np.zeros(2 * words_for(length_U, WORDS_S), dtype=np.int32)

    kernel(packed, length_U, WORDS_S, used_1, pool, start_U, size_U)

    assert pool.tolist() == [1, 0, 2, 3, 4, 5, 6, 0, 0, 0]
    assert (start_U.tolist(), size_U.tolist(), used_1.tolist()) == ([0, 0, 2], [0, -1, 2], [5])
