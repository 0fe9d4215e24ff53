"""The live pass against plain Python: what each event of a batch finds, and the state it leaves behind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_live import PlainLive

import model.live
from model.kernels.compiled import interpreted
from model.live import LiveState

USERS, ITEMS = 4, 9
TIMES = st.sampled_from([0, 1, 2_999, 3_000, 3_001, 14_000, 63_000, 10**6, 10**9, 2**62])
EVENTS = st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), TIMES, st.booleans(), st.integers(0, 5))
BATCHES = st.lists(st.one_of(st.lists(EVENTS, max_size=12), st.integers(0, USERS - 1)), max_size=6)
"""Batches of events, and between them users to be forgotten."""
TWINS = {"compiled": lambda kernel: kernel, "interpreted": interpreted}


def pass_over(live, events, *, window, strictly_before=False, allow_repeats=False):
    events = [(*event, 0) if len(event) == 4 else event for event in events]
    users, items, times, enters, kinds = zip(*events, strict=True) if events else ((), (), (), (), ())
    return live.pass_over(
        np.array(users, dtype=np.int64),
        np.array(items, dtype=np.int64),
        np.array(times, dtype=np.int64),
        np.array(enters, dtype=np.bool_),
        np.array(kinds, dtype=np.int8),
        window=window,
        strictly_before=strictly_before,
        allow_repeats=allow_repeats,
    )


def padded(values, width, empty=-1):
    return values + [empty] * (width - len(values))


def assert_window(windows, place, plain, width=3):
    assert windows.items_BW[place].tolist() == padded(plain.items, width)
    assert windows.gaps_BW[place].tolist() == padded(plain.gaps, width, 0)
    assert windows.kinds_BW[place].tolist() == padded(plain.kinds, width, 0)
    assert windows.lengths_B[place] == plain.length


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize("strictly_before", [False, True])
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(batches=BATCHES)
def test_each_event_finds_what_plain_python_finds(twin, allow_repeats, strictly_before, batches):
    rules = {"strictly_before": strictly_before, "allow_repeats": allow_repeats}
    live = LiveState(depth=4, most_seen=5)
    live.grow(USERS, ITEMS)
    plain = PlainLive(depth=4, most_seen=5, window=3, **rules)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.live, "live_pass", TWINS[twin](model.live.live_pass))
        for batch in batches:
            if isinstance(batch, int):
                live.clear_users(np.array([batch]))
                plain.forget(batch)
                continue
            found = pass_over(live, batch, window=3, **rules)
            for place, (user, item, time, enters, kind) in enumerate(batch):
                start, length = found.seen_start_B[place], found.seen_length_B[place]
                assert_window(found.windows, place, plain.window(user, time))
                assert found.full_items_BW[place].tolist() == padded(plain.last_items(user), 3)
                assert found.counts_B[place] == plain.counts.get(item, 0)
                assert found.known_B[place] == (item in plain.counts)
                assert found.popularity_rank_B[place] == plain.popularity_rank(user, item)
                assert live.seen.pool[start : start + length].tolist() == plain.user(user).seen
                plain.learn(user, item, time, enters, kind)
            live.seen.trim(np.array([user for user, *_ in batch], dtype=np.int64))
            plain.end_batch()

    assert [live.seen.items(user).tolist() for user in range(USERS)] == [plain.user(u).seen for u in range(USERS)]
    windows = live.history.windows(np.arange(USERS), 3)
    for user in range(USERS):
        assert_window(windows, user, plain.window(user))
    assert {i: int(live.counts.count_I[i]) for i in np.flatnonzero(live.counts.known_I)} == plain.counts


def test_what_was_known_and_counted_at_the_start_of_the_batch_is_kept_apart_from_what_the_batch_moves():
    live = LiveState(depth=4, most_seen=5)
    live.grow(2, 3)
    pass_over(live, [(0, 0, 0, True)], window=3)

    found = pass_over(live, [(0, 1, 0, True), (1, 0, 0, True)], window=3)

    assert found.known_I.tolist() == [True, False, False]
    assert found.count_I.tolist() == [1, 0, 0]
    assert live.counts.count_I[:3].tolist() == [2, 1, 0]


def test_a_repeated_item_enters_the_history_again_but_the_seen_items_once():
    live = LiveState(depth=4, most_seen=5)
    live.grow(1, 2)

    pass_over(live, [(0, 1, 0, True), (0, 0, 0, True), (0, 1, 0, True)], window=3)

    assert live.history.windows(np.array([0]), 3).items_BW.tolist() == [[1, 0, 1]]
    assert live.seen.items(0).tolist() == [1, 0]


def test_an_empty_batch_moves_nothing():
    live = LiveState(depth=4, most_seen=5)
    live.grow(2, 2)
    pass_over(live, [(0, 1, 7, True)], window=3)
    before = {name: array.copy() for name, array in live.state().items()}

    found = pass_over(live, [], window=3)

    assert found.windows.items_BW.shape == (0, 3)
    assert all((live.state()[name] == array).all() for name, array in before.items())


def test_a_loaded_state_goes_on_as_if_it_had_never_been_saved():
    draw = np.random.default_rng(3)
    events = [(int(u), int(i), t, bool(e)) for t, (u, i, e) in enumerate(draw.integers((4, 9, 2), size=(200, 3)))]
    never_saved, saved = LiveState(depth=4, most_seen=5), LiveState(depth=4, most_seen=5)
    for live in (never_saved, saved):
        live.grow(USERS, ITEMS)
        pass_over(live, events[:100], window=3)

    loaded = LiveState(depth=4, most_seen=5)
    loaded.load(saved.state())
    expected, found = (pass_over(live, events[100:], window=3) for live in (never_saved, loaded))

    assert (found.windows.items_BW == expected.windows.items_BW).all()
    assert (found.windows.gaps_BW == expected.windows.gaps_BW).all()
    assert (found.popularity_rank_B == expected.popularity_rank_B).all()
    assert (found.seen_length_B == expected.seen_length_B).all()
    assert all((loaded.state()[name] == array).all() for name, array in never_saved.state().items())


def test_loading_takes_a_copy_of_what_it_is_given():
    live = LiveState(depth=4, most_seen=5)
    live.grow(1, 2)
    pass_over(live, [(0, 1, 7, True)], window=3)
    state = {name: array.copy() for name, array in live.state().items()}
    kept = {name: array.copy() for name, array in state.items()}

    loaded = LiveState(depth=4, most_seen=5)
    loaded.load(state)
    pass_over(loaded, [(0, 0, 8, True)], window=3)

    assert all((state[name] == array).all() for name, array in kept.items())
