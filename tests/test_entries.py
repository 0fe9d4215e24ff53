"""The features of the catalogue's items: each row says what its item said last, and weights are what they should be."""

import re

import numpy as np
import pytest

from model.entries import MOST_NUMBERS, Entries, ItemContent, features_of
from model.text import bucket


def entries_of(*contents):
    made = Entries()
    made.grow(len(contents))
    for row, content in enumerate(contents):
        made.replace(row, content)
    made.refresh()
    return made


def dense(entries, rows=None):
    """The matrix of these rows (all by default), features as columns."""
    bags = entries.bags(np.arange(entries.rows) if rows is None else np.array(rows))
    matrix = np.zeros((len(bags.starts_N), entries.features))
    matrix[bags.rows_E, bags.features_E] = bags.weights_E
    return matrix


def by_place(entries, row):
    """Bucket -> weight of the features of a row that count."""
    bags, places = entries.bags(np.array([row])), entries.state()["columns"]
    return dict(zip(places[bags.features_E].tolist(), bags.weights_E.tolist(), strict=True))


def test_what_only_one_item_has_does_not_count_and_what_two_have_does():
    made = entries_of(ItemContent(categories=["Action", "Odd"]), ItemContent(categories=["Action"]))

    matrix = dense(made)

    assert matrix.tolist() == [[0.5, 0], [1, 0]]


def test_a_feature_that_was_shared_once_goes_on_counting():
    made = entries_of(ItemContent(categories=["a"]), ItemContent(categories=["a"]))

    made.replace(1, None)

    assert dense(made).tolist() == [[1], [0]]


def test_numbers_are_scaled_by_what_was_known_at_the_last_refresh():
    made = entries_of(*[ItemContent(features={"price": price}) for price in (1.0, 2.0, 3.0)])
    before = dense(made)

    made.grow(4)
    made.replace(3, ItemContent(features={"price": 10.0}))
    between = dense(made, [0, 1, 2])
    made.refresh()
    after = dense(made)

    np.testing.assert_allclose(before[:, 0], np.array([-1, 0, 1]) / np.std([1, 2, 3]), rtol=1e-6)
    np.testing.assert_array_equal(between, before)
    np.testing.assert_allclose(after[:, 0], (np.array([1, 2, 3, 10]) - 4) / np.std([1, 2, 3, 10]), rtol=1e-6)


def test_a_ready_made_vector_keeps_its_direction_and_its_weights_add_up_to_one():
    made = entries_of(ItemContent(vector=[3.0, -1.0, 0.0]), ItemContent(vector=[3e300, 1e300, 0.0]))

    matrix = dense(made)

    np.testing.assert_allclose(matrix, [[0.75, -0.25, 0], [0.75, 0.25, 0]], rtol=1e-6)


def test_a_vector_of_zeros_says_nothing():
    assert entries_of(ItemContent(vector=[0.0, 0.0])).lengths().tolist() == [0]


def test_a_row_says_what_its_item_said_last_however_often_it_was_replaced():
    made = entries_of(*[ItemContent("start", None, ["x"]) for _ in range(40)])
    final = [ItemContent(f"title {n % 7}", "some words", [f"c{n % 3}"], {"n": float(n)}) for n in range(40)]

    for round_ in range(30):
        for row in range(40):
            made.replace(row, ItemContent(f"other {round_} {row}", "text " * 5, ["y"]))
    for row, content in enumerate(final):
        made.replace(row, content)

    made.refresh()
    fresh = entries_of(*final)
    for row in range(40):
        ours, theirs = by_place(made, row), by_place(fresh, row)
        assert {place: ours[place] for place in theirs} == theirs
    assert made.lengths().tolist() == fresh.lengths().tolist()
    assert made.live == fresh.live
    assert len(made._feature_E) < 3 * made.live + 10_000, "holes are closed"


def test_it_goes_on_from_a_saved_state_as_if_never_stopped():
    contents = [ItemContent(f"a b {n % 3}", None, [f"c{n % 2}"], {"n": n * 1.5}, [n, 1.0]) for n in range(9)]
    made = entries_of(*contents)
    made.replace(4, None)
    loaded = Entries()

    loaded.load({name: np.array(value) for name, value in made.state().items()})
    for one in (made, loaded):
        one.grow(10)
        one.replace(9, ItemContent("a z", None, ["new"], {"n": 100.0}))
        one.replace(0, ItemContent("z", None, ["new"]))
        one.refresh()

    np.testing.assert_array_equal(dense(made), dense(loaded))
    for name, value in made.state().items():
        np.testing.assert_array_equal(loaded.state()[name], value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (ItemContent(vector=[1.0, float("nan")]), r"\$.vector: expected finite"),
        (ItemContent(features={"a": float("inf")}), r"\$.features: expected finite"),
        (ItemContent(vector=[0.5] * (MOST_NUMBERS + 1)), r"\$.vector: expected at most 4096 numbers, got 4097"),
    ],
)
def test_numbers_that_nothing_can_be_made_of_are_refused_by_name(content, complaint):
    assert re.match(complaint, content.refusal() or "")


def test_what_is_in_order_is_not_refused():
    assert ItemContent("t", "x", ["c"], {"a": 1.0}, [0.0, 1e300]).refusal() is None


def test_the_features_of_an_item_never_share_a_place():
    made = entries_of(ItemContent("t", None, None, {"a": 1.0}))

    assert made.lengths().tolist() == [3]
    assert bucket("number", "a") in made.state()["columns"]


def test_what_was_said_before_can_be_read_where_it_stood_until_holes_are_closed():
    made = entries_of(ItemContent(categories=["a"]), ItemContent(categories=["a", "b"]), ItemContent(categories=["b"]))
    before = made.spans(np.array([0]))

    made.write(np.array([0]), [features_of(ItemContent(categories=["b", "a"]))])

    assert made.bags_at(*before).weights_E.tolist() == [1]
    assert made.bags(np.array([0])).weights_E.tolist() == [0.5, 0.5]


def test_a_cleared_row_is_empty_and_leaves_nothing_in_memory():
    made = entries_of(ItemContent(categories=["a"], features={"n": 7.0}), ItemContent(categories=["a"]))

    made.clear(np.array([0]))

    assert dense(made)[0].tolist() == [0, 0]
    assert not (made._value_E == 7.0).any()
    assert made.live == 1
    other = Entries()
    other.load(made.state())
    other.replace(0, ItemContent(categories=["a"]))
    assert dense(other).tolist() == [[1, 0], [1, 0]]


def test_many_writes_at_once_are_as_one_after_the_other_also_to_the_same_row():
    contents = [
        ItemContent(categories=["a"], features={"n": 1.0}),
        ItemContent(categories=["b"], features={"n": 3.0, "m": 2.0}),
        None,
        ItemContent(categories=["a", "b"]),
    ]
    rows = [0, 1, 0, 0]
    one, other = Entries(), Entries()
    for made in (one, other):
        made.grow(2)
    for row, content in zip(rows, contents, strict=True):
        one.replace(row, content)

    starts, lengths = other.write(np.array(rows), [features_of(content) for content in contents])

    assert [length.tolist() for length in (starts, lengths)] == [[0, 2, 5, 5], [2, 3, 0, 2]]
    assert other.live == one.live == 5
    theirs = other.state()
    for name, array in one.state().items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
