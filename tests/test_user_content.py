"""What is said of users: it speaks at once for who is new, gives way to events, and costs nothing where it is not."""

import numpy as np
import pytest
import torch
from streams import click, joined, random_stream, run, small_learner

from model.content import _pulled_back_anywhere
from model.encoders.interface import Encoded
from model.entries import ItemContent
from model.interactions import Forget
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK
from model.user_content import Note, UserContent, UserContentSettings
from model.vocabulary import Vocabulary

CPU = torch.device("cpu")


def kind(n):
    return ItemContent(categories=[f"kind {n % 2}"])


def people(numbers):
    """Users of two kinds, which their categories tell."""
    return {f"u{n}": kind(n) for n in numbers}


def two_tastes(events, items=20, users=30, seed=0, first_user=0):
    """Users who only choose items of their own kind."""
    draw = np.random.default_rng(seed)
    stream = []
    for number in range(events):
        user = first_user + int(draw.integers(users))
        item = 2 * int(draw.integers(items // 2)) + user % 2
        stream.append(click(f"u{user}", f"i{item}", number * 1000))
    return stream


def learner(*, described=None, **settings):
    made = small_learner(**{"encoder": "recency", "width": 8, "allow_repeats": True, **settings})
    if described is not None:
        made.describe_users(described)
    return made


def content_of(settings=None, width=3, **described):
    """Content of these users, whose rows in the vocabulary are in this order."""
    made = UserContent(width, settings or UserContentSettings(), device=CPU, dtype=torch.float64)
    users = Vocabulary()
    users.rows(list(described))
    made.describe(described, users)
    return made, users


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


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


def intents(events, field, seed=0, users=40, items=100, topics=10):
    """Each event says, in a text or in its context, of what topic the user's next item will be."""
    draw = np.random.default_rng(seed)
    intent: dict[int, int] = {}
    stream = []
    for number in range(events):
        user = int(draw.integers(users))
        topic = intent.get(user, 0)
        following = intent[user] = int(draw.integers(topics))
        said = {
            "text": {"text": f"something about topic{following}"},
            "context": {"context": {"place": f"p{following}", "hour": float(draw.integers(24))}},
            "nothing": {},
        }[field]
        item = f"i{topics * int(draw.integers(items // topics)) + topic}"
        stream.append(click(f"u{user}", item, number * 1000)._replace(**said))
    return stream


@pytest.mark.parametrize(
    ("field", "encoder"), [("text", "recency"), ("text", "blend"), ("text", "cooccurrence"), ("context", "dnn")]
)
def test_what_an_event_says_helps_to_rank_the_next_one(field, encoder):
    ranks = {}
    for said in (field, "nothing"):
        made = learner(encoder=encoder, width=16)
        ranks[said] = joined(run(made, intents(4000, said), 50), "ranks_B")[2000:].mean()

    assert ranks[field] < 0.75 * ranks["nothing"]


def test_an_encoder_that_does_not_read_the_context_takes_no_notice_of_it():
    made = {said: learner(encoder="recency", width=16) for said in ("context", "nothing")}
    for said, one in made.items():
        run(one, intents(500, said), 50)

    assert made["context"].user_content is None
    assert state_digest(made["context"].state()) == state_digest(made["nothing"].state())


def test_an_event_is_ranked_as_if_it_said_nothing_itself():
    made = {}
    for said in ("text", "nothing"):
        made[said] = learner(width=16)
        run(made[said], intents(2000, "text"), 50)
    event = click("u0", "i3", 9_000_000)

    [with_text] = run(made["text"], [event._replace(text="something about topic4", context={"place": "p3"})], 1)
    [without] = run(made["nothing"], [event], 1)

    assert with_text.ranks_B.tolist() == without.ranks_B.tolist()


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
        made.forget("a", 0)
        made.read_then_write(user, 4 * one, one > 0, {0: note}, users)
        found[name] = [made.read(user, n * one, users).on_top(torch.zeros((1, 4)).double()) for n in (5, 6, 7)]

    half = made.settings.text_half
    for since, vector in enumerate(found["text"]):
        torch.testing.assert_close(vector, found["text"][0] * half / (half + since))
    assert [bool(vector.any()) for vector in found["context"]] == [True, False, False]


@pytest.mark.parametrize(
    "note",
    [
        Note(" \n ", None),
        Note("?!", {}),
        Note(None, {"temperature": float("inf"), "speed": float("nan")}),
        Note("word " * 100_000, {f"name {n}": "x" * 1000 for n in range(1000)}),
        Note("\ud800 \x00", {"": ""}),
    ],
)
def test_odd_texts_and_contexts_are_taken_as_they_are_and_bounded(note):
    made = learner(described=people(range(3)))
    run(made, two_tastes(50), 10)
    before = made.user_content.entries.live

    for n in range(20):
        [step] = run(made, [click("u1", f"i{n}", n)._replace(text=note.text, context=note.context)], 1)

    assert step.refused is None
    assert made.user_content.entries.live - before < 1000
    assert all(bool(value.isfinite().all()) for value in made.state().values() if value.dtype.is_floating_point)


def test_no_text_and_no_context_is_kept_only_their_features():
    made = learner()

    run(made, [click("u1", "i1")._replace(text="topsecretword", context={"place": "topsecretplace"})], 1)

    kept = b"".join(value.numpy().tobytes() for value in made.state().values())
    assert b"topsecret" not in kept


# --- changes ---


def test_features_that_are_removed_say_nothing_any_more_and_the_user_stays():
    made = learner(described=people(range(30)))
    run(made, two_tastes(500), 50)

    made.describe_users({"u1": None, "never met": None})

    assert made.user_content.ids.row("u1") is None
    assert made.users.row("u1") is not None
    users = rows(made.users.row("u1"))
    vector = made._said_of(users).on_top(torch.zeros((1, 8)))
    assert vector.abs().sum() == 0


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

    assert made.user_content.ids.row("u1") is None
    assert made.user_content.ids.row("silent") is None
    assert b"silent" not in made.state()["user content.ids.bytes"].numpy().tobytes()
    assert not (made.state()["user content.entries.values"] == 7.0).any()
    assert not (made.user_content.entries._value_E == 7.0).any(), "nor in memory"


def test_a_forget_erases_texts_and_context():
    made, users = after_notes()
    one = np.zeros(1, dtype=np.int64)
    before = state_digest(made.state())
    made.read_then_write(one, one, one > 0, {0: NOTES[1]}, users)

    made.forget("a", 0)

    state = made.state()
    assert made.ids.row("a") is None
    assert state["entries.lengths"].reshape(-1, made.slots)[-1].tolist() == [0] * made.slots
    assert made.entries.live == after_notes()[0].entries.live
    assert before != state_digest(state), "a row was given back"


def test_who_was_idle_and_comes_back_has_the_features_and_none_of_the_texts():
    made = learner(encoder="dnn", described=people(range(4)), max_users=3)
    made.test_then_learn([click("u0", "i1")._replace(text="old boots", context={"place": "home"})])
    made.test_then_learn([click("nobody", "i1")._replace(text="old boots")])
    run(made, [click(f"v{n}", f"i{n}", n) for n in range(12)], 2)
    assert made.users.row("u0") is None

    made.test_then_learn([click("u0", "i1")])

    content = made.user_content
    assert content.ids.row("nobody") is None
    row = content.ids.row("u0") * content.slots
    assert (content.entries.lengths()[row : row + content.slots] > 0).tolist() == [True] + [False] * (content.slots - 1)
    said = made._said_of(np.array([made.users.row("u0")]))
    assert said is not None
    assert len(said._bags.features_E) == 1


def test_who_comes_back_after_a_forget_is_a_stranger():
    made = learner(described=people(range(30)))
    run(made, two_tastes(1000), 50)

    run(made, [Forget("u1"), click("u1", "i0", 5_000_000, weight=0.0)], 2)

    assert made._said_of(rows(made.users.row("u1"))).on_top(torch.zeros((1, 8))).abs().sum() == 0


def test_whoever_gets_the_row_of_a_forgotten_user_gets_their_own_features():
    made = learner(described={**people(range(30)), "next": kind(0)})
    run(made, two_tastes(1000), 50)
    old = made.users.row("u1")

    run(made, [Forget("u1"), click("next", "i0", 5_000_000, weight=0.0)], 2)

    assert made.users.row("next") == old
    said = made._said_of(rows(old)).on_top(torch.zeros((1, 8)))
    other = made._said_of(rows(made.users.row("u0"))).on_top(torch.zeros((1, 8)))
    half = made.settings.user_content.half
    events = made.live.history.pushed_U[made.users.row("u0")]
    torch.testing.assert_close(said * half / (half + events), other)
    assert said.abs().sum() > 0


# --- keeping ---


def noted(stream):
    """The stream with texts and contexts at some events."""
    says = {0: {"text": "red shoes"}, 1: {"text": "a blue hat", "context": {"place": "home", "hour": 3.0}}}
    return [
        entry if isinstance(entry, Forget) else entry._replace(**says.get(number % 5, {}))
        for number, entry in enumerate(stream)
    ]


@pytest.mark.parametrize(
    "settings", [{}, {"ranking": RankingRates(full_softmax_items=0, negatives=8)}, {"encoder": "blend"}]
)
def test_a_saved_learner_goes_on_as_if_never_stopped(settings):
    stream, more = (noted(random_stream(seed, forgets=0.02)) for seed in (5, 6))
    described = {**people(range(12)), "u3": ItemContent(categories=["kind 1", "odd"], features={"age": 30.0})}
    changes = {"u3": None, "u4": ItemContent(features={"age": 50.0}), "late": kind(0)}
    made, loaded = learner(described=described, **settings), learner(**settings)
    run(made, stream, 16)

    loaded.load(made.state())
    for one in (made, loaded):
        run(one, more[:150], 16)
        one.describe_users(changes)
        run(one, more[150:], 16)

    assert state_digest(loaded.state()) == state_digest(made.state())
    users = [f"u{n}" for n in range(12)]
    assert TopK(loaded, 5).lists_of(users) == TopK(made, 5).lists_of(users)


def test_where_nothing_is_said_a_learner_and_its_state_are_what_they_were():
    stream = random_stream(7)
    plain, nothing, of_others = learner(), learner(described={}), learner(described={"x": kind(0), "y": kind(0)})

    steps = [run(made, stream, 16) for made in (plain, nothing, of_others)]

    assert plain.user_content is None
    assert not [name for name in plain.state() if name.startswith("user content.")]
    assert state_digest(plain.state()) == state_digest(nothing.state())
    np.testing.assert_array_equal(joined(steps[2], "ranks_B"), joined(steps[0], "ranks_B"))
    theirs = {name: value for name, value in of_others.state().items() if not name.startswith("user content.")}
    assert state_digest(theirs) == state_digest(plain.state())


def test_a_state_in_which_nothing_is_said_clears_what_a_learner_was_told():
    described, plain = learner(described=people(range(3))), learner()
    run(plain, random_stream(8), 16)

    described.load(plain.state())

    assert state_digest(described.state()) == state_digest(plain.state())


def test_a_state_with_another_number_of_texts_is_refused():
    made, _ = content_of(a=kind(0))
    other = UserContent(3, UserContentSettings(texts=1), device=CPU, dtype=torch.float64)

    with pytest.raises(ValueError, match="keeps 3 texts a user, the settings ask for 1"):
        other.load(made.state())


def test_a_step_that_is_refused_leaves_what_was_learned_of_features():
    made = learner(described=people(range(30)))
    run(made, two_tastes(200), 50)
    before = made.user_content.table.values.clone()

    [step] = run(made, [click("u0", "i0", 1, weight=float("inf"))], 1)

    assert step.refused is not None
    torch.testing.assert_close(made.user_content.table.values, before)
    assert before.abs().sum() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("full_softmax_items", [10, 4096], ids=["sampled", "full"])
def test_on_a_gpu_it_learns_what_it_learns_on_a_cpu(full_softmax_items):
    rates = RankingRates(full_softmax_items=full_softmax_items, negatives=8)
    stream = noted(random_stream(22, forgets=0.02))
    on_cpu = learner(described=people(range(12)), dtype=torch.float64, ranking=rates)
    on_gpu = learner(described=people(range(12)), dtype=torch.float64, ranking=rates, device="cuda")

    expected, found = run(on_cpu, stream, 16), run(on_gpu, stream, 16)

    np.testing.assert_array_equal(joined(found, "ranks_B"), joined(expected, "ranks_B"))
    theirs = on_gpu.state()
    for name, value in on_cpu.state().items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-8, atol=1e-10)
