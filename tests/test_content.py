"""What the catalogue says of items: a sensible vector at once, giving way to events; nothing where there is none."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from streams import joined, random_stream, run, small_learner

from model.content import GIVEN_BACK, Content, ContentSettings
from model.entries import ItemContent
from model.interactions import Interaction
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK
from model.vocabulary import Vocabulary

CPU = torch.device("cpu")
QUICK = ContentSettings(every_events=1)


def kind_of(item):
    return int(item[1:]) % 2


def catalogue(items):
    """Items of two kinds, which their categories tell."""
    return {item: ItemContent(f"number {item}", None, [f"kind {kind_of(item)}"]) for item in items}


def two_tastes(events, items=20, users=30, seed=0):
    """Users who only choose items of their own kind."""
    draw = np.random.default_rng(seed)
    stream = []
    for number in range(events):
        user = int(draw.integers(users))
        item = 2 * int(draw.integers(items // 2)) + user % 2
        stream.append(Interaction(f"u{user}", f"i{item}", number * 1000, 1.0, None))
    return stream


def learner(*, described=None, **settings):
    made = small_learner(**{"encoder": "recency", "width": 8, "allow_repeats": True, "content": QUICK, **settings})
    if described is not None:
        made.describe(described)
    return made


def first_lists(made, k=3, **options):
    return {one.user_id: one.item_ids for one in TopK(made, k, **options).lists_of([f"u{n}" for n in range(30)])}


# --- cold items ---


def test_an_item_that_nobody_chose_yet_is_recommended_to_those_of_its_kind_and_not_to_the_others():
    cold = {"i100": 0, "i101": 1}
    made = learner(described=catalogue([f"i{n}" for n in range(20)] + list(cold)))
    run(made, two_tastes(3000), 50)
    rows_U = np.array([made.users.row(f"u{n}") for n in range(30)])

    rows_X = made.ranking.content.cold_rows()
    scores_UX = made.cold_scores(rows_U, rows_X).numpy()

    names = [made.ranking.content.ids.name(row) for row in rows_X]
    kinds_X = np.array([cold[name] for name in names])
    own_kind = scores_UX[np.arange(30), [int(np.flatnonzero(kinds_X == n % 2)[0]) for n in range(30)]]
    other_kind = scores_UX[np.arange(30), [int(np.flatnonzero(kinds_X != n % 2)[0]) for n in range(30)]]
    assert sorted(names) == sorted(cold)
    assert (own_kind > other_kind).all()


def test_cold_items_stand_in_lists_where_that_is_wanted_and_nowhere_where_it_is_not():
    made = learner(described=catalogue([f"i{n}" for n in range(24)]))
    run(made, two_tastes(2000, items=20), 50)

    with_cold, without = first_lists(made, k=24, cold_items=True), first_lists(made, k=24)

    never_chosen = {f"i{n}" for n in range(20, 24)}
    assert all(never_chosen <= set(items) and len(items) == 24 for items in with_cold.values())
    assert all(not never_chosen & set(items) and len(items) == 20 for items in without.values())


def test_a_cold_item_keeps_its_number_in_lists_when_it_gets_its_first_event():
    made = learner(described=catalogue(["i0", "i1", "i2"]))
    run(made, [Interaction("u0", "i0", 0, 1.0, None)], 1)
    before = dict(zip(*TopK(made, 9, cold_items=True).lists_of(["u0"])[0][2:0:-1], strict=True))

    run(made, [Interaction("u1", "i1", 1, 1.0, None)], 1)
    after = dict(zip(*TopK(made, 9, cold_items=True).lists_of(["u0"])[0][2:0:-1], strict=True))

    assert before == after
    assert len(set(after.values())) == 3
    rows = {item: made.rows_of_list([code])[0] for item, code in after.items()}
    assert rows == {"i0": 0, "i1": 1, "i2": -1}


def test_an_item_of_which_nothing_is_said_is_not_recommended_before_its_first_event():
    made = learner(described={"mute": ItemContent(), "i1": ItemContent("word")})

    run(made, [Interaction("u0", "i5", 0, 1.0, None)], 1)

    assert set(TopK(made, 9, cold_items=True).lists_of(["u0"])[0].item_ids) == {"i5", "i1"}


def test_rows_of_a_catalogue_are_no_candidates_of_a_ranking():
    stream = random_stream(4)
    items = [f"i{n}" for n in range(60)]
    plain, described = learner(), learner(described={item: ItemContent() for item in items})

    ours, theirs = run(described, stream, 16), run(plain, stream, 16)

    np.testing.assert_array_equal(joined(ours, "ranks_B"), joined(theirs, "ranks_B"))
    np.testing.assert_array_equal(joined(ours, "popularity_ranks_B"), joined(theirs, "popularity_ranks_B"))


def test_a_new_item_with_content_ranks_better_than_one_without():
    """The second event of each late item, whose kind is that of the user."""
    ranks = {}
    for name, content in (("with", catalogue([f"i{n}" for n in range(60)])), ("without", None)):
        made = learner(described=content)
        run(made, two_tastes(3000), 50)
        late = []
        for n in range(40, 60):
            users = [f"u{n % 2 + 2 * place}" for place in range(2)]
            late += [Interaction(user, f"i{n}", 4_000_000 + n, 1.0, None) for user in users]
        ranks[name] = joined(run(made, late, 1), "ranks_B")[1::2].mean()

    assert ranks["with"] < ranks["without"]


# --- availability ---


@pytest.mark.parametrize("gone", [None, ItemContent("still described", available=False)])
def test_an_item_that_is_removed_or_not_available_leaves_the_lists_at_once_and_comes_back_when_it_is_again(gone):
    made = learner(described=catalogue(["i0", "i1", "i2", "i3"]))
    run(made, two_tastes(100, items=4), 10)

    made.describe({"i1": gone})
    without = first_lists(made, k=9)
    made.describe(catalogue(["i1"]))

    assert all("i1" not in items and len(items) == 3 for items in without.values())
    assert all("i1" in items and len(items) == 4 for items in first_lists(made, k=9).values())


def test_a_removed_item_that_the_catalogue_never_described_leaves_the_lists_too():
    made = learner()
    run(made, two_tastes(100, items=4), 10)

    made.describe({"i1": None, "never met": None})

    assert all("i1" not in items for items in first_lists(made, k=9, cold_items=True).values())


def test_what_is_not_available_still_ranks_and_is_learned():
    stream = two_tastes(200, items=4)
    made, plain = learner(described=dict.fromkeys([f"i{n}" for n in range(4)])), learner()

    ours, theirs = run(made, stream, 20), run(plain, stream, 20)

    np.testing.assert_array_equal(joined(ours, "ranks_B"), joined(theirs, "ranks_B"))


@pytest.fixture
def short_rest(monkeypatch):
    monkeypatch.setattr("model.content.REST_EVENTS", 50)


@pytest.mark.usefixtures("short_rest")
def test_the_row_of_a_removed_item_without_an_event_is_given_back_after_its_rest():
    made = learner(described=catalogue([f"i{n}" for n in range(6)]))
    run(made, two_tastes(40, items=4), 10)
    content = made.ranking.content
    row = content.ids.row("i5")
    made.describe({"i5": None, "i0": None})
    in_use = content.ids.in_use
    run(made, two_tastes(40, items=4), 10)
    made.describe({"i4": ItemContent("early")})
    resting = content.ids.in_use
    run(made, two_tastes(40, items=4), 10)

    made.describe({"next": ItemContent("number of the next", None, ["kind 1"])})

    assert (in_use, resting, content.ids.in_use) == (6, 6, 6)
    assert content.ids.row("next") == row
    assert content.ids.row("i5") is None
    assert content.ids.row("i0") is not None, "it has events: that it was removed must be remembered"
    lists = first_lists(made, k=9, cold_items=True).values()
    assert all("next" in items and not {"i0", "i5"} & set(items) for items in lists)
    content.table.values[:] = 1
    content._compute_all()
    matrix = content.entries.bags(np.arange(len(content.ids)))
    assert content.vectors(np.array([row]))[0, 0] == pytest.approx(matrix.weights_E[matrix.rows_E == row].sum())


@pytest.mark.usefixtures("short_rest")
def test_the_next_step_tells_once_which_rows_were_given_back_one_of_no_events_too():
    made = learner(described=catalogue(["i0", "i1", "i2", "i3"]))
    row = made.ranking.content.ids.row("i3")
    made.describe({"i3": None})
    run(made, two_tastes(100, items=2), 10)
    made.describe(catalogue(["i4"]))

    told = [made.test_then_learn([]).given_back_X.tolist() for _ in range(2)]

    assert told == [[row], []]


@pytest.mark.usefixtures("short_rest")
def test_of_a_large_catalogue_rows_are_given_back_when_they_are_some():
    made = learner(described=catalogue([f"i{n}" for n in range(2 * GIVEN_BACK)]))
    in_use = []

    for item in ("i100", "i101"):
        made.describe({item: None})
        run(made, two_tastes(60), 10)
        made.describe(catalogue(["i1"]))
        in_use.append(made.ranking.content.ids.in_use)

    assert in_use == [2 * GIVEN_BACK, 2 * GIVEN_BACK - 2]


@pytest.mark.usefixtures("short_rest")
def test_a_late_event_of_an_item_that_was_just_removed_does_not_bring_it_back():
    made = learner(described=catalogue(["i0", "i1", "i2"]))
    made.describe({"i2": None})

    run(made, [Interaction("u0", "i0", 0, 1.0), Interaction("u1", "i2", 1, 1.0)], 1)
    run(made, two_tastes(100, items=2), 10)
    made.describe(catalogue(["i1"]))

    assert made.ranking.content.ids.row("i2") is not None
    assert all("i2" not in items for items in first_lists(made, k=9, cold_items=True).values())


@pytest.mark.usefixtures("short_rest")
def test_an_item_that_comes_back_during_its_rest_keeps_its_row():
    made = learner(described=catalogue(["i0", "i1", "i2"]))
    made.describe({"i2": None})
    made.describe(catalogue(["i2"]))

    run(made, two_tastes(100, items=2), 10)
    made.describe(catalogue(["i1"]))

    assert all("i2" in items for items in first_lists(made, k=9, cold_items=True).values())


@pytest.mark.usefixtures("short_rest")
def test_rests_go_on_over_a_restart():
    made, loaded = learner(described=catalogue(["i0", "i1", "i2"])), learner()
    made.describe({"i2": None})
    run(made, two_tastes(40, items=2), 10)
    loaded.load(made.state())

    for one in (made, loaded):
        run(one, two_tastes(20, items=2), 10)
        one.describe({"next": ItemContent("one")})

    assert loaded.ranking.content.ids.row("next") == 2
    assert state_digest(loaded.state()) == state_digest(made.state())


# --- how it learns ---


def test_the_weight_of_content_falls_as_events_come():
    made = learner(described=catalogue(["i0"]), content=ContentSettings(half=4))
    run(made, two_tastes(40, items=2), 5)
    content, item = made.ranking.content, np.array([made.items.row("i0")])
    content._vectors_XD.add_(1)
    vector = content.vectors(np.array([0]))

    added = [content.on_top(torch.zeros((1, 8)), item, np.full(2, count)) for count in (0, 4, 12)]

    for part, share in zip(added, (1, 1 / 2, 1 / 4), strict=True):
        torch.testing.assert_close(part, vector * share)


def test_the_gradient_reaches_the_features_of_an_item_by_their_weights():
    items, content = (
        Vocabulary(),
        Content(3, ContentSettings(every_events=1, rate=0.5), device=CPU, dtype=torch.float64),
    )
    items.rows(["a", "b"])
    content.describe({"a": ItemContent(categories=["x"]), "b": ItemContent(categories=["x", "y"])}, items)
    content.describe({"c": ItemContent(categories=["y"])}, items)
    gradient = torch.tensor([[1.0, 0, 0], [0, 2.0, 0]], dtype=torch.float64)

    content.learn(None, gradient, np.array([0, 0]), events=1)

    by_x = torch.tensor([1.0, 0.5 * 2, 0], dtype=torch.float64)
    step_x = -0.5 * by_x / by_x.square().mean().sqrt()
    by_y = torch.tensor([0, 0.5 * 2, 0], dtype=torch.float64)
    step_y = -0.5 * by_y / by_y.square().mean().sqrt()
    torch.testing.assert_close(
        content.vectors(np.array([0, 1, 2])), torch.stack([step_x, (step_x + step_y) / 2, step_y])
    )


def test_the_vectors_are_what_the_whole_matrix_times_the_table_gives():
    made = learner(described=catalogue([f"i{n}" for n in range(30)]), content=ContentSettings(every_events=64))
    run(made, two_tastes(500, items=20), 32)
    made.describe({"i3": ItemContent("changed", features={"price": 3.0}), "new": ItemContent("number one")})
    content = made.ranking.content
    size = len(content.ids)

    matrix = np.zeros((size, content.entries.features))
    bags = content.entries.bags(np.arange(size))
    matrix[bags.rows_E, bags.features_E] = bags.weights_E

    expected = matrix @ content.table.values.double().numpy()
    np.testing.assert_allclose(content.vectors(np.arange(size)).numpy(), expected, atol=1e-6)
    assert np.abs(expected).max() > 0


def test_the_table_moves_less_often_where_the_catalogue_is_large():
    moves = {}
    for per_event in (1, 1000):
        made = learner(
            described=catalogue(["i0", "i1"]), content=ContentSettings(every_events=8, entries_an_event=per_event)
        )
        content = made.ranking.content
        vectors = [content.vectors(np.array([0, 1])).clone()]
        for batch in range(40):
            run(made, two_tastes(8, items=2, seed=batch), 8)
            vectors.append(content.vectors(np.array([0, 1])).clone())
        moves[per_event] = sum(not torch.equal(one, other) for one, other in pairwise(vectors))

    assert content.entries.live > 8
    assert 0 < moves[1] < moves[1000]


def summed(made):
    """The vectors of all items as they are kept, and as a content that kept nothing has them."""
    count_I = made.live.counts.count_I[: made.live.counts.items]
    kept_ID = made.ranking.content.of_all(made.ranking.items.values, count_I).clone()
    again = learner(content=made.settings.content, ranking=made.settings.ranking)
    again.load(made.state())
    return kept_ID, again.ranking.content.of_all(again.ranking.items.values, count_I)


@pytest.mark.parametrize("full_softmax_items", [4096, 0], ids=["full", "sampled"])
def test_the_sums_that_are_kept_are_those_of_who_kept_nothing_to_the_last_bit(full_softmax_items):
    rates = RankingRates(full_softmax_items=full_softmax_items, negatives=8)
    made = learner(
        described=catalogue([f"i{n}" for n in range(30)]), content=ContentSettings(every_events=50), ranking=rates
    )
    stream = random_stream(9, 400, items=60, forgets=0.02)
    for turn, start in enumerate(range(0, len(stream), 8)):
        run(made, stream[start : start + 8], 8)
        if turn % 7 == 0:
            made.describe({f"i{turn}": ItemContent(f"number {turn}", None, ["kind 0"]), "i2": None, "new": None})

        kept_ID, again_ID = summed(made)

        assert kept_ID.numpy().tobytes() == again_ID.numpy().tobytes()
    assert not torch.equal(kept_ID, made.ranking.items.values)


@pytest.mark.parametrize("rows", [None, [7, 0, 3]])
def test_compiled_passes_do_what_plain_torch_does(rows):
    made = learner(described=catalogue([f"i{n}" for n in range(20)]), content=ContentSettings(every_events=10**9))
    run(made, two_tastes(200), 20)
    content, count_I = made.ranking.content, np.arange(len(made.items))
    content._vectors_XD.normal_(generator=torch.Generator().manual_seed(1))
    content._gathered_ID.zero_()
    items_N = np.arange(len(made.items)) if rows is None else np.array(rows)
    gradient = torch.randn((len(items_N), 8), generator=torch.Generator().manual_seed(2))

    added = content.on_top(gradient.clone(), items_N, count_I)
    content.learn(None if rows is None else torch.tensor(rows), gradient, count_I, events=1)
    gathered_ID = content._gathered_ID.clone()
    content._gathered_ID.zero_()
    content._gather_anywhere(items_N, gradient, count_I)

    torch.testing.assert_close(added, content._on_top_anywhere(gradient.clone(), items_N, count_I))
    torch.testing.assert_close(gathered_ID, content._gathered_ID)
    assert gathered_ID.abs().sum() > 0


@pytest.mark.parametrize(
    "settings", [{}, {"ranking": RankingRates(full_softmax_items=0, negatives=8)}, {"encoder": "blend"}]
)
def test_a_saved_learner_goes_on_as_if_never_stopped(settings):
    described = {**catalogue([f"i{n}" for n in range(25)]), "i7": ItemContent("seven", features={"year": 1.0})}
    options = {"content": ContentSettings(every_events=40), **settings}
    stream, more = random_stream(5), random_stream(6)
    changes = {"i3": None, "i4": ItemContent("new text", features={"year": 9.0}), "i99": ItemContent("number seven")}
    made, loaded = learner(described=described, **options), learner(**options)
    run(made, stream, 16)

    loaded.load(made.state())
    for one in (made, loaded):
        run(one, more[:150], 16)
        one.describe(changes)
        run(one, more[150:], 16)

    assert state_digest(loaded.state()) == state_digest(made.state())
    assert first_lists(loaded, cold_items=True) == first_lists(made, cold_items=True)


def test_without_a_catalogue_a_learner_and_its_state_are_what_they_were():
    stream = random_stream(7)
    plain, described_nothing = learner(), learner(described={})
    run(plain, stream, 16)
    run(described_nothing, stream, 16)

    assert plain.ranking.content is None
    assert not [name for name in plain.state() if name.startswith("content.")]
    assert state_digest(plain.state()) == state_digest(described_nothing.state())


def test_a_state_without_content_clears_what_a_learner_was_told():
    described, plain = learner(described=catalogue(["i1"])), learner()
    run(plain, random_stream(8), 16)

    described.load(plain.state())

    assert state_digest(described.state()) == state_digest(plain.state())


def test_scores_of_cold_items_without_a_catalogue_are_refused():
    with pytest.raises(ValueError, match="there is no catalogue"):
        learner().cold_scores(np.array([0]), np.array([0]))
