"""`headrace explain` says of a published list what the model of its checkpoint says, and never more than that."""

import json
from operator import itemgetter

import numpy as np
import pytest
from streams import click, random_stream
from worker_site import Site, tastes

from consumer.checkpoint import CheckpointError, CheckpointStore, Counts, Snapshot
from consumer.commands.explain import UnknownUser, as_text, run
from consumer.config import load
from consumer.invocation import Invocation, invoke
from consumer.modelling import make_learner
from model.entries import ItemContent
from model.interactions import Forget
from model.state import state_digest
from producer.client import EventProducer

SMALL = {"encoder": "recency", "embedding_dim": 8, "rating_dim": 4, "history_window": 5, "k": 4}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


def settings_of(folder, **settings):
    return load({**SMALL, "checkpoint_dir": folder, **settings}, environment={})


def saved(settings, batches, *, described=None, shown=None):
    """A checkpoint of a learner that learned this, as the worker writes one."""
    learner = make_learner(settings)
    if described:
        learner.describe(described)
    for batch in batches:
        learner.test_then_learn(batch)
    state = learner.state()
    store = CheckpointStore(settings.checkpoint_dir)
    store.acquire()
    store.save(
        Snapshot(
            step=9,
            model_version=learner.version,
            offsets={},
            counts=Counts(learned=1),
            settings=shown or settings.shown(),
            state_sha256=state_digest(state),
            tensors={f"model.{name}": value for name, value in state.items()},
        )
    )
    store.release()
    return learner


def test_the_list_that_was_published_is_the_one_explained(in_process, folder, unique):
    site = Site(in_process, folder, unique)
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        for event in tastes(400):
            producer.send(event)
    manifest = site.work()
    published = max((json.loads(message.value()) for message in site.lists()), key=itemgetter("model_version"))
    assert published["model_version"] == manifest.model_version  # nothing was learned since

    told = run(settings_of(folder), user_id=published["user_id"])  # of its settings the checkpoint's folder counts

    assert [item["item_id"] for item in told["items"]] == [item["item_id"] for item in published["items"]]
    assert [item["rank"] for item in told["items"]] == [1, 2, 3, 4, 5]
    assert (told["step"], told["model_version"]) == (manifest.step, manifest.model_version)
    for item in told["items"]:
        assert item["excluded"] is None
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-5)
        assert {one["item_id"] for one in item["because"]} <= {f"i{n}" for n in range(40)}
    scores = [item["score"] for item in told["items"]]
    assert scores == pytest.approx([item["score"] for item in published["items"]], abs=1e-4)


def test_an_item_that_is_asked_for_has_its_rank_among_all(folder):
    settings = settings_of(folder)
    learner = saved(settings, [random_stream(1)])
    user = np.array([learner.users.row("u2")])
    scores_I = learner.scores(user)[0].numpy()
    order = [learner.items.name(row) for row in np.argsort(-scores_I)[: int(np.isfinite(scores_I).sum())]]

    told = run(settings, user_id="u2", item_ids=[order[-1], order[0]])

    assert [(item["item_id"], item["rank"]) for item in told["items"]] == [(order[-1], len(order)), (order[0], 1)]
    assert told["candidates"] == len(order)
    assert told["events"] == learner.live.history.pushed_U[user[0]]


def test_what_is_no_candidate_says_why(folder):
    described = {
        "new": ItemContent(title="a new one"),
        "gone": ItemContent(title="x", available=False),
        "bare": ItemContent(),
    }
    settings = settings_of(folder, cold_items=False)
    saved(settings, [[click("ada", "i1"), click("ben", "i2")]], described=described)

    items = run(settings, user_id="ada", item_ids=["i1", "i2", "new", "gone", "bare", "nowhere"])["items"]

    why = {item["item_id"]: item["excluded"] for item in items}
    assert why["i1"] == "the user had it"
    assert why["i2"] is None
    assert "HEADRACE_COLD_ITEMS" in why["new"]
    assert "not available" in why["gone"]
    assert "the catalogue says nothing of it" in why["bare"]
    assert "neither an event nor the catalogue" in why["nowhere"]
    assert [item["rank"] for item in items] == [None, 1, None, None, None, None]
    assert items[-1] == {"item_id": "nowhere", "rank": None, "excluded": why["nowhere"]}


def test_an_item_of_the_catalogue_is_a_candidate_before_its_first_event(folder):
    settings = settings_of(folder)
    saved(settings, [[click("ada", "i1")]], described={"new": ItemContent(title="a new one")})

    told = run(settings, user_id="ada")

    assert [(item["item_id"], item["rank"], item["excluded"]) for item in told["items"]] == [("new", 1, None)]
    assert told["candidates"] == 1


def test_the_model_is_put_together_as_the_checkpoint_says(folder):
    learner = saved(settings_of(folder, k=3, encoder="blend", embedding_dim=16), [random_stream(1)])

    told = run(settings_of(folder, k=7), user_id="u2")

    assert len(told["items"]) == 3
    assert learner.settings.encoder == "blend"


def test_settings_that_the_checkpoint_does_not_show_are_ours(folder):
    """A setting that came from a file is masked in the checkpoint."""
    settings = settings_of(folder)
    saved(settings, [random_stream(1)], shown={**settings.shown(), "embedding_dim": "********"})

    assert run(settings, user_id="u2")["items"]
    with pytest.raises(CheckpointError, match=r"HEADRACE_EMBEDDING_DIM"):
        run(settings_of(folder, embedding_dim=16), user_id="u2")


@pytest.mark.parametrize("user_id", ["nobody", "u2"])
def test_of_a_user_who_is_not_there_or_was_forgotten_nothing_is_said(folder, user_id):
    settings = settings_of(folder)
    saved(settings, [random_stream(1), [Forget("u2")]])

    with pytest.raises(UnknownUser, match=f"step 9 knows nothing of user '{user_id}'"):
        run(settings, user_id=user_id)


def test_without_a_checkpoint_it_says_where_it_looked(folder):
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        run(settings_of(folder), user_id="ada")


def test_people_read_what_a_score_is_made_of_and_what_it_owes_to_what():
    item = {
        "item_id": "the-wheel",
        "rank": 1,
        "excluded": None,
        "score": 2.5,
        "parts": {"history": 1.25, "content": 0.0, "bias": -0.25, "together": 1.5},
        "because": [
            *({"item_id": f"i{n}", "lower": 0.4 - n / 10} for n in range(4)),
            {"item_id": "zero", "lower": 0.0},
            {"item_id": "a", "lower": -0.25},
            {"item_id": "b", "lower": -0.5},
        ],
    }
    unknown = {"item_id": "nope", "rank": None, "excluded": "nobody named it"}

    text = as_text({"user_id": "ada", "events": 1234, "candidates": 5678, "step": 90, "items": [item, unknown]})

    assert text.splitlines() == [
        "ada: 1,234 events, 5,678 items to choose from, after step 90",
        "",
        "   1  the-wheel",
        "      score 2.500: history +1.250, bias -0.250, together +1.500",
        "      lower without i0 (0.400), i1 (0.300), i2 (0.200)",
        "      higher without b (0.500), a (0.250)",
        "",
        "   -  nope: nobody named it",
    ]


def test_the_command_ends_with_1_for_an_unknown_user_and_with_0_for_a_known_one(folder, capsys):
    settings = settings_of(folder)
    saved(settings, [random_stream(1)])

    def explained(user_id):
        told = Invocation("explain", "explain", {"user_id": user_id, "item_ids": ()})
        status = invoke(told, {"checkpoint_dir": folder}, as_json=True, debug=False)
        return status, json.loads(capsys.readouterr().out)

    assert explained("nobody")[0] == 1
    status, answer = explained("u2")
    assert status == 0
    assert set(answer) == {"user_id", "step", "model_version", "events", "candidates", "items"}
    assert set(answer["items"][0]) == {"item_id", "rank", "excluded", "score", "parts", "because"}
