"""Lists: by score, then by row, whoever else is asked for, whatever the scores are."""

from functools import cache

import numpy as np
import pytest
import torch
from streams import click, random_stream, run, small_learner

import model.item_index
import model.topk
from model.content import ContentSettings
from model.encoders.choice import ENCODERS
from model.entries import ItemContent
from model.ranking import RankingRates
from model.topk import TopK, best, by_torch

NAN = float("nan")


def reference(scores_UI, k):
    """Columns by falling score, then rising column, in numpy."""
    columns = np.arange(scores_UI.shape[1])
    return np.array([np.lexsort((columns, -row))[:k] for row in scores_UI], dtype=np.int64)


def score_tables():
    draw = np.random.default_rng(1)
    few_values = draw.integers(3, size=(20, 50)).astype(np.float32)
    half_out = draw.normal(size=(20, 50)).astype(np.float32)
    half_out[draw.random((20, 50)) < 0.9] = -np.inf
    return {
        "random": draw.normal(size=(20, 50)).astype(np.float32),
        "tied": few_values,
        "all equal": np.zeros((3, 50), dtype=np.float32),
        "few candidates": half_out,
        "no candidates": np.full((2, 50), -np.inf, dtype=np.float32),
        "infinite": np.where(few_values == 2, np.inf, few_values),
        "one item": np.ones((4, 1), dtype=np.float32),
        "no users": np.zeros((0, 5), dtype=np.float32),
    }


@pytest.mark.parametrize("k", [1, 10, 50, 80])
@pytest.mark.parametrize("table", score_tables())
def test_the_best_are_by_score_and_then_by_column(table, k):
    scores = score_tables()[table]

    values, columns = best(torch.from_numpy(scores.copy()), k)

    expected = reference(scores, k)
    assert columns.shape == (len(scores), min(k, scores.shape[1]))
    assert columns.tolist() == expected.tolist()
    assert values.tolist() == [row[columns].tolist() for row, columns in zip(scores, expected, strict=True)]


def test_no_items_give_empty_lists():
    values, columns = best(torch.zeros((3, 0)), 5)

    assert values.shape == columns.shape == (3, 0)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_score_that_is_no_number_comes_behind_every_other(k):
    scores = torch.tensor([[NAN, 1.0, NAN, 3.0, 2.0], [5.0, 4.0, 3.0, 2.0, 1.0], [NAN] * 5])

    values, columns = best(scores, k)

    assert columns[0, :3].tolist() == [3, 4, 1][:k]
    assert columns[1].tolist() == [0, 1, 2, 3, 4][:k]
    assert not values.isnan().any()


@pytest.fixture
def learner():
    made = small_learner()
    run(made, random_stream(2), 16)
    return made


def seen_by(learner, user):
    return {learner.items.name(item) for item in learner.live.seen.items(learner.users.row(user)).tolist()}


def test_a_list_has_all_and_only_what_the_user_has_not_seen(learner):
    users = [f"u{n}" for n in range(12)]

    lists = TopK(learner, 1000).lists_of(users)

    everything = {learner.items.name(row) for row in range(len(learner.items))}
    assert [one.user_id for one in lists] == users
    for one in lists:
        assert set(one.item_ids) == everything - seen_by(learner, one.user_id)
        assert one.item_ids == [learner.items.name(row) for row in one.item_rows]
        assert one.scores == sorted(one.scores, reverse=True)


def test_with_repeats_allowed_what_was_seen_stays():
    learner = small_learner(allow_repeats=True)
    run(learner, random_stream(2), 16)

    lists = TopK(learner, 1000).lists_of(["u1"])

    assert len(lists[0].item_ids) == len(learner.items)


def test_a_list_is_the_beginning_of_a_longer_one(learner):
    longer, shorter = TopK(learner, 20).lists_of(["u3"])[0], TopK(learner, 4).lists_of(["u3"])[0]

    assert shorter.item_ids == longer.item_ids[:4]


def test_a_list_does_not_depend_on_who_else_is_asked_for_or_in_how_many_goes(learner, monkeypatch):
    users = [f"u{n}" for n in range(12)]
    together = TopK(learner, 7).lists_of(users)

    alone = [TopK(learner, 7).lists_of([user])[0] for user in users]
    monkeypatch.setattr(model.topk, "SCORES_AT_ONCE", 5 * len(learner.items))
    in_goes = TopK(learner, 7).lists_of(users)

    assert [one.item_ids for one in alone] == [one.item_ids for one in together]
    assert [one.item_ids for one in in_goes] == [one.item_ids for one in together]


def test_strangers_are_left_out(learner):
    lists = TopK(learner, 3).lists_of(["nobody", "u1", "no one"])

    assert [one.user_id for one in lists] == ["u1"]


def test_nobody_asked_gives_no_lists(learner):
    assert TopK(learner, 3).lists_of([]) == []
    assert TopK(small_learner(), 3).lists_of(["u1"]) == []


def test_a_user_who_has_everything_gets_an_empty_list():
    learner = small_learner()
    run(learner, [click("u", "a"), click("u", "b"), click("v", "a")], 1)

    lists = TopK(learner, 3).lists_of(["u", "v"])

    assert [one.item_ids for one in lists] == [[], ["b"]]


def test_an_item_without_an_event_is_not_listed(learner):
    learner.items.rows(["from the catalogue"])
    learner.live.grow(len(learner.users), len(learner.items))
    learner.ranking.parameters.grow(len(learner.items))

    lists = TopK(learner, 1000).lists_of(["u1"])

    assert "from the catalogue" not in lists[0].item_ids


def test_an_item_whose_score_is_no_number_is_not_listed(learner):
    before = TopK(learner, 1000).lists_of(["u1"])[0].item_ids
    learner.ranking.biases.values[learner.items.row(before[2])] = NAN

    lists = TopK(learner, 1000).lists_of(["u1"])

    assert lists[0].item_ids == before[:2] + before[3:]


# --- the scan against plain torch, whatever makes the user's vector ---


def trained(encoder="recency", *, full_softmax_items=4096, events=400, items=60, seed=3, **settings):
    made = small_learner(
        encoder=encoder, ranking=RankingRates(full_softmax_items=full_softmax_items, negatives=8), **settings
    )
    run(made, random_stream(seed, events, users=20, items=items), 16)
    return made


@cache
def shared(encoder, *, allow_repeats):
    """A trained one for those who only ask it."""
    return trained(encoder, allow_repeats=allow_repeats)


def rows_of(learner):
    return np.arange(len(learner.users), dtype=np.int64)


def lists_in(lists):
    return [codes[:length].tolist() for codes, length in zip(lists.codes_UK, lists.lengths_U, strict=True)]


def assert_same(lists, expected):
    """The same lists, but for items whose scores differ by no more than float32 rounds."""
    assert lists.lengths_U.tolist() == expected.lengths_U.tolist()
    for ours, scores, theirs, right, length in zip(
        lists.codes_UK, lists.scores_UK, expected.codes_UK, expected.scores_UK, lists.lengths_U, strict=True
    ):
        np.testing.assert_allclose(scores[:length], right[:length], rtol=1e-4, atol=1e-4)
        by_item = dict(zip(theirs[:length].tolist(), right[:length].tolist(), strict=True))
        for item, score in zip(ours[:length].tolist(), scores[:length].tolist(), strict=True):
            assert by_item.get(item, right[length - 1]) == pytest.approx(score, abs=1e-4)
        assert len(set(ours[:length].tolist())) == length


@pytest.mark.parametrize("k", [1, 10, 200])
@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_scan_makes_the_lists_of_plain_torch(encoder, allow_repeats, k):
    learner = shared(encoder, allow_repeats=allow_repeats)

    assert_same(TopK(learner, k)(rows_of(learner)), by_torch(learner, rows_of(learner), k))


@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize("weight", [-0.5, 0.0, 0.01, 0.06, 3.0])
@pytest.mark.parametrize("k", [10, 200])
def test_the_scan_makes_the_lists_of_plain_torch_whether_cooccurrence_says_little_or_much(k, weight, allow_repeats):
    learner = trained("blend", allow_repeats=allow_repeats, events=800, items=300)
    learner.ranking.mix.values["together"].fill_(weight)
    learner.ranking.mix.values["together"][-2:] = 0.02

    assert_same(TopK(learner, k)(rows_of(learner)), by_torch(learner, rows_of(learner), k))


@pytest.mark.parametrize("encoder", ["recency", "blend"])
@pytest.mark.parametrize("full_softmax_items", [4096, 0])
def test_a_top_k_that_follows_the_steps_makes_the_lists_of_a_new_one(encoder, full_softmax_items):
    learner = trained(encoder, full_softmax_items=full_softmax_items, events=10)
    following = TopK(learner, 10)
    stream = random_stream(9, 400, users=20, items=90, forgets=0.05)
    for start in range(0, len(stream), 8):
        learner.test_then_learn(stream[start : start + 8])

        lists, fresh = following(rows_of(learner)), TopK(learner, 10)(rows_of(learner))

        assert lists_in(lists) == lists_in(fresh)
        assert lists.scores_UK[:, 0].tobytes() == fresh.scores_UK[:, 0].tobytes()


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("full_softmax_items", [4096, 0])
def test_with_a_catalogue_lists_are_those_of_a_new_one_and_of_a_restored_learner_to_the_last_bit(
    full_softmax_items, mode
):
    settings = {"full_softmax_items": full_softmax_items, "content": ContentSettings(every_events=40)}
    learner = trained(events=10, **settings)
    learner.describe({f"i{n}": ItemContent(categories=[f"kind {n % 4}", "thing"]) for n in range(0, 90, 2)})
    learner.describe_users({f"u{n}": ItemContent(categories=[f"kind {n % 3}"]) for n in range(0, 20, 2)})
    following = TopK(learner, 10, cold_items=True, mode=mode)
    stream = random_stream(9, 400, users=20, items=90, forgets=0.05)
    for turn, start in enumerate(range(0, len(stream), 8)):
        learner.test_then_learn(stream[start : start + 8])
        if turn % 6 == 0:
            learner.describe({f"i{turn}": ItemContent(categories=["kind 0"], available=turn % 4 == 0)})
            learner.describe({f"i{turn + 1}": None, f"new {turn}": ItemContent(categories=["kind 1"])})
        again = small_learner(encoder="recency", ranking=learner.settings.ranking, content=settings["content"])
        again.load(learner.state())
        restored = TopK(again, 10, cold_items=True, mode=mode)
        restored.load(following.state())
        here_U = learner.users.find([f"u{n}" for n in range(20)])
        here_U = here_U[here_U >= 0]

        lists = following(here_U)

        others = [restored(here_U)] + ([TopK(learner, 10, cold_items=True)(here_U)] if mode == "exact" else [])
        for other in others:
            assert lists_in(other) == lists_in(lists)
            for ours, theirs, length in zip(lists.scores_UK, other.scores_UK, lists.lengths_U, strict=True):
                assert ours[:length].tobytes() == theirs[:length].tobytes()
        if mode == "exact":
            assert_same(lists, by_torch(learner, here_U, 10, cold_items=True))


def test_a_step_that_was_refused_moves_counts_and_lists_follow():
    learner = trained()
    following = TopK(learner, 10)
    following(rows_of(learner))
    step = learner.test_then_learn([click("u1", "i3", 10**9, weight=1e38)] * 3)

    assert step.refused is not None
    assert lists_in(following(rows_of(learner))) == lists_in(TopK(learner, 10)(rows_of(learner)))


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_who_follows_meets_another_state_when_the_learner_loads_one(mode):
    learner, other = trained(), trained(seed=11)
    following = TopK(learner, 10, mode=mode)
    following(rows_of(learner))

    learner.load(other.state())
    following.load({})

    assert lists_in(following(rows_of(learner))) == lists_in(TopK(other, 10)(rows_of(other)))


def test_unavailable_and_cold_items_of_the_catalogue_are_where_plain_torch_has_them():
    learner = trained("blend")
    items = [learner.items.name(row) for row in range(len(learner.items))]
    contents = {item: ItemContent(text=f"word{n % 5}", available=n % 4 != 0) for n, item in enumerate(items[:40])}
    colds = {f"cold{n}": ItemContent(text=f"word{n % 5} more", available=n != 2) for n in range(9)}
    learner.describe({**contents, **colds})
    run(learner, random_stream(12, 300, users=20, items=60), 16)
    top_k = TopK(learner, 40, cold_items=True)

    lists = top_k(rows_of(learner))

    assert_same(lists, by_torch(learner, rows_of(learner), 40, cold_items=True))
    named = {item for one in top_k.named(lists) for item in one.item_ids}
    assert "cold3" in named
    assert "cold2" not in named
    assert not named & set(items[:40:4])
    rows_UK = learner.rows_of_list(lists.codes_UK)
    assert rows_UK.shape == lists.codes_UK.shape


def test_a_row_that_is_no_users_is_refused(learner):
    for rows in ([99], [-1], [0, 99]):
        with pytest.raises(ValueError, match="user rows: expected 0 to 11"):
            TopK(learner, 3)(np.array(rows))


def test_many_users_are_taken_in_goes(learner, monkeypatch):
    monkeypatch.setattr(model.topk, "USERS_AT_ONCE", 5)
    in_goes = TopK(learner, 7)(rows_of(learner))
    monkeypatch.undo()

    together = TopK(learner, 7)(rows_of(learner))

    assert lists_in(in_goes) == lists_in(together)
    assert in_goes.users_U.tolist() == rows_of(learner).tolist()


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("encoder", ["recency", "blend"])
def test_threads_that_follow_the_steps_make_the_lists_of_one(encoder, mode, monkeypatch):
    monkeypatch.setattr(model.item_index, "WORTH", 32)
    learner = small_learner(encoder=encoder, ranking=RankingRates(full_softmax_items=0, negatives=8))
    run(learner, random_stream(4, 1500, users=200, items=90), 64)
    learner.describe({f"i{n}": ItemContent(categories=[f"kind {n % 4}"]) for n in range(0, 120, 2)})
    alone, threads = (TopK(learner, 10, cold_items=True, mode=mode, threads=number) for number in (1, 3))
    stream = random_stream(9, 480, users=200, items=110, forgets=0.05)
    for start in range(0, len(stream), 16):
        learner.test_then_learn(stream[start : start + 16])

        right, found = alone(rows_of(learner)), threads(rows_of(learner))

        assert found.lengths_U.tolist() == right.lengths_U.tolist()
        is_listed_UK = np.arange(10) < right.lengths_U[:, None]
        assert found.codes_UK[is_listed_UK].tobytes() == right.codes_UK[is_listed_UK].tobytes()
        assert found.scores_UK[is_listed_UK].tobytes() == right.scores_UK[is_listed_UK].tobytes()
    assert threads.state().keys() == alone.state().keys()
    assert all((threads.state()[name] == state).all() for name, state in alone.state().items())


# --- loose bounds ---


def follow_stream(learner, top_k, stream, size=8):
    made = []
    for start in range(0, len(stream), size):
        learner.test_then_learn(stream[start : start + size])
        made.append(lists_in(top_k(rows_of(learner))))
    return made


FAST = {"mode": "fast", "least_recall": 0.8}


def test_fast_lists_leave_items_out_within_what_may_be_lost_and_say_how_many():
    learner = trained(events=3000, items=900)
    fast, exact = TopK(learner, 5, **FAST), TopK(learner, 5)
    kept, listed = 0, 0
    for start in range(0, 2400, 8):
        learner.test_then_learn(random_stream(start, 8, users=20, items=900))
        for ours, right in zip(lists_in(fast(rows_of(learner))), lists_in(exact(rows_of(learner))), strict=True):
            kept, listed = kept + len(set(ours) & set(right)), listed + len(right)

    assert fast.recall.slack < 1
    assert 0.8 <= kept / listed < 1
    assert fast.recall.value == pytest.approx(kept / listed, abs=0.1)


def test_fast_lists_are_exact_while_recall_is_low():
    learner = trained(events=1500, width=16)
    fast = TopK(learner, 5, **FAST)
    for version in range(40):
        learner.version = version
        fast(rows_of(learner))
    none = np.full((60, 5), -1, dtype=np.int32)
    five = np.full(60, 5, dtype=np.int32)
    for _ in range(30):
        fast.recall.measure(np.zeros_like(none), five, none, five)

    assert fast.recall.is_low
    assert lists_in(fast(rows_of(learner))) == lists_in(TopK(learner, 5)(rows_of(learner)))


def test_after_a_crash_fast_lists_are_the_same_again():
    stream = random_stream(21, 1200, users=20, items=900)
    learner = trained(events=3000, items=900)
    top_k = TopK(learner, 5, **FAST)
    follow_stream(learner, top_k, stream[:800])
    saved, saved_lists = learner.state(), top_k.state()
    expected = follow_stream(learner, top_k, stream[800:])
    again, exact = (small_learner(encoder="recency", ranking=learner.settings.ranking) for _ in range(2))
    again.load(saved)
    exact.load(saved)
    restored = TopK(again, 5, **FAST)
    restored.load(saved_lists)

    assert follow_stream(again, restored, stream[800:]) == expected
    assert follow_stream(exact, TopK(exact, 5), stream[800:]) != expected
    assert restored.recall.value == top_k.recall.value
    assert restored.recall.slack == top_k.recall.slack < 1


def test_exact_lists_depend_on_the_learner_alone_and_have_no_state(learner):
    assert TopK(learner, 5).state() == {}


def test_on_a_gpu_a_state_of_fast_lists_is_not_looked_at(learner, monkeypatch):
    state = TopK(learner, 5, mode="fast").state()
    top_k = TopK(learner, 5, mode="fast")
    monkeypatch.setattr(learner, "device", torch.device("cuda"))
    monkeypatch.setattr(learner, "score_parts", None)  # its parts would be the GPU's

    top_k.load({**state, "recall": np.array([99.0, 9.0, 1.0])})

    assert top_k.state() == {}
    assert top_k.recall.value == 1


def test_a_saved_order_of_other_items_is_refused(learner):
    state = TopK(learner, 5, mode="fast").state()
    with pytest.raises(ValueError, match="saved order"):
        TopK(learner, 5, mode="fast").load({**state, "order": state["order"][1:]})


def test_a_mode_that_there_is_none_of_is_refused(learner):
    with pytest.raises(ValueError, match="expected exact or fast, got 'quick'"):
        TopK(learner, 5, mode="quick")


def test_before_the_first_event_there_are_a_state_and_no_lists():
    top_k = TopK(small_learner(), 5, mode="fast")

    assert len(top_k.state()["order"]) == 0
    top_k.load(top_k.state())
    assert top_k(np.zeros(0, dtype=np.int64)).codes_UK.shape == (0, 5)
