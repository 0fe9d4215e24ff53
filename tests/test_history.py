"""History and seen items, as the model reads them between batches. The pass that moves them: test_live.py."""

import numpy as np
import pytest

from model.history import History, SeenItems


def history(pushes, depth=4, users=2):
    made = History(depth)
    made.grow(users)
    for user, item in pushes:
        slot = made.pushed_U[user] % depth
        made.items_UH[user, slot] = item
        made.pushed_U[user] += 1
    return made


def fill(seen, user, items):
    for item in items:
        seen.reserve(np.array([user]))
        seen.pool[seen.start_U[user] + seen.length_U[user]] = item
        seen.length_U[user] += 1


def seen_items(lists, most=1000):
    seen = SeenItems(most)
    seen.grow(len(lists))
    for user, items in enumerate(lists):
        fill(seen, user, items)
    return seen


def test_a_window_is_newest_first_and_padded():
    made = history([(0, 5), (0, 6), (1, 7)])

    windows = made.windows(np.array([1, 0]), 3)

    assert windows.items_BW.tolist() == [[7, -1, -1], [6, 5, -1]]


def test_the_oldest_items_leave_the_ring():
    made = history([(0, item) for item in range(10)])

    assert made.windows(np.array([0]), 3).items_BW.tolist() == [[9, 8, 7]]
    assert made.windows(np.array([0]), 99).items_BW.tolist() == [[9, 8, 7, 6] + [-1] * 95]


def test_no_users_have_no_windows():
    assert history([]).windows(np.zeros(0, dtype=np.int64), 3).items_BW.shape == (0, 3)


def test_a_cleared_user_has_an_empty_window_and_leaves_nothing():
    made = history([(0, 5), (1, 7)])
    made.times_UH[0] = 99
    made.kinds_UH[0] = 5

    made.clear(0)

    assert made.windows(np.array([0, 1]), 2).items_BW.tolist() == [[-1, -1], [7, -1]]
    assert 99 not in made.state()["times"]
    assert 5 not in made.state()["items"]
    assert not made.state()["kinds"].any()
    assert made.windows(np.array([0]), 2).lengths_B.tolist() == [0]


def test_a_history_of_another_depth_is_refused():
    with pytest.raises(ValueError, match="holds 4 interactions a user, the settings ask for 6"):
        History(6).load(history([(0, 5)]).state())


def test_lists_that_outgrow_their_place_move_and_keep_their_items():
    draw = np.random.default_rng(1)
    seen, expected = seen_items([[]] * 30), [[] for _ in range(30)]

    for number, user in enumerate(draw.integers(30, size=3000)):
        fill(seen, user, [number])
        expected[user].append(number)

    assert [seen.items(user).tolist() for user in range(30)] == expected
    assert len(seen.pool) < 4 * 3000


def test_reserving_for_many_mentions_at_once_never_lets_two_lists_overlap():
    seen = seen_items([[1, 2], [3], []])

    seen.reserve(np.array([0, 2, 0, 1, 0, 2, 2]))

    starts = seen.start_U[:3]
    ends = starts + seen.length_U[:3] + np.array([3, 1, 3])
    order = np.argsort(starts)
    assert (ends[order][:-1] <= starts[order][1:]).all()
    assert ends.max() <= len(seen.pool)


def test_a_cut_keeps_the_newest():
    seen = seen_items([[1, 2, 3, 4, 5], [6, 7]], most=3)

    seen.trim(np.array([1, 0, 0]))

    assert seen.items(0).tolist() == [3, 4, 5]
    assert seen.items(1).tolist() == [6, 7]


def test_nothing_of_a_cleared_list_is_left_in_the_pool_not_even_what_was_cut_or_moved():
    seen = seen_items([[100 + n for n in range(50)], [7, 8]], most=3)
    seen.trim(np.array([0]))

    seen.clear_users(np.array([0]))

    assert seen.items(0).tolist() == []
    assert seen.items(1).tolist() == [7, 8]
    assert seen.pool.max() == 8


def test_pairs_are_the_lists_laid_end_to_end():
    seen = seen_items([[1, 2], [], [3, 4, 5]])
    users = np.array([2, 1, 0, 2])

    rows, items = seen.pairs(seen.start_U[users], np.array([2, 0, 2, 3]))

    assert rows.tolist() == [0, 0, 2, 2, 3, 3, 3]
    assert items.tolist() == [3, 4, 1, 2, 3, 4, 5]


def test_saved_and_loaded_seen_items_grow_on():
    seen = seen_items([[1, 2], [], [3]])
    loaded = SeenItems(1000)

    loaded.load(seen.state())
    loaded.grow(4)
    for user in (0, 3, 1, 0):
        fill(loaded, user, [9])

    assert [loaded.items(user).tolist() for user in range(4)] == [[1, 2, 9, 9], [9], [3], [9]]


def test_lists_of_users_that_come_and_go_take_no_more_room():
    seen = seen_items([[]] * 20)
    for number in range(300):
        fill(seen, number % 20, range(number % 7 + 1))
        seen.clear_users(np.array([(number + 3) % 20]))
    size = len(seen.pool)

    for number in range(3000):
        fill(seen, number % 20, range(number % 7 + 1))
        seen.clear_users(np.array([(number + 3) % 20]))

    assert len(seen.pool) == size
    assert seen.items(19).tolist() == list(range(2999 % 7 + 1))


# --- windows without an item ---


def test_without_an_item_older_ones_move_up_and_times_are_counted_from_the_newest_left():
    made = history([(1, item) for item in (9, 5, 6, 5, 7)], depth=8)
    made.times_UH[1, :5] = [1_000, 2_000, 100_000, 101_000, 10**9]
    made.kinds_UH[1, :5] = [1, 2, 3, 4, 5]

    items_M, windows = made.windows_without(1, 3)

    assert items_M.tolist() == [7, 5, 6]
    assert windows.items_BW.tolist() == [[7, 5, 6], [5, 6, 5], [7, 6, 9], [7, 5, 5]]
    assert windows.kinds_BW.tolist() == [[5, 4, 3], [4, 3, 2], [5, 3, 1], [5, 4, 2]]
    whole = made.windows(np.array([1]), 3)
    assert windows.gaps_BW[0].tolist() == whole.gaps_BW[0].tolist()
    assert windows.gaps_BW[1].tolist() == [0, 0, 3]  # of 5 at 101 s: itself, a second before, 99 s before
    assert set(windows.lengths_B.tolist()) == set(whole.lengths_B.tolist())


def test_a_ring_that_went_round_is_read_from_its_newest():
    made = history([(0, item) for item in range(6)], depth=4)

    items_M, windows = made.windows_without(0, 2)

    assert items_M.tolist() == [5, 4]
    assert windows.items_BW.tolist() == [[5, 4], [4, 3], [5, 3]]


def test_without_interactions_there_is_the_empty_window_alone():
    items_M, windows = history([]).windows_without(0, 3)

    assert items_M.tolist() == []
    assert windows.items_BW.tolist() == [[-1, -1, -1]]
