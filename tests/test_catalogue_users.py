"""What the users topic says is taken in as items are; what was forgotten is named nowhere and not told again."""

import pytest
from catalogue_cases import Told, Users, ids, reading_users
from structlog.testing import capture_logs

from consumer.catalogue import RowOutcome, user_content_of
from model.entries import ItemContent
from producer.events import User


def test_what_is_said_of_users_comes_to_the_model_as_it_is():
    user = User(user_id="a", timestamp=1, categories=["c"], features={"age": 31.0})

    assert user_content_of(user) == ItemContent(categories=["c"], features={"age": 31.0})


def test_users_are_taken_in_changed_and_removed_as_items_are():
    users, told = Users(), Told()
    users.put("u1", categories=["x"])
    catalogue = reading_users(users, told)
    catalogue.apply(catalogue.take())
    users.put("u1", None)
    users.put("u2", features={"age": 3.0})

    catalogue.apply(catalogue.take())

    assert told == [
        {"u1": ItemContent(categories=["x"])},
        {"u1": None, "u2": ItemContent(features={"age": 3.0})},
    ]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"no json", "malformed"),
        (b'{"user_id":"u","timestamp":-1}', "$.timestamp"),
        (b'{"user_id":"u","timestamp":1,"features":{"age":"old"}}', "$.features"),
        (b'{"item_id":"u","timestamp":1}', "user_id"),
        (b'{"user_id":"v","timestamp":1}', "$.user_id: expected the record's key 'u', got 'v'"),
    ],
)
def test_a_row_that_is_no_user_is_counted_as_one_of_users_and_what_was_known_stays(value, why):
    users, counted = Users(), []
    users.put("u", categories=["good"])
    catalogue = reading_users(users, count=lambda *counts: counted.append(counts))
    catalogue.apply(catalogue.take())
    users.put("u", value)

    with capture_logs() as logs:
        changes = catalogue.take()

    assert changes == []
    assert ("users", RowOutcome.REJECTED, 1) in counted
    assert (logs[0]["of"], logs[0]["offset"]) == ("users", 1)
    assert why.lower() in logs[0]["why"].lower()


def test_a_forgotten_user_is_named_nowhere_and_not_told_of_again_by_the_same_row():
    users = Users()
    users.put("private", categories=["x"])
    first = reading_users(users)
    first.apply(first.take())

    first.forget(["private", "never met"])
    state = first.state()
    second = reading_users(users, state=state)

    assert all(b"private" not in array.tobytes() for array in state.values())
    assert second.take() == []
    users.put("private", categories=["y"])
    assert ids(second.take()) == [("private", True)], "a new row is a new wish"


def test_what_is_remembered_of_a_forgotten_user_goes_with_the_row():
    users = Users()
    users.put("private", categories=["x"])
    first = reading_users(users)
    first.apply(first.take())
    first.forget(["private"])
    users.put("private", None)
    users.compact()
    second = reading_users(users, state=first.state())

    second.apply(second.take())

    assert "withheld" not in second.state()


@pytest.mark.parametrize("restarts", [True, False], ids=["restarted", "running"])
def test_the_same_row_of_a_forgotten_user_is_told_again_once_a_null_value_has_come_between(restarts):
    users = Users()
    users.put("private", categories=["x"])
    users.put("other", categories=["y"])
    catalogue = reading_users(users)
    catalogue.apply(catalogue.take())
    catalogue.forget(["private", "other"])
    users.put("private", None)
    catalogue.apply(catalogue.take())
    if restarts:
        catalogue = reading_users(users, state=catalogue.state())

    users.put("private", categories=["x"])
    users.put("other", categories=["y"])

    assert ids(catalogue.take()) == [("private", True)]


def test_a_row_that_comes_behind_a_null_value_in_the_same_take_is_told_again_to_a_repeated_step_too():
    users = Users()
    users.put("private", categories=["x"])
    first = reading_users(users)
    first.apply(first.take())
    first.forget(["private"])
    saved = first.state()
    users.put("private", None)
    users.put("private", categories=["x"])

    journaled = first.take()
    first.apply(journaled)
    again = reading_users(users, state=saved)
    again.apply(journaled)

    assert ids(journaled) == [("private", True)]
    assert "withheld" not in first.state()
    assert "withheld" not in again.state()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_null_value_of_a_forgotten_user_leaves_no_id(restarts):
    users = Users()
    users.put("private", categories=["x"])
    catalogue = reading_users(users)
    catalogue.apply(catalogue.take())
    catalogue.forget(["private"])
    users.put("private", None)
    users.put("stranger", None)
    catalogue.apply(catalogue.take())
    if restarts:
        catalogue = reading_users(users, state=catalogue.state())
        catalogue.apply(catalogue.take())

    assert catalogue.state() == {}


def test_what_the_journal_took_in_lets_go_of_what_was_withheld_when_it_is_repeated():
    users = Users()
    users.put("private", categories=["x"])
    first = reading_users(users)
    first.apply(first.take())
    first.forget(["private"])
    saved = first.state()
    users.put("private", None)
    journaled = first.take()
    first.apply(journaled)
    again = reading_users(users, state=saved)

    again.apply(journaled)

    assert {name: array.tolist() for name, array in again.state().items()} == {
        name: array.tolist() for name, array in first.state().items()
    }
    assert "withheld" not in again.state()


def test_what_a_state_without_ids_of_what_is_withheld_says_counts_on():
    users = Users()
    users.put("private", categories=["x"])
    first = reading_users(users)
    first.apply(first.take())
    first.forget(["private"])
    older = {name: array for name, array in first.state().items() if name != "withheld ids"}

    second = reading_users(users, state=older)
    third = reading_users(users, state=second.state())

    assert second.take() == third.take() == []
