"""Ids become rows: against a dict, through every order of adding, removing, saving and loading."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.vocabulary import Vocabulary

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
ACTIONS = st.lists(
    st.one_of(st.tuples(st.just("add"), st.lists(IDS, max_size=5)), st.tuples(st.just("remove"), IDS)), max_size=12
)


def copy_of(vocabulary):
    copy = Vocabulary()
    copy.load(vocabulary.state())
    return copy


def test_ids_get_rows_in_the_order_in_which_they_arrive():
    vocabulary = Vocabulary()

    rows = vocabulary.rows(["b", "a", "b", "c", "a"])

    assert rows.tolist() == [0, 1, 0, 2, 1]
    assert rows.dtype == np.int64
    assert len(vocabulary) == vocabulary.in_use == 3


def test_asking_for_a_row_gives_none_to_a_stranger():
    vocabulary = Vocabulary()
    vocabulary.rows(["a"])

    row = vocabulary.row("b")

    assert row is None
    assert len(vocabulary) == 1


def test_a_row_given_back_goes_to_the_next_new_id_and_the_table_does_not_grow():
    vocabulary = Vocabulary()
    vocabulary.rows(["a", "b", "c"])

    given_back = vocabulary.remove("b")

    assert given_back == 1
    assert vocabulary.row("b") is None
    assert (len(vocabulary), vocabulary.in_use) == (3, 2)
    assert vocabulary.rows(["d", "e", "d"]).tolist() == [1, 3, 1]


def test_a_row_that_was_given_back_has_no_name():
    vocabulary = Vocabulary()
    vocabulary.rows(["a"])
    vocabulary.remove("a")

    with pytest.raises(KeyError, match="row 0 is not in use"):
        vocabulary.name(0)


def test_a_stranger_cannot_be_removed():
    with pytest.raises(KeyError):
        Vocabulary().remove("nobody")


def test_nothing_of_a_removed_id_is_saved():
    vocabulary = Vocabulary()
    vocabulary.rows(["stays", "secret", "remains"])
    vocabulary.remove("secret")

    saved = b"".join(array.tobytes() for array in vocabulary.state().values())

    assert b"secret" not in saved
    assert b"stays" in saved


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(actions=ACTIONS)
def test_it_is_one_to_one_and_saved_and_loaded_it_goes_on_alike(actions):
    vocabulary, rows = Vocabulary(), {}
    for action, what in actions:
        if action == "add":
            added = dict(zip(what, vocabulary.rows(what).tolist(), strict=True))
            assert all(rows.get(name, row) == row for name, row in added.items())
            rows |= added
        elif what in rows:
            assert vocabulary.remove(what) == rows.pop(what)
        loaded = copy_of(vocabulary)

        assert len(set(rows.values())) == len(rows) == loaded.in_use
        assert all(loaded.row(name) == row and loaded.name(row) == name for name, row in rows.items())
        assert len(loaded) == len(vocabulary)
        assert copy_of(vocabulary).rows(["new", "newer"]).tolist() == loaded.rows(["new", "newer"]).tolist()


def test_lengths_that_do_not_fit_the_bytes_are_refused():
    vocabulary = Vocabulary()
    vocabulary.rows(["abc", "de"])
    state = vocabulary.state()

    with pytest.raises(ValueError, match="lengths add up to 5 bytes, but there are 4"):
        Vocabulary().load({**state, "bytes": state["bytes"][:-1]})
