"""The co-occurrence kernels: compiled and interpreted agree, lists keep their bound, and fading gives way as told."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.cooccurrence import count_pair, score_then_count

ITEMS, EVENTS, NEIGHBOURS, WINDOW = 12, 150, 4, 5
TWINS = pytest.mark.parametrize("kernel", [count_pair, interpreted(count_pair)], ids=["compiled", "interpreted"])


def arguments(seed, room=ITEMS * EVENTS):
    draw = np.random.default_rng(seed)
    windows = draw.integers(ITEMS, size=(EVENTS, WINDOW)).astype(np.int32)
    windows[draw.random((EVENTS, WINDOW)).cumsum(1) > 2.5] = -1  # once empty, empty to the end
    count = draw.integers(4, size=ITEMS)
    return {
        "windows_BW": windows,
        "full_items_BW": windows,
        "items_B": draw.integers(ITEMS, size=EVENTS),
        "enters_B": draw.random(EVENTS) < 0.8,
        "read": 4,
        "neighbours_IN": np.full((ITEMS, NEIGHBOURS), -1, dtype=np.int32),
        "strengths_IN": np.zeros((ITEMS, NEIGHBOURS), dtype=np.float32),
        "length_I": np.zeros(ITEMS, dtype=np.int64),
        "count_I": count,
        "total": int(count.sum()),
        "chosen": int((count > 0).sum()),
        "age_weights_W": (0.9 ** np.arange(WINDOW)).astype(np.float32),
        "pair_weights_W": (0.95 ** np.arange(WINDOW)).astype(np.float32),
        "count_power": -0.6,
        "prior": 0.1,
        "most": ITEMS,
        "counts": True,
        "sums_I": np.zeros(ITEMS, dtype=np.float32),
        "found_I": np.zeros(ITEMS + 1, dtype=np.int32),
        "starts_B": np.zeros(EVENTS + 1, dtype=np.int64),
        "items_E": np.empty(room, dtype=np.int32),
        "ratios_E": np.empty(room, dtype=np.float32),
    }


def test_compiled_and_interpreted_count_and_score_alike():
    of_compiled, of_interpreted = arguments(1), arguments(1)

    done = [score_then_count(*of_compiled.values()), interpreted(score_then_count)(*of_interpreted.values())]

    entries = of_compiled["starts_B"][-1]
    assert done == [EVENTS, EVENTS]
    assert entries > EVENTS
    for name in ("neighbours_IN", "strengths_IN", "length_I", "count_I", "starts_B", "sums_I"):
        assert np.array_equal(of_compiled[name], of_interpreted[name]), name
    assert np.array_equal(of_compiled["items_E"][:entries], of_interpreted["items_E"][:entries])
    np.testing.assert_allclose(of_compiled["ratios_E"][:entries], of_interpreted["ratios_E"][:entries], rtol=1e-6)


def test_sums_are_zero_again_and_only_events_that_enter_are_counted():
    given = arguments(2)
    before = given["count_I"].copy()

    score_then_count(*given.values())

    assert not given["sums_I"].any()
    entered = np.bincount(given["items_B"][given["enters_B"]], minlength=ITEMS)
    assert given["count_I"].tolist() == (before + entered).tolist()


def test_it_stops_where_the_next_event_might_not_fit_and_counts_no_further():
    given = arguments(3, room=3 * ITEMS)

    done = score_then_count(*given.values())

    assert 3 <= done < EVENTS
    assert given["starts_B"][done] <= 3 * ITEMS
    first, rest = arguments(3), arguments(3)["items_B"]
    first.update({name: first[name][:done] for name in ("windows_BW", "full_items_BW", "items_B", "enters_B")})
    score_then_count(*first.values())
    assert np.array_equal(first["strengths_IN"], given["strengths_IN"])
    assert len(rest) == EVENTS


def pairs(*held):
    neighbours, strengths = np.full(NEIGHBOURS, -1, dtype=np.int32), np.zeros(NEIGHBOURS, dtype=np.float32)
    for place, (other, strength) in enumerate(held):
        neighbours[place], strengths[place] = other, strength
    return neighbours, strengths


@TWINS
def test_a_pair_that_is_there_grows_and_a_new_one_takes_the_next_place(kernel):
    neighbours, strengths = pairs((7, 1.0), (3, 2.0))

    lengths = [
        kernel(neighbours, strengths, 2, 3, np.float32(0.5)),
        kernel(neighbours, strengths, 2, 9, np.float32(0.25)),
    ]

    assert lengths == [2, 3]
    assert neighbours.tolist() == [7, 3, 9, -1]
    assert strengths.tolist() == [1.0, 2.5, 0.25, 0.0]


@TWINS
def test_in_a_full_list_the_weakest_fades_until_it_is_weaker_than_who_comes_again(kernel):
    neighbours, strengths = pairs((1, 3.0), (2, 1.05), (3, 1.05), (4, 2.0))

    lengths, held = [], []
    for _ in range(2):
        lengths.append(kernel(neighbours, strengths, NEIGHBOURS, 9, np.float32(0.9)))
        held.append(neighbours.tolist())

    assert lengths == [NEIGHBOURS] * 2
    assert held == [[1, 2, 3, 4], [1, 9, 3, 4]]  # 1.05, 0.945, 0.8505; of two equals the first
    assert strengths[1] == np.float32(0.9)
