"""What events say besides the item reaches the learner, and a learner that nothing is said to is as it ever was."""

import numpy as np
import pytest
import torch
from streams import click, joined, random_stream, run
from user_worlds import kind, learner, people, two_tastes

from model.entries import ItemContent
from model.interactions import Forget
from model.ranking import RankingRates
from model.state import state_digest
from model.topk import TopK
from model.user_content import Note


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

    assert made["context"].said.content is None
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
    before = made.said.content.entries.live

    for n in range(20):
        [step] = run(made, [click("u1", f"i{n}", n)._replace(text=note.text, context=note.context)], 1)

    assert step.refused is None
    assert made.said.content.entries.live - before < 1000
    assert all(bool(value.isfinite().all()) for value in made.state().values() if value.dtype.is_floating_point)


def test_no_text_and_no_context_is_kept_only_their_features():
    made = learner()

    run(made, [click("u1", "i1")._replace(text="topsecretword", context={"place": "topsecretplace"})], 1)

    kept = b"".join(value.numpy().tobytes() for value in made.state().values())
    assert b"topsecret" not in kept


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

    assert plain.said.content is None
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
