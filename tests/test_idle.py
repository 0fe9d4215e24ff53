"""Who is given back: those that were idle, never those of the step, and the same after a save."""

import numpy as np
import pytest

from model import idle
from model.idle import IdleRows
from model.vocabulary import Vocabulary


def given_back(rows, vocabulary, names):
    """The names that go after a step that used these."""
    chosen = rows.choose(vocabulary.rows(names), vocabulary)
    gone = [vocabulary.name(row) for row in chosen.tolist()]
    vocabulary.remove_rows(chosen)
    return gone


def test_as_long_as_there_are_not_too_many_nobody_goes():
    rows, vocabulary = IdleRows(3), Vocabulary()

    assert given_back(rows, vocabulary, ["a", "b", "c"]) == []
    assert given_back(rows, vocabulary, ["a"]) == []


def test_who_came_once_goes_before_those_who_came_again():
    rows, vocabulary = IdleRows(3), Vocabulary()
    for names in (["a", "b", "c"], ["a"], ["c"]):
        given_back(rows, vocabulary, names)

    assert given_back(rows, vocabulary, ["d"]) == ["b"]
    assert given_back(rows, vocabulary, ["d"]) == []
    assert given_back(rows, vocabulary, ["e"]) == ["a"]  # the hand has come round, and c and d came again
    assert vocabulary.in_use == 3


def test_nobody_of_the_step_goes_even_where_they_are_more_than_may_be_kept():
    rows, vocabulary = IdleRows(2), Vocabulary()

    assert given_back(rows, vocabulary, ["a", "b", "c", "d"]) == []
    assert sorted(given_back(rows, vocabulary, ["d", "e", "f"])) == ["a", "b", "c"]
    assert vocabulary.in_use == 3


def test_who_comes_step_after_step_stays_whoever_else_comes():
    rows, vocabulary = IdleRows(100), Vocabulary()
    regulars = [f"regular {n}" for n in range(20)]
    for number in range(400):
        given_back(rows, vocabulary, [regulars[number % 20], f"visitor {2 * number}", f"visitor {2 * number + 1}"])

    assert all(vocabulary.row(name) is not None for name in regulars)
    assert vocabulary.in_use == 100
    assert len(vocabulary) <= 103


def test_what_a_step_looks_at_and_gives_back_is_bounded(monkeypatch):
    monkeypatch.setattr(idle, "GIVEN_BACK", 3)
    vocabulary = Vocabulary()
    vocabulary.rows([str(n) for n in range(100)])
    rows = IdleRows(10)

    assert len(given_back(rows, vocabulary, ["0", "1"])) == 5
    monkeypatch.setattr(idle, "LOOKED_AT", 2)
    assert len(given_back(rows, vocabulary, ["0", "1"])) == 2


def test_saved_and_loaded_it_goes_on_alike():
    draw = np.random.default_rng(1)
    rows, vocabulary, loaded = IdleRows(10), Vocabulary(), None
    for number in range(60):
        names = [f"u{n}" for n in draw.integers(30, size=4)]
        if number == 30:
            twin = Vocabulary()
            twin.load(vocabulary.state())
            loaded = IdleRows(10)
            loaded.load(rows.state(len(vocabulary)))
        gone = given_back(rows, vocabulary, names)
        if loaded is not None:
            assert given_back(loaded, twin, names) == gone


def test_a_row_that_was_forgotten_is_a_new_ones_and_nothing_loaded_is_nobody_seen():
    rows, vocabulary = IdleRows(9), Vocabulary()
    for _ in range(2):
        given_back(rows, vocabulary, ["a", "b"])

    rows.clear(np.array([0, 99]))

    assert rows.state(3)["used"].tolist() == [0, 2, 0]
    rows.load({})
    assert (rows.state(2)["used"].tolist(), rows.state(2)["hand"].tolist()) == ([0, 0], [0])


def test_room_for_nobody_is_refused():
    with pytest.raises(ValueError, match="from 1 on, got 0"):
        IdleRows(0)
