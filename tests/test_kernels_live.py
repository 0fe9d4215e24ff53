"""The live kernel, compiled and interpreted: the same text, the same bytes."""

import copy

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.live import kinds_of, live_pass

USERS, ITEMS, EVENTS, DEPTH, WINDOW = 5, 40, 400, 6, 4


def arguments(seed, strictly_before, allow_repeats, ranked_share=0.7):
    draw = np.random.default_rng(seed)
    room = ITEMS + EVENTS
    return [
        draw.integers(USERS, size=EVENTS),
        draw.integers(ITEMS, size=EVENTS),
        np.sort(draw.integers(50, size=EVENTS)),
        draw.random(EVENTS) < 0.8,
        draw.integers(6, size=EVENTS).astype(np.int8),
        draw.random(EVENTS) < ranked_share,
        np.full((USERS, DEPTH), -1, dtype=np.int32),
        np.zeros((USERS, DEPTH), dtype=np.int64),
        np.zeros((USERS, DEPTH), dtype=np.int8),
        np.zeros(USERS, dtype=np.int64),
        np.zeros(USERS * room, dtype=np.int32),
        np.arange(USERS) * room,
        np.zeros(USERS, dtype=np.int64),
        np.zeros(ITEMS, dtype=np.bool_),
        np.zeros(ITEMS, dtype=np.int64),
        np.zeros(EVENTS + 2, dtype=np.int64),
        np.zeros(EVENTS + 2, dtype=np.int64),
        strictly_before,
        allow_repeats,
        *unwritten(),
    ]


def unwritten():
    """What the pass fills, with values that it never writes."""
    return [
        np.full((EVENTS, WINDOW), -7, dtype=np.int32),
        np.full((EVENTS, WINDOW), -7, dtype=np.int8),
        np.full((EVENTS, WINDOW), -7, dtype=np.int8),
        np.full(EVENTS, -7, dtype=np.int8),
        np.full((EVENTS, WINDOW), -7, dtype=np.int32),
        np.zeros(EVENTS, dtype=np.bool_),
        np.full(EVENTS, -7, dtype=np.int64),
        np.full(EVENTS, -7, dtype=np.int64),
        np.full(EVENTS, -7, dtype=np.int64),
    ]


@pytest.mark.parametrize("strictly_before", [False, True])
@pytest.mark.parametrize("allow_repeats", [False, True])
def test_compiled_and_interpreted_leave_the_same_bytes(strictly_before, allow_repeats):
    of_compiled = arguments(11, strictly_before, allow_repeats)
    of_interpreted = copy.deepcopy(of_compiled)

    live_pass(*of_compiled)
    interpreted(live_pass)(*of_interpreted)

    for one, other in zip(of_compiled, of_interpreted, strict=True):
        assert np.array_equal(one, other)


def test_the_two_tables_by_count_agree_with_the_counts():
    given = arguments(12, False, False)

    live_pass(*given)

    known, count, with_count, above_count = given[13:17]
    for value in range(len(with_count)):
        assert with_count[value] == (count[known] == value).sum()
        assert above_count[value] == (count[known] > value).sum()


def test_every_place_of_what_is_found_is_written():
    given = arguments(13, True, False)

    live_pass(*given)

    assert all((array != -7).all() for array in given[19:])


def test_without_strictly_before_the_full_windows_are_left_to_the_caller():
    given = arguments(14, False, False)

    live_pass(*given)

    assert (given[23] == -7).all()


def test_who_is_ranked_changes_the_popularity_ranks_alone():
    everybody, some = arguments(12, False, False, ranked_share=1.0), arguments(12, False, False, ranked_share=0.5)
    ranked_B = some[5]

    live_pass(*everybody)
    live_pass(*some)

    np.testing.assert_array_equal(some[-1], np.where(ranked_B, everybody[-1], -1))
    for one, other in zip((*everybody[:5], *everybody[6:-1]), (*some[:5], *some[6:-1]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kernel", [kinds_of, interpreted(kinds_of)], ids=["compiled", "interpreted"])
def test_a_rating_is_of_the_kind_of_its_fifth_and_an_action_of_none(kernel):
    kinds = np.full(8, -7, dtype=np.int8)

    kernel(np.array([np.nan, 1.0, 1.79, 1.81, 3.0, 5.0, 0.0, 1e300]), 1.0, 5.0, kinds)

    assert kinds.tolist() == [0, 1, 1, 2, 3, 5, 0, 5]
