"""The index of a vocabulary: compiled and interpreted alike, against a dict, while tables move and rows come back."""

from functools import partial

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


def half_sip_hash(key, data, rounds, last_rounds):
    """As its reference has it, in Python's numbers."""
    v = [key[0], key[1], 0x6C796765 ^ key[0], 0x74656462 ^ key[1]]

    def turn(number, bits):
        return ((number << bits) | (number >> (32 - bits))) & 0xFFFFFFFF

    def sip(times):
        for _ in range(times):
            v[0] = (v[0] + v[1]) & 0xFFFFFFFF
            v[1], v[0] = turn(v[1], 5) ^ v[0], turn(v[0], 16)
            v[2] = (v[2] + v[3]) & 0xFFFFFFFF
            v[3] = turn(v[3], 8) ^ v[2]
            v[0] = (v[0] + v[3]) & 0xFFFFFFFF
            v[3] = turn(v[3], 7) ^ v[0]
            v[2] = (v[2] + v[1]) & 0xFFFFFFFF
            v[1], v[2] = turn(v[1], 13) ^ v[2], turn(v[2], 16)

    padded = data + bytes(3 - len(data) % 4) + bytes([len(data) & 0xFF])
    for start in range(0, len(padded), 4):
        word = int.from_bytes(padded[start : start + 4], "little")
        v[3] ^= word
        sip(rounds)
        v[0] ^= word
    v[2] ^= 0xFF
    sip(last_rounds)
    return v[1] ^ v[3]


def test_the_keyed_hash_is_half_sip_hash():
    key = (0x03020100, 0x07060504)
    key_2, others_2 = np.array(key, dtype=np.int64), np.array([1, 2], dtype=np.int64)

    def hashes(run, key_2):
        return [hash_of(partial(run, key_2), word) for word in WORDS]

    assert half_sip_hash(key, b"", 2, 4) == 0x5B9F35A9, "the reference's first vector, of its 2-4"
    assert hashes(kernel.keyed_hash, key_2) == [half_sip_hash(key, word.encode(), 1, 3) for word in WORDS]
    assert hashes(interpreted(kernel.keyed_hash), key_2) == hashes(kernel.keyed_hash, key_2)
    assert not set(hashes(kernel.keyed_hash, key_2)) & set(hashes(kernel.keyed_hash, others_2))


def test_ids_that_share_the_hash_without_a_key_do_not_share_the_one_that_they_are_found_by():
    alike = ["FdFIaabj", "WcTJaadM", "d2ULaanB"]
    vocabulary = Vocabulary()

    vocabulary.rows(alike)

    assert len({hash_of(kernel.hash_span, word) for word in alike}) == 1
    assert len(set(vocabulary.hash_R[:3].tolist())) == 3


@pytest.mark.parametrize("run", [kernel.hash_span, partial(kernel.keyed_hash, np.array([1, 2], dtype=np.int64))])
def test_hashes_of_numbered_ids_spread_evenly(run):
    hashes = np.array([hash_of(run, f"user{number:06d}") for number in range(20_000)])

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
