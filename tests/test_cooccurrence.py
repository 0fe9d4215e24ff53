"""Co-occurrence against a dict of dicts: features with everything earlier counted, bounded lists, states."""

from dataclasses import replace

import numpy as np
import pytest
from plain_live import PlainLive
from plain_ranking import PlainPairs

import model.cooccurrence
from model.cooccurrence import Cooccurrence, CooccurrenceSettings, no_features
from model.kernels.compiled import interpreted
from model.kernels.cooccurrence import Wanted, score_then_count
from model.live import LiveState

USERS, ITEMS, WINDOW = 6, 20, 6
SETTINGS = CooccurrenceSettings(neighbours=5, distance_decay=0.8, age_decay=0.7, read=4, pairs=5)
VARIANTS = {
    "as it is": SETTINGS,
    "room for all": replace(SETTINGS, neighbours=ITEMS),
    "room for one": replace(SETTINGS, neighbours=1),
    "no decay": replace(SETTINGS, distance_decay=1.0, age_decay=1.0),
    "no counts": replace(SETTINGS, count_power=0.0),
    "other prior": replace(SETTINGS, prior=2.0),
    "more than the window": replace(SETTINGS, read=99, pairs=99),
}


def stream(seed, events=240):
    draw = np.random.default_rng(seed)
    return list(
        zip(
            draw.integers(USERS, size=events).tolist(),
            (ITEMS * draw.random(events) ** 2).astype(int).tolist(),
            (np.arange(events) // 3 * 1000).tolist(),
            (draw.random(events) < 0.85).tolist(),
            strict=True,
        )
    )


class Both:
    """The pairs of the model over a live state of the model, and the plain ones over the plain one."""

    def __init__(self, settings, *, strictly_before=False):
        self.pairs = Cooccurrence(settings)
        self.live = LiveState(depth=8, most_seen=100)
        self.strictly_before = strictly_before
        self.plain_pairs = PlainPairs(settings)
        self.plain = PlainLive(depth=8, most_seen=100, window=WINDOW, strictly_before=strictly_before)
        self.live.grow(USERS, ITEMS)
        self.pairs.grow(ITEMS)

    def learn(self, events, batch_size):
        """The features of each event, item -> value."""
        found = []
        for at in range(0, len(events), batch_size):
            users, items, times, enters = map(np.array, zip(*events[at : at + batch_size], strict=True))
            what = self.live.pass_over(
                users, items, times, enters, np.zeros(len(users), dtype=np.int8),
                window=WINDOW, strictly_before=self.strictly_before, allow_repeats=False,
            )  # fmt: skip
            before = self.live.counts.count_I.tolist()
            found += by_event(self.pairs.features_then_count(what))
            assert self.live.counts.count_I.tolist() == before
        return found

    def learn_plainly(self, events):
        found = []
        for user, item, time, enters in events:
            window = self.plain.window(user, time)
            found.append(self.plain_pairs.features(window.items, self.plain.counts))
            if enters:
                self.plain_pairs.count(self.plain.last_items(user), item)
            self.plain.learn(user, item, time, enters)
        return found


def by_event(features):
    return [
        dict(zip(features.items_E[a:b].tolist(), features.values_E[a:b].tolist(), strict=True))
        for a, b in zip(features.starts_B[:-1], features.starts_B[1:], strict=True)
    ]


def assert_same(found, expected):
    assert [set(one) for one in found] == [set(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def same_bytes(one, other):
    return all(np.array_equal(one.state()[name], value) for name, value in other.state().items())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("batch_size", [1, 50, 240])
def test_features_are_those_of_a_dict_of_dicts_counted_event_by_event(variant, batch_size):
    both = Both(VARIANTS[variant])

    found = both.learn(stream(1), batch_size)

    assert_same(found, both.learn_plainly(stream(1)))
    assert sum(map(len, found)) > 200


def test_pairs_and_strengths_are_those_of_a_dict_of_dicts():
    both = Both(SETTINGS)

    both.learn(stream(2), 60)
    both.learn_plainly(stream(2))

    for item in range(ITEMS):
        length = both.pairs.pairs.length_I[item]
        held = dict(
            zip(
                both.pairs.pairs.neighbours_IN[item, :length].tolist(),
                both.pairs.pairs.strengths_IN[item, :length],
                strict=True,
            )
        )
        assert held == both.plain_pairs.strengths.get(item, {})
    assert both.pairs.pairs.length_I.max() == SETTINGS.neighbours


def test_strictly_before_hides_the_same_moment_from_the_window_and_counts_its_pairs_all_the_same():
    hiding, seeing = Both(SETTINGS, strictly_before=True), Both(SETTINGS)

    found = hiding.learn(stream(3), 60)
    seen = seeing.learn(stream(3), 60)

    assert_same(found, hiding.learn_plainly(stream(3)))
    assert found != seen
    assert same_bytes(hiding.pairs, seeing.pairs)


@pytest.mark.parametrize("batch_size", [1, 50])
def test_features_of_a_sample_are_those_that_all_items_have_and_the_same_is_counted(batch_size, monkeypatch):
    of_all, of_some = Both(SETTINGS), Both(SETTINGS)
    expected, drawn = of_all.learn(stream(14), batch_size), np.array([3, 7, 0, 1])
    whole = Cooccurrence.features_then_count
    is_whole = np.arange(batch_size) % 3 == 1
    monkeypatch.setattr(
        Cooccurrence,
        "features_then_count",
        lambda self, found: whole(self, found, Wanted(2, drawn, is_whole[: len(found.items_B)])),
    )

    found = of_some.learn(stream(14), batch_size)

    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        event = place % batch_size
        classes = {stream(14)[place][1], *drawn.reshape(2, 2)[event % 2].tolist()}
        kept = other if is_whole[event] else {item: value for item, value in other.items() if item in classes}
        assert one == pytest.approx(kept, rel=1e-5, abs=1e-6)
    assert 0 < sum(map(len, found)) < sum(map(len, expected))
    assert same_bytes(of_some.pairs, of_all.pairs)


def test_features_that_do_not_fit_at_once_are_gathered_in_pieces(monkeypatch):
    at_once, in_pieces = Both(SETTINGS), Both(SETTINGS)
    expected = at_once.learn(stream(4), 240)
    monkeypatch.setattr(model.cooccurrence, "ENTRIES_AT_ONCE", 3 * ITEMS)

    found = in_pieces.learn(stream(4), 240)

    assert found == expected
    assert same_bytes(in_pieces.pairs, at_once.pairs)


def test_a_catalogue_larger_than_all_that_is_gathered_at_once_is_no_reason_to_go_event_by_event(monkeypatch):
    both, calls = Both(SETTINGS), []
    whole = Cooccurrence.features_then_count
    sampled = Wanted(2, np.array([3, 7, 0, 1]), np.zeros(60, dtype=np.bool_))
    monkeypatch.setattr(Cooccurrence, "features_then_count", lambda self, found: whole(self, found, sampled))
    monkeypatch.setattr(model.cooccurrence, "ENTRIES_AT_ONCE", ITEMS)
    monkeypatch.setattr(
        model.cooccurrence, "score_then_count", lambda *given: calls.append(1) or score_then_count(*given)
    )

    both.learn(stream(6), 60)

    assert 240 // 60 <= len(calls) < 240 / 2


def test_interpreted_it_counts_the_same(monkeypatch):
    compiled, plain = Both(SETTINGS), Both(SETTINGS)
    expected = compiled.learn(stream(5), 60)
    monkeypatch.setattr(model.cooccurrence, "score_then_count", interpreted(score_then_count))

    found = plain.learn(stream(5), 60)

    assert_same(found, expected)
    assert same_bytes(plain.pairs, compiled.pairs)


def test_asking_for_features_now_counts_nothing():
    both = Both(SETTINGS)
    both.learn(stream(6), 60)
    both.learn_plainly(stream(6))
    before = {name: value.copy() for name, value in both.pairs.state().items()}
    windows = both.live.history.windows(np.arange(USERS), WINDOW)

    found = by_event(both.pairs.features(windows, both.live.counts.count_I[:ITEMS]))

    expected = [both.plain_pairs.features(both.plain.window(user).items, both.plain.counts) for user in range(USERS)]
    assert_same(found, expected)
    assert all(np.array_equal(both.pairs.state()[name], value) for name, value in before.items())


def test_a_window_without_items_speaks_for_nothing():
    both = Both(SETTINGS)

    found = both.learn([(0, 1, 0, True), (1, 2, 0, True)], 2)

    assert found == [{}, {}]


def test_pieces_of_features_hold_the_events_they_are_asked_for():
    both = Both(SETTINGS)
    users, items, times, enters = map(np.array, zip(*stream(7), strict=True))
    what = both.live.pass_over(
        users, items, times, enters, np.zeros(len(users), dtype=np.int8),
        window=WINDOW, strictly_before=False, allow_repeats=False,
    )  # fmt: skip
    features = both.pairs.features_then_count(what)

    piece = features.of_events(np.array([3, 100, 101, 130]))

    assert by_event(piece) == [by_event(features)[event] for event in (3, 100, 101, 130)]
    assert piece.events_E.tolist() == [n for n, one in enumerate(by_event(piece)) for _ in one]
    assert by_event(no_features(3)) == [{}, {}, {}]


def test_a_loaded_state_goes_on_as_if_it_had_never_been_saved():
    never_saved, loaded = Both(SETTINGS), Both(SETTINGS)
    never_saved.learn(stream(8), 40)
    loaded.learn(stream(8), 40)
    fresh = Cooccurrence(SETTINGS)
    fresh.load({name: value.copy() for name, value in loaded.pairs.state().items()})
    fresh.grow(ITEMS)
    loaded.pairs = fresh

    expected, found = never_saved.learn(stream(9), 40), loaded.learn(stream(9), 40)

    assert found == expected
    assert same_bytes(loaded.pairs, never_saved.pairs)


def test_what_fades_is_worked_out_anew():
    faded, loaded = Both(SETTINGS), Both(SETTINGS)
    for both in (faded, loaded):
        both.learn(stream(12), 40)
        both.pairs.fade(0.3)
    fresh = Cooccurrence(SETTINGS)
    fresh.load({name: value.copy() for name, value in loaded.pairs.state().items()})
    loaded.pairs = fresh

    assert faded.learn(stream(13), 40) == loaded.learn(stream(13), 40)
    assert same_bytes(loaded.pairs, faded.pairs)


def test_a_state_holds_the_pairs_and_no_empty_places():
    both = Both(SETTINGS)
    both.learn(stream(10, events=30), 10)

    state = both.pairs.state()

    assert len(state["neighbours"]) == len(state["strengths"]) == state["lengths"].sum() > 0
    assert (state["strengths"] > 0).all()


def test_a_state_may_be_read_with_more_room_and_not_with_less():
    both = Both(SETTINGS)
    both.learn(stream(11), 60)
    larger, smaller = (Cooccurrence(replace(SETTINGS, neighbours=number)) for number in (9, 3))

    larger.load(both.pairs.state())

    assert same_bytes(larger, both.pairs)
    with pytest.raises(ValueError, match="keeps 5 pairs an item, the settings ask for 3"):
        smaller.load(both.pairs.state())
