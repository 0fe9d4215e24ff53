"""A copy that is made while rows move is, in the end, what the rows are then."""

import resource
from dataclasses import replace

import numpy as np
import pytest
from streams import click, small_learner

import model.ragged
from consumer.last_lists import LastLists
from consumer.precopy import MOST_ROUNDS, MOST_TIMES, CopyMemory, Precopy, UnknownMove, warm_up
from model.kernels.compiled import IS_COMPILED
from model.kernels.ragged import copy_spans, end_to_end
from model.ragged import Ragged
from model.state import tensors_of


def arrays_of(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "wide": rng.standard_normal((rows, 5)).astype(np.float32),
        "cube": rng.integers(0, 9, (rows, 2, 3)),
        "single": rng.integers(0, 1000, rows),
    }


def move(arrays, rows):
    for array in arrays.values():
        array[rows] += 1


def assert_copied(copies, arrays):
    assert copies.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(copies[name], array, strict=True)
        assert not np.shares_memory(copies[name], array)


def copied(precopy, arrays, between=lambda: None):
    """A whole copy; `between` two pieces something happens. How many pieces it took, too."""
    precopy.begin(arrays)
    pieces = 1
    while not precopy.advance(arrays):
        between()
        pieces += 1
    return precopy.finish(arrays), pieces


ROW_BYTES = 5 * 4 + 6 * 8 + 8


@pytest.fixture
def precopy():
    """Ten rows a piece."""
    return Precopy(CopyMemory(), 10 * ROW_BYTES)


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 95])
def test_rows_that_stand_still_are_copied_once(precopy, rows):
    arrays = arrays_of(rows)

    copies, pieces = copied(precopy, arrays)

    assert_copied(copies, arrays)
    assert pieces == max(1, -(-rows // 10))
    assert not precopy.is_under_way


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_move_all_the_time_are_as_they_are_at_the_end(precopy, seed):
    rng, arrays = np.random.default_rng(seed), arrays_of(300)

    def between():
        rows = np.unique(rng.integers(0, 300, 3))
        move(arrays, rows)
        precopy.note(rows)

    copies, pieces = copied(precopy, arrays, between)

    assert_copied(copies, arrays)
    assert 25 < pieces < 60, "rounds get shorter"


def test_what_moves_after_the_end_is_not_in_the_copy(precopy):
    arrays = arrays_of(20)
    before = {name: array.copy() for name, array in arrays.items()}
    copies, _ = copied(precopy, arrays)

    move(arrays, np.arange(20))
    precopy.note(np.arange(20))

    assert_copied(copies, before)


def test_rows_that_come_meanwhile_are_copied_also_where_the_arrays_are_others_then(precopy):
    arrays = arrays_of(30)

    def between():
        rows = len(arrays["single"])
        arrays.update({name: np.concatenate([array, array[:7] + 2]) for name, array in arrays.items()})
        precopy.note(np.arange(rows, rows + 7))

    copies, _ = copied(precopy, arrays, between)

    assert len(arrays["single"]) > 30
    assert_copied(copies, arrays)


def test_a_second_copy_takes_the_place_of_the_first_and_needs_no_new_memory(precopy):
    arrays = arrays_of(50)
    first, _ = copied(precopy, arrays)
    move(arrays, np.arange(50))

    second, _ = copied(precopy, arrays)

    assert_copied(second, arrays)
    assert all(np.shares_memory(first[name], second[name]) for name in arrays)


def test_rows_that_are_given_another_shape_meanwhile_are_copied_anew(precopy):
    arrays = arrays_of(95)
    widths = iter([6, 8])

    def between():
        if (width := next(widths, None)) is not None:
            arrays["wide"] = np.pad(arrays["wide"], ((0, 0), (0, width - arrays["wide"].shape[1])))

    copies, pieces = copied(precopy, arrays, between)

    assert_copied(copies, arrays)
    assert pieces > 10


def test_rows_that_are_given_another_shape_before_the_last_of_them_are_copied_are_copied_anew_at_once(precopy):
    arrays = arrays_of(30)
    precopy.begin(arrays)
    while not precopy.advance(arrays):
        pass

    arrays["wide"] = arrays["wide"].astype(np.float64)

    assert_copied(precopy.finish(arrays), arrays)


def test_steps_that_move_more_rows_than_a_piece_has_come_to_an_end(precopy):
    rng, arrays = np.random.default_rng(0), arrays_of(1000)

    def between():
        rows = np.unique(rng.integers(0, 1000, 60))
        move(arrays, rows)
        precopy.note(rows)

    copies, pieces = copied(precopy, arrays, between)

    assert_copied(copies, arrays)
    assert pieces < 40 + MOST_ROUNDS


def test_a_piece_grows_with_what_steps_move_so_that_little_is_left_for_the_end(precopy):
    rng, arrays = np.random.default_rng(0), arrays_of(3000)
    precopy.begin(arrays)
    while not precopy.advance(arrays):
        rows = np.unique(rng.integers(0, 3000, 200))
        move(arrays, rows)
        precopy.note(rows)

    assert np.count_nonzero(precopy._is_left_R) < 300
    assert_copied(precopy.finish(arrays), arrays)


def test_a_piece_stays_one_however_many_rows_a_step_moves(precopy):
    arrays = arrays_of(1000)
    precopy.begin(arrays)
    precopy.note(np.arange(1000))
    precopy.advance(arrays)

    precopy.advance(arrays)

    assert precopy._past <= 2 * 10 * MOST_TIMES


def test_a_row_that_moved_in_secret_is_noticed(precopy):
    arrays = arrays_of(30)
    precopy.begin(arrays)
    precopy.advance(arrays)

    move(arrays, np.array([3]))
    while not precopy.advance(arrays):
        pass

    with pytest.raises(UnknownMove, match="row 3 of single"):
        precopy.finish(arrays)


def test_a_copy_that_was_dropped_is_begun_anew(precopy):
    arrays = arrays_of(30)
    precopy.begin(arrays)
    precopy.advance(arrays)

    precopy.drop()
    move(arrays, np.arange(30))  # nobody has to say so now

    assert not precopy.is_under_way
    assert_copied(copied(precopy, arrays)[0], arrays)


def test_where_any_row_may_have_moved_all_are_copied_again(precopy):
    arrays = arrays_of(100)
    precopy.begin(arrays)
    for _ in range(5):
        precopy.advance(arrays)

    move(arrays, np.arange(100))
    precopy.note(None)
    pieces = 1
    while not precopy.advance(arrays):
        pieces += 1

    assert_copied(precopy.finish(arrays), arrays)
    assert pieces == 10


def test_where_any_row_may_move_at_every_step_it_comes_to_an_end(precopy):
    arrays = arrays_of(1000)

    def between():
        move(arrays, np.arange(1000))
        precopy.note(None)

    copies, pieces = copied(precopy, arrays, between)

    assert_copied(copies, arrays)
    assert pieces <= MOST_ROUNDS + 1


def test_a_copy_that_waits_for_another_goes_on_following_what_moves(precopy):
    rng, arrays = np.random.default_rng(0), arrays_of(300)
    copied(precopy, arrays)
    precopy.begin(arrays)
    done = 0
    for _ in range(500):
        done += precopy.advance(arrays)
        left = np.count_nonzero(precopy._is_left_R)
        assert not done or left <= 2 * 10, "little is left for the end, however late it comes"
        rows = np.unique(rng.integers(0, 300, 2))
        move(arrays, rows)
        precopy.note(rows)

    assert done > 300
    assert_copied(precopy.finish(arrays), arrays)


def lists_of(rows, rng):
    """Numbers and lists of each row: in a table of seven columns, and in spans of a pool."""
    length_R = rng.integers(-1, 8, rows)
    spans = Ragged(np.zeros(0, dtype=np.uint8), np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int32))
    parts = {
        "single": rng.integers(0, 1000, rows),
        "table": Ragged.of_table(rng.integers(0, 9, (rows, 7)).astype(np.float32), length_R),
        "spans": spans,
    }
    move_lists(parts, np.arange(rows), rng)
    return parts


def move_lists(parts, rows, rng):
    """New numbers and lengths; spans move to the end of the pool, and others may get what they leave."""
    parts["single"][rows] += 1
    table, spans = parts["table"], parts["spans"]
    table.length_R[rows] = rng.integers(-1, 8, len(rows))
    table.pool[(7 * rows[:, None] + np.arange(7)).reshape(-1)] += 1
    lengths = rng.integers(0, 5, len(rows))
    for start, length in zip(spans.start_R[rows], spans.length_R[rows], strict=True):
        spans.pool[start : start + length] = 77  # what it leaves is for others to write
    spans.start_R[rows] = len(spans.pool) + np.cumsum(lengths) - lengths
    spans.length_R[rows] = lengths
    more = rng.integers(0, 200, lengths.sum()).astype(np.uint8)
    parts["spans"] = replace(spans, pool=np.concatenate((spans.pool, more)))


def packed_of(parts):
    return {name: model.ragged.copied(part) for name, part in parts.items()}


@pytest.mark.parametrize("seed", range(8))
def test_lists_that_move_about_in_their_pool_are_copied_as_they_are_at_the_end(seed):
    rng = np.random.default_rng(seed)
    parts, precopy = lists_of(300, rng), Precopy(CopyMemory(), 500)
    for _ in range(2):

        def between():
            rows = np.unique(rng.integers(0, 300, 3))
            move_lists(parts, rows, rng)
            precopy.note(rows)

        copies, pieces = copied(precopy, parts, between)

        before = packed_of(parts)
        move_lists(parts, np.arange(300), rng)
        for name, array in packed_of(copies).items():
            np.testing.assert_array_equal(array, before[name], strict=True)
        assert 15 < pieces < 150


def test_lists_of_another_width_are_copied_anew():
    rng = np.random.default_rng(0)
    parts, precopy = lists_of(50, rng), Precopy(CopyMemory(), 500)
    precopy.begin(parts)
    precopy.advance(parts)

    parts["table"] = Ragged.of_table(rng.integers(0, 9, (50, 9)).astype(np.float32), parts["table"].length_R)
    precopy.note(None)
    while not precopy.advance(parts):
        pass

    for name, array in packed_of(precopy.finish(parts)).items():
        np.testing.assert_array_equal(array, packed_of(parts)[name], strict=True)


def test_a_list_that_became_longer_in_secret_is_noticed():
    parts, precopy = lists_of(30, np.random.default_rng(0)), Precopy(CopyMemory(), 500)
    precopy.begin(parts)
    while not precopy.advance(parts):
        pass

    parts["table"].length_R[3] += 1

    with pytest.raises(UnknownMove, match="row 3 of table"):
        precopy.finish(parts)


def test_a_copy_of_lists_at_once_is_another():
    parts, memory = lists_of(30, np.random.default_rng(0)), CopyMemory()
    copies = {name: memory.copy(name, part) for name, part in parts.items()}
    before = packed_of(parts)

    move_lists(parts, np.arange(30), np.random.default_rng(1))

    for name, array in packed_of(copies).items():
        np.testing.assert_array_equal(array, before[name], strict=True)


def test_no_memory_is_got_beforehand_for_a_pool_of_which_parts_are_never_written_to():
    memory = CopyMemory()

    memory.make_room("a", Ragged.of_table(np.zeros((1 << 20, 8)), np.zeros(1 << 10, dtype=np.int64)))

    assert not memory.has_empty


@pytest.mark.skipif(not IS_COMPILED, reason="numba is not installed")
def test_after_warming_up_nothing_is_compiled_for_a_copy_of_lists():
    warm_up()
    warm = [len(kernel.signatures) for kernel in (copy_spans, end_to_end)]

    learner, lists = small_learner(encoder="blend"), LastLists()
    learner.test_then_learn([click("u", "a"), click("v", "b")])
    lists.replace(np.array([0]), np.array([[1, 0]], dtype=np.int32), np.array([2], dtype=np.int32))
    parts = {**learner.parts(), **lists.parts()}
    memory = CopyMemory()
    tensors_of({name: memory.copy(name, part) for name, part in parts.items()})

    assert [len(kernel.signatures) for kernel in (copy_spans, end_to_end)] == warm
    assert sum(isinstance(part, Ragged) for part in parts.values()) == 6


@pytest.mark.parametrize("rows", [0, 3, 1 << 19])
def test_a_copy_lies_where_the_one_before_it_of_that_name_did(rows):
    memory, array = CopyMemory(), np.arange(rows, dtype=np.float32)
    first = memory.copy("a", array)
    values = first.copy()
    array += 1

    other, second = memory.copy("b", array), memory.copy("a", array)

    np.testing.assert_array_equal(values + 1, second, strict=True)
    np.testing.assert_array_equal(first, second)
    assert not rows or np.shares_memory(first, second)
    assert not np.shares_memory(other, second)
    assert not np.shares_memory(array, second)


@pytest.mark.parametrize(
    "other", [np.ones((5, 2)), np.ones((2, 3)), np.ones((4, 2), dtype=np.int8), np.array(3.0), np.ones((9, 2))[::2]]
)
def test_a_copy_has_the_shape_and_the_type_of_what_is_copied_whatever_was_there_before(other):
    memory = CopyMemory()
    memory.copy("a", np.zeros((4, 2)))

    np.testing.assert_array_equal(memory.copy("a", other), other, strict=True)


def test_room_for_a_copy_takes_memory_only_where_it_is_written_to():
    rows = np.zeros((1 << 27, 8))  # 8 GiB, of which nothing is touched either
    memory = CopyMemory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    memory.make_room("a", rows)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000
    assert memory.has_empty


def test_room_that_has_its_memory_holds_what_was_copied_there_and_takes_no_more_as_it_is_written_to():
    rows = np.random.default_rng(0).standard_normal((1 << 18, 8))
    memory = CopyMemory()
    copied = memory.copy("a", rows[:100_000])
    memory.make_room("a", rows)

    memory.populate()

    np.testing.assert_array_equal(copied, rows[:100_000])
    assert not memory.has_empty
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    copied = memory.copy("a", rows)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 500, "16 MiB are 4,096 small pages"
    np.testing.assert_array_equal(copied, rows)


def test_small_copies_need_no_memory_beforehand():
    memory = CopyMemory()

    memory.copy("a", np.zeros(100))

    assert not memory.has_empty


@pytest.mark.parametrize("call", ["advance", "finish"])
def test_begin_comes_first(precopy, call):
    with pytest.raises(RuntimeError, match="begin comes before"):
        getattr(precopy, call)(arrays_of(3))
