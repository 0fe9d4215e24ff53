"""The table of pairs: forgetting, undoing, saving, and where a pair lies."""

import numpy as np

from model.kernels.compiled import interpreted
from model.kernels.ratings import pair_hash
from model.pairs import PairTable

BITS = 10


def put(table, lower, higher, value, count):
    slots, keys = table._places(np.array([lower]), np.array([higher]))
    table.keys[slots], table.sums[slots], table.counts[slots] = keys, value, count


def held(table):
    """(lower, higher) -> (sum, count)"""
    state = table.state()
    numbers = zip(state["keys"].tolist(), state["sums"].tolist(), state["counts"].tolist(), strict=True)
    return {(key >> 32, key & 0xFFFFFFFF): (sums, counts) for key, sums, counts in numbers}


def test_compiled_and_interpreted_hashes_are_the_product_with_the_golden_ratio():
    for lower, higher in [(0, 0), (0, 1), (3, 17), (12345, 2**31 - 1), (2**31 - 1, 2**31 - 1)]:
        expected = (((lower << 32) + higher) * 0x9E3779B97F4A7C15 % 2**64) >> 32

        assert pair_hash(lower, higher) == interpreted(pair_hash)(lower, higher) == expected


def test_pairs_of_many_items_spread_over_the_slots_at_least_as_evenly_as_chance():
    one, other = (np.asarray(rows, dtype=np.int64) for rows in np.triu_indices(700, 1))
    slots, _ = PairTable(BITS)._places(one, other)

    filled = np.bincount(slots, minlength=1 << BITS)

    assert filled.var() < 1.2 * filled.mean()


def test_forgetting_takes_out_the_products_and_empties_what_was_the_users_alone():
    table = PairTable(BITS)
    put(table, 1, 2, 0.5 * 2.0 + 10.0, 3)
    put(table, 2, 5, 2.0 * -1.0, 1)
    put(table, 4, 5, 7.0, 7)

    table.forget(np.array([[2, 1, 5]], dtype=np.int32), np.array([[2.0, 0.5, -1.0]], dtype=np.float32))

    assert held(table) == {(1, 2): (10.0, 2.0), (4, 5): (7.0, 7.0)}


def test_forgetting_leaves_a_slot_that_another_pair_holds():
    table = PairTable(0)  # one slot for all
    put(table, 8, 9, 3.0, 4)

    table.forget(np.array([[1, 2]], dtype=np.int32), np.array([[1.0, 1.0]], dtype=np.float32))

    assert held(table) == {(8, 9): (3.0, 4.0)}


def test_an_item_rated_twice_is_a_pair_with_itself_and_is_forgotten_twice_over():
    table = PairTable(BITS)
    put(table, 3, 4, 2 * 1.0 + 5.0, 12)
    put(table, 3, 3, 1.0, 1)

    table.forget(np.array([[3, 3, 4]], dtype=np.int32), np.ones((1, 3), dtype=np.float32))

    assert held(table) == {(3, 4): (5.0, 10.0)}


def test_undone_changes_leave_what_was_there_before_the_first():
    table = PairTable(BITS)
    put(table, 1, 2, 5.0, 5)
    slot = int(np.flatnonzero(table.keys >= 0)[0])
    journal = table.journal(2)
    for change in range(2):
        journal.slots[change], journal.keys[change] = slot, table.keys[slot]
        journal.sums[change], journal.counts[change] = table.sums[slot], table.counts[slot]
        table.keys[slot], table.sums[slot], table.counts[slot] = 99, -1.0 - change, 1

    table.undo(journal, 2)

    assert held(table) == {(1, 2): (5.0, 5.0)}


def test_the_journal_is_kept_while_it_is_large_enough():
    table = PairTable(BITS)

    journal = table.journal(100)

    assert len(table.journal(40).slots) == 100
    assert table.journal(100) is journal
    assert len(table.journal(101).counts) == 101


def test_loaded_it_holds_what_was_saved_and_nothing_else():
    saved, other = PairTable(BITS), PairTable(BITS)
    put(saved, 1, 2, 5.0, 5)
    put(saved, 2**31 - 2, 2**31 - 1, -1.5, 2)
    put(other, 7, 8, 1.0, 1)

    other.load(saved.state())

    assert held(other) == {(1, 2): (5.0, 5.0), (2**31 - 2, 2**31 - 1): (-1.5, 2.0)}
    np.testing.assert_array_equal(other.keys, saved.keys)
