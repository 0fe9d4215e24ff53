"""The co-occurrence kernels: compiled and interpreted agree, lists keep their bound, and fading gives way as told."""

import math
from itertools import pairwise

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.cooccurrence import (
    SLOT,
    Reading,
    Together,
    Wanted,
    add_up,
    add_up_and_list,
    clear_sums,
    count_pair,
    list_features,
    most_added,
    pairs_of,
    room_for,
    score_then_count,
    weakest_of,
)

ITEMS, EVENTS, NEIGHBOURS, WINDOW = 12, 150, 4, 5
TWINS = pytest.mark.parametrize("kernel", [count_pair, interpreted(count_pair)], ids=["compiled", "interpreted"])
ALL = Wanted(0, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_))


def lists(items, neighbours=NEIGHBOURS):
    return pairs_of(
        np.full((items, neighbours), -1, dtype=np.int32),
        np.zeros((items, neighbours), dtype=np.float32),
        np.zeros(items, dtype=SLOT),
    )


def arguments(seed, room=ITEMS * EVENTS, wanted=ALL):
    draw = np.random.default_rng(seed)
    windows = draw.integers(ITEMS, size=(EVENTS, WINDOW)).astype(np.int32)
    windows[draw.random((EVENTS, WINDOW)).cumsum(1) > 2.5] = -1  # once empty, empty to the end
    count = draw.integers(4, size=ITEMS)
    return {
        "windows_BW": windows,
        "full_items_BW": windows,
        "items_B": draw.integers(ITEMS, size=EVENTS),
        "enters_B": draw.random(EVENTS) < 0.8,
        "wanted": wanted,
        "first": 0,
        "pairs": lists(ITEMS),
        "reading": Reading(4, (0.9 ** np.arange(WINDOW)).astype(np.float32), -0.6, 0.1),
        "pair_weights_W": (0.95 ** np.arange(WINDOW)).astype(np.float32),
        "count_I": count,
        "total": int(count.sum()),
        "chosen": int((count > 0).sum()),
        "counts": True,
        "room": room_for(ITEMS, NEIGHBOURS),
        "starts_B": np.zeros(EVENTS + 1, dtype=np.int64),
        "items_E": np.empty(room + 1, dtype=np.int32),
        "values_E": np.empty(room + 1, dtype=np.float32),
    }


def by_event(given):
    starts = given["starts_B"]
    return [
        dict(zip(given["items_E"][a:b].tolist(), given["values_E"][a:b].tolist(), strict=True))
        for a, b in pairwise(starts)
    ]


def of_sample(seed=1, samples=3):
    """Two items a sample; every fifth event wants all items."""
    drawn = np.random.default_rng(seed).permutation(ITEMS)[: 2 * samples]
    return Wanted(samples, drawn, np.arange(EVENTS) % 5 == 0)


def assert_room_is_left_as_it_was(room):
    assert not room.sums_I.any()
    assert (room.sample_I == -1).all()


@pytest.mark.parametrize("wanted", [ALL, of_sample()], ids=["all", "sample"])
def test_compiled_and_interpreted_count_and_score_alike(wanted):
    of_compiled, of_interpreted = arguments(1, wanted=wanted), arguments(1, wanted=wanted)

    done = [score_then_count(*of_compiled.values()), interpreted(score_then_count)(*of_interpreted.values())]

    assert done == [EVENTS, EVENTS]
    assert of_compiled["starts_B"][-1] > EVENTS
    for name in ("neighbours_IN", "strengths_IN", "length_I", "weakest_I"):
        one, other = (getattr(given["pairs"], name) for given in (of_compiled, of_interpreted))
        assert np.array_equal(one, other), name
    assert np.array_equal(of_compiled["count_I"], of_interpreted["count_I"])
    for one, other in zip(by_event(of_compiled), by_event(of_interpreted), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    assert_room_is_left_as_it_was(of_compiled["room"])
    assert_room_is_left_as_it_was(of_interpreted["room"])


def test_only_events_that_enter_are_counted():
    given = arguments(2)
    before = given["count_I"].copy()

    score_then_count(*given.values())

    entered = np.bincount(given["items_B"][given["enters_B"]], minlength=ITEMS)
    assert given["count_I"].tolist() == (before + entered).tolist()


def test_of_a_sample_an_event_has_what_it_would_have_among_all_items():
    wanted = of_sample()
    of_all, of_some = arguments(4), arguments(4, wanted=wanted)

    score_then_count(*of_all.values())
    score_then_count(*of_some.values())

    for event, (full, part) in enumerate(zip(by_event(of_all), by_event(of_some), strict=True)):
        classes = {int(of_all["items_B"][event]), *wanted.drawn_N.reshape(3, 2)[event % 3].tolist()}
        expected = full if event % 5 == 0 else {item: value for item, value in full.items() if item in classes}
        assert part == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.array_equal(of_all["pairs"].strengths_IN, of_some["pairs"].strengths_IN)


def test_it_stops_where_the_next_event_might_not_fit_and_goes_on_from_there():
    given, whole = arguments(3, room=3 * ITEMS), arguments(3)
    score_then_count(*whole.values())
    expected, found, first, goes = by_event(whole), [], 0, 0

    while first < EVENTS:
        given["first"], given["starts_B"][first] = first, 0
        past = score_then_count(*given.values())
        assert given["starts_B"][past] <= 3 * ITEMS
        part = dict(given, starts_B=given["starts_B"][first : past + 1])
        found += by_event(part)
        count = given["count_I"]
        given["total"], given["chosen"] = int(count.sum()), int((count > 0).sum())
        first, goes = past, goes + 1

    assert goes > 5
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    assert np.array_equal(given["pairs"].strengths_IN, whole["pairs"].strengths_IN)


def test_features_user_by_user_are_those_of_a_pass_and_leave_nothing_behind():
    given = arguments(5)
    score_then_count(*given.values())
    given.update(first=0, counts=False, starts_B=np.zeros(EVENTS + 1, dtype=np.int64))
    count = given["count_I"]
    given["total"], given["chosen"] = int(count.sum()), int((count > 0).sum())
    score_then_count(*given.values())
    weights = np.ones(EVENTS, dtype=np.float32)
    together = Together(
        given["windows_BW"], weights, given["pairs"], given["reading"], count, given["total"] + 0.5 * given["chosen"],
        given["room"],
    )  # fmt: skip

    for user, expected in enumerate(by_event(given)):
        arguments_of_user = given["pairs"], given["reading"], given["windows_BW"][user]
        add_up(*arguments_of_user, count, given["room"].sums_I)
        clear_sums(*arguments_of_user, given["room"].sums_I)
        assert_room_is_left_as_it_was(given["room"])
        whole, read = add_up(*arguments_of_user, count, given["room"].sums_I)
        found = list_features(together, user, whole, read)
        items, values = given["room"].items_I[:found].tolist(), given["room"].values_I[:found].tolist()
        assert dict(zip(items, values, strict=True)) == pytest.approx(expected, rel=1e-6)
        assert_room_is_left_as_it_was(given["room"])


@pytest.mark.parametrize("compiled", [True, False])
def test_what_may_be_added_is_no_less_than_what_is_and_little_more(compiled):
    given = arguments(7)
    score_then_count(*given.values())
    count, weights = given["count_I"], np.full(EVENTS, 2.0, dtype=np.float32)
    total = count.sum() + 0.5 * (count > 0).sum()
    together = Together(
        given["windows_BW"], weights, given["pairs"], given["reading"], count, float(total), given["room"]
    )
    list_up, bound = add_up_and_list, most_added
    if not compiled:
        list_up, bound = interpreted(list_up), interpreted(bound)

    for user in range(0, EVENTS, 5):
        of_user, room = (given["pairs"], given["reading"], given["windows_BW"][user], count), given["room"]
        whole, found = list_up(*of_user, room.sums_I, room.items_I)
        bound(together, user, whole, found)
        most = dict(zip(room.items_I[:found].tolist(), room.values_I[:found].tolist(), strict=True))
        clear_sums(given["pairs"], given["reading"], given["windows_BW"][user], room.sums_I)
        whole, read = add_up(*of_user, room.sums_I)
        listed = list_features(together, user, whole, read)
        features = dict(zip(room.items_I[:listed].tolist(), room.values_I[:listed].tolist(), strict=True))

        assert set(most) == set(features)
        for item, value in features.items():
            assert 2 * value <= most[item] <= 2 * value + 0.121  # twice 0.0862 of log 2


@pytest.mark.parametrize("counts", [True, False], ids=["kept while counting", "taken anew"])
def test_what_is_kept_beside_the_lists_is_what_they_say(counts):
    given = arguments(6)
    score_then_count(*given.values())
    pairs, full = given["pairs"], 0
    if not counts:
        pairs.whole_I[:] = -1
        score_then_count(*{**given, "counts": False}.values())  # looks at all of them

    for item in range(ITEMS):
        length = pairs.length_I[item]
        assert pairs.whole_I[item] == math.fsum(pairs.strengths_IN[item, :length].tolist())
        if pairs.weakest_I[item] > 0:
            full += 1
            assert pairs.weakest_I[item] - 1 == pairs.strengths_IN[item].argmin()

    assert full > 0


def test_the_weakest_is_the_first_of_equals():
    assert weakest_of(np.array([2, 1, 3, 1], dtype=np.float32)) == 1


def one_list(*held):
    pairs = lists(1)
    for place, (other, strength) in enumerate(held):
        pairs.neighbours_IN[0, place], pairs.strengths_IN[0, place] = other, strength
    pairs.length_I[0] = len(held)
    return pairs


@TWINS
def test_a_pair_that_is_there_grows_and_a_new_one_takes_the_next_place(kernel):
    pairs = one_list((7, 1.0), (3, 2.0))

    kernel(pairs, 0, 3, np.float32(0.5))
    kernel(pairs, 0, 9, np.float32(0.25))

    assert pairs.length_I.tolist() == [3]
    assert pairs.neighbours_IN[0].tolist() == [7, 3, 9, -1]
    assert pairs.strengths_IN[0].tolist() == [1.0, 2.5, 0.25, 0.0]


@TWINS
def test_in_a_full_list_the_weakest_fades_until_it_is_weaker_than_who_comes_again(kernel):
    pairs = one_list((1, 3.0), (2, 1.05), (3, 1.05), (4, 2.0))

    held = []
    for _ in range(2):
        kernel(pairs, 0, 9, np.float32(0.9))
        held.append(pairs.neighbours_IN[0].tolist())

    assert pairs.length_I.tolist() == [NEIGHBOURS]
    assert held == [[1, 2, 3, 4], [1, 9, 3, 4]]  # 1.05, 0.945, 0.8505; of two equals the first
    assert pairs.strengths_IN[0, 1] == np.float32(0.9)


@TWINS
def test_the_weakest_is_looked_for_again_once_it_has_grown(kernel):
    pairs = one_list((1, 3.0), (2, 1.0), (3, 2.0), (4, 4.0))

    kernel(pairs, 0, 9, np.float32(0.1))
    kernel(pairs, 0, 2, np.float32(5.0))
    kernel(pairs, 0, 9, np.float32(0.1))

    assert pairs.strengths_IN[0].tolist() == pytest.approx([3.0, 5.9, 1.8, 4.0])
