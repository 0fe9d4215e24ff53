"""Items that leave: how many are kept, that nothing is left of them, and that all of it follows from the steps."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from streams import STILL, assert_nothing_else_moved, click, grown_parts, random_stream, run, small_learner, still

from consumer.last_lists import LastLists
from model import factors, leaving, ratings, tables
from model.content import ContentSettings
from model.entries import ItemContent
from model.interactions import Forget
from model.kernels import ids as kernel
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK
from model.vocabulary import Vocabulary

KEPT = 20
FULL_AND_SAMPLED = pytest.mark.parametrize("full_softmax_items", [4096, 4], ids=["full", "sampled"])
RATING_MODELS = pytest.mark.parametrize("rating_model", ["neighbours", "factors"])


def feed(events, *, seed=1, users=12, forgets=0.01, of_each=6):
    """Items that are new all the time and soon of no interest, and a few that are always: clicks, skips, ratings."""
    draw = np.random.default_rng(seed)
    stream = []
    for number in range(events):
        user = f"u{draw.integers(users)}"
        if draw.random() < forgets:
            stream.append(Forget(user))
            continue
        item = f"always {draw.integers(3)}"
        if draw.random() < 0.7:
            item = f"new {max(number // of_each - draw.integers(8), 0)}"
        rating = float(draw.integers(1, 11)) / 2 if draw.random() < 0.5 else None
        stream.append(click(user, item, 1_000 * number, float(draw.choice([1.0, 1.0, 2.0, 0.0, -1.0])), rating))
    return stream


def is_in_use(learner):
    return learner.items.length_R[: len(learner.items)] >= 0


def named_rows(learner):
    """Rows of items by the place that names them."""
    live, rating = learner.live, learner.ratings
    seen = [live.seen.items(user) for user in range(live.seen.users)]
    places = {"histories": live.history.items_UH[: live.history.users], "seen": np.concatenate([*seen, [0][:0]])}
    if learner.ranking.cooccurrence is not None:
        places["pairs"] = learner.ranking.cooccurrence.state()["neighbours"]
        places["have pairs"] = np.flatnonzero(learner.ranking.cooccurrence.state()["lengths"])
    if "items" in rating.users.state():
        places["remembered"] = rating.users["items"][: rating.users.rows]
        keys = rating.pairs.keys[rating.pairs.keys >= 0]
        places["rating pairs"] = np.concatenate((keys >> 32, keys & 0xFFFFFFFF))
    if learner.ranking.content is not None:
        item_X = learner.ranking.content.item_X[: len(learner.ranking.content.ids)]
        places["catalogue"] = item_X
        places["have a catalogue row"] = np.flatnonzero(learner.ranking.content.row_I[: len(learner.items)] >= 0)
    return {name: np.unique(np.asarray(rows, dtype=np.int64)) for name, rows in places.items()}


def assert_nothing_names_a_free_row(learner):
    in_use_I = is_in_use(learner)
    for place, rows in named_rows(learner).items():
        assert in_use_I[rows[rows >= 0]].all(), place
    counts = learner.live.counts
    np.testing.assert_array_equal(counts.known_I[: counts.items], in_use_I)
    assert not counts.count_I[: counts.items][~in_use_I].any()
    assert counts.total == counts.count_I[: counts.items].sum()


@FULL_AND_SAMPLED
@RATING_MODELS
def test_the_bound_is_kept_where_items_never_end_and_nothing_names_one_that_is_gone(rating_model, full_softmax_items):
    rates = RankingRates(full_softmax_items=full_softmax_items)
    learner = small_learner(ranking=rates, rating_model=rating_model, max_items=KEPT, max_users=9)
    top_k, gone, heights = TopK(learner, 10), 0, []
    stream = feed(1600)

    for start in range(0, len(stream), 8):
        step = learner.test_then_learn(stream[start : start + 8])
        gone += len(step.evicted_I)
        heights.append(len(learner.items))
        assert_nothing_names_a_free_row(learner)
        assert not np.isin(
            step.evicted_I,
            learner.items.find([event.item_id for event in stream[start : start + 8] if not isinstance(event, Forget)]),
        ).any()
        lists = top_k(step.touched_users())
        top_k.named(lists)  # a free row has no name
        expected = TopK(learner, 10)(step.touched_users())
        np.testing.assert_array_equal(lists.lengths_U, expected.lengths_U)
        for codes, others, length in zip(lists.codes_UK, expected.codes_UK, lists.lengths_U, strict=True):
            assert codes[:length].tolist() == others[:length].tolist()

    assert gone > 150
    assert learner.items.in_use <= KEPT + 30
    assert max(heights) == heights[len(heights) // 2]  # the tables have grown to what they need, and no further
    assert all(learner.items.row(f"always {n}") is not None for n in range(3))


@FULL_AND_SAMPLED
@RATING_MODELS
@pytest.mark.parametrize("entries", [70, leaving.ENTRIES])
def test_saved_anywhere_it_goes_on_alike(monkeypatch, rating_model, full_softmax_items, entries):
    if rating_model == "neighbours" and entries < leaving.ENTRIES:
        pytest.skip("the table of pairs alone would take thousands of steps")
    monkeypatch.setattr(leaving, "ENTRIES", entries)
    settings = {
        "ranking": RankingRates(full_softmax_items=full_softmax_items),
        "rating_model": rating_model,
        "max_items": KEPT,
        "max_users": 9,
    }
    stream, never_stopped, stopped, gone = feed(640), small_learner(**settings), small_learner(**settings), 0
    for learner in (never_stopped, stopped):
        learner.describe({f"new {n}": ItemContent(title=f"kind {n % 3}", text="a text") for n in range(0, 90, 2)})
    for start in range(0, len(stream), 8):
        step = never_stopped.test_then_learn(stream[start : start + 8])
        again = stopped.test_then_learn(stream[start : start + 8])
        np.testing.assert_array_equal(again.ranks_B, step.ranks_B)
        assert again.evicted_I.tolist() == step.evicted_I.tolist()
        gone += len(step.evicted_I)
        state = stopped.state()
        stopped = small_learner(**settings)
        stopped.load(state)
        assert_nothing_names_a_free_row(never_stopped)
        if start % 64 == 0:
            assert TopK(stopped, 5, cold_items=True).lists_of(["u1"]) == TopK(
                never_stopped, 5, cold_items=True
            ).lists_of(["u1"])

    assert gone > 30
    assert state_digest(stopped.state()) == state_digest(never_stopped.state())


def test_a_list_that_counts_as_unchanged_names_the_items_that_were_published():
    learner, last, published, unchanged = small_learner(ranking=STILL, max_items=4), LastLists(), {}, 0
    top_k, stream = TopK(learner, 1), feed(1200, users=60, of_each=3, forgets=0)
    for at in range(0, len(stream), 4):
        step = learner.test_then_learn(stream[at : at + 4])
        if step.swept is not None:
            last.clear_naming(*step.swept)  # without that the row of another item is taken for the same, some times
        lists = top_k(step.touched_users())
        changed_U = last.replace(lists.users_U, lists.codes_UK, lists.lengths_U)
        for one, is_changed in zip(top_k.named(lists), changed_U.tolist(), strict=True):
            published[one.user_id] = one.item_ids if is_changed else published[one.user_id]
            assert published[one.user_id] == one.item_ids
            unchanged += not is_changed

    assert unchanged > 200


class NeverAgain(Vocabulary):
    """Gives no row to another id."""

    gone = 0

    def remove_rows(self, rows_N):
        super().remove_rows(rows_N)
        self.gone += len(rows_N)
        self._counters[kernel.FREE] = 0

    @property
    def in_use(self):
        return len(self) - self.gone


@pytest.mark.parametrize("encoder", ["blend", "recency"])
@RATING_MODELS
def test_a_new_item_on_the_row_of_another_inherits_nothing(monkeypatch, rating_model, encoder):
    def all_alike(*given):
        rows = given[3] - given[2] if len(given) == 6 and given[3] > given[2] else 0
        return np.tile(np.linspace(-1, 1, given[4], dtype=np.float32), (rows, 1)) * np.float32(given[5])

    def alike_again(_name, _seed, _step, rows, width, spread):
        return all_alike("", 0, 0, rows, width, spread) if rows else np.zeros((0, width), dtype=np.float32)

    for module in (tables, ratings, factors):
        monkeypatch.setattr(module, "normal_rows", all_alike)
        monkeypatch.setattr(module, "renewed_rows", alike_again)
    settings = {"rating_model": rating_model, "encoder": encoder, "max_items": KEPT, "dtype": torch.float64}
    reusing, other = small_learner(**settings), small_learner(**settings)
    other.items = other.letting_go.items = NeverAgain()
    chosen_names = []
    choose = reusing.letting_go.leaving_items._idle.choose

    def noted(used_B, items, leaving):
        chosen = choose(used_B, items, leaving=leaving)
        chosen_names[:] = [items.name(row) for row in chosen.tolist()]
        return chosen

    reusing.letting_go.leaving_items._idle.choose = noted  # the hand goes by rows, which are others here and there
    other.letting_go.leaving_items._idle.choose = lambda _used_B, items, **_: items.find(chosen_names)
    stream = feed(960, forgets=0.0)
    for start in range(0, len(stream), 8):
        steps = [learner.test_then_learn(stream[start : start + 8]) for learner in (reusing, other)]
        for name in ("predictions_B", "medians_B", "losses_B"):
            np.testing.assert_allclose(getattr(steps[0], name), getattr(steps[1], name), rtol=1e-4, atol=1e-4)
        assert names(reusing, steps[0].evicted_I.size) == names(other, steps[1].evicted_I.size)
        scores = [scores_by_name(learner, "u1") for learner in (reusing, other)]
        assert scores[0].keys() == scores[1].keys()
        np.testing.assert_allclose(list(scores[0].values()), [scores[1][name] for name in scores[0]], atol=1e-4)

    assert len(other.items) - len(reusing.items) > 60


def names(learner, gone):
    rows = np.flatnonzero(is_in_use(learner)).tolist()
    return gone, sorted(learner.items.name(row) for row in rows)


def scores_by_name(learner, user):
    row = learner.users.row(user)
    if row is None:
        return {}
    scores = learner.scores(np.array([row]))[0].numpy()
    return {learner.items.name(item): float(scores[item]) for item in np.flatnonzero(np.isfinite(scores)).tolist()}


def aged(learner, item="old", steps=40):
    """The item had some events, and then others had so many that it is gone; its row."""
    learner.test_then_learn([click(f"u{n}", item, n, rating=4.0) for n in range(4)])
    row = learner.items.row(item)
    for number in range(steps):
        learner.test_then_learn([click(f"u{number % 4}", f"other {number}", 10 + number, rating=2.0)])
    return row


def test_an_item_that_comes_back_is_a_stranger():
    learner = small_learner(max_items=6)
    aged(learner)
    assert learner.items.row("old") is None
    assert b"old" not in b"".join(value.numpy().tobytes() for value in learner.state().values())

    first, again = (learner.test_then_learn([click("u9", "old", 99)]) for _ in range(2))

    assert np.isnan(first.ranks_B[0])
    assert not np.isnan(again.ranks_B[0])
    assert learner.live.counts.count_I[learner.items.row("old")] == 2


def test_an_item_on_its_way_out_is_in_no_list_and_stays_if_it_is_chosen():
    learner = still(small_learner(ranking=STILL, max_items=6))
    learner.test_then_learn([click(f"u{n}", "old", n) for n in range(4)])
    number = 0
    while not learner.hidden_items().any() or not learner.hidden_items()[learner.items.row("old")]:
        learner.test_then_learn([click("u1", f"other {number}", 10 + number)])
        number += 1
    row, top_k = learner.items.row("old"), TopK(learner, 50)
    [hidden] = top_k.lists_of(["u1"])
    learner.test_then_learn([click("stranger", "other 0", 99)])
    [of_stranger] = top_k.lists_of(["stranger"])

    step = learner.test_then_learn([click("u2", "old", 100)])
    [after] = top_k.lists_of(["stranger"])
    run(learner, [click("u3", f"other {number - 1}", 101 + n) for n in range(20)], 1)

    assert "old" not in hidden.item_ids + of_stranger.item_ids
    assert not np.isnan(step.ranks_B[0])
    assert "old" in after.item_ids
    assert learner.items.row("old") == row


def test_what_the_catalogue_says_of_an_item_stays_and_it_is_listed_as_before_its_first_event():
    learner = small_learner(max_items=6)
    learner.describe({"old": ItemContent(title="about rivers"), "never": ItemContent(title="about rivers")})
    top_k = TopK(learner, 50, cold_items=True)
    learner.test_then_learn([click("u9", "first", 0)])
    assert {"old", "never"} <= set(top_k.lists_of(["u9"])[0].item_ids)
    aged(learner)
    content = learner.ranking.content

    [listed] = top_k.lists_of(["u9"])
    [from_anew] = TopK(learner, 50, cold_items=True).lists_of(["u9"])
    learner.test_then_learn([click("u8", "old", 99)])

    assert {"old", "never"} <= set(listed.item_ids)
    assert listed == from_anew
    assert content.row_I[learner.items.row("old")] == content.ids.row("old")
    assert (content.row_I[: content.items] >= 0).sum() == 1


def drifting(step):
    """Sixteen clicks on a few items that move on: what is new takes the rows of what has left."""
    draw = np.random.default_rng(step)
    return [click(f"u{draw.integers(10)}", f"i{step // 2 + draw.integers(12)}", 1_000 * step + n) for n in range(16)]


@pytest.mark.parametrize(
    ("listed", "reloaded_after"), [(True, None), (True, 35), (False, 35)], ids=["lists", "lists, reload", "reload"]
)
def test_lists_and_restarts_change_nothing_of_what_is_learned_where_rows_go_to_items_of_the_catalogue(
    listed, reloaded_after
):
    settings = {"width": 16, "max_items": KEPT, "content": ContentSettings(every_events=16)}
    learner, plain = small_learner(**settings), small_learner(**settings)
    for one in (learner, plain):
        one.describe({f"i{n}": ItemContent(f"word {n % 5}", categories=[f"kind {n % 4}"]) for n in range(60)})
    top_k = TopK(learner, 5, cold_items=True)

    for number in range(60):
        plain.test_then_learn(drifting(number))
        step = learner.test_then_learn(drifting(number))
        if listed:
            top_k(step.touched_users())
        if number == reloaded_after:
            state, learner = learner.state(), small_learner(**settings)
            learner.load(state)
            top_k = TopK(learner, 5, cold_items=True)

    assert state_digest(learner.state()) == state_digest(plain.state())
    assert learner.items.in_use < len({event.item_id for number in range(60) for event in drifting(number)})


def test_an_item_that_had_an_event_before_the_catalogue_was_there_is_listed_when_it_has_gone():
    learner = small_learner(max_items=6)
    learner.test_then_learn([click("u1", "old", 0), click("u9", "first", 0)])
    learner.describe({name: ItemContent(title="about rivers") for name in ("old", "never a", "never b")})
    top_k = TopK(learner, 50, cold_items=True)
    top_k.lists_of(["u9"])
    aged(learner)

    [listed] = top_k.lists_of(["u9"])

    assert {"old", "never a", "never b"} <= set(listed.item_ids)


def test_an_item_that_the_catalogue_removed_may_lose_its_place_there_when_it_is_gone():
    learner = small_learner(max_items=6)
    learner.describe({"old": ItemContent(title="about rivers")})
    learner.test_then_learn([click("u1", "old", 0)])
    learner.describe({"old": None})
    assert learner.ranking.content.state()["removed"].tolist() == []

    aged(learner, steps=90)  # it came again, and has a second chance

    assert learner.items.row("old") is None
    assert len(learner.ranking.content.state()["removed"]) == 1


def test_an_item_that_is_not_available_is_not_taken_for_removed_when_it_is_gone(monkeypatch):
    monkeypatch.setattr("model.content.REST_EVENTS", 10)
    learner = small_learner(max_items=6)
    learner.describe({"old": ItemContent(available=False)})
    aged(learner, steps=90)
    assert learner.items.row("old") is None
    for n in range(10):
        learner.test_then_learn([click("u1", "other 89", 500 + n)])
    learner.describe({"next": ItemContent(title="about rivers")})

    learner.test_then_learn([click("u1", "old", 999), click("u9", "other", 999)])

    [listed] = TopK(learner, 50, cold_items=True).lists_of(["u9"])
    assert "next" in listed.item_ids
    assert "old" not in listed.item_ids


def test_a_catalogue_that_comes_after_items_have_left_names_those_that_are_there():
    learner = small_learner(max_items=4)
    for n in range(60):
        step = learner.test_then_learn([click(f"u{n % 3}", f"i{n}", n)])
        if len(step.evicted_I):
            break

    learner.describe({f"i{m}": ItemContent(title="a river") for m in range(n + 1)})
    learner.test_then_learn([click("u1", "i0", 99), click("u1", f"i{n}", 99)])

    content = learner.ranking.content
    for name in ("i0", f"i{n}"):
        assert content.row_I[learner.items.row(name)] == content.ids.row(name)


def test_rows_that_lose_an_item_and_rows_of_lost_items_are_among_those_that_moved():
    rates = RankingRates(full_softmax_items=0, negatives=2)
    learner, lost, gone = small_learner(max_items=KEPT, ranking=rates), 0, 0
    stream = feed(800)
    for start in range(0, len(stream), 4):
        before = grown_parts(learner)
        step = learner.test_then_learn(stream[start : start + 4])
        lost += len(step.cleaned_U)
        gone += len(step.evicted_I)
        assert_nothing_else_moved(learner, before, learner.moved_rows(step))

    assert lost > 20
    assert gone > 20


def test_a_limit_that_is_lowered_is_reached_and_one_that_is_taken_away_keeps_every_item():
    learner = small_learner()
    run(learner, [click("u1", f"i{n}", n) for n in range(60)], 10)
    lowered, lifted = small_learner(max_items=5), small_learner()

    lowered.load(learner.state())
    run(lowered, [click("u1", "i59", n) for n in range(30)], 1)
    assert lowered.items.in_use == 5
    run(lowered, [click("u1", f"j{n}", n) for n in range(3)], 1)  # some are on their way out
    lifted.load(lowered.state())
    steps = run(lifted, [click("u2", f"k{n}", n) for n in range(60)], 10)

    assert lifted.items.in_use == 5 + 3 + 60
    assert not lifted.hidden_items().any()
    assert not any(len(step.evicted_I) for step in steps)


def test_without_a_bound_nothing_is_kept_for_it():
    learner = small_learner()
    steps = run(learner, random_stream(3), 16)

    assert not any(name.startswith("leaving") for name in learner.state())
    assert all(step.swept is None and not len(step.cleaned_U) and not len(step.evicted_I) for step in steps)


def test_what_is_to_be_looked_at_after_a_step_is_bounded(monkeypatch):
    monkeypatch.setattr(leaving, "ENTRIES", 100)
    learner = small_learner(rating_model="factors", max_items=8)
    learner.test_then_learn([click(f"u{n}", f"i{n % 9}", n) for n in range(60)])

    swept = [step.swept for step in run(learner, [click("u1", "i8", 99) for _ in range(12)], 1)]

    spans = [(one.first, one.past) for one in swept if one is not None]
    assert spans[0][0] == 0
    assert 8 <= spans[0][1] <= 12  # at 8 + 1 entries a user, and more of u1
    assert all(first == past for (_, past), (first, _) in pairwise(spans))


@pytest.mark.parametrize(("most", "times"), [(8, 1), (6, 3), (4, 6), (1, 16)])
def test_the_more_items_are_on_their_way_out_the_more_is_looked_at(monkeypatch, most, times):
    monkeypatch.setattr(leaving, "ENTRIES", 8 + 1)
    learner = small_learner(rating_model="factors", max_items=most)
    learner.test_then_learn([click(f"u{n}", f"i{n % 9}", n) for n in range(60)])

    step = learner.test_then_learn([click("u59", "i8", 99)])

    assert step.swept.past - step.swept.first == times
