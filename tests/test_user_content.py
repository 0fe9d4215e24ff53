"""What is said of users: it speaks at once for who is new, gives way to events, and costs nothing where it is not."""

import numpy as np
import pytest
import torch
from streams import click, joined, run
from user_worlds import kind, learner, people, two_tastes

from model.bag_sums import _pulled_back_anywhere
from model.encoders.interface import Encoded
from model.entries import ItemContent
from model.ids import Ids
from model.interactions import Forget
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK
from model.user_content import MOST_WORDS, Note, UserContent, UserContentSettings
from model.vocabulary import Vocabulary

CPU = torch.device("cpu")


def content_of(settings=None, width=3, **described):
    """Content of these users, whose rows in the vocabulary are in this order."""
    made = UserContent(width, settings or UserContentSettings(), device=CPU, dtype=torch.float64)
    users = Vocabulary()
    users.rows(list(described))
    made.describe(described, users)
    return made, users


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


def said_of(made, users_U):
    return made.said.of(users_U, made.live.history.pushed_U[users_U])


# --- new users ---


@pytest.mark.parametrize("settings", [{}, {"ranking": RankingRates(full_softmax_items=0, negatives=8)}])
def test_the_first_event_of_a_new_user_ranks_better_where_it_is_said_of_what_kind_the_user_is(settings):
    first = [click(f"u{n}", f"i{2 * (n % 7) + n % 2}", 4_000_000 + n) for n in range(100, 160)]
    ranks = {}
    for name, said in (("with", people(range(160))), ("without", None)):
        made = learner(described=said, **settings)
        run(made, two_tastes(3000), 50)
        ranks[name] = joined(run(made, first, 10), "ranks_B").mean()

    assert ranks["with"] < 0.8 * ranks["without"]


def test_the_list_of_a_user_without_history_follows_what_is_said_now():
    made = learner(described=people(range(30)))
    run(made, two_tastes(3000), 50)
    run(made, [click("new", "i0", 3_000_000, weight=0.0)], 1)

    lists = {}
    for n in (0, 1):
        made.describe_users({"new": kind(n)})
        lists[n] = TopK(made, 10).lists_of(["new"])[0].item_ids

    for n, items in lists.items():
        assert np.mean([int(item[1:]) % 2 == n for item in items]) >= 0.7


def test_what_is_said_of_users_changes_the_scores_of_cold_items_too():
    made = learner(described=people(range(30)))
    made.describe({f"i{n}": kind(n) for n in range(24)})
    run(made, two_tastes(3000), 50)
    run(made, [click("new", "i0", 3_000_000, weight=0.0)], 1)
    row, cold = np.array([made.users.row("new")]), made.ranking.content.cold_rows()

    before = made.cold_scores(row, cold)
    made.describe_users({"new": kind(1)})

    assert not torch.equal(made.cold_scores(row, cold), before)


# --- what it is made of ---


def test_the_weight_of_features_falls_as_events_come():
    made, users = content_of(UserContentSettings(half=4), a=kind(0), b=kind(0))
    made.table.values[:] = 1

    added = made.read(rows(0, 0, 0), np.array([0, 4, 12]), users).on_top(torch.zeros((3, 3), dtype=torch.float64))

    torch.testing.assert_close(added, torch.tensor([[1.0], [1 / 2], [1 / 4]], dtype=torch.float64).expand(3, 3))


def test_only_those_of_whom_something_is_said_are_moved():
    made, users = content_of(a=kind(0), b=None, c=kind(0))
    made.table.values[:] = 1

    added = made.read(rows(0, 1, 2), np.zeros(3, dtype=np.int64), users).on_top(torch.zeros((3, 3)).double())

    assert added.sum(1).tolist() == [3, 0, 3]


def test_the_gradient_reaches_each_feature_by_the_weights_of_the_events_that_have_it():
    made, users = content_of(
        UserContentSettings(half=2, rate=0.5),
        a=ItemContent(categories=["x"]),
        b=ItemContent(categories=["x", "y"]),
        c=ItemContent(categories=["y"]),
    )
    nobody = Encoded(torch.zeros((3, 3), dtype=torch.float64), lambda *_: None)
    said = made.read(rows(1, 0, 2), np.array([0, 2, 0]), users)

    said.trace(nobody).pull_back(torch.eye(3, dtype=torch.float64), torch.zeros((1, 3)))
    said.step()

    by_x, by_y = torch.tensor([0.5, 0.5, 0]).double(), torch.tensor([0.5, 0, 1]).double()
    expected = torch.stack([-0.5 * by / by.square().mean().sqrt() for by in (by_x, by_y)])
    torch.testing.assert_close(made.table.values, expected)
    [gradient] = said.gradients()
    torch.testing.assert_close(gradient, torch.stack([by_x, by_y]))


def test_the_way_back_of_the_encoder_is_still_gone():
    made, users = content_of(a=kind(0), b=kind(0))
    calls = []
    encoded = Encoded(torch.ones((1, 3)).double(), lambda *gradients: calls.append(gradients))
    gradient_BD, gradient_ID = torch.ones((1, 3)).double(), torch.zeros((4, 3)).double()

    made.read(rows(0), rows(0), users).trace(encoded).pull_back(gradient_BD, gradient_ID)

    assert calls == [(gradient_BD, gradient_ID)]


def test_a_feature_of_one_user_alone_says_nothing():
    made, users = content_of(a=ItemContent(categories=["only a"]))
    made.table.values[:] = 1

    assert made.read(rows(0), rows(0), users).on_top(torch.zeros((1, 3)).double()).sum() == 0


# --- what users write, and the context ---


def test_compiled_passes_do_what_plain_torch_does():
    made, users = after_notes()
    events_B = np.arange(7)
    said = made.read_then_write(np.arange(7) % 7, events_B, events_B > 0, {0: NOTES[0], 3: NOTES[1]}, users)
    vectors_BD = torch.randn((7, 4), generator=torch.Generator().manual_seed(1)).double()
    nobody = Encoded(vectors_BD, lambda *_: None)

    encoded = said.trace(nobody)
    encoded.pull_back(vectors_BD, torch.zeros((1, 4)))

    torch.testing.assert_close(encoded.users_BD, said._on_top_anywhere(vectors_BD))
    assert not torch.equal(encoded.users_BD, vectors_BD)
    features, expected = _pulled_back_anywhere(said._bags, said._events_N, vectors_BD)
    order = torch.argsort(said._features)
    assert said._features[order].tolist() == features.tolist()
    torch.testing.assert_close(said.gradients()[0][order], expected)


NOTES = [Note("red shoes"), Note("blue shoes and a red hat", {"place": "home"}), Note(None, {"place": "work"})]


def after_notes(users=5):
    """Content in which every feature of NOTES is known and counts, others wrote them, with a table of its own."""
    made, vocabulary = content_of(UserContentSettings(texts=2), width=4, **dict.fromkeys("abcdexy"))
    others = np.repeat([users, users + 1], len(NOTES))
    nothing = np.zeros(len(others), dtype=np.int64)
    made.read_then_write(others, nothing, nothing > 0, dict(enumerate(NOTES * 2)), vocabulary)
    made.entries._shared_F[:] = True
    draw = np.random.default_rng(0)
    made.table.values[:] = torch.from_numpy(draw.standard_normal(made.table.values.shape))
    return made, vocabulary


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_one_batch_each_event_finds_what_it_finds_where_events_come_one_by_one(seed):
    draw = np.random.default_rng(seed)
    size = 60
    users_B, enters_B = draw.integers(5, size=size), draw.random(size) < 0.8
    events_B = np.array([enters_B[:b][users_B[:b] == users_B[b]].sum() for b in range(size)])
    notes = {b: NOTES[draw.integers(len(NOTES))] for b in range(size) if draw.random() < 0.6}
    vectors, digests = [], []
    for cut in (size, 7, 1):
        made, users = after_notes()
        for start in range(0, size, cut):
            batch = slice(start, start + cut)
            some = {b - start: note for b, note in notes.items() if start <= b < start + cut}
            said = made.read_then_write(users_B[batch], events_B[batch], enters_B[batch], some, users)
            vectors.append(said.on_top(torch.zeros((len(users_B[batch]), 4)).double()))
        digests.append(state_digest(made.state()))

    whole, pieces = vectors[0], torch.cat(vectors[1:])
    torch.testing.assert_close(pieces.reshape(2, size, 4), whole.expand(2, size, 4))
    assert (whole.abs().sum(1) > 0).sum() > 40
    assert len(set(digests)) == 1


def test_the_newest_texts_count_and_older_ones_make_room():
    made, users = after_notes()
    texts = ["red shoes", "red shoes", "blue hat", "blue hat"]
    one = np.zeros(1, dtype=np.int64)
    vectors = []
    for text in texts:
        made.read_then_write(one, one, one > 0, {0: Note(text)}, users)
        vectors.append(made.read(one, one, users).on_top(torch.zeros((1, 4)).double()))

    torch.testing.assert_close(vectors[1], 2 * vectors[0])
    other, _ = after_notes()
    other.read_then_write(one, one, one > 0, {0: Note("blue hat")}, users)
    torch.testing.assert_close(vectors[3], 2 * other.read(one, one, users).on_top(torch.zeros((1, 4)).double()))


def test_a_text_fades_as_events_follow_and_the_context_ends_with_the_next_one():
    made, users = after_notes()
    one = np.ones(1, dtype=np.int64)
    user = np.zeros(1, dtype=np.int64)

    found = {}
    for name, note in (("text", Note("red shoes")), ("context", Note(None, {"place": "home"}))):
        made.forget(Ids.of(["a"]), user)
        made.read_then_write(user, 4 * one, one > 0, {0: note}, users)
        found[name] = [made.read(user, n * one, users).on_top(torch.zeros((1, 4)).double()) for n in (5, 6, 7)]

    half = made.settings.text_half
    for since, vector in enumerate(found["text"]):
        torch.testing.assert_close(vector, found["text"][0] * half / (half + since))
    assert [bool(vector.any()) for vector in found["context"]] == [True, False, False]


# --- changes ---


def test_features_that_are_removed_say_nothing_any_more_and_the_user_stays():
    made = learner(described=people(range(30)))
    run(made, two_tastes(500), 50)

    made.describe_users({"u1": None, "never met": None})

    assert made.said.content.ids.row("u1") is None
    assert made.users.row("u1") is not None
    users = rows(made.users.row("u1"))
    vector = said_of(made, users).on_top(torch.zeros((1, 8)))
    assert vector.abs().sum() == 0


def test_features_that_are_removed_leave_what_the_user_wrote():
    made, users = after_notes()
    user, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    made.read_then_write(user, user, one > 0, {0: NOTES[0]}, users)
    text = made.read(user, one, users).on_top(torch.zeros((1, 4)).double())
    made.describe({"a": kind(0)}, users)

    made.describe({"a": None}, users)

    left = made.read(user, one, users).on_top(torch.zeros((1, 4)).double())
    torch.testing.assert_close(left, text)
    assert left.any()


def test_of_a_long_text_the_first_32_words_are_read():
    words = [f"w{n}" for n in range(MOST_WORDS + 9)]
    made, users = after_notes()

    for user, text in enumerate((words, words[:MOST_WORDS], words[: MOST_WORDS - 1])):
        made.read_then_write(rows(user), rows(0), rows(1) > 0, {0: Note(" ".join(text))}, users)

    lengths = made.entries.lengths().reshape(-1, made.slots)[[made.ids.row(name) for name in "abc"]].sum(1).tolist()
    assert lengths[0] == lengths[1] > lengths[2]


def test_a_row_that_was_given_back_serves_the_next_user_and_says_nothing_of_the_last():
    made, users = content_of(a=kind(0), b=kind(1), c=kind(0), d=kind(1))
    made.table.values[:] = torch.tensor([[1.0], [2.0]])
    made.read(rows(0, 1), rows(0, 0), users)

    made.describe({"a": None}, users)
    made.describe({"e": kind(1)}, users)
    users.rows(["e"])

    added = made.read(rows(0, 1, 4), rows(0, 0, 0), users).on_top(torch.zeros((3, 3)).double())
    assert added[:, 0].tolist() == [0, 2, 2]


def test_what_is_said_before_the_first_event_counts_from_it_on():
    made, users = content_of(a=kind(0), b=kind(0))
    made.table.values[:] = 1
    users.rows(["new"])
    before = made.read(rows(2), rows(0), users).on_top(torch.zeros((1, 3)).double())

    made.describe({"new": kind(0)}, users)

    assert before.sum() == 0
    assert made.read(rows(2), rows(0), users).on_top(torch.zeros((1, 3)).double()).sum() == 3


# --- forgetting ---


def test_a_forget_erases_what_is_said_also_of_users_without_an_event():
    made = learner(described={**people(range(30)), "silent": ItemContent(categories=["kind 0"], features={"n": 7.0})})
    run(made, two_tastes(300), 50)

    run(made, [Forget("u1"), Forget("silent"), Forget("nobody")], 3)

    assert made.said.content.ids.row("u1") is None
    assert made.said.content.ids.row("silent") is None
    assert b"silent" not in made.state()["user content.ids.bytes"].numpy().tobytes()
    assert not (made.state()["user content.entries.values"] == 7.0).any()
    assert not (made.said.content.entries._value_E == 7.0).any(), "nor in memory"


def test_a_forget_erases_texts_and_context():
    made, users = after_notes()
    one = np.zeros(1, dtype=np.int64)
    before = state_digest(made.state())
    made.read_then_write(one, one, one > 0, {0: NOTES[1]}, users)

    made.forget(Ids.of(["a"]), one)

    state = made.state()
    assert made.ids.row("a") is None
    assert state["entries.lengths"].reshape(-1, made.slots)[-1].tolist() == [0] * made.slots
    assert made.entries.live == after_notes()[0].entries.live
    assert before != state_digest(state), "a row was given back"
    row = len(made.ids) - 1
    assert not state["at"][row].any()
    assert not state["texts"][row].any()


def test_users_who_were_there_before_anything_was_said_of_anybody_can_be_forgotten():
    made = learner()
    run(made, two_tastes(100), 50)
    made.describe_users({"u1": kind(1)})

    step = made.test_then_learn([Forget("u1"), Forget("u2")])

    assert all(row >= 0 for _, row in step.forgotten)
    assert made.said.content.ids.in_use == 0


def test_users_forgotten_together_leave_what_they_leave_one_by_one():
    together, one_by_one = (learner(encoder="dnn", described=people(range(30))) for _ in range(2))
    for made in (together, one_by_one):
        run(made, [one._replace(text=f"words of {one.user_id}") for one in two_tastes(300)], 50)
    names = ["u7", "u1", "nobody", "u29", "u1"]

    together.test_then_learn([Forget(name) for name in names])
    for name in names:
        one_by_one.forget(name)

    expected = one_by_one.state()
    for name, value in together.state().items():
        if name.endswith(".free"):
            assert sorted(value.tolist()) == sorted(expected[name].tolist())
            assert len(value) == (0 if name == "items.free" else 3)
        elif name != "version":
            assert torch.equal(value, expected[name]), name
    assert together.said.content.entries.live == one_by_one.said.content.entries.live


def test_who_was_idle_and_comes_back_has_the_features_and_none_of_the_texts():
    made = learner(encoder="dnn", described=people(range(4)), max_users=3)
    made.test_then_learn([click("u0", "i1")._replace(text="old boots", context={"place": "home"})])
    made.test_then_learn([click("nobody", "i1")._replace(text="old boots")])
    run(made, [click(f"v{n}", f"i{n}", n) for n in range(12)], 2)
    assert made.users.row("u0") is None
    content = made.said.content
    state = content.state()
    assert not state["at"].any(), "how many events and texts they had is gone, too"
    assert not state["texts"].any()

    made.test_then_learn([click("u0", "i1")])

    assert content.ids.row("nobody") is None
    row = content.ids.row("u0") * content.slots
    assert (content.entries.lengths()[row : row + content.slots] > 0).tolist() == [True] + [False] * (content.slots - 1)
    said = said_of(made, np.array([made.users.row("u0")]))
    assert said is not None
    assert len(said._bags.features_E) == 1


def test_whoever_gets_the_row_of_an_idle_user_has_nothing_of_theirs():
    made = learner(described=people(range(1)), max_users=2)
    made.test_then_learn([click("u0", "i1")])
    idle = made.users.row("u0")
    run(made, [click(f"v{n}", f"i{n}", n) for n in range(12)], 1)

    newcomer = made.users.name(idle)

    assert newcomer != "u0"
    made.said.content.table.values[:] = 1.0
    made.said.content.entries._shared_F[:] = True
    assert not said_of(made, rows(idle)).on_top(torch.zeros((1, 8))).any()


def test_who_comes_back_after_a_forget_is_a_stranger():
    made = learner(described=people(range(30)))
    run(made, two_tastes(1000), 50)

    run(made, [Forget("u1"), click("u1", "i0", 5_000_000, weight=0.0)], 2)

    assert said_of(made, rows(made.users.row("u1"))).on_top(torch.zeros((1, 8))).abs().sum() == 0


def test_whoever_gets_the_row_of_a_forgotten_user_gets_their_own_features():
    made = learner(described={**people(range(30)), "next": kind(0)})
    run(made, two_tastes(1000), 50)
    old = made.users.row("u1")

    run(made, [Forget("u1"), click("next", "i0", 5_000_000, weight=0.0)], 1)

    assert made.users.row("next") == old
    said = said_of(made, rows(old)).on_top(torch.zeros((1, 8)))
    other = said_of(made, rows(made.users.row("u0"))).on_top(torch.zeros((1, 8)))
    half = made.settings.user_content.half
    events = made.live.history.pushed_U[made.users.row("u0")]
    torch.testing.assert_close(said * half / (half + events), other)
    assert said.abs().sum() > 0


# --- keeping ---


def test_a_state_with_another_number_of_texts_is_refused():
    made, _ = content_of(a=kind(0))
    other = UserContent(3, UserContentSettings(texts=1), device=CPU, dtype=torch.float64)

    with pytest.raises(ValueError, match="keeps 3 texts a user, the settings ask for 1"):
        other.load(made.state())


def test_a_step_that_is_refused_leaves_what_was_learned_of_features():
    made = learner(described=people(range(30)))
    run(made, two_tastes(200), 50)
    before = made.said.content.table.values.clone()

    [step] = run(made, [click("u0", "i0", 1, weight=float("inf"))], 1)

    assert step.refused is not None
    torch.testing.assert_close(made.said.content.table.values, before)
    assert before.abs().sum() > 0
