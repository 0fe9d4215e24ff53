"""Batches as columns, and where they are cut for users who are forgotten."""

from hypothesis import given, settings
from hypothesis import strategies as st
from streams import click

from model.interactions import Forget, Interactions

USERS = st.sampled_from("abcd")
BATCHES = st.lists(st.one_of(USERS.map(lambda user: click(user, "i")), USERS.map(Forget)), max_size=20)


def stretches(batch):
    """Whose events are learned and who is forgotten then, in turn."""
    found = Interactions.of(batch).stretches()
    return [("".join(events.users.names()), "".join(leaving.names())) for events, leaving in found]


def test_a_batch_without_forgets_is_one_stretch_and_nothing_is_copied():
    batch = Interactions.of([click("a", "i"), click("a", "j")])

    ((events, leaving),) = batch.stretches()

    assert events is batch
    assert not len(leaving)


def test_a_batch_is_cut_where_somebody_comes_back_and_nowhere_else():
    a, b, c = (click(user, "i") for user in "abc")

    assert stretches([a, Forget("a"), b, Forget("b"), c, Forget("c")]) == [("abc", "abc")]
    assert stretches([a, Forget("a"), b, a, c, Forget("b")]) == [("ab", "a"), ("ac", "b")]
    assert stretches([Forget("a"), a, a, Forget("a"), Forget("a"), a]) == [("", "a"), ("aa", "aa"), ("a", "")]
    assert stretches([Forget("a"), Forget("b"), a, b, a]) == [("", "ab"), ("aba", "")]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(batch=BATCHES)
def test_to_each_user_it_is_as_if_every_forget_stood_where_it_came(batch):
    parts = Interactions.of(batch).stretches()

    for user in "abcd":
        came = ["forget" if isinstance(one, Forget) else "event" for one in batch if one.user_id == user]
        done = [
            what
            for events, leaving in parts
            for what, names in (("event", events.users.names()), ("forget", leaving.names()))
            for name in names
            if name == user
        ]
        assert done == came
    learned = [name for events, _ in parts for name in events.users.names()]
    assert learned == [one.user_id for one in batch if not isinstance(one, Forget)]
