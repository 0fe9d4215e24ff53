"""What the ranking head reads of a batch, against a walk through it in plain Python."""

import numpy as np
import pytest

from model.batches import RankedBatch
from model.live import LiveState

USERS, ITEMS, EVENTS = 4, 9, 30


def batches(seed, allow_repeats=False):
    """A batch after another one, and the events of both as (user, item, enters)."""
    draw = np.random.default_rng(seed)
    live = LiveState(depth=8, most_seen=100)
    live.grow(USERS, ITEMS)
    parts = []
    for highest in (ITEMS - 4, ITEMS - 1):
        users, items = draw.integers(USERS, size=EVENTS), draw.integers(highest, size=EVENTS)
        enters, nothing = draw.random(EVENTS) < 0.7, np.zeros(EVENTS, dtype=np.int64)
        found = live.pass_over(
            users, items, nothing, enters, nothing.astype(np.int8), window=3, strictly_before=False,
            allow_repeats=allow_repeats,
        )  # fmt: skip
        parts.append(list(zip(users.tolist(), items.tolist(), enters.tolist(), strict=True)))
    return RankedBatch(items, enters, found, live.seen, allow_repeats), *parts


def counts_before(earlier, now, place):
    counts = np.zeros(ITEMS, dtype=np.int64)
    for _, item, enters in [*earlier, *now[:place]]:
        counts[item] += enters
    return counts


def known_before(earlier, now, place):
    return {item for _, item, _ in [*earlier, *now[:place]]}


def test_live_counts_are_what_each_event_found():
    batch, earlier, now = batches(1)
    mentioned = sorted({item for _, item, _ in now})

    mentions = batch.mentions

    assert mentions.items_M.tolist() == mentioned
    for place in range(EVENTS):
        assert mentions.counts_BM[place].tolist() == counts_before(earlier, now, place)[mentioned].tolist()


def test_live_counts_of_some_of_the_items_are_those_columns():
    batch, _, now = batches(2)
    some = np.unique([item for _, item, _ in now])[::2]

    counts_BM = batch.live_counts(some)

    np.testing.assert_array_equal(counts_BM, batch.mentions.counts_BM[:, ::2])
    assert batch.live_counts(some[:0]).shape == (EVENTS, 0)


def test_items_without_an_event_to_the_end_are_never_known():
    batch, earlier, now = batches(4)

    never = batch.never_known()

    assert set(np.flatnonzero(never).tolist()) == set(range(ITEMS)) - known_before(earlier, now, EVENTS)


@pytest.mark.parametrize("rows", [slice(None), slice(4, 11), np.array([3, 4, 17])])
def test_what_each_user_had_seen_is_no_candidate_but_for_the_events_own_item(rows):
    batch, earlier, now = batches(5)
    place_I = np.where(np.arange(ITEMS) % 2 == 0, np.arange(ITEMS) * 10, -1)  # odd items have no place

    events, places = batch.not_candidates(place_I, rows)

    expected = set()
    for row, place in enumerate(np.arange(EVENTS)[rows].tolist()):
        user, own, _ = now[place]
        seen = {item for other, item, enters in [*earlier, *now[:place]] if other == user and enters}
        expected |= {(row, item * 10) for item in seen - {own} if item % 2 == 0}
    assert sorted(zip(events.tolist(), places.tolist(), strict=True)) == sorted(expected)


def test_with_repeats_allowed_nothing_is_left_out():
    batch, _, _ = batches(6, allow_repeats=True)

    events, places = batch.not_candidates(np.arange(ITEMS))

    assert len(events) == len(places) == 0


@pytest.mark.parametrize("rows", [slice(None), slice(9, 23), np.array([2, 9, 28])])
def test_what_becomes_known_later_in_the_batch_is_not_yet_known(rows):
    batch, earlier, now = batches(7)

    events, items = batch.not_yet_known(rows)

    ever = known_before(earlier, now, EVENTS)
    expected = {
        (row, item)
        for row, place in enumerate(np.arange(EVENTS)[rows].tolist())
        for item in ever - known_before(earlier, now, place) - {now[place][1]}
    }
    assert set(zip(events.tolist(), items.tolist(), strict=True)) == expected
    assert len(events) == len(expected)
