"""What the users topic says is taken in as items are; what was forgotten is named nowhere and not told again."""

import pytest
from catalogue_cases import Told, Users, ids, reading_users
from stream_fakes import TIME_MS
from structlog.testing import capture_logs

from consumer.catalogue import FORGETS_KEPT_MS, MOST_TAKEN_AT_ONCE, ROWS, Catalogue, RowOutcome, user_content_of
from model.entries import ItemContent
from producer.events import User


def one_forgotten():
    """The users topic with one row, and a catalogue that took it in before its user was forgotten."""
    users = Users()
    users.put("private", categories=["x"])
    catalogue = reading_users(users)
    catalogue.apply(catalogue.take())
    catalogue.forget(["private"])
    return users, catalogue


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
    users, first = one_forgotten()
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
    users, first = one_forgotten()
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
    users, catalogue = one_forgotten()
    users.put("private", None)
    users.put("stranger", None)
    catalogue.apply(catalogue.take())
    if restarts:
        catalogue = reading_users(users, state=catalogue.state())
        catalogue.apply(catalogue.take())

    assert catalogue.state() == {}


def test_what_the_journal_took_in_lets_go_of_what_was_withheld_when_it_is_repeated():
    users, first = one_forgotten()
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
    users, first = one_forgotten()
    older = {name: array for name, array in first.state().items() if name != "withheld ids"}

    second = reading_users(users, state=older)
    third = reading_users(users, state=second.state())

    assert second.take() == third.take() == []


# -- rows on their way while a user is forgotten --


FORGOTTEN_AT = TIME_MS + 1000


def forgotten_with_a_row_on_its_way(users, state=None, rows=1):
    """A catalogue that heard of the forget first, and only then finds rows that were sent before it."""
    catalogue = reading_users(users, state=state)
    catalogue.apply(catalogue.take())
    catalogue.forget(["private"], [FORGOTTEN_AT], FORGOTTEN_AT)
    for row in range(rows):
        users.put("private", categories=[f"late {row}"], time_ms=FORGOTTEN_AT - rows + row)
    return catalogue


def test_a_row_that_was_sent_before_a_forget_and_comes_after_it_is_not_told():
    users = Users()
    users.put("private", categories=["told"])
    catalogue = forgotten_with_a_row_on_its_way(users, rows=2)

    assert catalogue.take() == []
    assert all(b"private" not in array.tobytes() for array in catalogue.state().values())
    assert reading_users(users, state=catalogue.state()).take() == []


def test_a_row_of_somebody_never_met_who_was_forgotten_is_not_told_later():
    assert forgotten_with_a_row_on_its_way(Users()).take() == []


def test_a_row_that_was_sent_with_a_forget_or_after_it_is_told_and_so_is_one_without_a_time():
    for time_ms in (FORGOTTEN_AT, FORGOTTEN_AT + 1, -1):
        users = Users()
        catalogue = forgotten_with_a_row_on_its_way(users)
        users.put("private", categories=["new wish"], time_ms=time_ms)

        assert ids(catalogue.take()) == [("private", True)], time_ms


def test_of_two_forgets_the_one_that_was_sent_last_counts_and_one_without_a_time_counts_for_none():
    users = Users()
    catalogue = forgotten_with_a_row_on_its_way(users)

    catalogue.forget(["private", "private"], [FORGOTTEN_AT - 500, -1], FORGOTTEN_AT)

    assert catalogue.take() == []


def test_a_row_on_its_way_is_not_told_where_the_steps_since_a_checkpoint_are_made_again():
    users = Users()
    first = reading_users(users)
    saved = first.state()
    first.forget(["private"], [FORGOTTEN_AT], FORGOTTEN_AT)
    users.put("private", categories=["late"], time_ms=FORGOTTEN_AT - 1)
    assert first.take() == []

    again = reading_users(users, state=saved)
    again.forget(["private"], [FORGOTTEN_AT], FORGOTTEN_AT)
    again.forget([], [], FORGOTTEN_AT + 2 * FORGETS_KEPT_MS)

    assert again.take() == []


def test_what_is_withheld_of_a_row_on_its_way_goes_with_the_row_or_a_null_value():
    users = Users()
    catalogue = forgotten_with_a_row_on_its_way(users)
    catalogue.apply(catalogue.take())
    users.put("private", None, time_ms=FORGOTTEN_AT + 1)
    catalogue.apply(catalogue.take())
    users.put("private", categories=["late 0"], time_ms=FORGOTTEN_AT + 2)

    assert ids(catalogue.take()) == [("private", True)]


def test_a_forget_is_remembered_until_its_time_has_passed_and_the_topic_is_read_to_its_end():
    users = Users()
    catalogue = forgotten_with_a_row_on_its_way(users, rows=MOST_TAKEN_AT_ONCE + 1)
    past = FORGOTTEN_AT + FORGETS_KEPT_MS + 1

    def is_remembered(now_ms):
        catalogue.apply(catalogue.take())
        catalogue.forget([], [], now_ms)
        return "forgotten" in catalogue.state()

    assert is_remembered(past), "a row waits behind the thousand of that take"
    assert is_remembered(past - 1)
    assert not is_remembered(past)


def test_a_step_without_a_time_lets_go_of_no_forget():
    users = Users()
    catalogue = reading_users(users)
    catalogue.apply(catalogue.take())
    catalogue.forget(["private"], [FORGOTTEN_AT], FORGOTTEN_AT)

    catalogue.forget([], [], 0)
    users.put("private", categories=["late"], time_ms=FORGOTTEN_AT - 1)

    assert catalogue.take() == []


def test_a_forget_from_a_clock_far_ahead_is_not_kept_for_ever():
    catalogue = reading_users(Users())
    catalogue.apply(catalogue.take())
    catalogue.forget(["private"], [FORGOTTEN_AT + 10 * FORGETS_KEPT_MS], FORGOTTEN_AT)

    catalogue.forget([], [], FORGOTTEN_AT)

    assert catalogue.state() == {}


def test_without_a_users_topic_no_forget_is_remembered():
    catalogue = Catalogue(Told(), rows=ROWS["users"])

    catalogue.forget(["private"], [FORGOTTEN_AT], FORGOTTEN_AT)

    assert catalogue.state() == {}


def test_a_row_is_news_for_its_null_value_once():
    users, catalogue = one_forgotten()
    users.put("private", None)
    users.put("private", categories=["x"])
    catalogue.apply(catalogue.take())

    users.put("private", categories=["x"])

    assert catalogue.take() == []
