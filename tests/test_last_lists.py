"""The last lists: what counts as a change, and that they come back as they were."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.last_lists import LastLists


def replaced(last, lists, width=None):
    """Whether the lists, row of the user -> codes, differ from those before."""
    width = max((len(codes) for codes in lists.values()), default=0) if width is None else width
    codes_UK = np.full((len(lists), width), -77, dtype=np.int32)
    for place, codes in enumerate(lists.values()):
        codes_UK[place, : len(codes)] = codes
    lengths_U = np.array([len(codes) for codes in lists.values()], dtype=np.int32)
    return last.replace(np.array(list(lists), dtype=np.int64), codes_UK, lengths_U).tolist()


def test_a_first_list_is_a_change_also_an_empty_one():
    last = LastLists()

    assert replaced(last, {3: [3, 1], 0: []}) == [True, True]
    assert replaced(last, {3: [3, 1], 0: []}) == [False, False]
    assert len(last) == 2


@pytest.mark.parametrize("codes", [[3, 1, 2], [3, 2, 1], [3, 1], [3, 1, 2, 4], [], [3, 1, 5], [3, 1, -2]])
def test_membership_and_order_make_a_change(codes):
    last = LastLists()
    replaced(last, {0: [3, 1, 2]})

    assert replaced(last, {0: codes}) == [codes != [3, 1, 2]]
    assert replaced(last, {0: codes}) == [False], "the newest is what the next one is compared with"


def test_what_is_behind_the_end_of_a_list_makes_no_change():
    last = LastLists()
    replaced(last, {0: [3, 1, 9]})
    replaced(last, {0: [3, 1]})

    assert replaced(last, {0: [3, 1]}, width=7) == [False]
    assert replaced(last, {0: [3, 1, 9]}) == [True]


def test_each_user_is_compared_with_the_own_list_only():
    last = LastLists()
    replaced(last, {0: [3, 1]})

    assert replaced(last, {1: [3, 1], 0: [3, 1]}) == [True, False]


def test_a_cleared_row_has_no_last_list():
    last = LastLists()
    replaced(last, {0: [3, 1], 1: [4]})

    last.clear([0, -1, 10**9])

    assert len(last) == 1
    assert replaced(last, {0: [3, 1], 1: [4]}) == [True, False]


def test_lists_stay_when_rows_and_width_grow():
    last = LastLists()
    replaced(last, {row: [row, 1] for row in range(100)})

    replaced(last, {50_000: [1, 2, 3, 4, 5]})

    assert replaced(last, {row: [row, 1] for row in range(100)}) == [False] * 100
    assert len(last) == 101


def test_who_follows_hears_of_the_rows_whose_lists_changed_or_went():
    last = LastLists()
    replaced(last, {0: [3, 1], 1: [4, 2], 2: [5, 6]})
    before = last.moved.end

    replaced(last, {2: [5, 6], 1: [2, 4]})
    last.clear([0])
    last.clear_naming(0, 3, np.arange(7) == 5)

    assert last.moved.since(before).tolist() == [1, 0, 2]
    replaced(last, {0: [1, 2, 3]})
    assert last.moved.since(before) is None, "a wider table has other places"


def test_lists_that_name_an_item_are_forgotten_of_the_rows_that_are_gone_over_only():
    last = LastLists()
    replaced(last, {row: [3, 1] for row in range(5)})

    last.clear_naming(1, 3, np.arange(4) == 3)

    assert replaced(last, {row: [3, 1] for row in range(5)}) == [False, True, True, False, False]
    last.clear_naming(3, 10**9, np.arange(4) == 3)
    assert replaced(last, {row: [3, 1] for row in range(5)}) == [False, False, False, True, True]


def test_lists_with_a_code_that_goes_to_another_item_are_forgotten_and_what_is_behind_an_end_does_not_count():
    last, far = LastLists(), 40_000
    replaced(last, {0: [3, 1, -4]})
    lists = {0: [3, 1], 1: [-4, 2, 5], 2: [-3], 3: [-9, -1, 7], far: [8, -4]}
    replaced(last, lists)

    last.clear_coded(np.array([-4, -1]))

    assert replaced(last, lists) == [False, True, False, True, True]
    last.clear_coded(np.zeros(0, dtype=np.int64))
    assert not any(replaced(last, lists))


lists_of_rows = st.dictionaries(st.integers(0, 40), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4))


@settings(deadline=None)  # the first example may compile a kernel
@given(lists_of_rows)
def test_saved_and_loaded_every_list_is_as_it_was(lists):
    last, restored = LastLists(), LastLists()
    replaced(last, lists)
    replaced(restored, {50: [1]})  # forgotten by load

    restored.load(last.state())

    assert len(restored) == len(lists)
    for name, array in last.state().items():
        np.testing.assert_array_equal(restored.state()[name], array, strict=True)
    assert not any(replaced(restored, lists))
    assert replaced(restored, {50: [1]}) == [True], "it was forgotten"


def test_who_follows_hears_that_all_lists_are_others_after_a_load():
    last = LastLists()

    last.load(last.state())

    assert last.moved.since(0) is None


def test_the_state_is_plain_arrays_in_the_order_of_the_rows():
    last = LastLists()
    replaced(last, {4: [3, -1], 2: [7], 1: []})
    replaced(last, {2: [5, 6]})
    last.clear([4])

    state = last.state()

    assert {name: (array.dtype.name, array.tolist()) for name, array in state.items()} == {
        "codes": ("int32", [5, 6]),
        "lengths": ("int32", [-1, 0, 2, -1, -1]),
    }


def test_what_happens_after_a_state_was_taken_does_not_move_it():
    last = LastLists()
    replaced(last, {0: [1, 2]})
    state = last.state()

    replaced(last, {0: [3, 4], 1: [5]})

    assert (state["codes"].tolist(), state["lengths"].tolist()) == ([1, 2], [2])


@pytest.mark.parametrize(("name", "array"), [("lengths", [2]), ("lengths", [2, 1, -2]), ("codes", [3, 1, 9, 9])])
def test_arrays_that_do_not_fit_together_are_refused(name, array):
    last = LastLists()
    replaced(last, {0: [3, 1], 1: [4]})
    state = last.state()

    state[name] = np.array(array, dtype=state[name].dtype)

    with pytest.raises(ValueError, match="last lists"):
        LastLists().load(state)
