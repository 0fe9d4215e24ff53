"""The index of a vocabulary: compiled and interpreted alike, against a dict, while tables move and rows come back."""

import numpy as np
import pytest

from model.ids import Ids
from model.kernels import ids as kernel
from model.kernels.compiled import interpreted
from model.vocabulary import Vocabulary

WORDS = ["", "a", "b", "ab", "ba", "user 1", "ünï", "\x00", "x" * 256]


def test_the_hash_is_that_of_every_machine():
    hashes = [hash_of(kernel.hash_span, word) for word in ("", "a", "user 1", "ünï")]

    assert hashes == [hash_of(interpreted(kernel.hash_span), word) for word in ("", "a", "user 1", "ünï")]
    assert hashes == [0x163A4177, 0x86FB2B94, 0xDD234E17, 0xA8FAE61B]


def hash_of(function, word):
    encoded = np.frombuffer(b"__" + word.encode(), dtype=np.uint8)
    return int(function(encoded, 2, len(encoded) - 2))


def test_hashes_of_numbered_ids_spread_evenly():
    hashes = np.array([hash_of(kernel.hash_span, f"user{number:06d}") for number in range(20_000)])

    for bits in (hashes & 255, hashes >> 24):
        counts = np.bincount(bits, minlength=256)
        assert counts.min() > 40
        assert counts.max() < 130


@pytest.mark.parametrize("run", [kernel.intern, interpreted(kernel.intern)])
def test_both_twins_give_rows_in_order_of_arrival(run, monkeypatch):
    monkeypatch.setattr(kernel, "intern", run)
    vocabulary = Vocabulary()

    rows = vocabulary.rows([*WORDS, *reversed(WORDS)])

    assert rows.tolist() == [*range(len(WORDS)), *reversed(range(len(WORDS)))]
    assert [vocabulary.name(row) for row in range(len(WORDS))] == WORDS


def test_against_a_dict_while_the_index_grows_and_rows_are_given_back(monkeypatch):
    monkeypatch.setattr("model.vocabulary.MOVED_AT_ONCE", 16)  # so that a move takes many calls
    vocabulary, rows, free = Vocabulary(), {}, []
    generator = np.random.default_rng(3)
    moving = 0
    for _ in range(1500):
        names = [f"id {number}" for number in generator.integers(0, 6000, size=3)]
        for name in names:
            if name not in rows:
                rows[name] = free.pop() if free else len(rows) + len(free)
        assert vocabulary.rows(names).tolist() == [rows[name] for name in names]
        moving += len(vocabulary._old_slots) > 1
        if generator.random() < 0.4:
            gone = names[0]
            assert vocabulary.remove(gone) == rows[gone]
            free.append(rows.pop(gone))
            assert vocabulary.row(gone) is None

    everybody = [f"id {number}" for number in range(6000)]
    assert moving > 20
    assert vocabulary.in_use == len(rows)
    assert vocabulary.find(everybody).tolist() == [rows.get(name, -1) for name in everybody]


def test_ids_take_the_places_in_the_blob_that_removed_ones_left_behind():
    vocabulary = Vocabulary()
    for round_ in range(200):
        vocabulary.rows([f"{round_}:{'x' * 100}", "stays"])
        vocabulary.remove(f"{round_}:{'x' * 100}")

    assert len(vocabulary.blob) < 2000
    assert vocabulary.row("stays") is not None
    assert vocabulary.name(vocabulary.row("stays")) == "stays"


def test_spans_may_overlap():
    vocabulary = Vocabulary()
    buffer = np.frombuffer(b"abcabc", dtype=np.uint8)

    rows = vocabulary.rows(Ids(buffer, np.array([0, 3, 1, 0]), np.array([3, 3, 3, 6])))

    assert rows.tolist() == [0, 0, 1, 2]
    assert [vocabulary.name(row) for row in range(3)] == ["abc", "bca", "abcabc"]
